"""One board's log of encoded frames, and the readers that are offsets into it. No I/O happens here.

Bytes are encoded once and shared by every reader at the same offset. A reader that is due more than FOLD_BYTES gets
the folded difference instead.
"""

from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter
from time import monotonic
from typing import Protocol

from scoreboard import frames
from scoreboard.frames import LEADERBOARD, SCORES, Message, Top
from scoreboard.model import Page, Position

LOG_EVENTS_MAX = 10_000
"""Events that a board's log keeps; readers further behind are resumed from the ledger."""
FOLD_BYTES = 4_096
PARTS_MAX = 64
"""Places within one step that are kept encoded for those who resume there."""


class Transport(Protocol):
    """What the pump needs of a connection."""

    def write(self, data: bytes) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def is_closing(self) -> bool: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class Reader:
    """An open stream: a transport, what it wants, and the absolute index of the log entry it gets next.

    ``form`` is equal for readers that are sent the same bytes.
    """

    __slots__ = ("chunked", "form", "kinds", "log", "next", "reset", "stalled_since", "transport", "written_at")

    def __init__(self, transport: Transport, kinds: int, *, chunked: bool) -> None:
        self.transport = transport
        self.kinds = kinds
        self.chunked = chunked
        self.form = kinds << 1 | chunked
        self.next = 0
        self.reset: str | None = None
        self.log: BoardLog | None = None
        self.written_at = monotonic()
        self.stalled_since: float | None = None


class Entry:
    """One step of a board: the frames of its events, and the top ten after it. ``updates`` are encoded data by seq."""

    __slots__ = ("_parts", "after", "bytes_before", "scores", "seq", "top", "top_changed", "total", "updates")

    def __init__(self, epoch: str, after: int, seq: int, updates: Sequence[tuple[int, bytes]]) -> None:
        self.after = after
        self.seq = seq
        self.updates = updates
        self.scores = encode_updates(epoch, updates)
        self.bytes_before = 0
        self.top: Top = ()
        self.top_changed = False
        self.total = 0
        self._parts: dict[int, tuple[bytes, int]] = {}

    def encode_since(self, epoch: str, seq: int) -> tuple[bytes, int]:
        """The frames of the events after a seq, and how many were folded away: encoded once for all who come back."""
        part = self._parts.get(seq)
        if part is None:
            updates = [update for update in self.updates if update[0] > seq]
            if sum(len(data) for _, data in updates) <= FOLD_BYTES:
                part = encode_updates(epoch, updates), 0
            else:
                part = encode_folded(epoch, [data for _, data in updates], after=seq, through=self.seq)
            if len(self._parts) < PARTS_MAX:
                self._parts[seq] = part
        return part


def encode_updates(epoch: str, updates: Sequence[tuple[int, bytes]]) -> bytes:
    """A frame for each event."""
    return b"".join(frames.encode_frame("score-updated", data, Position(epoch, seq)) for seq, data in updates)


def encode_folded(epoch: str, updates: Sequence[bytes], *, after: int, through: int) -> tuple[bytes, int]:
    """A frame for each user, and how many events were folded away."""
    kept = frames.fold_updates(frames.parse_update(data) for data in updates)
    return frames.encode_step(epoch, kept, after=after, through=through), len(updates) - len(kept)


class BoardLog:
    """One board's log and readers. ``pages`` holds encoded answers that are right as long as ``seq`` stands."""

    def __init__(self, board: str, page: Page) -> None:
        self.board = board
        self.readers: set[Reader] = set()
        self.used_at = monotonic()
        self.stale = False
        self.pages: dict[object, object] = {}
        self._entries: list[Entry] = []
        self._start = 0
        self._bytes = 0
        self._show(page)

    def _show(self, page: Page) -> None:
        self.epoch = page.position.epoch
        self.seq = page.position.seq
        self.total = page.total
        self.top: Top = tuple((entry.user_id, entry.score) for entry in page.entries)
        self._snapshot: bytes | None = None
        self.pages.clear()

    @property
    def position(self) -> Position:
        """Where the log stands."""
        return Position(self.epoch, self.seq)

    @property
    def start_seq(self) -> int:
        """The seq before the first event that the log still has."""
        return self._entries[0].after if self._entries else self.seq

    @property
    def end(self) -> int:
        """Absolute index of the entry that will come next."""
        return self._start + len(self._entries)

    @property
    def snapshot(self) -> bytes:
        """The ``leaderboard`` frame of now, encoded once."""
        if self._snapshot is None:
            self._snapshot = frames.encode_leaderboard(self.board, self.top, self.total, self.position)
        return self._snapshot

    def beginning(self, kinds: int) -> bytes:
        """What a reader without a position starts from: the snapshot, or the bare position if it wants no snapshot."""
        return self.snapshot if kinds & LEADERBOARD else frames.encode_position(self.position)

    def accept(self, message: Message) -> bool:
        """Take a published message in; False when one before it is missing or its history is another."""
        if message.epoch != self.epoch or message.first > self.seq + 1:
            return False
        if message.seq > self.seq:
            skipped = self.seq + 1 - message.first
            fresh = [(self.seq + 1 + i, bytes(raw)) for i, raw in enumerate(message.events[skipped:])]
            entry = Entry(self.epoch, self.seq, message.seq, fresh)
            self.append(entry, frames.parse_top(message.top), message.total)
        return True

    def append(self, entry: Entry, top: Top, total: int) -> None:
        """Add a step to the log and drop the oldest beyond LOG_EVENTS_MAX."""
        entry.bytes_before = self._bytes
        self._bytes += len(entry.scores)
        entry.top, entry.total, entry.top_changed = top, total, top != self.top
        self._entries.append(entry)
        self.seq, self.total, self.top = entry.seq, total, top
        self._snapshot = None
        self.pages.clear()
        if entry.seq - self._entries[0].after > LOG_EVENTS_MAX:
            dropped = next(
                (i for i, e in enumerate(self._entries) if entry.seq - e.after <= LOG_EVENTS_MAX * 3 // 4),
                len(self._entries) - 1,
            )
            del self._entries[:dropped]
            self._start += dropped

    def prepend(self, epoch: str, after: int, through: int, updates: Sequence[tuple[int, bytes]]) -> None:
        """Put the events in (after, through] before the log's first, if it still begins there.

        Whether the top ten changed in them is not known, so it is sent to whoever missed one.
        """
        if epoch != self.epoch or through != self.start_seq or not updates:
            return
        entry = Entry(epoch, after, through, updates)
        first_bytes = self._entries[0].bytes_before if self._entries else self._bytes
        entry.bytes_before = first_bytes - len(entry.scores)
        entry.top, entry.total, entry.top_changed = self.top, self.total, True
        self._entries.insert(0, entry)
        self._start -= 1

    def restart(self, page: Page, reason: str) -> None:
        """Begin another log; every reader gets a reset and a snapshot at its next visit."""
        self._start = self.end
        self._entries.clear()
        self._show(page)
        for reader in self.readers:
            reader.reset = reason

    def encode_from(self, index: int, kinds: int) -> tuple[bytes, int] | None:
        """What a reader at an absolute index is due, and how many events were folded away; None if it is lost."""
        if index < self._start:
            return None
        due = self._entries[index - self._start :]
        if not due:
            return b"", 0
        return self._encode(due, due[0].after, kinds)

    def encode_since(self, seq: int, kinds: int) -> tuple[bytes, int] | None:
        """What a reader that knows everything up to a seq is due; None if the log does not reach back that far."""
        if seq < self.start_seq:
            return None
        due = self._entries[bisect_right(self._entries, seq, key=attrgetter("seq")) :]
        if not due:
            return b"", 0
        first, rest = due[0], due
        scores, folded = b"", 0
        if first.after < seq and kinds & SCORES:
            scores, folded = first.encode_since(self.epoch, seq)
            seq, rest = first.seq, due[1:]
        if rest and kinds & SCORES:
            later, more = self._encode_scores(rest, seq)
            scores, folded = scores + later, folded + more
        return scores + self._encode_top(due, kinds), folded

    def _encode(self, due: Sequence[Entry], after: int, kinds: int) -> tuple[bytes, int]:
        scores, folded = self._encode_scores(due, after) if kinds & SCORES else (b"", 0)
        return scores + self._encode_top(due, kinds), folded

    def _encode_scores(self, due: Sequence[Entry], after: int) -> tuple[bytes, int]:
        last = due[-1]
        if last.bytes_before + len(last.scores) - due[0].bytes_before <= FOLD_BYTES:
            return b"".join(entry.scores for entry in due), 0
        updates = [data for entry in due for _, data in entry.updates]
        return encode_folded(self.epoch, updates, after=after, through=last.seq)

    def _encode_top(self, due: Sequence[Entry], kinds: int) -> bytes:
        if not kinds & LEADERBOARD or not any(entry.top_changed for entry in due):
            return b""
        last = due[-1]
        return frames.encode_leaderboard(self.board, last.top, last.total, Position(self.epoch, last.seq))
