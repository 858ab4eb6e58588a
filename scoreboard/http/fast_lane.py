"""The fast lane: plain requests for a page or a stream and plain submissions, answered before Sanic parses them.

They are what a busy server is asked all the time. Parsing, routing and serialising in Sanic cost several times what
answering does. The answers are the ordinary routes' to the byte, but for the request's id, and whatever is unusual
about a request or the server's state is left to the ordinary route. ``SCOREBOARD_FAST_LANE=false`` switches it off.

A page that lies ready is written at once: what to answer to a head is remembered by the head's very bytes, which
clients of one kind send alike. A stream whose log is open begins with one write, and leaves nothing of Sanic behind
that would take memory for as long as it lasts. A submission runs through the ordinary route's handler; only the
parsing around it is ours.
"""

import re
from functools import partial
from typing import Any, cast

import msgspec

from scoreboard.board_log import Reader, Transport
from scoreboard.errors import Invalid
from scoreboard.http.addresses import Address
from scoreboard.http.guard import STREAM_ROUTE
from scoreboard.http.leaderboard import REVALIDATE, matches
from scoreboard.http.parse import DEFAULT_BOARD
from scoreboard.http.plain import PlainRequest, parse_plain
from scoreboard.http.protocol import ScoreboardProtocol
from scoreboard.http.render import (
    JSON,
    NO_SNIFFING,
    PAGE_ROUTE,
    Answer,
    Handler,
    allow_origin,
    encode_answer,
    encode_stream_head,
    finish,
    next_request_id,
)
from scoreboard.http.services import Services
from scoreboard.http.stream import EVENT_STREAM, HEADERS, LAST_ID_CHARS_MAX, parse_kinds
from scoreboard.model import PAGE_SIZE_MAX
from scoreboard.pages import Answer as PageAnswer
from scoreboard.pages import Key
from scoreboard.trace import begin_trace

PLAN_BYTES_MAX = 1_024
"""A longer head is parsed every time."""
PLANS_MAX = 1_024
"""Heads that are remembered; all are forgotten when there are more."""
_GET_PAGE = (b"GET /api/leaderboard ", b"GET /api/leaderboard?")
_GET_STREAM = (b"GET /api/leaderboard/stream ", b"GET /api/leaderboard/stream?")
_POST_SCORE = b"POST /api/scores HTTP/1.1\r\n"
_STREAM_QUERY = re.compile(
    r"(?:(?:^|&)(?:board=(?P<board>[A-Za-z0-9._-]{1,64})|window=all|events=(?P<events>[a-z,-]+)))*"
)
_PAGE_QUERY = re.compile(
    r"(?:(?:^|&)(?:board=(?P<board>[A-Za-z0-9._-]{1,64})|window=all|limit=(?P<limit>[0-9]{1,3})"
    r"|offset=(?P<offset>[0-9]{1,9})))*"
)


class _Plan(msgspec.Struct):
    """What to answer to one head: board and page, and the answer last made for it in the parts around its id."""

    board: str
    key: Key
    if_none_match: str | None
    more_headers: dict[str, str]
    answer: PageAnswer | None = None
    before_id: bytes = b""
    after_id: bytes = b""
    status: int = 200


class FastLane:
    """Takes what it can answer. :param submit: the ordinary route's handler of submissions."""

    def __init__(self, services: Services, submit: Handler) -> None:
        self._services = services
        self._submit = submit
        self._plans: dict[bytes, _Plan] = {}
        self._reads = services.public_reads and not services.log_reads
        metrics = services.metrics
        self._count_pages, self._count_streams, self._count_submissions = (
            metrics.tally(metrics.fast_lane.labels(kind)) for kind in ("page", "stream", "submission")
        )

    def take(self, connection: ScoreboardProtocol, data: bytes) -> bool:
        """Answer what has just come in on a resting connection; False leaves it to the ordinary route."""
        if data.startswith(_GET_PAGE):
            return self._reads and self._answer_page(connection, data)
        if data.startswith(_POST_SCORE):
            request = parse_plain(data)
            if request is not None:
                request.client = connection.client_of(request.headers)
                self._count_submissions.count += 1
                connection.answer_with(self._answer, request)
                return True
        return data.startswith(_GET_STREAM) and self._reads and self._open_stream(connection, data)

    async def _answer(self, request: PlainRequest) -> bytes:
        response = await self._submit(request)
        assert response is not None, "a submission's handler returns its answer"
        return encode_answer(response, keep_alive=request.keep_alive)

    def _answer_page(self, connection: ScoreboardProtocol, data: bytes) -> bool:
        plan = self._plans.get(data) or self._make_plan(data)
        if plan is None or self._services.draining:
            return False
        page = self._services.pages.ready(plan.board, plan.key)
        if page is None:
            return False
        if plan.answer is not page:
            _prepare(plan, page)
        connection.answer(b"".join((plan.before_id, next_request_id().encode(), plan.after_id)))
        self._services.metrics.count_request(PAGE_ROUTE, plan.status)
        self._count_pages.count += 1
        return True

    def _make_plan(self, data: bytes) -> _Plan | None:
        """What a head asks for; None if it is not a plain request for a page."""
        request = parse_plain(data)
        if request is None or request.body or request.path != PAGE_ROUTE or "x-request-id" in request.headers:
            return None
        key = parse_page_query(request.query_string)
        if key is None:
            return None
        more: dict[str, str] = {}
        allow_origin(self._services, request.headers.get("origin"), more)
        plan = _Plan(*key, request.headers.get("if-none-match"), more)
        if len(data) <= PLAN_BYTES_MAX:
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            self._plans[data] = plan
        return plan

    def _open_stream(self, connection: ScoreboardProtocol, data: bytes) -> bool:
        services = self._services
        request = parse_plain(data)
        if request is None or request.body or services.draining:
            return False
        asked = parse_stream_query(request.query_string)
        if asked is None:
            return False
        board, kinds = asked
        last = request.headers.get("last-event-id") or None
        counted = connection.stream_client_of(request.headers)
        if not services.slots.take(counted):
            return False
        begun = services.feed.begin_now(board, kinds, last[:LAST_ID_CHARS_MAX] if last else None)
        if begun is None:
            services.slots.give_back(counted)
            return False
        log, first = begun
        reader = Reader(cast(Transport, connection.transport), kinds, chunked=True)
        connection.become_stream(partial(self._leave, reader, counted))
        response = Answer(None, 200, HEADERS, EVENT_STREAM)
        begin_trace((counted or connection.client).text).board = board
        finish(services, request, response, STREAM_ROUTE, 0.0)
        self._count_streams.count += 1
        services.pump.join(log, reader, first, encode_stream_head(response))
        return True

    def _leave(self, reader: Reader, counted: Address | None) -> None:
        self._services.pump.leave(reader)
        self._services.slots.give_back(counted)


def parse_stream_query(query: str) -> tuple[str, int] | None:
    """Board and events of a query in its plainest form; None if it is another or may be refused."""
    found = _STREAM_QUERY.fullmatch(query)
    if found is None or _repeats(query):
        return None
    try:
        return found["board"] or DEFAULT_BOARD, parse_kinds(found["events"])
    except Invalid:
        return None


def _repeats(query: str) -> bool:
    names = [part.partition("=")[0] for part in query.split("&")]
    return len(set(names)) < len(names)


def parse_page_query(query: str) -> tuple[str, Key] | None:
    """Board and page of a query in its plainest form; None if it is another or may be refused."""
    found = _PAGE_QUERY.fullmatch(query)
    if found is None or _repeats(query):
        return None
    limit, offset = int(found["limit"] or 10), int(found["offset"] or 0)
    if not 1 <= limit <= PAGE_SIZE_MAX:
        return None
    return found["board"] or DEFAULT_BOARD, (limit, offset, None)


def _prepare(plan: _Plan, page: PageAnswer) -> None:
    """Encode the answer around its request id, once for all who send this head until the page changes."""
    headers: dict[str, Any] = {
        "etag": page.etag,
        "cache-control": REVALIDATE,
        "x-request-id": "",
        **NO_SNIFFING,
        **plan.more_headers,
    }
    if matches(plan.if_none_match, page.etag):
        response = Answer(None, 304, headers)
    else:
        response = Answer(page.body, 200, headers, JSON)
    encoded = encode_answer(response, keep_alive=True)
    before, mark, after = encoded.partition(b"\r\nx-request-id: ")
    plan.answer, plan.status = page, response.status
    plan.before_id, plan.after_id = before + mark, after
