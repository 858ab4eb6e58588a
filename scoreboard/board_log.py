"""One board's log of encoded frames, and the readers that are offsets into it. No I/O happens here.

Bytes are encoded once and shared by every reader at the same offset. A reader that is due more than FOLD_BYTES gets
the folded difference instead.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from operator import attrgetter
from time import monotonic
from typing import NamedTuple, Protocol

from scoreboard import frames
from scoreboard.frames import LEADERBOARD, SCORES, Message, Told, Top
from scoreboard.model import ALL, Page, Period, Position, Scored, Ties

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

    ``form`` is equal for readers that are sent the same bytes. ``reset`` is why the reader has to begin anew, and has
    not been told yet. From ``ends_at`` on, in seconds since 1970, it may not read any more.
    """

    __slots__ = (
        "chunked",
        "ends_at",
        "form",
        "kinds",
        "log",
        "next",
        "reset",
        "stalled_since",
        "transport",
        "written_at",
    )

    def __init__(self, transport: Transport, kinds: int, *, chunked: bool, ends_at: float = math.inf) -> None:
        self.transport = transport
        self.kinds = kinds
        self.chunked = chunked
        self.ends_at = ends_at
        self.form = kinds << 1 | chunked
        self.next = 0
        self.reset: str | None = None
        self.log: BoardLog | None = None
        self.written_at = monotonic()
        self.stalled_since: float | None = None


class Break(NamedTuple):
    """What nobody can be told by events: whoever knows less than a seq has to begin anew, and why."""

    reason: str
    seq: int


class Entry:
    """One step of a board: the frames of its events, and the top ten after it. ``begins``: a period began with it."""

    __slots__ = ("_parts", "after", "begins", "bytes_before", "scores", "seq", "told", "top", "top_changed", "total")

    def __init__(self, epoch: str, after: int, seq: int, told: Sequence[Told], *, begins: bool = False) -> None:
        self.after = after
        self.seq = seq
        self.told = told
        self.begins = begins
        self.scores = frames.encode_told(epoch, told)
        self.bytes_before = 0
        self.top: Top = ()
        self.top_changed = False
        self.total = 0
        self._parts: dict[int, tuple[bytes, int]] = {}

    def encode_since(self, epoch: str, seq: int) -> tuple[bytes, int]:
        """The frames of the events after a seq, and how many were folded away: encoded once for all who come back."""
        part = self._parts.get(seq)
        if part is None:
            told = [each for each in self.told if each[0] > seq]
            if sum(len(data) for _, _, data in told) <= FOLD_BYTES:
                part = frames.encode_told(epoch, told), 0
            else:
                part = encode_folded(epoch, told, after=seq, through=self.seq)
            if len(self._parts) < PARTS_MAX:
                self._parts[seq] = part
        return part


def encode_folded(epoch: str, told: Sequence[Told], *, after: int, through: int) -> tuple[bytes, int]:
    """A frame for each user, and how many events were folded away."""
    kept = frames.fold(told)
    return frames.encode_step(epoch, kept, after=after, through=through), len(told) - len(kept)


class BoardLog:
    """The log and readers of one window of a board.

    ``pages`` holds encoded answers that are right as long as ``seq`` stands; ``period`` is None in window ``all``;
    ``broken`` is the latest break that is known.

    ``is_over``: nobody feeds the log any more. ``resets_from`` is the pump's: before it no reader is reset again.
    ``looked_at`` is the feed's: when the stores were last asked because a reader knew more.
    """

    def __init__(self, board: str, page: Page) -> None:
        self.board = board
        self.readers: set[Reader] = set()
        self.used_at = monotonic()
        self.stale = False
        self.is_over = False
        self.broken = Break("too_far_behind", 0)
        self.resets_from = -math.inf
        self.looked_at = -math.inf
        self.pages: dict[object, object] = {}
        self._entries: list[Entry] = []
        self._start = 0
        self._bytes = 0
        self._show(page)

    def _show(self, page: Page) -> None:
        self.epoch = page.position.epoch
        self.seq = page.position.seq
        self.total = page.total
        self.ties: Ties = page.ties
        self.period: Period | None = page.period
        self.top = top_of(page)
        self._snapshot: bytes | None = None
        self.pages.clear()

    @property
    def window(self) -> str:
        """The window that is followed."""
        return self.period.window if self.period is not None else ALL

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
            self._snapshot = self._encode_board(self.top, self.total, self.seq)
        return self._snapshot

    def beginning(self, kinds: int) -> bytes:
        """What a reader without a position starts from: the snapshot, or the bare position if it wants no snapshot."""
        return self.snapshot if kinds & LEADERBOARD else frames.encode_position(self.position)

    def _encode_board(self, top: Top, total: int, seq: int, *, bare: bool = False) -> bytes:
        position = Position(self.epoch, seq)
        return frames.encode_leaderboard(self.board, top, total, position, self.ties, self.period, bare=bare)

    def shows(self, page: Page) -> bool:
        """Whether the log shows what the first page at its position does.

        But for display names: what is made from the ledger may have one whose event is yet to come, and be right.
        """
        if [(each.user_id, each.score) for each in self.top] != [(each.user_id, each.score) for each in page.entries]:
            return False
        return (self.total, self.ties, self.period) == (page.total, page.ties, page.period)

    def accept(self, message: Message) -> bool:
        """Take a published message in; False when one before it is missing or its history is another."""
        if message.epoch != self.epoch or message.first > self.seq + 1:
            return False
        window = self.window
        part = message.windows.get(window)
        if self.period is not None and part is not None:
            if part.period < self.period.first_day:
                part = None
            elif part.period > self.period.first_day:
                self.turn(Period(window, part.period, part.ends), max(self.seq, message.first - 1))
        if message.seq <= self.seq:
            return True
        told = frames.tell(message, part if self.period is not None else None, whole=window == ALL)
        top, total = self.top, self.total
        if window == ALL:
            top, total = frames.parse_top(message.top, message.names), message.total
        elif part is not None:
            top, total = frames.parse_top(part.top, message.names), part.total
        if told is None:  # somebody was erased: whatever names that user must not be sent any more
            self._begin(Break("erased", message.first))
            self.seq, self.total, self.top, self._snapshot = message.seq, total, top, None
            self.pages.clear()
        else:
            fresh = [each for each in told if each[0] > self.seq]
            self.append(Entry(self.epoch, self.seq, message.seq, fresh), top, total)
        return True

    def turn(self, period: Period, seq: int) -> None:
        """Begin a new period after a seq: what was before it is void, and readers get an empty snapshot."""
        self._start = self.end
        self._entries.clear()
        self.period = period
        self.seq, self.top, self.total = seq, (), 0
        self.append(Entry(self.epoch, seq, seq, (), begins=True), (), 0)

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

    def prepend(self, epoch: str, after: int, through: int, told: Sequence[Told]) -> None:
        """Put the events in (after, through] before the log's first, if it still begins there.

        Whether the top ten changed in them is not known, so it is sent to whoever missed one.
        """
        if epoch != self.epoch or through != self.start_seq or self._begins:
            return
        entry = Entry(epoch, after, through, told)
        first_bytes = self._entries[0].bytes_before if self._entries else self._bytes
        entry.bytes_before = first_bytes - len(entry.scores)
        entry.top, entry.total, entry.top_changed = self.top, self.total, True
        self._entries.insert(0, entry)
        self._start -= 1

    def restart(self, page: Page, broken: Break) -> None:
        """Begin another log; every reader is due a reset and a snapshot."""
        if page.position.epoch != self.epoch:
            self.broken = broken
        self._begin(broken)
        self._show(page)

    def _begin(self, broken: Break) -> None:
        self._start = self.end
        self._entries.clear()
        self.note_break(broken)
        for reader in self.readers:
            reader.reset = broken.reason

    def note_break(self, broken: Break) -> None:
        """Remember a break, if it is later than the one that is known."""
        if broken.seq > self.broken.seq:
            self.broken = broken

    def why_lost(self, seq: int) -> str:
        """Why a reader that knows everything up to a seq can't go on from there."""
        return self.broken.reason if seq < self.broken.seq else "too_far_behind"

    @property
    def _begins(self) -> bool:
        """Whether the log reaches back to where its period began: who is further behind needs nothing from before."""
        return bool(self._entries) and self._entries[0].begins

    def reaches(self, seq: int) -> bool:
        """Whether a reader who knows everything up to a seq finds here all that it needs."""
        return seq <= self.seq and (self._begins or seq >= max(self.start_seq, self.broken.seq))

    def encode_from(self, index: int, kinds: int) -> tuple[bytes, int] | None:
        """What a reader at an absolute index is due, and how many events were folded away; None if it is lost."""
        if index < self._start:
            if not self._begins:
                return None
            index = self._start
        due = self._entries[index - self._start :]
        if not due:
            return b"", 0
        return self._encode(due, due[0].after, kinds)

    def encode_bare(self, index: int, kinds: int) -> bytes:
        """What a reader at an absolute index is told of what it has not heard of while a reset is due to it.

        There are no ids, for what it was told before does not hold: cut off now, it must not go on from here.
        """
        due = self._entries[max(0, index - self._start) :]
        scores = b""
        if kinds & SCORES:
            told = [each for entry in due for each in entry.told]
            if sum(len(data) for _, _, data in told) > FOLD_BYTES:
                told = frames.fold(told)
            scores = frames.encode_bare(told)
        if not kinds & LEADERBOARD or not any(entry.top_changed or entry.begins for entry in due):
            return scores
        return scores + self._encode_board(self.top, self.total, self.seq, bare=True)

    def encode_since(self, seq: int, kinds: int) -> tuple[bytes, int] | None:
        """What a reader that knows everything up to a seq is due; None if the log does not reach back that far."""
        if not self.reaches(seq):
            return None
        if self._begins and seq <= self._entries[0].seq:
            return self._encode(self._entries, seq, kinds)  # it may have known that seq before the period began
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
        beginning = b""
        if due[0].begins:
            beginning = self._encode_board((), 0, due[0].seq) if kinds & LEADERBOARD else b""
            after = due[0].seq
        scores, folded = self._encode_scores(due, after) if kinds & SCORES else (b"", 0)
        return beginning + scores + self._encode_top(due, kinds), folded

    def _encode_scores(self, due: Sequence[Entry], after: int) -> tuple[bytes, int]:
        last = due[-1]
        if last.bytes_before + len(last.scores) - due[0].bytes_before <= FOLD_BYTES:
            return b"".join(entry.scores for entry in due), 0
        told = [each for entry in due for each in entry.told]
        return encode_folded(self.epoch, told, after=after, through=last.seq)

    def _encode_top(self, due: Sequence[Entry], kinds: int) -> bytes:
        if not kinds & LEADERBOARD or not any(entry.top_changed for entry in due):
            return b""
        last = due[-1]
        return self._encode_board(last.top, last.total, last.seq)


def top_of(page: Page) -> Top:
    """The entries of a page without what only their places say."""
    return tuple(Scored(entry.user_id, entry.score, entry.name) for entry in page.entries)
