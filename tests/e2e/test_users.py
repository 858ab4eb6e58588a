"""Users beyond their scores: names seen everywhere, hiding and coming back, erasure; and events made undone."""

from collections.abc import Iterator

import httpx
import pytest

from tests.e2e.answers import check_problem
from tests.e2e.boards import TestBoard, admin_client, open_board
from tests.harness import Server, Stores, Stream

WINDOWS = ("all", "day")


@pytest.fixture(scope="module")
def client(shared: Server) -> Iterator[httpx.Client]:
    with admin_client(shared) as client:
        yield client


@pytest.fixture
def board(shared: Server, client: httpx.Client) -> TestBoard:
    return open_board(shared, client, windows=["all", "day"])


def named(board: TestBoard, window: str = "all") -> dict[str, object]:
    return {e["userId"]: e["displayName"] for e in board.page(window=window)["leaderboard"]}  # type: ignore[attr-defined]


def test_a_name_is_seen_everywhere_once_it_is_given(shared: Server, client: httpx.Client, board: TestBoard) -> None:
    user, later = f"u-{board.name}", f"later-{board.name}"
    board.score(user, 5)
    with Stream(shared.stream_url(board.name)) as stream, Stream(shared.stream_url(board.name, window="day")) as day:
        for each in (stream, day):
            each.wait_for(lambda s: s.of("leaderboard"))
        answer = client.put(f"/api/users/{user}", json={"displayName": "Ünal ☃"})
        assert (answer.status_code, answer.json()["displayName"]) == (200, "Ünal ☃")
        for each in (stream, day):
            each.wait_for(lambda s: len(s.of("leaderboard")) == 2)
            told = each.of("user-updated")[0].data
            assert (told["userId"], told["change"], told["displayName"], told["score"]) == (
                user,
                "renamed",
                "Ünal ☃",
                5,
            )
            assert each.of("leaderboard")[-1].data["top10"][0]["displayName"] == "Ünal ☃"  # type: ignore[index]
    assert client.put(f"/api/users/{later}", json={"displayName": "Early"}).status_code == 200
    board.score(later, 1)
    for window in WINDOWS:
        assert named(board, window) == {user: "Ünal ☃", later: "Early"}
    assert board.stats(user)["displayName"] == "Ünal ☃"
    around = client.get(f"/api/leaderboard/around/{user}", params={"board": board.name}).json()
    assert [e["displayName"] for e in around["leaderboard"]] == ["Ünal ☃", "Early"]
    ids = client.get("/api/leaderboard/users", params={"board": board.name, "ids": f"{later},nobody"}).json()
    assert [e["displayName"] for e in ids["leaderboard"]] == ["Early", None]
    assert client.put(f"/api/users/{user}", json={"displayName": None}).status_code == 200
    assert named(board) == {user: None, later: "Early"}


def test_the_same_name_again_is_no_event(client: httpx.Client, board: TestBoard) -> None:
    user = f"u-{board.name}"
    board.score(user, 5)
    for _ in range(3):
        assert client.put(f"/api/users/{user}", json={"displayName": "One"}).status_code == 200
    assert board.page()["seq"] == 2


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 101, 5, True, ["a"]])
def test_a_bad_name_is_refused(client: httpx.Client, name: object) -> None:
    problem = check_problem(client.put("/api/users/someone", json={"displayName": name}), 422, "invalid")
    assert problem["errors"][0]["field"] == "displayName"  # type: ignore[index]


def test_who_is_hidden_is_gone_at_once_and_comes_back_with_the_right_total(
    shared: Server, client: httpx.Client, board: TestBoard
) -> None:
    user = f"cheat-{board.name}"
    for each, points in (("a", 10), (user, 7), ("z", 5)):
        board.score(each, points)
    with Stream(shared.stream_url(board.name)) as stream:
        stream.wait_for(lambda s: s.of("leaderboard"))
        assert client.post(f"/api/users/{user}/hide").json() == {"userId": user, "displayName": None, "hidden": True}
        for window in WINDOWS:
            assert board.ranks(window=window) == [(1, "a", 10), (2, "z", 5)]
            assert board.page(window=window)["total"] == 2
        told = board.score(user, 100)
        assert (told["newScore"], told["rank"], told["previousRank"]) == (107, None, None)
        check_problem(client.get(f"/api/users/{user}/stats", params={"board": board.name}), 404, "not_found")
        check_problem(client.get(f"/api/leaderboard/around/{user}", params={"board": board.name}), 404, "not_found")
        history = client.get(f"/api/users/{user}/history", params={"board": board.name}).json()
        assert [event["points"] for event in history["events"]] == [100, 7]
        assert client.post(f"/api/users/{user}/unhide").json()["hidden"] is False
        for window in WINDOWS:
            assert board.ranks(window=window) == [(1, user, 107), (2, "a", 10), (3, "z", 5)]
        stream.wait_for(lambda s: len(s.of("user-updated")) == 2)
        told_of = [
            (frame.data["change"], frame.data["score"], frame.data["rank"]) for frame in stream.of("user-updated")
        ]
        assert told_of == [("hidden", None, None), ("shown", 107, 1)]
        assert not [frame for frame in stream.of("score-updated") if frame.data["userId"] == user]


def test_who_is_hidden_before_a_first_score_is_never_shown(client: httpx.Client, board: TestBoard) -> None:
    user = f"early-{board.name}"
    assert client.put(f"/api/users/{user}", json={"displayName": "Rude"}).status_code == 200
    assert client.post(f"/api/users/{user}/hide").status_code == 200
    assert board.score(user, 5)["rank"] is None
    assert board.ranks() == []


def test_nothing_names_who_was_erased_and_the_sums_stay(
    shared: Server, client: httpx.Client, board: TestBoard, module_stores: Stores
) -> None:
    user = f"forget-{board.name}"
    other = open_board(shared, client)
    for each in (board, other):
        each.score("a", 10)
        each.score(user, 7)
    body = {"board": board.name, "userId": user, "actionId": "free", "points": 1}
    assert client.post("/api/scores", json=body, headers={"Idempotency-Key": "k"}).status_code == 200
    client.put(f"/api/users/{user}", json={"displayName": f"Name of {user}"})
    with Stream(shared.stream_url(board.name)) as stream:
        stream.wait_for(lambda s: s.of("leaderboard"))
        resumed_from = stream.frames[0].id
        with shared.client(user) as self_service:
            assert self_service.delete(f"/api/users/{user}").status_code == 204
        stream.wait_for(lambda s: s.of("reset") and s.frames[-1].event == "leaderboard")
        assert stream.of("reset")[0].data == {"reason": "erased"}
    for each in (board, other):
        assert each.ranks() == [(1, "a", 10)]
    tables = ("ledger", "totals", "users", "periods", "boards")
    for table in tables:
        assert not module_stores.query(f"SELECT 1 FROM {table} t WHERE t::text LIKE '%{user}%'"), table
    with module_stores.redis() as redis:
        for key in redis.scan_iter(f"sb:{{{board.name}}}*"):
            assert user.encode() not in redis.dump(key), key
    sums = "SELECT sum(points)::bigint, count(*) FROM ledger WHERE board_id = $1 AND kind = 'score'"
    assert tuple(module_stores.query(sums, board.name)[0]) == (18, 3)
    with Stream(shared.stream_url(board.name), last_event_id=resumed_from) as late:
        late.wait_for(lambda s: s.of("leaderboard"))
        assert not [frame for frame in late.frames if user in str(frame.data)]
    check_problem(client.delete(f"/api/users/{user}"), 404, "not_found")
    again = client.post("/api/scores", json=body, headers={"Idempotency-Key": "k"}).json()
    assert (again["newScore"], again["replayed"]) == (1, False)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/api/users/alice", 403),
        ("POST", "/api/users/alice/hide", 403),
        ("POST", "/api/users/alice/unhide", 403),
        ("DELETE", "/api/users/bob", 403),
        ("POST", "/api/boards/global/events/1/revoke", 403),
    ],
)
def test_only_admins_change_users(shared: Server, public: httpx.Client, method: str, path: str, status: int) -> None:
    with shared.client("alice", "scores:any") as player:
        check_problem(player.request(method, path, json={}), status, "forbidden")
    check_problem(public.request(method, path, json={}), 401, "unauthenticated")


def test_nobody_knows_a_user_who_was_never_there(client: httpx.Client) -> None:
    for method, path in (("POST", "/hide"), ("POST", "/unhide"), ("DELETE", "")):
        check_problem(client.request(method, f"/api/users/never-there{path}"), 404, "not_found", "never-there")


# -- events made undone


def revoke(board: TestBoard, seq: int, reason: str = "a mistake") -> httpx.Response:
    return board.client.post(f"/api/boards/{board.name}/events/{seq}/revoke", json={"reason": reason})


def test_an_event_is_made_undone_once_by_another(shared: Server, board: TestBoard) -> None:
    board.score("a", 10)
    board.score("b", 7)
    with Stream(shared.stream_url(board.name)) as stream:
        stream.wait_for(lambda s: s.of("leaderboard"))
        first = revoke(board, 1).json()
        assert (first["points"], first["newScore"], first["revokes"], first["replayed"]) == (-10, 0, 1, False)
        assert revoke(board, 1, "once more").json() == {**first, "replayed": True}
        stream.wait_for(lambda s: s.of("score-updated"))
        assert stream.of("score-updated")[0].data["points"] == -10
    for window in WINDOWS:
        assert board.ranks(window=window) == [(1, "b", 7), (2, "a", 0)]
    history = board.client.get("/api/users/a/history", params={"board": board.name}).json()["events"]
    assert [(e["seq"], e["points"], e.get("revokes")) for e in history] == [(3, -10, 1), (1, 10, None)]
    check_problem(revoke(board, 3), 422, "invalid", "3")
    check_problem(revoke(board, 99), 404, "not_found", "99")
    check_problem(board.client.post(f"/api/boards/{board.name}/events/x/revoke", json={"reason": "r"}), 422, "invalid")


@pytest.mark.parametrize(("operator", "scores", "left"), [("best", [3, 9, 5], 5), ("last", [3, 5, 9], 5)])
def test_without_its_best_or_last_event_a_total_is_what_is_left(
    shared: Server, client: httpx.Client, operator: str, scores: list[int], left: int
) -> None:
    board = open_board(shared, client, operator=operator, windows=["all", "day"])
    told = [board.score("a", points) for points in scores]
    assert told[-1]["newScore"] == 9
    assert revoke(board, 1 + scores.index(9)).json()["newScore"] == left
    for window in WINDOWS:
        assert board.ranks(window=window) == [(1, "a", left)]


@pytest.mark.parametrize("reason", ["", " ", "a\0b", "x" * 501, 1, None])
def test_a_bad_reason_is_refused(board: TestBoard, reason: object) -> None:
    board.score("a", 10)
    answer = board.client.post(f"/api/boards/{board.name}/events/1/revoke", json={"reason": reason})
    problem = check_problem(answer, 422, "invalid")
    assert problem["errors"][0]["field"] == "reason"  # type: ignore[index]


def test_a_board_without_scores_may_still_count_otherwise(board: TestBoard) -> None:
    board.put(ties="first", operator="best")
    assert [board.score("a", points)["newScore"] for points in (3, 1)] == [3, 3]


# -- what a submission may say, and how a board counts


def test_points_within_bounds_are_for_trusted_servers_only(shared: Server, board: TestBoard) -> None:
    body = {"board": board.name, "actionId": "free", "points": 5}
    with shared.client("player") as player:
        problem = check_problem(player.post("/api/scores", json=body), 422, "invalid", "points")
        assert problem["errors"][0]["field"] == "points"  # type: ignore[index]
        check_problem(player.post("/api/scores", json={**body, "points": 10**7}), 422, "invalid")
    trusted = board.client
    check_problem(trusted.post("/api/scores", json={**body, "points": 10**6 + 1}), 422, "invalid", "1000000")
    check_problem(trusted.post("/api/scores", json={"board": board.name, "actionId": "free"}), 422, "invalid", "points")
    trusted.put(f"/api/boards/{board.name}/actions/win", json={"points": 10})
    check_problem(trusted.post("/api/scores", json={**body, "actionId": "win"}), 422, "invalid", "points")
    bounds = {"points": {"min": 5, "max": 4}}
    check_problem(trusted.put(f"/api/boards/{board.name}/actions/odd", json=bounds), 422, "invalid", "5")
    assert board.page()["seq"] == 0


def test_a_key_with_other_points_is_another_submission(board: TestBoard) -> None:
    body = {"board": board.name, "userId": f"u-{board.name}", "actionId": "free", "points": 5}
    headers = {"Idempotency-Key": "one"}
    first = board.client.post("/api/scores", json=body, headers=headers).json()
    assert board.client.post("/api/scores", json=body, headers=headers).json()["seq"] == first["seq"]
    other = board.client.post("/api/scores", json={**body, "points": 6}, headers=headers)
    check_problem(other, 422, "idempotency_mismatch")


def test_no_total_falls_below_the_floor_and_the_ledger_says_what_was_taken(
    shared: Server, client: httpx.Client
) -> None:
    board = open_board(shared, client, floor=0)
    told = [board.score("a", points) for points in (5, -8, -3, 4)]
    assert [(each["points"], each["newScore"]) for each in told] == [(5, 5), (-5, 0), (0, 0), (4, 4)]
    batch = [{"userId": "b", "actionId": "free", "points": points} for points in (2, -5, 3, -1)]
    answer = client.post("/api/scores/batch", json={"board": board.name, "submissions": batch}).json()["results"]
    assert [(each["points"], each["newScore"]) for each in answer] == [(2, 2), (-2, 0), (3, 3), (-1, 2)]


@pytest.mark.parametrize(("operator", "scores"), [("best", [3, 3, 9, 9]), ("last", [3, 1, 9, -2])])
def test_a_board_may_count_the_best_or_the_last(
    shared: Server, client: httpx.Client, operator: str, scores: list[int]
) -> None:
    board = open_board(shared, client, operator=operator, windows=["all", "day"])
    told = [board.score("a", points) for points in (3, 1, 9, -2)]
    assert [each["newScore"] for each in told] == scores
    assert sum(int(str(each["points"])) for each in told) == scores[-1]
    assert board.ranks(window="day") == [(1, "a", scores[-1])]
    answer = client.put(f"/api/boards/{board.name}", json={"operator": "sum", "windows": ["all", "day"]})
    check_problem(answer, 409, "board_not_empty", "operator")
