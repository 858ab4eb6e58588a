"""What has been told: nobody reads anything older than their own last 200 from the same server.

A server of several processes is one server: a submission answered by one of them and the next read by another. So each
process notes the positions that it tells where its siblings see it, in memory that they share. A row of that memory
belongs to one process, which alone writes it: tags of boards, found by hashing, and beside each the highest position
told. A tag is never changed once it is there, and a position is one aligned word, which processors write whole, so
nobody needs a lock. What was noted before an answer was sent is seen by whoever asks after it has come: the kernel's
queues that carry both are in that order.
"""

import mmap
from functools import lru_cache
from hashlib import blake2b

import msgspec
import structlog

from scoreboard.model import Position

BOARDS_REMEMBERED_MAX = 10_000
"""Boards of which a process remembers what it told."""
ROW_BOARDS_MAX = 16_384
"""Boards of a row. When a process tells of more, what its siblings don't find there counts as newer."""
ROW_SLOTS = 2 * ROW_BOARDS_MAX
WORD_BYTES = 8
ROW_WORDS = 1 + 2 * ROW_SLOTS
"""A row: whether it is full, the tags, the positions."""
SEQ_BITS = 53
_EPOCHS = 1 << (8 * WORD_BYTES - SEQ_BITS)
_UNKNOWN = (1 << 8 * WORD_BYTES) - 1
"""A word that no position covers."""

log = structlog.get_logger(__name__)


class Needed(msgspec.Struct, frozen=True):
    """What a board's readers had been told at some moment: by this process, and by others as ``(row, word)``."""

    own: Position | None
    others: tuple[tuple[int, int], ...]

    def met_by(self, position: Position) -> bool:
        """Whether a position has all of it."""
        return _has(position, self.own) and all(_covers(position, word) for _, word in self.others)


class Acknowledged:
    """Positions by board, of this process and of its siblings.

    :param memory: what the siblings share, of :func:`shared_bytes`, at first all zero; None for a process alone.
    :param row: which row is this process's, from 0.
    """

    def __init__(self, memory: mmap.mmap | None = None, row: int = 0) -> None:
        self._own: dict[str, Position] = {}
        self._gone: dict[str, frozenset[tuple[int, int]]] = {}
        self._rows: list[_Row] = []
        self._row: _Row | None = None
        if memory is not None:
            words = memoryview(memory).cast("Q")
            self._rows = [_Row(words, number) for number in range(len(words) // ROW_WORDS)]
            self._row = self._rows[row]

    def note(self, board: str, position: Position) -> None:
        """From now on nothing older than the position is enough."""
        known = self._own.get(board)
        if known is None and len(self._own) >= BOARDS_REMEMBERED_MAX:
            del self._own[next(iter(self._own))]
        if known is None or known.epoch != position.epoch or known.seq < position.seq:
            self._own[board] = position
            if self._row is not None:
                self._row.note(board, position)

    def is_met_by(self, board: str, position: Position) -> bool:
        """Whether a position has all that was told by now. What can't be known counts as newer."""
        if not _has(position, self._own.get(board)):
            return False
        return not self._rows or all(_covers(position, word) for _, word in self._read_others(board))

    def needed(self, board: str) -> Needed:
        """What whoever asks now must not be told less than."""
        return Needed(self._own.get(board), self._read_others(board))

    def settle(self, board: str, needed: Needed, position: Position) -> None:
        """Forget what was needed of another history than the ledger's: that one is gone.

        :param needed: as it was before the ledger was read.
        :param position: where the ledger stood.
        """
        ours = _epoch_bits(position.epoch)
        gone = frozenset((n, word) for n, word in needed.others if word != _UNKNOWN and word >> SEQ_BITS != ours)
        if gone:
            if len(self._gone) >= BOARDS_REMEMBERED_MAX:
                self._gone.clear()
            self._gone[board] = self._gone.get(board, frozenset()) | gone
        if needed.own is not None and needed.own.epoch != position.epoch:
            self.note(board, position)

    def _read_others(self, board: str) -> tuple[tuple[int, int], ...]:
        """The words of all rows; our own counts until we tell of the board: a predecessor may have told more of it."""
        rows = ((n, row) for n, row in enumerate(self._rows) if row is not self._row or board not in self._own)
        found = [(number, word) for number, row in rows if (word := row.read(board))]
        gone = self._gone.get(board)
        return tuple(other for other in found if gone is None or other not in gone)


class _Row:
    """The boards of which one process has told, and how far."""

    def __init__(self, words: memoryview, number: int) -> None:
        self._words = words
        self._full = number * ROW_WORDS
        self._tags = self._full + 1
        self._positions = self._tags + ROW_SLOTS
        self._used: int | None = None

    def note(self, board: str, position: Position) -> None:
        """Raise the board's word to the position, or replace that of another epoch."""
        tag = _tag(board)
        slot = self._probe(tag)
        if self._words[self._tags + slot] == tag:
            epoch, seq = divmod(self._words[self._positions + slot], 1 << SEQ_BITS)
            if seq < position.seq or epoch != _epoch_bits(position.epoch):
                self._words[self._positions + slot] = _word(position)
            return
        if self._used is None:
            self._used = sum(1 for word in self._words[self._tags : self._positions] if word)
        if self._used >= ROW_BOARDS_MAX:
            if not self._words[self._full]:
                log.warning("too_many_boards_for_workers", boards=ROW_BOARDS_MAX)
                self._words[self._full] = 1
            return
        self._used += 1
        self._words[self._positions + slot] = _word(position)
        self._words[self._tags + slot] = tag

    def read(self, board: str) -> int:
        """The word of a board; 0 when it was not told of, or nothing yet."""
        tag = _tag(board)
        slot = self._probe(tag)
        if self._words[self._tags + slot] != tag:
            return _UNKNOWN if self._words[self._full] else 0
        return int(self._words[self._positions + slot])

    def _probe(self, tag: int) -> int:
        """The slot that has the tag, or the free one where it would be."""
        slot = tag % ROW_SLOTS
        while self._words[self._tags + slot] not in (0, tag):
            slot = (slot + 1) % ROW_SLOTS
        return slot


def shared_bytes(processes: int) -> int:
    """The size of the memory that so many processes share."""
    return processes * ROW_WORDS * WORD_BYTES


def _has(position: Position, told: Position | None) -> bool:
    return told is None or (told.epoch == position.epoch and told.seq <= position.seq)


def _covers(position: Position, word: int) -> bool:
    epoch, seq = divmod(word, 1 << SEQ_BITS)
    return seq <= position.seq and epoch == _epoch_bits(position.epoch)


@lru_cache(BOARDS_REMEMBERED_MAX)
def _tag(board: str) -> int:
    return int.from_bytes(blake2b(board.encode(), digest_size=WORD_BYTES).digest()) or 1


def _word(position: Position) -> int:
    return _epoch_bits(position.epoch) << SEQ_BITS | position.seq


@lru_cache(BOARDS_REMEMBERED_MAX)
def _epoch_bits(epoch: str) -> int:
    """As many bits of an epoch as a word has room for: enough to tell it from one that was replaced."""
    return int.from_bytes(blake2b(epoch.encode(), digest_size=WORD_BYTES).digest()) % _EPOCHS
