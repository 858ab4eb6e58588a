"""Redis emptied, killed, old, full, silent, failed over: submissions go on, the ranking is soon right by itself."""

import threading
from collections.abc import Callable

import pytest

from tests.faults.load import Load
from tests.faults.proxy import Point
from tests.faults.rig import FULL, Rig
from tests.harness import wait_until
from tests.own_stores import OwnValkey

TIMES = 20 if FULL else 3
PAUSE_S = 5 if FULL else 2.5
HEALS_WITHIN_S = 5.0
"""P4: from Redis being well again to a ranking that equals the ledger's order."""
PATIENCE_S = 3.0
"""P6: how long a submission may take while Redis is silent."""


def ranks_again(load: Load) -> None:
    """Wait until submissions are answered with ranks, which is when the ranking is trusted again."""
    wait_until(
        lambda: load.attempts[-1].body.get("rank") is not None, HEALS_WITHIN_S, "an answer with a rank after the fault"
    )


def check_nobody_was_refused(load: Load) -> None:
    """P6: without Redis submissions are accepted all the same."""
    assert {attempt.status for attempt in load.attempts} <= {200, 422}
    assert max(attempt.answered_at - attempt.sent_at for attempt in load.attempts) < PATIENCE_S


@pytest.mark.parametrize("command", ["FLUSHALL", "SCRIPT FLUSH"])
def test_flush_under_load(rig: Rig, command: str) -> None:
    rig.start_server()
    with rig.busy() as load, rig.valkey.client() as client:
        for _ in range(TIMES):
            client.execute_command(*command.split())
            load.wait_for_more(50)
            ranks_again(load)
    check_nobody_was_refused(load)


def test_kill_and_restart_empty(rig: Rig) -> None:
    rig.start_server()
    with rig.busy() as load:
        for _ in range(TIMES):
            rig.valkey.stop()
            load.wait_for_more(50)
            rig.valkey.start()
            ranks_again(load)
    check_nobody_was_refused(load)


def test_restart_with_an_old_snapshot(rig: Rig) -> None:
    """It lags, with the right epoch and a right beginning: what is missing is replayed."""
    rig.start_server()
    with rig.busy() as load:
        load.wait_for_more(50)
        snapshot = rig.valkey.take_snapshot()
        for _ in range(TIMES):
            load.wait_for_more(50)
            rig.valkey.stop()
            load.wait_for_more(50)
            rig.valkey.start_from(snapshot)
            ranks_again(load)
    check_nobody_was_refused(load)


def test_paused_redis_delays_nobody_for_long(rig: Rig) -> None:
    rig.start_server(RATE_LIMIT="100000/1s")  # the rate limit asks Redis first, and must not wait either
    with rig.busy() as load:
        with rig.valkey.paused():
            threading.Event().wait(PAUSE_S)  # how long it hangs is the fault itself
        ranks_again(load)
    check_nobody_was_refused(load)


def test_link_to_redis_that_drops_everything(rig: Rig) -> None:
    rig.start_server(RATE_LIMIT="100000/1s")
    with rig.busy() as load:
        rig.to_redis.black_hole()
        threading.Event().wait(PAUSE_S)
        rig.to_redis.restore()
        ranks_again(load)
    check_nobody_was_refused(load)


@pytest.mark.parametrize("point", ["request", "sent", "answered"])
def test_connection_cut_around_a_script(rig: Rig, point: Point) -> None:
    """The script ran or did not; the server can't know, and what it does next is right in both cases."""
    rig.start_server()
    with rig.busy() as load:
        for _ in range(TIMES):
            rig.to_redis.at(point, lambda link: link.abort()).wait()
            load.wait_for_more(20)
            ranks_again(load)
    check_nobody_was_refused(load)


def test_failover_leaves_the_old_primary(rig: Rig) -> None:
    """The old primary lives on as a replica: it refuses to write, and connections to it are given up."""
    rig.start_server()
    with OwnValkey() as other, rig.busy() as load:
        other.follow(rig.valkey)
        other.promote()
        rig.to_redis.point_to(other.url)
        rig.valkey.follow(other)
        load.wait_for_more(50)
        ranks_again(load)
        rig.use_redis(other)
    check_nobody_was_refused(load)


def test_promotion_of_a_stale_replica(rig: Rig) -> None:
    """Replication is asynchronous: the new primary lacks what was ranked and published last."""
    rig.start_server()
    with OwnValkey() as stale, rig.busy() as load:
        load.wait_for_more(50)
        stale.follow(rig.valkey)
        with stale.client() as client:
            client.replicaof("127.0.0.1", 1)  # cut off: keeps what it has
        load.wait_for_more(100)
        rig.valkey.kill()
        stale.promote()
        rig.to_redis.point_to(stale.url)
        rig.to_redis.reset()
        ranks_again(load)
        load.wait_for_more(50)
        rig.use_redis(stale)
    check_nobody_was_refused(load)


def test_memory_limit_reached(rig: Rig) -> None:
    """It refuses every write: submissions go on without ranks, pages come from PostgreSQL."""
    rig.start_server()
    with rig.busy() as load, rig.valkey.client() as client:
        client.config_set("maxmemory", 1)
        wait_until(lambda: load.attempts[-1].body.get("rank", 0) is None, what="an answer without a rank")
        load.wait_for_more(50)
        client.config_set("maxmemory", 0)
        ranks_again(load)
    check_nobody_was_refused(load)


def test_memory_limit_that_evicts(rig: Rig) -> None:
    """Half a board must never be shown as a whole one."""
    rig.start_server()
    with rig.busy() as load, rig.valkey.client() as client:
        client.config_set("maxmemory-policy", "allkeys-random")
        for _ in range(TIMES):
            client.config_set("maxmemory", 1)
            load.wait_for_more(20)
            client.config_set("maxmemory", 0)
            ranks_again(load)
        client.config_set("maxmemory-policy", "noeviction")
    check_nobody_was_refused(load)


@pytest.mark.parametrize("gone", ["all", "head"])
def test_a_key_that_was_evicted_alone(rig: Rig, gone: str) -> None:
    rig.start_server()
    with rig.busy() as load, rig.valkey.client() as client:
        for _ in range(TIMES):
            client.delete(f"sb:{{global}}:{gone}")
            load.wait_for_more(50)
            ranks_again(load)
    check_nobody_was_refused(load)


def test_subscription_that_is_alive_but_mute(rig: Rig) -> None:
    """Another server's events come by the subscription alone; readers here must not be left behind."""
    mute, other = rig.start_server(), rig.start_server(direct=True)
    with rig.follow(mute) as follower, rig.load(other) as load:
        for _ in range(TIMES):
            assert rig.to_redis.mute_subscriptions() == 1
            wait_until(lambda: mute.metric("scoreboard_subscription_proven") == 0, what="the silence to be noticed")
            wait_until(lambda: mute.metric("scoreboard_subscription_proven") == 1, what="another subscription")
            load.wait_for_more(20)
        rig.judge(load, followers=[follower])


def test_page_of_a_mute_server_is_right_within_a_second_or_two(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    mute, other = rig.start_server(), rig.start_server(direct=True)
    with mute.client() as client:
        seq = rig.probe(other).json()["seq"]
        wait_until(lambda: client.get("/api/leaderboard").json()["seq"] == seq, what="the page")
        rig.to_redis.mute_subscriptions()
        rig.probe(other)
        wait_until(lambda: client.get("/api/leaderboard").json()["seq"] == seq + 1, within_s=2, what="the page")
