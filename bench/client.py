"""A small HTTP/1.1 client: keep-alive, one request at a time on a connection, callbacks instead of tasks.

Client, server and stores share the machine, so each microsecond of the client is missing elsewhere. A heavy client
library takes longer for a request than the server does, and would be what is measured.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import cast

CONNECT_TIMEOUT_S = 10.0
LOST = 0
"""The status told for a request whose connection broke."""

OnAnswer = Callable[[int, bytes], None]


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._whole = 0  # bytes of the answer, head included, once its head is there
        self._on_answer: OnAnswer | None = None
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        set_no_delay(self._transport)

    def ask(self, request: bytes, on_answer: OnAnswer) -> None:
        """Send a request; its status and body are told by ``on_answer``."""
        assert self._on_answer is None, "the previous request has no answer yet"
        assert self._transport is not None
        if self.lost:
            on_answer(LOST, b"the connection was lost before")
            return
        self._on_answer = on_answer
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received = received = self._received + data if self._received else data
        if not self._whole:
            head_end = received.find(b"\r\n\r\n")
            if head_end < 0:
                return
            self._whole = head_end + 4 + content_length(received[:head_end])
        if len(received) < self._whole:
            return
        body = received[received.find(b"\r\n\r\n") + 4 : self._whole]
        on_answer, self._on_answer = self._on_answer, None
        self._received, self._whole = b"", 0
        assert on_answer is not None, f"an answer nobody asked for: {received[:200]!r}"
        on_answer(int(received[9:12]), body)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        on_answer, self._on_answer = self._on_answer, None
        if on_answer is not None:
            on_answer(LOST, str(exc or "the server closed the connection").encode())

    def close(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


def set_no_delay(transport: asyncio.Transport) -> None:
    """Send small writes at once; Nagle's algorithm would add up to 40 ms to some."""
    transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def content_length(head: bytes) -> int:
    """The body's length that a head announces; every answer measured here has one."""
    lowered = head.lower()
    start = lowered.index(b"\r\ncontent-length:") + len(b"\r\ncontent-length:")
    end = lowered.find(b"\r\n", start)
    return int(lowered[start : end if end >= 0 else None])


async def connect(host: str, port: int, count: int) -> list[Connection]:
    """Open connections, all before the first request."""
    loop = asyncio.get_running_loop()
    connections: list[Connection] = []
    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        for _ in range(count):
            _, connection = await loop.create_connection(Connection, host, port)
            connections.append(connection)
    return connections


def encode_get(host: str, port: int, path: str, *headers: str) -> bytes:
    """A GET request."""
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}:{port}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()
