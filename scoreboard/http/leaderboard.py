"""Reads of boards and users: pages, stats, history."""

from collections.abc import Mapping
from typing import Any

from sanic.request import Request
from sanic.response import HTTPResponse

from scoreboard.cursors import decode_cursor
from scoreboard.errors import Invalid, NotFound
from scoreboard.http.parse import DEFAULT_BOARD, check_may_read, check_name, decode_user_id, find_caller
from scoreboard.http.query import (
    Query,
    parse_as_of,
    parse_board,
    parse_integer,
    parse_query,
    parse_user_ids,
    parse_view,
)
from scoreboard.http.render import JSON, Answer, json_response
from scoreboard.http.services import Services
from scoreboard.model import ALL, HISTORY_SIZE_MAX, PAGE_SIZE_MAX, RADIUS, RADIUS_MAX, SCORE_MAX, format_time
from scoreboard.pages import Answer as PageAnswer
from scoreboard.pages import Key

VIEW = ("board", "window", "period", "group")
"""The parameters of every read of a window."""
DEFAULT_PAGE: Key = (10, 0, None)
# A page may be kept but must be checked against its tag before each use.
REVALIDATE = "no-cache"


async def read_leaderboard(services: Services, request: Request) -> HTTPResponse:
    """A page of a board."""
    check_may_read(services, request)
    # Most ask for nothing special; looking for each parameter took 2 % of an answer.
    if request.query_string:
        query = parse_query(request, *VIEW, "limit", "offset", "cursor", "asOf")
        answer = await _read_asked(services, query)
    else:
        answer = await services.pages.read_leaderboard(DEFAULT_BOARD, DEFAULT_PAGE)
    headers = {"etag": answer.etag, "cache-control": REVALIDATE}
    if matches(request.headers.get("if-none-match"), answer.etag):
        return Answer(None, 304, headers)
    return Answer(answer.body, 200, headers, JSON)


async def _read_asked(services: Services, query: Query) -> PageAnswer:
    """The page that a query asks for: of a board, of a group of it, or of its past."""
    board, window, first_day = parse_view(query)
    group, as_of, key = parse_group(query), parse_as_of(query), _parse_key(query)
    if as_of is not None:
        query.refuse_together("asOf", "group", "cursor")
        if window != ALL:
            raise Invalid("window", f"'{window}' does not go together with asOf: only window 'all' has a past")
        limit, offset, _ = key
        return await services.pages.read_past(board, as_of, offset=offset, limit=limit)
    if group is not None:
        return await services.pages.read_group(board, group, key, window, first_day)
    page = await services.pages.read_leaderboard(board, key, window, first_day)
    services.misses.know(board, window)
    return page


def _parse_key(query: Query) -> Key:
    query.refuse_together("offset", "cursor")
    limit = parse_integer(query, "limit", DEFAULT_PAGE[0], low=1, high=PAGE_SIZE_MAX)
    offset = parse_integer(query, "offset", 0, low=0, high=SCORE_MAX)
    cursor = query.text("cursor")
    return limit, offset, decode_cursor(cursor) if cursor is not None else None


def parse_group(query: Query) -> str | None:
    """The group that a query asks to rank within, or None.

    :raises Invalid: if it can't be a group's id.
    """
    group = query.text("group")
    return check_name("group", group) if group is not None else None


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether an If-None-Match header names the tag; weak comparison, as RFC 9110 section 13.1.2 has it."""
    if if_none_match is None or (etag not in if_none_match and "*" not in if_none_match):
        return False
    tags = [tag.strip() for tag in if_none_match.split(",")]
    return "*" in tags or any(tag.removeprefix("W/") == etag for tag in tags)


async def read_around(services: Services, request: Request, user_id: str) -> HTTPResponse:
    """A user and the neighbours."""
    check_may_read(services, request)
    query = parse_query(request, *VIEW, "radius")
    user = decode_user_id(user_id)
    board, window, first_day = parse_view(query)
    radius = parse_integer(query, "radius", RADIUS, low=0, high=RADIUS_MAX)
    group = parse_group(query)
    return json_response(await services.pages.read_around(board, user, radius, window, first_day, group))


async def read_users(services: Services, request: Request) -> HTTPResponse:
    """Some users, in the order asked."""
    check_may_read(services, request)
    query = parse_query(request, *VIEW, "ids", "id")
    board, window, first_day = parse_view(query)
    users, group = parse_user_ids(query), parse_group(query)
    return json_response(await services.pages.read_users(board, users, window, first_day, group))


async def read_stats(services: Services, request: Request, user_id: str) -> HTTPResponse:
    """A user's place on a board.

    Of a hidden user it is told only to that user and to those who may see more. Everybody else gets the answer for a
    user without a score, to the letter, whatever token was sent: nothing tells that somebody is hidden.
    """
    check_may_read(services, request)
    query = parse_query(request, *VIEW)
    user = decode_user_id(user_id)
    board, window, first_day = parse_view(query)
    group = parse_group(query)
    try:
        return json_response(await services.pages.read_stats(board, user, window, first_day, group))
    except NotFound:
        caller = find_caller(services, request)
        if caller is None or not caller.sees_hidden(user):
            raise
        caller.may_use_board(board)
        return json_response(await services.pages.read_hidden_stats(board, user, window, first_day, group))


async def read_history(services: Services, request: Request, user_id: str) -> HTTPResponse:
    """A user's events on a board, newest first."""
    caller = services.authenticator.verify(request.headers.get("authorization"))
    query = parse_query(request, "board", "limit", "before")
    user = decode_user_id(user_id)
    board = parse_board(query)
    limit = parse_integer(query, "limit", 50, low=1, high=HISTORY_SIZE_MAX)
    before = parse_integer(query, "before", SCORE_MAX, low=1, high=SCORE_MAX)
    caller.may_read_history_of(user)
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
