"""POST /api/scores: one action of one user."""

import msgspec
from sanic.request import Request
from sanic.response import HTTPResponse

from scoreboard import errors
from scoreboard.http.bodies import submission_decoder
from scoreboard.http.parse import check_name, check_user_id, decode_body, parse_idempotency_key
from scoreboard.http.render import json_response
from scoreboard.http.services import Services
from scoreboard.model import SCORE_MAX, Submission, format_time
from scoreboard.writer import Receipt


async def submit_score(services: Services, request: Request) -> HTTPResponse:
    """Record an action and answer with the score and rank it led to."""
    caller = services.authenticator.verify(request.headers.get("authorization"))
    body = decode_body(request, submission_decoder)
    board, action_id = check_name("board", body.board), check_name("actionId", body.action_id)
    key = parse_idempotency_key(request)
    user_id = caller.user_id if body.user_id is msgspec.UNSET else check_user_id("userId", body.user_id)
    caller.may_submit_for(user_id)
    try:
        headers = await services.limiter.admit(user_id)
    except errors.RateLimited:
        services.metrics.rate_limited.inc()
        raise
    submission = Submission(board, user_id, action_id, key)
    receipt = await services.writer.submit_score(submission)
    check_accepted(submission, receipt)
    replayed = receipt.ruling.outcome == "replayed"
    if replayed:
        headers["idempotent-replayed"] = "true"
    return json_response(render_receipt(submission, receipt, replayed=replayed), headers=headers)


def check_accepted(submission: Submission, receipt: Receipt) -> None:
    """:raises ScoreboardError: the one that belongs to the ruling, if it was not to record or replay."""
    ruling = receipt.ruling
    user, action = repr(submission.user_id), repr(submission.action_id)
    match ruling.outcome:
        case "recorded" | "replayed":
            return
        case "idempotency_mismatch":
            raise errors.IdempotencyMismatch(
                f"the key {submission.key!r} of user {user} was used for another submission"
            )
        case "unknown_action":
            raise errors.UnknownAction(f"board {submission.board!r} has no action {action}")
        case "action_disabled":
            raise errors.ActionDisabled(f"action {action} of board {submission.board!r} is disabled")
        case "invalid":
            raise errors.Invalid("actionId", f"{action} would take the score of user {user} beyond ±{SCORE_MAX}")
        case "cooldown":
            raise errors.Cooldown(
                f"user {user} may do {action} every {ruling.window_s} s",
                retry_after_s=ruling.retry_after_s,
                quota=ruling.quota,
                window_s=ruling.window_s,
            )
        case "daily_cap":
            raise errors.DailyCap(
                f"user {user} may do {action} {ruling.quota} times a day",
                retry_after_s=ruling.retry_after_s,
                quota=ruling.quota,
                window_s=ruling.window_s,
            )


def render_receipt(submission: Submission, receipt: Receipt, *, replayed: bool) -> dict[str, object]:
    """The body that tells what was recorded."""
    ruling, change = receipt.ruling, receipt.change
    return {
        "board": submission.board,
        "userId": submission.user_id,
        "actionId": submission.action_id,
        "points": ruling.points,
        "newScore": ruling.score,
        "rank": change.rank if change else None,
        "previousRank": change.previous_rank if change else None,
        "seq": ruling.seq,
        "epoch": ruling.epoch,
        "at": format_time(ruling.at),
        "replayed": replayed,
    }
