"""Clocks that are set forward and back while everything runs: order, cooldowns, caps and limits hold."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from time import monotonic
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from scoreboard.migrations import migrate
from scoreboard.ranks import REBUILD_CLAIM_S
from tests.faults.clock import Clock
from tests.faults.http import Connection
from tests.faults.load import Attempt, Load
from tests.faults.rig import FULL, Rig
from tests.harness import Server, Stores, wait_until
from tests.own_stores import OwnPostgres, OwnValkey

HOUR_S = 3_600.0
STEPS_S = (HOUR_S, 0.0, -HOUR_S, 0.0) * (10 if FULL else 1)
COOLDOWN_S = 1
SLACK_S = 1.0
"""What a busy machine may add."""
METRICS_S = 2.0
"""How long a count may take to be in the page of metrics, which is made at most once a second."""
TEN = datetime(2026, 11, 23, 10, tzinfo=UTC)
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.fixture
def clock() -> Iterator[Clock]:
    with Clock() as clock:
        yield clock


def times(stores: Stores, board: str) -> list[datetime]:
    rows = stores.query("SELECT at FROM ledger WHERE board_id = $1 ORDER BY seq", board)
    return [row["at"] for row in rows]


def refused(load: Load) -> list[Attempt]:
    """Submissions that were not acknowledged at their first try."""
    return [attempt for attempt in load.attempts if attempt.status != 200 and not attempt.is_misuse]


# -- PostgreSQL's clock


@pytest.mark.timeout(60 + 5 * len(STEPS_S))
def test_no_submission_fails_for_the_databases_clock_and_time_never_falls(
    make_rig: Callable[..., Rig], clock: Clock
) -> None:
    rig = make_rig(postgres=OwnPostgres(environment=clock.environment))
    rig.start_server()
    rig.start_server()
    with rig.busy(clients=16) as load:
        for step_s in (*STEPS_S, -0.005, 0.0):
            load.wait_for_more(100)
            clock.shift(step_s)
        load.wait_for_more(100)
    assert refused(load) == []
    ats = times(rig.stores, "global")
    assert ats == sorted(ats)
    assert ats[-1] - ats[0] > timedelta(seconds=HOUR_S)


def test_a_submission_that_the_databases_clock_ended_is_repeated(make_rig: Callable[..., Rig], clock: Clock) -> None:
    """PostgreSQL's timeouts go by the wall clock: an hour forward, and whoever waits for a lock has waited too long."""
    # It looks at all its timeouts when it looks for a deadlock.
    rig = make_rig(postgres=OwnPostgres(environment=clock.environment, deadlock_timeout="50ms"))
    server = rig.start_server()
    rolled_back = "scoreboard_rolled_back_total"
    with rig.busy(clients=8) as load:
        load.wait_for_more(50)

        async def hold_the_board() -> None:
            connection = await asyncpg.connect(rig.stores.database_url)
            try:
                async with asyncio.timeout(METRICS_S + SLACK_S), connection.transaction():
                    await connection.execute("SELECT 1 FROM boards WHERE board_id = 'global' FOR UPDATE")
                    while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                        pass
                    clock.shift(HOUR_S)
                    while not await asyncio.to_thread(server.metric, rolled_back):
                        pass
            finally:
                await connection.close()

        asyncio.run(hold_the_board())
        load.wait_for_more(50)
    # That nobody is refused is not asked: where a session ends before its reason was read, the outcome is unknown.
    assert server.metric(rolled_back) >= 1


def test_a_cooldown_lasts_at_most_twice_as_long_after_the_clock_went_back(
    make_rig: Callable[..., Rig], clock: Clock
) -> None:
    rig = make_rig(postgres=OwnPostgres(environment=clock.environment))
    server = rig.start_server()
    board = rig.make_board("cooling")
    server.put_action("win", 10, board, cooldownSeconds=COOLDOWN_S)
    with rig.busy(clients=4), server.client("alice") as alice:

        def play() -> int:
            return alice.post("/api/scores", json={"actionId": "win", "board": board}).status_code

        assert (play(), play()) == (200, 429)
        clock.shift(HOUR_S)
        assert (play(), play()) == (200, 429)
        clock.shift(0)
        started = monotonic()
        wait_until(lambda: play() == 200, 2 * COOLDOWN_S + SLACK_S, "the end of the cooldown")
        assert monotonic() - started > COOLDOWN_S


@pytest.fixture
def play_at(clock: Clock) -> Iterator[Callable[..., tuple[str, datetime | float]]]:
    """Submit at a moment of the database's clock; the outcome with the board's time, or the seconds left."""
    with OwnPostgres(environment=clock.environment) as postgres:
        clock.stop_at(TEN - timedelta(hours=1))
        asyncio.run(migrate(postgres.url))
        stores = Stores(postgres.url, "")
        stores.query("INSERT INTO actions (board_id, action_id, points) VALUES ('global', 'win', 10)")
        stores.query(
            "INSERT INTO actions (board_id, action_id, points, cooldown_seconds) VALUES ('global', 'cool', 10, 60)"
        )

        def play(moment: datetime, action: str = "win") -> tuple[str, datetime | float]:
            clock.stop_at(moment)
            (row,) = stores.query(
                "SELECT outcome, at, retry_after_s FROM submit_scores('global', ARRAY['a'], ARRAY[$1], ARRAY[NULL])",
                action,
            )
            return row["outcome"], row["at"] if row["outcome"] == "recorded" else row["retry_after_s"]

        yield play


def ms(milliseconds: float) -> timedelta:
    return timedelta(milliseconds=milliseconds)


def test_time_goes_on_at_half_speed_until_the_clock_catches_up(
    play_at: Callable[..., tuple[str, datetime | float]],
) -> None:
    eleven = TEN + timedelta(hours=1)
    for clock_at, board_at in (
        (TEN, TEN),
        (eleven, eleven),
        (TEN, eleven),  # an hour back
        (TEN + ms(10_000), eleven + ms(5_000)),
        (TEN + ms(10_003), eleven + ms(5_001)),
        (TEN + ms(10_004), eleven + ms(5_002)),  # the millisecond that was left over counts now
        (TEN - ms(60_000), eleven + ms(5_002)),  # back once more
        (TEN - ms(58_000), eleven + ms(6_002)),
        (eleven + ms(1_942), eleven + timedelta(minutes=30) + ms(35_973)),  # forward, and not yet there
        (eleven + timedelta(hours=1), eleven + timedelta(hours=1)),  # past it all
        (eleven + timedelta(hours=1) + ms(7), eleven + timedelta(hours=1) + ms(7)),
    ):
        assert play_at(clock_at) == ("recorded", board_at)


def test_a_step_of_milliseconds_back_is_made_good_in_as_many(
    play_at: Callable[..., tuple[str, datetime | float]],
) -> None:
    steps = {5: 5, 0: 5, 1: 5, 2: 6, 3: 6, 4: 7, 6: 8, 7: 8, 8: 8, 9: 9, 11: 11}
    for clock_ms, board_ms in steps.items():
        assert play_at(TEN + ms(clock_ms)) == ("recorded", TEN + ms(board_ms))


def test_refused_submissions_do_not_hold_up_time(play_at: Callable[..., tuple[str, datetime | float]]) -> None:
    """Nothing is recorded while a cooldown lasts, and it ends all the same."""
    second = ms(1_000)
    hour = 3_600 * second
    for clock_at, expected in (
        (TEN, ("recorded", TEN)),
        (TEN + hour, ("recorded", TEN + hour)),
        (TEN, ("cooldown", 60.0)),
        (TEN + 30 * second, ("cooldown", 45.0)),
        (TEN + 60 * second, ("cooldown", 30.0)),
        (TEN - hour, ("cooldown", 60.0)),  # time counts from here
        (TEN - hour + 60 * second, ("cooldown", 30.0)),
        (TEN - hour + ms(119_998), ("cooldown", 0.001)),
        (TEN - hour + ms(120_000), ("recorded", TEN + hour + 60 * second)),
    ):
        assert play_at(clock_at, "cool") == expected


# -- midnight


@pytest.mark.timeout(120)
def test_a_daily_cap_is_counted_by_the_days_of_the_boards_zone(make_rig: Callable[..., Rig], clock: Clock) -> None:
    """Across two midnights of Berlin, between which a day has 23 hours, everybody plays once a day."""
    rig = make_rig(postgres=OwnPostgres(environment=clock.environment))
    first, second = rig.start_server(), rig.start_server()
    with first.client("admin", "admin") as admin:
        assert admin.put("/api/boards/berlin", json={"timezone": "Europe/Berlin"}).status_code == 201
    first.put_action("win", 10, "berlin", dailyCap=1)
    midnights = [datetime(2026, 3, day, tzinfo=BERLIN) for day in (29, 30)]
    with rig.follow(board="berlin") as follower, rig.load(clients=0, board="berlin") as load:
        for day, midnight in enumerate(midnights):
            clock.go_on_from(midnight - timedelta(seconds=1))
            rig.background.run(play_across_midnight(load, [first, second], day))
        rig.judge(load, followers=[follower])
    rows = rig.stores.query("SELECT user_id, at FROM ledger WHERE board_id = 'berlin'")
    days = Counter((row["user_id"], row["at"].astimezone(BERLIN).date()) for row in rows)
    # The day between the midnights was played at its beginning, so nobody could at its end.
    expected = {(user, midnights[0].date() + timedelta(days=day)) for user in load.users for day in (-1, 0, 1)}
    assert days == dict.fromkeys(expected, 1)


async def play_across_midnight(load: Load, servers: list[Server], day: int) -> None:
    """Every user tries again and again, by four clients at once, until the new day has let the user play."""
    wanted = 2 if day == 0 else 1
    played: Counter[str] = Counter()

    async def play(user: str, client: int) -> None:
        connection = Connection(servers[client % 2].url)
        number = 0
        try:
            while played[user] < wanted:
                number += 1
                attempt = await load.attempt(connection, f"{day}/{client}/{number}", user, "win")
                if attempt.status == 200:
                    played[user] += 1
                else:
                    assert (attempt.status, attempt.body["code"]) == (429, "daily_cap")
        finally:
            connection.close()

    async with asyncio.timeout(20):
        await asyncio.gather(*(play(user, client) for user in load.users for client in range(4)))
    assert played == dict.fromkeys(load.users, wanted)


# -- the server's own clock


def test_the_servers_own_clock_decides_nothing(make_rig: Callable[..., Rig], clock: Clock) -> None:
    """Times are PostgreSQL's, limits Redis', deadlines monotonic; only tokens expire by it, here after an hour."""
    rig = make_rig()
    rig.start_server(environment=clock.environment)
    with rig.busy(clients=16) as load:
        for step_s in (HOUR_S / 2, -HOUR_S, 0.0):
            clock.shift(step_s)
            load.wait_for_more(100)
    assert refused(load) == []
    assert times(rig.stores, "global")[-1] < datetime.now(UTC) + timedelta(seconds=SLACK_S)


# -- Redis' clock


@pytest.mark.timeout(60 + 5 * len(STEPS_S))
def test_nobody_is_locked_out_and_reads_stay_right_when_redis_clock_is_set(
    make_rig: Callable[..., Rig], clock: Clock
) -> None:
    rig = make_rig(valkey=OwnValkey(environment=clock.environment))
    server, limited = rig.start_server(), rig.start_server(RATE_LIMIT="20/4s")
    rig.make_board("quiet")
    assert server.submit("alice", board="quiet").status_code == 200
    with rig.busy(server, clients=16) as load, limited.client("bob") as bob, server.client() as reader:
        rebuilds = count_rebuilds(server)

        def play() -> int:
            return bob.post("/api/scores", json={"actionId": "win", "board": "quiet"}).status_code

        for step_s in STEPS_S:
            wait_until(lambda: play() == 429, what="the end of the quota")
            load.wait_for_more(100)
            clock.shift(step_s)
            wait_until(lambda: play() == 200, 0.2 + SLACK_S, "the next admission")  # one costs 4 s / 20
            stats = reader.get("/api/users/alice/stats", params={"board": "quiet"}).json()
            assert (stats["score"], stats["total"]) == (10, 2)
            load.wait_for_more(100)
        assert refused(load) == []
        assert count_rebuilds(server) == rebuilds
    wait_until(lambda: server.metric("scoreboard_suspect_boards") == 0, what="a ranking that is trusted")


def count_rebuilds(server: Server) -> float:
    return server.metric('scoreboard_repairs_total{kind="rebuild"}')


def test_a_claim_of_a_dead_server_ends_though_redis_clock_went_back(make_rig: Callable[..., Rig], clock: Clock) -> None:
    """It expires by the wall clock: an hour back would keep everybody from rebuilding for an hour."""
    rig = make_rig(valkey=OwnValkey(environment=clock.environment))
    server = rig.start_server()
    with rig.busy(clients=4) as load, rig.valkey.client() as redis:
        load.wait_for_more(50)
        clock.shift(HOUR_S)
        redis.set("sb:{global}:rebuilding", "dead", px=int(REBUILD_CLAIM_S * 1_000))
        clock.shift(0)
        for key in redis.scan_iter("sb:{global}:*"):
            if b"rebuilding" not in key:
                redis.delete(key)
        load.wait_for_more(50)
        within_s = REBUILD_CLAIM_S + 2 * SLACK_S
        wait_until(lambda: load.attempts[-1].body.get("rank") is not None, within_s, "a new ranking")
    assert server.metric("scoreboard_suspect_boards") == 0
