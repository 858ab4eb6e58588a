"""Cases made from the OpenAPI document, sent to every operation of it as nobody, as a player and as an administrator.

Half of them are as the document wants them, half are not. Whatever comes, the answer is one that the document names.
"""

import re
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import checks

from scoreboard.cursors import ORIGIN_BYTES, pack_cursor
from scoreboard.http import openapi
from scoreboard.http.routes import ROUTES
from scoreboard.model import Cursor
from tests.harness import DEADLINE_S, Parser, Server, make_token

PATHS = openapi.build()["paths"]
OPERATIONS = [(method.upper(), path) for path, methods in PATHS.items() for method in methods]
CALLERS = {"nobody": None, "player": ("alice", ""), "admin": ("root", "admin scores:any")}
KNOWN = {
    "action": ["win", "lose"],
    "actionId": ["win", "lose"],
    "after": ["global"],
    "board": ["global", "quiz"],
    "cursor": [pack_cursor(Cursor(10, "alice", origin=bytes(ORIGIN_BYTES))), "global", "2026-11-23"],
    "Idempotency-Key": ["once"],
    "idempotencyKey": ["once"],
    "id": [["alice"], ["alice", "bob,"]],
    "ids": ["alice", "alice,bob,nobody"],
    "If-None-Match": ["*"],
    "timezone": ["Europe/Berlin"],
    "userId": ["alice", "bob"],
    "asOf": [0, 1, "2020-01-01T00:00:00Z"],
    "group": ["friends"],
    "members": [["alice", "bob"]],
}
"""Values that something exists under. Hardly one that is made up would find anything."""
ODD: dict[str, list[object]] = {
    "path_parameters": ["%ff", "%ed%a0%80", "%00", "%2f"],
    "query": [b"\xff", b"\xed\xa0\x80", b"\0"],
    "headers": ["\xff", "\0"],
    "body": ["\ud800", "\0", 2**64, -1e308],
}
"""What no schema tells of, as each part of a request can hold it: no UTF-8, surrogates, NULs, slashes, bounds."""
SHARE = 2
"""One of so many examples that the profile asks for is made: there are many operations and callers."""
# To the document a stream is one text; the schema's check would want each event of it to be one.
STREAM_CHECKS = [checks.content_type_conformance, checks.response_headers_conformance]
CHECKS = [*STREAM_CHECKS, checks.response_schema_conformance]
# Every request is signed by the test itself: cases about tokens would be about nothing else.
CONFIG = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})


@pytest.fixture(scope="module")
def schema(shared: Server) -> schemathesis.BaseSchema:
    """The document as the running server serves it."""
    return schemathesis.openapi.from_url(f"{shared.url}/openapi.json", config=CONFIG)


@pytest.fixture
def board(shared: Server) -> Server:
    """A server with all that is in KNOWN, whatever earlier cases made of it."""
    with shared.client("root", "admin") as client:
        assert client.put("/api/boards/quiz", json={}).status_code in (200, 201)
        for name in ("global", "quiz"):
            friends = client.put(f"/api/boards/{name}/groups/friends", json={"members": ["alice", "bob", "nobody"]})
            assert friends.status_code in (200, 201)
    for name in ("global", "quiz"):
        shared.put_action("win", 10, board=name)
        shared.put_action("lose", -3, board=name)
        for user in ("alice", "bob"):
            assert shared.submit(user, board=name, key=f"seed-{name}").status_code == 200
    return shared


@pytest.fixture
def session() -> Iterator[requests.Session]:
    """Connections that are kept, as clients do."""
    with requests.Session() as session:
        yield session


def test_every_operation_of_the_served_document_is_fuzzed(schema: schemathesis.BaseSchema) -> None:
    assert schema.raw_schema["paths"] == PATHS


def test_every_route_of_the_api_is_in_the_document() -> None:
    routes = {(method, re.sub("<[^>]+>", "{}", path)) for method, path, _ in ROUTES if path.startswith("/api/")}
    described = {(method, re.sub("{[^}]+}", "{}", path)) for method, path in OPERATIONS if path.startswith("/api/")}
    assert routes == described


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=map(" ".join, OPERATIONS))
def test_whatever_comes_the_answer_is_one_that_the_document_names(
    schema: schemathesis.BaseSchema, board: Server, session: requests.Session, method: str, path: str, caller: str
) -> None:
    headers = sign(caller)
    untouchable = read_untouchable(board, caller)

    @settings(max_examples=settings().max_examples // SHARE, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=cases(schema[path][method]))
    def send_and_check(case: schemathesis.Case) -> None:
        answer = send(session, case, board.url, headers)
        check_status(schema.raw_schema, case, answer)
        case.validate_response(answer, STREAM_CHECKS if is_stream(answer.headers) else CHECKS)

    send_and_check()
    assert read_untouchable(board, caller) == untouchable


def sign(caller: str) -> dict[str, str]:
    """The headers that tell who is asking."""
    token = CALLERS[caller]
    return {"Authorization": f"Bearer {make_token(*token)}"} if token else {}


def read_untouchable(server: Server, caller: str) -> list[Any]:
    """What no request of a caller may change: another's score and the rules, and for nobody anything."""
    with server.client() as client:
        rules = client.get("/api/boards/global/actions").json()
        score = client.get("/api/users/bob/stats").json().get("score")  # an admin may have erased him
        boards = client.get("/api/boards?limit=1000").json()
    return {"nobody": [rules, score, boards], "player": [rules, score], "admin": []}[caller]


@st.composite
def cases(draw: st.DrawFn, operation: schemathesis.APIOperation) -> schemathesis.Case:
    """Cases of an operation, as the document wants them or not, with known and odd values among those made up."""
    case = draw(operation.as_strategy(draw(st.sampled_from(schemathesis.GenerationMode))))
    for part, odd in ODD.items():
        replace_some(draw, getattr(case, part), odd)
    case.freeze_metadata()  # what was replaced need not be what a schema can be held against
    return case


def replace_some(draw: st.DrawFn, value: object, odd: list[object]) -> None:
    """Put known values in the place of half of those that could be one, and odd ones in that of a few."""
    if isinstance(value, list):
        for each in value:
            replace_some(draw, each, odd)
    if isinstance(value, MutableMapping):
        for name, each in list(value.items()):
            chance = draw(st.integers(0, 15))
            if chance == 15:
                value[name] = draw(st.sampled_from(odd))
            elif chance >= 8 and name in KNOWN:
                value[name] = draw(st.sampled_from(KNOWN[name]))
            else:
                replace_some(draw, each, odd)


def send(
    session: requests.Session, case: schemathesis.Case, url: str, headers: dict[str, str]
) -> schemathesis.Response:
    """The answer to a case; of a stream, which would not end, its first bytes."""
    request = case.as_transport_kwargs(base_url=url, headers=headers)
    with session.request(**request, stream=True, timeout=DEADLINE_S) as answer:
        head = {name.lower(): [value] for name, value in answer.headers.items()}
        content = next(answer.iter_content(None)) if is_stream(head) else answer.content
        if is_stream(head):
            check_stream(content)
        return schemathesis.Response(answer.status_code, head, content, answer.request, 0.0, verify=True)


def is_stream(headers: Mapping[str, list[str]]) -> bool:
    """Whether an answer goes on for as long as its reader stays."""
    return headers.get("content-type") == ["text/event-stream"]


def check_stream(content: bytes) -> None:
    """A stream begins with when to come back, and what follows are events."""
    parser = Parser()
    parser.feed(content)
    assert parser.retries
    assert {frame.event for frame in parser.take()} <= {"leaderboard", "score-updated", "reset"}


def check_status(document: Mapping[str, Any], case: schemathesis.Case, answer: schemathesis.Response) -> None:
    """The status is one that the operation names by itself, or a problem that the default answer names."""
    assert answer.status_code < 500, answer.content
    responses = case.operation.definition.raw["responses"]
    if answer.headers.get("content-type") != ["application/problem+json"]:
        assert str(answer.status_code) in responses
        assert answer.status_code < 400
        return
    problem = answer.json()
    assert problem["status"] == answer.status_code
    description = responses.get(str(answer.status_code), responses["default"])["description"]
    assert problem["code"] in re.findall(r"\w+", description), description
    assert document["x-problem-codes"][problem["code"]] == {"status": answer.status_code, "title": problem["title"]}
    assert bool(problem.get("errors")) == (problem["code"] == "invalid")
