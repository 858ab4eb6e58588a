"""Everything that is refused: how it is said, and that nothing was recorded."""

import base64
import hashlib
import hmac
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreboard.http.routes import READS_ITS_BODY, ROUTES
from tests.e2e.answers import (
    LAST_REQUEST,
    RawAnswer,
    board_seq,
    build_request,
    check_problem,
    exchange,
    parse_answers,
)
from tests.faults.background import Background
from tests.faults.proxy import Proxy
from tests.harness import SECRET, Server, Stores, make_token, wait_until

BODY_BYTES_MAX = 16 * 1024
MIB_10 = 10 * 1024 * 1024
WIN = b'{"actionId":"win"}'
JSON = {"content-type": "application/json"}


@pytest.fixture
def unchanged(shared: Server) -> Iterator[None]:
    """The test records nothing."""
    before = board_seq(shared)
    yield
    assert board_seq(shared) == before


@pytest.fixture(scope="module")
def anyone(shared: Server) -> Iterator[httpx.Client]:
    """A client that may submit for any user, so that no body is refused for whom it names."""
    with shared.client("referee", "scores:any") as client:
        yield client


# -- bodies


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" ", id="blank"),
        pytest.param(b"{", id="unfinished"),
        pytest.param(b'{"actionId":"win"', id="unfinished-object"),
        pytest.param(b'{"actionId":"win"}}', id="trailing-brace"),
        pytest.param(b'{"actionId":"win"} {"actionId":"win"}', id="two-objects"),
        pytest.param(b"{'actionId':'win'}", id="single-quotes"),
        pytest.param(b'{"actionId":"win",}', id="trailing-comma"),
        pytest.param(b'{"actionId":"win"} // x', id="comment"),
        pytest.param(b'{actionId:"win"}', id="bare-name"),
        pytest.param(b"[]", id="array"),
        pytest.param(b'[{"actionId":"win"}]', id="array-of-one"),
        pytest.param(b"null", id="null"),
        pytest.param(b"true", id="true"),
        pytest.param(b"1", id="number"),
        pytest.param(b'"win"', id="string"),
        pytest.param(b'{"actionId":NaN}', id="nan"),
        pytest.param(b'{"actionId":Infinity}', id="infinity"),
        pytest.param(b'{"actionId":-Infinity}', id="minus-infinity"),
        pytest.param(b'{"actionId":"win","userId":NaN}', id="nan-later"),
        pytest.param(b'{"actionId":"wi\x00n"}', id="raw-nul"),
        pytest.param(b'{"actionId":"wi\nn"}', id="raw-newline"),
        pytest.param(b'{"actionId":"win","userId":"\x1f"}', id="raw-control"),
        pytest.param(b'{"actionId":"win","userId":"\xff"}', id="invalid-utf8"),
        pytest.param(b'{"actionId":"win","userId":"\xed\xa0\x80"}', id="raw-surrogate"),
        pytest.param(b'{"actionId":"win","userId":"\xc0\x80"}', id="overlong-nul"),
        pytest.param(b'{"actionId":"win","userId":"\xf5\x80\x80\x80"}', id="beyond-unicode"),
        pytest.param(b'{"actionId":"win","userId":"\\x41"}', id="unknown-escape"),
        pytest.param(b'\xef\xbb\xbf{"actionId":"win"}', id="byte-order-mark"),
        pytest.param('{"actionId":"win"}'.encode("utf-16"), id="utf-16"),
        pytest.param(b'{"actionId":01}', id="leading-zero"),
        pytest.param(b'{"a":' * 3_000, id="deep-unfinished"),
        pytest.param(b"[" * 8_000 + b"]" * 8_000, id="deep-array"),
    ],
)
def test_body_that_is_not_one_strict_json_object_is_malformed(anyone: httpx.Client, body: bytes) -> None:
    check_problem(anyone.post("/api/scores", content=body, headers=JSON), 400, "malformed_json")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"actionId":"win","userId":"\\ud800"}', id="lone-high-surrogate"),
        pytest.param(b'{"actionId":"win","userId":"a\\udc00b"}', id="lone-low-surrogate"),
        pytest.param(b'{"actionId":"win","userId":"\\udc00\\ud800"}', id="surrogates-swapped"),
        pytest.param(b'{"actionId":18446744073709551616}', id="2-to-64"),
        pytest.param(b'{"actionId":1e999}', id="beyond-doubles"),
        pytest.param(b'{"actionId":' + b"9" * 10_000 + b"}", id="ten-thousand-digits"),
        pytest.param(b'{"actionId":"win","x":' + b"[" * 8_000 + b"]" * 8_000 + b"}", id="deep-unknown-field"),
        pytest.param(b'{"actionId":' + b'{"a":' * 2_500 + b"1" + b"}" * 2_501, id="deep-value"),
        pytest.param(b'{"actionId":"win","actionId":"win"}', id="duplicate-action"),
        pytest.param(b'{"actionId":"win","userId":"a","userId":"b"}', id="duplicate-user"),
        pytest.param(b'{"actionId":"win","userId":"a","user\\u0049d":"b"}', id="duplicate-user-escaped"),
    ],
)
def test_body_that_strict_json_does_not_allow_is_refused(anyone: httpx.Client, body: bytes) -> None:
    answer = anyone.post("/api/scores", content=body, headers=JSON)
    check_problem(answer, {400, 422}, {"malformed_json", "invalid"})


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "actionId"),
        ({"userId": "alice"}, "actionId"),
        *[({"actionId": value}, "actionId") for value in (None, 1, 1.5, True, [], ["win"], {}, "", "a" * 65)],
        *[({"actionId": value}, "actionId") for value in ("wi n", "win\n", "\nwin", "wïn", "win\0", "a/b", " ", "é")],
        *[({"actionId": "win", "userId": value}, "userId") for value in (None, 1, False, [], {}, "", "u" * 65)],
        *[({"actionId": "win", "userId": value}, "userId") for value in ("   ", "\u3000", "\t", "a\nb", "a\0", "\x7f")],
        *[({"actionId": "win", "userId": value}, "userId") for value in ("\x85", "🏆" * 65)],
        *[({"actionId": "win", "board": value}, "board") for value in (None, 1, [], {}, "", "b" * 65, "a b", "../x")],
        *[({"actionId": "win", "board": value}, "board") for value in ("global\n", "gl\0bal", "ｇlobal")],
        ({"actionId": "win", "points": 10}, "points"),
        ({"actionId": "win", "score": 10}, "score"),
        ({"actionId": "win", "newScore": 10}, "newScore"),
        ({"actionId": "win", "actionid": "win"}, "actionid"),
        ({"actionId": "win", "user_id": "alice"}, "user_id"),
        ({"actionId": "win", "idempotencyKey": "k"}, "idempotencyKey"),
        ({"actionId": "win", "": 1}, ""),
    ],
    ids=lambda value: value if isinstance(value, str) else ascii(json.dumps(value, ensure_ascii=False))[1:40],
)
def test_body_with_a_bad_field_is_invalid_and_the_field_named(
    anyone: httpx.Client, body: dict[str, object], field: str
) -> None:
    problem = check_problem(anyone.post("/api/scores", json=body), 422, "invalid", names=field)
    assert field in [error["field"] for error in problem["errors"]] or field == ""  # type: ignore[attr-defined]
    assert problem["errors"]


@pytest.mark.usefixtures("unchanged")
def test_unknown_action_is_named(anyone: httpx.Client) -> None:
    check_problem(anyone.post("/api/scores", json={"actionId": "lose"}), 422, "unknown_action", names="lose")


@pytest.mark.usefixtures("unchanged")
def test_submission_to_an_unknown_board_is_not_found(anyone: httpx.Client) -> None:
    answer = anyone.post("/api/scores", json={"actionId": "win", "board": "no-such"})
    check_problem(answer, 404, "not_found", names="no-such")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "application/xml",
        "application/problem+json",
        "json",
        "*/*",
        "text/plain; application/json",
    ],
)
def test_body_of_another_media_type_is_unsupported(anyone: httpx.Client, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    answer = anyone.post("/api/scores", content=WIN, headers=headers)
    check_problem(answer, 415, "unsupported_media_type", names=content_type or "")


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_may_be_announced_in_any_of_its_forms(anyone: httpx.Client, content_type: str) -> None:
    answer = anyone.post("/api/scores", content=WIN, headers={"content-type": content_type})
    assert answer.status_code == 200, answer.text


@pytest.mark.usefixtures("unchanged")
def test_compressed_body_is_refused(anyone: httpx.Client) -> None:
    headers = {**JSON, "content-encoding": "gzip"}
    answer = anyone.post("/api/scores", content=b"\x1f\x8b\x08\x00", headers=headers)
    check_problem(answer, {400, 415}, {"malformed_json", "unsupported_media_type"})


# -- sizes and lengths


def test_body_of_exactly_the_limit_is_taken(anyone: httpx.Client) -> None:
    answer = anyone.post("/api/scores", content=WIN.ljust(BODY_BYTES_MAX), headers=JSON)
    assert answer.status_code == 200, answer.text


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("size", [BODY_BYTES_MAX + 1, 100_000, 1_000_000])
def test_body_over_the_limit_is_too_large(anyone: httpx.Client, size: int) -> None:
    check_problem(anyone.post("/api/scores", content=WIN.ljust(size), headers=JSON), 413, "too_large")


@pytest.mark.usefixtures("unchanged")
def test_a_hundred_thousand_brackets_are_too_large(anyone: httpx.Client) -> None:
    body = b'{"actionId":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    check_problem(anyone.post("/api/scores", content=body, headers=JSON), 413, "too_large")


@pytest.mark.usefixtures("unchanged")
def test_ten_megabytes_sent_whole_before_reading_get_a_readable_413(shared: Server) -> None:
    request = build_request("POST", "/api/scores", WIN.ljust(MIB_10), user="big")
    with socket.create_connection(("127.0.0.1", shared.port), timeout=20) as connection:
        connection.sendall(request)  # a plain client: an error here would be one it can't explain
        received = b""
        while b"\r\n\r\n" not in received or not received.rstrip().endswith(b"}"):
            part = connection.recv(65_536)
            assert part, f"the connection ended after {received!r}"
            received += part
    check_problem(parse_answers(received)[0], 413, "too_large")


@pytest.mark.usefixtures("unchanged")
def test_announced_ten_megabytes_are_refused_before_they_are_sent(shared: Server) -> None:
    request = build_request("POST", "/api/scores", b'{"act', user="big", content_length=str(MIB_10))
    started = time.monotonic()
    (answer,) = parse_answers(shared.raw(request))
    check_problem(answer, 413, "too_large")
    assert time.monotonic() - started < 5


@pytest.mark.usefixtures("unchanged")
def test_announced_too_large_body_is_refused_to_a_client_that_asks_first(shared: Server) -> None:
    request = build_request("POST", "/api/scores", user="big", content_length=str(MIB_10), expect="100-continue")
    check_problem(exchange(shared, request)[-1], 413, "too_large")


def chunked(body: bytes, size: int) -> bytes:
    parts = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def test_chunked_body_within_the_limit_is_taken(shared: Server) -> None:
    request = build_request(
        "POST", "/api/scores", chunked(WIN, 5), user="c", content_length="", transfer_encoding="chunked"
    )
    (answer,) = parse_answers(shared.raw(request))
    assert answer.status_code == 200, answer.content


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("size", "part"), [(20_000, 100), (20_000, 20_000), (MIB_10, 65_536)])
def test_chunked_body_over_the_limit_is_too_large(shared: Server, size: int, part: int) -> None:
    body = chunked(WIN.ljust(size), part)
    request = build_request("POST", "/api/scores", body, user="c", content_length="", transfer_encoding="chunked")
    check_problem(parse_answers(shared.raw(request))[0], 413, "too_large")


SMUGGLED = build_request("POST", "/api/scores", WIN, user="smuggler")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("method", "path", "user", "content_type", "length"),
    [
        pytest.param("POST", "/api/scores", "s", "application/json", 20_000, id="too-large"),
        pytest.param("POST", "/api/scores", None, "application/json", 1_000, id="no-token"),
        pytest.param("POST", "/api/scores", "s", "text/plain", 1_000, id="media-type"),
        pytest.param("POST", "/api/nope", "s", "application/json", 1_000, id="no-route"),
        pytest.param("POST", "/api/nope", "s", "application/json", 20_000, id="no-route-too-large"),
        pytest.param("PATCH", "/api/scores", "s", "application/json", 1_000, id="wrong-method"),
        pytest.param("GET", "/api/leaderboard", None, "application/json", 1_000, id="get-with-body"),
        pytest.param("GET", "/healthz", None, "application/json", 20_000, id="get-with-too-large-body"),
    ],
)
def test_request_inside_a_body_has_no_effect(
    shared: Server, method: str, path: str, user: str | None, content_type: str, length: int
) -> None:
    body = (SMUGGLED * (length // len(SMUGGLED) + 1))[:length].ljust(length)
    request = build_request(method, path, body, user=user, content_type=content_type)
    answers = exchange(shared, request + LAST_REQUEST)
    assert 1 <= len(answers) <= 2
    assert answers[0].status_code >= 400 or method == "GET"


@pytest.mark.usefixtures("unchanged")
def test_rest_of_a_body_longer_than_announced_has_no_effect(shared: Server) -> None:
    request = build_request("POST", "/api/scores", WIN, user="short", content_length="5")
    answers = exchange(shared, request + LAST_REQUEST)
    check_problem(answers[0], 400, "malformed_json")
    assert all(answer.status_code >= 400 for answer in answers[1:])


# -- who asks


def b64(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def sign(payload: object, *, algorithm: str = "HS256", secret: str = SECRET, **header: object) -> str:
    """A token with any header and payload, also one that a library would refuse to make."""
    signed = f"{b64({'alg': algorithm, 'typ': 'JWT', **header})}.{b64(payload)}"
    digest = {"HS256": hashlib.sha256, "HS512": hashlib.sha512}[algorithm]
    signature = hmac.new(secret.encode(), signed.encode(), digest).digest()
    return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


LATER = int(time.time()) + 3_600
UNSIGNED = f"{b64({'alg': 'none', 'typ': 'JWT'})}.{b64({'sub': 'eve', 'exp': LATER})}."
BAD_TOKENS = {
    "garbage": "garbage",
    "three-dots": "a.b.c",
    "alg-none": UNSIGNED,
    "alg-None": f"{b64({'alg': 'None'})}.{b64({'sub': 'eve', 'exp': LATER})}.",
    "alg-none-with-signature": UNSIGNED + b64("signature"),
    "alg-hs512": sign({"sub": "eve", "exp": LATER}, algorithm="HS512"),
    "alg-rs256-claimed": ".".join(
        [b64({"alg": "RS256"}), *sign({"sub": "eve", "exp": LATER}).split(".")[1:]],
    ),
    "wrong-key": sign({"sub": "eve", "exp": LATER}, secret="another secret, also longer than 32 bytes"),
    "no-signature": sign({"sub": "eve", "exp": LATER}).rpartition(".")[0] + ".",
    "changed-payload": ".".join(
        [sign({"sub": "eve", "exp": LATER}).split(".")[0], b64({"sub": "bob", "exp": LATER}), b64("x" * 32)],
    ),
    "expired": sign({"sub": "eve", "exp": int(time.time()) - 60}),
    "not-yet": sign({"sub": "eve", "exp": LATER, "nbf": LATER}),
    "no-exp": sign({"sub": "eve"}),
    "exp-null": sign({"sub": "eve", "exp": None}),
    "exp-text": sign({"sub": "eve", "exp": "tomorrow"}),
    "exp-infinity": sign('{"sub":"eve","exp":Infinity}'),
    "exp-nan": sign('{"sub":"eve","exp":NaN}'),
    "exp-1e999": sign('{"sub":"eve","exp":1e999}'),
    "exp-huge": sign({"sub": "eve", "exp": 10**400}),
    "exp-digits": sign({"sub": "eve", "exp": str(LATER)}),
    "exp-true": sign({"sub": "eve", "exp": True}),
    "exp-negative": sign({"sub": "eve", "exp": -LATER}),
    "exp-list": sign({"sub": "eve", "exp": [LATER]}),
    "no-sub": sign({"exp": LATER}),
    "sub-null": sign({"sub": None, "exp": LATER}),
    "sub-number": sign({"sub": 7, "exp": LATER}),
    "sub-list": sign({"sub": ["eve"], "exp": LATER}),
    "sub-empty": sign({"sub": "", "exp": LATER}),
    "sub-blank": sign({"sub": "  ", "exp": LATER}),
    "sub-control": sign({"sub": "e\u0000ve", "exp": LATER}),
    "sub-surrogate": sign({"sub": "\ud800", "exp": LATER}),
    "sub-65-characters": sign({"sub": "e" * 65, "exp": LATER}),
    "scope-list": sign({"sub": "eve", "exp": LATER, "scope": ["admin"]}),
    "scope-null": sign({"sub": "eve", "exp": LATER, "scope": None}),
    "payload-array": sign([1]),
    "payload-text": sign("not json"),
    "payload-deep": sign('{"sub":' + "[" * 1_400 + "]" * 1_400 + "}"),
    "unknown-critical-header": sign({"sub": "eve", "exp": LATER}, crit=["x"], x=1),
    "huge": sign({"sub": "eve", "exp": LATER, "pad": "x" * 5_000}),
    "two-words": make_token("eve") + " x",
}


SEGMENTS = {"<user_id>": "nobody", "<board>": "global", "<action>": "none", "<group>": "none"}
WITHOUT_BODY = [
    (method, re.sub("<[a-z_]+>", lambda found: SEGMENTS[found[0]], path))
    for method, path, _ in ROUTES
    if method != "GET" and (method, path) not in READS_ITS_BODY
]
"""What changes something and has nothing to be told for it."""


@pytest.mark.parametrize(("method", "path"), WITHOUT_BODY)
def test_what_takes_no_body_ignores_none(shared: Server, method: str, path: str) -> None:
    with shared.client("root", "admin") as admin, shared.client("eve") as eve, shared.client() as nobody:

        def ask(client: httpx.Client, content: bytes, kind: str = "application/json") -> httpx.Response:
            return client.request(method, path, content=content, headers={"content-type": kind})

        check_problem(ask(admin, b'{"until":"2026"}'), 422, "invalid", names="until: is not a field here; this request")
        check_problem(ask(admin, b"{"), 400, "malformed_json")
        check_problem(ask(admin, b"[]"), 400, "malformed_json", names="array")
        check_problem(ask(admin, b'{"a":1,"a":1}'), 400, "malformed_json", names="'a' is repeated")
        check_problem(ask(admin, b"until=2026", "application/x-www-form-urlencoded"), 415, "unsupported_media_type")
        check_problem(ask(admin, b"x" * 20_000), 413, "too_large")
        own = path == "/api/users/nobody"
        check_problem(ask(eve, b'{"until":"2026"}'), *((422, "invalid") if own else (403, "forbidden")))
        check_problem(ask(nobody, b'{"until":"2026"}'), 401, "unauthenticated")
        for content, kind in ((b"", "application/x-www-form-urlencoded"), (b"", ""), (b" {} ", "application/json")):
            assert ask(admin, content, kind).status_code in (200, 204, 404)


def test_reads_pass_over_a_body(shared: Server) -> None:
    for path in ("/healthz", "/api/leaderboard", "/api/boards/global"):
        (answer,) = parse_answers(shared.raw(build_request("GET", path, b"garbage")))
        assert answer.status_code == 200


@pytest.mark.parametrize("field", ["nope", "actionId", "userId"])
def test_a_repeated_field_is_malformed_whether_it_is_known_or_not(anyone: httpx.Client, field: str) -> None:
    for body in (f'{{"actionId":"win","{field}":"x","{field}":"x"}}', f'{{"{field}":1,"{field}":2,"x":3}}'):
        check_problem(anyone.post("/api/scores", content=body, headers=JSON), 400, "malformed_json", names=field)
    long = f'{{"actionId":"win","nope":{"1" * 300}}}'
    check_problem(anyone.post("/api/scores", content=long, headers=JSON), 422, "invalid", names="nope")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", BAD_TOKENS)
def test_token_that_is_not_accepted_is_challenged_as_invalid(public: httpx.Client, name: str) -> None:
    headers = {"authorization": f"Bearer {BAD_TOKENS[name]}"}
    answer = public.post("/api/scores", json={"actionId": "win"}, headers=headers)
    check_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert BAD_TOKENS[name] not in answer.text


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "request_parts",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"params": {"access_token": make_token("eve")}}, id="query-access-token"),
        pytest.param({"params": {"token": make_token("eve")}}, id="query-token"),
        pytest.param({"headers": {"cookie": f"scoreboard_token={make_token('eve')}"}}, id="cookie"),
        pytest.param({"headers": {"x-authorization": f"Bearer {make_token('eve')}"}}, id="other-header"),
    ],
)
def test_submission_without_a_token_in_its_header_is_challenged(
    public: httpx.Client, request_parts: dict[str, dict[str, str]]
) -> None:
    answer = public.post("/api/scores", json={"actionId": "win"}, **request_parts)
    check_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("scheme", ["Basic", "Token", "Bearer:", "JWT"])
def test_other_authentication_schemes_are_challenged(public: httpx.Client, scheme: str) -> None:
    headers = {"authorization": f"{scheme} {make_token('eve')}"}
    answer = public.post("/api/scores", json={"actionId": "win"}, headers=headers)
    check_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_bearer_is_read_without_regard_to_case(public: httpx.Client) -> None:
    headers = {"authorization": f"bearer {make_token('case')}"}
    assert public.post("/api/scores", json={"actionId": "win"}, headers=headers).status_code == 200


ADMIN_REQUESTS = [
    ("PUT", "/api/boards/other", {"title": "x"}),
    ("PUT", "/api/boards/global", {"title": "x"}),
    ("PUT", "/api/boards/global/actions/gift", {"points": 1_000}),
    ("PUT", "/api/boards/global/actions/win", {"points": 1_000}),
    ("DELETE", "/api/boards/global/actions/win", None),
]


@pytest.mark.parametrize(("method", "path", "body"), ADMIN_REQUESTS)
@pytest.mark.parametrize("scope", ["", "scores:any", "Admin", "administrator", "admin:read", "admin,scores:any"])
def test_administration_without_the_scope_is_forbidden(
    shared: Server, method: str, path: str, body: dict[str, object] | None, scope: str
) -> None:
    with shared.client("eve", scope) as client:
        check_problem(client.request(method, path, json=body), 403, "forbidden", names="admin")
        actions = client.get("/api/boards/global/actions").json()["actions"]
    assert [(action["actionId"], action["points"], action["enabled"]) for action in actions] == [("win", 10, True)]


@pytest.mark.parametrize(("method", "path", "body"), ADMIN_REQUESTS)
def test_administration_without_a_token_is_challenged(
    public: httpx.Client, method: str, path: str, body: dict[str, object] | None
) -> None:
    answer = public.request(method, path, json=body)
    check_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("scope", ["", "admin", "scores:anything", "Scores:Any", "scores", "scores:any,admin"])
def test_submission_for_another_user_is_forbidden(shared: Server, scope: str) -> None:
    with shared.client("eve", scope) as client:
        answer = client.post("/api/scores", json={"actionId": "win", "userId": "victim"})
    check_problem(answer, 403, "forbidden", names="victim")


@pytest.mark.parametrize("scope", ["", "scores:any"])
def test_history_of_another_user_is_forbidden(shared: Server, scope: str) -> None:
    with shared.client("eve", scope) as client:
        check_problem(client.get("/api/users/victim/history"), 403, "forbidden", names="victim")


def test_history_without_a_token_is_challenged(public: httpx.Client) -> None:
    answer = public.get("/api/users/victim/history")
    check_problem(answer, 401, "unauthenticated")
    assert answer.headers["www-authenticate"] == "Bearer"


# -- idempotency keys


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "key",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"   ", id="blank"),
        pytest.param(b"k" * 256, id="256-characters"),
        pytest.param("schlüssel".encode(), id="utf-8"),
        pytest.param(b"k\xff", id="high-byte"),
        pytest.param(b"a\tb", id="tab"),
        pytest.param(b'"abc', id="unbalanced-quote"),
        pytest.param(b'"', id="one-quote"),
        pytest.param(b'""', id="quoted-empty"),
        pytest.param(b'"a"b"', id="quote-inside"),
        pytest.param(b'"abc\\"', id="escaped-end"),
        pytest.param(b'"a\\b"', id="unknown-escape"),
        pytest.param(b'"' + b"k" * 256 + b'"', id="quoted-256-characters"),
    ],
)
def test_bad_idempotency_key_is_invalid(shared: Server, key: bytes) -> None:
    request = build_request("POST", "/api/scores", WIN, user="keys", idempotency_key="KEY").replace(b"KEY", key)
    (answer,) = parse_answers(shared.raw(request))
    problem = check_problem(answer, 422, "invalid", names="Idempotency-Key")
    assert [error["field"] for error in problem["errors"]] == ["Idempotency-Key"]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("unchanged")
def test_two_idempotency_keys_are_invalid(anyone: httpx.Client) -> None:
    headers = [("idempotency-key", "a"), ("idempotency-key", "b")]
    answer = anyone.post("/api/scores", json={"actionId": "win"}, headers=headers)
    check_problem(answer, 422, "invalid", names="Idempotency-Key")


@pytest.mark.parametrize("key", ["k", "~!@#$%^&*()", "with space", "k" * 255, "back\\slash"])
def test_printable_keys_are_taken(shared: Server, key: str) -> None:
    assert shared.submit(f"printable-{len(key)}", key=key).status_code == 200


# -- queries and paths

GARBAGE_CURSORS = [
    "x",
    "%25%25",
    "AAAA",
    b64([1, 2]),
    b64(["a", "b"]),
    b64([1]),
    b64([1, "a", 2]),
    b64({"a": 1}),
    b64([2**53, "a"]),
    b64([2**64, "a"]),
    b64([1.5, "a"]),
    b64([1, ""]),
    b64([1, "x" * 65]),
    b64('[1,"\\ud800"]'),
    b64('[NaN,"a"]'),
    "A" * 5_000,
    "%C3%A9",
    "%00",
    "",
]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        *[(f"limit={value}", "limit") for value in ("0", "101", "abc", "-1", "1e3", "", "1.0", "%2B5", "0x10", "%00")],
        *[(f"limit={value}", "limit") for value in ("%D9%A3", "1_0", "+5", "5%20", "99999999999999999999", "null")],
        ("limit=5&limit=6", "limit"),
        ("limit=5&limit=5", "limit"),
        ("limit=&limit=5", "limit"),
        *[(f"offset={value}", "offset") for value in ("-1", "abc", "1.5", "", "18446744073709551616", "1e3")],
        ("offset=0&offset=1", "offset"),
        *[(f"cursor={value}", "cursor") for value in GARBAGE_CURSORS],
        ("cursor=x&cursor=y", "cursor"),
        *[(f"window={value}", "window") for value in ("day", "week", "month", "ALL", "", "forever")],
        ("period=2026-01-01", "period"),
        ("period=x", "period"),
        *[(f"board={value}", "board") for value in ("a%20b", "b" * 65, "", "%00", "%FF", "%0A", "global%0A", "%C3%A9")],
        ("board=a&board=b", "board"),
    ],
)
def test_bad_value_in_the_query_is_invalid_and_named(shared: Server, query: str, field: str) -> None:
    (answer,) = parse_answers(shared.raw(build_request("GET", f"/api/leaderboard?{query}")))
    problem = check_problem(answer, 422, "invalid", names=field)
    assert [error["field"] for error in problem["errors"]] == [field]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/api/users/eve/history?limit=0", "limit"),
        ("/api/users/eve/history?limit=x", "limit"),
        ("/api/users/eve/history?before=x", "before"),
        ("/api/users/eve/history?before=-1", "before"),
        ("/api/users/eve/history?board=a%20b", "board"),
        ("/api/users/eve/stats?board=a%20b", "board"),
        ("/api/users/eve/stats?window=day", "window"),
        ("/api/boards?limit=0", "limit"),
        ("/api/leaderboard/stream?events=scores", "events"),
        ("/api/leaderboard/stream?events=", "events"),
        ("/api/leaderboard/stream?events=leaderboard,", "events"),
        ("/api/leaderboard/stream?window=day", "window"),
        ("/api/leaderboard/stream?board=a%20b", "board"),
        (f"/api/users/{'u' * 65}/stats", "userId"),
        (f"/api/users/{'u' * 65}/history", "userId"),
        ("/api/users/%20/stats", "userId"),
        ("/api/users/%00/stats", "userId"),
        ("/api/users/a%0Ab/stats", "userId"),
        ("/api/users/%FF/stats", "userId"),
        ("/api/users/%ED%A0%80/stats", "userId"),
        ("/api/users/%FF/history", "userId"),
        ("/api/boards/a%20b", "board"),
        ("/api/boards/%FF", "board"),
        ("/api/boards/global%0A", "board"),
        (f"/api/boards/{'b' * 65}/actions", "board"),
    ],
)
def test_bad_value_in_the_path_or_query_is_invalid_and_named(shared: Server, path: str, field: str) -> None:
    (answer,) = parse_answers(shared.raw(build_request("GET", path, user="eve", scope="admin")))
    check_problem(answer, 422, "invalid", names=field)


@pytest.mark.parametrize("path", ["/api/users/%/stats", "/api/users/%zz/stats", "/api/users/%4/stats", "/api/boards/%"])
def test_malformed_percent_encoding_is_refused(shared: Server, path: str) -> None:
    (answer,) = parse_answers(shared.raw(build_request("GET", path)))
    check_problem(answer, {400, 404, 422}, {"bad_request", "not_found", "invalid"})


@pytest.mark.parametrize(
    "path",
    [
        "/nope",
        "/api",
        "/api/nope",
        "/api/users//stats",
        "/web/nope.js",
        "/web/..%2f..%2fapp.py",
        "/web/%2e%2e/app.py",
        "/api/boards/no-such",
        "/api/boards/no-such/actions",
        "/api/users/nobody/stats",
        "/api/users/nobody/stats?board=no-such",
        "/api/users/eve/history?board=no-such",
        "/api/leaderboard?board=no-such",
        "/api/leaderboard/stream?board=no-such",
    ],
)
def test_what_does_not_exist_is_not_found(shared: Server, path: str) -> None:
    (answer,) = parse_answers(shared.raw(build_request("GET", path, user="eve")))
    check_problem(answer, 404, "not_found")


def test_not_found_names_what_was_asked_for(public: httpx.Client) -> None:
    check_problem(public.get("/api/surprise"), 404, "not_found", names="/api/surprise")
    check_problem(public.get("/api/users/nobody-here/stats"), 404, "not_found", names="nobody-here")
    check_problem(public.get("/api/boards/no-such-board"), 404, "not_found", names="no-such-board")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/api/scores", {"POST"}),
        ("HEAD", "/api/scores", {"POST"}),
        ("PUT", "/api/scores", {"POST"}),
        ("DELETE", "/api/leaderboard", {"GET", "HEAD"}),
        ("POST", "/api/leaderboard", {"GET", "HEAD"}),
        ("POST", "/api/leaderboard/stream", {"GET", "HEAD"}),
        ("POST", "/api/users/alice/stats", {"GET", "HEAD"}),
        ("DELETE", "/api/boards/global", {"GET", "HEAD", "PATCH", "PUT"}),
        ("POST", "/api/boards/global/actions/win", {"PUT", "DELETE"}),
        ("POST", "/healthz", {"GET", "HEAD"}),
        ("DELETE", "/", {"GET", "HEAD"}),
        ("OPTIONS", "/api/scores", {"POST"}),
        ("GET", "/api/scores/", {"POST"}),
        ("POST", "/api/boards/global/", {"GET", "HEAD", "PATCH", "PUT"}),
    ],
)
def test_wrong_method_is_told_the_right_ones(public: httpx.Client, method: str, path: str, allowed: set[str]) -> None:
    answer = public.request(method, path)
    assert {name.strip() for name in answer.headers["allow"].split(",")} == allowed
    if method != "HEAD":
        check_problem(answer, 405, "method_not_allowed", names=method)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/nope", 404), ("PATCH", "/api/scores", 405), ("POST", "/healthz", 405)]
)
def test_large_body_to_the_wrong_place_is_refused_in_peace(shared: Server, method: str, path: str, status: int) -> None:
    (answer,) = exchange(shared, build_request(method, path, WIN.ljust(MIB_10)))
    check_problem(answer, status, {"not_found", "method_not_allowed"})
    assert answer.headers["connection"] == "close"


# -- odd HTTP


def send_and_half_close(server: Server, data: bytes) -> list[RawAnswer]:
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(65_536):
            received += part
    return parse_answers(received)


def test_client_that_says_no_more_gets_its_answer(shared: Server) -> None:
    (answer,) = send_and_half_close(shared, build_request("POST", "/api/scores", WIN, user="half-closed"))
    assert answer.status_code == 200


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(build_request("POST", "/api/scores", WIN, user="o", content_length="19"), id="body"),
        pytest.param(b"GET /api/leaderboard HTTP/1.1\r\nHost:", id="head"),
    ],
)
def test_request_that_ends_before_it_is_whole_is_refused(shared: Server, request_bytes: bytes) -> None:
    (answer,) = send_and_half_close(shared, request_bytes)
    check_problem(answer, 400, "bad_request")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"null", "null"),
        (b"[]", "array"),
        (b'"win"', "string"),
        (b"\xff", "UTF-8"),
        (b'{"actionId":5}', "expected string, got integer: 5"),
        (b'{"actionId":"win","userId":[1]}', "expected string, got array: [1]"),
        (b'{"actionId":"not a name"}', '"not a name"'),
        (b'{"actionId":"' + b"a" * 65 + b'"}', "a" * 65),
        (b'{"actionId":"win","userId":"\\ud800"}', "surrogate"),
    ],
)
def test_detail_tells_what_was_wrong_in_words_of_json(anyone: httpx.Client, body: bytes, said: str) -> None:
    detail = anyone.post("/api/scores", content=body, headers=JSON).json()["detail"]
    assert said.lower() in detail.lower()
    assert not [name for name in ("`str`", "`int`", "`list`", "NoneType", "codec", "$[") if name in detail], detail


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        (
            "PUT",
            "/api/boards/global/actions/win",
            {"points": 1, "dailyCap": 1.5},
            "dailyCap: Expected integer or null, got number: 1.5",
        ),
        (
            "POST",
            "/api/scores/batch",
            {"submissions": [{"actionId": "win", "idempotencyKey": 5}]},
            "submissions[0].idempotencyKey: Expected string or null, got integer: 5",
        ),
    ],
)
def test_detail_tells_of_a_type_or_null_in_words_of_json(
    shared: Server, method: str, path: str, body: dict[str, object], said: str
) -> None:
    with shared.client("root", "admin scores:any") as client:
        problem = check_problem(client.request(method, path, json=body), 422, "invalid", names=said)
    assert "`" not in str(problem["detail"])


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"GARBAGE\r\n\r\n", id="one-word"),
        pytest.param(b"GET\r\n\r\n", id="method-only"),
        pytest.param(b"GET / HTTP/9.9\r\nHost: test\r\n\r\n", id="unknown-version"),
        pytest.param(b"GET / HTTQ/1.1\r\nHost: test\r\n\r\n", id="not-http"),
        pytest.param(b"GET /\x00 HTTP/1.1\r\nHost: test\r\n\r\n", id="nul-in-path"),
        pytest.param(b"GET /\xff HTTP/1.1\r\nHost: test\r\n\r\n", id="raw-byte-in-path"),
        pytest.param(b"GET nowhere HTTP/1.1\r\nHost: test\r\n\r\n", id="path-without-slash"),
        pytest.param(b"GET http:///healthz HTTP/1.1\r\nHost: test\r\n\r\n", id="url-without-host"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="http-2-preface"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", id="tls-hello"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: test\r\nno colon\r\n\r\n", id="header-without-colon"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nHost: test\r\nX: a\r\n folded\r\n\r\n", id="folded-header"),
        pytest.param(b"GET /healthz HTTP/1.1\r\nX: " + b"x" * 9_000 + b"\r\n\r\n", id="header-over-8-kib"),
        pytest.param(b"GET /healthz HTTP/1.1\r\n" + b"X: y\r\n" * 2_000 + b"\r\n", id="two-thousand-headers"),
        pytest.param(b"GET /healthz?" + b"x" * 9_000 + b" HTTP/1.1\r\n\r\n", id="url-over-8-kib"),
        pytest.param(b"x" * 100_000, id="endless-line"),
        pytest.param(build_request("POST", "/api/scores", WIN, user="o", content_length="-5"), id="length-negative"),
        pytest.param(build_request("POST", "/api/scores", WIN, user="o", content_length="+18"), id="length-plus"),
        pytest.param(build_request("POST", "/api/scores", WIN, user="o", content_length="1_8"), id="length-underscore"),
        pytest.param(build_request("POST", "/api/scores", WIN, user="o", content_length="0x12"), id="length-hex"),
        pytest.param(build_request("POST", "/api/scores", WIN, user="o", content_length="abc"), id="length-text"),
        pytest.param(build_request("POST", "/api/scores", WIN, user="o", content_length="18, 19"), id="length-list"),
        pytest.param(
            build_request("POST", "/api/scores", WIN, user="o", content_Length="5"),
            id="two-lengths",
        ),
        pytest.param(
            build_request("POST", "/api/scores", WIN, user="o", content_length="9" * 30), id="length-astronomical"
        ),
        pytest.param(
            build_request("POST", "/api/scores", chunked(WIN, 9), user="o", transfer_encoding="chunked"),
            id="length-and-chunked",
        ),
        pytest.param(
            build_request(
                "POST", "/api/scores", b"zz\r\n" + WIN, user="o", content_length="", transfer_encoding="chunked"
            ),
            id="chunk-size-text",
        ),
        pytest.param(
            build_request(
                "POST", "/api/scores", b"-12\r\n" + WIN, user="o", content_length="", transfer_encoding="chunked"
            ),
            id="chunk-size-negative",
        ),
        pytest.param(
            build_request("POST", "/api/scores", WIN, user="o", content_length="", transfer_encoding="gzip"),
            id="unknown-transfer-coding",
        ),
        pytest.param(
            build_request("POST", "/api/scores", WIN, user="o").replace(b"content-length:", b"content-length :"),
            id="space-before-colon",
        ),
        pytest.param(build_request("POST", "/api/scores", WIN, user="o", expect="miracles"), id="unknown-expectation"),
    ],
)
def test_broken_http_is_refused_as_a_problem(shared: Server, request_bytes: bytes) -> None:
    answers = parse_answers(shared.raw(request_bytes))
    assert 400 <= answers[0].status_code < 500 or answers[0].status_code in (501, 505)
    check_problem(answers[0], answers[0].status_code, answers[0].json()["code"])  # type: ignore[index]


@pytest.mark.parametrize("method", ["FOO", "get", "TRACE", "CONNECT", "PROPFIND"])
def test_unknown_method_is_refused_as_a_problem(shared: Server, method: str) -> None:
    (answer,) = parse_answers(shared.raw(f"{method} /api/leaderboard HTTP/1.1\r\nHost: test\r\n\r\n".encode()))
    check_problem(answer, {400, 405, 501}, {"bad_request", "method_not_allowed"})


def test_http_1_0_request_is_answered_and_the_connection_closed(shared: Server) -> None:
    (answer,) = exchange(shared, b"GET /api/leaderboard HTTP/1.0\r\n\r\n")
    assert answer.status_code == 200
    assert json.loads(answer.content)["board"] == "global"
    assert "transfer-encoding" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/api/leaderboard",
        "/api/users/head/stats",
        "/api/users/head/history",
        "/api/boards",
        "/api/boards/global",
        "/api/boards/global/actions",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/",
        "/api/nope",
    ],
)
def test_head_is_get_without_the_body(shared: Server, path: str) -> None:
    shared.submit("head", key="once")
    token = f"Authorization: Bearer {make_token('head')}\r\n"
    head = f"HEAD {path} HTTP/1.1\r\nHost: test\r\n{token}Connection: close\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", shared.port), timeout=20) as connection:
        connection.sendall(head)
        received = b""
        while part := connection.recv(65_536):
            received += part
    lines, _, body = received.partition(b"\r\n\r\n")
    assert body == b""
    with shared.client("head") as client:
        got = client.get(path)
    assert int(lines.split(b" ")[1]) == got.status_code
    kind = next(line for line in lines.decode().split("\r\n") if line.lower().startswith("content-type:"))
    assert kind.partition(":")[2].strip() == got.headers["content-type"]


def test_head_of_the_stream_ends(public: httpx.Client) -> None:
    answer = public.head("/api/leaderboard/stream")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_every_answer_has_a_request_id(public: httpx.Client) -> None:
    for path in ("/healthz", "/api/nope", "/api/leaderboard?limit=0"):
        assert public.get(path).headers["x-request-id"]


# -- the database away


def test_submission_without_a_database_is_unavailable_and_can_be_repeated(
    stores: Stores, start_server: Callable[..., Server], tmp_path: Path
) -> None:
    with Background() as background:
        proxy = Proxy(background, stores.database_url)
        server = start_server(DATABASE_URL=proxy.url)
        server.put_action("win", 10)
        assert server.submit("alice", key="first").status_code == 200
        proxy.cut()
        answer = server.submit("alice", key="second")
        check_problem(answer, 503, "unavailable")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        with server.client("game", "scores:any") as game:
            batch = {"submissions": [{"actionId": "win", "userId": "alice"}, {"actionId": "win", "userId": "bob"}]}
            check_problem(game.post("/api/scores/batch", json=batch), 503, "unavailable")
        with server.client() as client:
            assert client.get("/healthz").status_code == 200
            assert client.get("/readyz").status_code == 503
            assert client.get("/api/leaderboard").json()["seq"] == 1
        proxy.restore()
        wait_until(lambda: server.submit("alice", key="second").status_code == 200, what="the repeated submission")
        with server.client("alice") as client:
            assert client.get("/api/users/alice/stats").json()["score"] == 20
        assert server.stop() == 0  # through the proxy, which ends with this block
        proxy.cut()


# -- fuzz

names = st.sampled_from(["actionId", "userId", "board", "points", "actionid", "", "\ud800"]) | st.text(max_size=5)
texts = st.sampled_from(["win", "global", "fuzz", "\ud800", "\0", "a" * 65]) | st.text(max_size=70)
leaves = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | texts
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3))
objects = st.dictionaries(names, values, max_size=5) | st.fixed_dictionaries(
    {"actionId": texts}, optional={"userId": values, "board": values}
)
bodies = st.one_of(
    st.binary(max_size=200),
    objects.map(lambda value: json.dumps(value).encode()),
    objects.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.tuples(st.integers(0, len(WIN)), st.binary(max_size=4)).map(lambda cut: WIN[: cut[0]] + cut[1] + WIN[cut[0] :]),
)


@settings(max_examples=200)
@given(body=bodies)
def test_any_body_is_recorded_with_200_or_refused_as_a_problem(
    anyone: httpx.Client, public: httpx.Client, body: bytes
) -> None:
    before = public.get("/api/leaderboard").json()["seq"]
    answer = anyone.post("/api/scores", content=body, headers=JSON)
    after = public.get("/api/leaderboard").json()["seq"]
    if answer.status_code == 200:
        assert after == before + 1 == answer.json()["seq"]
    else:
        assert 400 <= answer.status_code < 500
        check_problem(answer, answer.status_code, answer.json()["code"])
        assert after == before


query_pieces = st.sampled_from(
    ["limit=", "offset=", "cursor=", "board=", "window=", "period=", "&", "=", "%", "%00", "%ff", "all", "global", "7"]
)
queries = st.lists(query_pieces | st.text("%&=;+?/#[]\"'<>\\^`{|}~0aZ\u00ff", max_size=6), max_size=8).map("".join)


@settings(max_examples=200)
@given(query=queries)
def test_any_query_is_answered_or_refused_as_a_problem(shared: Server, query: str) -> None:
    (answer,) = parse_answers(shared.raw(build_request("GET", f"/api/leaderboard?{query}")))
    if answer.status_code != 200:
        assert 400 <= answer.status_code < 500
        check_problem(answer, answer.status_code, problem_code(answer))


def problem_code(answer: RawAnswer) -> str:
    document = answer.json()
    assert isinstance(document, dict)
    return str(document["code"])
