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


class Transport(Protocol):
    """What the pump needs of a connection."""

    def write(self, data: bytes) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def is_closing(self) -> bool: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class Reader:
    """An open stream: a transport, what it wants, and the absolute index of the log entry it gets next."""

    __slots__ = ("chunked", "kinds", "log", "next", "reset", "stalled_since", "transport", "written_at")

    def __init__(self, transport: Transport, kinds: int, *, chunked: bool) -> None:
        self.transport = transport
        self.kinds = kinds
        self.chunked = chunked
        self.next = 0
        self.reset: str | None = None
        self.log: BoardLog | None = None
        self.written_at = monotonic()
        self.stalled_since: float | None = None


class Entry:
    """One step of a board: the frames of its events, and the top ten after it. ``updates`` are encoded data by seq."""

    __slots__ = ("after", "bytes_before", "scores", "seq", "top", "top_changed", "total", "updates")

    def __init__(self, epoch: str, after: int, seq: int, updates: Sequence[tuple[int, bytes]]) -> None:
        self.after = after
        self.seq = seq
        self.updates = updates
        self.scores = b"".join(
            frames.encode_frame("score-updated", data, Position(epoch, own)) for own, data in updates
        )
        self.bytes_before = 0
        self.top: Top = ()
        self.top_changed = False
        self.total = 0


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
        if epoch != self.epoch or through != self.start_seq:
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
        if due[0].after < seq:
            first = due[0]
            rest = Entry(self.epoch, seq, first.seq, [u for u in first.updates if u[0] > seq])
            rest.top, rest.top_changed, rest.total = first.top, first.top_changed, first.total
            rest.bytes_before = first.bytes_before + len(first.scores) - len(rest.scores)
            due[0] = rest
        return self._encode(due, seq, kinds)

    def _encode(self, due: Sequence[Entry], after: int, kinds: int) -> tuple[bytes, int]:
        last = due[-1]
        scores, folded = b"", 0
        if kinds & SCORES:
            size = last.bytes_before + len(last.scores) - due[0].bytes_before
            if size <= FOLD_BYTES:
                scores = b"".join(entry.scores for entry in due)
            else:
                updates = [frames.parse_update(data) for entry in due for _, data in entry.updates]
                kept = frames.fold_updates(updates)
                folded = len(updates) - len(kept)
                scores = frames.encode_step(self.epoch, kept, after=after, through=last.seq)
        if kinds & LEADERBOARD and any(entry.top_changed for entry in due):
            position = Position(self.epoch, last.seq)
            scores += frames.encode_leaderboard(self.board, last.top, last.total, position)
        return scores, folded
