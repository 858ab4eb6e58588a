"""Boards and their actions. Reading is public, changing needs the scope ``admin``."""

import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sanic.request import Request
from sanic.response import HTTPResponse

from scoreboard.auth import DEMO_BOARD
from scoreboard.cursors import encode_list_cursor
from scoreboard.errors import Invalid, NotFound
from scoreboard.http.bodies import BoardBody, Bounds, action_decoder, board_decoder, patch_decoder, revoke_decoder
from scoreboard.http.parse import PATCH_TYPES, check_is_admin, check_may_read, check_name, decode_body, decode_name
from scoreboard.http.protocol import read_body
from scoreboard.http.query import check_day, parse_after, parse_integer, parse_query, parse_window
from scoreboard.http.render import Answer, json_response
from scoreboard.http.services import Services
from scoreboard.model import (
    ACTIONS_PER_BOARD_MAX,
    ALL,
    BOARDS_LISTED_MAX,
    PERIODS_LISTED_MAX,
    REASON_CHARS_MAX,
    SCORE_MAX,
    WINDOWS,
    Action,
    Board,
    format_time,
    validate_text,
    validate_title,
)
from scoreboard.shown import show

BOARDS = ("boards",)
"""What a cursor of the list of boards is bound to."""


async def list_boards(services: Services, request: Request) -> HTTPResponse:
    """Boards in the order of their ids; ``next`` is the ``cursor=`` of the next page.

    A token of the demo is told of the demo's board alone where a token is needed.
    """
    caller = check_may_read(services, request)
    query = parse_query(request, "limit", "cursor", "after")
    limit = parse_integer(query, "limit", 100, low=1, high=BOARDS_LISTED_MAX)
    after = parse_after(query, BOARDS, check_name)
    if caller is not None and caller.is_demo:
        boards = [await services.ledger.read_board(DEMO_BOARD)] if after < DEMO_BOARD else []
    else:
        boards = await services.ledger.list_boards(after=after, limit=limit + 1)
    page = boards[:limit]
    following = encode_list_cursor(BOARDS, page[-1].board_id) if len(boards) > limit else None
    return json_response({"boards": [render_board(board) for board in page], "next": following})


async def read_board(services: Services, request: Request, board: str) -> HTTPResponse:
    """One board's settings and position."""
    check_may_read(services, request)
    parse_query(request)
    found = await services.ledger.read_board(decode_name("board", board))
    services.misses.know(found.board_id, ALL)
    return json_response(render_board(found))


async def put_board(services: Services, request: Request, board: str) -> HTTPResponse:
    """Create a board, or replace all its settings: those that are not named get their defaults."""
    check_is_admin(services, request)
    parse_query(request)
    board_id = decode_name("board", board)
    await read_body(request)
    body = decode_body(request, board_decoder)
    named = await _check_settings(services, {name: getattr(body, name) for name in BoardBody.__struct_fields__})
    wanted = Board(board_id, "", 0, 0, created_at=datetime.min, **named)
    changed, created = await services.administration.put_board(wanted)
    return json_response(render_board(changed), 201 if created else 200)


async def patch_board(services: Services, request: Request, board: str) -> HTTPResponse:
    """Change those settings of a board that are named. Source: RFC 7396 (JSON merge patch)."""
    check_is_admin(services, request)
    parse_query(request)
    board_id = decode_name("board", board)
    await read_body(request)
    named = decode_body(request, patch_decoder, PATCH_TYPES).named
    if not named:
        raise Invalid("body", f"names no setting to change; name any of {', '.join(BoardBody.__struct_fields__)}")
    changes = await _check_settings(services, named)
    return json_response(render_board(await services.administration.patch_board(board_id, changes)))


async def _check_settings(services: Services, named: dict[str, Any]) -> dict[str, Any]:
    """Settings of a board, as far as they are named, as the board will have them.

    :raises Invalid: if one can't be.
    """
    checked = dict(named)
    if "title" in named:
        checked["title"] = _check_title(named["title"])
    if "windows" in named:
        checked["windows"] = _check_windows(named["windows"])
    if "timezone" in named:
        wrong = await services.administration.check_timezone(named["timezone"])
        if wrong:
            raise Invalid("timezone", wrong)
    if named.get("floor") is not None and named.get("operator", "sum") != "sum":
        raise Invalid(
            "floor", f"{named['floor']} goes with the operator 'sum' only, not with {named['operator']!r}; leave it out"
        )
    return checked


def _check_title(title: str) -> str:
    title = unicodedata.normalize("NFC", title)
    wrong = validate_title(title)
    if wrong:
        raise Invalid("title", wrong)
    return title


def _check_windows(windows: Sequence[str]) -> tuple[str, ...]:
    if len(set(windows)) < len(windows):
        raise Invalid("windows", f"{show(list(windows))} names a window twice; name each once")
    if ALL not in windows:
        raise Invalid("windows", f"{show(list(windows))} lacks 'all', which every board has")
    return tuple(window for window in WINDOWS if window in windows)


async def list_periods(services: Services, request: Request, board: str) -> HTTPResponse:
    """The periods of a window in which something happened, newest first; ``next`` is the next page's ``cursor=``."""
    check_may_read(services, request)
    query = parse_query(request, "window", "limit", "cursor", "before")
    board_id = decode_name("board", board)
    window = parse_window(query)
    if window == ALL:
        raise Invalid("window", "must be day, week or month: 'all' has no periods")
    limit = parse_integer(query, "limit", 50, low=1, high=PERIODS_LISTED_MAX)
    named = ("periods", board_id, window)
    before = parse_after(query, named, check_day, "before") or "infinity"
    known = await services.ledger.read_board(board_id)
    if window not in known.windows:
        raise Invalid("window", f"the board {board_id!r} has no window {window!r}; it has {', '.join(known.windows)}")
    periods = await services.ledger.list_periods(board_id, window, before=before, limit=limit + 1)
    page = periods[:limit]
    return json_response(
        {
            "board": board_id,
            "window": window,
            "periods": [
                {
                    "period": period.first_day,
                    "startsAt": format_time(period.starts_at),
                    "endsAt": format_time(period.ends_at),
                    "total": period.total,
                }
                for period in page
            ],
            "next": encode_list_cursor(named, page[-1].first_day) if len(periods) > limit else None,
        }
    )


async def revoke_event(services: Services, request: Request, board: str, seq: str) -> HTTPResponse:
    """Undo a submission by another event."""
    check_is_admin(services, request)
    parse_query(request)
    board_id = decode_name("board", board)
    if not re.fullmatch(r"[0-9]{1,16}", seq) or not 1 <= int(seq) <= SCORE_MAX:
        raise Invalid("seq", f"{show(seq)} is not the number of an event, a whole number from 1")
    await read_body(request)
    body = decode_body(request, revoke_decoder)
    wrong = validate_text(body.reason, REASON_CHARS_MAX)
    if wrong:
        raise Invalid("reason", wrong)
    revocation = await services.administration.revoke_event(board_id, int(seq), body.reason)
    event = revocation.event
    return json_response(
        {
            "board": board_id,
            "userId": event.user_id,
            "actionId": event.action_id,
            "points": event.points,
            "newScore": event.score,
            "revokes": int(seq),
            "reason": revocation.reason,
            "seq": event.seq,
            "epoch": revocation.epoch,
            "at": format_time(event.at),
            "replayed": not revocation.is_new,
        }
    )


async def list_actions(services: Services, request: Request, board: str) -> HTTPResponse:
    """A board's actions, disabled ones too."""
    check_may_read(services, request)
    parse_query(request)
    board_id = decode_name("board", board)
    await services.ledger.read_board(board_id)
    actions = await services.ledger.list_actions(board_id, limit=ACTIONS_PER_BOARD_MAX)
    return json_response({"board": board_id, "actions": [render_action(action) for action in actions]})


async def put_action(services: Services, request: Request, board: str, action: str) -> HTTPResponse:
    """Create or change an action."""
    check_is_admin(services, request)
    parse_query(request)
    board_id, action_id = decode_name("board", board), decode_name("action", action)
    await read_body(request)
    body = decode_body(request, action_decoder)
    fixed, low, high = _points(body.points)
    await services.ledger.read_board(board_id)
    bound = ACTIONS_PER_BOARD_MAX
    if await services.ledger.count_actions(board_id, bound=bound) >= bound:
        known = await services.ledger.list_actions(board_id, limit=bound)
        if action_id not in {each.action_id for each in known}:
            raise Invalid("action", f"{action_id!r} would be one too many: the board {board_id!r} has {bound} actions")
    wanted = Action(action_id, fixed, body.cooldown_seconds, body.daily_cap, body.enabled, low, high)
    changed, created = await services.ledger.put_action(board_id, wanted)
    return json_response(render_action(changed), 201 if created else 200)


async def disable_action(services: Services, request: Request, board: str, action: str) -> HTTPResponse:
    """Disable an action; what was recorded with it stays."""
    check_is_admin(services, request)
    parse_query(request)
    board_id, action_id = decode_name("board", board), decode_name("action", action)
    if await services.ledger.disable_action(board_id, action_id) is None:
        raise NotFound(f"there is no action {action_id!r} on the board {board_id!r}, or no such board")
    return Answer(None, 204)


def _points(points: int | Bounds) -> tuple[int | None, int | None, int | None]:
    """Fixed points, or the least and the most of them."""
    if not isinstance(points, Bounds):
        return points, None, None
    if points.min > points.max:
        raise Invalid("points.min", f"{points.min} is more than points.max, {points.max}")
    return None, points.min, points.max


def render_board(board: Board) -> dict[str, object]:
    """A board as answers show it."""
    return {
        "board": board.board_id,
        "title": board.title,
        "windows": board.windows,
        "ties": board.ties,
        "timezone": board.timezone,
        "operator": board.operator,
        "floor": board.floor,
        "filling": board.filling,
        "total": board.players,
        "seq": board.seq,
        "epoch": board.epoch,
        "createdAt": format_time(board.created_at),
    }


def render_action(action: Action) -> dict[str, object]:
    """An action as answers show it."""
    return {
        "actionId": action.action_id,
        "points": action.points if action.points is not None else {"min": action.points_min, "max": action.points_max},
        "cooldownSeconds": action.cooldown_seconds,
        "dailyCap": action.daily_cap,
        "enabled": action.enabled,
    }
