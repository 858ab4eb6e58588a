"""HTTP that is not HTTP, as fast as some connections can send it: whoever else uses the server notices little."""

import itertools
import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from tests.abuse.bystander import bystander
from tests.harness import Server
from tests.http_cases import CHUNKED, GET, REFUSED, head

CONNECTIONS = 8
SECONDS, SECONDS_FULL = 2.0, 20.0
TIMEOUT_S = 20.0
GO_BYTES = 250_000
"""What a server may read from a connection at once."""
STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ")
P95_MS, MAX_MS = 150.0, 1_000.0


def malformed() -> Iterator[list[bytes]]:
    """Every malformed request, each on a connection of its own."""
    for data, _ in itertools.cycle(REFUSED.values()):
        yield [data]


def in_one_go() -> Iterator[list[bytes]]:
    """As many requests in one go as fit, the last of them malformed."""
    while True:
        yield [GET.replace(b"/", b"/healthz", 1) * (GO_BYTES // 40) + b"\0"]


def in_shreds() -> Iterator[list[bytes]]:
    """What makes most work for its bytes: long heads of short lines and short chunks in pieces, wrong in the end."""
    lines = head(*[b"a:"] * 2_000)[:-2] + b"\0"
    chunks = CHUNKED.replace(b"/x", b"/api/scores") + b"1;xxxx\r\nx\r\n" * 1_000 + b"0x\r\n"
    for data in itertools.cycle((lines, chunks)):
        yield [data[at : at + 50] for at in range(0, len(data), 50)]


def attack(server: Server, over: Event, each: Iterator[list[bytes]]) -> Counter[bytes]:
    """Send one after the other until it is over, and read what is answered; the status lines."""
    heard: Counter[bytes] = Counter()
    while not over.is_set():
        with socket.create_connection(("127.0.0.1", server.port), timeout=TIMEOUT_S) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            received = b""
            try:
                for piece in next(each):
                    connection.sendall(piece)
                connection.shutdown(socket.SHUT_WR)
                while part := connection.recv(1_000_000):
                    received += part
            except (ConnectionResetError, BrokenPipeError):
                pass
            heard.update(STATUS.findall(received))
    return heard


@pytest.mark.parametrize("kind", [malformed, in_one_go, in_shreds])
def test_malformed_requests_hold_nobody_up(
    server: Server, full: bool, kind: Callable[[], Iterator[list[bytes]]]
) -> None:
    over = Event()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        try:
            with bystander(server) as waits:
                attackers = [pool.submit(attack, server, over, kind()) for _ in range(CONNECTIONS)]
                Event().wait(SECONDS_FULL if full else SECONDS)
        finally:
            over.set()
        heard = sum((attacker.result() for attacker in attackers), Counter())
    print(f"{kind.__name__}: {dict(heard)};")
    waits.check(p95_ms=P95_MS, max_ms=MAX_MS)
    assert heard[b"400"] >= CONNECTIONS
    assert not [status for status in heard if status.startswith(b"5")], heard
