"""POST /api/scores and /api/scores/batch: an action of a user, and up to a thousand of them."""

import msgspec
from sanic.request import Request
from sanic.response import HTTPResponse

from scoreboard import errors
from scoreboard.http.bodies import BatchBody, BatchedSubmission, batch_decoder, submission_decoder
from scoreboard.http.parse import check_key, check_name, check_user_id, decode_body, parse_idempotency_key
from scoreboard.http.protocol import read_body
from scoreboard.http.query import parse_query
from scoreboard.http.render import json_response
from scoreboard.http.services import Services
from scoreboard.model import SCORE_MAX, Submission, format_time
from scoreboard.shown import show
from scoreboard.writer import Receipt

BATCH_BYTES_MAX = 1024 * 1024
"""Of a batch's body; only those who may send one get to send so much."""


async def submit_score(services: Services, request: Request) -> HTTPResponse:
    """Record an action and answer with the score and rank it led to."""
    caller = services.authenticator.verify(request.headers.get("authorization"))
    parse_query(request)
    key = parse_idempotency_key(request)
    await read_body(request)
    body = decode_body(request, submission_decoder)
    board, action_id = check_name("board", body.board), check_name("actionId", body.action_id)
    user_id = caller.user_id if body.user_id is msgspec.UNSET else check_user_id("userId", body.user_id)
    points = None if body.points is msgspec.UNSET else body.points
    if points is not None and not caller.is_trusted:
        raise errors.Invalid(
            "points",
            f"{points} was sent, but only a token with the scope scores:any may send points; "
            f"the action {action_id!r} is worth what its board says",
        )
    caller.may_submit_for(user_id)
    caller.may_use_board(board)
    try:
        headers = await services.limiter.admit(user_id)
    except errors.RateLimited:
        services.metrics.rate_limited.inc()
        raise
    submission = Submission(board, user_id, action_id, key, points)
    receipt = await services.writer.submit_score(submission)
    check_accepted(submission, receipt)
    replayed = receipt.ruling.outcome == "replayed"
    if replayed:
        headers["idempotent-replayed"] = "true"
    return json_response(render_receipt(submission, receipt, replayed=replayed), headers=headers)


async def submit_batch(services: Services, request: Request) -> HTTPResponse:
    """Record actions in order, each by itself: one that can't be recorded does not touch the others."""
    caller = services.authenticator.verify(request.headers.get("authorization"))
    caller.may_submit_batches()
    parse_query(request)
    await read_body(request, BATCH_BYTES_MAX)
    body = decode_body(request, batch_decoder)
    board = check_name("board", body.board)
    _check_numbers(body)
    parsed = [_parse_batched(board, item, caller.user_id) for item in body.submissions]
    asked = [each for each in parsed if isinstance(each, Submission)]
    refusals = await services.limiter.admit_all([submission.user_id for submission in asked])
    services.metrics.rate_limited.inc(sum(refusal is not None for refusal in refusals))
    admitted = [submission for submission, refusal in zip(asked, refusals, strict=True) if refusal is None]
    receipts = iter(await services.writer.submit_scores(admitted))
    ruled = iter([refusal or next(receipts) for refusal in refusals])
    outcomes = [(each, next(ruled) if isinstance(each, Submission) else each) for each in parsed]
    _check_served([outcome for _, outcome in outcomes])
    return json_response({"results": [_render_result(*outcome) for outcome in outcomes]})


Outcome = Receipt | errors.ScoreboardError


def _check_numbers(body: BatchBody) -> None:
    """:raises Invalid: if points are beyond 64 bits: that is no number that JSON readers agree on, so no value."""
    for place, item in enumerate(body.submissions):
        if item.points is not None and not -(2**63) <= item.points < 2**64:
            raise errors.Invalid(f"submissions[{place}].points", f"{show(item.points)} has more than 64 bits")


def _parse_batched(board: str, item: BatchedSubmission, caller_id: str) -> Submission | errors.Invalid:
    try:
        user_id = caller_id if item.user_id is msgspec.UNSET else check_user_id("userId", item.user_id)
        action_id = check_name("actionId", item.action_id)
        key = None if item.idempotency_key is None else check_key("idempotencyKey", item.idempotency_key)
        if item.points is not None and abs(item.points) > SCORE_MAX:
            raise errors.Invalid("points", f"{item.points} is not from -{SCORE_MAX} to {SCORE_MAX}")
    except errors.Invalid as exc:
        return exc
    return Submission(board, user_id, action_id, key, item.points)


def _check_served(outcomes: list[Outcome]) -> None:
    """:raises ScoreboardError: if the board does not exist, or nothing of the batch could be served now."""
    for outcome in outcomes:
        if isinstance(outcome, errors.NotFound):
            raise outcome
    if all(isinstance(outcome, errors.Unavailable | errors.Overloaded) for outcome in outcomes):
        assert isinstance(outcomes[0], errors.ScoreboardError)
        raise outcomes[0]


def _render_result(submission: Submission | errors.Invalid, outcome: Outcome) -> dict[str, object]:
    try:
        if isinstance(outcome, errors.ScoreboardError):
            raise outcome
        assert isinstance(submission, Submission)
        check_accepted(submission, outcome)
    except errors.ScoreboardError as exc:
        return {"status": "rejected", "code": exc.code, "detail": exc.detail}
    replayed = outcome.ruling.outcome == "replayed"
    status = "replayed" if replayed else "recorded"
    return {"status": status, **render_receipt(submission, outcome, replayed=replayed)}


def check_accepted(submission: Submission, receipt: Receipt) -> None:
    """:raises ScoreboardError: the one that belongs to the ruling, if it was not to record or replay."""
    ruling = receipt.ruling
    user, action = repr(submission.user_id), repr(submission.action_id)
    match ruling.outcome:
        case "recorded" | "replayed":
            return
        case "idempotency_mismatch":
            raise errors.IdempotencyMismatch(
                f"user {user} has used the key {show(submission.key)} for another submission; send a new key"
            )
        case "unknown_action":
            raise errors.UnknownAction(f"the board {submission.board!r} has no action {action}")
        case "action_disabled":
            raise errors.ActionDisabled(f"the action {action} of the board {submission.board!r} is disabled")
        case "invalid":
            raise errors.Invalid(
                "actionId", f"{action} would take the score of user {user} out of -{SCORE_MAX} to {SCORE_MAX}"
            )
        case "points_needed":
            raise errors.Invalid("points", f"are missing: the action {action} has no fixed points, so send them")
        case "points_fixed":
            raise errors.Invalid(
                "points", f"{submission.points} can't be sent: the action {action} has fixed points, so leave them out"
            )
        case "points_out_of_bounds":
            bounds = f"from {ruling.points} to {ruling.score}"
            raise errors.Invalid("points", f"{submission.points} is not {bounds}, as the action {action} allows")
        case "cooldown":
            raise errors.Cooldown(
                f"user {user} may do {action} once in {ruling.window_s} s",
                retry_after_s=ruling.retry_after_s,
                quota=ruling.quota,
                window_s=ruling.window_s,
            )
        case "daily_cap":
            raise errors.DailyCap(
                f"user {user} has done {action} {ruling.quota} times today, which is the most that a day allows",
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
