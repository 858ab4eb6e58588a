"""Several servers on the same stores, ended, replaced and late: P4, P5 and P9."""

import threading
from contextlib import ExitStack
from time import monotonic

import httpx
import pytest

from tests.faults.rig import FULL, Rig
from tests.harness import wait_until

SUBMISSIONS = 1_500 if FULL else 300
ROUNDS = 20 if FULL else 3
RANKED_WITHIN_S = 1.0
DRAIN_S = 8
DELAY_S = (0.0, 0.05)
"""Scripts of several servers overtake each other: a batch takes a few milliseconds."""


@pytest.mark.parametrize("count", [2, 3])
def test_batches_of_several_servers_arrive_in_every_order(rig: Rig, count: int) -> None:
    servers = []
    for _ in range(count):
        to_redis = rig.add_proxy(rig.valkey.url)
        to_redis.delay_s = DELAY_S
        servers.append(rig.start_server(to_redis=to_redis))
    with ExitStack() as stack:
        followers = [stack.enter_context(rig.follow(server)) for server in servers]
        load = stack.enter_context(rig.load(*servers))
        load.wait_for_more(SUBMISSIONS, within_s=90)
        rig.judge(load, followers=followers)


def test_the_ranking_equals_the_ledger_within_a_second_of_the_last_write(rig: Rig) -> None:
    """P4 by its letter, in Redis itself, while scripts of two servers overtake each other up to the end."""
    servers = []
    for _ in range(2):
        to_redis = rig.add_proxy(rig.valkey.url)
        to_redis.delay_s = DELAY_S
        servers.append(rig.start_server(to_redis=to_redis))
    for seed in range(ROUNDS):
        with rig.load(*servers, seed=seed) as load:
            load.wait_for_more(100)
            load.finish()
            wait_until(lambda: ranking(rig) == totals(rig), RANKED_WITHIN_S, "a ranking that equals the ledger")


def ranking(rig: Rig) -> dict[str, int]:
    with rig.stores.redis() as redis:
        return {user.decode(): -int(score) for user, score in redis.zrange("sb:{global}:all", 0, -1, withscores=True)}


def totals(rig: Rig) -> dict[str, int]:
    rows = rig.stores.query(
        "SELECT user_id, sum(points)::bigint AS score FROM ledger WHERE kind = 'score' GROUP BY user_id"
    )
    return {row["user_id"]: row["score"] for row in rows}


def test_rolling_restart_loses_nothing_and_no_stream_sees_a_gap(rig: Rig) -> None:
    servers = [rig.start_server(DRAIN_SECONDS=str(DRAIN_S)), rig.start_server(DRAIN_SECONDS=str(DRAIN_S))]
    with rig.busy() as load:
        for server in servers * (3 if FULL else 1):
            load.wait_for_more(50)
            assert server.stop(DRAIN_S + 5) == 0
            load.wait_for_more(50)
            server.start()


def test_end_under_load_is_red_first_and_in_time_and_loses_nothing(rig: Rig) -> None:
    server = rig.start_server(DRAIN_SECONDS=str(DRAIN_S))
    seen: list[tuple[int, int]] = []

    def watch() -> None:
        """What a load balancer sees: readiness, and whether a submission is still taken."""
        while server.process is not None and server.process.poll() is None:
            try:
                with server.client() as client:
                    ready = client.get("/readyz").status_code
                seen.append((ready, rig.probe(server).status_code))
            except httpx.TransportError:
                seen.append((0, 0))

    with rig.busy() as load:
        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        wait_until(lambda: (200, 200) in seen, what="readiness")
        began = monotonic()
        assert server.stop(DRAIN_S + 5) == 0
        assert monotonic() - began < DRAIN_S + 1
        watcher.join(20)
        server.start()
        load.wait_for_more(50)
    red = [entry for entry in seen if entry[0] == 503]
    assert red, f"nobody could have seen it: {seen[-20:]}"
    assert red[0] == (503, 200), "while readiness is red, what comes is still taken"
    first_refused = seen.index((0, 0)) if (0, 0) in seen else len(seen)
    assert seen.index(red[0]) < first_refused, "red comes before connections are refused"
