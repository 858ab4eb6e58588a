"""What a stranger sends costs the server time by its length, never by the square of it, on every route and before
anybody knows who asks.

The server's own CPU time is measured, not the time that an answer takes: others on the machine don't count in it. Each
request is sent several times and the least is taken. Growth is judged where there is something to measure at all.
"""

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scoreboard.http.parse import COOKIE
from scoreboard.http.plain import BODY_BYTES_MAX, HEAD_BYTES_MAX
from scoreboard.http.routes import ROUTES
from scoreboard.http.scores import BATCH_BYTES_MAX
from tests.abuse.bystander import bystander
from tests.harness import DEADLINE_S, Server, make_token

REPEATS = 5
"""Times that a request is sent to be measured."""
FLOOR_MS = 4.0
"""What costs less is not looked at: a clock's tick and whatever else the server does are in it."""
GROWTH_MAX = 3.0
"""Twice the length may cost so many times as much: linear is 2, quadratic 4."""
HEAD_LEFT_BYTES = 1_024
"""Of a head's bound, for what else stands in it."""
CALLERS = {"nobody": None, "player": ("alice", ""), "admin": ("root", "admin scores:any")}
PIECES = [*'`"\\%;,=&[]{}: a9-.+/é', "%25", "%2", "%ff", "\\0", '{"a":', '"a":1,', "ids=a&", "a=b;", "\\u0041", "../"]
BEGINNINGS = ["", "", " - at `$", "field `", '{"a":"', f'{COOKIE}="', f"{COOKIE}=", "board=", "Bearer ", '"']
ENDS = ["", "", "`x", '"', "x", "\\", "}"]
IN_BODIES = ("body", "unknown field", "value", "batch")
WHERE = (*IN_BODIES, "query", "id", "ids", "path", "header", "name", "cookie", "token", "tag")


Pattern = tuple[str, str, str]
"""A text by how it begins, what it repeats, and how it ends."""


def fill(pattern: Pattern, length: int) -> str:
    first, repeated, last = pattern
    room = max(0, length - len(first) - len(last))
    return first + (repeated * (room // len(repeated) + 1))[:room] + last


class Processor:
    """The CPU time of a server process, in ms: what it has used up to this moment, in all its threads."""

    def __init__(self, server: Server) -> None:
        assert server.process is not None
        # The clock of another process, as clock_getcpuclockid(3) makes it. What /proc says is as old as the last time
        # that the kernel looked.
        self._clock = ~server.process.pid << 3 | 2

    def used_ms(self) -> float:
        return time.clock_gettime_ns(self._clock) / 1e6


@dataclass
class Target:
    """A server, a connection to it that is kept, and the CPU time that a request costs it."""

    server: Server

    def __post_init__(self) -> None:
        self._processor = Processor(self.server)
        self._connection: socket.socket | None = None

    def cost_ms(self, request: bytes, repeats: int = REPEATS) -> float:
        """The least of some tries."""
        return min(self._once(request) for _ in range(repeats))

    def _once(self, request: bytes) -> float:
        if self._connection is None:
            self._connection = socket.create_connection(("127.0.0.1", self.server.port), timeout=DEADLINE_S)
        before = self._processor.used_ms()
        try:
            self._connection.sendall(request)
            head = read_head(self._connection)
        except (BrokenPipeError, ConnectionResetError):
            head = b""
        used = self._processor.used_ms() - before
        if not head or b"connection: close" in head or b"text/event-stream" in head:
            self.close()
        return used

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def read_head(connection: socket.socket) -> bytes:
    """The head of an answer, when all of it has come; of a stream its beginning is all."""
    received = b""
    while part := connection.recv(65_536):
        received += part
        head, found, body = received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        if found and len(body) >= (int(length[1]) if length else 0):
            return head.lower()
    return b""


@pytest.fixture
def private(start_server: Callable[..., Server]) -> Iterator[Target]:
    """A server of which nothing is read without a token."""
    target = Target(start_server(PUBLIC_READS="false"))
    yield target
    target.close()


@pytest.fixture
def target(server: Server) -> Iterator[Target]:
    target = Target(server)
    for _ in range(50):  # what is loaded and compiled at first use is not what a request costs
        target.cost_ms(build("GET", "/api/leaderboard?limit=5", []), 1)
    yield target
    target.close()


def build(method: str, path: str, lines: list[bytes], body: bytes = b"") -> bytes:
    more = [b"Content-Type: application/json", b"Content-Length: %d" % len(body)] if body else []
    head = [f"{method} {path} HTTP/1.1".encode(), b"Host: test", *lines, *more]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def sign(caller: str) -> list[bytes]:
    who = CALLERS[caller]
    return [b"Authorization: Bearer " + make_token(*who).encode()] if who else []


# -- faults that were seen


NAMES: list[Pattern] = [
    ("", "`", ""),
    (" - at `$", "a", "`x"),
    (" - at `$", "`", "x"),
    ("", " - at `$.", ""),
    ("", " - at `$.a", "`x"),
    ("field `", "[", "`x"),
    ("`", "a | ", "x"),
]
"""Of fields that nobody knows: as decoders name places and types."""


@pytest.mark.parametrize("pattern", NAMES)
def test_a_field_of_16_kib_that_is_unknown_costs_little(target: Target, pattern: Pattern) -> None:
    body = b'{"actionId":"win","%s":1}' % fill(pattern, 16_000).encode()
    assert target.cost_ms(build("POST", "/api/scores", sign("player"), body)) < 6


@pytest.mark.parametrize("pattern", NAMES)
def test_a_field_of_60_kib_in_a_batch_costs_little(target: Target, pattern: Pattern) -> None:
    body = b'{"submissions":[{"actionId":"win","%s":1}]}' % fill(pattern, 60_000).encode()
    assert target.cost_ms(build("POST", "/api/scores/batch", sign("admin"), body)) < 10


@pytest.mark.parametrize("text", ["\\0", "\\", '"', ";", "a=b;", f"{COOKIE}=;", "\\\\2"])
def test_a_cookie_of_7_kib_costs_little(private: Target, text: str) -> None:
    value = fill(("", text, ""), 7_600)
    for cookie in (f'{COOKIE}="{value}"', f'a="{value}"; {COOKIE}=x', f"{COOKIE}={value}"):
        request = build("GET", "/api/leaderboard", [b"Cookie: " + cookie[: HEAD_BYTES_MAX - 300].encode()])
        assert private.cost_ms(request) < 6


def test_a_batch_of_the_largest_size_is_judged_in_linear_time(target: Target) -> None:
    """A megabyte of odd JSON, which the decoder refuses, takes no longer than a megabyte of anything takes to read."""
    for piece in ('"a":1,', "\\u0041", '{"a":', "9", "[", "`", '"\\\\"', '"actionId":"win",'):
        costs = []
        for size in (BATCH_BYTES_MAX // 2 - 100, BATCH_BYTES_MAX - 100):
            text = (piece * (size // len(piece) + 1))[:size]
            body = b'{"submissions":[],"board":"global",' + text.encode() + b"}"
            costs.append(target.cost_ms(build("POST", "/api/scores/batch", sign("admin"), body), 3))
        assert costs[1] < FLOOR_MS or costs[1] < GROWTH_MAX * costs[0], (piece, costs)
        assert costs[1] < 150, (piece, costs)


# -- faults that were not seen yet


def shape(route: tuple[str, str], where: str, pattern: Pattern, length: int, caller: str) -> bytes:
    """A request to a route with so many bytes of a pattern in one place of it."""
    method, path = route
    text = fill(pattern, length)
    line = text.encode()[:length]
    half = line[: length // 2]
    lines, body, who = [], b"", sign(caller)
    address = path.replace("<", "").replace(">", "")
    match where:
        case "body":
            body = line
        case "unknown field":
            body = b'{"actionId":"win",' + _json(half) + b":1}"
        case "value":
            body = b'{"actionId":' + _json(half) + b"}"
        case "batch":
            body = b'{"submissions":[{"actionId":"win"},{"actionId":"win",' + _json(half) + b":1}]}"
        case "query":
            address += "?" + quote(text, safe="&=%,+;")[:length]
        case "id":
            before, _, after = path.partition("<")
            after = after.partition(">")[2].replace("<", "").replace(">", "")
            address = before + quote(text, safe="%")[:length] + after
        case "ids":
            address += "?ids=" + quote(text, safe="%,")[:length]
        case "path":
            address = "/" + quote(text, safe="/%")[:length]
        case "header":
            lines = [b"X-Anything: " + half, b"Idempotency-Key: " + half]
        case "name":
            lines = [b"X" + bytes(char for char in line if chr(char).isalnum() or chr(char) in "-._") + b": a"]
        case "cookie":
            lines = [b"Cookie: " + line]
        case "token":
            who = [b"Authorization: Bearer " + line]
        case "tag":
            lines = [b"If-None-Match: " + half, b"Last-Event-ID: " + half]
    return build(method, address, [*who, *lines], body)


def _json(text: bytes) -> bytes:
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def bound(where: str, route: tuple[str, str]) -> int:
    """How many bytes go there: as many as the server reads."""
    if where not in IN_BODIES:
        return HEAD_BYTES_MAX - HEAD_LEFT_BYTES
    return 120_000 if route[1] == "/api/scores/batch" else BODY_BYTES_MAX - 200


ANY_ROUTE = st.sampled_from([(method, path) for method, path, _ in ROUTES if path != "/metrics"])
"""All but the one that reads nothing of what it is sent, and answers once a second."""
REPEATED = st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("".join)
PATTERNS = st.tuples(st.sampled_from(BEGINNINGS), REPEATED, st.sampled_from(ENDS))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("public_reads", ["true", "false"])
def test_time_grows_no_faster_than_length(start_server: Callable[..., Server], full: bool, public_reads: str) -> None:
    """Whatever is sent to whichever route, twice as much of it costs no more than twice as much time."""
    server = start_server(PUBLIC_READS=public_reads)
    server.put_action("win", 10)
    target = Target(server)

    @settings(max_examples=10_000 if full else 600, deadline=None, suppress_health_check=list(HealthCheck))
    @given(ANY_ROUTE, st.sampled_from(WHERE), PATTERNS, st.sampled_from(list(CALLERS)))
    def measure(route: tuple[str, str], where: str, pattern: Pattern, caller: str) -> None:
        length = bound(where, route)
        whole = shape(route, where, pattern, length, caller)
        cost = target.cost_ms(whole, 1)
        if cost < FLOOR_MS:
            return
        cost = target.cost_ms(whole)
        half = target.cost_ms(shape(route, where, pattern, length // 2, caller))
        assert cost < FLOOR_MS or cost <= GROWTH_MAX * max(half, FLOOR_MS / 2), (half, cost)

    try:
        measure()
    finally:
        target.close()


def test_others_do_not_wait_while_odd_requests_come(server: Server, full: bool) -> None:
    """A few connections that send the worst that was seen, one after the other, as fast as they are answered."""
    name = fill((" - at `$", "a", "`x"), 15_000).encode()
    cookie = f'Cookie: {COOKIE}="{fill(("", chr(92), ""), 7_000)}"'.encode()
    odd = [
        build("POST", "/api/scores", sign("player"), b'{"actionId":"win","%s":1}' % name),
        build("POST", "/api/scores/batch", sign("admin"), b'{"submissions":[{"actionId":"win","%s":1}]}' % (name * 4)),
        build("GET", "/api/leaderboard?limit=7", [cookie]),
        build("GET", f"/api/leaderboard?{fill(('', '%25&', ''), 7_000)}", []),
    ]
    over, sent = threading.Event(), []

    def abuse(request: bytes) -> None:
        target = Target(server)
        try:
            while not over.is_set():
                target.cost_ms(request, 1)
                sent.append(1)
        finally:
            target.close()

    with bystander(server) as waits:
        abusers = [threading.Thread(target=abuse, args=(request,)) for request in odd]
        for each in abusers:
            each.start()
        over.wait(60 if full else 3)
        over.set()
        for each in abusers:
            each.join()
    print(f"{len(sent)} odd requests")
    waits.check(p95_ms=150, max_ms=800)
    assert len(sent) > 100


def test_the_measure_sees_the_server_and_nobody_else(target: Target) -> None:
    """The measure itself: what one long answer costs the server is seen, and what others do on the machine is not."""
    cheap = target.cost_ms(build("GET", "/healthz", []))
    page = target.cost_ms(build("GET", "/openapi.json", []))
    began = time.process_time()
    while time.process_time() - began < 0.05:
        pass
    again = target.cost_ms(build("GET", "/healthz", []))
    assert 0 < cheap < FLOOR_MS
    assert page > 0
    assert 0 < again < FLOOR_MS
