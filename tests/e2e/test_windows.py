"""Windows of time: their borders to the millisecond, their turn in pages and streams, and windows that come later."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import httpx
import pytest

from tests.e2e.answers import check_problem
from tests.e2e.boards import admin_client, open_board
from tests.harness import Server, Stores, Stream, wait_until

ALL = ["all", "day", "week", "month"]
MS = timedelta(milliseconds=1)


@pytest.fixture(scope="module")
def client(shared: Server) -> Iterator[httpx.Client]:
    with admin_client(shared) as client:
        yield client


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2027-03-28", 23),
        ("Europe/Berlin", "2027-10-31", 25),
        ("Europe/Berlin", "2027-06-15", 24),
        ("America/New_York", "2027-03-14", 23),
        ("Asia/Kathmandu", "2027-03-28", 24),
        ("Atlantic/Azores", "2027-10-31", 25),  # midnight comes twice
        ("America/Havana", "2027-11-07", 25),
        ("Pacific/Apia", "2027-04-04", 24),
    ],
)
def test_a_day_is_half_open_and_as_long_as_its_clocks_make_it(
    shared: Server, client: httpx.Client, module_stores: Stores, zone: str, day: str, hours: int
) -> None:
    board = open_board(shared, client, windows=["all", "day"], timezone=zone)
    begins = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    ends = begins + timedelta(hours=hours)
    for points, at in ((1, begins - MS), (2, begins), (4, ends - MS), (8, ends)):
        board.set_time(module_stores, at)
        board.score("a", points)
    assert board.ranks(window="day", period=day) == [(1, "a", 6)]
    assert board.ranks(window="day") == [(1, "a", 8)]
    periods = client.get(f"/api/boards/{board.name}/periods", params={"window": "day"}).json()["periods"]
    (told,) = [period for period in periods if period["period"] == day]
    assert told["startsAt"] == begins.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert told["endsAt"] == ends.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def test_every_read_has_windows_and_periods(shared: Server, client: httpx.Client, module_stores: Stores) -> None:
    board = open_board(shared, client, windows=ALL)
    board.set_time(module_stores, datetime(2027, 1, 4, tzinfo=UTC))
    for user, points in (("a", 3), ("b", 2), ("c", 1)):
        board.score(user, points)
    board.set_time(module_stores, datetime(2027, 1, 5, tzinfo=UTC))
    board.score("c", 9)
    for query, expected in (
        ({"window": "day"}, [("c", 9)]),
        ({"window": "day", "period": "2027-01-04"}, [("a", 3), ("b", 2), ("c", 1)]),
        ({"window": "week"}, [("c", 10), ("a", 3), ("b", 2)]),
        ({"window": "week", "period": "2026-12-28"}, []),
    ):
        assert [(user, score) for _, user, score in board.ranks(**query)] == expected
        asked = {"board": board.name, **query}
        for place, (user, score) in enumerate(expected, start=1):
            around = client.get(f"/api/leaderboard/around/{user}", params={**asked, "radius": 0}).json()
            assert [(e["rank"], e["userId"], e["score"]) for e in around["leaderboard"]] == [(place, user, score)]
            stats = board.stats(user, **query)
            assert (stats["rank"], stats["score"], stats["total"]) == (place, score, len(expected))
        ids = client.get("/api/leaderboard/users", params={**asked, "ids": "a,b,c"}).json()["leaderboard"]
        assert {e["userId"]: e["score"] for e in ids} == {"a": None, "b": None, "c": None} | dict(expected)
    check_problem(client.get("/api/users/a/stats", params={"board": board.name, "window": "day"}), 404, "not_found")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"window": "year"}, "window"),
        ({"window": "month"}, "window"),
        ({"period": "2027-01-04"}, "period"),
        ({"window": "week", "period": "2027-01-05"}, "period"),
        ({"window": "day", "period": "2027-02-30"}, "period"),
        ({"window": "day", "period": "20270101"}, "period"),
        ({"window": "day", "period": ""}, "period"),
    ],
)
def test_a_window_or_period_that_is_none_is_refused(
    shared: Server, client: httpx.Client, query: dict[str, str], field: str
) -> None:
    board = open_board(shared, client, windows=["all", "day", "week"])
    for path in ("/api/leaderboard", "/api/users/a/stats", "/api/leaderboard/around/a"):
        problem = check_problem(client.get(path, params={"board": board.name, **query}), 422, "invalid")
        assert [error["field"] for error in problem["errors"]] == [field]  # type: ignore[attr-defined]


def test_a_stream_of_a_window_gets_a_snapshot_when_its_period_turns(
    shared: Server, client: httpx.Client, module_stores: Stores
) -> None:
    board = open_board(shared, client, windows=["all", "day"])
    board.set_time(module_stores, datetime(2028, 2, 28, 12, tzinfo=UTC))
    board.score("a", 5)
    with Stream(shared.stream_url(board.name, window="day")) as stream, Stream(shared.stream_url(board.name)) as whole:
        stream.wait_for(lambda s: s.of("leaderboard"))
        whole.wait_for(lambda s: s.of("leaderboard"))
        board.set_time(module_stores, datetime(2028, 2, 29, tzinfo=UTC))
        board.score("b", 1)
        stream.wait_for(lambda s: s.of("score-updated"))
        snapshots = [frame.data for frame in stream.of("leaderboard")]
        assert [(data["period"], data["total"]) for data in snapshots[:2]] == [("2028-02-28", 1), ("2028-02-29", 0)]
        update = stream.of("score-updated")[-1].data
        assert (update["userId"], update["score"], update["rank"], update["previousRank"]) == ("b", 1, 1, None)
        stream.wait_for(lambda s: s.of("leaderboard")[-1].data["total"] == 1)
        assert not stream.of("reset")
        whole.wait_for(lambda s: s.of("score-updated"))
        assert whole.of("score-updated")[-1].data["rank"] == 2
    with Stream(shared.stream_url(board.name, window="day"), last_event_id=stream.frames[0].id) as late:
        late.wait_for(lambda s: s.of("score-updated"))
        assert [frame.data["userId"] for frame in late.of("score-updated")] == ["b"]
        assert late.frames[0].event == "leaderboard"


def test_a_period_that_is_over_is_over_without_an_event(
    shared: Server, client: httpx.Client, module_stores: Stores
) -> None:
    """The ranking of a day that has passed is in Redis still; what is read is today's."""
    board = open_board(shared, client, windows=["all", "day"])
    board.score("a", 5)
    with module_stores.redis() as redis:
        head = f"sb:{{{board.name}}}:head"
        first_day = redis.hget(head, "day")
        redis.rename(f"sb:{{{board.name}}}:day:{first_day.decode()}", f"sb:{{{board.name}}}:day:2026-01-01")
        redis.hset(head, mapping={"day": "2026-01-01", "day:ends": 1})
    with Stream(shared.stream_url(board.name, window="day")) as stream:
        stream.wait_for(lambda s: s.of("leaderboard"))
        assert stream.of("leaderboard")[0].data["period"] == first_day.decode()
    page = board.page(window="day")
    assert page["period"] == first_day.decode()
    assert shared.run("rebuild", "--board", board.name).returncode == 0  # today's ranking was given a false date
    assert board.ranks(window="day") == [(1, "a", 5)]


def test_windows_of_a_board_with_a_history_are_filled_from_it(
    shared: Server, client: httpx.Client, module_stores: Stores
) -> None:
    board = open_board(shared, client)
    for day, points in ((1, 1), (2, 2), (9, 4)):
        board.set_time(module_stores, datetime(2027, 2, day, 23, 30, tzinfo=UTC))
        board.score("a", points)
    hidden = f"hidden-{board.name}"
    board.score(hidden, 50)
    assert client.post(f"/api/users/{hidden}/hide").status_code == 200
    told = board.put(windows=ALL, timezone="Europe/Berlin").json()
    assert (told["windows"], told["filling"]) == (ALL, [])
    wait_until(lambda: board.ranks(window="day") == [(1, "a", 4)], what="the day of Berlin's 10th of February")
    assert board.page(window="day")["period"] == "2027-02-10"
    assert board.ranks(window="day", period="2027-02-03") == [(1, "a", 2)]
    assert board.ranks(window="month") == [(1, "a", 7)]
    assert client.post(f"/api/users/{hidden}/unhide").status_code == 200
    assert board.ranks(window="day", period="2027-02-10") == [(1, hidden, 50), (2, "a", 4)]
    board.put(windows=["all", "month"], timezone="UTC")
    assert board.ranks(window="month") == [(1, hidden, 50), (2, "a", 7)]
    check_problem(client.get("/api/leaderboard", params={"board": board.name, "window": "day"}), 422, "invalid")
    board.put(windows=ALL, timezone="UTC")
    assert board.ranks(window="day", period="2027-02-09") == [(1, hidden, 50), (2, "a", 4)]


@pytest.mark.parametrize("ties", ["dense", "first", "shared"])
def test_ties_change_while_the_board_is_served(shared: Server, client: httpx.Client, ties: str) -> None:
    board = open_board(shared, client, windows=["all", "day"], ties="dense" if ties == "shared" else "shared")
    for user, points in (("b", 5), ("a", 5), ("c", 1)):
        board.score(user, points)
    with Stream(shared.stream_url(board.name)) as stream:
        stream.wait_for(lambda s: s.of("leaderboard"))
        board.put(windows=["all", "day"], ties=ties)
        expected = {
            "dense": [(1, "a", 5), (1, "b", 5), (2, "c", 1)],
            "first": [(1, "b", 5), (2, "a", 5), (3, "c", 1)],
            "shared": [(1, "a", 5), (1, "b", 5), (3, "c", 1)],
        }[ties]
        for window in ("all", "day"):
            assert board.ranks(window=window) == expected
        stream.wait_for(lambda s: s.of("reset") and s.frames[-1].event == "leaderboard")
        assert stream.of("reset")[0].data == {"reason": "settings"}
        top = stream.of("leaderboard")[-1].data["top10"]
        assert [(e["rank"], e["userId"], e["score"]) for e in top] == expected  # type: ignore[attr-defined]
    told = wait_until(lambda: board.score("c", 0)["rank"], what="ranks from the new ranking")
    assert told == expected[-1][0]


def test_streams_of_a_window_that_is_taken_away_are_told(shared: Server, client: httpx.Client) -> None:
    board = open_board(shared, client, windows=["all", "day"])
    board.score("a", 1)
    with Stream(shared.stream_url(board.name, window="day")) as stream:
        stream.wait_for(lambda s: s.of("leaderboard"))
        board.put(windows=["all"])
        stream.wait_for(lambda s: s.of("reset"))
    check_problem(
        client.get("/api/leaderboard/stream", params={"board": board.name, "window": "day"}), 422, "invalid", "day"
    )


@pytest.mark.parametrize("query", [{"board": "nowhere"}, {"board": "global", "window": "month"}])
def test_nobody_listens_to_what_can_not_be_followed(
    shared: Server, public: httpx.Client, module_stores: Stores, query: dict[str, str]
) -> None:
    assert public.get("/api/leaderboard/stream", params=query).status_code in (404, 422)
    with module_stores.redis() as redis:
        channel = f"sb:{{{query['board']}}}:events".encode()
        followed = {b"sb:{global}:events"} if query["board"] == "global" else set()
        wait_until(lambda: channel not in set(redis.pubsub_channels("sb:*")) - followed, what="the end of listening")


def test_a_fill_begins_anew_when_the_time_zone_changes(
    shared: Server, client: httpx.Client, module_stores: Stores
) -> None:
    board = open_board(shared, client)
    board.set_time(module_stores, datetime(2027, 2, 1, 20, tzinfo=UTC))
    board.score("a", 1)
    board.score("a", 2)
    # Somebody asked for a window and went away after a part of it was filled.
    module_stores.query("SELECT put_board($1, '', '{all,day}', 'shared', 'UTC', 'sum', NULL)", board.name)
    module_stores.query("SELECT fill_windows($1, 1)", board.name)
    board.put(windows=["all", "day"], timezone="Asia/Tokyo")
    assert board.ranks(window="day", period="2027-02-02") == [(1, "a", 3)]
    assert board.ranks(window="day", period="2027-02-01") == []


def test_the_ranking_of_a_period_leaves_redis_also_if_it_began_without_an_event(
    shared: Server, client: httpx.Client, module_stores: Stores
) -> None:
    board = open_board(shared, client, windows=["all", "day"], ties="dense")
    board.score("a", 1)
    with module_stores.redis() as redis:
        (key,) = [key for key in redis.scan_iter(f"sb:{{{board.name}}}:day:*") if not key.endswith(b":ties")]
        redis.delete(key, key + b":ties")
        redis.hset(f"sb:{{{board.name}}}:head", "day:size", 0)
        board.score("b", 1)
        assert redis.pttl(key) > 0
        assert redis.pttl(key + b":ties") > 0
    assert shared.run("rebuild", "--board", board.name).returncode == 0


def test_what_is_undone_in_an_earlier_period_is_nothing_new_in_this_one(
    shared: Server, client: httpx.Client, module_stores: Stores
) -> None:
    board = open_board(shared, client, windows=["all", "day"])
    board.set_time(module_stores, datetime(2027, 5, 1, tzinfo=UTC))
    board.score("a", 5)
    board.set_time(module_stores, datetime(2027, 5, 2, tzinfo=UTC))
    board.score("a", 2)
    with Stream(shared.stream_url(board.name, window="day")) as day, Stream(shared.stream_url(board.name)) as whole:
        for each in (day, whole):
            each.wait_for(lambda s: s.of("leaderboard"))
        path = f"/api/boards/{board.name}/events/1/revoke"
        assert client.post(path, json={"reason": "yesterday's"}).status_code == 200
        board.score("a", 1)
        for each in (day, whole):
            each.wait_for(lambda s: s.of("score-updated") and s.of("score-updated")[-1].data["points"] == 1)
        assert [frame.data["score"] for frame in day.of("score-updated")] == [3]
        assert [frame.data["score"] for frame in whole.of("score-updated")] == [2, 3]
    assert board.ranks(window="day", period="2027-05-01") == [(1, "a", 0)]
