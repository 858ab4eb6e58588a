"""The pump's rounds, resets, heartbeats and ends, with readers that only count what is written to them."""

import asyncio
import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

import orjson
import pytest

from scoreboard import frames
from scoreboard.board_log import BoardLog, Break, Entry, Reader
from scoreboard.frames import LEADERBOARD, SCORE_UPDATED, SCORES
from scoreboard.metrics import Metrics
from scoreboard.model import Page, Position, Scored
from scoreboard.pump import (
    BUFFER_SOFT_BYTES,
    CLOSE_S,
    HEARTBEAT_S,
    RESET_S,
    ROUND_S,
    SLICE_READERS,
    SWEEP_S,
    Pump,
)
from tests.harness import Parser
from tests.integration.conftest import Run
from tests.property.simulation import VirtualLoop

LASTS_S = 0.5
TOLD_WITHIN_S = 15.0
EXPIRED_WITHIN_S = 5.0


class Socket:
    """A transport that takes everything, and knows when it came."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.written: list[bytes] = []
        self.at: list[float] = []
        self.closed = self.aborted = False
        self.unsent = 0
        self._clock = clock

    def write(self, data: bytes) -> None:
        assert not self.closed, "written to after its end"
        self.written.append(data)
        self.at.append(self._clock())

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True


def open_board(pump: Pump, readers: int) -> tuple[BoardLog, list[Reader]]:
    log = BoardLog("global", Page(Position("epoch", 0), 0, (), False))
    joined = [Reader(Socket(), SCORES | LEADERBOARD, chunked=True) for _ in range(readers)]
    for reader in joined:
        pump.join(log, reader, lambda: log.snapshot)
    return log, joined


def publish(pump: Pump, log: BoardLog, user: str = "a") -> None:
    seq = log.seq + 1
    data = b'{"userId":"%b","actionId":"win","points":1,"score":%d,"rank":1,"previousRank":1,"seq":%d,"at":"t"}'
    told = [(seq, SCORE_UPDATED, data % (user.encode(), seq, seq))]
    log.append(Entry(log.epoch, log.seq, seq, told), (Scored(user, seq),), 1)
    pump.mark(log)


@pytest.mark.parametrize("readers", [3, SLICE_READERS, 3 * SLICE_READERS])
def test_events_without_a_pause_are_told_once_a_round(run: Run, readers: int) -> None:
    """What comes during a round is for the next: else a busy board would never let the pump rest."""

    async def check() -> None:
        pump = Pump(Metrics())
        log, joined = open_board(pump, readers)
        running = asyncio.ensure_future(pump.run())
        ends = monotonic() + LASTS_S
        while monotonic() < ends:
            publish(pump, log)
            await asyncio.sleep(0)
        running.cancel()
        for reader in joined:
            assert 2 <= len(reader.transport.written) <= LASTS_S / ROUND_S + 3  # type: ignore[attr-defined]

    run(check())


def test_a_reader_that_leaves_while_all_are_ended_holds_nobody_up(run: Run) -> None:
    async def check() -> None:
        pump = Pump(Metrics())
        _, joined = open_board(pump, 3 * SLICE_READERS)
        ending = asyncio.ensure_future(pump.end_all())
        await asyncio.sleep(0)
        left = [reader for reader in joined if not reader.transport.is_closing()]
        assert len(left) > 1
        pump.leave(left[0])
        await ending
        assert pump.readers == 0
        assert [reader for reader in joined if not reader.transport.is_closing()] == left[:1]

    run(check())


# -- in a time of our own


class Hall:
    """A pump with one board whose readers keep what they got, in a time that passes only by :meth:`wait`."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.pump = Pump(Metrics())
        self.log = BoardLog("global", Page(Position("epoch", 0), 0, (), False))
        self._tasks = [loop.create_task(self.pump.run()), loop.create_task(self.pump.sweep())]

    def join(self, kinds: int = SCORES | LEADERBOARD, *, ends_at: float = math.inf) -> Socket:
        socket = Socket(self.loop.time)
        self.pump.join(
            self.log, Reader(socket, kinds, chunked=False, ends_at=ends_at), lambda: self.log.beginning(kinds)
        )
        self.loop.settle()
        return socket

    def wait(self, seconds: float, *, step: float = 0.01) -> None:
        until = self.loop.now + seconds
        while self.loop.now < until - step / 2:
            self.loop.advance(step)

    def erase(self) -> None:
        """Somebody is erased: the event comes as it is published."""
        seq = self.log.seq + 1
        told = {"epoch": "epoch", "first": seq, "seq": seq, "at": "t", "total": 0, "top": [], "names": []}
        told |= {"windows": {}, "events": [{"kind": "erase", "seq": seq, "at": "t"}]}
        assert self.log.accept(frames.parse_message(orjson.dumps(told)))
        self.pump.mark(self.log)

    def publish(self, user: str = "a") -> None:
        publish(self.pump, self.log, user)

    def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.loop.settle()


@contextmanager
def open_hall() -> Iterator[Hall]:
    loop = VirtualLoop()
    with pytest.MonkeyPatch.context() as clocks:
        for name in ("pump.monotonic", "pump.time", "board_log.monotonic"):
            clocks.setattr(f"scoreboard.{name}", loop.time)
        asyncio.set_event_loop(loop)
        hall = Hall(loop)
        try:
            yield hall
        finally:
            hall.end()
            asyncio.set_event_loop(None)
            loop.close()


@pytest.fixture
def hall() -> Iterator[Hall]:
    with open_hall() as hall:
        yield hall


def pieces_with(socket: Socket, what: bytes) -> list[float]:
    return [at for at, data in zip(socket.at, socket.written, strict=True) if what in data]


def test_erasures_without_a_pause_reset_at_most_once_a_second(hall: Hall) -> None:
    reader = hall.join()
    for _ in range(50):
        hall.publish("gone")
        hall.wait(0.05)
        hall.erase()
        hall.wait(0.05)
    hall.wait(RESET_S + 0.1)
    resets = pieces_with(reader, b"event: reset")
    assert len(resets) >= 5, "readers learn of it all the same"
    assert all(later - earlier > RESET_S - 0.001 for earlier, later in itertools.pairwise(resets))
    assert resets[0] <= 0.1 + 2 * ROUND_S, "the first is at once"
    last = reader.written[-1]
    assert b'"top10":[]' in last
    assert f"id: epoch-{hall.log.seq}\n".encode() in last


def test_until_the_reset_frames_have_no_ids_and_name_nobody_who_was_erased(hall: Hall) -> None:
    reader = hall.join()
    hall.erase()
    hall.wait(0.1)
    hall.publish("gone")  # told before the second erasure
    hall.wait(0.1)
    hall.publish("gone again")
    before = len(reader.written)
    hall.erase()  # before the pump has come to that event
    hall.publish("stays")
    hall.wait(0.1)
    late = hall.join()
    hall.publish("stays")
    hall.wait(0.1)
    meanwhile = reader.written[before:]
    assert len(meanwhile) == 2
    for data in meanwhile:
        assert b"event: score-updated" in data and b"event: leaderboard" in data and b"stays" in data
        assert b"gone" not in data
        assert b"id: " not in data
    assert b"id: epoch-6\n" in late.written[-1], "who came since knows what is right"
    hall.wait(RESET_S)
    (reset,) = [data for data in reader.written[before:] if b"event: reset" in data]
    assert b'"reason":"erased"' in reset and b"id: epoch-6\n" in reset and b"gone" not in reset
    assert not pieces_with(late, b"event: reset")


def test_every_kind_of_reset_is_bounded(hall: Hall) -> None:
    reader = hall.join(SCORES)
    for number in range(30):
        reason = ("settings", "rebuilt", "too_far_behind")[number % 3]
        hall.log.restart(Page(hall.log.position, 0, (), False), Break(reason, hall.log.seq))
        hall.pump.mark(hall.log)
        hall.wait(0.1)
    assert 3 <= len(pieces_with(reader, b"event: reset")) <= 4


def test_slow_reader_is_reset_when_it_takes_something_again(hall: Hall) -> None:
    slow, other = hall.join(), hall.join()
    slow.unsent = BUFFER_SOFT_BYTES + 1
    hall.erase()
    hall.wait(0.5)
    assert pieces_with(other, b"event: reset") and not pieces_with(slow, b"event: reset")
    slow.unsent = 0
    hall.wait(RESET_S + SWEEP_S + 0.5)
    assert len(pieces_with(slow, b"event: reset")) == len(pieces_with(other, b"event: reset")) == 1


def test_reader_that_waits_for_its_reset_gets_it_when_the_server_ends(hall: Hall) -> None:
    reader = hall.join()
    for _ in range(2):
        hall.erase()
        hall.wait(0.1)
    assert len(pieces_with(reader, b"event: reset")) == 1
    hall.loop.create_task(hall.pump.end_all())
    hall.loop.settle()
    assert b"event: reset" in reader.written[-1] and b"id: epoch-2\n" in reader.written[-1]
    assert reader.closed


def test_silent_readers_are_told_that_the_connection_lives_spread_over_a_second(hall: Hall) -> None:
    readers = [hall.join(kinds) for kinds in (SCORES, LEADERBOARD, SCORES | LEADERBOARD) for _ in range(200)]
    hall.publish()
    hall.wait(0.1)
    hall.wait(35)
    told = sorted(at for reader in readers for at in pieces_with(reader, b"event: heartbeat"))
    for reader in readers:
        gaps = [later - earlier for earlier, later in itertools.pairwise(reader.at)]
        assert all(HEARTBEAT_S - 0.001 < gap < TOLD_WITHIN_S for gap in gaps[2:]), gaps
        assert len(pieces_with(reader, b"event: heartbeat")) == 3
        parser = Parser()
        parser.feed(b"".join(reader.written))
        assert parser.heartbeats == [1, 1, 1]
        assert all(b"id: " not in data for data in reader.written if b"event: heartbeat" in data)
    first = told[: len(readers)]
    assert first[-1] - first[0] >= 0.8 * SWEEP_S, "they come spread out"
    at_once = max(sum(1 for at in first if begins <= at < begins + 0.05) for begins in first)
    assert at_once <= 3 * SLICE_READERS, "and not all at once"


def test_heartbeats_go_only_to_who_has_everything(hall: Hall) -> None:
    busy, slow = hall.join(), hall.join()
    slow.unsent = BUFFER_SOFT_BYTES + 1
    for _ in range(20):
        hall.publish()
        hall.wait(1, step=0.1)
    slow.unsent = 100  # it takes what comes again, and not all has left yet
    hall.wait(HEARTBEAT_S / 2, step=0.1)
    assert not pieces_with(busy, b"event: heartbeat")
    assert not pieces_with(slow, b"event: heartbeat")


@pytest.mark.parametrize("is_busy", [False, True])
def test_stream_ends_when_its_reader_may_not_read_any_longer(hall: Hall, is_busy: bool) -> None:
    expiring, staying = hall.join(ends_at=hall.loop.now + 20), hall.join()
    for _ in range(200):
        if is_busy:
            hall.publish()
        hall.wait(0.1, step=0.1)
    assert not expiring.closed
    hall.wait(EXPIRED_WITHIN_S / 2, step=0.1)
    assert expiring.closed
    assert expiring.written[-1].startswith(b"retry: ") and b"event: " not in expiring.written[-1]
    assert not staying.closed
    assert hall.pump.readers == 1
    hall.wait(CLOSE_S, step=0.1)
    assert expiring.aborted, "a reader that takes nothing would keep the connection"


def test_reader_that_joins_what_nobody_feeds_any_more_comes_back(hall: Hall) -> None:
    hall.log.is_over = True
    late = hall.join()
    assert late.closed and late.written[-1].startswith(b"retry: ")
    assert hall.pump.readers == 0
