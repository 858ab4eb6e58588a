"""Sanic's connection protocol with what it lacks: absolute deadlines, streams, and refusals that arrive.

- Sanic's timeouts are idle timers that any byte resets; a request's head and body must be whole within
  REQUEST_DEADLINE_S of its first byte.
- A stream is written to behind Sanic's back, so Sanic's timers would end it; they are off for it.
- A stream's client has nothing more to say. One that does would fill the buffer and hide its disconnect: it is cut.
- Closing a socket with unread data resets the connection and can destroy the answer on its way. After a refused
  body the connection lingers: it stops sending, discards what still comes, and closes when the client does.
- What a connection at rest says is offered to the fast lane first.
- Sanic's parser is lenient. It is given only what ``framing`` has accepted, and of one request at a time: what comes
  after its end is held, unread, until the request is answered, and then it is the turn of others first. So whatever
  Sanic made of its bytes, it could not take a part of one request for another.
"""

import asyncio
import re
import socket
from collections.abc import Callable, Coroutine
from time import monotonic
from typing import Any, Protocol, cast

import structlog
from sanic.exceptions import BadRequest, BadURL, PayloadTooLarge, RequestTimeout, SanicException, ServiceUnavailable
from sanic.http import Http
from sanic.http.constants import Stage
from sanic.request import Request

from scoreboard.errors import ScoreboardError, TooLarge
from scoreboard.http.addresses import UNKNOWN, Address
from scoreboard.http.entrance import Entrance
from scoreboard.http.framing import LENGTH_DIGITS_MAX, Framing
from scoreboard.http.plain import BODY_BYTES_MAX, PlainRequest

log = structlog.get_logger(__name__)

REQUEST_DEADLINE_S = 15.0
IDLE_S = 75.0
RESPONSE_DEADLINE_S = 30.0
CHECK_S = 2.5
UNREAD_BYTES_MAX = 64 * 1024
"""Of a body that nobody has read yet as much is taken, and what came with it."""
LINGER_S = 5.0
LINGER_BYTES_MAX = 64 * 1024 * 1024
STREAM_SEND_BUFFER_BYTES = 128 * 1024
"""Kernel memory for what a stream's client has not taken; the default grows to megabytes."""
FORWARDING_HEADERS = re.compile(
    r"forwarded|via|x-forwarded-.*|x-real-ip|(x-(cluster-)?|true-|fastly-)client-ip|cf-connecting-ip", re.IGNORECASE
)
"""A request that has one of these came through a proxy."""


Handle = Callable[[PlainRequest], Coroutine[Any, Any, bytes]]
"""Gives the encoded answer to a request."""


class Lane(Protocol):
    """Who is offered what a resting connection says, before Sanic."""

    def take(self, connection: "ScoreboardProtocol", data: bytes) -> bool: ...


class _Http(Http):
    """Sanic's HTTP/1.1, with an answer for a head that can't be parsed at all.

    Sanic reports a malformed target in an answer to a request that has it, which fails the same way and answers
    nothing.
    """

    protocol: "ScoreboardProtocol"

    def __init__(self, protocol: Any) -> None:
        super().__init__(protocol)  # type: ignore[no-untyped-call]
        self.request = None  # type: ignore[assignment]  # Sanic sets it when it begins to wait for the first

    def init_for_request(self) -> None:
        if self.request is not None and self.recv_buffer:
            raise RuntimeError("something is left of a request that has been answered")
        Http.init_for_request(self)  # type: ignore[no-untyped-call]

    def create_empty_request(self) -> None:
        method, self.url = self.protocol.asked or ("NONE", self.url)
        try:
            super().create_empty_request()
        except BadURL:
            self.url = None
            super().create_empty_request()
        self.request.method = method


class ScoreboardProtocol(Entrance):
    """One client connection."""

    HTTP_CLASS = _Http

    __slots__ = (
        "_began",
        "_framing",
        "_half_closed",
        "_held",
        "_held_at",
        "_lane",
        "_lingered_bytes",
        "_on_lost",
        "lingers",
        "streaming",
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._http: _Http | None = None  # until Sanic's task begins
        self.streaming = False
        self.lingers = False
        self._lingered_bytes = 0
        self._began = 0.0
        self._lane: Lane | None = self.app.ctx.fast_lane
        self._framing = Framing()
        self._held = b""
        self._held_at = 0
        self._half_closed = False
        self._on_lost: Callable[[], None] | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._on_lost is not None:
            self._on_lost()

    def start_stream(self) -> None:
        """From here on the connection belongs to the feed."""
        self.streaming = True
        if self._held:
            self.loop.call_soon(self.cut)
        assert self.transport is not None
        raw = self.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, STREAM_SEND_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        if self._entering:
            data = self._enter(data)
            if not data:
                return
        if self.streaming:
            self.cut()
            return
        if self._lingering or self._framing.fault is not None:
            self._lingered_bytes += len(data)
            if self._lingered_bytes > LINGER_BYTES_MAX:
                self.cut()
            return
        if self._answering is not None or self._held:
            self._hold(data)
        elif not self._framing.rests:
            self._pass_on(data)
        elif not self._rests():
            self._hold(data)
        elif self._lane is None or not self._can_write.is_set() or not self._lane.take(self, data):
            self._pass_on(data)

    def _rests(self) -> bool:
        """Whether no request is under way, while no part of one is expected: Sanic waits for the next."""
        if self.recv_buffer:
            return False
        http = self._http
        if http is None:
            return self._task is not None  # it has not even begun, else it has ended
        return http.stage is Stage.IDLE and http.request is None  # with one, what is left of its body is read

    # -- Sanic's side

    def _pass_on(self, data: bytes, at: int = 0) -> None:
        """Give Sanic what is well-formed, up to the end of the request; hold the rest, or nothing after a fault."""
        self._time = monotonic()
        http = self._http
        if http is None or http.stage is Stage.IDLE:
            self._began = self._time
        passed, at = self._framing.feed(data, at)
        if at < len(data):
            self._hold(data, at)
        if self._framing.fault is not None:
            self.lingers = True
        elif not passed:
            return
        self.recv_buffer += passed
        self._data_received.set()  # there is something to read, or a fault to be told
        if len(self.recv_buffer) >= UNREAD_BYTES_MAX:
            assert self.transport is not None
            self.transport.pause_reading()

    async def receive_more(self) -> None:
        """Wait until there is more to read: of the request under way, or of the next one.

        :raises SanicException: if there can't be: something was malformed.
        """
        http = self._http
        assert http is not None, "it is what asks"
        waits_for_next = http.stage is Stage.IDLE and http.request is None
        while self._held and waits_for_next:
            await asyncio.sleep(0)  # requests sent in one go are not answered in one go
            data, at, self._held = self._held, self._held_at, b""
            self._pass_on(data, at)
            if self.recv_buffer:
                return
        fault = self._framing.fault
        if fault is not None:
            http.keep_alive = False
            raise (PayloadTooLarge if isinstance(fault, TooLarge) else BadRequest)(fault.detail)
        is_chunked = cast(object, http.request_body) == "chunked"
        if not waits_for_next and is_chunked and self._framing.announced > http.request_max_size:
            http.keep_alive = False
            self.lingers = True
            raise PayloadTooLarge("a chunk is announced that goes beyond the limit")
        if self._half_closed and not waits_for_next:
            http.keep_alive = False
            raise BadRequest("the request ended before it was whole")
        if not waits_for_next and self._framing.rests:
            raise RuntimeError("more is expected of a request that is whole")
        if self._half_closed:
            assert self._task is not None
            self._task.cancel()  # it ends where it waits
        assert self.transport is not None
        self.transport.resume_reading()
        self._data_received.clear()
        await self._data_received.wait()

    @property
    def asked(self) -> tuple[str, str] | None:
        """Method and target of a request with a malformed head, as far as they are known."""
        return self._framing.asked

    @property
    def fault(self) -> ScoreboardError | None:
        """Why nothing more is taken from this connection, if something was malformed or too large."""
        return self._framing.fault

    # -- the fast lane's side

    def answer(self, data: bytes) -> None:
        """Write a whole answer."""
        assert self.transport is not None
        self._time = monotonic()
        self.transport.write(data)

    def answer_with(self, handle: Handle, request: PlainRequest) -> None:
        """Write the answer to a request, and close the connection then if the request is not to keep it."""
        self._time = monotonic()
        self._answering = self.loop.create_task(self._answer_with(handle, request), name="fast-lane")

    async def _answer_with(self, handle: Handle, request: PlainRequest) -> None:
        try:
            data = await handle(request)
        except Exception:  # nobody else would hear of it, and the client would wait
            log.exception("fast_lane_failed")
            self.cut()
            return
        finally:
            self._answering = None
        transport = self.transport
        if transport is None or transport.is_closing():
            return
        self.answer(data)
        if not request.keep_alive or self._half_closed:
            self.close()
        elif self._held:
            held, self._held = self._held, b""
            transport.resume_reading()
            self.data_received(held)

    def become_stream(self, on_lost: Callable[[], None]) -> None:
        """From here on the connection belongs to the feed alone, and Sanic's half of its memory is given back.

        :param on_lost: called when the connection is gone.
        """
        self._on_lost = on_lost
        self.start_stream()
        self._leave_sanic()

    def _hold(self, data: bytes, at: int = 0) -> None:
        """Keep what comes while a request is answered, and take no more than that."""
        assert self.transport is not None
        if self._held:
            data, at = self._held[self._held_at :] + data[at:], 0
        self._held, self._held_at = data, at
        self.transport.pause_reading()

    def close_if_idle(self) -> bool:
        """Close the connection if no request is under way; whether it did."""
        is_ours = self._answering is not None or self._left_sanic
        return not is_ours and bool(super().close_if_idle())

    def eof_received(self) -> bool:
        """The client has said all it will. Unless it said nothing, it still wants its answer."""
        if self._answering is not None:
            self._half_closed = True
            return True
        if self._lingering or self.streaming or not self._task or (self._framing.rests and self._rests()):
            return False
        self._half_closed = True
        self._data_received.set()  # there is nothing to read, and its end to be told
        if self._framing.rests and self.http is not None:
            self.http.keep_alive = False
        return True

    def _end_request(self, reason: SanicException) -> None:
        """Answer with a failure instead of waiting on, and close soon even if the client does not."""
        assert self.http is not None and self._task is not None
        self.http.exception = reason
        self._task.cancel()
        self.loop.call_later(LINGER_S, self.cut)

    def close(self, timeout: float | None = None) -> None:
        if self._left_sanic:
            return  # Sanic's task ends, and the connection goes on without it
        lingers = (self.lingers or self._held) and not self._half_closed
        if not lingers or self.transport is None or self.transport.is_closing():
            super().close(timeout)
        elif not self._lingering:
            self._linger(LINGER_S)

    def check_timeouts(self) -> None:
        http = self.http
        if not self._task or self.streaming or http is None:
            return
        stage, now = http.stage, monotonic()
        if self._answering is not None:
            if now - self._time > RESPONSE_DEADLINE_S:
                self.cut()  # whoever answers has deadlines of its own, far shorter
                return
            self._callback_check_timeouts = self.loop.call_later(CHECK_S, self.check_timeouts)
            return
        arriving = stage is Stage.REQUEST or (stage is Stage.HANDLER and http.request_body)
        if stage is Stage.IDLE and now - self._time > IDLE_S:
            self._task.cancel()
        elif arriving and now - self._began > REQUEST_DEADLINE_S:
            self._end_request(RequestTimeout("the request did not arrive in time"))
        elif stage is not Stage.IDLE and not arriving and now - self._time > RESPONSE_DEADLINE_S:
            self._end_request(ServiceUnavailable("the answer was not ready in time"))
        else:
            self._callback_check_timeouts = self.loop.call_later(CHECK_S, self.check_timeouts)


def connection_of(request: Request) -> ScoreboardProtocol:
    """The connection that a request came by."""
    return cast(ScoreboardProtocol, cast(Http, request.stream).protocol)


def client_of(request: Request | PlainRequest) -> Address:
    """From where a request came."""
    if isinstance(request, PlainRequest):
        return request.client
    if request.stream is None:
        return UNKNOWN
    return connection_of(request).client_of(request.headers)


def stream_client_of(request: Request) -> Address | None:
    """For whom a stream counts."""
    return connection_of(request).stream_client_of(request.headers)


def came_directly(request: Request) -> bool:
    """Whether a request came from this machine itself, and through no proxy."""
    connection = connection_of(request)
    if not connection.peer.is_loopback or connection.came_by_proxy_header:
        return False
    return not any(FORWARDING_HEADERS.fullmatch(name) for name in request.headers)


async def read_body(request: Request | PlainRequest, bytes_max: int = BODY_BYTES_MAX) -> None:
    """Read the body of a request. Its handler asks for it once it knows that the caller may send one.

    :raises PayloadTooLarge: if it has more bytes.
    """
    if isinstance(request, Request):
        cast(Http, request.stream).request_max_size = bytes_max
        await request.receive_body()  # type: ignore[no-untyped-call]


def hand_over(request: Request) -> None:
    """Tell Sanic that the answer's head was written without it."""
    cast(Http, request.stream).stage = Stage.RESPONSE


def end_after(request: Request | PlainRequest) -> None:
    """Close the connection after this answer."""
    cast("Http | PlainRequest", request.stream).keep_alive = False


async def pass_over_body(request: Request, bytes_max: int) -> None:
    """The request is answered with a failure before its body was read: read a short one, so that the connection lasts.

    What is malformed in it is told rather than why it was not wanted, or the answer would depend on how the bytes were
    cut. A long one, or one that the client has not sent yet, is left.

    :raises BadRequest: if it is malformed.
    """
    http: Any = request.stream
    if not isinstance(http, Http) or not http.request_body:
        return
    is_short = "transfer-encoding" in request.headers or (http.request_bytes_left or 0) <= bytes_max
    if is_short and not http.expecting_continue:
        http.request_max_size = bytes_max
        try:
            while http.request_body and await http.read() is not None:
                pass
        except PayloadTooLarge:
            connection_of(request).lingers = True
    leave_body(request, bytes_max)


def describe_size(request: Request) -> str:
    """What is too large about a request that was refused for it, and what would not be."""
    fault = connection_of(request).fault
    if isinstance(fault, TooLarge):
        return fault.detail
    limit = cast(Http, request.stream).request_max_size
    length = request.headers.get("content-length")
    size = length if length is not None and len(length) <= LENGTH_DIGITS_MAX else f"more than {limit}"
    return f"the body has {size} bytes; at most {limit} are taken here"


def leave_body(request: Request, bytes_max: int) -> None:
    """The request is answered before its body was read: close after the answer where there is too much to read."""
    http = request.stream
    if not isinstance(http, Http) or not http.request_body:
        return
    if "transfer-encoding" in request.headers or (http.request_bytes_left or 0) > bytes_max:
        connection_of(request).lingers = True
        end_after(request)
