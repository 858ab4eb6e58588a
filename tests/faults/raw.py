"""Clients that do not behave, byte by byte."""

import asyncio
import json
import socket
import struct
from dataclasses import dataclass
from time import monotonic
from urllib.parse import urlsplit

import psutil

from tests.harness import Server, make_token

BYTE_EVERY_S = 1.0


def encode_submission(board: str, key: str, user: str, action: str, *, chunked: bool = False) -> tuple[bytes, bytes]:
    """Head and body of a submission by somebody who may submit for anyone."""
    body = json.dumps({"actionId": action, "userId": user, "board": board}).encode()
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
    lines = [
        "POST /api/scores HTTP/1.1",
        "Host: test",
        f"Authorization: Bearer {make_token('game', 'scores:any')}",
        f"Idempotency-Key: {key}",
        "Content-Type: application/json",
        length,
        "",
        "",
    ]
    return "\r\n".join(lines).encode(), (f"{len(body):x}\r\n".encode() + body if chunked else body)


async def connect(server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(server.url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def hang_up_after(server: Server, data: bytes, *, reset: bool) -> None:
    """Send some bytes and be gone. :param reset: with a reset instead of an orderly end."""
    _, writer = await connect(server)
    writer.write(data)
    if reset:
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@dataclass
class HalfOpen:
    """A request that arrives a byte a second, and what became of it."""

    status: int = 0
    """0: cut without an answer."""
    answered_after_s: float = 0.0
    closed_after_s: float = 0.0


async def send_slowly(server: Server, beginning: bytes, *, stays: bool, within_s: float) -> HalfOpen:
    """Send the beginning of a request, then a byte a second until it is answered.

    :param stays: go on until the server closes the connection.
    """
    result = HalfOpen()
    async with asyncio.timeout(within_s):
        reader, writer = await connect(server)
        started = monotonic()
        writer.write(beginning)
        dripping = asyncio.ensure_future(_drip(writer))
        try:
            head = await reader.readuntil(b"\r\n")
            result.status, result.answered_after_s = int(head.split()[1]), monotonic() - started
            if stays:
                await reader.read()
        except (OSError, EOFError):
            pass
        finally:
            dripping.cancel()
            await asyncio.gather(dripping, return_exceptions=True)
            writer.transport.abort()
    result.closed_after_s = monotonic() - started
    return result


async def _drip(writer: asyncio.StreamWriter) -> None:
    while not writer.transport.is_closing():
        await asyncio.sleep(BYTE_EVERY_S)
        writer.write(b" ")


def open_files(server: Server) -> int:
    """File descriptors that a server has open."""
    assert server.process is not None
    return int(psutil.Process(server.process.pid).num_fds())


def memory_bytes(server: Server) -> int:
    """Memory that a server uses."""
    assert server.process is not None
    return int(psutil.Process(server.process.pid).memory_info().rss)
