"""The pump's rounds and its end, with readers that only count what is written to them."""

import asyncio
from time import monotonic

import pytest

from scoreboard.board_log import BoardLog, Entry, Reader
from scoreboard.frames import LEADERBOARD, SCORE_UPDATED, SCORES
from scoreboard.metrics import Metrics
from scoreboard.model import Page, Position, Scored
from scoreboard.pump import ROUND_S, SLICE_READERS, Pump
from tests.integration.conftest import Run

LASTS_S = 0.5


class Socket:
    """A transport that takes everything."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


def open_board(pump: Pump, readers: int) -> tuple[BoardLog, list[Reader]]:
    log = BoardLog("global", Page(Position("epoch", 0), 0, (), False))
    joined = [Reader(Socket(), SCORES | LEADERBOARD, chunked=True) for _ in range(readers)]
    for reader in joined:
        pump.join(log, reader, lambda: log.snapshot)
    return log, joined


def publish(pump: Pump, log: BoardLog) -> None:
    seq = log.seq + 1
    data = b'{"userId":"a","actionId":"win","points":1,"score":%d,"rank":1,"previousRank":1,"seq":%d,"at":"t"}'
    log.append(Entry(log.epoch, log.seq, seq, [(seq, SCORE_UPDATED, data % (seq, seq))]), (Scored("a", seq),), 1)
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
