"""What refusals say: the place that was wrong as a path, what was wrong with it, and no more of a value than helps."""

import json
import re
from collections.abc import Iterator

import httpx
import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreboard.http import openapi
from scoreboard.shown import SHOWN_CHARS_MAX, show, show_json, show_name
from tests.e2e.answers import build_request, check_problem, parse_answers
from tests.e2e.boards import admin_client
from tests.harness import SECRET, Server, make_token

PATHS = openapi.build()["paths"]
API = [(method.upper(), path) for path, methods in PATHS.items() if path.startswith("/api/") for method in methods]
BODIES = [(method, path) for method, path in API if "requestBody" in PATHS[path][method.lower()]]
SEGMENTS = {"board": "global", "userId": "alice", "action": "win", "group": "g", "seq": "1"}
LONG = "z" * 3_000
ECHO = "z" * (SHOWN_CHARS_MAX + 1)
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def admin(shared: Server) -> Iterator[httpx.Client]:
    with admin_client(shared) as client:
        yield client


def address(path: str, **segments: str) -> str:
    return re.sub("{([^}]+)}", lambda found: (SEGMENTS | segments)[found[1]], path)


# -- how much of a value


def long_requests() -> Iterator[tuple[str, str, dict[str, object]]]:
    """Requests with a long text in each place that a message may show."""
    for method, path in API:
        for name in re.findall("{([^}]+)}", path):
            yield method, address(path, **{name: LONG}), {"json": {}}
        for parameter in PATHS[path][method.lower()]["parameters"]:
            if parameter["in"] == "query" and not path.endswith("/stream"):
                yield method, address(path), {"params": {parameter["name"]: LONG}}
        yield method, address(path), {"params": {LONG: "1"}}
    for method, path in BODIES:
        schema = PATHS[path][method.lower()]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        fields = openapi.build()["components"]["schemas"][schema.rpartition("/")[2]]["properties"]
        for value in (LONG, [LONG], {"z": LONG}, {LONG: 1}, [[LONG]] * 3):
            for name in fields:
                yield method, address(path), {"json": {name: value}}
        yield method, address(path), {"json": {LONG: 1}}
        yield method, address(path), {"content": LONG, "headers": JSON}
        yield method, address(path), {"content": b"{}", "headers": {"content-type": LONG}}
    submission = {"json": {"actionId": "win"}}
    yield "POST", "/api/scores", submission | {"headers": {"idempotency-key": LONG}}
    yield "POST", "/api/scores", submission | {"headers": {"idempotency-key": f'"{LONG}'}}
    for field in ("actionId", "userId", "idempotencyKey"):
        item = {"actionId": "win"} | {field: LONG}
        yield "POST", "/api/scores/batch", {"json": {"submissions": [item]}}
    yield "GET", f"/web/{LONG}", {}
    yield "GET", f"/{LONG}", {}
    yield "GET", "/api/leaderboard", {"headers": {"authorization": f"Bearer {LONG}"}}


def test_no_message_repeats_more_of_a_value_than_helps(admin: httpx.Client) -> None:
    refused = 0
    for method, path, more in long_requests():
        answer = admin.request(method, path, **more)  # type: ignore[arg-type]
        assert ECHO not in answer.text, (method, path[:60], answer.text[:300])
        refused += answer.status_code >= 400
    assert refused > 200


def test_nor_does_one_of_another_token_or_expectation(shared: Server) -> None:
    for lines in ({"authorization": f"Bearer {LONG}"}, {"authorization": LONG}, {"expect": LONG}):
        request = build_request("POST", "/api/scores", b"{}", content_type="application/json", **lines)
        for answer in parse_answers(shared.raw(request)):
            assert answer.status_code >= 400
            assert ECHO.encode() not in answer.content


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=400),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=300), inner, max_size=5),
)


@given(JSON_VALUES)
def test_any_value_is_shown_short_and_printable(value: object) -> None:
    for text in (show(value), show_json(value)):
        assert 0 < len(text) <= SHOWN_CHARS_MAX + len("''…")
        assert text.isprintable()


@given(st.text(max_size=40))
def test_a_short_text_is_shown_whole(text: str) -> None:
    assert show(text) == repr(text)
    assert show_name(text).isprintable()
    if text.isprintable():
        assert json.loads(show_json(text)) == text


def test_a_number_of_many_digits_is_not_written_out() -> None:
    assert len(show(10**4_000)) < 100


# -- which place


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/api/scores", {"actionId": "win", "nmae": 1}, "nmae"),
        ("POST", "/api/scores", {"actionId": "win", "x` - at `$.board": 1}, "x` - at `$.board"),
        ("POST", "/api/scores", {"x` - at `$.more": 1, "more": {"x": 1}, "actionId": "win"}, "x` - at `$.more"),
        ("POST", "/api/scores", {"actionId": "win", "view": 1}, "view"),
        ("POST", "/api/scores", {"actionId": "win", "occurredAt": "2026-01-01T00:00:00Z"}, "occurredAt"),
        ("POST", "/api/scores", {"actionId": "win", "tieBreak": 1}, "tieBreak"),
        (
            "POST",
            "/api/scores/batch",
            {"submissions": [{"actionId": "win"}, {"actionId": 5}]},
            "submissions[1].actionId",
        ),
        ("POST", "/api/scores/batch", {"submissions": [{"actionId": "win", "nope": 5}]}, "submissions[0].nope"),
        ("POST", "/api/scores/batch", {"submissions": [{"actionId": "win"}, []]}, "submissions[1]"),
        ("POST", "/api/scores/batch", {"submissions": [{"actionId": "win", "board": "b"}]}, "submissions[0].board"),
        ("PUT", "/api/boards/global", {"windows": ["all", "hour"]}, "windows[1]"),
        ("PUT", "/api/boards/global", {"windows": ["all", 1]}, "windows[1]"),
        ("PUT", "/api/boards/global", {"order": "asc"}, "order"),
        ("PUT", "/api/boards/global/actions/win", {"points": {"min": 1}}, "points.max"),
        ("PUT", "/api/boards/global/actions/win", {"points": {"min": 1, "max": "x"}}, "points.max"),
        ("PUT", "/api/boards/global/actions/win", {"points": {"min": 1, "max": 2, "mid": 1}}, "points.mid"),
        ("PUT", "/api/boards/global/actions/win", {"points": {"min": 3, "max": 2}}, "points.min"),
        ("PUT", "/api/boards/global/groups/g", {"members": ["a", 5]}, "members[1]"),
        ("PUT", "/api/boards/global/groups/g", {"members": ["a", "b", "a"]}, "members[2]"),
        ("PUT", "/api/boards/global/groups/g", {"members": ["a", ""]}, "members[1]"),
        ("PUT", "/api/users/alice", {"displayName": 5}, "displayName"),
        ("PUT", "/api/users/alice", {}, "displayName"),
        ("POST", "/api/boards/global/events/1/revoke", {"reason": ""}, "reason"),
    ],
)
def test_the_place_that_is_wrong_is_named_as_a_path(
    admin: httpx.Client, method: str, path: str, body: dict[str, object], field: str
) -> None:
    problem = check_problem(admin.request(method, path, json=body), 422, "invalid", names=field)
    assert [error["field"] for error in problem["errors"]] == [field]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("POST", "/api/scores", {"actionId": "win", "nope": 1}, "there are actionId, userId, board, points"),
        ("PUT", "/api/boards/global", {"ties": "odd"}, 'ties: Expected one of dense, first, shared: "odd"'),
        (
            "PUT",
            "/api/boards/global",
            {"windows": ["all", "hour"]},
            "windows[1]: Expected one of all, day, month",
        ),
        ("PUT", "/api/boards/global/actions/win", {"points": 1, "dailyCap": 0}, "dailyCap: Expected at least 1: 0"),
        (
            "PUT",
            "/api/boards/global/actions/win",
            {"points": True},
            "points: Expected integer or object, got boolean",
        ),
        ("PUT", "/api/boards/global", {"operator": "best", "floor": 3}, "goes with the operator 'sum' only"),
        ("PUT", "/api/boards/global", {"windows": ["day"]}, "[\"day\"] lacks 'all'"),
        ("POST", "/api/scores/batch", {"submissions": []}, "submissions: Expected at least 1 entry, got none"),
        (
            "PATCH",
            "/api/boards/global",
            {"windows": ["all", "year"]},
            'windows[1]: Expected one of all, day, month, week: "year"',
        ),
        ("PATCH", "/api/boards/global", {"ties": "odd"}, 'ties: Expected one of dense, first, shared: "odd"'),
        ("PATCH", "/api/boards/global", {"windows": []}, "windows: Expected at least 1 entry, got none"),
        ("PATCH", "/api/boards/global", {"title": "t" * 201}, "t'… has 201 characters, more than 200"),
        ("PUT", "/api/boards/global", {"ties": None}, "ties: Expected string, got null"),
        ("PUT", "/api/users/alice", {"name": "A"}, "name: is not a field here; there is only displayName"),
        ("PUT", "/api/users/alice", {"displayName": ""}, "displayName: is empty; give it 1 to 100 characters"),
        ("PUT", "/api/users/alice", {"displayName": "n" * 300}, "n'… has 300 characters, more than 100"),
        ("POST", "/api/scores", {"actionId": "win", "userId": "u" * 65}, "u' has 65 characters, more than 64"),
        ("POST", "/api/scores", {"actionId": ""}, "actionId: Expected at least 1 character, got none"),
        (
            "POST",
            "/api/boards/global/events/1/revoke",
            {"reason": "r" * 501},
            "reason: Expected at most 500 characters, got 501: ",
        ),
        ("PUT", "/api/boards/global/groups/g", {"members": ["a", "a"]}, "'a' is members[0] already"),
    ],
)
def test_what_would_be_right_is_told(
    admin: httpx.Client, method: str, path: str, body: dict[str, object], said: str
) -> None:
    problem = check_problem(admin.request(method, path, json=body), 422, "invalid", names=said)
    assert not str(problem["detail"]).endswith(": null")


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("garbage", "it is malformed"),
        ("a.b", "it is malformed"),
        ("a.b.c", "it is malformed"),
        (make_token("eve", ttl_s=-60), "it has expired"),
        (make_token("eve", nbf=2**40), "it is not valid yet"),
        (make_token("eve", secret="another secret, also longer than 32 bytes"), "its signature was not made with"),
        (make_token("eve").replace("eyJ", "eyK", 1), "it is malformed"),
        (jwt.encode({"sub": "eve", "exp": 2**40}, SECRET, algorithm="HS384"), "by another algorithm than HS256"),
        (jwt.encode({"sub": "eve"}, SECRET, algorithm="HS256"), "it has no claim 'exp'"),
    ],
)
def test_what_is_wrong_with_a_token_is_told_in_words_of_our_own(shared: Server, token: str, said: str) -> None:
    with shared.client() as client:
        answer = client.get("/api/users/eve/history", headers={"authorization": f"Bearer {token}"})
    check_problem(answer, 401, "unauthenticated", names=said)


def test_of_what_is_too_large_size_and_limit_are_told(admin: httpx.Client) -> None:
    for path, size, limit in (("/api/scores", 20_000, 16_384), ("/api/scores/batch", 1_100_000, 1_048_576)):
        whole = admin.post(path, content=b" " * size, headers=JSON)
        check_problem(whole, 413, "too_large", names=f"the body has {size} bytes; at most {limit} are taken here")
        chunked = admin.post(path, content=iter([b" " * 10_000] * (size // 10_000)), headers=JSON)
        check_problem(chunked, 413, "too_large", names=f"the body has more than {limit} bytes")


def test_a_player_who_sends_points_is_told_who_may(shared: Server) -> None:
    with shared.client("eve") as eve:
        answer = eve.post("/api/scores", json={"actionId": "win", "points": 5})
    said = "points: 5 was sent, but only a token with the scope scores:any may send points; the action 'win' is worth"
    check_problem(answer, 422, "invalid", names=said)


def test_a_value_of_a_batch_is_rejected_by_itself_and_a_type_for_all(admin: httpx.Client) -> None:
    good = {"actionId": "win", "userId": "batched"}
    values = [{"actionId": ""}, good, {"actionId": "win", "userId": "\n"}, {"actionId": "win", "idempotencyKey": ""}]
    values.append({"actionId": "win", "points": 2**53})
    results = admin.post("/api/scores/batch", json={"submissions": values}).json()["results"]
    assert [result["status"] for result in results] == ["rejected", "recorded", "rejected", "rejected", "rejected"]
    assert results[4]["detail"].startswith("points: 9007199254740992 is not from")
    for number in (2**64, 10**30, -(2**63) - 1):
        body = {"submissions": [good, {**good, "points": number}]}
        problem = check_problem(admin.post("/api/scores/batch", json=body), 422, "invalid")
        assert problem["errors"][0]["field"] == "submissions[1].points"  # type: ignore[index]
