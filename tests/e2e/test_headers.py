"""What every answer says about itself: who may keep it, whose pages may read it, and that nobody guesses its type."""

import socket
from collections.abc import Callable

import httpx
import pytest

from scoreboard.http.entrance import NO_PLACE
from scoreboard.http.routes import ROUTES
from scoreboard.http.stream import HEADERS as STREAM_HEADERS
from tests.e2e.answers import build_request, check_problem, parse_answers
from tests.harness import DEADLINE_S, Server, make_token

GAME, SHOP, OTHER = "https://game.example", "http://shop.example:8080", "https://evil.example"
LOCAL = "http://[::1]"
PREFLIGHT = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Cache-Control"
SEGMENTS = {"<board>": "global", "<user_id>": "alice", "<action>": "win", "<group>": "g", "<seq>": "1"}
SEGMENTS["<name>"] = "live.js"
NOSNIFF = "nosniff"


def fill(path: str) -> str:
    for segment, value in SEGMENTS.items():
        path = path.replace(segment, value)
    return path


PATHS = sorted({fill(path) for _, path, _ in ROUTES})
NEED_MORE = ("/history", "/periods", "/users", "/stream")
"""Endings of paths that take no cookie, need a query, or don't end."""
READS = sorted({fill(path) for method, path, _ in ROUTES if method == "GET" and path.startswith("/api/")})

BY_COOKIE = [path for path in READS if not path.endswith(NEED_MORE)]


def read_head(server: Server, request: bytes) -> dict[str, str]:
    """The head of one answer, whether or not a body follows."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as connection:
        connection.sendall(request)
        received = b""
        while b"\r\n\r\n" not in received:
            part = connection.recv(65_536)
            assert part, received
            received += part
    head, end, _ = received.partition(b"\r\n\r\n")
    return parse_answers(head + end)[0].headers


@pytest.fixture(scope="module")
def named(start_shared: Callable[..., Server], shared: Server) -> Server:
    """A server that two origins by name may use."""
    assert shared.submit("alice").status_code == 200
    return start_shared(CORS_ORIGINS=f"{GAME.upper()}:443, {SHOP.upper()}/, http://[0:0:0:0:0:0:0:1]:80")


@pytest.fixture(scope="module")
def private(start_shared: Callable[..., Server], shared: Server) -> Server:
    """A server that nobody reads without a token."""
    return start_shared(PUBLIC_READS="false", CORS_ORIGINS=GAME)


# -- types


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", [*PATHS, "/nope", "/api/nope", "/api/leaderboard?nope=1"])
def test_every_answer_forbids_guessing_its_type(named: Server, path: str, method: str) -> None:
    for user in (None, "alice"):
        if method == "DELETE" and user:
            continue
        assert read_head(named, build_request(method, path, user=user))["x-content-type-options"] == NOSNIFF


@pytest.mark.parametrize(
    "request_bytes",
    [
        pytest.param(b"GET /api/leaderboard/stream HTTP/1.0\r\nHost: test\r\n\r\n", id="stream-1.0"),
        pytest.param(b"GET /api/leaderboard/stream HTTP/1.1\r\nHost: test\r\nAccept: a\r\n\r\n", id="stream"),
        pytest.param(b"GET /api/leaderboard/stream?window=day HTTP/1.1\r\nHost: test\r\n\r\n", id="no-window"),
        pytest.param(b"GET /api/leaderboard HTTP/1.1\r\nHost: test\r\nIf-None-Match: *\r\n\r\n", id="304"),
        pytest.param(b"GARBAGE\r\n\r\n", id="garbage"),
        pytest.param(b"x" * 10_000, id="endless"),
        pytest.param(build_request("POST", "/api/scores", b"x" * 20_000, user="a"), id="too-large"),
    ],
)
def test_so_do_streams_and_refusals(named: Server, request_bytes: bytes) -> None:
    assert read_head(named, request_bytes)["x-content-type-options"] == NOSNIFF


def test_so_does_the_refusal_of_a_connection_too_many() -> None:
    assert b"\r\nX-Content-Type-Options: nosniff\r\n" in NO_PLACE


# -- who may keep it


@pytest.mark.parametrize("path", READS)
def test_nothing_private_is_kept_by_a_cache_that_others_use(private: Server, path: str) -> None:
    for user in (None, "alice"):
        control = read_head(private, build_request("GET", path, user=user))["cache-control"]
        expected = "private, no-store"
        if path.endswith("/stream") and user:
            expected = "private, no-store, no-transform"
        assert control == expected, (path, user)


def test_what_is_public_may_be_kept_as_before_and_history_may_not(shared: Server, public: httpx.Client) -> None:
    assert public.get("/api/leaderboard").headers["cache-control"] == "no-cache"
    assert public.get("/api/users/alice/stats").headers["cache-control"] == "no-store"
    stream = read_head(shared, b"GET /api/leaderboard/stream HTTP/1.1\r\nHost: test\r\n\r\n")
    assert stream["cache-control"] == STREAM_HEADERS["cache-control"] == "no-store, no-transform"
    with shared.client("alice") as alice:
        assert alice.get("/api/users/alice/history").headers["cache-control"] == "private, no-store"
        assert alice.get("/api/users/bob/history").headers["cache-control"] == "private, no-store"
    assert public.get("/api/users/alice/history").headers["cache-control"] == "private, no-store"


def test_what_is_told_because_of_who_asks_is_private_although_reads_are_public(
    shared: Server, public: httpx.Client
) -> None:
    assert shared.submit("veiled").status_code == 200
    stats, group = "/api/users/veiled/stats", "/api/boards/global/groups/veiled"
    cookie = {"cookie": f"scoreboard_token={make_token('veiled')}"}
    with shared.client("root", "admin") as admin, shared.client("veiled") as own, shared.client("eve") as other:
        with shared.client("server", "boards:read") as reader:
            assert admin.post("/api/users/veiled/hide").status_code == 200
            assert admin.put(group, json={"members": ["veiled"]}).status_code == 201
            told = [client.get(stats) for client in (admin, own, reader)] + [public.get(stats, headers=cookie)]
            assert [answer.json()["hidden"] for answer in told] == [True] * 4
        told += [admin.head(stats), admin.get(group), other.get(group), other.get(stats)]
        told += [public.get(path, headers={"authorization": "Bearer x"}) for path in (stats, group)]
        assert {answer.headers["cache-control"] for answer in told} == {"private, no-store"}
        assert [answer.status_code for answer in told[-5:]] == [200, 200, 404, 401, 401]
        for path in (stats, group):
            assert public.get(path).headers["cache-control"] == "no-store"
        assert admin.get("/api/leaderboard").headers["cache-control"] == "no-cache"
        assert admin.post("/api/users/veiled/unhide").headers["cache-control"] == "no-store"


def test_a_private_page_is_still_held_against_its_tag(private: Server) -> None:
    with private.client("alice") as alice:
        first = alice.get("/api/leaderboard")
        again = alice.get("/api/leaderboard", headers={"if-none-match": first.headers["etag"]})
    assert (first.status_code, again.status_code) == (200, 304)
    assert again.headers["cache-control"] == "private, no-store"


# -- the cookie


@pytest.mark.parametrize("path", BY_COOKIE)
def test_every_read_of_a_board_takes_the_cookie(private: Server, path: str) -> None:
    with private.client() as client:
        refused = client.get(path)
        read = client.get(path, headers={"cookie": f"theme=dark; scoreboard_token={make_token('alice')}; x=y"})
    check_problem(refused, 401, "unauthenticated")
    assert read.status_code in (200, 404), read.text


def test_the_stream_takes_the_cookie(private: Server) -> None:
    cookie = f"scoreboard_token={make_token('alice')}"
    request = f"GET /api/leaderboard/stream HTTP/1.1\r\nHost: test\r\nCookie: {cookie}\r\n\r\n".encode()
    assert read_head(private, request)["content-type"] == "text/event-stream"


@pytest.mark.parametrize(
    "value", ['"{}"', "{}x", "{};", "x{}", "%s", "", "{}=", "a b", "é", "{}" + "a" * 5_000, "a.b.c"]
)
def test_what_no_token_holds_is_refused_in_a_cookie(private: Server, value: str) -> None:
    token = make_token("alice")
    cookie = "scoreboard_token=" + value.replace("{}", token)
    with private.client() as client:
        answer = client.get("/api/leaderboard", headers={"cookie": cookie.encode()})
    expected = 200 if value == "{};" else 401
    assert answer.status_code == expected, answer.text


def test_the_header_wins_over_the_cookie(private: Server) -> None:
    cookie = {"cookie": f"scoreboard_token={make_token('alice')}"}
    with private.client() as client:
        for authorization in ("Bearer garbage", "Basic x", "Bearer"):
            answer = client.get("/api/leaderboard", headers=cookie | {"authorization": authorization})
            check_problem(answer, 401, "unauthenticated")


def test_a_token_that_nothing_depends_on_is_not_looked_at(public: httpx.Client) -> None:
    for headers in ({"authorization": "Bearer garbage"}, {"cookie": 'scoreboard_token="'}):
        assert public.get("/api/leaderboard?limit=3", headers=headers).status_code == 200
        assert public.get("/api/boards", headers=headers).status_code == 200


# -- other origins


@pytest.fixture(params=["named", "star"], scope="module")
def origins(request: pytest.FixtureRequest, start_shared: Callable[..., Server], named: Server) -> tuple[Server, bool]:
    """A server, and whether it names the origins that may use it."""
    return (named, True) if request.param == "named" else (start_shared(CORS_ORIGINS="*"), False)


@pytest.mark.parametrize("path", ["/api/leaderboard", "/api/boards", "/api/leaderboard/stream", "/api/nope"])
def test_only_named_origins_may_send_credentials(origins: tuple[Server, bool], path: str) -> None:
    server, is_named = origins
    for origin in (GAME, SHOP, LOCAL, OTHER, "null", None):
        lines = f"Origin: {origin}\r\n" if origin else ""
        head = read_head(server, f"GET {path} HTTP/1.1\r\nHost: test\r\n{lines}\r\n".encode())
        allowed = origin in (GAME, SHOP, LOCAL) if is_named else origin is not None
        assert head.get("access-control-allow-origin") == (origin if allowed else None)
        assert head.get("access-control-allow-credentials") == ("true" if allowed and is_named else None)
        assert head["vary"] == "Origin"


@pytest.mark.parametrize("path", PATHS)
def test_every_path_has_a_preflight(named: Server, path: str) -> None:
    asked = {"access_control_request_method": "PATCH", "access_control_request_headers": "authorization"}
    head = read_head(named, build_request("OPTIONS", path, origin=GAME, **asked))
    routed = {method for method, template, _ in ROUTES if fill(template) == path}
    assert set(head["access-control-allow-methods"].split(", ")) - {"HEAD"} == routed
    assert head["access-control-allow-headers"] == PREFLIGHT
    assert head["access-control-allow-origin"] == GAME
    assert head["access-control-allow-credentials"] == "true"
    refused = read_head(named, build_request("OPTIONS", path, origin=OTHER, **asked))
    assert "access-control-allow-origin" not in refused


def test_a_preflight_of_nothing_is_not_found(named: Server) -> None:
    (answer,) = parse_answers(named.raw(build_request("OPTIONS", "/api/nope", origin=GAME)))
    check_problem(answer, 404, "not_found")


@pytest.mark.parametrize("value", ["*,https://game.example", "https://game.example, *", "*,*"])
def test_every_origin_and_some_do_not_go_together(shared: Server, value: str) -> None:
    shared._settings["CORS_ORIGINS"] = value
    try:
        refused = shared.run("serve", "--port", "0")
    finally:
        del shared._settings["CORS_ORIGINS"]
    assert refused.returncode == 2
    assert "SCOREBOARD_CORS_ORIGINS" in refused.stderr and "stands alone" in refused.stderr
