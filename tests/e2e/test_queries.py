"""Queries as strict as bodies: nothing that a route does not take is ignored; lists and cursors mean what they say."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scoreboard.http import openapi
from scoreboard.http.fast_lane import parse_page_query, parse_stream_query
from scoreboard.http.query import parse_query
from tests.e2e.answers import build_request, check_problem, parse_answers
from tests.e2e.boards import admin_client, make_board, play
from tests.harness import Server, Stores, wait_until

PATHS = openapi.build()["paths"]
API = [(method.upper(), path) for path, methods in PATHS.items() if path.startswith("/api/") for method in methods]
SEGMENTS = {"board": "global", "userId": "alice", "action": "win", "group": "friends", "seq": "1"}
LATER = ("view", "atLeast", "by", "q", "hidden", "confirm", "tieBreak", "occurredAt", "order")
"""Parameters that may come one day."""
LENIENT = ("/", "/docs", "/demo", "/healthz", "/readyz", "/metrics", "/openapi.json", "/web/live.js")


@pytest.fixture(scope="module")
def admin(shared: Server) -> Iterator[httpx.Client]:
    with admin_client(shared) as client:
        yield client


def address(path: str) -> str:
    return re.sub("{([^}]+)}", lambda found: SEGMENTS[found[1]], path)


def taken(method: str, path: str) -> list[str]:
    """The parameters that the document has for a route."""
    return [each["name"] for each in PATHS[path][method.lower()]["parameters"] if each["in"] == "query"]


def check_field(answer: httpx.Response, field: str) -> None:
    problem = check_problem(answer, 422, "invalid", names=field)
    assert [error["field"] for error in problem["errors"]] == [field]  # type: ignore[attr-defined]


# -- which parameters


@pytest.mark.parametrize(("method", "path"), API, ids=map(" ".join, API))
def test_each_route_refuses_what_it_does_not_take(admin: httpx.Client, method: str, path: str) -> None:
    names = {each for other in API for each in taken(*other)} | {"nope", "Board", "boards", "token", *LATER}
    for name in sorted(names - set(taken(method, path))):
        check_field(admin.request(method, address(path), params={name: "1"}), name)


@pytest.mark.parametrize(("method", "path"), API, ids=map(" ".join, API))
def test_each_route_takes_what_the_document_says(admin: httpx.Client, method: str, path: str) -> None:
    """A value may be wrong, or not go with the others; the parameter is known."""
    method_asked = "HEAD" if path.endswith("/stream") else method  # a stream would not end
    for name in taken(method, path):
        answer = admin.request(method_asked, address(path), params={name: "9" * 20})
        assert "not a parameter" not in answer.text
        check_field(admin.request(method, f"{address(path)}?{name}="), name)
        check_field(admin.request(method, f"{address(path)}?{name}"), name)
        if name != "id":
            check_field(admin.request(method, f"{address(path)}?{name}=1&{name}=1"), name)


@pytest.mark.parametrize(("method", "path"), API, ids=map(" ".join, API))
def test_a_strange_parameter_is_told_after_who_asks(shared: Server, method: str, path: str) -> None:
    security = PATHS[path][method.lower()].get("security", [])
    with shared.client() as nobody:
        answer = nobody.request(method, address(path), params={"nope": "1"})
    assert answer.status_code == (422 if {} in security else 401)


@pytest.mark.parametrize("path", LENIENT)
def test_pages_and_probes_ignore_what_they_do_not_know(public: httpx.Client, path: str) -> None:
    plain, asked = public.get(path), public.get(path, params={"utm_source": "mail", "nope": ""})
    assert asked.status_code == plain.status_code
    assert asked.status_code in (200, 404)  # the demo is there with embedded stores only


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("board=global&window=all&limit=%", "limit"),
        ("board=%zz", "board"),
        ("board=%4", "board"),
        ("board=%ff", "board"),
        ("board=%ed%a0%80", "board"),
        ("b%6Fard=global&board=global", "board"),
        ("=1", "query"),
        ("%ff=1", "%ff"),
        ("n%00pe=1", "n\\x00pe"),
        ("limit=10&&limit=10", "limit"),
        ("cursor=x&offset=0", "cursor"),
        ("asOf=1&group=g", "group"),
        ("asOf=1&cursor=eA", "cursor"),
        ("asOf=1&window=day", "window"),
        ("period=2026-11-23", "period"),
        ("board=a%00b", "board"),
        ("asOf=10000-01-01T00:00:00Z", "asOf"),
        ("asOf=0001-01-01T00:00:00%2B23:59", "asOf"),
        ("window=day&period=0000-01-01", "period"),
        ("offset=9007199254740992", "offset"),
    ],
)
def test_what_is_wrong_with_a_query_is_named(shared: Server, query: str, field: str) -> None:
    (answer,) = parse_answers(shared.raw(build_request("GET", f"/api/leaderboard?{query}")))
    problem = check_problem(answer, 422, "invalid")
    assert [error["field"] for error in problem["errors"]] == [field]  # type: ignore[attr-defined]


def test_a_made_up_name_and_a_value_are_cut(public: httpx.Client) -> None:
    for params in ({"x" * 5_000: "1"}, {"limit": "x" * 5_000}, {"board": "\0" * 2_000}):
        problem = public.get("/api/leaderboard", params=params).json()
        assert "x" * 201 not in str(problem)
        assert problem["detail"].count("\\x00") <= 200
        assert len(problem["detail"]) < 1_000


@pytest.mark.parametrize("query", ["", "?", "?&", "?limit=10&", "?&limit=10", "?limit=10&&offset=0", "?b%6Fard=global"])
def test_forms_of_a_plain_query(public: httpx.Client, query: str) -> None:
    assert public.get(f"/api/leaderboard{query}").status_code == 200


NAMES = ["board", "window", "limit", "offset", "events", "cursor", "group", "lastEventId", "id", "nope", "b%6Fard", ""]
VALUES = ["global", "all", "day", "10", "007", "0", "101", "%31", "a%20b", "leaderboard", "leaderboard,leaderboard", ""]
PIECES = st.builds("{}={}".format, st.sampled_from(NAMES), st.sampled_from(VALUES)) | st.sampled_from(
    ["", "limit", "="]
)


class _Asked:
    """All of a request that a query is read from."""

    def __init__(self, query_string: str) -> None:
        self.query_string = query_string


@given(st.lists(PIECES, max_size=3).map("&".join))
@example("board=global&window=all&limit=10&offset=0")
@example("board=global&window=all&events=leaderboard")
def test_the_fast_lane_takes_no_query_that_is_refused(query: str) -> None:
    for parse, names in (
        (parse_page_query, ("board", "window", "limit", "offset")),
        (parse_stream_query, ("board", "window", "events")),
    ):
        if parse(query) is not None:
            strict = parse_query(_Asked(query), *names)  # type: ignore[arg-type]
            for name in names:
                value = strict.text(name)
                assert value is None or f"{name}={value}" in query


# -- users


def test_a_user_is_asked_for_once(admin: httpx.Client) -> None:
    board = make_board(admin, "named")
    play(admin, board, ann=1)
    for query in ("ids=ann,bob,ann", "ids=%61nn,ann", "id=ann&id=ann", "id=bob&id=ann&id=%61nn"):
        check_field(admin.get(f"/api/leaderboard/users?board={board}&{query}"), query[: query.index("=")])
    check_field(admin.get(f"/api/leaderboard/users?board={board}&ids=ann&id=bob"), "id")
    check_field(admin.get(f"/api/leaderboard/users?board={board}"), "ids")


@pytest.mark.parametrize("user", ["a,b", "100%", "%2C", ",", "a+b", "a b", "%", "ü,%"])
def test_any_id_can_be_one_of_a_list(admin: httpx.Client, user: str) -> None:
    once = quote(user, safe="")
    for query in (f"ids=x,{quote(once, safe='')},y", f"id=x&id={once}&id=y"):
        found = admin.get(f"/api/leaderboard/users?{query}")
        assert [entry["userId"] for entry in found.json()["leaderboard"]] == ["x", user, "y"], found.text


@pytest.mark.parametrize("ids", ["%25", "a,%25zz", "100%25", "%25f", "%25ff", "a,,b", ",", "a,"])
def test_an_entry_that_is_not_percent_encoded_is_refused(public: httpx.Client, ids: str) -> None:
    check_field(public.get(f"/api/leaderboard/users?ids={ids}"), "ids")


def test_a_hundred_users_at_most_by_either_way(public: httpx.Client) -> None:
    names = [f"u{number}" for number in range(101)]
    for query in (f"ids={','.join(names[:100])}", "&".join(f"id={name}" for name in names[:100])):
        assert len(public.get(f"/api/leaderboard/users?{query}").json()["leaderboard"]) == 100
    check_field(public.get(f"/api/leaderboard/users?ids={','.join(names)}"), "ids")
    check_field(public.get("/api/leaderboard/users?" + "&".join(f"id={name}" for name in names)), "id")


def test_an_event_is_asked_for_once(public: httpx.Client) -> None:
    check_field(public.get("/api/leaderboard/stream?events=leaderboard,leaderboard"), "events")


# -- cursors


@pytest.fixture(scope="module")
def walked(admin: httpx.Client) -> dict[str, str]:
    """Parameters of a page of two boards with the same users, and its cursor."""
    for board in ("walk", "other"):
        make_board(admin, board, windows=["all", "day", "week"])
        play(admin, board, ann=3, bob=2, cleo=1)
        members = {"members": ["ann", "bob", "cleo"]}
        for group in ("g", "h"):
            assert admin.put(f"/api/boards/{board}/groups/{group}", json=members).status_code == 201
    return {"board": "walk", "limit": "1"}


VIEWS: dict[str, dict[str, str]] = {
    "board": {"board": "walk"},
    "other board": {"board": "other"},
    "day": {"board": "walk", "window": "day"},
    "week": {"board": "walk", "window": "week"},
    "group": {"board": "walk", "group": "g"},
    "other group": {"board": "walk", "group": "h"},
    "day of a group": {"board": "walk", "window": "day", "group": "g"},
}


@pytest.mark.usefixtures("walked")
@pytest.mark.parametrize("of", VIEWS)
def test_a_cursor_is_good_for_what_it_came_from_alone(public: httpx.Client, of: str) -> None:
    cursor = public.get("/api/leaderboard", params=VIEWS[of] | {"limit": "1"}).json()["next"]
    assert len(cursor) < 80
    for name, view in VIEWS.items():
        answer = public.get("/api/leaderboard", params=view | {"limit": "1", "cursor": cursor})
        if name == of:
            assert [entry["userId"] for entry in answer.json()["leaderboard"]] == ["bob"]
        else:
            check_field(answer, "cursor")


@pytest.mark.usefixtures("walked")
def test_a_period_is_the_same_named_or_not(public: httpx.Client) -> None:
    view = {"board": "walk", "window": "day", "limit": "1"}
    page = public.get("/api/leaderboard", params=view).json()
    named = view | {"period": page["period"], "cursor": page["next"]}
    assert public.get("/api/leaderboard", params=named).json()["leaderboard"][0]["userId"] == "bob"
    check_field(public.get("/api/leaderboard", params=named | {"period": "2020-01-01"}), "cursor")


@pytest.mark.parametrize(
    "change",
    [{"ties": "dense"}, {"timezone": "Asia/Tokyo"}, {"windows": ["all", "day"]}, {"ties": "dense", "back": True}],
)
def test_a_cursor_ends_with_the_settings_it_was_made_under(
    admin: httpx.Client, change: dict[str, object], request: pytest.FixtureRequest
) -> None:
    board = make_board(admin, f"set-{re.sub('[^0-9]', '', request.node.callspec.id)}-{len(str(change))}")
    play(admin, board, ann=3, bob=2)
    asked = {"board": board, "limit": "1"}
    cursor = admin.get("/api/leaderboard", params=asked).json()["next"]
    assert admin.get("/api/leaderboard", params=asked | {"cursor": cursor}).status_code == 200
    assert admin.patch(f"/api/boards/{board}", json={"title": "Renamed"}).status_code == 200
    assert admin.get("/api/leaderboard", params=asked | {"cursor": cursor}).status_code == 200
    is_back = change.pop("back", False)
    assert admin.patch(f"/api/boards/{board}", json=change).status_code == 200
    if is_back:  # what is as it was is still another reading than the one before
        assert admin.patch(f"/api/boards/{board}", json={"ties": None}).status_code == 200
    check_field(admin.get("/api/leaderboard", params=asked | {"cursor": cursor}), "cursor")
    page = admin.get("/api/leaderboard", params=asked).json()
    assert admin.get("/api/leaderboard", params=asked | {"cursor": page["next"]}).status_code == 200


def test_a_cursor_of_a_history_that_was_replaced_is_refused(admin: httpx.Client, module_stores: Stores) -> None:
    board = make_board(admin, "replaced")
    play(admin, board, ann=3, bob=2)
    asked = {"board": board, "limit": "1", "window": "all"}
    cursor = admin.get("/api/leaderboard", params=asked).json()["next"]
    module_stores.query("UPDATE boards SET epoch = 'another' WHERE board_id = $1", board)
    # From now on the ranking is of another history; the page is that of the new one once it is noticed.
    wait_until(lambda: admin.get("/api/leaderboard", params=asked).json()["epoch"] == "another", what="the new history")
    check_field(admin.get("/api/leaderboard", params=asked | {"cursor": cursor}), "cursor")


def test_lists_go_on_by_cursor_and_by_after(admin: httpx.Client) -> None:
    board = make_board(admin, "listed")
    for group in ("a", "b", "c"):
        assert admin.put(f"/api/boards/{board}/groups/{group}", json={"members": ["x", "y", "z"]}).status_code == 201
    for path in ("/api/boards", f"/api/boards/{board}/groups", f"/api/boards/{board}/groups/a"):
        first = admin.get(path, params={"limit": 1}).json()
        (shown,) = first.get("boards") or first.get("groups") or first["members"]
        last = shown if isinstance(shown, str) else shown.get("group") or shown["board"]
        places = ({"cursor": first["next"]}, {"after": last})
        pages = [admin.get(path, params={"limit": 1, **place}).json() for place in places]
        assert pages[0] == pages[1] != first
        check_field(admin.get(path, params={"cursor": first["next"], "after": last}), "after")
        check_field(admin.get(path, params={"cursor": last}), "cursor")


def test_a_cursor_of_a_list_is_good_for_that_list_alone(admin: httpx.Client) -> None:
    boards = [make_board(admin, name, windows=["all", "day", "week"]) for name in ("bound-1", "bound-2")]
    paths = ["/api/boards?", "/api/leaderboard?board=bound-1&"]
    for board in boards:
        play(admin, board, x=1, y=1)
        for group in ("a", "b"):
            assert admin.put(f"/api/boards/{board}/groups/{group}", json={"members": ["x", "y"]}).status_code == 201
        paths += [f"/api/boards/{board}/groups?", *(f"/api/boards/{board}/groups/{group}?" for group in "ab")]
    cursors = {path: admin.get(f"{path}limit=1").json()["next"] for path in paths}
    assert all(cursors.values()) and len(set(cursors.values())) == len(paths)
    for of, cursor in cursors.items():
        for path in paths:
            answer = admin.get(f"{path}limit=1&cursor={cursor}")
            if path == of:
                assert answer.status_code == 200, answer.text
            else:
                check_field(answer, "cursor")
    for wrong in ("x", "global", cursors[paths[0]][:-4], cursors[paths[0]] + "!", "A" * 600):
        check_field(admin.get("/api/boards", params={"cursor": wrong}), "cursor")


def test_a_cursor_of_periods_is_of_one_window(admin: httpx.Client, module_stores: Stores) -> None:
    board = make_board(admin, "bound-periods", windows=["all", "day", "week"])
    play(admin, board, x=1)
    later = datetime.now(UTC) + timedelta(days=15)
    module_stores.query("UPDATE boards SET last_at = $1, clock_at = $1 WHERE board_id = $2", later, board)
    play(admin, board, x=1)
    path = f"/api/boards/{board}/periods"
    for window, other in (("day", "week"), ("week", "day")):
        first = admin.get(path, params={"window": window, "limit": 1}).json()
        going_on = ({"cursor": first["next"]}, {"before": first["periods"][0]["period"]})
        rest = [admin.get(path, params={"window": window, **place}).json() for place in going_on]
        assert rest[0] == rest[1]
        assert len(rest[0]["periods"]) == 1
        check_field(admin.get(path, params={"window": other, "cursor": first["next"]}), "cursor")
        check_field(admin.get(path, params={"window": window, "cursor": first["periods"][0]["period"]}), "cursor")


# -- order of checks


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/leaderboard?board=nowhere&window=week&period=2026-11-24", 404),
        ("/api/leaderboard?board=global&window=all&period=2026-11-24", 422),
        ("/api/leaderboard?board=nowhere&window=all&period=2026-11-24", 422),
        ("/api/users/alice/stats?board=nowhere&window=month&period=2026-11-24", 404),
        ("/api/leaderboard/around/alice?board=nowhere&window=month&period=2026-11-24", 404),
        ("/api/leaderboard/users?board=nowhere&ids=alice&window=week&period=2026-11-24", 404),
        ("/api/leaderboard?board=nowhere&group=g&window=week&period=2026-11-24", 404),
        ("/api/leaderboard?board=nowhere&asOf=99999", 404),
        ("/api/boards/nowhere/periods?window=day", 404),
        ("/api/boards/nowhere/periods", 422),
    ],
)
def test_what_must_be_looked_up_in_the_board_comes_after_404(public: httpx.Client, path: str, status: int) -> None:
    check_problem(public.get(path), status, {"not_found", "invalid"})


@pytest.mark.parametrize("window", ["week", "month"])
def test_a_day_on_which_no_period_begins_is_refused(admin: httpx.Client, window: str) -> None:
    board = make_board(admin, f"begins-{window}", windows=["all", "week", "month"])
    for path in ("/api/leaderboard", "/api/users/a/stats", "/api/leaderboard/around/a", "/api/leaderboard/users"):
        ids = {"ids": "a"} if path.endswith("users") else {}
        check_field(admin.get(path, params={"board": board, "window": window, "period": "2026-11-24"} | ids), "period")


@pytest.mark.parametrize("period", ["0001-01-01", "9999-12-31"])
def test_the_first_and_the_last_day_are_empty(admin: httpx.Client, period: str) -> None:
    board = make_board(admin, f"ends-{period}", windows=["all", "day", "week"], timezone="Asia/Tokyo")
    for group in ({}, {"group": "g"}):
        if group:
            assert admin.put(f"/api/boards/{board}/groups/g", json={"members": ["a"]}).status_code == 201
        answer = admin.get("/api/leaderboard", params={"board": board, "window": "day", "period": period} | group)
        assert (answer.status_code, answer.json()["leaderboard"]) == (200, []), answer.text
    assert admin.get(f"/api/boards/{board}/periods", params={"window": "day", "before": period}).status_code == 200
    at = {"0001-01-01": "0001-01-01T00:00:00Z", "9999-12-31": "9999-12-31T23:59:59.999Z"}[period]
    answer = admin.get("/api/leaderboard", params={"board": board, "asOf": at})
    assert answer.status_code in (200, 422)
    assert answer.status_code == 422 or answer.json()["asOf"] == "0001-01-01T00:00:00.000Z"


def test_a_body_is_judged_before_the_user_and_the_user_before_the_board(shared: Server) -> None:
    with shared.client("eve") as eve:
        for body, status in (
            ({"actionId": "win", "userId": "victim", "nope": 1}, 422),
            ({"actionId": "win", "userId": "victim", "points": 1}, 422),
            ({"actionId": "win", "userId": "victim", "board": "nowhere"}, 403),
            ({"actionId": "win", "board": "nowhere"}, 404),
        ):
            assert eve.post("/api/scores", json=body).status_code == status, body
        assert eve.get("/api/users/victim/history?limit=0").status_code == 422
        assert eve.get("/api/users/victim/history?board=nowhere").status_code == 403
        assert eve.get("/api/users/eve/history?board=nowhere").status_code == 404
        assert eve.put("/api/boards/nowhere", content=b"x" * 20_000).status_code == 403
        assert eve.delete("/api/users/victim?nope=1").status_code == 422
        assert eve.delete("/api/users/victim").status_code == 403


@pytest.mark.parametrize(
    ("method", "path"), [(method, path) for method, path in API if "requestBody" in PATHS[path][method.lower()]]
)
def test_nobody_and_players_are_told_so_before_their_body_is_read(shared: Server, method: str, path: str) -> None:
    for user, status in ((None, 401), ("eve", 403)):
        if user and path == "/api/scores":
            continue
        request = build_request(method, address(path), user=user, content_length="10000000")
        (answer,) = parse_answers(shared.raw(request))
        assert answer.status_code == status, answer.content


def test_wrong_points_of_an_action_are_told_before_the_board(admin: httpx.Client) -> None:
    body = {"points": {"min": 2, "max": 1}}
    check_field(admin.put("/api/boards/nowhere/actions/win", json=body), "points.min")


@given(query=st.text(st.sampled_from("&=%,+;ab1 %\0é"), max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_query_is_answered_or_refused(public: httpx.Client, query: str) -> None:
    for path in ("/api/leaderboard", "/api/leaderboard/users", "/api/boards"):
        answer = public.get(f"{path}?{quote(query, safe='&=%,+;')}")
        assert answer.status_code in (200, 404, 422), answer.text
