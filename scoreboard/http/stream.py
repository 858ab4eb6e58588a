"""GET /api/leaderboard/stream: hands a connection over to the feed."""

import asyncio
import math
import random
from typing import cast

from sanic.request import Request
from sanic.response import HTTPResponse

from scoreboard import frames
from scoreboard.board_log import Reader, Transport
from scoreboard.errors import Invalid
from scoreboard.http.guard import STREAM_ROUTE, refuse_miss
from scoreboard.http.parse import check_may_read
from scoreboard.http.protocol import client_of, connection_of, end_after, hand_over, stream_client_of
from scoreboard.http.query import parse_board, parse_query, parse_window
from scoreboard.http.render import NO_SNIFFING, Answer, allow_origin, finish
from scoreboard.http.services import Services
from scoreboard.pump import END_SPREAD_MS, Pump
from scoreboard.shown import show

EVENT_STREAM = "text/event-stream"
HEADERS = {"cache-control": "no-store, no-transform", "x-accel-buffering": "no"}
PRIVATE_HEADERS = {**HEADERS, "cache-control": "private, no-store, no-transform"}
LAST_ID_CHARS_MAX = 64


async def stream_leaderboard(services: Services, request: Request) -> HTTPResponse | None:
    """Stream a board until the client leaves, its token expires, the server ends, or the reader is too slow."""
    caller = check_may_read(services, request)
    ends_at = caller.expires_at if caller is not None else math.inf
    query = parse_query(request, "board", "window", "events", "lastEventId")
    board = parse_board(query)
    window = parse_window(query)
    kinds = parse_kinds(query.text("events"))
    last = request.headers.get("last-event-id") or query.text("lastEventId")
    refused_s = refuse_miss(services, request, STREAM_ROUTE, client_of(request))
    if refused_s:
        return _refuse(services, request, wait_ms=int(refused_s * 1_000))
    if request.method == "HEAD":
        await services.feed.open(board, window)
        return Answer(None, 200, _headers(services), EVENT_STREAM)
    client = stream_client_of(request)
    if services.draining or not services.slots.take(client):
        return _refuse(services, request)
    try:
        log, first = await services.feed.begin(board, kinds, last[:LAST_ID_CHARS_MAX] if last else None, window)
        services.misses.know(board, window)
        transport = cast(Transport, request.transport)
        reader = Reader(transport, kinds, chunked=request.version == "1.1", ends_at=ends_at)
        await send_head(services, request, reader)
        services.pump.join(log, reader, first)
        await stay(services.pump, reader)
    finally:
        services.slots.give_back(client)
    return None


def _refuse(services: Services, request: Request, wait_ms: int = 0) -> HTTPResponse:
    """There is no stream for this reader now, who is told when to come back.

    EventSource gives up for good on any status but 200.

    :param wait_ms: how long a place certainly will not be free, in milliseconds.
    """
    services.metrics.streams_opened.labels("refused").inc()
    end_after(request)
    retry = frames.encode_retry(wait_ms + random.randint(*END_SPREAD_MS))
    return Answer(retry, 200, _headers(services), EVENT_STREAM)


async def stay(pump: Pump, reader: Reader) -> None:
    """Wait until the connection is gone: Sanic cancels the handler then."""
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        pump.leave(reader)


async def send_head(services: Services, request: Request, reader: Reader) -> None:
    """Answer 200 and take the connection out of Sanic's hands."""
    connection_of(request).start_stream()
    if reader.chunked:
        response = await request.respond(Answer(None, 200, _headers(services), EVENT_STREAM))
        finish(services, request, response, STREAM_ROUTE, 0.0)
        await response.send(b"")
        return
    # HTTP/1.0 knows no chunks: the end of the connection is the end of the body.
    headers: dict[str, str] = {**_headers(services), "content-type": EVENT_STREAM, "connection": "close", **NO_SNIFFING}
    allow_origin(services, request.headers.get("origin"), headers)
    lines = [f"{name}: {value}" for name, value in headers.items()]
    reader.transport.write("\r\n".join(["HTTP/1.0 200 OK", *lines, "", ""]).encode("latin-1"))
    hand_over(request)


def _headers(services: Services) -> dict[str, str]:
    return HEADERS if services.public_reads else PRIVATE_HEADERS


def parse_kinds(text: str | None) -> int:
    """The events asked for, as bits.

    :raises Invalid: if one is unknown or there twice, or none is named.
    """
    if text is None:
        return frames.SCORES | frames.LEADERBOARD
    kinds = 0
    for name in text.split(","):
        kind = frames.KINDS.get(name.strip())
        if kind is None:
            raise Invalid("events", f"{show(name)} is not one of {', '.join(frames.KINDS)}")
        if kinds & kind:
            raise Invalid("events", f"names {show(name.strip())} twice; name each once")
        kinds |= kind
    return kinds
