"""``group=`` on around, users and stats: places among the members of a group."""

from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.answers import check_problem
from tests.e2e.boards import make_board, play, read_page, shown
from tests.e2e.test_groups import RANKS, SCORES, put
from tests.harness import Server, Stores


@pytest.fixture(scope="module")
def admin(shared: Server) -> Iterator[httpx.Client]:
    with shared.client("admin", "admin scores:any") as client:
        yield client


def ask_around(client: httpx.Client, user: str, **query: object) -> httpx.Response:
    return client.get(f"/api/leaderboard/around/{user}", params=query)  # type: ignore[arg-type]


def ask_users(client: httpx.Client, ids: str, **query: object) -> httpx.Response:
    return client.get("/api/leaderboard/users", params={"ids": ids, **query})  # type: ignore[dict-item]


def ask_stats(client: httpx.Client, user: str, **query: object) -> httpx.Response:
    return client.get(f"/api/users/{user}/stats", params=query)  # type: ignore[arg-type]


def make_group(admin: httpx.Client, board: str, ties: str = "shared") -> list[tuple[int, str, int]]:
    """A board of which five of seven users are in group ``g``; the ranking within it."""
    make_board(admin, board, ties=ties, windows=["all", "day"])
    play(admin, board, above=100, other=20, **dict(reversed(SCORES.items())))
    assert put(admin, board, "g", [*SCORES, "idle"]).status_code == 201
    order = ["ann", "dan", "cleo", "bob", "eve"] if ties == "first" else list(SCORES)
    return [(rank, user, SCORES[user]) for rank, user in zip(RANKS[ties], order, strict=True)]


@pytest.mark.parametrize("ties", RANKS)
def test_around_users_and_stats_agree_with_the_page_of_the_group(
    admin: httpx.Client, public: httpx.Client, ties: str
) -> None:
    board = f"places-{ties}"
    ranking = make_group(admin, board, ties)
    view = {"board": board, "group": "g", "window": "day"}
    page = read_page(public, **view)
    assert shown(page) == ranking
    common = {name: page[name] for name in ("board", "window", "period", "total", "seq", "epoch", "group")}
    for place, (rank, user, score) in enumerate(ranking):
        for radius in range(7):
            size = min(2 * radius + 1, len(ranking))
            start = max(0, min(place - radius, len(ranking) - size))
            around = ask_around(public, user, radius=radius, **view).json()
            assert shown(around) == ranking[start : start + size], (user, radius)
            assert {name: around[name] for name in common} == common
        stats = ask_stats(public, user, **view).json()
        below = sum(other < score for _, _, other in ranking)
        assert (stats["rank"], stats["score"], stats["total"], stats["group"]) == (rank, score, len(ranking), "g")
        assert stats["percentile"] == 100 * below / len(ranking)
        assert stats["submissions"] == 1
    asked = ["eve", "above", "ann", "idle", "unheard-of", "bob", "ann"]
    users = ask_users(public, ",".join(dict.fromkeys(asked)), **view).json()
    places = {user: (rank, score) for rank, user, score in ranking}
    assert [(each["userId"], each["rank"], each["score"]) for each in users["leaderboard"]] == [
        (user, *places.get(user, (None, None))) for user in dict.fromkeys(asked)
    ]
    assert {name: users[name] for name in common} == common


def test_who_is_not_in_the_group_is_not_found_in_it(admin: httpx.Client, public: httpx.Client) -> None:
    board = "outside"
    make_group(admin, board)
    for ask in (ask_around, ask_stats):
        check_problem(
            ask(public, "above", board=board, group="g"), 404, "not_found", names="'above' has no place in group 'g'"
        )
        check_problem(ask(public, "nobody", board=board, group="g"), 404, "not_found", names="'nobody'")
        check_problem(ask(public, "idle", board=board, group="g"), 404, "not_found", names="'idle' has no place")
        check_problem(ask(public, "ann", board=board, group="none"), 404, "not_found", names="no group 'none'")
        check_problem(ask(public, "ann", board="nowhere", group="g"), 404, "not_found", names="nowhere")
        check_problem(ask(public, "ann", board=board, group="g", window="week"), 422, "invalid", names="week")
        check_problem(ask(public, "ann", board=board, group="a b"), 422, "invalid", names="group")
    check_problem(ask_users(public, "ann", board=board, group="none"), 404, "not_found", names="no group 'none'")
    check_problem(ask_users(public, "ann", board=board, group="none", window="week"), 404, "not_found", names="none")
    check_problem(ask_users(public, "ann", board=board, group="g", window="week"), 422, "invalid", names="week")


def test_hidden_members_have_no_place_in_the_group(admin: httpx.Client, public: httpx.Client) -> None:
    board = "veiled"
    make_board(admin, board)
    play(admin, board, **{"v-ann": 3, "v-bob": 2, "v-cleo": 1})
    put(admin, board, "g", ["v-ann", "v-bob", "v-cleo"])
    assert ask_stats(public, "v-cleo", board=board, group="g").json()["rank"] == 3
    admin.post("/api/users/v-bob/hide")
    assert ask_stats(public, "v-cleo", board=board, group="g").json()["rank"] == 2
    assert shown(ask_around(public, "v-cleo", board=board, group="g").json()) == [(1, "v-ann", 3), (2, "v-cleo", 1)]
    assert ask_users(public, "v-bob", board=board, group="g").json()["leaderboard"][0]["rank"] is None
    for ask in (ask_around, ask_stats):
        told = [ask(public, user, board=board, group="g") for user in ("v-bob", "v-nobody")]
        assert [answer.status_code for answer in told] == [404, 404]
        assert told[0].text.replace("v-bob", "v-nobody") == told[1].text, "nothing tells that a member is hidden"
    admin.post("/api/users/v-bob/unhide")


def test_places_in_a_group_follow_each_score_name_and_list(admin: httpx.Client, public: httpx.Client) -> None:
    """Answers are kept, and never given again when they no longer hold."""
    board = "following"
    make_group(admin, board)
    for number in range(1, 16):
        play(admin, board, eve=1)
        stats = ask_stats(public, "eve", board=board, group="g").json()
        assert (stats["score"], stats["total"]) == (10 + number, 5)
        play(admin, board, above=1)  # who is no member, so that the answer is kept
        again = ask_stats(public, "eve", board=board, group="g").json()
        assert again == stats | {"seq": stats["seq"] + 1}
    admin.put("/api/users/eve", json={"displayName": "Eve"})
    assert ask_stats(public, "eve", board=board, group="g").json()["displayName"] == "Eve"
    put(admin, board, "g", ["eve", "above"])
    stats = ask_stats(public, "eve", board=board, group="g").json()
    assert (stats["rank"], stats["total"]) == (2, 2)
    put(admin, board, "g", ["above"])
    assert ask_stats(public, "eve", board=board, group="g").status_code == 404
    assert admin.delete("/api/users/eve").status_code == 204


def test_the_period_of_now_is_answered_by_the_ranking_where_its_day_is_given(
    admin: httpx.Client, public: httpx.Client, shared: Server, module_stores: Stores
) -> None:
    board = "today"
    make_group(admin, board)
    view = {"board": board, "window": "day"}
    page = read_page(public, **view)
    today = {**view, "period": page["period"]}
    from_ranking = 'scoreboard_pages_total{source="ranks"}'
    before = shared.metric(from_ranking)
    costly = shared.metric('scoreboard_costly_answers_total{how="made"}')
    asks = [
        lambda query: ask_users(public, "ann,eve,nobody", **query),
        lambda query: ask_around(public, "cleo", **query),
        lambda query: ask_stats(public, "cleo", **query),
        lambda query: public.get("/api/leaderboard", params={**query, "offset": 1}),
        lambda query: public.get("/api/leaderboard", params=query),
    ]
    for ask in asks:
        assert ask(today).json() == ask(view).json()
    assert shared.metric('scoreboard_costly_answers_total{how="made"}') == costly
    assert shared.metric(from_ranking) >= before + 7
    play(admin, board, ann=1)
    assert ask_users(public, "ann", **today).json()["leaderboard"][0]["score"] == 31
    for other in ("2020-01-01", "2099-01-01"):
        empty = ask_users(public, "ann", **view, period=other).json()
        assert (empty["total"], empty["leaderboard"][0]["rank"], empty["period"]) == (0, None, other)
