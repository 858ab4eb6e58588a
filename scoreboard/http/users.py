"""Users beyond their scores: names, hiding, erasure. Admins may do all of it, and users may erase themselves."""

from sanic.request import Request
from sanic.response import HTTPResponse

from scoreboard.errors import Invalid
from scoreboard.http.bodies import user_decoder
from scoreboard.http.parse import check_is_admin, decode_body, decode_name, decode_user_id
from scoreboard.http.protocol import read_body
from scoreboard.http.query import parse_query
from scoreboard.http.render import Answer, json_response
from scoreboard.http.services import Services
from scoreboard.model import NAME_CHARS_MAX, User, validate_display_name
from scoreboard.names import nfc


async def put_user(services: Services, request: Request, user_id: str) -> HTTPResponse:
    """Give a user a display name, or take it away."""
    check_is_admin(services, request)
    parse_query(request)
    user = decode_user_id(user_id)
    await read_body(request)
    name = _check_display_name(decode_body(request, user_decoder).display_name)
    return json_response(render_user(await services.administration.name_user(user, name)))


def _check_display_name(name: str | None) -> str | None:
    """A display name in its one spelling, NFC.

    :raises Invalid: if it can't be one.
    """
    if name is None:
        return None
    name = nfc(name, NAME_CHARS_MAX)
    wrong = validate_display_name(name)
    if wrong:
        raise Invalid("displayName", wrong)
    return name


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


async def hide_on_board(services: Services, request: Request, board: str, user_id: str) -> HTTPResponse:
    """Keep a user out of the ranking of one board."""
    return await _set_hidden_on_board(services, request, board, user_id, hidden=True)


async def unhide_on_board(services: Services, request: Request, board: str, user_id: str) -> HTTPResponse:
    """Show a user again who was hidden on one board."""
    return await _set_hidden_on_board(services, request, board, user_id, hidden=False)


async def _set_hidden_on_board(
    services: Services, request: Request, board: str, user_id: str, *, hidden: bool
) -> HTTPResponse:
    check_is_admin(services, request)
    parse_query(request)
    board_id, user = decode_name("board", board), decode_user_id(user_id)
    told = await services.administration.hide_on_board(board_id, user, hidden=hidden)
    return json_response({"board": board_id, "userId": user, "displayName": told.name, "hidden": told.hidden})


async def erase_user(services: Services, request: Request, user_id: str) -> HTTPResponse:
    """Forget a user's id everywhere."""
    caller = services.authenticator.verify(request.headers.get("authorization"))
    parse_query(request)
    user = decode_user_id(user_id)
    caller.may_erase(user)
    await services.administration.erase_user(user, by_itself=not caller.is_admin)
    return Answer(None, 204)


def render_user(user: User) -> dict[str, object]:
    """A user as answers show one."""
    return {"userId": user.user_id, "displayName": user.name, "hidden": user.hidden}
