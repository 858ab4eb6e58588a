"""What goes out: one wrapper around every handler, one rendering of every failure, one log line a request."""

import itertools
import json
import re
import secrets
from collections.abc import Callable, Coroutine, Iterator
from time import perf_counter
from typing import Any

import orjson
import structlog
from sanic.exceptions import (
    MethodNotAllowed as SanicMethodNotAllowed,
)
from sanic.exceptions import (
    NotFound as SanicNotFound,
)
from sanic.exceptions import (
    PayloadTooLarge,
    RequestCancelled,
    SanicException,
    ServiceUnavailable,
)
from sanic.exceptions import (
    RequestTimeout as SanicRequestTimeout,
)
from sanic.handlers import ErrorHandler
from sanic.headers import format_http1_response
from sanic.request import Request
from sanic.response import HTTPResponse

from scoreboard import errors
from scoreboard.errors import ScoreboardError
from scoreboard.http.guard import check_misses, count_failure
from scoreboard.http.last_answer import PROBLEM_JSON
from scoreboard.http.plain import PlainRequest
from scoreboard.http.protocol import client_of, connection_of, describe_size, end_after, leave_body, pass_over_body
from scoreboard.http.services import Services
from scoreboard.http.web import HTML, SECURITY_HEADERS, prefers_html, render_live_page
from scoreboard.log_values import cut
from scoreboard.model import validate_name
from scoreboard.shown import SHOWN_CHARS_MAX, show
from scoreboard.trace import Trace, begin_trace, end_trace, knows_caller

JSON = "application/json"
EXPOSED_HEADERS = "ETag, Idempotent-Replayed, RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate, X-Request-Id"
BODILESS = frozenset({204, 304})
API = "/api/"
PAGE_ROUTE = "/api/leaderboard"
QUIET_ROUTES = frozenset({PAGE_ROUTE})
"""Asked many thousand times a second: what succeeds is counted, and logged only where every read is to be."""
PREFLIGHT_HEADERS = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Cache-Control"
"""What a page of an allowed origin may send."""
NO_STORE = {"cache-control": "no-store"}
PRIVATE = {"cache-control": "private, no-store"}
"""Of an answer to a GET that depends on who asks: no cache that others use may have it."""
PRIVATE_ROUTES = frozenset({"/api/users/<user_id>/history"})
"""Routes that nobody reads without a token, wherever reads are public. What else was answered because of who asks, is
known by a token that was looked at."""
NO_SNIFFING = {"x-content-type-options": "nosniff"}
"""Of every answer: a browser that guesses a type could run what somebody called himself."""

log = structlog.get_logger("scoreboard.requests")
_process = secrets.token_hex(4)
_numbers = itertools.count(1)
_ORIGIN = re.compile(r"null|[a-z][a-z0-9+.-]*://[!-~]+")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

Handler = Callable[..., Coroutine[Any, Any, HTTPResponse | None]]


class Answer(HTTPResponse):
    """An answer whose header values are our own or were held against a pattern.

    Sanic looks through every name and value for line ends, which was 5 % of a submission's time.
    """

    @property
    def processed_headers(self) -> Iterator[tuple[bytes, bytes]]:
        if self.content_type is not None:
            self.headers.setdefault("content-type", self.content_type)
        self.headers.pop("alt-svc", None)  # Sanic adds an empty one
        return iter([(name.encode("ascii"), str(value).encode("ascii")) for name, value in self.headers.items()])


def encode_answer(response: HTTPResponse, *, keep_alive: bool) -> bytes:
    """An answer with all its body as it goes over the wire, byte for byte as Sanic would send it."""
    if response.status not in BODILESS:
        response.headers["content-length"] = len(response.body or b"")
    response.headers["connection"] = "keep-alive" if keep_alive else "close"
    return format_http1_response(response.status, response.processed_headers) + (response.body or b"")


def encode_stream_head(response: HTTPResponse) -> bytes:
    """The head of an answer whose body comes in chunks."""
    response.headers["transfer-encoding"] = "chunked"
    response.headers["connection"] = "keep-alive"
    return format_http1_response(response.status, response.processed_headers)


def next_request_id() -> str:
    """An id for a request that brought none."""
    return f"{_process}-{next(_numbers)}"


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> HTTPResponse:
    """An answer in JSON that nobody may keep."""
    return Answer(orjson.dumps(value), status, {**NO_STORE, **(headers or {})}, JSON)


def problem_response(error: ScoreboardError) -> HTTPResponse:
    """A failure as RFC 9457 has it."""
    headers = {**NO_STORE, **error.headers}
    return Answer(_encode(error.problem), error.status, headers, PROBLEM_JSON)


def failure_response(services: Services, request: Request | PlainRequest, error: ScoreboardError) -> HTTPResponse:
    """A failure for whoever asked: a browser at an address where there is nothing gets the page that says so."""
    if not isinstance(request, Request) or not isinstance(error, errors.NotFound):
        return problem_response(error)
    is_page = request.method in ("GET", "HEAD") and not f"{request.path}/".startswith(API)
    if not is_page or not prefers_html(request.headers.get("accept")):
        return problem_response(error)
    body = render_live_page(demo=services.sign_demo is not None, found=False)
    return Answer(body, error.status, {**SECURITY_HEADERS, **NO_STORE}, HTML)


def _encode(problem: dict[str, object]) -> bytes:
    try:
        return orjson.dumps(problem)
    except TypeError:  # a wrong value with lone surrogates, which UTF-8 can't hold
        return json.dumps(problem, ensure_ascii=False).encode("utf-8", "replace")


def endpoint(services: Services, route: str, handler: Handler) -> Handler:
    """Wrap a handler: failures become problems, and every answer is counted, logged and given its request id.

    A handler that returns None has written its own answer (a stream).
    """
    seconds = services.metrics.request_seconds.labels(route)
    is_private = route in PRIVATE_ROUTES or (not services.public_reads and route.startswith("/api/"))

    async def handle(request: Request, **segments: str) -> HTTPResponse | None:
        started = perf_counter()
        client = client_of(request)
        trace = begin_trace(client.text)
        board = segments.get("board")
        if board is not None and validate_name(board) is None:
            trace.board = board  # who is refused before the path is parsed is refused about it too
        try:
            check_misses(services, request, route, client)
            response = await handler(services, request, **segments)
        except ScoreboardError as exc:
            response = failure_response(services, request, count_failure(services, request, route, client, exc))
            if isinstance(request, Request):
                await pass_over_body(request, request.app.config.REQUEST_MAX_SIZE)
        except SanicException:
            raise  # of the body, which some handlers read themselves: the application's error handler tells it
        except Exception:
            log.exception("handler_failed", route=route)
            response = problem_response(errors.InternalError("the server failed; its log has the reason"))
        took = perf_counter() - started
        if response is not None:
            depends_on_caller = is_private or response.status == 401 or knows_caller()
            if depends_on_caller and request.method in ("GET", "HEAD"):
                keep_private(response)
            seconds.observe(took)
            finish(services, request, response, route, took)
        return response

    return handle


def keep_private(response: HTTPResponse) -> None:
    """Let no cache that others use have an answer that depends on who asks."""
    if not str(response.headers.get("cache-control", "")).startswith("private"):
        response.headers.update(PRIVATE)


def finish(
    services: Services, request: Request | PlainRequest, response: HTTPResponse, route: str, took: float
) -> None:
    """Give an answer its common headers, count it and log it."""
    request_id = request.headers.get("x-request-id")
    if request_id is None or not _REQUEST_ID.fullmatch(request_id):
        request_id = next_request_id()
    response.headers["x-request-id"] = request_id
    response.headers.update(NO_SNIFFING)
    allow_origin(services, request.headers.get("origin"), response.headers)
    if services.draining:
        response.headers["connection"] = "close"
        end_after(request)
    services.metrics.count_request(route, response.status)
    trace = end_trace()
    if route in QUIET_ROUTES and response.status < 400 and not services.log_reads:
        return
    if trace is None:  # it did not come as far as its handler
        trace = Trace(client_of(request).text)
    log.info(
        "request",
        id=request_id,
        client=trace.client,
        caller=trace.caller,
        board=trace.board,
        method=cut(request.method),
        route=route,
        path=cut(request.path),
        status=response.status,
        ms=round(took * 1000, 2),
    )


def allow_origin(services: Services, origin: str | None, headers: Any) -> None:
    """Say that the page of an allowed origin may read the answer, and send the cookie if the origin is named."""
    if not services.cors_origins:
        return
    headers["vary"] = "Origin"
    is_named = origin is not None and origin != "*" and origin in services.cors_origins
    if is_named or ("*" in services.cors_origins and _ORIGIN.fullmatch(origin or "")):
        headers["access-control-allow-origin"] = origin
        headers["access-control-expose-headers"] = EXPOSED_HEADERS
    if is_named:
        headers["access-control-allow-credentials"] = "true"


def preflight_response(services: Services, request: Request, allowed: list[str]) -> HTTPResponse:
    """The answer to a browser that asks what it may send."""
    response = Answer(b"", 204)
    allow_origin(services, request.headers.get("origin"), response.headers)
    response.headers["access-control-allow-methods"] = ", ".join(sorted(allowed))
    response.headers["access-control-allow-headers"] = PREFLIGHT_HEADERS
    response.headers["access-control-max-age"] = "600"
    return response


class ProblemHandler(ErrorHandler):
    """Failures outside of handlers: no route, a wrong method, broken HTTP, timeouts, bodies over the limit.

    :param allowed_methods: the methods of a path; Sanic knows them only where the path has no parameters.
    """

    def __init__(self, services: Services, allowed_methods: Callable[[str], list[str]]) -> None:
        super().__init__()
        self._services = services
        self._allowed_methods = allowed_methods

    async def response(self, request: Request, exception: Exception) -> HTTPResponse:
        """The answer for whatever Sanic raised. Sanic awaits it."""
        services = self._services
        if isinstance(exception, SanicNotFound | SanicMethodNotAllowed):
            try:
                await pass_over_body(request, request.app.config.REQUEST_MAX_SIZE)
            except SanicException as malformed:
                exception = malformed
        allowed = self._allowed_methods(request.path) if self._is_preflight(request, exception) else []
        if allowed:
            response = preflight_response(services, request, allowed)
        else:
            error = self._translate(request, exception)
            if error.status == 500:
                log.error("request_failed", path=cut(request.path), exc_info=exception)
            response = failure_response(services, request, error)
        if isinstance(exception, PayloadTooLarge) and request.stream is not None:
            connection_of(request).lingers = True  # of the head, too, there may be more to come
        leave_body(request, request.app.config.REQUEST_MAX_SIZE)
        finish(services, request, response, "none", 0.0)
        return response

    def _is_preflight(self, request: Request, exception: Exception) -> bool:
        """Whether a browser asks what it may send. Sanic has no route for that."""
        is_unrouted = isinstance(exception, SanicMethodNotAllowed | SanicNotFound)
        return is_unrouted and request.method == "OPTIONS" and bool(self._services.cors_origins)

    def _translate(self, request: Request, exception: Exception) -> ScoreboardError:
        if isinstance(exception, ScoreboardError):
            return exception
        said = str(exception)[:SHOWN_CHARS_MAX]  # it may repeat what came
        allowed = self._allowed_methods(request.path)
        if isinstance(exception, SanicMethodNotAllowed) and allowed:
            detail = f"{show(request.method)} is not a method of this path; it has {', '.join(allowed)}"
            return errors.MethodNotAllowed(detail, allowed=allowed)
        if isinstance(exception, SanicNotFound | SanicMethodNotAllowed):
            return errors.NotFound(f"there is nothing at {show(request.path)}")
        if isinstance(exception, PayloadTooLarge):
            return errors.TooLarge(describe_size(request))
        if isinstance(exception, SanicRequestTimeout):
            return errors.RequestTimeout(said)
        if isinstance(exception, RequestCancelled):
            return errors.BadRequest("the client went away")
        if isinstance(exception, ServiceUnavailable):
            return errors.Unavailable(said)
        if isinstance(exception, SanicException) and 400 <= exception.status_code < 500:
            return errors.BadRequest(said)
        return errors.InternalError("the server failed; its log has the reason")
