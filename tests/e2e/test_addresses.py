"""From whom a request comes, as the log tells it, and what one address may take."""

import asyncio
import json
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import httpx
import pytest
import structlog

from scoreboard.http.admission import RefusalLog
from tests.e2e.answers import LAST_REQUEST, RawAnswer, build_request, check_problem, exchange, parse_answers
from tests.harness import DEADLINE_S, Server, Stores, make_token, read_answer, read_metric, wait_until

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"
READY = b"GET /readyz HTTP/1.1\r\nHost: test\r\n\r\n"
PAGE = b"GET /api/leaderboard HTTP/1.1\r\nHost: test\r\n\r\n"
DEFAULTS = {
    "CONNECTIONS_PER_IP_MAX": "",
    "STREAMS_PER_IP_MAX": "",
    "AUTH_FAILURES_PER_IP_MAX": "",
    "MISSES_PER_IP": "",
}
FAILURES_MAX = 100
"""Of one address in a minute, by default."""
numbers = count()


def find_lines(server: Server, **wanted: object) -> list[dict[str, object]]:
    """The lines of the log with these values; the log is written within 0.1 s."""
    lines = [json.loads(line) for line in server._log.read_bytes().splitlines() if line.startswith(b"{")]
    return [line for line in lines if all(line.get(name) == value for name, value in wanted.items())]


def find_line(server: Server, **wanted: object) -> dict[str, object]:
    """The one line of the log with these values."""
    (line,) = wait_until(lambda: find_lines(server, **wanted), what=f"a line of the log with {wanted}")  # type: ignore[misc]
    return line  # type: ignore[no-any-return]


def new_id() -> str:
    """An id by which the log's line of a request is found."""
    return f"address-{next(numbers)}"


def logged_client(server: Server, *lines: str, before: bytes = b"", path: str = "/healthz") -> object:
    """From where the log says that a request came, which has these header lines."""
    request_id = new_id()
    head = "\r\n".join([f"GET {path} HTTP/1.1", "Host: test", f"X-Request-Id: {request_id}", *lines, "", ""])
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as connection:
        connection.sendall(before + head.encode("latin-1"))
        assert read_answer(connection).startswith(b"HTTP/1.1 200")
    return find_line(server, id=request_id)["client"]


@contextmanager
def connect(server: Server, data: bytes = b"", source: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A connection from an address of loopback."""
    with socket.create_connection(("127.0.0.1", server.port), DEADLINE_S, source_address=(source, 0)) as connection:
        connection.sendall(data)
        yield connection


def ask(server: Server, data: bytes, source: str = "127.0.0.1") -> RawAnswer:
    """The answer to one request on a connection of its own."""
    with connect(server, data, source) as connection:
        (answer,) = parse_answers(read_answer(connection))
        return answer


def opens_stream(connection: socket.socket, *lines: str) -> bool:
    """Ask for a stream; whether it is there to stay. A refused one ends after its ``retry``."""
    connection.sendall("\r\n".join(["GET /api/leaderboard/stream HTTP/1.1", "Host: test", *lines, "", ""]).encode())
    received = b""
    while b"event: leaderboard" not in received:
        part = connection.recv(65_536)
        if not part:
            assert b"retry: " in received
            return False
        received += part
    return True


# -- what proxies say


@pytest.fixture
def start(module_stores: Stores, shared: Server, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a server that ends with its test: all of them together would take too many connections of PostgreSQL."""
    started: list[Server] = []

    def start(**settings: str) -> Server:
        started.append(Server(module_stores, log=tmp_path / f"server{len(started)}.log", **settings))
        return started[-1].start()

    try:
        yield start
        assert [server.stop() for server in started] == [0] * len(started)
    finally:
        for server in started:
            server.kill()


@pytest.fixture(scope="module")
def behind(start_shared: Callable[..., Server], shared: Server) -> Server:
    """A server that trusts the proxy on 127.0.0.1 and those of two networks behind it."""
    return start_shared(TRUSTED_PROXIES="127.0.0.1, 10.0.0.0/8, fd00::/8")


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ((), "127.0.0.1"),
        (("X-Forwarded-For: 192.0.2.1",), "192.0.2.1"),
        (("X-Forwarded-For: 198.51.100.7, 192.0.2.1",), "192.0.2.1"),
        (("X-Forwarded-For: 192.0.2.1, 10.1.2.3",), "192.0.2.1"),
        (("X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 10.1.2.3, fd00::7"), "192.0.2.1"),
        (("X-Forwarded-For: 10.9.9.9, 10.1.2.3",), "10.9.9.9"),
        (("X-Forwarded-For: 192.0.2.1:5678",), "192.0.2.1"),
        (("X-Forwarded-For: [2001:db8::1]:5678",), "2001:db8::1"),
        (("X-Forwarded-For: 2001:DB8:0::1",), "2001:db8::1"),
        (("X-Forwarded-For: ::ffff:192.0.2.1",), "192.0.2.1"),
        (("X-Forwarded-For: fe80::1%eth0",), "fe80::1"),
        (("X-Forwarded-For: unknown",), "127.0.0.1"),
        (("X-Forwarded-For: 192.0.2.1, garbage",), "127.0.0.1"),
        (("X-Forwarded-For: garbage, 192.0.2.1",), "192.0.2.1"),
        (("X-Forwarded-For:",), "127.0.0.1"),
        (("Forwarded: for=192.0.2.1",), "192.0.2.1"),
        (('Forwarded: for="[2001:db8::1]:5678";proto=https, for=10.1.2.3;by=_x',), "2001:db8::1"),
        (("Forwarded: for=192.0.2.1", "Forwarded: FOR=10.1.2.3"), "192.0.2.1"),
        (("Forwarded: for=_hidden",), "127.0.0.1"),
        (("Forwarded: for=192.0.2.1, for=unknown",), "127.0.0.1"),
        (("Forwarded: proto=https",), "127.0.0.1"),
        (('Forwarded: for="left open, for=192.0.2.1',), "192.0.2.1"),
        (("Forwarded: for=192.0.2.1", "X-Forwarded-For: 198.51.100.7"), "192.0.2.1"),
        (("Forwarded: garbage", "X-Forwarded-For: 198.51.100.7"), "127.0.0.1"),
    ],
)
def test_log_tells_the_client_that_trusted_proxies_name(behind: Server, lines: tuple[str, ...], client: str) -> None:
    assert logged_client(behind, *lines) == client


@pytest.mark.parametrize("line", ["X-Forwarded-For: 192.0.2.1", "Forwarded: for=192.0.2.1"])
def test_nobody_else_is_believed(shared: Server, line: str) -> None:
    assert logged_client(shared, line) == "127.0.0.1"


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_addresses_of_ipv6_and_those_that_are_mapped_into_it(start: Callable[..., Server], shared: Server) -> None:
    server = start(HOST="::", STREAMS_PER_IP_MAX="1")
    assert logged_client(server) == "127.0.0.1"
    assert ask(server, b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").status_code == 200
    request_id = new_id()
    with socket.create_connection(("::1", server.port), DEADLINE_S) as connection:
        connection.sendall(HEALTH.replace(b"\r\n\r\n", f"\r\nX-Request-Id: {request_id}\r\n\r\n".encode()))
        assert read_answer(connection).startswith(b"HTTP/1.1 200")
        assert find_line(server, id=request_id)["client"] == "::1"
        assert opens_stream(connection)
        with socket.create_connection(("::1", server.port), DEADLINE_S) as second, connect(server) as other:
            assert not opens_stream(second)
            assert opens_stream(other)


def encode_v2(source: str, command: int = 0x21) -> bytes:
    is_v4 = ":" not in source
    packed = socket.inet_pton(socket.AF_INET if is_v4 else socket.AF_INET6, source)
    block = packed * 2 + b"\x10\x00\x01\xbb" + b"\x04\x00\x01x"  # and what a proxy adds
    return SIGNATURE + bytes([command, 0x11 if is_v4 else 0x21]) + len(block).to_bytes(2, "big") + block


V1 = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"


@pytest.mark.parametrize(
    ("header", "client"),
    [
        (V1, "192.0.2.1"),
        (b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n", "2001:db8::1"),
        (b"PROXY TCP6 ::ffff:192.0.2.1 ::1 56324 443\r\n", "192.0.2.1"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (b"PROXY UNKNOWN what ever\r\n", "127.0.0.1"),
        (encode_v2("192.0.2.1"), "192.0.2.1"),
        (encode_v2("2001:db8::1"), "2001:db8::1"),
        (encode_v2("192.0.2.1", command=0x20), "127.0.0.1"),
        (SIGNATURE + b"\x20\x00\x00\x00", "127.0.0.1"),
        (SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216), "127.0.0.1"),
    ],
)
def test_proxy_header_names_the_client(behind: Server, header: bytes, client: str) -> None:
    assert logged_client(behind, before=header) == client


def test_what_a_named_client_says_of_others_is_not_believed(behind: Server) -> None:
    assert logged_client(behind, "X-Forwarded-For: 203.0.113.9", before=V1) == "192.0.2.1"
    by_two = b"PROXY TCP4 10.1.2.3 198.51.100.1 1 2\r\n"
    assert logged_client(behind, "X-Forwarded-For: 203.0.113.9", before=by_two) == "203.0.113.9"


def test_proxy_header_holds_for_all_requests_of_its_connection_and_may_come_in_pieces(behind: Server) -> None:
    ids = [new_id() for _ in range(3)]
    heads = [f"GET /healthz HTTP/1.1\r\nHost: test\r\nX-Request-Id: {each}\r\n\r\n".encode() for each in ids]
    with connect(behind) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in V1 + heads[0]:
            connection.sendall(bytes([byte]))
        read_answer(connection)
        for head in heads[1:]:
            connection.sendall(head)
            read_answer(connection)
    assert {find_line(behind, id=each)["client"] for each in ids} == {"192.0.2.1"}


def test_submissions_and_streams_have_the_named_client_in_the_log(behind: Server) -> None:
    request_id = new_id()
    body = b'{"actionId":"win"}'
    more = {"x_request_id": request_id, "x_forwarded_for": "192.0.2.8"}
    answers = exchange(behind, build_request("POST", "/api/scores", body, user="alice", **more) + LAST_REQUEST)
    assert answers[0].status_code == 200
    line = find_line(behind, id=request_id)
    assert (line["client"], line["caller"], line["board"]) == ("192.0.2.8", "alice", "global")
    for address in ("192.0.2.31", "192.0.2.32"):  # the first may open the log, by the ordinary route
        with connect(behind) as connection:
            assert opens_stream(connection, f"X-Forwarded-For: {address}")
        line = find_line(behind, client=address)
        assert (line["route"], line["board"], line["caller"]) == ("/api/leaderboard/stream", "global", None)


@pytest.mark.parametrize("header", [V1, b"PROXY UNKNOWN\r\n", encode_v2("192.0.2.1"), SIGNATURE])
def test_proxy_header_of_anybody_else_is_refused(shared: Server, header: bytes) -> None:
    (answer,) = exchange(shared, header + HEALTH)
    check_problem(answer, 400, "bad_request", names="127.0.0.1")
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize(
    "header",
    [
        b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 56324 443\r\n",
        b"PROXY / HTTP/1.1\r\n",
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x04" + bytes(4),
    ],
)
def test_malformed_proxy_header_is_refused(behind: Server, header: bytes) -> None:
    (answer,) = exchange(behind, header + HEALTH * 3)
    check_problem(answer, 400, "bad_request")


def test_second_proxy_header_is_no_request(behind: Server) -> None:
    answers = exchange(behind, V1 + V1 + HEALTH)
    assert answers[0].status_code == 400


def test_proxy_header_has_to_be_whole_within_five_seconds(behind: Server) -> None:
    with connect(behind, V1[:-1]) as begun, connect(behind, b"P") as undecided:
        started = time.monotonic()
        (answer,) = parse_answers(begun.recv(65_536))
        assert 4 < time.monotonic() - started < 8
        check_problem(answer, 400, "bad_request", names="within 5 s")
        # What may still become a request of another kind is one: it has the time that requests have.
        undecided.sendall(b"UT /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
        assert read_answer(undecided).startswith(b"HTTP/1.1 405")


def test_request_that_begins_like_a_proxy_header_is_one(behind: Server, shared: Server) -> None:
    body = b'{"actionId":"win"}'
    data = build_request("POST", "/api/scores", body, user="alice")
    for server in (behind, shared):
        with connect(server, data[:1]) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            time.sleep(0.01)  # so that it comes in two pieces
            connection.sendall(data[1:])
            assert read_answer(connection).startswith(b"HTTP/1.1 200")


# -- what the log tells


@pytest.mark.parametrize(
    ("method", "path", "body", "board"),
    [
        ("PUT", "/api/boards/traced", b"{}", "traced"),
        ("GET", "/api/boards/traced/actions", b"", "traced"),
        ("PUT", "/api/boards/traced/actions/win", b'{"points":1}', "traced"),
        ("POST", "/api/scores", b'{"actionId":"win","board":"traced"}', "traced"),
        ("POST", "/api/scores/batch", b'{"board":"traced","submissions":[{"actionId":"win"}]}', "traced"),
        ("GET", "/api/users/root/history?board=traced", b"", "traced"),
        ("GET", "/api/users/root/history", b"", "global"),
        ("POST", "/api/users/eve/hide", b"", None),
    ],
)
def test_log_tells_who_did_what_to_which_board(
    shared: Server, method: str, path: str, body: bytes, board: str | None
) -> None:
    request_id = new_id()
    data = build_request(method, path, body, user="root", scope="admin scores:any", x_request_id=request_id)
    exchange(shared, data + LAST_REQUEST)
    line = find_line(shared, id=request_id)
    assert line["caller"] == ("root" if "actions" not in path or method == "PUT" else None)
    assert (line["client"], line["board"]) == ("127.0.0.1", board)


def test_log_names_no_caller_without_a_verified_token(shared: Server) -> None:
    ids = [new_id(), new_id(), new_id()]
    forged = make_token("root", "admin", secret="another secret of at least 32 bytes")
    # On one connection, so that what was noted of one request could be told of the next.
    data = build_request("PUT", "/api/boards/own", b"{}", user="root", scope="admin", x_request_id=ids[0])
    data += build_request("PUT", "/api/boards/x", b"{}", authorization=f"Bearer {forged}", x_request_id=ids[1])
    data += build_request("GET", "/nowhere", x_request_id=ids[2])
    assert [answer.status_code for answer in exchange(shared, data + LAST_REQUEST)][:3] == [201, 401, 404]
    lines = [find_line(shared, id=each) for each in ids]
    assert [(line["caller"], line["board"]) for line in lines] == [("root", "own"), (None, "x"), (None, None)]


# -- connections and streams


def test_streams_count_for_the_client_whom_a_proxy_names(start: Callable[..., Server], shared: Server) -> None:
    server = start(TRUSTED_PROXIES="127.0.0.1", STREAMS_PER_IP_MAX="2")
    with ExitStack() as stack:

        def opens(*lines: str, before: bytes = b"") -> bool:
            return opens_stream(stack.enter_context(connect(server, before)), *lines)

        one, other = "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"
        assert [opens(one), opens(one), opens(one)] == [True, True, False]
        assert [opens(before=V1), opens(other), opens(other), opens(other)] == [False, True, True, False]
        subnet = [f'Forwarded: for="[2001:db8::{number}]"' for number in range(1, 4)]
        assert [opens(line) for line in subnet] == [True, True, False]
        assert [opens("X-Forwarded-For: what?") for _ in range(3)] == [True, True, False]
        assert [opens() for _ in range(4)] == [True] * 4, "the proxy itself is exempt"
    wait_until(lambda: server.metric("scoreboard_readers") == 0, what="the end of the streams")
    with connect(server) as connection:
        assert opens_stream(connection, one), "what a stream took is given back"


def test_limits_hold_without_settings(start: Callable[..., Server], shared: Server) -> None:
    server = start(**DEFAULTS)
    with ExitStack() as stack:
        for _ in range(500):
            assert opens_stream(stack.enter_context(connect(server)))
        assert not opens_stream(stack.enter_context(connect(server)))
        assert opens_stream(stack.enter_context(connect(server, source="127.0.0.2")))
        wait_until(lambda: server.metric("scoreboard_connections") <= 502, what="the end of the refused one")
        for _ in range(500):
            assert b" 200 " in read_answer(stack.enter_context(connect(server, HEALTH)))
        check_problem(ask(server, PAGE), 503, "overloaded")
        assert ask(server, PAGE, source="127.0.0.3").status_code == 200


@pytest.fixture(scope="module")
def crowded(start_shared: Callable[..., Server], shared: Server) -> Server:
    """A server on which an address may have 20 connections."""
    return start_shared(CONNECTIONS_PER_IP_MAX="20", TRUSTED_PROXIES="127.0.0.9")


@pytest.fixture
def crowd(crowded: Server) -> Iterator[None]:
    """An address that has as many as it may."""
    with ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(connect(crowded, HEALTH)).recv(65_536)
        yield
    wait_until(
        lambda: ask(crowded, b"GET /api/boards HTTP/1.1\r\nHost: test\r\n\r\n").status_code == 200, what="a free place"
    )


@pytest.mark.usefixtures("crowd")
@pytest.mark.parametrize(
    "head",
    [
        HEALTH,
        READY,
        HEALTH.replace(b"GET", b"HEAD"),
        HEALTH.replace(b"healthz", b"healthz/?a=b"),
        HEALTH.replace(b"Host", b"Connection: close\r\nHost"),
    ],
)
def test_probes_are_answered_where_there_is_no_place(crowded: Server, head: bytes) -> None:
    with connect(crowded, head) as connection:
        received = b""
        while part := connection.recv(65_536):
            received += part
    answer_head, _, body = received.partition(b"\r\n\r\n")
    assert answer_head.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer_head
    assert (body == b"") == head.startswith(b"HEAD")
    if body:
        assert json.loads(body)["status"] in ("ok", "ready")


@pytest.mark.usefixtures("crowd")
def test_all_else_is_refused_where_there_is_no_place_and_the_log_says_why(crowded: Server) -> None:
    for data in (
        PAGE,
        b"GET /healthzz HTTP/1.1\r\nHost: test\r\n\r\n",
        b"x" * 9_000,
        b"POST /healthz HTTP/1.1\r\nHost: test\r\n\r\n",
    ):
        answer = ask(crowded, data)
        check_problem(answer, 503, "overloaded")
        assert answer.headers["connection"] == "close"
        assert int(answer.headers["retry-after"]) >= 1
    started = time.monotonic()
    check_problem(ask(crowded, b"GET /healthz HTTP/1.1\r\nHost: "), 503, "overloaded")
    assert 0.8 < time.monotonic() - started < 3, "the head has a second to come"
    warnings = wait_until(lambda: find_lines(crowded, event="connections_refused"), what="a warning")
    assert {
        (line["level"], line["client"], line["setting"], line["limit"])
        for line in warnings  # type: ignore[attr-defined]
    } == {("warning", "127.0.0.1", "SCOREBOARD_CONNECTIONS_PER_IP_MAX", 20)}
    assert ask(crowded, PAGE, source="127.0.0.2").status_code == 200


@pytest.mark.usefixtures("crowd")
def test_the_head_of_a_probe_is_checked_as_any_other_where_there_is_no_place(crowded: Server) -> None:
    for head in (
        HEALTH.replace(b"Host:", b"Host :"),
        HEALTH.replace(b"Host: test\r\n", b""),
        HEALTH.replace(b"test", b"test\nX: y"),
        HEALTH.replace(b"test", b"test\r\nHost: test"),
        HEALTH.replace(b"test", b"test\r\nTransfer-Encoding: gzip"),
    ):
        answer = ask(crowded, head)
        check_problem(answer, 400, "bad_request")
        assert answer.headers["connection"] == "close"


def test_the_log_names_those_who_were_refused_most() -> None:
    refusals = RefusalLog("connections_refused", "A_SETTING", 20)

    async def refuse() -> None:
        refusals.add("192.0.2.1")
        for number in range(3_000):
            refusals.add(f"198.51.100.{number}")
            refusals.add(f"192.0.2.{number % 3}")
        refusals._tell()

    with structlog.testing.capture_logs() as lines:
        asyncio.run(refuse())
    assert [(line["client"], line["count"]) for line in lines] == [("192.0.2.1", 1), ("192.0.2.0", 6_000)]
    assert lines[1]["clients"] == {
        **dict.fromkeys(("192.0.2.0", "192.0.2.1", "192.0.2.2"), 1_000),
        **dict.fromkeys(("198.51.100.0", "198.51.100.1"), 1),
    }


def test_the_log_names_the_board_of_the_path_also_to_whom_it_is_forbidden(shared: Server) -> None:
    request_id = new_id()
    with shared.client("eve") as eve:
        answer = eve.put("/api/boards/logged", json={}, headers={"x-request-id": request_id})
    assert answer.status_code == 403
    line = find_line(shared, id=request_id)
    assert (line["board"], line["caller"], line["status"]) == ("logged", "eve", 403)


@pytest.mark.usefixtures("crowd")
def test_one_address_has_few_of_the_places_for_probes(crowded: Server) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(connect(crowded, HEALTH[:-2])) for _ in range(8)]
        assert ask(crowded, HEALTH).status_code == 200
        # It had the place of the one that was silent longest; the others still may say the rest.
        (refused,) = parse_answers(read_answer(silent[0]))
        check_problem(refused, 503, "overloaded")
        for connection in silent[1:]:
            connection.sendall(b"\r\n")
            assert b" 200 " in read_answer(connection)


def test_connections_count_for_the_client_whom_a_proxy_header_names(crowded: Server) -> None:
    header = b"PROXY TCP4 192.0.2.77 198.51.100.1 56324 443\r\n"
    with ExitStack() as stack:
        for _ in range(30):  # the proxy's own
            assert b" 200 " in read_answer(stack.enter_context(connect(crowded, PAGE, "127.0.0.9")))
        for _ in range(20):
            assert b" 200 " in read_answer(stack.enter_context(connect(crowded, header + PAGE, "127.0.0.9")))
        check_problem(ask(crowded, header + PAGE, "127.0.0.9"), 503, "overloaded")
        assert ask(crowded, header + HEALTH, "127.0.0.9").status_code == 200
        assert ask(crowded, header.replace(b".77", b".78") + PAGE, "127.0.0.9").status_code == 200
    wait_until(lambda: ask(crowded, header + PAGE, "127.0.0.9").status_code == 200, what="the end of the connections")


# -- failed authentications and misses


def failed(client: httpx.Client, number: int, headers: dict[str, str] | None = None) -> httpx.Response:
    token = make_token("eve", secret=f"a wrong secret of at least 32 bytes, {number}")
    return client.put("/api/boards/x", json={}, headers={"Authorization": f"Bearer {token}", **(headers or {})})


def test_failed_authentications_of_one_address_are_bounded(start: Callable[..., Server], shared: Server) -> None:
    server = start(AUTH_FAILURES_PER_IP_MAX="", TRUSTED_PROXIES="127.0.0.1")
    cached, fresh = make_token("alice"), make_token("bob")
    with server.client() as client:

        def submits(token: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            return client.post("/api/scores", json={"actionId": "win"}, headers=headers).status_code

        assert submits(cached) == 200
        for number in range(FAILURES_MAX):
            check_problem(failed(client, number), 401, "unauthenticated")
        refused = failed(client, FAILURES_MAX)
        check_problem(refused, 429, "rate_limited", names="127.0.0.1")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert refused.headers["ratelimit-policy"] == f'"authentication";q={FAILURES_MAX};w=60'
        assert refused.headers["ratelimit"].startswith('"authentication";r=0;t=')
        assert (submits(cached), submits(fresh)) == (200, 200), "valid tokens are not affected"
        assert failed(client, 0, {"X-Forwarded-For": "192.0.2.1"}).status_code == 401, "nor are other addresses"
        missing = client.put("/api/boards/x", json={})
        check_problem(missing, 401, "unauthenticated")
        assert client.get("/api/leaderboard").status_code == 200
    assert server.metric('scoreboard_limited_total{limit="authentication"}') == 1
    assert find_line(server, event="authentications_limited")["client"] == "127.0.0.1"


def test_misses_of_one_address_are_bounded_and_what_others_need_is_not(
    start: Callable[..., Server], shared: Server
) -> None:
    server = start(MISSES_PER_IP="50/600s", TRUSTED_PROXIES="127.0.0.1")
    server.submit("alice")
    with server.client() as client, server.client("alice") as signed_in:
        client.get("/api/leaderboard").raise_for_status()  # so that the board is followed
        paths = [
            "/api/users/nobody-{}/stats",
            "/api/leaderboard?board=none-{}",
            "/api/leaderboard/around/nobody-{}",
            "/api/boards/none-{}",
        ]
        for number in range(49):
            check_problem(client.get(paths[number % 4].format(number)), 404, "not_found")
        check_problem(client.get("/api/leaderboard/stream?board=none"), 404, "not_found")
        for path in (*paths, "/api/users/alice/stats", "/api/leaderboard?group=none"):
            refused = client.get(path.format("more"))
            check_problem(refused, 429, "rate_limited", names="127.0.0.1")
            assert refused.headers["ratelimit-policy"] == '"misses";q=50;w=600'
            assert 1 <= int(refused.headers["retry-after"]) <= 12
        assert client.get("/api/leaderboard?limit=3").status_code == 200, "a board that is followed goes on"
        with connect(server) as connection:
            assert opens_stream(connection)
        assert signed_in.get("/api/users/alice/stats").status_code == 200, "and so does who has a token"
        assert signed_in.get("/api/users/nobody/stats").status_code == 404
        assert client.get("/nowhere").status_code == 404, "where no store is asked nothing is bounded"
        assert client.get("/api/leaderboard?limit=0").status_code == 422
        assert client.get("/api/users/alice/stats", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 200
    assert find_line(server, event="misses_limited")["setting"] == "SCOREBOARD_MISSES_PER_IP"


def test_boards_that_are_known_go_on_for_who_used_up_all_misses(start: Callable[..., Server], shared: Server) -> None:
    """A classroom has one address, and one of its pupils asks for a thousand boards that do not exist."""
    with shared.client("root", "admin") as admin:
        assert admin.put("/api/boards/class", json={"windows": ["all", "day"]}).status_code == 201
    server = start(MISSES_PER_IP="3/600s")
    stream = "/api/leaderboard/stream"
    with server.client() as client:
        assert client.get("/api/leaderboard?board=class&window=day").status_code == 200
        assert client.get("/api/boards/class").status_code == 200
        for _ in range(3):
            assert client.get("/api/boards/none").status_code == 404
        assert client.get("/api/boards/none").status_code == 429
        for path in (
            "/api/boards",
            "/api/leaderboard",
            "/api/leaderboard?board=class&window=day&limit=7",
            "/api/leaderboard?b%6Fard=class",
            "/api/boards/class",
            "/api/boards/global",
        ):
            assert client.get(path).status_code == 200, path
        for path in ("/api/leaderboard?board=class&window=month", "/api/leaderboard?board=class&group=g"):
            check_problem(client.get(path), 429, "rate_limited")
        for path in (stream, f"{stream}?board=class&window=day"):
            with client.stream("GET", path) as opened:
                assert "event: leaderboard" in "".join(part for part, _ in zip(opened.iter_text(), "a", strict=False))
        for method in ("GET", "HEAD"):
            refused = client.request(method, f"{stream}?board=none")
            assert (refused.status_code, refused.headers["content-type"]) == (200, "text/event-stream")
            assert refused.headers["connection"] == "close"
            if method == "GET":
                assert 100_000 < int(refused.text.removeprefix("retry: ")) < 210_000, "until there may be one again"
        check_problem(client.get(f"{stream}?board=none&nope=1"), 422, "invalid")
    assert server.metric('scoreboard_limited_total{limit="misses"}') == 5


def test_answers_without_a_store_count_as_no_misses(start: Callable[..., Server], shared: Server) -> None:
    server = start(MISSES_PER_IP="2/600s")
    server.submit("alice")
    with server.client() as client, server.client("alice") as signed_in:
        for _ in range(3):
            assert client.get("/nowhere").status_code == 404
            assert client.get("/api/leaderboard?limit=0").status_code == 422
            assert client.get("/api/users/alice/stats").status_code == 200
            assert signed_in.get("/api/users/nobody/stats").status_code == 404
        assert client.get("/api/leaderboard?window=week").status_code == 422, "the board was asked whether it has weeks"
        assert client.get("/api/leaderboard?window=week").status_code == 422
        assert client.get("/api/users/alice/stats").status_code == 429


# -- metrics


@pytest.mark.parametrize(
    "lines",
    [
        ("X-Forwarded-For: 127.0.0.1",),
        ("Forwarded: for=127.0.0.1",),
        ("X-Real-IP: 127.0.0.1",),
        ("Via: 1.1 proxy",),
        ("X-Forwarded-Server: proxy",),
        ("x-forwarded-port: 443",),
        ("X-Client-IP: 127.0.0.1",),
        ("CF-Connecting-IP: 127.0.0.1",),
        ("True-Client-IP: 127.0.0.1",),
    ],
)
def test_metrics_are_for_who_comes_directly_from_this_machine(
    shared: Server, behind: Server, lines: tuple[str, ...]
) -> None:
    head = "\r\n".join(["GET /metrics HTTP/1.1", "Host: test", *lines, "", ""]).encode()
    for server in (shared, behind):
        problem = check_problem(ask(server, head), 404, "not_found")
        nowhere = ask(server, head.replace(b"/metrics", b"/nowhere"))
        assert json.loads(nowhere.content)["detail"].replace("nowhere", "metrics") == problem["detail"]
        assert ask(server, b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").status_code == 200
    for header in (V1, b"PROXY UNKNOWN\r\n", SIGNATURE + b"\x20\x00\x00\x00"):
        assert ask(behind, header + b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n").status_code == 404


def own_address() -> str | None:
    """An address of this machine that is not loopback, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
            found = str(probe.getsockname()[0])
        except OSError:
            return None
    return None if found.startswith("127.") else found


def test_metrics_are_not_for_other_machines(start: Callable[..., Server], shared: Server) -> None:
    address = own_address()
    if address is None:
        pytest.skip("this machine has no address but loopback")
    server = start(HOST="0.0.0.0", METRICS_PORT="0")
    main, metrics = (f"http://{address}:{port}" for port in (server.port, metrics_port(server)))
    assert httpx.get(f"{main}/healthz").status_code == 200
    check_problem(httpx.get(f"{main}/metrics"), 404, "not_found")
    assert httpx.get(f"{metrics}/metrics").status_code == 200


def metrics_port(server: Server) -> int:
    (found,) = filter(None, (re.fullmatch(r"Metrics at http://.*:(\d+)/metrics", line) for line in server.output))
    return int(found[1])


@pytest.mark.parametrize("workers", ["1", "2"])
def test_metrics_port_serves_metrics_of_all_workers_and_nothing_else(
    start: Callable[..., Server], shared: Server, workers: str
) -> None:
    server = start(METRICS_PORT="0", WORKERS=workers)
    assert server.output[-1].startswith("Listening on "), "the last line before serving"
    with httpx.Client(base_url=f"http://127.0.0.1:{metrics_port(server)}") as client:
        page = client.get("/metrics", headers={"X-Forwarded-For": "192.0.2.1"})
        assert page.status_code == 200
        assert page.headers["content-type"].startswith("text/plain")
        assert page.headers["cache-control"] == "no-store"
        labels = {"1": [""], "2": ['{worker="0"}', '{worker="1"}']}[workers]
        assert {label: read_metric(page.text, f"scoreboard_readers{label}") for label in labels} == dict.fromkeys(
            labels, 0
        )
        head = client.head("/metrics?a=b")
        assert (head.status_code, head.content) == (200, b"")
        for method, path in (
            ("GET", "/"),
            ("GET", "/healthz"),
            ("GET", "/metrics/x"),
            ("POST", "/metricsx"),
            ("GET", "/api/leaderboard"),
        ):
            check_problem(client.request(method, path), 404, "not_found")
        for method in ("POST", "DELETE", "OPTIONS"):
            refused = client.request(method, "/metrics")
            check_problem(refused, 405, "method_not_allowed", names=method)
            assert refused.headers["allow"] == "GET, HEAD"
    malformed = [
        b"GET /metrics HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\nHost: a\n\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nHost: a\r\n b\r\n\r\n",
    ]
    for garbage in (b"\x16\x03\x01\r\n\r\n", b"GET /metrics\r\n\r\n", V1 + b"\r\n", *malformed):
        with socket.create_connection(("127.0.0.1", metrics_port(server)), timeout=DEADLINE_S) as connection:
            connection.sendall(garbage)
            (answer,) = parse_answers(connection.recv(65_536))
            check_problem(answer, 400, "bad_request")
    with socket.create_connection(("127.0.0.1", metrics_port(server)), timeout=DEADLINE_S) as connection:
        connection.sendall(b"x" * 20_000)
        check_problem(parse_answers(connection.recv(65_536))[0], 413, "too_large", names="8192 bytes")
    with socket.create_connection(("127.0.0.1", metrics_port(server)), timeout=DEADLINE_S) as connection:
        for piece in (b"G", b"ET /metrics HTTP/1.1\r", b"\nHost: a\r\n\r", b"\n"):
            connection.sendall(piece)
            time.sleep(0.02)  # so that it comes in pieces
        assert read_answer(connection).startswith(b"HTTP/1.1 200 OK")


def test_metrics_are_those_of_the_moment_of_the_question(shared: Server) -> None:
    """However often they are asked for: a page that lay ready would miss what happened since."""
    for _ in range(3):
        before = shared.metric('scoreboard_requests_total{route="/healthz",status="200"}')
        assert ask(shared, HEALTH).status_code == 200
        assert shared.metric('scoreboard_requests_total{route="/healthz",status="200"}') == before + 1


def test_metrics_are_rendered_at_most_once_a_second(shared: Server) -> None:
    started, pages = time.monotonic(), []
    asked = 40
    with ExitStack() as stack:
        # Each has a count of its own answer's predecessors, so pages of different renderings differ.
        connections = [stack.enter_context(connect(shared)) for _ in range(asked)]
        for _ in range(3):
            for connection in connections:
                connection.sendall(HEALTH)
                read_answer(connection)
                connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n")
            pages += [read_answer(connection).partition(b"\r\n\r\n")[2] for connection in connections]
    took = time.monotonic() - started
    assert len(pages) == 3 * asked
    assert len(set(pages)) <= took + 2, f"{len(set(pages))} pages in {took:.1f} s"
