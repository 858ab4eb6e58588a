"""The pump: brings readers up to their boards' logs, in slices that give the event loop back.

Everything from a reader's offset to the log's end is written as one buffer, straight to its transport; there is no
task, queue or copy per reader. A round takes as long as it takes, so that many readers are visited less often and get
more at once. A reader that does not keep up is passed over, then folded harder, then cut; it never slows the others or
grows memory.

Readers that have to begin anew are told so at most once in RESET_S, so that nobody who erases users or changes settings
in a loop makes all of them start over each time. Until then they are told what happens without ids: whoever is cut off
meanwhile comes back from where it was before, and is reset then.
"""

import asyncio
import random
from collections.abc import Callable
from time import monotonic, time

from scoreboard import frames
from scoreboard.board_log import BoardLog, Reader
from scoreboard.metrics import Metrics

SLICE_READERS = 64
"""Readers served before the event loop gets its turn: 0.4 ms. With 128, deliveries to 10,000 took as long; with 256 and
512, a tenth and a half longer."""
ROUND_S = 0.02
"""From the start of a round to that of the next, at least."""
REST_S = 0.002
"""After a round that took longer the pump rests this long. Its slices leave the loop to others all the time: resting
10 or 50 ms made the p99 of deliveries to 10,000 readers 150 or 205 ms rather than 140, and nothing else better."""
BUFFER_SOFT_BYTES = 64 * 1024
"""A reader with this much unsent is passed over, and folded harder when it is next visited."""
BUFFER_HARD_BYTES = 1024 * 1024
"""A reader to which more than this would be written at once is cut."""
STALL_S = 30.0
"""A reader that takes nothing for this long is cut."""
RESET_S = 1.0
"""From one reset of a board's readers to the next, at least."""
SWEEP_S = 1.0
"""Each reader is looked at about this often; all of them in turn, spread over that time."""
HEARTBEAT_S = 10.0
"""A reader to which nothing was sent for this long is told that the connection lives."""
CLOSE_S = 2.0
"""A stream that ends on its own has this long to deliver what was written to it."""
END_SPREAD_MS = (1_000, 6_000)
"""Readers told to go away come back within this span, not all at once."""

Shared = dict[tuple[int | str, int], bytes | None]
"""What readers are due, by form and index, ``~index`` while a reset is due, or the reason of the reset."""


class Pump:
    """Writes to all readers of this server."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._joined: set[BoardLog] = set()
        self._dirty: set[BoardLog] = set()
        self._held: set[BoardLog] = set()
        self._wake = asyncio.Event()

    @property
    def readers(self) -> int:
        """Open streams."""
        return sum(len(log.readers) for log in self._joined)

    def join(self, log: BoardLog, reader: Reader, first: Callable[[], bytes], head: bytes = b"") -> None:
        """Register a reader and write its first bytes.

        :param head: of the answer, if that is not out yet: it leaves with them.
        """
        data = frames.encode_retry(frames.RETRY_MS) + first()
        reader.next = log.end
        reader.log = log
        log.readers.add(reader)
        self._joined.add(log)
        self._write(reader, data, head)
        if log.is_over:  # it ended while the answer's head was on its way
            self._end_lost(reader)

    def leave(self, reader: Reader) -> None:
        """Forget a reader."""
        log, reader.log = reader.log, None
        if log is not None:
            log.readers.discard(reader)
            log.used_at = monotonic()
            if not log.readers:
                self._joined.discard(log)

    @property
    def logs(self) -> list[BoardLog]:
        """The logs that have readers."""
        return list(self._joined)

    async def end_all(self) -> None:
        """End every stream cleanly, telling readers to come back spread over END_SPREAD_MS."""
        for index, reader in enumerate([r for log in self._joined for r in log.readers]):
            if reader.log is None:
                continue  # it left meanwhile
            data = self._last_due(reader)
            self._write(reader, data + frames.encode_retry(random.randint(*END_SPREAD_MS)))
            self._end(reader)
            if index % SLICE_READERS == 0:
                await asyncio.sleep(0)

    def end_readers(self, log: BoardLog, reason: str) -> None:
        """End the streams of a log for good, with a reset that says why."""
        for reader in list(log.readers):
            self._write(reader, frames.encode_reset(reason) + frames.encode_retry(random.randint(*END_SPREAD_MS)))
            self._end(reader)

    def _end_lost(self, reader: Reader) -> None:
        """End a stream of a log that nobody feeds any more: its reader comes back to the one that is."""
        self._write(reader, frames.encode_retry(random.randint(*END_SPREAD_MS)))
        self._end(reader)

    def _end_expired(self, reader: Reader) -> None:
        """End a stream that its reader may not read any longer."""
        self._metrics.streams_cut.labels("expired").inc()
        self._write(reader, frames.encode_retry(random.randint(*END_SPREAD_MS)))
        self._end(reader)
        # To close is to wait until all is sent, which a reader that takes nothing would put off for ever.
        asyncio.get_running_loop().call_later(CLOSE_S, reader.transport.abort)

    def _last_due(self, reader: Reader) -> bytes:
        """What a reader is due before its stream ends."""
        assert reader.log is not None
        if reader.reset is not None:
            return frames.encode_reset(reader.reset) + reader.log.beginning(reader.kinds)
        due = reader.log.encode_from(reader.next, reader.kinds)
        return due[0] if due else b""

    def _end(self, reader: Reader) -> None:
        self.leave(reader)
        if not reader.transport.is_closing():
            if reader.chunked:
                reader.transport.write(frames.LAST_CHUNK)
            reader.transport.close()

    def _write(self, reader: Reader, data: bytes, head: bytes = b"") -> None:
        if data and not reader.transport.is_closing():
            reader.transport.write(head + self._frame(reader, data))
            reader.written_at = monotonic()
            self._metrics.delivered_bytes.inc(len(data))

    def _cut(self, reader: Reader, reason: str) -> None:
        self._metrics.streams_cut.labels(reason).inc()
        self.leave(reader)
        reader.transport.abort()

    def mark(self, log: BoardLog) -> None:
        """The log has grown: visit its readers."""
        if log.readers:
            self._dirty.add(log)
            self._wake.set()

    async def run(self) -> None:
        """Bring readers up to their boards' logs until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            started = monotonic()
            dirty, self._dirty = self._dirty, set()  # what is marked meanwhile is for the next round
            for log in dirty:
                await self._visit_readers(log)
            took = monotonic() - started
            await asyncio.sleep(max(ROUND_S - took, REST_S))

    async def _visit_readers(self, log: BoardLog) -> None:
        readers = list(log.readers)
        may_reset, resets = log.resets_from <= monotonic(), 0
        for start in range(0, len(readers), SLICE_READERS):
            if start:
                await asyncio.sleep(0)
            resets += self._visit_slice(log, readers[start : start + SLICE_READERS], may_reset=may_reset)
        if resets:
            log.resets_from = monotonic() + RESET_S
        if not may_reset and log not in self._held:
            self._held.add(log)
            asyncio.get_running_loop().call_later(max(0.0, log.resets_from - monotonic()), self._release, log)

    def _release(self, log: BoardLog) -> None:
        """Visit the readers of a log again that could not be reset yet."""
        self._held.discard(log)
        self.mark(log)

    def _visit_slice(self, log: BoardLog, readers: list[Reader], *, may_reset: bool) -> int:
        """Bring some readers up to the log, which stands still meanwhile; how many of them were reset.

        Most are due the same as the one before. Here every microsecond counts 10,000 times: looking each one's bytes
        up, and the clock and the counter for each, made this half as long again as writing alone.
        """
        end, now, written, resets = log.end, monotonic(), 0, 0
        shared: Shared = {}
        last_next, last_form, last_due = -1, -1, None
        for reader in readers:
            if reader.log is not log or (reader.next >= end and reader.reset is None):
                continue
            transport = reader.transport
            if transport.get_write_buffer_size() > BUFFER_SOFT_BYTES:
                continue  # the sweep comes back to it
            due: bytes | None
            if reader.reset is not None:
                due = self._find_reset(log, reader, shared) if may_reset else self._find_bare(log, reader, shared)
                if may_reset:
                    reader.reset = None
                    resets += 1
            else:
                if reader.next != last_next or reader.form != last_form:
                    last_next, last_form = reader.next, reader.form
                    last_due = self._find_due(log, reader, shared)
                due = last_due
            if due is None or len(due) > BUFFER_HARD_BYTES:
                self._cut(reader, "too_slow")
                continue
            reader.next = end
            if due and not transport.is_closing():
                transport.write(due)
                reader.written_at = now
                written += len(due)
        self._metrics.delivered_bytes.inc(written)
        if resets:
            self._metrics.resets.inc(resets)
        return resets

    def _find_due(self, log: BoardLog, reader: Reader, shared: Shared) -> bytes | None:
        """What a reader is due; None if the log has lost its place."""
        key = (reader.next, reader.form)
        if key not in shared:
            due = log.encode_from(reader.next, reader.kinds)
            if due is not None:
                self._metrics.folded_events.inc(due[1])
            shared[key] = self._frame(reader, due[0]) if due is not None else None
        return shared[key]

    def _find_bare(self, log: BoardLog, reader: Reader, shared: Shared) -> bytes | None:
        """What a reader is told that is yet to be reset."""
        key = (~reader.next, reader.form)
        if key not in shared:
            shared[key] = self._frame(reader, log.encode_bare(reader.next, reader.kinds))
        return shared[key]

    def _find_reset(self, log: BoardLog, reader: Reader, shared: Shared) -> bytes | None:
        """The reset of a reader, and what it begins anew with."""
        assert reader.reset is not None
        key = (reader.reset, reader.form)
        if key not in shared:
            shared[key] = self._frame(reader, frames.encode_reset(reader.reset) + log.beginning(reader.kinds))
        return shared[key]

    @staticmethod
    def _frame(reader: Reader, data: bytes) -> bytes:
        return frames.chunk(data) if data and reader.chunked else data

    async def sweep(self) -> None:
        """Send heartbeats, end expired streams, come back to slow readers and cut stalled ones, until cancelled."""
        while True:
            began = monotonic()
            readers = [reader for log in self._joined for reader in log.readers]
            starts = range(0, len(readers), SLICE_READERS)
            behind: set[BoardLog] = set()
            for number, start in enumerate(starts, start=1):
                self._sweep_slice(readers[start : start + SLICE_READERS], behind)
                await asyncio.sleep(max(0.0, began + SWEEP_S * number / len(starts) - monotonic()))
            if not readers:
                await asyncio.sleep(SWEEP_S)
            for log in behind:
                self.mark(log)

    def _sweep_slice(self, readers: list[Reader], behind: set[BoardLog]) -> None:
        """Look at some readers. :param behind: takes the logs of which one of them lacks something."""
        now, wall, written = monotonic(), time(), 0
        shared: Shared = {}
        for reader in readers:
            log = reader.log
            if log is None:
                continue  # it left since
            if reader.ends_at <= wall:
                self._end_expired(reader)
                continue
            unsent = reader.transport.get_write_buffer_size()
            if reader.next < log.end or reader.reset is not None:
                behind.add(log)
            elif unsent == 0 and now - reader.written_at > HEARTBEAT_S and not reader.transport.is_closing():
                data = self._find_heartbeat(log, reader, shared)
                reader.transport.write(data)
                reader.written_at = now
                written += len(data)
            if unsent == 0:
                reader.stalled_since = None
            elif reader.stalled_since is None:
                reader.stalled_since = now
            elif now - reader.stalled_since > STALL_S:
                self._cut(reader, "stalled")
        self._metrics.delivered_bytes.inc(written)

    def _find_heartbeat(self, log: BoardLog, reader: Reader, shared: Shared) -> bytes:
        """The heartbeat of a reader that has everything: encoded once for all of a slice who are at the same seq."""
        key = (log.seq, reader.chunked)
        data = shared.get(key)
        if data is None:
            data = shared[key] = self._frame(reader, frames.encode_heartbeat(log.seq))
        return data
