"""Groups of a board: lists of users to rank within. Reading is public, changing needs the scope ``admin``."""

from sanic.request import Request
from sanic.response import HTTPResponse

from scoreboard.cursors import encode_list_cursor
from scoreboard.errors import Invalid
from scoreboard.http.bodies import group_decoder
from scoreboard.http.parse import (
    check_is_admin,
    check_may_read,
    check_name,
    check_user_id,
    decode_body,
    decode_name,
    find_caller,
)
from scoreboard.http.protocol import read_body
from scoreboard.http.query import parse_after, parse_integer, parse_query
from scoreboard.http.render import Answer, json_response
from scoreboard.http.services import Services
from scoreboard.model import GROUPS_PER_BOARD_MAX, MEMBERS_LISTED_MAX
from scoreboard.shown import show

GROUP_BYTES_MAX = 8 * 1024 * 1024
"""Of a group's body: 10,000 ids of 64 characters, each of which JSON may write in up to 12 bytes."""


async def list_groups(services: Services, request: Request, board: str) -> HTTPResponse:
    """A board's groups in the order of their ids; ``next`` is the ``cursor=`` of the next page."""
    check_may_read(services, request)
    query = parse_query(request, "limit", "cursor", "after")
    board_id = decode_name("board", board)
    limit = parse_integer(query, "limit", 100, low=1, high=GROUPS_PER_BOARD_MAX)
    named = ("groups", board_id)
    after = parse_after(query, named, check_name)
    groups = await services.ledger.list_groups(board_id, after=after, limit=limit + 1)
    if not groups:
        await services.ledger.read_board(board_id)  # a board that does not exist is not one without groups
    page = groups[:limit]
    return json_response(
        {
            "board": board_id,
            "groups": [{"group": group.group_id, "members": group.members} for group in page],
            "next": encode_list_cursor(named, page[-1].group_id) if len(groups) > limit else None,
        }
    )


async def read_group(services: Services, request: Request, board: str, group: str) -> HTTPResponse:
    """A group's members in the order of their ids; ``next`` is the ``cursor=`` of the next page.

    Whom the board hides is listed and counted for administrators only.
    """
    check_may_read(services, request)
    query = parse_query(request, "limit", "cursor", "after")
    board_id, group_id = decode_name("board", board), decode_name("group", group)
    limit = parse_integer(query, "limit", 100, low=1, high=MEMBERS_LISTED_MAX)
    named = ("members", board_id, group_id)
    after = parse_after(query, named, check_user_id)
    caller = find_caller(services, request)
    total, members = await services.ledger.list_members(
        board_id, group_id, after=after, limit=limit + 1, with_hidden=caller is not None and caller.is_admin
    )
    page = members[:limit]
    return json_response(
        {
            "board": board_id,
            "group": group_id,
            "members": page,
            "total": total,
            "next": encode_list_cursor(named, page[-1]) if len(members) > limit else None,
        }
    )


async def put_group(services: Services, request: Request, board: str, group: str) -> HTTPResponse:
    """Make a group have these members and no others."""
    check_is_admin(services, request)
    parse_query(request)
    board_id, group_id = decode_name("board", board), decode_name("group", group)
    await read_body(request, GROUP_BYTES_MAX)
    members = _check_members(decode_body(request, group_decoder).members)
    created = await services.ledger.put_group(board_id, group_id, members)
    shown = {"board": board_id, "group": group_id, "members": len(members)}
    return json_response(shown, 201 if created else 200)


async def delete_group(services: Services, request: Request, board: str, group: str) -> HTTPResponse:
    """Delete a group; its members' scores stay."""
    check_is_admin(services, request)
    parse_query(request)
    await services.ledger.delete_group(decode_name("board", board), decode_name("group", group))
    return Answer(None, 204)


def _check_members(members: list[str]) -> list[str]:
    """User ids in their one spelling.

    :raises Invalid: if one can't be a user's id, or is there twice.
    """
    places: dict[str, int] = {}
    for place, each in enumerate(members):
        member = check_user_id(f"members[{place}]", each)
        first = places.setdefault(member, place)
        if first != place:
            raise Invalid(f"members[{place}]", f"{show(member)} is members[{first}] already; name each user once")
    return list(places)
