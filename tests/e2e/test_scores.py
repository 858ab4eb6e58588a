"""Submissions: receipts, repeats, ranks, limits."""

import re
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import httpx
import pytest

from tests.e2e.answers import board_seq, check_problem
from tests.harness import Server, wait_until

SCORE_MAX = 2**53 - 1
RECEIPT = {
    "board": str,
    "userId": str,
    "actionId": str,
    "points": int,
    "newScore": int,
    "rank": int,
    "previousRank": int,
    "seq": int,
    "epoch": str,
    "at": str,
    "replayed": bool,
}
THREADS = 32


def put_board(server: Server, board: str, **actions: int) -> None:
    """A board with actions by their points."""
    with server.client("admin", "admin") as admin:
        assert admin.put(f"/api/boards/{board}", json={"title": board}).status_code in (200, 201)
    for action, points in actions.items():
        server.put_action(action, points, board)


def submit_at_once(
    server: Server, count: int, user: str, body: dict[str, object], **headers: str
) -> list[httpx.Response]:
    """Many equal submissions from threads that begin together."""
    threads = min(count, THREADS)
    barrier = threading.Barrier(threads)
    with server.client(user) as client, ThreadPoolExecutor(threads) as pool:

        def submit(number: int) -> httpx.Response:
            if number < threads:
                barrier.wait(10)
            return client.post("/api/scores", json=body, headers=headers)

        return list(pool.map(submit, range(count)))


def submit_jobs(server: Server, board: str, jobs: list[tuple[str, str]]) -> list[httpx.Response]:
    """Submissions of (user, action) from 16 threads; the answers in the order of the jobs."""
    with server.client("game", "scores:any") as client, ThreadPoolExecutor(16) as pool:

        def submit(job: tuple[str, str]) -> httpx.Response:
            return client.post("/api/scores", json={"board": board, "userId": job[0], "actionId": job[1]})

        return list(pool.map(submit, jobs))


def read_board(server: Server, board: str) -> dict[str, object]:
    with server.client() as client:
        answer = client.get("/api/leaderboard", params={"board": board, "limit": 100})
        assert answer.status_code == 200
        return dict(answer.json())


# -- receipts


def test_receipt_has_the_fields_of_the_contract_and_no_others(shared: Server) -> None:
    shared.submit("receipt")
    answer = shared.submit("receipt")
    receipt = answer.json()
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert {name: type(value) for name, value in receipt.items()} == RECEIPT
    assert (receipt["board"], receipt["userId"], receipt["actionId"]) == ("global", "receipt", "win")
    assert (receipt["points"], receipt["newScore"], receipt["replayed"]) == (10, 20, False)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", receipt["at"])
    assert abs(datetime.fromisoformat(receipt["at"]).timestamp() - datetime.now().timestamp()) < 60
    assert "idempotent-replayed" not in answer.headers


def test_first_score_has_no_previous_rank(shared: Server) -> None:
    receipt = shared.submit("first-timer").json()
    assert receipt["previousRank"] is None
    assert receipt["rank"] >= 1


def test_seq_counts_a_boards_events_without_gaps(shared: Server) -> None:
    put_board(shared, "counted", win=1)
    seqs = [shared.submit(f"counted-{n}", board="counted").json()["seq"] for n in range(5)]
    assert seqs == [1, 2, 3, 4, 5]


def test_refused_submissions_leave_no_gap(shared: Server) -> None:
    put_board(shared, "refused", win=1)
    assert shared.submit("a", board="refused").json()["seq"] == 1
    assert shared.submit("a", "nope", board="refused").status_code == 422
    assert shared.submit("a", board="refused").json()["seq"] == 2


def test_user_defaults_to_the_token_and_may_be_named(shared: Server) -> None:
    with shared.client("self") as client:
        assert client.post("/api/scores", json={"actionId": "win"}).json()["userId"] == "self"
        answer = client.post("/api/scores", json={"actionId": "win", "userId": "self", "board": "global"})
    assert answer.json()["newScore"] == 20


def test_scope_scores_any_submits_for_others(shared: Server) -> None:
    with shared.client("game", "scores:any") as client:
        receipt = client.post("/api/scores", json={"actionId": "win", "userId": "player-of-game"}).json()
    assert (receipt["userId"], receipt["newScore"]) == ("player-of-game", 10)


@pytest.mark.parametrize("user", ["Ünï", "🏆🏆", "a/b", "x y", "%41", "😀" * 64, '"quoted"', "<script>", "क्\u200dष"])
def test_user_ids_are_kept_as_they_are(shared: Server, user: str) -> None:
    with shared.client("game", "scores:any") as client:
        receipt = client.post("/api/scores", json={"actionId": "win", "userId": user}).json()
    assert receipt["userId"] == user


def test_points_come_from_the_server_as_they_are_now(shared: Server) -> None:
    put_board(shared, "repriced", win=10)
    assert shared.submit("r", board="repriced").json()["points"] == 10
    shared.put_action("win", 3, "repriced")
    receipt = shared.submit("r", board="repriced").json()
    assert (receipt["points"], receipt["newScore"]) == (3, 13)


# -- repeats


def test_retry_with_the_same_key_records_once(shared: Server) -> None:
    first = shared.submit("retry", key="k1")
    between = shared.submit("retry", key="k2")
    seq = board_seq(shared)
    again = shared.submit("retry", key="k1")
    assert again.status_code == 200
    assert again.headers["idempotent-replayed"] == "true"
    assert again.json()["replayed"] is True
    for name in ("board", "userId", "actionId", "points", "newScore", "seq", "epoch", "at"):
        assert again.json()[name] == first.json()[name]
    assert between.json()["newScore"] == 20
    assert board_seq(shared) == seq


def test_replay_keeps_the_points_of_then(shared: Server) -> None:
    put_board(shared, "then", win=10)
    shared.submit("t", key="k", board="then")
    shared.put_action("win", 99, "then")
    assert shared.submit("t", key="k", board="then").json()["points"] == 10


def test_replay_works_after_the_action_was_disabled(shared: Server) -> None:
    put_board(shared, "gone", win=10)
    first = shared.submit("g", key="k", board="gone").json()
    with shared.client("admin", "admin") as admin:
        assert admin.delete("/api/boards/gone/actions/win").status_code == 204
    again = shared.submit("g", key="k", board="gone")
    assert (again.status_code, again.json()["seq"]) == (200, first["seq"])


def test_quoted_and_plain_form_of_a_key_are_one_key(shared: Server) -> None:
    first = shared.submit("quoted", key="one-key").json()
    for form in ('"one-key"', "one-key"):
        again = shared.submit("quoted", key=form).json()
        assert (again["seq"], again["replayed"]) == (first["seq"], True)


def test_escapes_in_a_quoted_key_are_undone(shared: Server) -> None:
    first = shared.submit("escaped", key='"a\\"b\\\\c"').json()
    again = shared.submit("escaped", key='a"b\\c').json()
    assert (again["seq"], again["replayed"]) == (first["seq"], True)


def test_keys_differ_by_case(shared: Server) -> None:
    assert shared.submit("cased", key="Key").json()["replayed"] is False
    assert shared.submit("cased", key="key").json()["replayed"] is False


def test_same_key_with_another_action_is_a_mismatch(shared: Server) -> None:
    shared.put_action("mismatch", 3)
    shared.submit("mis", key="m1")
    seq = board_seq(shared)
    check_problem(shared.submit("mis", "mismatch", key="m1"), 422, "idempotency_mismatch", names="m1")
    assert board_seq(shared) == seq


def test_same_key_on_another_board_is_a_mismatch(shared: Server) -> None:
    put_board(shared, "elsewhere", win=10)
    shared.submit("mis", key="m2")
    check_problem(shared.submit("mis", key="m2", board="elsewhere"), 422, "idempotency_mismatch", names="m2")
    assert board_seq(shared, "elsewhere") == 0


def test_same_key_of_another_user_is_another_key(shared: Server) -> None:
    first = shared.submit("owner-1", key="shared-key").json()
    second = shared.submit("owner-2", key="shared-key").json()
    assert second["replayed"] is False
    assert second["seq"] > first["seq"]


def test_refused_submission_does_not_use_up_its_key(shared: Server) -> None:
    put_board(shared, "unused", win=10)
    assert shared.submit("late", "soon", key="u", board="unused").status_code == 422
    shared.put_action("soon", 5, "unused")
    receipt = shared.submit("late", "soon", key="u", board="unused").json()
    assert (receipt["newScore"], receipt["replayed"]) == (5, False)


def test_fifty_at_once_with_one_key_are_one_event(shared: Server) -> None:
    put_board(shared, "fifty", win=10)
    answers = submit_at_once(shared, 50, "f", {"actionId": "win", "board": "fifty"}, **{"idempotency-key": "same"})
    assert [answer.status_code for answer in answers] == [200] * 50
    assert {(a.json()["seq"], a.json()["newScore"], a.json()["at"]) for a in answers} == {
        (1, 10, answers[0].json()["at"])
    }
    assert Counter(answer.json()["replayed"] for answer in answers) == {False: 1, True: 49}
    assert all(("idempotent-replayed" in a.headers) == a.json()["replayed"] for a in answers)
    assert board_seq(shared, "fifty") == 1


def test_two_bodies_at_once_with_one_key_record_one_of_them(shared: Server) -> None:
    put_board(shared, "race", win=10, lose=-10)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: shared.submit("r", ("win", "lose")[n % 2], "k", "race"), range(16)))
    assert Counter(answer.status_code for answer in answers) == {200: 8, 422: 8}
    assert len({answer.json()["actionId"] for answer in answers if answer.status_code == 200}) == 1
    assert board_seq(shared, "race") == 1


# -- sums and ranks


def test_parallel_submissions_of_one_user_sum_exactly(shared: Server) -> None:
    put_board(shared, "sums", win=10)
    answers = submit_at_once(shared, 160, "s", {"actionId": "win", "board": "sums"})
    assert [answer.status_code for answer in answers] == [200] * 160
    receipts = sorted((answer.json() for answer in answers), key=lambda receipt: receipt["seq"])
    assert [receipt["seq"] for receipt in receipts] == list(range(1, 161))
    assert [receipt["newScore"] for receipt in receipts] == list(range(10, 1_601, 10))
    assert [entry["score"] for entry in read_board(shared, "sums")["leaderboard"]] == [1_600]  # type: ignore[attr-defined]


def test_parallel_submissions_of_many_users_sum_exactly(shared: Server) -> None:
    put_board(shared, "crowd", one=1, two=2)
    jobs = [(f"u{n % 8}", ("one", "two")[n % 2]) for n in range(160)]
    answers = submit_jobs(shared, "crowd", jobs)
    assert sorted(answer.json()["seq"] for answer in answers) == list(range(1, 161))
    expected: Counter[str] = Counter()
    for user, action in jobs:
        expected[user] += 1 if action == "one" else 2
    scores = {entry["userId"]: entry["score"] for entry in read_board(shared, "crowd")["leaderboard"]}  # type: ignore[attr-defined]
    assert scores == expected


def test_ties_share_a_rank_and_the_next_is_skipped(shared: Server) -> None:
    put_board(shared, "ties", top=30, mid=20, low=10)
    for user, action in (("d", "low"), ("c", "mid"), ("b", "mid"), ("a", "top")):
        shared.submit(user, action, board="ties")
    entries = read_board(shared, "ties")["leaderboard"]
    assert [(e["rank"], e["userId"]) for e in entries] == [(1, "a"), (2, "b"), (2, "c"), (4, "d")]  # type: ignore[attr-defined]


def test_ranks_of_receipts_follow_the_board(shared: Server) -> None:
    put_board(shared, "steps", one=10, two=20)
    moves = []
    for user, action in (("a", "two"), ("b", "one"), ("c", "one"), ("c", "one"), ("b", "two"), ("a", "one")):
        receipt = shared.submit(user, action, board="steps").json()
        moves.append((user, receipt["newScore"], receipt["previousRank"], receipt["rank"]))
    assert moves == [
        ("a", 20, None, 1),
        ("b", 10, None, 2),
        ("c", 10, None, 2),
        ("c", 20, 2, 1),
        ("b", 30, 3, 1),
        ("a", 30, 2, 1),
    ]


def test_ties_are_ordered_by_the_bytes_of_the_user_id(shared: Server) -> None:
    put_board(shared, "bytes", win=1)
    users = ["b", "B", "a", "ä", "é", "10", "9", "🏆", "\uff21", "Z"]
    for user in users:
        shared.submit(user, board="bytes")
    entries = read_board(shared, "bytes")["leaderboard"]
    assert [entry["userId"] for entry in entries] == sorted(users, key=lambda user: user.encode())  # type: ignore[attr-defined]


def test_negative_points_lower_score_and_rank(shared: Server) -> None:
    put_board(shared, "penalty", win=10, foul=-25)
    shared.submit("a", board="penalty")
    shared.submit("b", board="penalty")
    receipt = shared.submit("a", "foul", board="penalty").json()
    assert (receipt["points"], receipt["newScore"]) == (-25, -15)
    assert (receipt["previousRank"], receipt["rank"]) == (1, 2)


def test_action_worth_nothing_enters_the_board(shared: Server) -> None:
    put_board(shared, "zero", join=0)
    receipt = shared.submit("a", "join", board="zero").json()
    assert (receipt["points"], receipt["newScore"], receipt["rank"]) == (0, 0, 1)
    assert read_board(shared, "zero")["total"] == 1


@pytest.mark.parametrize("sign", [1, -1])
def test_score_stops_at_the_limit_of_exact_integers(shared: Server, sign: int) -> None:
    board = f"limit{sign}"
    put_board(shared, board, most=sign * SCORE_MAX, one=sign, back=-sign)
    assert shared.submit("a", "most", board=board).json()["newScore"] == sign * SCORE_MAX
    check_problem(shared.submit("a", "one", board=board), 422, "invalid", names="one")
    check_problem(shared.submit("a", "most", board=board), 422, "invalid", names="most")
    receipt = shared.submit("a", "back", board=board).json()
    assert (receipt["newScore"], receipt["seq"]) == (sign * (SCORE_MAX - 1), 2)
    (entry,) = read_board(shared, board)["leaderboard"]  # type: ignore[misc]
    assert entry["score"] == sign * (SCORE_MAX - 1)


def test_one_submission_beyond_the_limit_does_not_fail_those_beside_it(shared: Server) -> None:
    put_board(shared, "beside", most=SCORE_MAX, one=1)
    shared.submit("full", "most", board="beside")
    jobs = [(("full", f"u{n}")[n % 2], "one") for n in range(32)]
    answers = submit_jobs(shared, "beside", jobs)
    assert [answer.status_code for answer in answers] == [422, 200] * 16
    assert board_seq(shared, "beside") == 17


def test_disabled_action_is_refused(shared: Server) -> None:
    put_board(shared, "off")
    shared.put_action("win", 10, "off", enabled=False)
    check_problem(shared.submit("a", board="off"), 422, "action_disabled", names="win")
    assert board_seq(shared, "off") == 0
    shared.put_action("win", 10, "off", enabled=True)
    assert shared.submit("a", board="off").status_code == 200


# -- cooldowns, caps, rates


def check_limited(answer: httpx.Response, code: str, names: str) -> tuple[int, int, int]:
    """A 429 with everything a client needs: Retry-After, and quota and window of the policy."""
    check_problem(answer, 429, code, names=names)
    retry_after = int(answer.headers["retry-after"])
    policy = re.fullmatch(r'"([\w-]+)";q=(\d+);w=(\d+)', answer.headers["ratelimit-policy"])
    state = re.fullmatch(r'"([\w-]+)";r=(\d+);t=(\d+)', answer.headers["ratelimit"])
    assert policy
    assert state
    assert policy[1] == state[1]
    assert (int(state[2]), int(state[3])) == (0, retry_after)
    return retry_after, int(policy[2]), int(policy[3])


def test_cooldown_refuses_the_next_use_and_says_when(shared: Server) -> None:
    put_board(shared, "cool")
    shared.put_action("win", 10, "cool", cooldownSeconds=1_000)
    assert shared.submit("a", board="cool").status_code == 200
    retry_after, quota, window = check_limited(shared.submit("a", board="cool"), "cooldown", "win")
    assert 990 <= retry_after <= 1_000
    assert (quota, window) == (1, 1_000)
    assert board_seq(shared, "cool") == 1


def test_cooldown_is_of_one_user_and_one_action(shared: Server) -> None:
    put_board(shared, "own-cool", other=5)
    shared.put_action("win", 10, "own-cool", cooldownSeconds=1_000)
    assert shared.submit("a", board="own-cool").status_code == 200
    assert shared.submit("b", board="own-cool").status_code == 200
    assert shared.submit("a", "other", board="own-cool").status_code == 200
    assert shared.submit("a", board="own-cool").status_code == 429


def test_cooldown_ends(shared: Server) -> None:
    put_board(shared, "warm")
    shared.put_action("win", 10, "warm", cooldownSeconds=1)
    assert shared.submit("a", board="warm").status_code == 200
    assert int(shared.submit("a", board="warm").headers["retry-after"]) == 1
    wait_until(lambda: shared.submit("a", board="warm").status_code == 200, within_s=3, what="the end of the cooldown")


def test_fifty_at_once_do_not_beat_a_cooldown(shared: Server) -> None:
    put_board(shared, "cool-race")
    shared.put_action("win", 10, "cool-race", cooldownSeconds=1_000)
    answers = submit_at_once(shared, 50, "a", {"actionId": "win", "board": "cool-race"})
    assert Counter(answer.status_code for answer in answers) == {200: 1, 429: 49}
    assert board_seq(shared, "cool-race") == 1


def test_daily_cap_refuses_further_uses_until_the_next_day(shared: Server) -> None:
    put_board(shared, "cap")
    shared.put_action("win", 10, "cap", dailyCap=3)
    assert [shared.submit("a", board="cap").status_code for _ in range(3)] == [200] * 3
    retry_after, quota, window = check_limited(shared.submit("a", board="cap"), "daily_cap", "win")
    assert 1 <= retry_after <= 86_400
    assert (quota, window) == (3, 86_400)
    assert shared.submit("b", board="cap").status_code == 200
    assert board_seq(shared, "cap") == 4


def test_fifty_at_once_do_not_beat_a_daily_cap(shared: Server) -> None:
    put_board(shared, "cap-race")
    shared.put_action("win", 10, "cap-race", dailyCap=7)
    answers = submit_at_once(shared, 50, "a", {"actionId": "win", "board": "cap-race"})
    assert Counter(answer.status_code for answer in answers) == {200: 7, 429: 43}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 429} == {"daily_cap"}
    assert board_seq(shared, "cap-race") == 7


def test_replay_is_not_limited_by_cooldown_or_cap(shared: Server) -> None:
    put_board(shared, "cool-replay")
    shared.put_action("win", 10, "cool-replay", cooldownSeconds=1_000, dailyCap=1)
    first = shared.submit("a", key="k", board="cool-replay").json()
    again = shared.submit("a", key="k", board="cool-replay")
    assert (again.status_code, again.json()["seq"]) == (200, first["seq"])


@pytest.fixture(scope="module")
def limited(start_shared: Callable[..., Server], shared: Server) -> tuple[Server, Server]:
    """Two servers on the module's stores that allow each user 5 submissions a minute."""
    return start_shared(RATE_LIMIT="5/60s"), start_shared(RATE_LIMIT="5/60s")


def test_rate_limit_refuses_with_the_headers_of_a_limit(limited: tuple[Server, Server]) -> None:
    server = limited[0]
    for left in (4, 3, 2, 1, 0):
        answer = server.submit("fast")
        assert answer.status_code == 200
        assert re.match(rf'"[\w-]+";r={left};t=\d+', answer.headers["ratelimit"])
    seq = board_seq(server)
    retry_after, quota, window = check_limited(server.submit("fast"), "rate_limited", "fast")
    assert 1 <= retry_after <= 12
    assert (quota, window) == (5, 60)
    assert board_seq(server) == seq


def test_rate_limit_is_per_user(limited: tuple[Server, Server]) -> None:
    assert [limited[0].submit("fast-2").status_code for _ in range(6)] == [200] * 5 + [429]
    assert limited[0].submit("calm").status_code == 200


def test_two_servers_share_the_rate_limit(limited: tuple[Server, Server]) -> None:
    statuses = [limited[n % 2].submit("commuter").status_code for n in range(8)]
    assert statuses == [200] * 5 + [429] * 3


def test_fifty_at_once_do_not_beat_the_rate_limit(limited: tuple[Server, Server]) -> None:
    answers = submit_at_once(limited[0], 50, "racer", {"actionId": "win"})
    assert Counter(answer.status_code for answer in answers) == {200: 5, 429: 45}


def test_rate_limit_is_counted_for_the_player_not_the_token(limited: tuple[Server, Server]) -> None:
    with limited[0].client("game", "scores:any") as game:
        statuses = [
            game.post("/api/scores", json={"actionId": "win", "userId": f"player{n % 2}"}).status_code
            for n in range(12)
        ]
    assert statuses == [200] * 10 + [429] * 2
