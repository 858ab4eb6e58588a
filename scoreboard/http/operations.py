"""Health, metrics, documents, the live page and the demo behind its buttons."""

import asyncio
import mimetypes
import re
import secrets
import time
from functools import cache
from importlib.resources import files

from sanic.request import Request
from sanic.response import HTTPResponse

from scoreboard.errors import Invalid, NotFound, RanksUnavailable, Unavailable
from scoreboard.http import openapi
from scoreboard.http.parse import DEFAULT_BOARD
from scoreboard.http.query import parse_leniently
from scoreboard.http.render import JSON, Answer, json_response
from scoreboard.http.services import Services
from scoreboard.metrics import CONTENT_TYPE as METRICS_TYPE
from scoreboard.model import ACTIONS_PER_BOARD_MAX
from scoreboard.shown import show

READY_TIMEOUT_S = 1.0
DEMO_TOKEN_TTL_S = 86_400
DEMO_USER = re.compile(r"demo-[a-z0-9-]{1,32}")
SECURITY_HEADERS = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


async def check_health(services: Services, request: Request) -> HTTPResponse:
    """The process lives; nothing else is touched."""
    return json_response({"status": "ok"})


async def check_readiness(services: Services, request: Request) -> HTTPResponse:
    """Whether this server can serve: PostgreSQL is needed; without Redis it serves from PostgreSQL."""

    async def state(ping: "asyncio.Future[None] | object") -> str:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await ping  # type: ignore[misc]
        except (Unavailable, RanksUnavailable, TimeoutError):
            return "unreachable"
        return "ok"

    postgresql, redis = await asyncio.gather(state(services.ledger.ping()), state(services.ranks.ping()))
    ready = postgresql == "ok" and not services.draining
    if services.draining:
        status = "draining"
    elif not ready:
        status = "unavailable"
    else:
        status = "ready" if redis == "ok" else "degraded"
    body = {"status": status, "dependencies": {"postgresql": postgresql, "redis": redis}}
    return json_response(body, 200 if ready else 503)


async def show_metrics(services: Services, request: Request) -> HTTPResponse:
    """Prometheus metrics."""
    return Answer(await services.render_metrics(), 200, {"cache-control": "no-store"}, METRICS_TYPE)


async def show_openapi(services: Services, request: Request) -> HTTPResponse:
    """The OpenAPI document."""
    return Answer(openapi.document(), 200, {"cache-control": "no-cache"}, JSON)


async def show_page(services: Services, request: Request, name: str) -> HTTPResponse:
    """A file of the live page or the docs; they ask nothing of any other host."""
    return web_file(name)


def web_file(name: str) -> HTTPResponse:
    """A file under ``web/``.

    :raises NotFound: if there is none of that name.
    """
    if name not in _web_names():
        raise NotFound(f"there is no file {show(name)}")
    body = (files("scoreboard") / "web" / name).read_bytes()
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    kind = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
    return Answer(body, 200, dict(SECURITY_HEADERS), kind)


@cache
def _web_names() -> set[str]:
    return {entry.name for entry in (files("scoreboard") / "web").iterdir() if entry.is_file()}


async def sign_in_demo(services: Services, request: Request) -> HTTPResponse:
    """A token for a demo user and the actions to try; only where the stores are the embedded ones."""
    if services.sign_demo is None:
        raise NotFound("there is no demo on this server")
    user_id = parse_leniently(request, "user") or f"demo-{secrets.token_hex(2)}"
    if not DEMO_USER.fullmatch(user_id):
        raise Invalid("user", f"{show(user_id)} is not 'demo-' and 1 to 32 of a-z 0-9 -, such as demo-anna")
    actions = await services.ledger.list_actions(DEFAULT_BOARD, limit=ACTIONS_PER_BOARD_MAX)
    return json_response(
        {
            "userId": user_id,
            "token": services.sign_demo(user_id),
            "expiresAt": int(time.time()) + DEMO_TOKEN_TTL_S,
            "board": DEFAULT_BOARD,
            "actions": [{"actionId": a.action_id, "points": a.points} for a in actions if a.enabled],
        }
    )
