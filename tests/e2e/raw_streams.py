"""Streams over plain sockets, for what no HTTP client does."""

import socket

from tests.harness import Server


def open_stream(server: Server, board: str, *, version: str = "1.1", receive_bytes: int | None = None) -> socket.socket:
    connection = socket.socket()
    if receive_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(f"GET /api/leaderboard/stream?board={board} HTTP/{version}\r\nHost: test\r\n\r\n".encode())
    return connection


def receive_until(connection: socket.socket, wanted: bytes) -> bytes:
    received = b""
    while wanted not in received:
        part = connection.recv(65_536)
        assert part, f"the connection ended after {received!r}"
        received += part
    return received
