"""Readiness answers within 0.3 s and says what is so, whatever hangs or is busy: probes give up after a second."""

import asyncio
import http.client
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from time import perf_counter, sleep

import pytest
import uvloop

from scoreboard.database import PostgresProbe
from scoreboard.ranks import Ranks
from scoreboard.readiness import ANSWER_S, Answering, Readiness
from tests.faults.rig import Rig
from tests.harness import Server, Stores, wait_until

PROMISED_S = 0.3
BUSY_S = 0.7
"""What a single answer may take here, where the machine has other things to do."""
PROBES = 7
MANY = 64

Run = Callable[..., object]
Found = tuple[int, str, dict[str, str]]


def probe(server: Server) -> tuple[float, Found]:
    """One look at readiness on a connection of its own: how long it took, and what it said."""
    began = perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("GET", "/readyz")
    answer = connection.getresponse()
    body = json.loads(answer.read())
    took = perf_counter() - began
    connection.close()
    return took, (answer.status, body["status"], body["dependencies"])


def check(server: Server, status: int, state: str, **stores: str) -> None:
    """Several probes in a row all say so, and in time."""
    probes = [probe(server) for _ in range(PROBES)]
    assert [found for _, found in probes] == [(status, state, stores)] * PROBES
    took = [each for each, _ in probes]
    assert median(took) <= PROMISED_S, took
    assert max(took) <= BUSY_S, took


def wait_until_ready(server: Server) -> None:
    wait_until(lambda: probe(server)[1] == (200, "ready", {"postgresql": "ok", "redis": "ok"}), 10, "readiness")


@pytest.mark.parametrize("fault", ["stall", "black_hole", "cut"])
def test_readiness_says_in_time_which_store_does_not_answer(rig: Rig, fault: str) -> None:
    server = rig.start_server()
    wait_until_ready(server)
    getattr(rig.to_redis, fault)()
    check(server, 200, "degraded", postgresql="ok", redis="unreachable")
    getattr(rig.to_postgres, fault)()
    check(server, 503, "unavailable", postgresql="unreachable", redis="unreachable")
    rig.to_redis.restore()
    wait_until(lambda: probe(server)[1][2]["redis"] == "ok", 10, "Redis to answer")
    check(server, 503, "unavailable", postgresql="unreachable", redis="ok")
    rig.to_postgres.restore()
    wait_until_ready(server)
    check(server, 200, "ready", postgresql="ok", redis="ok")


def test_many_probes_at_once_are_answered_in_time_while_both_stores_hang(rig: Rig) -> None:
    server = rig.start_server()
    wait_until_ready(server)
    rig.to_redis.stall()
    rig.to_postgres.stall()
    with ThreadPoolExecutor(MANY) as pool:
        probes = list(pool.map(lambda _: probe(server), range(4 * MANY)))
    expected = {"postgresql": "unreachable", "redis": "unreachable"}
    assert all(found == (503, "unavailable", expected) for _, found in probes)
    took = [each for each, _ in probes]
    assert median(took) <= PROMISED_S, took
    assert max(took) <= 2 * BUSY_S, took
    rig.to_redis.restore()
    rig.to_postgres.restore()
    wait_until_ready(server)


def test_readiness_does_not_wait_for_a_connection_of_others(rig: Rig) -> None:
    """Whoever holds all connections for reads holds up reads, not the probe."""
    server = rig.start_server()
    wait_until_ready(server)
    with ThreadPoolExecutor(24) as pool, server.client() as client:
        rig.stores.query("ALTER TABLE boards RENAME TO boards_of_old")
        rig.stores.query("CREATE VIEW boards AS SELECT b.* FROM boards_of_old b, (SELECT pg_sleep(1.5) OFFSET 0) slow")
        held = [pool.submit(client.get, "/api/boards") for _ in range(24)]
        wait_until(
            lambda: server.metric("scoreboard_database_connections_reads") >= 8, 10, "all connections to be held"
        )
        check(server, 200, "ready", postgresql="ok", redis="ok")
        rig.stores.query("DROP VIEW boards")
        rig.stores.query("ALTER TABLE boards_of_old RENAME TO boards")
        assert {each.result().status_code for each in held} <= {200, 503}


# -- the parts by themselves


class CountingProbe:
    """A store that answers after a while, and counts how often it was asked."""

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s
        self.asked = self.dropped = 0

    async def ask(self) -> None:
        self.asked += 1
        await asyncio.sleep(self.after_s)

    def drop(self) -> None:
        self.dropped += 1


def test_probes_at_the_same_time_ask_once_and_later_ones_again(run: Run) -> None:
    quick, hanging = CountingProbe(0.01), CountingProbe(60)
    readiness = Readiness(quick, hanging)

    async def many() -> list[Answering]:
        return await asyncio.gather(*(readiness.check() for _ in range(500)))

    assert set(map(repr, run(many()))) == {repr(Answering(True, False))}  # type: ignore[call-overload]
    assert (quick.asked, hanging.asked, quick.dropped, hanging.dropped) == (1, 1, 0, 1)
    run(many())
    assert (quick.asked, hanging.asked) == (2, 2)


def test_a_loop_that_stood_still_is_not_taken_for_a_store_that_hangs(stores: Stores) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stand_still(runner.run, stores)


def stand_still(run: Run, stores: Stores) -> None:
    postgresql, ranks = PostgresProbe(stores.database_url), Ranks.open(stores.redis_url)
    for held_up in (postgresql, ranks.probe):
        ask, others = held_up.ask, [each for each in (postgresql, ranks.probe) if each is not held_up]

        async def ask_and_hold_the_loop(ask: Callable[[], Awaitable[None]] = ask) -> None:
            asyncio.get_running_loop().call_soon(sleep, 2 * ANSWER_S)
            await ask()

        run(ask())
        run(others[0].ask())
        held_up.ask = ask_and_hold_the_loop  # type: ignore[method-assign]
        assert run(Readiness(postgresql, ranks.probe).check()) == Answering(True, True)
        held_up.ask = ask  # type: ignore[method-assign]
    postgresql.drop()
    run(ranks.close())
