"""Health, metrics, documents, the live page and the demo behind its buttons."""

import secrets
import time

import msgspec
from sanic.request import Request
from sanic.response import HTTPResponse

from scoreboard.auth import DEMO_BOARD, DEMO_TOKEN_TTL_S, DEMO_USER
from scoreboard.errors import Invalid, NotFound
from scoreboard.http import openapi
from scoreboard.http.parse import parse_leniently
from scoreboard.http.protocol import came_directly
from scoreboard.http.render import JSON, PRIVATE, Answer, json_response
from scoreboard.http.services import Services
from scoreboard.http.web import HTML, SECURITY_HEADERS, read_web_file, render_live_page
from scoreboard.metrics import CONTENT_TYPE as METRICS_TYPE
from scoreboard.model import ACTIONS_PER_BOARD_MAX
from scoreboard.shown import show


async def check_health(services: Services, request: Request) -> HTTPResponse:
    """The process lives; nothing else is touched."""
    return json_response({"status": "ok"})


async def check_readiness(services: Services, request: Request) -> HTTPResponse:
    """Whether this server can serve: PostgreSQL is needed; without Redis it serves from PostgreSQL."""

    answering = await services.readiness.check()
    ready = answering.postgresql and not services.draining
    if services.draining:
        status = "draining"
    elif not ready:
        status = "unavailable"
    else:
        status = "ready" if answering.redis else "degraded"
    states = {name: "ok" if answers else "unreachable" for name, answers in msgspec.structs.asdict(answering).items()}
    body = {"status": status, "dependencies": states}
    return json_response(body, 200 if ready else 503)


async def show_metrics(services: Services, request: Request) -> HTTPResponse:
    """Prometheus metrics, for whoever is on this machine: a peer on loopback through which nobody else came."""
    if not came_directly(request):
        raise NotFound(f"there is nothing at {request.path!r}")
    return Answer(await services.read_metrics(), 200, {"cache-control": "no-store"}, METRICS_TYPE)


async def show_openapi(services: Services, request: Request) -> HTTPResponse:
    """The OpenAPI document."""
    return Answer(openapi.document(), 200, {"cache-control": "no-cache"}, JSON)


async def show_page(services: Services, request: Request, name: str) -> HTTPResponse:
    """A file of the live page or the docs; they ask nothing of any other host."""
    body, kind = read_web_file(name)
    return Answer(body, 200, dict(SECURITY_HEADERS), kind)


async def show_live_page(services: Services, request: Request) -> HTTPResponse:
    """The live page of whichever board its query names; what it shows it asks for itself."""
    body = render_live_page(demo=services.sign_demo is not None)
    return Answer(body, 200, dict(SECURITY_HEADERS), HTML)


async def sign_in_demo(services: Services, request: Request) -> HTTPResponse:
    """A token for a demo user and the actions to try, where there is a demo."""
    if services.sign_demo is None:
        raise NotFound("there is no demo on this server")
    user_id = parse_leniently(request, "user") or f"demo-{secrets.token_hex(2)}"
    if not DEMO_USER.fullmatch(user_id):
        raise Invalid("user", f"{show(user_id)} is not 'demo-' and 1 to 32 of a-z 0-9 -, such as demo-anna")
    actions = await services.ledger.list_actions(DEMO_BOARD, limit=ACTIONS_PER_BOARD_MAX)
    return json_response(
        {
            "userId": user_id,
            "token": services.sign_demo(user_id),
            "expiresAt": int(time.time()) + DEMO_TOKEN_TTL_S,
            "board": DEMO_BOARD,
            "actions": [{"actionId": a.action_id, "points": a.points} for a in actions if a.enabled],
        },
        headers=PRIVATE,
    )
