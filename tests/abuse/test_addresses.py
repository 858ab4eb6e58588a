"""What one address does to a server that others use: the limits of an address, and what the rest waits for meanwhile.

The bystander comes from 127.0.0.1; whoever abuses comes from other addresses of loopback, or through no address at all
where the route is for loopback only.
"""

import http.client
import selectors
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from time import monotonic, perf_counter

import pytest

from scoreboard.files import CLIENTS_MIN, FILES_RESERVED, raise_file_limit
from tests.abuse.bystander import PATIENCE, Waits, bystander
from tests.harness import DEADLINE_S, Server, make_token, read_answer

ABUSER = "127.0.0.2"
PROBE_WITHIN_S = 0.3
P95_MS, MAX_MS = 150.0, 600.0
"""On a quiet machine a round takes some 3 ms; these leave room for one that is busy."""
PROBES = 5
THREADS = 4


@pytest.fixture(scope="module", autouse=True)
def files() -> None:
    """Both ends of thousands of connections."""
    raise_file_limit()


@pytest.fixture
def lasts_s(full: bool) -> float:
    return 20.0 if full else 2.0


@pytest.fixture
def limited(start_server: Callable[..., Server]) -> Server:
    """A server with the limits that it has by default."""
    names = ("CONNECTIONS_PER_IP_MAX", "STREAMS_PER_IP_MAX", "AUTH_FAILURES_PER_IP_MAX", "MISSES_PER_IP")
    server = start_server(**dict.fromkeys(names, ""))
    server.put_action("win", 10)
    return server


def connect(server: Server, source: str = ABUSER) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), DEADLINE_S, source_address=(source, 0))


def probe(server: Server, path: str, source: str) -> float:
    """Ask once as a prober does, and the seconds until the answer, which has to be 200."""
    began = perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, DEADLINE_S, source_address=(source, 0))
    try:
        connection.request("GET", path)
        assert connection.getresponse().status == 200
    finally:
        connection.close()
    return perf_counter() - began


def check_probes(server: Server, *sources: str) -> None:
    """Probes from each address are answered in time."""
    waits = [
        probe(server, path, source) for source in sources for path in ("/healthz", "/readyz") for _ in range(PROBES)
    ]
    print(f"probes from {', '.join(sources)}: at most {max(waits) * 1_000:.1f} ms")
    assert max(waits) < PROBE_WITHIN_S * PATIENCE


@contextmanager
def repeating(act: Callable[[], None], threads: int = THREADS) -> Iterator[None]:
    """Do something again and again in threads until the block ends."""
    over = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            while not over.is_set():
                act()
        except BaseException as exc:
            failures.append(exc)

    running = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
    for each in running:
        each.start()
    try:
        yield
    finally:
        over.set()
        for each in running:
            each.join(DEADLINE_S)
    assert not failures, failures[0]


class Requests:
    """One request again and again, on connections kept open, and what was answered."""

    def __init__(self, server: Server, build: Callable[[int], bytes], source: str = ABUSER) -> None:
        self._server, self._build, self._source = server, build, source
        self._own = threading.local()
        self._opened: list[socket.socket] = []
        self._numbers = iter(range(10**9))
        self.statuses: Counter[int] = Counter()

    def __call__(self) -> None:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = connect(self._server, self._source)
            self._opened.append(connection)
        connection.sendall(self._build(next(self._numbers)))
        self.statuses[int(read_answer(connection).split(b" ", 2)[1])] += 1

    def close(self) -> None:
        for connection in self._opened:
            connection.close()


def get(path: str, *lines: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: test", *lines, "", ""]).encode()


def wait(seconds: float) -> None:
    threading.Event().wait(seconds)


def check(waits: Waits) -> None:
    waits.check(p95_ms=P95_MS, max_ms=MAX_MS)


# -- connections


@contextmanager
def closing_all() -> Iterator[list[socket.socket]]:
    """Sockets that are closed at the end, however it comes."""
    opened: list[socket.socket] = []
    try:
        yield opened
    finally:
        for each in opened:
            each.close()


def open_until_refused(server: Server, opened: list[socket.socket]) -> None:
    """As many connections as one address gets, each of which has shown that it is one."""
    for _ in range(5_000):
        opened.append(connect(server))
        opened[-1].sendall(get("/api/leaderboard"))
        if not read_answer(opened[-1]).startswith(b"HTTP/1.1 200"):
            break


def test_one_address_that_opens_all_connections_it_can(limited: Server) -> None:
    with bystander(limited) as waits, closing_all() as opened:
        open_until_refused(limited, opened)
        assert len(opened) == 1_001
        opened += [connect(limited) for _ in range(200)]
        check_probes(limited, ABUSER, "127.0.0.3")
        wait(1)
    check(waits)


def test_one_address_that_goes_on_opening_connections(limited: Server, lasts_s: float) -> None:
    """It has its thousand, and opens, says nothing and closes as fast as it can."""

    def reopen() -> None:
        connect(limited).close()
        wait(0.0005)

    with closing_all() as opened:
        open_until_refused(limited, opened)
        with bystander(limited) as waits, repeating(reopen):
            check_probes(limited, "127.0.0.3")
            wait(lasts_s)
            check_probes(limited, "127.0.0.3")
    check(waits)


def test_many_addresses_that_take_all_connections_there_are(start_server: Callable[..., Server]) -> None:
    """Nobody else gets in, but whoever asks whether the server lives is told, however many say nothing."""
    server = start_server(ulimit=f"-n {FILES_RESERVED + CLIENTS_MIN}")
    with closing_all() as opened:
        opened += [connect(server, f"127.0.1.{number % 40 + 1}") for number in range(CLIENTS_MIN)]
        opened += [connect(server, f"127.0.2.{number % 40 + 1}") for number in range(400)]  # say nothing either
        check_probes(server, "127.0.0.1", "127.0.1.1", "127.0.2.1", "127.0.0.3")
        with connect(server, "127.0.0.3") as connection:
            connection.sendall(get("/api/leaderboard"))
            assert read_answer(connection).startswith(b"HTTP/1.1 503")


# -- streams


def test_one_address_that_opens_all_streams_it_can(limited: Server, lasts_s: float) -> None:
    with bystander(limited) as waits, closing_all() as opened:
        for _ in range(600):
            opened.append(connect(limited))
            opened[-1].sendall(get("/api/leaderboard/stream"))
        refused = count_refused(opened, 100)
        wait(lasts_s)
        with connect(limited, "127.0.0.3") as other:
            other.sendall(get("/api/leaderboard/stream"))
            other.settimeout(DEADLINE_S)
            received = b""
            while b"event: leaderboard" not in received:
                received += other.recv(65_536)
    assert refused == 100
    check(waits)


def count_refused(streams: list[socket.socket], wanted: int) -> int:
    """How many of the streams were ended, once that many were."""
    ended, deadline = 0, monotonic() + DEADLINE_S
    with selectors.DefaultSelector() as selector:
        for each in streams:
            selector.register(each, selectors.EVENT_READ)
        while ended < wanted and monotonic() < deadline:
            for key, _ in selector.select(timeout=1):
                assert isinstance(key.fileobj, socket.socket)
                if not key.fileobj.recv(65_536):
                    selector.unregister(key.fileobj)
                    ended += 1
    return ended


# -- tokens and misses


def test_one_address_that_guesses_tokens(limited: Server, lasts_s: float) -> None:
    forged = make_token("eve", "admin", secret="a guess that has at least thirty-two bytes")

    def build(number: int) -> bytes:
        return get("/api/users/eve/history", f"Authorization: Bearer {forged[:-8]}{number:08d}")

    guesses = Requests(limited, build)
    with closing(guesses), bystander(limited) as waits, repeating(guesses):
        wait(lasts_s)
    print(f"answers to guesses: {guesses.statuses}")
    assert guesses.statuses[401] == 100
    assert guesses.statuses.keys() == {401, 429}
    check(waits)


@pytest.mark.parametrize("path", ["/api/users/nobody-{}/stats", "/api/leaderboard?board=none-{}"])
def test_one_address_that_asks_for_what_does_not_exist(limited: Server, lasts_s: float, path: str) -> None:
    questions = Requests(limited, lambda number: get(path.format(number)))
    with closing(questions), bystander(limited) as waits, repeating(questions):
        wait(lasts_s)
        while 429 not in questions.statuses and sum(questions.statuses.values()) < 3_000:
            wait(0.1)
    print(f"answers to questions: {questions.statuses}")
    assert questions.statuses.keys() == {404, 429}
    assert questions.statuses[404] <= 1_000 + 17 * (lasts_s + 60), "all at once, and some more each second"
    check(waits)


# -- metrics


def test_metrics_asked_for_by_16_connections_at_once(limited: Server, lasts_s: float) -> None:
    questions = Requests(limited, lambda number: get("/metrics"))
    with closing(questions), bystander(limited) as waits, repeating(questions, threads=16):
        wait(lasts_s)
    print(f"pages of metrics: {questions.statuses}")
    assert questions.statuses.keys() == {200}
    assert questions.statuses[200] >= 16
    check(waits)
