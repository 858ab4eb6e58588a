"""Groups: lists of users that administrators keep, and a board's ranking among the members of one."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from scoreboard.cursors import ORIGIN_BYTES, pack_cursor
from scoreboard.model import GROUPS_PER_BOARD_MAX, MEMBERS_MAX, Cursor
from tests.e2e.answers import check_problem
from tests.e2e.boards import Entries, ask_page, make_board, play, read_page, shown
from tests.harness import Server, Stores

SCORES = {"ann": 30, "bob": 20, "cleo": 20, "dan": 20, "eve": 10}
RANKS = {"shared": [1, 2, 2, 2, 5], "dense": [1, 2, 2, 2, 3], "first": [1, 2, 3, 4, 5]}


@pytest.fixture(scope="module")
def admin(shared: Server) -> Iterator[httpx.Client]:
    with shared.client("admin", "admin scores:any") as client:
        yield client


def put(admin: httpx.Client, board: str, group: str, members: list[str]) -> httpx.Response:
    return admin.put(f"/api/boards/{board}/groups/{group}", json={"members": members})


def ask(client: httpx.Client, board: str, group: str, **query: object) -> httpx.Response:
    return ask_page(client, board=board, group=group, **query)


def read(client: httpx.Client, board: str, group: str, **query: object) -> dict[str, object]:
    return read_page(client, board=board, group=group, **query)


def walk(client: httpx.Client, board: str, group: str, limit: int) -> Entries:
    """All entries of a group by cursors."""
    entries: Entries = []
    query: dict[str, object] = {}
    while True:
        page = read(client, board, group, limit=limit, **query)
        entries += shown(page)
        if page["next"] is None:
            return entries
        query = {"cursor": page["next"]}


# -- the lists


def test_new_group_is_201_and_a_changed_one_200(admin: httpx.Client, public: httpx.Client) -> None:
    board = make_board(admin, "lists")
    created, changed = (
        put(admin, board, "friends", ["bob", "ann"]),
        put(admin, board, "friends", ["cleo", "bob", "dan"]),
    )
    assert (created.status_code, created.json()) == (201, {"board": board, "group": "friends", "members": 2})
    assert (changed.status_code, changed.json()) == (200, {"board": board, "group": "friends", "members": 3})
    assert public.get(f"/api/boards/{board}/groups/friends").json() == {
        "board": board,
        "group": "friends",
        "members": ["bob", "cleo", "dan"],
        "total": 3,
        "next": None,
    }


def test_groups_and_members_are_paged(admin: httpx.Client, public: httpx.Client) -> None:
    board = make_board(admin, "paged")
    for number in range(5):
        put(admin, board, f"g{number}", [f"u{each}" for each in range(number)])
    listed = []
    query: dict[str, object] = {"limit": 2}
    while True:
        page = public.get(f"/api/boards/{board}/groups", params=query).json()  # type: ignore[arg-type]
        assert page["board"] == board
        listed += page["groups"]
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    assert listed == [{"group": f"g{number}", "members": number} for number in range(5)]
    first = public.get(f"/api/boards/{board}/groups/g4", params={"limit": 3}).json()
    rest = public.get(f"/api/boards/{board}/groups/g4", params={"limit": 3, "cursor": first["next"]}).json()
    assert (first["members"], first["total"]) == (["u0", "u1", "u2"], 4)
    assert (rest["members"], rest["next"], rest["total"]) == (["u3"], None, 4)


def test_deleted_group_is_unknown_and_may_be_made_again(admin: httpx.Client, public: httpx.Client) -> None:
    board = make_board(admin, "deleting")
    put(admin, board, "g", ["ann"])
    tag = ask(public, board, "g").headers["etag"]
    assert admin.delete(f"/api/boards/{board}/groups/g").status_code == 204
    check_problem(ask(public, board, "g"), 404, "not_found", names="'g'")
    check_problem(public.get(f"/api/boards/{board}/groups/g"), 404, "not_found", names="'g'")
    check_problem(admin.delete(f"/api/boards/{board}/groups/g"), 404, "not_found", names="'g'")
    assert public.get(f"/api/boards/{board}/groups").json()["groups"] == []
    assert put(admin, board, "g", []).status_code == 201
    assert public.get(f"/api/boards/{board}/groups/g").json()["members"] == []
    assert ask(public, board, "g").headers["etag"] != tag


def test_unknown_board_has_no_groups(admin: httpx.Client, public: httpx.Client) -> None:
    check_problem(put(admin, "nowhere", "g", []), 404, "not_found", names="nowhere")
    check_problem(public.get("/api/boards/nowhere/groups"), 404, "not_found", names="nowhere")
    check_problem(ask(public, "nowhere", "g"), 404, "not_found", names="nowhere")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "members"),
        ({"members": None}, "members"),
        ({"members": "ann"}, "members"),
        ({"members": [1]}, "members"),
        ({"members": ["ann", ""]}, "members[1]"),
        ({"members": ["a" * 65]}, "members[0]"),
        ({"members": ["a\0b"]}, "members[0]"),
        ({"members": [" "]}, "members[0]"),
        ({"members": ["ann", "bob", "ann"]}, "members[2]: 'ann' is members[0]"),
        ({"members": [f"u{number}" for number in range(MEMBERS_MAX + 1)]}, "members"),
        ({"members": [], "title": "x"}, "title"),
    ],
)
def test_bad_group_is_refused_and_the_member_named(admin: httpx.Client, body: dict[str, object], field: str) -> None:
    answer = admin.put("/api/boards/global/groups/bad", json=body)
    check_problem(answer, 422, "invalid", names=field)
    assert admin.get("/api/boards/global/groups/bad").status_code == 404


@pytest.mark.parametrize("group", ["a b", "ä", "x" * 65, "%2F"])
def test_group_ids_follow_the_rule_of_board_ids(admin: httpx.Client, public: httpx.Client, group: str) -> None:
    check_problem(admin.put(f"/api/boards/global/groups/{group}", json={"members": []}), 422, "invalid", names="group")
    check_problem(ask(public, "global", group), 422, "invalid", names="group")


def test_the_largest_group_fits_however_its_ids_are_written(admin: httpx.Client) -> None:
    """Escapes of what UTF-8 has in four bytes are twelve bytes long."""
    members = [f"{number:05}" + "🏆" * 59 for number in range(MEMBERS_MAX)]
    headers = {"content-type": "application/json"}
    for escaped in (True, False):
        content = json.dumps({"members": members}, ensure_ascii=escaped).encode()
        answer = admin.put("/api/boards/global/groups/huge", content=content, headers=headers)
        assert answer.json() == {"board": "global", "group": "huge", "members": MEMBERS_MAX}, answer.text
    page = admin.get("/api/boards/global/groups/huge", params={"limit": 1, "after": members[41]}).json()
    assert (page["members"], page["total"]) == ([members[42]], MEMBERS_MAX)
    assert admin.delete("/api/boards/global/groups/huge").status_code == 204


def test_only_admins_change_groups_and_send_so_much(shared: Server) -> None:
    large = b'{"members": ["' + b"x" * 20_000 + b'"]}'
    headers = {"content-type": "application/json"}
    for user, scope, status, code in (("ann", "", 403, "forbidden"), (None, "", 401, "unauthenticated")):
        with shared.client(user, scope) as client:
            answer = client.put("/api/boards/global/groups/g", content=large, headers=headers)
            check_problem(answer, status, code)
            check_problem(client.delete("/api/boards/global/groups/g"), status, code)


def test_a_board_has_a_thousand_groups_at_most(admin: httpx.Client, module_stores: Stores) -> None:
    board = make_board(admin, "full")
    module_stores.query(
        "INSERT INTO groups (board_id, group_id) SELECT $1, 'g' || n FROM generate_series(3, $2::int) n",
        board,
        GROUPS_PER_BOARD_MAX,
    )
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: put(admin, board, f"new{number}", ["ann"]).status_code, range(8)))
    assert sorted(answers) == [201, 201, *[422] * 6]
    check_problem(put(admin, board, "one-more", []), 422, "invalid", names=str(GROUPS_PER_BOARD_MAX))
    assert put(admin, board, "g3", ["ann"]).status_code == 200


def test_parallel_changes_of_a_group_end_in_one_of_them(admin: httpx.Client) -> None:
    board = make_board(admin, "racing")
    lists = [[f"u{start}-{each}" for each in range(50)] for start in range(8)]
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda members: put(admin, board, "g", members).status_code, lists))
    assert sorted(statuses) == [*[200] * 7, 201]
    found = admin.get(f"/api/boards/{board}/groups/g").json()
    assert found["members"] in [sorted(members) for members in lists]
    assert found["total"] == 50


# -- the ranking within


def test_page_of_a_group_has_the_fields_of_a_page_and_the_group(admin: httpx.Client, public: httpx.Client) -> None:
    board = make_board(admin, "fields")
    play(admin, board, ann=30, zed=40, bob=20)
    admin.put("/api/users/ann", json={"displayName": "Ann"})
    put(admin, board, "friends", ["ann", "bob"])
    page = read(public, board, "friends")
    assert page == {
        "board": board,
        "window": "all",
        "leaderboard": [
            {"rank": 1, "userId": "ann", "displayName": "Ann", "score": 30},
            {"rank": 2, "userId": "bob", "displayName": None, "score": 20},
        ],
        "total": 2,
        "seq": public.get("/api/leaderboard", params={"board": board}).json()["seq"],
        "epoch": page["epoch"],
        "next": None,
        "group": "friends",
    }
    assert admin.delete("/api/users/ann").status_code == 204


@pytest.mark.parametrize("ties", RANKS)
def test_members_are_ranked_among_themselves_by_the_boards_ties(
    admin: httpx.Client, public: httpx.Client, ties: str
) -> None:
    board = make_board(admin, f"ties-{ties}", ties=ties)
    play(admin, board, other=20, **dict(reversed(SCORES.items())))
    order = ["ann", "dan", "cleo", "bob", "eve"] if ties == "first" else list(SCORES)
    put(admin, board, "g", [*SCORES, "nobody"])
    expected = [(rank, user, SCORES[user]) for rank, user in zip(RANKS[ties], order, strict=True)]
    page = read(public, board, "g")
    assert (shown(page), page["total"]) == (expected, 5)
    for limit in (1, 2, 3, 4, 5, 100):
        assert walk(public, board, "g", limit) == expected
        pages = [read(public, board, "g", limit=limit, offset=offset) for offset in range(0, 5, limit)]
        assert [entry for page in pages for entry in shown(page)] == expected
    beyond = read(public, board, "g", offset=2**53 - 1)
    assert (beyond["leaderboard"], beyond["total"], beyond["next"]) == ([], 5, None)


@pytest.mark.parametrize(("ties", "ranks"), [("shared", [1, 1, 1]), ("dense", [1, 1, 1]), ("first", [1, 2, 3])])
def test_all_of_a_group_may_be_tied(admin: httpx.Client, public: httpx.Client, ties: str, ranks: list[int]) -> None:
    board = make_board(admin, f"tied-{ties}", ties=ties)
    play(admin, board, cleo=7, ann=7, bob=7, zed=7)
    put(admin, board, "g", ["ann", "bob", "cleo"])
    order = ["cleo", "ann", "bob"] if ties == "first" else ["ann", "bob", "cleo"]
    expected = [(rank, user, 7) for rank, user in zip(ranks, order, strict=True)]
    assert shown(read(public, board, "g")) == walk(public, board, "g", 1) == expected


def test_empty_group_and_one_without_scores_are_empty_pages(admin: httpx.Client, public: httpx.Client) -> None:
    board = make_board(admin, "empty")
    play(admin, board, zed=1)
    for group, members in (("none", []), ("idle", ["ann", "bob"])):
        put(admin, board, group, members)
        page = read(public, board, group)
        assert (page["leaderboard"], page["total"], page["next"], page["seq"]) == ([], 0, None, 1)


def test_hidden_members_are_left_out_until_they_are_shown_again(admin: httpx.Client, public: httpx.Client) -> None:
    board = make_board(admin, "hiding")
    play(admin, board, **{"h-ann": 3, "h-bob": 2, "h-cleo": 1})
    put(admin, board, "g", ["h-ann", "h-bob", "h-cleo"])
    admin.post("/api/users/h-bob/hide")
    page = read(public, board, "g")
    assert (shown(page), page["total"]) == ([(1, "h-ann", 3), (2, "h-cleo", 1)], 2)
    admin.post("/api/users/h-bob/unhide")
    assert shown(read(public, board, "g")) == [(1, "h-ann", 3), (2, "h-bob", 2), (3, "h-cleo", 1)]


def test_windows_and_periods_rank_a_group_too(admin: httpx.Client, public: httpx.Client, module_stores: Stores) -> None:
    board = make_board(admin, "windows", windows=["all", "day"])
    play(admin, board, ann=5, bob=3, zed=9)
    module_stores.query("UPDATE totals SET period = '2020-01-01' WHERE board_id = $1 AND time_window = 'day'", board)
    module_stores.query("UPDATE periods SET period = '2020-01-01' WHERE board_id = $1", board)
    play(admin, board, bob=4)
    put(admin, board, "g", ["ann", "bob"])
    assert shown(read(public, board, "g")) == [(1, "bob", 7), (2, "ann", 5)]
    today = read(public, board, "g", window="day")
    assert shown(today) == [(1, "bob", 4)]
    past = read(public, board, "g", window="day", period="2020-01-01")
    assert (shown(past), past["window"], past["period"]) == ([(1, "ann", 5), (2, "bob", 3)], "day", "2020-01-01")
    check_problem(ask(public, board, "g", window="week"), 422, "invalid", names="week")
    admin.delete(f"/api/boards/{board}/groups/g")
    module_stores.query("DELETE FROM totals WHERE board_id = $1 AND time_window = 'day'", board)
    module_stores.query("DELETE FROM periods WHERE board_id = $1", board)
    module_stores.query("UPDATE boards SET windows = '{all}' WHERE board_id = $1", board)


def test_tag_changes_with_the_members_and_with_the_board_only(admin: httpx.Client, public: httpx.Client) -> None:
    board = make_board(admin, "tagged")
    play(admin, board, ann=1)
    put(admin, board, "g", ["ann", "bob"])
    tags = [ask(public, board, "g").headers["etag"]]

    def tag_after(change: object) -> str:
        answer = ask(public, board, "g")
        assert answer.headers["cache-control"] == "no-cache"
        tags.append(answer.headers["etag"])
        return tags[-1]

    assert tag_after(put(admin, board, "g", ["bob", "ann"])) == tags[0]
    assert tag_after(put(admin, board, "other", ["ann"])) == tags[0]
    assert tag_after(put(admin, board, "g", ["ann"])) not in tags[:-1]
    assert tag_after(put(admin, board, "g", ["ann", "bob"])) not in tags[:-1]
    assert tag_after(play(admin, board, zed=1)) not in tags[:-1]
    headers = {"If-None-Match": tags[-1]}
    assert public.get("/api/leaderboard", params={"board": board, "group": "g"}, headers=headers).status_code == 304
    put(admin, board, "g", ["bob"])
    assert public.get("/api/leaderboard", params={"board": board, "group": "g"}, headers=headers).status_code == 200


def test_nobody_reads_a_group_older_than_their_own_last_write(admin: httpx.Client, public: httpx.Client) -> None:
    board = make_board(admin, "fresh")
    for number in range(1, 31):
        play(admin, board, ann=1)
        put(admin, board, "g", ["ann"] if number % 2 else ["ann", "bob"])
        page = read(public, board, "g")
        assert (shown(page), page["seq"]) == ([(1, "ann", number)], number)
        assert public.get("/api/leaderboard", params={"board": board}).json()["seq"] == number


def test_what_is_no_cursor_or_comes_with_an_offset_is_refused(admin: httpx.Client, public: httpx.Client) -> None:
    board = make_board(admin, "cursors")
    play(admin, board, ann=1, bob=1)
    put(admin, board, "g", ["ann", "bob"])
    cursor = read(public, board, "g", limit=1)["next"]
    assert ask(public, board, "g", cursor=cursor).status_code == 200
    made_up = pack_cursor(Cursor(10, "ann", origin=bytes(ORIGIN_BYTES)))
    for wrong in ("x", made_up):
        check_problem(ask(public, board, "g", cursor=wrong), 422, "invalid", names="cursor")
    check_problem(ask(public, board, "g", cursor=cursor, offset=1), 422, "invalid", names="cursor")


def test_cursor_of_other_ties_is_refused(admin: httpx.Client, public: httpx.Client) -> None:
    board = make_board(admin, "turned")
    play(admin, board, ann=1, bob=1)
    put(admin, board, "g", ["ann", "bob"])
    following = read(public, board, "g", limit=1)["next"]
    assert admin.put(f"/api/boards/{board}", json={"ties": "first"}).status_code == 200
    check_problem(ask(public, board, "g", cursor=following), 422, "invalid", names="cursor")


# -- erasure


def test_nothing_names_an_erased_member(admin: httpx.Client, public: httpx.Client, module_stores: Stores) -> None:
    board = make_board(admin, "erasing")
    play(admin, board, gone=9, here=1)
    for group in ("g", "h"):
        put(admin, board, group, ["gone", "here"])
    put(admin, "global", "g", ["gone"])
    tag = ask(public, board, "g").headers["etag"]
    assert admin.delete("/api/users/gone").status_code == 204
    assert shown(read(public, board, "g")) == [(1, "here", 1)]
    assert ask(public, board, "g").headers["etag"] != tag
    counts = {group["group"]: group["members"] for group in admin.get(f"/api/boards/{board}/groups").json()["groups"]}
    assert counts == {"g": 1, "h": 1}
    assert public.get("/api/boards/global/groups/g").json()["total"] == 0
    assert module_stores.query("SELECT FROM group_members WHERE user_id = 'gone'") == []


def test_who_is_only_a_member_can_be_erased(admin: httpx.Client) -> None:
    put(admin, "global", "strangers", ["only-member"])
    assert admin.delete("/api/users/only-member").status_code == 204
    assert admin.get("/api/boards/global/groups/strangers").json()["members"] == []
    check_problem(admin.delete("/api/users/only-member"), 404, "not_found", names="only-member")
