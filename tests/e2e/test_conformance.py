"""What users of leaderboard services expect of ranks, ties and pages, whatever made the scores."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import httpx
import pytest

from tests.e2e.boards import TestBoard, admin_client, open_board
from tests.harness import Server, Stores

SCORES = [("a", 50), ("b", 50), ("c", 30), ("d", 30), ("e", 10)]
RANKS = {"shared": [1, 1, 3, 3, 5], "dense": [1, 1, 2, 2, 3], "first": [1, 2, 3, 4, 5]}


@pytest.fixture(scope="module")
def client(shared: Server) -> Iterator[httpx.Client]:
    with admin_client(shared) as client:
        yield client


@pytest.fixture(params=["shared", "dense", "first"])
def board(request: pytest.FixtureRequest, shared: Server, client: httpx.Client) -> TestBoard:
    return open_board(shared, client, ties=request.param, windows=["all", "day", "week", "month"])


def ties_of(board: TestBoard) -> str:
    return str(board.client.get(f"/api/boards/{board.name}").json()["ties"])


@pytest.mark.parametrize("order", [1, -1])
def test_ranks_over_tied_scores_in_both_orders_of_insertion(board: TestBoard, order: int) -> None:
    for user, points in SCORES[::order]:
        board.score(user, points)
    ties = ties_of(board)
    users = "badce" if ties == "first" and order == -1 else "abcde"
    for window in ("all", "day"):
        assert [rank for rank, _, _ in board.ranks(window=window)] == RANKS[ties]
        assert "".join(user for _, user, _ in board.ranks(window=window)) == users
    for rank, user, score in board.ranks():
        stats = board.stats(user)
        assert (stats["rank"], stats["score"]) == (rank, score)


def test_an_answer_to_a_submission_has_the_rank_of_the_page(board: TestBoard) -> None:
    for user, points in SCORES:
        told = board.score(user, points)
        assert (told["rank"], user) in [(rank, name) for rank, name, _ in board.ranks()]
    told = board.score("e", 40)
    assert told["previousRank"] == RANKS[ties_of(board)][-1]
    assert told["rank"] == {"shared": 1, "dense": 1, "first": 3}[ties_of(board)]


def test_neighbours_at_both_edges_fill_from_the_other_side(board: TestBoard) -> None:
    for user, points in SCORES:
        board.score(user, points)
    whole = board.ranks()
    for user, expected in (("a", whole[:3]), ("c", whole[1:4]), ("e", whole[2:])):
        answer = board.client.get(f"/api/leaderboard/around/{user}", params={"board": board.name, "radius": 1}).json()
        assert [(e["rank"], e["userId"], e["score"]) for e in answer["leaderboard"]] == expected


@pytest.mark.parametrize("tied", [False, True])
def test_26_users_by_25_and_beyond_the_end(board: TestBoard, tied: bool) -> None:
    names = [f"user{number:02d}" for number in range(26)]
    for number, user in enumerate(names):
        board.score(user, 7 if tied else 100 - number)
    first = board.page(limit=25)
    assert [e["userId"] for e in first["leaderboard"]] == names[:25]  # type: ignore[attr-defined]
    second = board.page(limit=25, cursor=first["next"])
    assert [e["userId"] for e in second["leaderboard"]] == names[25:]  # type: ignore[attr-defined]
    assert second["next"] is None
    assert board.page(limit=25, offset=25)["leaderboard"] == second["leaderboard"]
    beyond = board.page(offset=26)
    assert (beyond["leaderboard"], beyond["total"], beyond["next"]) == ([], 26, None)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_cursor_walks_over_ties_and_meets_each_user_once(board: TestBoard, limit: int) -> None:
    for user, points in SCORES:
        board.score(user, points)
    walked, query = [], {}
    while True:
        page = board.page(limit=limit, **query)
        walked += [(e["rank"], e["userId"], e["score"]) for e in page["leaderboard"]]  # type: ignore[attr-defined]
        if page["next"] is None:
            break
        query = {"cursor": page["next"]}
    assert walked == board.ranks()


def test_users_come_in_the_order_asked_with_unknown_ones_between(board: TestBoard) -> None:
    for user, points in SCORES:
        board.score(user, points)
    answer = board.client.get("/api/leaderboard/users", params={"board": board.name, "ids": "e,x,a"}).json()
    assert [(e["userId"], e["score"]) for e in answer["leaderboard"]] == [("e", 10), ("x", None), ("a", 50)]
    assert [e["rank"] for e in answer["leaderboard"]] == [RANKS[ties_of(board)][-1], None, 1]


def test_an_increment_by_0_scores_and_changes_no_place(board: TestBoard) -> None:
    for user, points in (("a", 10), ("b", 10), ("a", 0), ("z", 0)):
        board.score(user, points)
    assert [user for _, user, _ in board.ranks()] == ["a", "b", "z"]
    assert board.stats("z")["score"] == 0


def test_who_leaves_in_the_middle_closes_the_ranks(board: TestBoard) -> None:
    for user, points in (("top", 3), (f"gone-{board.name}", 2), ("low", 1)):
        board.score(user, points)
    assert board.client.delete(f"/api/users/gone-{board.name}").status_code == 204
    for window in ("all", "day"):
        assert board.ranks(window=window) == [(1, "top", 3), (2, "low", 1)]


def test_the_percentile_counts_those_strictly_below(board: TestBoard) -> None:
    for user, points in SCORES:
        board.score(user, points)
    for window in ("all", "month"):
        assert [board.stats(user, window=window)["percentile"] for user in "abcde"] == [60, 60, 20, 20, 0]


def test_a_board_of_one(board: TestBoard) -> None:
    board.score("only", -5)
    assert board.ranks() == [(1, "only", -5)]
    stats = board.stats("only")
    assert (stats["rank"], stats["total"], stats["percentile"]) == (1, 1, 0)
    around = board.client.get("/api/leaderboard/around/only", params={"board": board.name, "radius": 50}).json()
    assert [e["userId"] for e in around["leaderboard"]] == ["only"]


def test_negative_and_zero_scores_are_ranked_like_others(board: TestBoard) -> None:
    for user, points in (("a", -1), ("b", 0), ("c", 1), ("d", -1), ("e", 0)):
        board.score(user, points)
    assert [(user, score) for _, user, score in board.ranks()] == [("c", 1), ("b", 0), ("e", 0), ("a", -1), ("d", -1)]


def test_who_comes_back_to_a_score_came_last(board: TestBoard) -> None:
    """A tie broken by who came first, after the score went up and down again."""
    for user, points in (("a", 10), ("b", 10), ("a", 5), ("a", -5)):
        board.score(user, points)
    assert [user for _, user, _ in board.ranks()] == (["b", "a"] if ties_of(board) == "first" else ["a", "b"])


def test_the_same_user_in_four_windows_across_the_end_of_a_month(board: TestBoard, module_stores: Stores) -> None:
    saturday = datetime(2027, 7, 31, 23, 59, 59, 999_000, tzinfo=UTC)  # its week goes on in August
    board.set_time(module_stores, saturday)
    board.score("a", 1)
    board.set_time(module_stores, datetime(2027, 8, 1, tzinfo=UTC))
    board.score("a", 2)
    board.set_time(module_stores, datetime(2027, 8, 2, tzinfo=UTC))
    board.score("a", 4)
    assert {window: board.ranks(window=window) for window in ("all", "day", "week", "month")} == {
        "all": [(1, "a", 7)],
        "day": [(1, "a", 4)],
        "week": [(1, "a", 4)],
        "month": [(1, "a", 6)],
    }
    past = {("day", "2027-07-31"): 1, ("day", "2027-08-01"): 2, ("week", "2027-07-26"): 3, ("month", "2027-07-01"): 1}
    for (window, period), score in past.items():
        assert board.ranks(window=window, period=period) == [(1, "a", score)]
        assert board.page(window=window, period=period)["period"] == period
    listed = board.client.get(f"/api/boards/{board.name}/periods", params={"window": "day"}).json()
    assert [(p["period"], p["total"]) for p in listed["periods"]] == [
        ("2027-08-02", 1),
        ("2027-08-01", 1),
        ("2027-07-31", 1),
    ]


def test_64_clients_add_to_one_user_and_the_sum_is_exact(board: TestBoard) -> None:
    with ThreadPoolExecutor(64) as pool:
        told = list(pool.map(lambda points: board.score("a", points), range(1, 129)))
    assert sum(int(str(each["points"])) for each in told) == sum(range(1, 129))
    assert max(told, key=lambda each: int(str(each["seq"])))["newScore"] == sum(range(1, 129))
    for window in ("all", "day", "week", "month"):
        assert board.ranks(window=window) == [(1, "a", sum(range(1, 129)))]
