"""Boards and their actions. Reading is public, changing needs the scope ``admin``."""

import re
from datetime import datetime
from functools import cache
from zoneinfo import available_timezones

from sanic.request import Request
from sanic.response import HTTPResponse

from scoreboard.errors import Invalid, NotFound
from scoreboard.http.bodies import Bounds, action_decoder, board_decoder, revoke_decoder
from scoreboard.http.parse import (
    check_is_admin,
    check_may_read,
    check_name,
    decode_body,
    decode_name,
    parse_after,
    parse_day,
    parse_integer,
    parse_window,
)
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
)


async def list_boards(services: Services, request: Request) -> HTTPResponse:
    """Boards in the order of their ids; ``next`` is the ``after=`` of the next page."""
    check_may_read(services, request)
    limit = parse_integer(request, "limit", 100, low=1, high=BOARDS_LISTED_MAX)
    after = parse_after(request, check_name)
    boards = await services.ledger.list_boards(after=after, limit=limit + 1)
    page = boards[:limit]
    following = page[-1].board_id if len(boards) > limit else None
    return json_response({"boards": [render_board(board) for board in page], "next": following})


async def read_board(services: Services, request: Request, board: str) -> HTTPResponse:
    """One board's settings and position."""
    check_may_read(services, request)
    return json_response(render_board(await services.ledger.read_board(decode_name("board", board))))


async def put_board(services: Services, request: Request, board: str) -> HTTPResponse:
    """Create or change a board."""
    check_is_admin(services, request)
    board_id = decode_name("board", board)
    body = decode_body(request, board_decoder)
    if body.timezone not in timezones():
        raise Invalid("timezone", f"{body.timezone!r} is not a name of the IANA time zone database")
    if not body.title.isprintable():
        raise Invalid("title", "has unprintable characters")
    if len(set(body.windows)) < len(body.windows) or ALL not in body.windows:
        raise Invalid("windows", f"{list(body.windows)} is not 'all' and any of day, week and month, each once")
    if body.floor is not None and body.operator != "sum":
        raise Invalid("floor", f"{body.floor} has no meaning with operator {body.operator!r}")
    windows = tuple(window for window in WINDOWS if window in body.windows)
    settings = (body.title, windows, body.ties, body.timezone, datetime.min, body.operator, body.floor)
    changed, created = await services.administration.put_board(Board(board_id, "", 0, 0, *settings))
    return json_response(render_board(changed), 201 if created else 200)


async def list_periods(services: Services, request: Request, board: str) -> HTTPResponse:
    """The periods of a window in which something happened, newest first; ``next`` is the next page's ``before=``."""
    check_may_read(services, request)
    board_id = decode_name("board", board)
    window = parse_window(request)
    if window == ALL:
        raise Invalid("window", "is to be day, week or month: 'all' has no periods")
    limit = parse_integer(request, "limit", 50, low=1, high=PERIODS_LISTED_MAX)
    before = parse_day(request, "before") or "infinity"
    known = await services.ledger.read_board(board_id)
    if window not in known.windows:
        raise Invalid("window", f"{window!r} is not a window of board {board_id!r}; it has: {', '.join(known.windows)}")
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
            "next": page[-1].first_day if len(periods) > limit else None,
        }
    )


async def revoke_event(services: Services, request: Request, board: str, seq: str) -> HTTPResponse:
    """Make a submission undone by another event."""
    check_is_admin(services, request)
    board_id = decode_name("board", board)
    if not re.fullmatch(r"[0-9]{1,16}", seq) or not 1 <= int(seq) <= SCORE_MAX:
        raise Invalid("seq", f"{seq[:80]!r} is not the number of an event")
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
    board_id = decode_name("board", board)
    await services.ledger.read_board(board_id)
    actions = await services.ledger.list_actions(board_id, limit=ACTIONS_PER_BOARD_MAX)
    return json_response({"board": board_id, "actions": [render_action(action) for action in actions]})


async def put_action(services: Services, request: Request, board: str, action: str) -> HTTPResponse:
    """Create or change an action."""
    check_is_admin(services, request)
    board_id, action_id = decode_name("board", board), decode_name("action", action)
    body = decode_body(request, action_decoder)
    await services.ledger.read_board(board_id)
    fixed, low, high = _points(body.points)
    bound = ACTIONS_PER_BOARD_MAX
    if await services.ledger.count_actions(board_id, bound=bound) >= bound:
        known = await services.ledger.list_actions(board_id, limit=bound)
        if action_id not in {each.action_id for each in known}:
            raise Invalid("action", f"board {board_id!r} has {bound} actions already")
    wanted = Action(action_id, fixed, body.cooldown_seconds, body.daily_cap, body.enabled, low, high)
    changed, created = await services.ledger.put_action(board_id, wanted)
    return json_response(render_action(changed), 201 if created else 200)


async def disable_action(services: Services, request: Request, board: str, action: str) -> HTTPResponse:
    """Disable an action; what was recorded with it stays."""
    check_is_admin(services, request)
    board_id, action_id = decode_name("board", board), decode_name("action", action)
    if await services.ledger.disable_action(board_id, action_id) is None:
        raise NotFound(f"there is no action {action_id!r} on a board {board_id!r}")
    return Answer(None, 204)


def _points(points: int | Bounds) -> tuple[int | None, int | None, int | None]:
    """Fixed points, or the least and the most of them."""
    if not isinstance(points, Bounds):
        return points, None, None
    if points.min > points.max:
        raise Invalid("points", f"the least, {points.min}, is more than the most, {points.max}")
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


@cache
def timezones() -> frozenset[str]:
    """The names of the IANA time zone database, read once."""
    return frozenset(available_timezones())
