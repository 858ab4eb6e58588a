"""The routes, and the Sanic application that has them."""

import re
from functools import cache, partial
from typing import Any

from sanic import Sanic
from sanic.request import Request
from sanic.response import HTTPResponse

from scoreboard.http import boards, groups, leaderboard, operations, scores, stream, users
from scoreboard.http.bodies import empty_decoder
from scoreboard.http.fast_lane import FastLane
from scoreboard.http.framing import HEAD_BYTES_MAX
from scoreboard.http.parse import decode_body
from scoreboard.http.plain import BODY_BYTES_MAX
from scoreboard.http.probes import Probes
from scoreboard.http.render import Handler, ProblemHandler, endpoint
from scoreboard.http.services import Services

BATCH_ROUTE = "/api/scores/batch"
GROUP_ROUTE = "/api/boards/<board>/groups/<group>"
PROBES = ("/healthz", "/readyz")
"""Answered even to those for whom there is no place."""
READS_ITS_BODY = frozenset(
    {
        ("POST", "/api/scores"),
        ("POST", BATCH_ROUTE),
        ("PUT", "/api/users/<user_id>"),
        ("PUT", "/api/boards/<board>"),
        ("PATCH", "/api/boards/<board>"),
        ("POST", "/api/boards/<board>/events/<seq>/revoke"),
        ("PUT", "/api/boards/<board>/actions/<action>"),
        ("PUT", GROUP_ROUTE),
    }
)
"""Routes whose handlers call read_body once the caller may send one: nobody else's body is read or judged."""
NEEDS_NO_SCOPE = frozenset({("DELETE", "/api/users/<user_id>")})
"""Of the routes that change something and take no body: those that are not for administrators only."""
ROUTES: list[tuple[str, str, Handler]] = [
    ("POST", "/api/scores", scores.submit_score),
    ("POST", BATCH_ROUTE, scores.submit_batch),
    ("GET", "/api/leaderboard", leaderboard.read_leaderboard),
    ("GET", "/api/leaderboard/stream", stream.stream_leaderboard),
    ("GET", "/api/leaderboard/around/<user_id>", leaderboard.read_around),
    ("GET", "/api/leaderboard/users", leaderboard.read_users),
    ("GET", "/api/users/<user_id>/stats", leaderboard.read_stats),
    ("GET", "/api/users/<user_id>/history", leaderboard.read_history),
    ("PUT", "/api/users/<user_id>", users.put_user),
    ("DELETE", "/api/users/<user_id>", users.erase_user),
    ("POST", "/api/users/<user_id>/hide", users.hide_user),
    ("POST", "/api/users/<user_id>/unhide", users.unhide_user),
    ("GET", "/api/boards", boards.list_boards),
    ("GET", "/api/boards/<board>", boards.read_board),
    ("PUT", "/api/boards/<board>", boards.put_board),
    ("PATCH", "/api/boards/<board>", boards.patch_board),
    ("GET", "/api/boards/<board>/periods", boards.list_periods),
    ("POST", "/api/boards/<board>/events/<seq>/revoke", boards.revoke_event),
    ("GET", "/api/boards/<board>/actions", boards.list_actions),
    ("PUT", "/api/boards/<board>/actions/<action>", boards.put_action),
    ("DELETE", "/api/boards/<board>/actions/<action>", boards.disable_action),
    ("POST", "/api/boards/<board>/users/<user_id>/hide", users.hide_on_board),
    ("POST", "/api/boards/<board>/users/<user_id>/unhide", users.unhide_on_board),
    ("GET", "/api/boards/<board>/groups", groups.list_groups),
    ("GET", GROUP_ROUTE, groups.read_group),
    ("PUT", GROUP_ROUTE, groups.put_group),
    ("DELETE", GROUP_ROUTE, groups.delete_group),
    ("GET", "/healthz", operations.check_health),
    ("GET", "/readyz", operations.check_readiness),
    ("GET", "/metrics", operations.show_metrics),
    ("GET", "/openapi.json", operations.show_openapi),
    ("GET", "/docs", partial(operations.show_page, name="docs.html")),
    ("GET", "/demo", operations.sign_in_demo),
    ("GET", "/web/<name>", operations.show_page),
    ("GET", "/favicon.ico", partial(operations.show_page, name="icon.svg")),
    ("GET", "/", operations.show_live_page),
]


def create_app(services: Services) -> "Sanic[Any, Any]":
    """The application with all routes; its limits are ours, not Sanic's defaults."""
    app: Sanic[Any, Any] = Sanic(
        "scoreboard", configure_logging=False, error_handler=ProblemHandler(services, allowed_methods)
    )
    app.config.REQUEST_MAX_SIZE = BODY_BYTES_MAX
    app.config.REQUEST_MAX_HEADER_SIZE = HEAD_BYTES_MAX
    app.config.FALLBACK_ERROR_FORMAT = "json"
    app.config.MOTD = False
    app.ctx.connections = services.connections
    app.ctx.trusted_proxies = services.trusted_proxies
    by_path: dict[str, dict[str, Handler]] = {}
    for method, path, handler in ROUTES:
        if method != "GET" and (method, path) not in READS_ITS_BODY:
            handler = refuse_body(handler, is_for_admins=(method, path) not in NEEDS_NO_SCOPE)
        by_path.setdefault(path, {})[method] = endpoint(services, path, handler)
    for path, handlers in by_path.items():
        for method, wrapped in handlers.items():
            reads_its_body = (method, path) in READS_ITS_BODY
            app.add_route(
                wrapped,
                path,
                methods=_with_head(method),
                name=_name(method, path),
                stream=reads_its_body,
                error_format="json",  # else it is guessed from the handler's source, which takes a fifth of the start
            )
    app.ctx.probes = Probes({path: by_path[path]["GET"] for path in PROBES})
    app.ctx.fast_lane = FastLane(services, by_path["/api/scores"]["POST"]) if services.fast_lane else None
    return app


def refuse_body(handler: Handler, *, is_for_admins: bool) -> Handler:
    """The handler of a route that changes something and takes no body: one that says something is told to be wrong.

    What is ignored would be a wrong answer with 200: whoever sends ``until`` believes that it holds. Who may not ask
    at all is told that first.
    """

    async def handle(services: Services, request: Request, **segments: str) -> HTTPResponse | None:
        if request.body:
            caller = services.authenticator.verify(request.headers.get("authorization"))
            if is_for_admins:
                caller.must_be_admin()
            decode_body(request, empty_decoder)
        return await handler(services, request, **segments)

    return handle


def allowed_methods(path: str) -> list[str]:
    """The methods of a path, in order; empty where there is nothing."""
    path = path.rstrip("/") or "/"  # both forms are routed
    found = {method for method, pattern in _patterns() if pattern.fullmatch(path)}
    return sorted(method for each in found for method in _with_head(each))


@cache
def _patterns() -> list[tuple[str, re.Pattern[str]]]:
    return [(method, re.compile(re.sub("<[^>]+>", "[^/]+", template))) for method, template, _ in ROUTES]


def _with_head(method: str) -> list[str]:
    return ["GET", "HEAD"] if method == "GET" else [method]


def _name(method: str, path: str) -> str:
    """Sanic wants a unique name of letters and underscores for each route."""
    return f"{method}_{''.join(char if char.isalnum() else '_' for char in path)}".lower()
