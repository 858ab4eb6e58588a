"""Reads of boards and users: pages, stats, history."""

from collections.abc import Mapping
from typing import Any

from sanic.request import Request
from sanic.response import HTTPResponse

from scoreboard.errors import Invalid
from scoreboard.http.parse import (
    DEFAULT_BOARD,
    check_may_read,
    check_name,
    decode_user_id,
    parse_as_of,
    parse_board,
    parse_integer,
    parse_period,
    parse_text,
    parse_user_ids,
    parse_window,
)
from scoreboard.http.render import JSON, Answer, json_response
from scoreboard.http.services import Services
from scoreboard.model import ALL, HISTORY_SIZE_MAX, PAGE_SIZE_MAX, RADIUS, RADIUS_MAX, SCORE_MAX, format_time
from scoreboard.pages import Answer as PageAnswer
from scoreboard.pages import Key, decode_cursor

DEFAULT_PAGE: Key = (10, 0, None)
# A page may be kept but must be checked against its tag before each use.
REVALIDATE = "no-cache"


async def read_leaderboard(services: Services, request: Request) -> HTTPResponse:
    """A page of a board."""
    check_may_read(services, request)
    # Most ask for nothing special; looking for each parameter took 2 % of an answer.
    if request.query_string:
        answer = await _read_asked(services, request)
    else:
        answer = await services.pages.read_leaderboard(DEFAULT_BOARD, DEFAULT_PAGE)
    headers = {"etag": answer.etag, "cache-control": REVALIDATE}
    if matches(request.headers.get("if-none-match"), answer.etag):
        return Answer(None, 304, headers)
    return Answer(answer.body, 200, headers, JSON)


async def _read_asked(services: Services, request: Request) -> PageAnswer:
    """The page that a query asks for: of a board, of a group of it, or of its past."""
    board, key, window, first_day = _parse_page(request)
    group, as_of = parse_group(request), parse_as_of(request)
    if as_of is not None:
        limit, offset, after = key
        others = {"window": window != ALL, "group": group is not None, "cursor": after is not None}
        if any(others.values()):
            raise Invalid("asOf", f"does not go together with {', '.join(name for name in others if others[name])}")
        return await services.pages.read_past(board, as_of, offset=offset, limit=limit)
    if group is not None:
        return await services.pages.read_group(board, group, key, window, first_day)
    return await services.pages.read_leaderboard(board, key, window, first_day)


def _parse_page(request: Request) -> tuple[str, Key, str, str | None]:
    board, window, first_day = parse_view(request)
    limit = parse_integer(request, "limit", DEFAULT_PAGE[0], low=1, high=PAGE_SIZE_MAX)
    offset = parse_integer(request, "offset", 0, low=0, high=SCORE_MAX)
    cursor = parse_text(request, "cursor")
    if cursor is not None and offset:
        raise Invalid("cursor", "does not go together with offset")
    return board, (limit, offset, decode_cursor(cursor) if cursor is not None else None), window, first_day


def parse_view(request: Request) -> tuple[str, str, str | None]:
    """The board, window and first day of a period of it that a query asks for."""
    window = parse_window(request)
    return parse_board(request), window, parse_period(request, window)


def parse_group(request: Request) -> str | None:
    """The group that a query asks to rank within, or None.

    :raises Invalid: if it can't be a group's id.
    """
    group = parse_text(request, "group")
    return check_name("group", group) if group is not None else None


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether an If-None-Match header names the tag; weak comparison, as RFC 9110 section 13.1.2 has it."""
    if if_none_match is None:
        return False
    tags = [tag.strip() for tag in if_none_match.split(",")]
    return "*" in tags or any(tag.removeprefix("W/") == etag for tag in tags)


async def read_around(services: Services, request: Request, user_id: str) -> HTTPResponse:
    """A user and the neighbours."""
    check_may_read(services, request)
    user = decode_user_id(user_id)
    board, window, first_day = parse_view(request)
    radius = parse_integer(request, "radius", RADIUS, low=0, high=RADIUS_MAX)
    group = parse_group(request)
    return json_response(await services.pages.read_around(board, user, radius, window, first_day, group))


async def read_users(services: Services, request: Request) -> HTTPResponse:
    """Some users, in the order asked."""
    check_may_read(services, request)
    board, window, first_day = parse_view(request)
    users, group = parse_user_ids(request), parse_group(request)
    return json_response(await services.pages.read_users(board, users, window, first_day, group))


async def read_stats(services: Services, request: Request, user_id: str) -> HTTPResponse:
    """A user's place on a board."""
    check_may_read(services, request)
    user = decode_user_id(user_id)
    board, window, first_day = parse_view(request)
    return json_response(await services.pages.read_stats(board, user, window, first_day, parse_group(request)))


async def read_history(services: Services, request: Request, user_id: str) -> HTTPResponse:
    """A user's events on a board, newest first."""
    caller = services.authenticator.verify(request.headers.get("authorization"))
    user = decode_user_id(user_id)
    caller.may_read_history_of(user)
    board = parse_board(request)
    limit = parse_integer(request, "limit", 50, low=1, high=HISTORY_SIZE_MAX)
    before = parse_integer(request, "before", SCORE_MAX, low=1, high=SCORE_MAX)
    events = await services.ledger.read_history(board, user, before=before, limit=limit + 1)
    if not events:
        await services.ledger.read_board(board)  # a board that does not exist is not an empty one
    page = events[:limit]
    following = page[-1]["seq"] if len(events) > limit else None
    return json_response({"events": [_render_event(event) for event in page], "next": following})


def _render_event(event: Mapping[str, Any]) -> dict[str, object]:
    shown = {
        "seq": event["seq"],
        "actionId": event["action_id"],
        "points": event["points"],
        "scoreAfter": event["score_after"],
        "at": format_time(event["at"]),
    }
    return shown if event["revokes"] is None else shown | {"revokes": event["revokes"]}
