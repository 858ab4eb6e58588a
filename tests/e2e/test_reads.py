"""Reads: pages, tags, stats, history, boards, and who may read."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import httpx
import pytest

from tests.e2e.answers import check_problem
from tests.harness import Server, Stream, make_token

USERS = 26
ODD_USERS = [
    "Ünï",
    "a/b",
    "🏆 x",
    "%41",
    "a?b=c&d",
    "a#b",
    "...",
    "a+b",
    "a;b,c",
    '"q"',
    "<b>",
    "\u0646\u06cc\u200c\u0645",
]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@pytest.fixture(scope="module")
def admin(shared: Server) -> Iterator[httpx.Client]:
    with shared.client("admin", "admin scores:any") as client:
        yield client


def make_board(admin: httpx.Client, board: str, **points: int) -> None:
    """A board with actions by their points."""
    assert admin.put(f"/api/boards/{board}", json={"title": f"The {board}"}).status_code == 201
    for action, worth in points.items():
        assert admin.put(f"/api/boards/{board}/actions/{action}", json={"points": worth}).status_code == 201


def play(admin: httpx.Client, board: str, user: str, action: str = "win") -> dict[str, object]:
    answer = admin.post("/api/scores", json={"board": board, "userId": user, "actionId": action})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def read(client: httpx.Client, board: str, **query: object) -> dict[str, object]:
    answer = client.get("/api/leaderboard", params={"board": board, **query})  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


@pytest.fixture(scope="module")
def alphabet(admin: httpx.Client) -> str:
    """26 users in groups of equal score: 7 with 30, 12 with 20, 7 with 10."""
    make_board(admin, "alphabet", low=10, mid=20, top=30)
    for number in range(USERS):
        play(admin, "alphabet", f"user-{chr(ord('a') + number)}", ("low", "mid", "top", "mid")[number % 4])
    return "alphabet"


@pytest.fixture(scope="module")
def ranked(public: httpx.Client, alphabet: str) -> list[dict[str, object]]:
    """The whole board, as one page."""
    entries: list[dict[str, object]] = read(public, alphabet, limit=100)["leaderboard"]  # type: ignore[assignment]
    return entries


# -- pages


def test_page_has_the_fields_of_the_contract_and_no_others(public: httpx.Client, alphabet: str) -> None:
    page = read(public, alphabet, limit=2)
    assert set(page) == {"board", "window", "leaderboard", "total", "seq", "epoch", "next"}
    assert (page["board"], page["window"], page["total"], page["seq"]) == (alphabet, "all", USERS, USERS)
    assert isinstance(page["epoch"], str)
    assert page["leaderboard"] == [
        {"rank": 1, "userId": "user-c", "displayName": None, "score": 30},
        {"rank": 1, "userId": "user-g", "displayName": None, "score": 30},
    ]


def test_board_is_ordered_by_score_then_user_id_with_shared_ranks(ranked: list[dict[str, object]]) -> None:
    order = [(-int(str(entry["score"])), str(entry["userId"]).encode()) for entry in ranked]
    assert order == sorted(order)
    scores = [entry["score"] for entry in ranked]
    assert [entry["rank"] for entry in ranked] == [scores.index(score) + 1 for score in scores]


def test_page_has_ten_entries_by_default(public: httpx.Client, alphabet: str, ranked: list[dict[str, object]]) -> None:
    page = read(public, alphabet)
    assert page["leaderboard"] == ranked[:10]
    assert isinstance(page["next"], str)


@pytest.mark.parametrize("limit", [1, 5, 7, 10, 12, 25, 26, 100])
def test_walk_by_cursor_yields_every_user_exactly_once(
    public: httpx.Client, alphabet: str, ranked: list[dict[str, object]], limit: int
) -> None:
    walked: list[object] = []
    cursor: dict[str, object] = {}
    while True:
        page = read(public, alphabet, limit=limit, **cursor)
        assert 1 <= len(page["leaderboard"]) <= limit  # type: ignore[arg-type]
        walked += page["leaderboard"]  # type: ignore[operator]
        assert len(walked) <= USERS
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert walked == ranked


@pytest.mark.parametrize("limit", [1, 5, 7, 26])
def test_walk_by_offset_yields_every_user_exactly_once(
    public: httpx.Client, alphabet: str, ranked: list[dict[str, object]], limit: int
) -> None:
    walked: list[object] = []
    for offset in range(0, USERS, limit):
        page = read(public, alphabet, limit=limit, offset=offset)
        walked += page["leaderboard"]  # type: ignore[operator]
        assert (page["next"] is None) == (offset + limit >= USERS)
    assert walked == ranked


def test_cursor_goes_on_from_an_offset(public: httpx.Client, alphabet: str, ranked: list[dict[str, object]]) -> None:
    page = read(public, alphabet, limit=4, offset=9)
    assert page["leaderboard"] == ranked[9:13]
    assert read(public, alphabet, limit=4, cursor=page["next"])["leaderboard"] == ranked[13:17]


@pytest.mark.parametrize("offset", [USERS, USERS + 1, 1_000_000, 2**53 - 1])
def test_page_beyond_the_end_is_empty(public: httpx.Client, alphabet: str, offset: int) -> None:
    page = read(public, alphabet, offset=offset)
    assert (page["leaderboard"], page["total"], page["next"]) == ([], USERS, None)


def test_walk_by_cursor_passes_over_users_who_moved_but_none_who_stayed(admin: httpx.Client) -> None:
    make_board(admin, "moving", win=10, big=1_000)
    for number in range(9):
        play(admin, "moving", f"u{number}")
    first = read(admin, "moving", limit=3)
    play(admin, "moving", "u8", "big")
    rest = read(admin, "moving", limit=100, cursor=first["next"])
    seen = [entry["userId"] for page in (first, rest) for entry in page["leaderboard"]]  # type: ignore[attr-defined]
    assert seen == [f"u{number}" for number in range(8)]


@pytest.mark.parametrize("size", [127, 128, 129])
def test_board_is_paged_the_same_on_both_sides_of_128_users(admin: httpx.Client, shared: Server, size: int) -> None:
    """The ranking's encoding changes at 128 entries."""
    board = f"size-{size}"
    make_board(admin, board, win=10)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: play(admin, board, f"u{number:03}"), range(size)))
    first = read(admin, board, limit=100)
    rest = read(admin, board, limit=100, cursor=first["next"])
    entries = [*first["leaderboard"], *rest["leaderboard"]]  # type: ignore[misc]
    assert [entry["userId"] for entry in entries] == [f"u{number:03}" for number in range(size)]
    assert {entry["rank"] for entry in entries} == {1}


def test_board_without_scores_is_an_empty_page(admin: httpx.Client) -> None:
    make_board(admin, "empty")
    page = read(admin, "empty")
    assert (page["leaderboard"], page["total"], page["seq"], page["next"]) == ([], 0, 0, None)


def test_long_user_ids_are_ranked(admin: httpx.Client) -> None:
    make_board(admin, "long", win=1)
    users = ["a" * 63, "a" * 64, "🏆" * 64, "é" * 64]
    for user in users:
        play(admin, "long", user)
    page = read(admin, "long", limit=2)
    rest = read(admin, "long", limit=2, cursor=page["next"])
    seen = [entry["userId"] for each in (page, rest) for entry in each["leaderboard"]]  # type: ignore[attr-defined]
    assert seen == sorted(users, key=lambda user: user.encode())


# -- tags


def test_page_has_a_strong_tag_that_changes_with_the_board(admin: httpx.Client) -> None:
    make_board(admin, "tagged", win=10)
    first = admin.get("/api/leaderboard", params={"board": "tagged"})
    again = admin.get("/api/leaderboard", params={"board": "tagged"})
    play(admin, "tagged", "alice")
    changed = admin.get("/api/leaderboard", params={"board": "tagged"})
    assert re.fullmatch(r'"[^"]+"', first.headers["etag"])
    assert again.headers["etag"] == first.headers["etag"]
    assert changed.headers["etag"] != first.headers["etag"]


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', '{}, "other"', '"a",W/{} ,"b"', "*"])
def test_matching_tag_gets_304_without_a_body(public: httpx.Client, alphabet: str, form: str) -> None:
    page = public.get("/api/leaderboard", params={"board": alphabet})
    headers = {"If-None-Match": form.format(page.headers["etag"])}
    answer = public.get("/api/leaderboard", params={"board": alphabet}, headers=headers)
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer.headers["etag"] == page.headers["etag"]


@pytest.mark.parametrize("tag", ['"other"', 'W/"other"', "", "garbage", '"'])
def test_other_tag_gets_the_page(public: httpx.Client, alphabet: str, tag: str) -> None:
    answer = public.get("/api/leaderboard", params={"board": alphabet}, headers={"If-None-Match": tag})
    assert answer.status_code == 200


def test_connection_goes_on_after_a_304(public: httpx.Client, alphabet: str) -> None:
    for _ in range(3):
        answer = public.get("/api/leaderboard", params={"board": alphabet}, headers={"If-None-Match": "*"})
        assert answer.status_code == 304
        assert read(public, alphabet)["total"] == USERS


def test_tags_of_boards_differ(admin: httpx.Client) -> None:
    for board in ("tag-a", "tag-b"):
        make_board(admin, board)
    tags = [admin.get("/api/leaderboard", params={"board": board}).headers["etag"] for board in ("tag-a", "tag-b")]
    assert tags[0] != tags[1]


# -- freshness


def test_nobody_reads_older_than_their_own_last_write(admin: httpx.Client, shared: Server) -> None:
    make_board(admin, "fresh", win=1)
    with shared.client() as reader:
        for number in range(1, 101):
            receipt = play(admin, "fresh", f"u{number % 7}")
            page = read(reader, "fresh", limit=(10, 3, 100)[number % 3])
            assert int(str(page["seq"])) >= int(str(receipt["seq"])) == number
            scores = {entry["userId"]: entry["score"] for entry in page["leaderboard"]}  # type: ignore[attr-defined]
            assert scores.get(receipt["userId"], receipt["newScore"]) == receipt["newScore"]


def test_stats_are_not_older_than_the_last_write(admin: httpx.Client) -> None:
    make_board(admin, "fresh-stats", win=1)
    for number in range(1, 51):
        play(admin, "fresh-stats", "alice")
        stats = admin.get("/api/users/alice/stats", params={"board": "fresh-stats"}).json()
        assert (stats["score"], stats["submissions"], stats["seq"]) == (number, number, number)


# -- stats


def test_stats_have_the_fields_of_the_contract_and_no_others(public: httpx.Client, admin: httpx.Client) -> None:
    make_board(admin, "stats", low=5, top=10)
    times = [play(admin, "stats", "alice", "low")["at"]]
    for user in ("bob", "carol", "dave"):
        play(admin, "stats", user, "top" if user != "dave" else "low")
    times.append(play(admin, "stats", "alice", "low")["at"])
    stats = public.get("/api/users/alice/stats", params={"board": "stats"}).json()
    assert stats == {
        "userId": "alice",
        "displayName": None,
        "board": "stats",
        "window": "all",
        "score": 10,
        "rank": 1,
        "total": 4,
        "percentile": 25,
        "submissions": 2,
        "firstAt": times[0],
        "lastAt": times[1],
        "seq": 5,
    }
    assert TIME.fullmatch(stats["firstAt"])


def test_percentile_is_the_share_of_strictly_lower_scores(public: httpx.Client, alphabet: str) -> None:
    seen = {}
    for user in ("user-c", "user-b", "user-a"):
        stats = public.get(f"/api/users/{user}/stats", params={"board": alphabet}).json()
        seen[stats["score"]] = (stats["rank"], stats["percentile"])
    top, mid, low = (sum(n % 4 in kinds for n in range(USERS)) for kinds in ((2,), (1, 3), (0,)))
    assert seen == {
        30: (1, 100 * (mid + low) / USERS),
        20: (top + 1, 100 * low / USERS),
        10: (top + mid + 1, 0),
    }


def test_stats_of_a_user_without_a_score_are_not_found(public: httpx.Client, alphabet: str) -> None:
    answer = public.get("/api/users/nobody/stats", params={"board": alphabet})
    check_problem(answer, 404, "not_found", names="nobody")


def segment(text: str) -> str:
    """A path segment, with dots encoded too: a client drops ``.`` and ``..``."""
    return quote(text, safe="").replace(".", "%2E")


@pytest.mark.parametrize("user", ODD_USERS)
def test_any_user_id_can_be_asked_for(admin: httpx.Client, user: str) -> None:
    play(admin, "global", user)
    stats = admin.get(f"/api/users/{segment(user)}/stats")
    assert stats.status_code == 200, stats.text
    assert stats.json()["userId"] == user
    history = admin.get(f"/api/users/{segment(user)}/history")
    assert history.json()["events"][0]["actionId"] == "win"


def test_unreserved_characters_may_be_percent_encoded(admin: httpx.Client) -> None:
    play(admin, "global", "plain")
    assert admin.get("/api/users/%70%6c%61%69%6e/stats").json()["userId"] == "plain"
    assert admin.get("/api/boards/%67lobal").json()["board"] == "global"


# -- history


def test_history_is_newest_first_with_the_fields_of_the_contract(admin: httpx.Client, shared: Server) -> None:
    make_board(admin, "history", win=10, foul=-3)
    receipts = [play(admin, "history", "alice", action) for action in ("win", "foul", "win")]
    play(admin, "history", "bob")
    with shared.client("alice") as alice:
        page = alice.get("/api/users/alice/history", params={"board": "history"}).json()
    assert page == {
        "events": [
            {
                "seq": receipt["seq"],
                "actionId": receipt["actionId"],
                "points": receipt["points"],
                "scoreAfter": receipt["newScore"],
                "at": receipt["at"],
            }
            for receipt in reversed(receipts)
        ],
        "next": None,
    }


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 50])
def test_history_is_paged_by_before(admin: httpx.Client, limit: int) -> None:
    board = f"pages-{limit}"
    make_board(admin, board, win=10)
    for number in range(14):
        play(admin, board, ("alice", "bob")[number % 2])
    walked: list[int] = []
    query: dict[str, object] = {}
    while True:
        page = admin.get("/api/users/alice/history", params={"board": board, "limit": limit, **query}).json()  # type: ignore[arg-type]
        assert 1 <= len(page["events"]) <= limit
        walked += [event["seq"] for event in page["events"]]
        if page["next"] is None:
            break
        assert page["next"] == walked[-1]
        query = {"before": page["next"]}
    assert walked == [13, 11, 9, 7, 5, 3, 1]


def test_history_of_a_user_without_events_is_empty(shared: Server) -> None:
    with shared.client("newborn") as client:
        assert client.get("/api/users/newborn/history").json() == {"events": [], "next": None}


def test_history_is_for_the_user_and_for_admins(shared: Server) -> None:
    shared.submit("private")
    statuses = {}
    for user, scope in (("private", ""), ("admin", "admin"), ("other", ""), ("other", "scores:any")):
        with shared.client(user, scope) as client:
            statuses[user, scope] = client.get("/api/users/private/history").status_code
    assert statuses == {("private", ""): 200, ("admin", "admin"): 200, ("other", ""): 403, ("other", "scores:any"): 403}


# -- boards and actions


def test_new_board_is_201_and_a_changed_one_200(admin: httpx.Client, public: httpx.Client) -> None:
    created = admin.put("/api/boards/season", json={"title": "Season 1", "timezone": "Europe/Berlin"})
    changed = admin.put("/api/boards/season", json={"title": "Season 2"})
    assert (created.status_code, changed.status_code) == (201, 200)
    board = public.get("/api/boards/season").json()
    assert (board["title"], board["windows"], board["ties"]) == ("Season 2", ["all"], "shared")


def test_boards_are_listed(admin: httpx.Client, public: httpx.Client) -> None:
    make_board(admin, "listed-1")
    make_board(admin, "listed-2")
    boards = [board["board"] for board in public.get("/api/boards", params={"limit": 1_000}).json()["boards"]]
    assert {"global", "listed-1", "listed-2"} <= set(boards)
    assert boards == sorted(boards)


def test_list_of_boards_is_paged(admin: httpx.Client, public: httpx.Client) -> None:
    for number in range(3):
        make_board(admin, f"paged-{number}")
    whole = [board["board"] for board in public.get("/api/boards", params={"limit": 1_000}).json()["boards"]]
    walked: list[str] = []
    query: dict[str, object] = {"limit": 2}
    while True:
        page = public.get("/api/boards", params=query).json()  # type: ignore[arg-type]
        walked += [board["board"] for board in page["boards"]]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert walked == whole


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"ties": "random"}, "ties"),
        ({"ties": None}, "ties"),
        ({"windows": []}, "windows"),
        ({"windows": ["day"]}, "windows"),
        ({"windows": ["all", "day", "day"]}, "windows"),
        ({"windows": ["year"]}, "windows"),
        ({"windows": "all"}, "windows"),
        ({"operator": "median"}, "operator"),
        ({"floor": 0.5}, "floor"),
        ({"floor": 0, "operator": "best"}, "floor"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": ""}, "timezone"),
        ({"timezone": "../etc/passwd"}, "timezone"),
        ({"timezone": 1}, "timezone"),
        ({"title": "x" * 201}, "title"),
        ({"title": None}, "title"),
        ({"title": "a\0b"}, "title"),
        ({"name": "x"}, "name"),
    ],
)
def test_bad_board_is_refused_and_the_field_named(admin: httpx.Client, body: dict[str, object], field: str) -> None:
    check_problem(admin.put("/api/boards/bad", json=body), 422, "invalid", names=field)
    assert admin.get("/api/boards/bad").status_code == 404


def test_new_action_is_201_and_a_changed_one_200(admin: httpx.Client, public: httpx.Client) -> None:
    make_board(admin, "acting")
    whole = {"points": 7, "cooldownSeconds": 5, "dailyCap": 3, "enabled": False}
    created = admin.put("/api/boards/acting/actions/jump", json=whole)
    assert created.status_code == 201
    (action,) = public.get("/api/boards/acting/actions").json()["actions"]
    assert action == {"actionId": "jump", **whole}
    changed = admin.put("/api/boards/acting/actions/jump", json={"points": 8})
    assert changed.status_code == 200
    (action,) = public.get("/api/boards/acting/actions").json()["actions"]
    assert action == {"actionId": "jump", "points": 8, "cooldownSeconds": 0, "dailyCap": None, "enabled": True}


def test_deleted_action_is_disabled_and_history_keeps_it(admin: httpx.Client) -> None:
    make_board(admin, "deleting", win=10)
    play(admin, "deleting", "alice")
    assert admin.delete("/api/boards/deleting/actions/win").status_code == 204
    body = {"actionId": "win", "board": "deleting", "userId": "alice"}
    check_problem(admin.post("/api/scores", json=body), 422, "action_disabled", names="win")
    assert read(admin, "deleting")["leaderboard"][0]["score"] == 10  # type: ignore[index]
    events = admin.get("/api/users/alice/history", params={"board": "deleting"}).json()["events"]
    assert [event["actionId"] for event in events] == ["win"]
    assert [action["enabled"] for action in admin.get("/api/boards/deleting/actions").json()["actions"]] == [False]


@pytest.mark.parametrize("path", ["/api/boards/global/actions/none", "/api/boards/no-such/actions/win"])
def test_unknown_action_cannot_be_deleted(admin: httpx.Client, path: str) -> None:
    check_problem(admin.delete(path), 404, "not_found")


def test_action_of_an_unknown_board_cannot_be_put(admin: httpx.Client) -> None:
    check_problem(admin.put("/api/boards/no-such/actions/win", json={"points": 1}), 404, "not_found", names="no-such")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "points"),
        ({"points": None}, "points"),
        ({"points": "10"}, "points"),
        ({"points": 1.5}, "points"),
        ({"points": True}, "points"),
        ({"points": 2**53}, "points"),
        ({"points": -(2**53)}, "points"),
        ({"points": 1, "cooldownSeconds": -1}, "cooldownSeconds"),
        ({"points": 1, "cooldownSeconds": None}, "cooldownSeconds"),
        ({"points": 1, "cooldownSeconds": 1.5}, "cooldownSeconds"),
        ({"points": 1, "cooldownSeconds": 2**31}, "cooldownSeconds"),
        ({"points": 1, "dailyCap": 0}, "dailyCap"),
        ({"points": 1, "dailyCap": -1}, "dailyCap"),
        ({"points": 1, "dailyCap": 2**40}, "dailyCap"),
        ({"points": 1, "enabled": "yes"}, "enabled"),
        ({"points": 1, "enabled": None}, "enabled"),
        ({"points": 1, "score": 1}, "score"),
    ],
)
def test_bad_action_is_refused_and_the_field_named(admin: httpx.Client, body: dict[str, object], field: str) -> None:
    check_problem(admin.put("/api/boards/global/actions/bad", json=body), 422, "invalid", names=field)
    assert "bad" not in [action["actionId"] for action in admin.get("/api/boards/global/actions").json()["actions"]]


@pytest.mark.parametrize("points", [b"18446744073709551616", b"9223372036854775808", b"1e400", b"NaN", b"10.0e0"])
def test_points_that_are_no_integer_of_64_bits_are_refused(admin: httpx.Client, points: bytes) -> None:
    body, headers = b'{"points":' + points + b"}", {"content-type": "application/json"}
    answer = admin.put("/api/boards/global/actions/huge", content=body, headers=headers)
    check_problem(answer, {400, 422}, {"malformed_json", "invalid"})


def test_points_at_the_limits_are_taken(admin: httpx.Client) -> None:
    make_board(admin, "limits")
    for points in (2**53 - 1, -(2**53) + 1, 0):
        answer = admin.put("/api/boards/limits/actions/edge", json={"points": points})
        assert answer.json()["points"] == points


def test_two_boards_are_independent(admin: httpx.Client) -> None:
    make_board(admin, "left", win=1)
    make_board(admin, "right", win=100)
    for board in ("left", "right", "right"):
        play(admin, board, "alice")
    play(admin, "right", "bob")
    assert [(page["seq"], page["total"]) for page in (read(admin, "left"), read(admin, "right"))] == [(1, 1), (3, 2)]
    stats = {b: admin.get("/api/users/alice/stats", params={"board": b}).json()["score"] for b in ("left", "right")}
    assert stats == {"left": 1, "right": 200}
    assert admin.delete("/api/boards/left/actions/win").status_code == 204
    assert play(admin, "right", "bob")["newScore"] == 200


def test_board_may_have_any_name_of_the_allowed_characters(admin: httpx.Client) -> None:
    for board in ("...", "-", "_", "A.b-c_9", "b" * 64):
        assert admin.put(f"/api/boards/{segment(board)}", json={}).status_code == 201
        assert read(admin, board)["board"] == board


# -- who may read

READS = [
    "/api/leaderboard",
    "/api/users/reader/stats",
    "/api/boards",
    "/api/boards/global",
    "/api/boards/global/actions",
]


@pytest.fixture(scope="module")
def private(start_shared: Callable[..., Server], shared: Server) -> Server:
    """A server that shows boards only to those with a token."""
    server = start_shared(PUBLIC_READS="false")
    server.submit("reader")
    return server


@pytest.mark.parametrize("path", READS)
def test_private_reads_need_a_token(private: Server, path: str) -> None:
    with private.client() as client:
        answer = client.get(path)
    check_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", READS)
def test_private_reads_accept_the_header_and_the_cookie(private: Server, path: str) -> None:
    with private.client("reader") as client:
        assert client.get(path).status_code == 200
    with private.client() as client:
        assert client.get(path, headers={"Cookie": f"scoreboard_token={make_token('reader')}"}).status_code == 200


def test_private_reads_refuse_a_bad_token_wherever_it_is(private: Server) -> None:
    bad = make_token("reader", secret="another secret of more than thirty-two bytes")
    with private.client() as client:
        for headers in ({"Authorization": f"Bearer {bad}"}, {"Cookie": f"scoreboard_token={bad}"}):
            answer = client.get("/api/leaderboard", headers=headers)
            check_problem(answer, 401, "unauthenticated")
            assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_private_reads_take_no_token_from_the_query(private: Server) -> None:
    with private.client() as client:
        for name in ("token", "access_token", "scoreboard_token"):
            assert client.get("/api/leaderboard", params={name: make_token("reader")}).status_code == 401


def test_cookie_does_not_sign_in_for_history_or_submissions(private: Server) -> None:
    headers = {"Cookie": f"scoreboard_token={make_token('reader', 'admin')}"}
    with private.client() as client:
        assert client.get("/api/users/reader/history", headers=headers).status_code == 401
        assert client.post("/api/scores", json={"actionId": "win"}, headers=headers).status_code == 401
        assert client.put("/api/boards/x", json={}, headers=headers).status_code == 401


def test_private_stream_is_opened_by_the_cookie(private: Server) -> None:
    headers = {"Cookie": f"other=1; scoreboard_token={make_token('reader')}"}
    with Stream(f"{private.url}/api/leaderboard/stream", headers=headers) as stream:
        stream.wait_for(lambda s: s.frames)
        assert stream.status == 200


def test_operations_stay_open_on_a_private_server(private: Server) -> None:
    with private.client() as client:
        for path in ("/healthz", "/readyz", "/openapi.json", "/docs", "/"):
            assert client.get(path).status_code == 200


# -- around a user, and several users


@pytest.fixture(scope="module")
def ladder(shared: Server, admin: httpx.Client) -> str:
    """A board of eleven: u00 has most, and the ones in the middle are tied."""
    make_board(admin, "ladder", step=1)
    for number in range(11):
        times = 11 - number if number not in (4, 5, 6) else 6
        items = [{"actionId": "step", "userId": f"u{number:02}"}] * times
        assert admin.post("/api/scores/batch", json={"board": "ladder", "submissions": items}).status_code == 200
    return "ladder"


def read_around(client: httpx.Client, board: str, user: str, radius: int | None = None) -> list[tuple[int, str]]:
    params = {"board": board} | ({"radius": radius} if radius is not None else {})
    answer = client.get(f"/api/leaderboard/around/{quote(user, safe='')}", params=params)
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"board", "window", "leaderboard", "total", "seq", "epoch"}
    return [(entry["rank"], entry["userId"]) for entry in answer.json()["leaderboard"]]


@pytest.mark.parametrize(
    ("user", "radius", "first", "size"),
    [
        ("u05", 1, 4, 3),
        ("u05", None, 0, 11),
        ("u05", 2, 3, 5),
        ("u00", 2, 0, 5),
        ("u01", 2, 0, 5),
        ("u10", 2, 6, 5),
        ("u09", 2, 6, 5),
        ("u05", 0, 5, 1),
        ("u05", 50, 0, 11),
    ],
)
def test_neighbours_fill_up_from_the_other_side_at_an_edge(
    public: httpx.Client, ladder: str, user: str, radius: int | None, first: int, size: int
) -> None:
    page = public.get("/api/leaderboard", params={"board": ladder, "limit": 100}).json()["leaderboard"]
    expected = [(entry["rank"], entry["userId"]) for entry in page][first : first + size]
    assert read_around(public, ladder, user, radius) == expected


def test_tied_neighbours_share_the_rank_of_the_page(public: httpx.Client, ladder: str) -> None:
    assert read_around(public, ladder, "u05", 1) == [(5, "u04"), (5, "u05"), (5, "u06")]
    assert read_around(public, ladder, "u06", 0) == [(5, "u06")]


def test_a_board_of_one_has_no_neighbours(public: httpx.Client, admin: httpx.Client) -> None:
    make_board(admin, "lonely", step=1)
    assert admin.post("/api/scores", json={"board": "lonely", "actionId": "step", "userId": "me"}).status_code == 200
    assert read_around(public, "lonely", "me") == [(1, "me")]


@pytest.fixture(scope="module")
def oddities(admin: httpx.Client) -> str:
    make_board(admin, "oddities", step=1)
    return "oddities"


@pytest.mark.usefixtures("oddities")
@pytest.mark.parametrize("user", ODD_USERS)
def test_odd_users_are_found_by_their_ids(public: httpx.Client, admin: httpx.Client, user: str) -> None:
    assert admin.post("/api/scores", json={"board": "oddities", "actionId": "step", "userId": user}).status_code == 200
    assert user in [found for _, found in read_around(public, "oddities", user, 50)]
    once, twice = quote(user, safe=""), quote(quote(user, safe=""), safe="")
    for query in (f"ids=nobody,{twice}", f"id=nobody&id={once}"):
        entries = public.get(f"/api/leaderboard/users?board=oddities&{query}").json()["leaderboard"]
        assert [entry["userId"] for entry in entries] == ["nobody", user]
        assert [entry["score"] for entry in entries] == [None, 1]


def test_users_come_in_the_order_asked_with_nulls_for_unscored_ones(public: httpx.Client, ladder: str) -> None:
    ids = "u10,nobody,u00,u05"
    answer = public.get("/api/leaderboard/users", params={"board": ladder, "ids": ids})
    assert answer.status_code == 200
    assert answer.json() == public.get(f"/api/leaderboard/users?board={ladder}&ids={ids}").json()
    assert set(answer.json()) == {"board", "window", "leaderboard", "total", "seq", "epoch"}
    assert answer.json()["leaderboard"] == [
        {"rank": 11, "userId": "u10", "displayName": None, "score": 1},
        {"rank": None, "userId": "nobody", "displayName": None, "score": None},
        {"rank": 1, "userId": "u00", "displayName": None, "score": 11},
        {"rank": 5, "userId": "u05", "displayName": None, "score": 6},
    ]
    assert answer.json()["total"] == 11


def test_a_comma_encoded_once_separates_user_ids_and_the_document_says_so(public: httpx.Client) -> None:
    answer = public.get("/api/leaderboard/users?ids=u00%2Cu01")
    assert [entry["userId"] for entry in answer.json()["leaderboard"]] == ["u00", "u01"]
    parameters = public.get("/openapi.json").json()["paths"]["/api/leaderboard/users"]["get"]["parameters"]
    (ids,) = (each for each in parameters if each["name"] == "ids")
    assert "%252C" in ids["description"]


def test_a_hundred_users_are_told_and_no_more(public: httpx.Client, ladder: str) -> None:
    ids = [f"u{number:02}" for number in range(101)]
    answer = public.get("/api/leaderboard/users", params={"board": ladder, "ids": ",".join(ids[:100])})
    assert [entry["userId"] for entry in answer.json()["leaderboard"]] == ids[:100]
    check_problem(public.get("/api/leaderboard/users", params={"board": ladder, "ids": ",".join(ids)}), 422, "invalid")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/leaderboard/around/nobody?board=ladder", 404, "not_found"),
        ("/api/leaderboard/around/u00?board=nowhere", 404, "not_found"),
        ("/api/leaderboard/around/u00?board=ladder&radius=-1", 422, "invalid"),
        ("/api/leaderboard/around/u00?board=ladder&radius=51", 422, "invalid"),
        ("/api/leaderboard/around/u00?board=ladder&radius=x", 422, "invalid"),
        ("/api/leaderboard/around/u00?board=ladder&window=day", 422, "invalid"),
        ("/api/leaderboard/around/%00?board=ladder", 422, "invalid"),
        ("/api/leaderboard/around/%ff?board=ladder", 422, "invalid"),
        ("/api/leaderboard/users?board=ladder", 422, "invalid"),
        ("/api/leaderboard/users?board=ladder&ids=", 422, "invalid"),
        ("/api/leaderboard/users?board=ladder&ids=a,,b", 422, "invalid"),
        ("/api/leaderboard/users?board=ladder&ids=a&ids=b", 422, "invalid"),
        ("/api/leaderboard/users?board=ladder&ids=%20", 422, "invalid"),
        ("/api/leaderboard/users?board=nowhere&ids=a", 404, "not_found"),
    ],
)
@pytest.mark.usefixtures("ladder")
def test_questions_for_places_that_can_not_be_answered(public: httpx.Client, path: str, status: int, code: str) -> None:
    check_problem(public.get(path), status, code)


@pytest.mark.usefixtures("ladder")
def test_a_parameter_may_be_named_in_percent_encoding(public: httpx.Client) -> None:
    answer = public.get("/api/leaderboard/users?board=ladder&%69ds=u00")
    assert [entry["rank"] for entry in answer.json()["leaderboard"]] == [1]
