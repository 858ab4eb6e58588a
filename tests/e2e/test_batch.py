"""POST /api/scores/batch: in order, each by itself, in the words of single submissions."""

import json
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.e2e.answers import board_seq, check_problem
from tests.harness import Server, Stream

PATH = "/api/scores/batch"
BATCH_MAX = 1_000
BATCH_BYTES_MAX = 1024 * 1024
RECEIPT = {"board", "userId", "actionId", "points", "newScore", "rank", "previousRank", "seq", "epoch", "at"}


@pytest.fixture(scope="module")
def game(shared: Server) -> Iterator[httpx.Client]:
    """A trusted server that submits for its players."""
    shared.put_action("win", 10)
    shared.put_action("penalty", -5)
    with shared.client("game", "scores:any") as client:
        yield client


def submit(client: httpx.Client, *items: dict[str, object], **fields: object) -> list[dict[str, object]]:
    answer = client.post(PATH, json={"submissions": list(items), **fields})
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert len(results) == len(items)
    return list(results)


def item(user: str, key: str | None = None, action: str = "win") -> dict[str, object]:
    return {"actionId": action, "userId": user} | ({"idempotencyKey": key} if key else {})


def test_results_are_receipts_in_the_order_asked(game: httpx.Client) -> None:
    results = submit(game, item("ba"), item("bb"), item("ba", action="penalty"))
    assert [set(result) for result in results] == [RECEIPT | {"status", "replayed"}] * 3
    assert [(r["status"], r["userId"], r["points"], r["newScore"]) for r in results] == [
        ("recorded", "ba", 10, 10),
        ("recorded", "bb", 10, 10),
        ("recorded", "ba", -5, 5),
    ]
    first = results[0]["seq"]
    assert isinstance(first, int)
    assert [result["seq"] for result in results] == [first, first + 1, first + 2]


def test_the_rank_is_that_right_after_each(game: httpx.Client, shared: Server) -> None:
    with shared.client("admin", "admin") as admin:
        admin.put("/api/boards/batched", json={})
    shared.put_action("win", 10, "batched")
    results = submit(game, item("a"), item("b"), item("b"), item("a"), board="batched")
    assert [(r["rank"], r["previousRank"]) for r in results] == [(1, None), (1, None), (1, 1), (1, 2)]


def test_a_bad_one_does_not_touch_the_others(game: httpx.Client, shared: Server) -> None:
    before = board_seq(shared)
    results = submit(
        game,
        item("good-1"),
        item(" "),
        item("x" * 65),
        item("good-2", action="nope"),
        item("good-2", action="no/pe"),
        item("good-2", key="k" * 256),
        item("good-2", key="näh"),
        item("good-3"),
    )
    told = [(r["status"], r.get("code")) for r in results]
    invalid = ("rejected", "invalid")
    assert told == [
        ("recorded", None),
        invalid,
        invalid,
        ("rejected", "unknown_action"),
        invalid,
        invalid,
        invalid,
        ("recorded", None),
    ]
    assert all(set(r) == {"status", "code", "detail"} for r in results if r["status"] == "rejected")
    assert "nope" in str(results[3]["detail"])
    assert board_seq(shared) == before + 2


def test_repeats_within_a_batch_and_of_a_batch_are_replayed(game: httpx.Client, shared: Server) -> None:
    items = [item("again", "k1"), item("again", "k1"), item("again", "k2"), item("again", "k1", "penalty")]
    first = submit(game, *items)
    assert [r["status"] for r in first] == ["recorded", "replayed", "recorded", "rejected"]
    assert first[3]["code"] == "idempotency_mismatch"
    before = board_seq(shared)
    again = submit(game, *items)
    assert [r["status"] for r in again] == ["replayed", "replayed", "replayed", "rejected"]
    assert [r.get("seq") for r in again] == [r.get("seq") for r in first]
    assert board_seq(shared) == before


def test_limits_of_an_action_count_within_a_batch(game: httpx.Client, shared: Server) -> None:
    shared.put_action("rare", 1, cooldownSeconds=60)
    shared.put_action("twice", 1, dailyCap=2)
    results = submit(game, *[item("capped", action="twice")] * 4, *[item("capped", action="rare")] * 2)
    assert [r.get("code") for r in results] == [None, None, "daily_cap", "daily_cap", None, "cooldown"]


def test_the_user_defaults_to_the_token(game: httpx.Client) -> None:
    (result,) = submit(game, {"actionId": "win"})
    assert result["userId"] == "game"


def test_a_thousand_are_applied_in_order_and_told_to_streams(game: httpx.Client, shared: Server) -> None:
    with Stream(f"{shared.url}/api/leaderboard/stream") as stream:
        results = submit(game, *[item(f"many-{number % 10}", f"many-{number}") for number in range(BATCH_MAX)])
        assert {r["status"] for r in results} == {"recorded"}
        seqs = [int(str(r["seq"])) for r in results]
        assert seqs == list(range(seqs[0], seqs[0] + BATCH_MAX))
        assert [r["newScore"] for r in results] == [10 * (number // 10 + 1) for number in range(BATCH_MAX)]
        stream.wait_for_seq(seqs[-1])
        told = [f.data for f in stream.of("score-updated") if str(f.data["userId"]).startswith("many-")]
        assert sum(int(str(data["points"])) for data in told) == 10 * BATCH_MAX


def test_batches_of_many_clients_at_once_are_all_recorded(game: httpx.Client, shared: Server) -> None:
    before = board_seq(shared)

    def send(client: int) -> None:
        with shared.client("game", "scores:any") as own:
            submit(own, *[item("crowd", f"{client}-{number}") for number in range(200)])

    threads = [threading.Thread(target=send, args=(client,)) for client in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert board_seq(shared) == before + 1_600
    with shared.client() as client:
        assert client.get("/api/users/crowd/stats").json()["score"] == 16_000


def test_the_rate_limit_counts_each(start_shared: Callable[..., Server]) -> None:
    limited = start_shared(RATE_LIMIT="3/60s")
    with limited.client("game", "scores:any") as client:
        results = submit(client, *[item("hasty")] * 5, item("calm"))
        assert [r.get("code") for r in results] == [None, None, None, "rate_limited", "rate_limited", None]


# -- what is refused as a whole


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "submissions"),
        ({"submissions": []}, "submissions"),
        ({"submissions": [{"actionId": "win"}] * (BATCH_MAX + 1)}, "submissions"),
        ({"submissions": {"actionId": "win"}}, "submissions"),
        ({"submissions": [{"actionId": 1}]}, "submissions[0].actionId"),
        ({"submissions": [{"actionId": "win"}, {"actionId": "win", "bonus": 5}]}, "submissions[1].bonus"),
        ({"submissions": [{"actionId": "win", "points": "5"}]}, "submissions[0].points"),
        ({"submissions": [{"actionId": "win", "points": 2**64}]}, "submissions[0].points"),
        ({"submissions": [{"actionId": "win"}] * 11 + [{}]}, "submissions[11].actionId"),
        ({"submissions": [{"actionId": "win"}, 5]}, "submissions[1]"),
        ({"submissions": [{"actionId": "win"}], "board": "no/name"}, "board"),
        ({"submissions": [{"actionId": "win"}], "more": 1}, "more"),
    ],
)
def test_a_body_of_another_form_is_refused_and_nothing_recorded(
    game: httpx.Client, shared: Server, body: dict[str, object], field: str
) -> None:
    before = board_seq(shared)
    problem = check_problem(game.post(PATH, json=body), 422, "invalid")
    assert problem["errors"][0]["field"] == field
    assert board_seq(shared) == before


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'{"submissions":[{"actionId":"win"}]',
        b'{"submissions":[{"actionId":"win","actionId":"win"}]}',
        b'{"submissions":[{"actionId":"win"}],"submissions":[{"actionId":"win"}]}',
        b'{"submissions":[{"actionId":"win","user\\u0049d":"a","userId":"b"}]}',
    ],
)
def test_a_body_that_is_not_strict_json_is_refused(game: httpx.Client, shared: Server, body: bytes) -> None:
    before = board_seq(shared)
    answer = game.post(PATH, content=body, headers={"Content-Type": "application/json"})
    check_problem(answer, 400, "malformed_json")
    assert board_seq(shared) == before


def test_an_unknown_board_is_not_found(game: httpx.Client) -> None:
    answer = game.post(PATH, json={"board": "nowhere", "submissions": [item("a")]})
    check_problem(answer, 404, "not_found")


def test_only_the_scope_may_and_nobody_else_gets_to_send_much(shared: Server, public: httpx.Client) -> None:
    body = {"submissions": [item("u", "k" * 200)] * BATCH_MAX}
    check_problem(public.post(PATH, json=body), 401, "unauthenticated")
    for scope in ("", "admin"):
        with shared.client("u", scope) as client:
            check_problem(client.post(PATH, json=body), 403, "forbidden")
            check_problem(client.post(PATH, json={"submissions": [item("u")]}), 403, "forbidden")
            assert client.get("/healthz").status_code == 200


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(game: httpx.Client, shared: Server) -> None:
    filler = " " * BATCH_BYTES_MAX
    body = json.dumps({"submissions": [item("u")]}) + filler
    answer = game.post(PATH, content=body.encode(), headers={"Content-Type": "application/json"})
    check_problem(answer, 413, "too_large")
    token = shared.client("game", "scores:any").headers["authorization"]
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nContent-Type: application/json\r\n"
    told = shared.raw(f"{head}Content-Length: 99999999\r\n\r\n".encode())
    assert told.startswith(b"HTTP/1.1 413")


def test_a_body_just_within_the_limit_is_taken(game: httpx.Client) -> None:
    body = json.dumps({"submissions": [item("fits")]})
    body += " " * (BATCH_BYTES_MAX - len(body))
    answer = game.post(PATH, content=body.encode(), headers={"Content-Type": "application/json"})
    assert answer.json()["results"][0]["status"] == "recorded"


def test_other_routes_keep_their_limit(game: httpx.Client) -> None:
    body = json.dumps({"actionId": "win"}) + " " * 16 * 1024
    answer = game.post("/api/scores", content=body.encode(), headers={"Content-Type": "application/json"})
    check_problem(answer, 413, "too_large")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"actionId": st.sampled_from(["win", "penalty", "nope", "", "a b"])},
            optional={
                "userId": st.sampled_from(["p1", "p2", "", "x" * 65, "\u0000"]),
                "idempotencyKey": st.sampled_from(["k1", "k2", "", None]),
            },
        ),
        min_size=1,
        max_size=12,
    )
)
def test_whatever_is_in_it_sums_stay_true(
    game: httpx.Client, shared: Server, submissions: list[dict[str, object]]
) -> None:
    before = board_seq(shared)
    results = submit(game, *submissions)
    recorded = [r for r in results if r["status"] == "recorded"]
    assert board_seq(shared) == before + len(recorded)
    assert [r["seq"] for r in recorded] == list(range(before + 1, before + 1 + len(recorded)))
