"""The page of metrics: rendered at most once a second however many ask, and a port of its own for it.

Rendering walks through every counter, so strangers must not have it done at will. Who asks too soon after the last
rendering waits for the next, with all others who do: nobody gets a page that is older than their question.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from time import monotonic

from scoreboard.errors import BadRequest, MethodNotAllowed, NotFound, ScoreboardError
from scoreboard.http.framing import HEAD_BYTES_MAX, HEAD_END, Framing
from scoreboard.http.last_answer import encode_last_answer, encode_last_problem
from scoreboard.metrics import CONTENT_TYPE
from scoreboard.shown import show

RENDER_EVERY_S = 1.0
CONNECTIONS_MAX = 32
"""On the port of the metrics at once; one more is closed."""
HEAD_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 10.0


class MetricsPage:
    """A page that is rendered at most once in RENDER_EVERY_S. :param render: makes it."""

    def __init__(self, render: Callable[[], Awaitable[bytes]]) -> None:
        self._render = render
        self._began_at = -RENDER_EVERY_S
        self._next: asyncio.Task[bytes] | None = None

    async def read(self) -> bytes:
        """The page, rendered after this was called."""
        if self._next is None:
            self._next = asyncio.create_task(self._render_when_due(), name="metrics-page")
        return await asyncio.shield(self._next)

    async def _render_when_due(self) -> bytes:
        await asyncio.sleep(self._began_at + RENDER_EVERY_S - monotonic())
        self._next = None  # from here on somebody may ask who knows of something newer
        self._began_at = monotonic()
        return await self._render()


@asynccontextmanager
async def serve_metrics(listener: socket.socket | None, page: MetricsPage) -> AsyncIterator[None]:
    """Answer ``GET /metrics`` on a bound socket, and nothing else, to whoever can reach it; without one do nothing."""
    if listener is None:
        yield
        return
    open_now = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_now
        open_now += 1
        try:
            if open_now <= CONNECTIONS_MAX:
                await _answer(reader, writer, page)
        except (OSError, TimeoutError):
            pass  # the client is gone, or too slow
        finally:
            open_now -= 1
            writer.close()

    server = await asyncio.start_server(answer, sock=listener, limit=HEAD_BYTES_MAX)
    try:
        yield
    finally:
        server.close()  # without waiting: in Python 3.12 and later that would wait for clients


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, page: MetricsPage) -> None:
    method = b""
    try:
        async with asyncio.timeout(HEAD_TIMEOUT_S):
            method, target, _ = (await _read_head(reader)).split(b" ", 2)
        if target.partition(b"?")[0] != b"/metrics":
            raise NotFound("on this port there is nothing but /metrics")
        if method not in (b"GET", b"HEAD"):
            shown = show(method.decode("ascii"))
            raise MethodNotAllowed(f"{shown} is not a method of /metrics; it has GET, HEAD", allowed=("GET", "HEAD"))
        data = encode_last_answer(HTTPStatus.OK, CONTENT_TYPE, await page.read())
    except ScoreboardError as exc:
        data = encode_last_problem(exc)
    if method == b"HEAD":
        data = data.partition(HEAD_END)[0] + HEAD_END
    writer.write(data)
    async with asyncio.timeout(ANSWER_TIMEOUT_S):
        await writer.drain()
        writer.write_eof()
        with suppress(OSError):
            await reader.read(HEAD_BYTES_MAX)  # unread data would reset the connection and destroy the answer


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    """A head, checked as any other.

    :raises ScoreboardError: if it is malformed or too long, or ends before it is whole.
    """
    framing, head = Framing(), b""
    while not head.endswith(HEAD_END):
        data = await reader.read(HEAD_BYTES_MAX)
        if not data:
            raise BadRequest("the request ended before it was whole")
        head += framing.feed(data)[0]
        if framing.fault is not None:
            raise framing.fault
        head = head.partition(HEAD_END)[0] + HEAD_END if HEAD_END in head else head  # a body may have come with it
    return head
