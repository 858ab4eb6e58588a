"""Users beyond their scores: names, hiding, erasure. Admins may do all of it, and users may erase themselves."""

from sanic.request import Request
from sanic.response import HTTPResponse

from scoreboard.errors import Invalid
from scoreboard.http.bodies import user_decoder
from scoreboard.http.parse import check_is_admin, decode_body, decode_user_id
from scoreboard.http.protocol import read_body
from scoreboard.http.query import parse_query
from scoreboard.http.render import Answer, json_response
from scoreboard.http.services import Services
from scoreboard.model import NAME_CHARS_MAX, User, validate_text


async def put_user(services: Services, request: Request, user_id: str) -> HTTPResponse:
    """Give a user a display name, or take it away."""
    check_is_admin(services, request)
    parse_query(request)
    user = decode_user_id(user_id)
    await read_body(request)
    name = decode_body(request, user_decoder).display_name
    wrong = validate_text(name, NAME_CHARS_MAX) if name is not None else None
    if wrong:
        raise Invalid("displayName", wrong)
    return json_response(render_user(await services.administration.name_user(user, name)))


async def hide_user(services: Services, request: Request, user_id: str) -> HTTPResponse:
    """Keep a user out of every ranking."""
    return await _set_hidden(services, request, user_id, hidden=True)


async def unhide_user(services: Services, request: Request, user_id: str) -> HTTPResponse:
    """Show a hidden user again."""
    return await _set_hidden(services, request, user_id, hidden=False)


async def _set_hidden(services: Services, request: Request, user_id: str, *, hidden: bool) -> HTTPResponse:
    check_is_admin(services, request)
    parse_query(request)
    return json_response(render_user(await services.administration.hide_user(decode_user_id(user_id), hidden=hidden)))


async def erase_user(services: Services, request: Request, user_id: str) -> HTTPResponse:
    """Forget a user's id everywhere."""
    caller = services.authenticator.verify(request.headers.get("authorization"))
    parse_query(request)
    user = decode_user_id(user_id)
    caller.may_erase(user)
    await services.administration.erase_user(user)
    return Answer(None, 204)


def render_user(user: User) -> dict[str, object]:
    """A user as answers show one."""
    return {"userId": user.user_id, "displayName": user.name, "hidden": user.hidden}
