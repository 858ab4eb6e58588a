"""The OpenAPI document: request bodies from the types that validate them, the rest written out here."""

from functools import cache
from typing import Any

import msgspec
import orjson

from scoreboard import __version__, errors
from scoreboard.http.bodies import (
    ActionBody,
    BatchBody,
    BoardBody,
    BoardPatch,
    GroupBody,
    RevokeBody,
    SubmissionBody,
    UserBody,
)
from scoreboard.model import (
    BOARDS_LISTED_MAX,
    GROUPS_PER_BOARD_MAX,
    HISTORY_SIZE_MAX,
    ID_CHARS_MAX,
    IDEMPOTENCY_KEY_CHARS_MAX,
    MEMBERS_LISTED_MAX,
    PAGE_SIZE_MAX,
    PERIODS_LISTED_MAX,
    RADIUS,
    RADIUS_MAX,
    SCORE_MAX,
    USERS_ASKED_MAX,
    WINDOWS,
)

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SCORE: Schema = {"type": "integer", "minimum": -SCORE_MAX, "maximum": SCORE_MAX}
RANK: Schema = {"type": "integer", "minimum": 1}
TIME: Schema = {"type": "string", "format": "date-time"}
DAY: Schema = {"type": "string", "format": "date"}
HEADERS = {
    "ETag": "Names this state of the page, for If-None-Match",
    "Idempotent-Replayed": "true when the key had been used before",
    "RateLimit": "What is left of the limit, and seconds until all is there again or one more is",
    "RateLimit-Policy": "The limit that refused",
    "Retry-After": "Seconds after which trying again makes sense",
    "WWW-Authenticate": "The challenge of RFC 6750",
    "X-Request-Id": "Yours, or a new one; the server's log has it",
}
PROBLEM_HEADERS = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After", "RateLimit", "RateLimit-Policy"),
    503: ("Retry-After",),
}
OTHER_PROBLEM: Schema = {
    "description": "method_not_allowed (with Allow) · request_timeout · too_large · bad_request · internal",
    "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
}
BODY_EXAMPLES = {
    "SubmissionBody": {"actionId": "win"},
    "BatchBody": {"submissions": [{"actionId": "win", "userId": "alice", "idempotencyKey": "game-17-round-3"}]},
    "BoardBody": {"title": "Quiz night"},
    "BoardPatch": {"title": "Quiz night, second round"},
    "ActionBody": {"points": 10},
    "UserBody": {"displayName": "Alice"},
    "RevokeBody": {"reason": "a bug in the game"},
    "GroupBody": {"members": ["alice", "bob"]},
}
IDS = (
    f"Up to {USERS_ASKED_MAX} different user ids with commas between. Each is percent-encoded before they are joined, "
    "and the whole once more, as every value of a query: a comma in an id arrives as %252C, a percent sign as %2525"
)
ID = f"A user id, encoded as any value; once for each of up to {USERS_ASKED_MAX}. Instead of ids"
CURSOR = (
    "The next of another page, as it came: good for the same board, window, period and group, until settings change"
)
LIST_CURSOR = "The next of another page of the same list, as it came"
AFTER = "The id after which the list goes on. Instead of cursor"
PUT_BOARD = (
    "Replaces all settings. What is not named gets its default, windows and ties too: a title alone takes the windows "
    "away. PATCH changes what is named and keeps the rest."
)
PATCH_BOARD = "A JSON merge patch: null gives a setting its default. What is not named stays, whoever else changes it."
AS_OF = "A seq or a time: the board as it stood then, paged by offset. Not with window, group or cursor"
ID_LIST: Schema = {
    "type": "array",
    "items": {"$ref": "#/components/schemas/UserId"},
    "minItems": 1,
    "maxItems": USERS_ASKED_MAX,
    "uniqueItems": True,
}
MOMENT: Schema = {"oneOf": [COUNT, TIME]}
NO_NAME: Schema = {"type": ["string", "null"]}


@cache
def document() -> bytes:
    """The encoded document."""
    return orjson.dumps(build())


def build() -> dict[str, Any]:
    """The document as a value."""
    _, bodies = msgspec.json.schema_components(
        (SubmissionBody, BatchBody, BoardBody, BoardPatch, ActionBody, UserBody, RevokeBody, GroupBody),
        ref_template="#/components/schemas/{name}",
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "scoreboard",
            "version": __version__,
            "description": "A real-time scoreboard. Scores are committed before they are acknowledged.",
        },
        "paths": _paths(),
        "components": {
            "schemas": {**bodies, **_schemas()},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "scoreboard_token"},
            },
        },
        "x-problem-codes": problem_codes(),
    }


def problem_codes() -> dict[str, Any]:
    """Every code a problem document can have, with its status and title."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    known = [kind for kind in kinds if issubclass(kind, errors.ScoreboardError) and "code" in vars(kind)]
    return {kind.code: {"status": kind.status, "title": kind.title} for kind in known}


def _paths() -> dict[str, Any]:
    board = _parameter("board", "query", {"$ref": "#/components/schemas/Name"}, "The board; global by default")
    window = _parameter("window", "query", {"enum": list(WINDOWS), "default": "all"}, "One of the board's windows")
    period = _parameter("period", "query", DAY, "First day of a period of the window; by default that of now")
    view = [board, window, period]
    within = _parameter("group", "query", {"$ref": "#/components/schemas/Name"}, "Ranks its members among themselves")
    limit = _parameter("limit", "query", _range(1, PAGE_SIZE_MAX, 10), "Entries on the page")
    user = _parameter("userId", "path", {"$ref": "#/components/schemas/UserId"}, "The user", "alice")
    in_path = _parameter("board", "path", {"$ref": "#/components/schemas/Name"}, "The board", "quiz")
    group = _parameter("group", "path", {"$ref": "#/components/schemas/Name"}, "The group", "friends")
    action = _parameter("action", "path", {"$ref": "#/components/schemas/Name"}, "The action", "win")
    key_schema: Schema = {**TEXT, "minLength": 1, "maxLength": IDEMPOTENCY_KEY_CHARS_MAX}
    key = _parameter("Idempotency-Key", "header", key_schema, "Names the submission", "game-17-round-3")
    if_none_match = _parameter("If-None-Match", "header", TEXT, "A tag that is already known")
    last_id = _parameter("Last-Event-ID", "header", TEXT, "Where to resume: epoch-seq")
    signed: list[dict[str, list[str]]] = [{"bearer": []}]
    public: list[dict[str, list[str]]] = [{}, *signed, {"cookie": []}]
    return {
        "/api/scores": {
            "post": _operation(
                "submitScore",
                "scores",
                "Record an action of a user",
                [key],
                {
                    "200": _json("Receipt", "Idempotent-Replayed", "RateLimit"),
                    **_problems(400, 401, 403, 404, 413, 415, 422, 429, 503),
                },
                body="SubmissionBody",
                security=signed,
            )
        },
        "/api/scores/batch": {
            "post": _operation(
                "submitBatch",
                "scores",
                "Record actions of users in order, each by itself (scope scores:any)",
                [],
                {"200": _json("BatchResults"), **_problems(400, 401, 403, 404, 413, 415, 422, 503)},
                body="BatchBody",
                security=signed,
            )
        },
        "/api/leaderboard": {
            "get": _operation(
                "readLeaderboard",
                "leaderboard",
                "A page of a board",
                [
                    *view,
                    limit,
                    _parameter("offset", "query", _range(0, SCORE_MAX, 0), "0-based place of the first entry"),
                    _parameter("cursor", "query", TEXT, CURSOR),
                    within,
                    _parameter("asOf", "query", MOMENT, AS_OF),
                    if_none_match,
                ],
                {"200": _json("Page", "ETag"), "304": {"description": "Not changed"}, **_problems(401, 404, 422, 503)},
                security=public,
            )
        },
        "/api/leaderboard/stream": {
            "get": _operation(
                "streamLeaderboard",
                "leaderboard",
                "Server-Sent Events: leaderboard, score-updated, user-updated, reset, heartbeat",
                [
                    board,
                    window,
                    _parameter("events", "query", TEXT, "Comma list of leaderboard, score-updated (with user-updated)"),
                    _parameter("lastEventId", "query", TEXT, "Like Last-Event-ID; the header wins"),
                    last_id,
                ],
                {
                    "200": {"description": "The stream", "content": {"text/event-stream": {"schema": TEXT}}},
                    **_problems(401, 404, 422, 503),
                },
                security=public,
            )
        },
        "/api/leaderboard/around/{userId}": {
            "get": _operation(
                "readAround",
                "leaderboard",
                "A user with neighbours above and below",
                [
                    user,
                    *view,
                    within,
                    _parameter(
                        "radius",
                        "query",
                        _range(0, RADIUS_MAX, RADIUS),
                        "Neighbours on each side; at an edge the other side gives more",
                    ),
                ],
                {"200": _json("Entries"), **_problems(401, 404, 422, 503)},
                security=public,
            )
        },
        "/api/leaderboard/users": {
            "get": _operation(
                "readUsers",
                "leaderboard",
                "Some users, in the order asked",
                [
                    _parameter("ids", "query", {**TEXT, "minLength": 1}, IDS, "alice,bob"),
                    _parameter("id", "query", ID_LIST, ID),
                    *view,
                    within,
                ],
                {"200": _json("Places"), **_problems(401, 404, 422, 503)},
                security=public,
            )
        },
        "/api/users/{userId}/stats": {
            "get": _operation(
                "readStats",
                "users",
                "A user's place on a board; of a hidden user only to that user, boards:read and admin",
                [user, *view, within],
                {"200": _json("Stats"), **_problems(401, 404, 422, 503)},
                security=public,
            )
        },
        "/api/users/{userId}/history": {
            "get": _operation(
                "readHistory",
                "users",
                "A user's events, newest first",
                [
                    user,
                    board,
                    _parameter("limit", "query", _range(1, HISTORY_SIZE_MAX, 50), "Events on the page"),
                    _parameter("before", "query", _range(1, SCORE_MAX, None), "The next of another page"),
                ],
                {"200": _json("History"), **_problems(401, 403, 404, 422, 503)},
                security=signed,
            )
        },
        "/api/users/{userId}": {
            "put": _operation(
                "putUser",
                "users",
                "Give a user a display name (scope admin)",
                [user],
                {"200": _json("User"), **_problems(400, 401, 403, 413, 415, 422, 503)},
                body="UserBody",
                security=signed,
            ),
            "delete": _operation(
                "eraseUser",
                "users",
                "Forget a user's id everywhere; the sums of the boards stay, and so does being hidden "
                "(the user itself once in 24 hours, or scope admin)",
                [user],
                {
                    "204": {"description": "Erased"},
                    **_problems(400, 401, 403, 404, 413, 415, 422, 503),
                    **_problem(429, "rate_limited"),
                },
                security=signed,
            ),
        },
        "/api/users/{userId}/hide": {
            "post": _operation(
                "hideUser",
                "users",
                "Keep a user out of every ranking, also one who is yet to come (scope admin)",
                [user],
                {"200": _json("User"), **_problems(400, 401, 403, 413, 415, 422, 503)},
                security=signed,
            )
        },
        "/api/users/{userId}/unhide": {
            "post": _operation(
                "unhideUser",
                "users",
                "Show a hidden user again (scope admin)",
                [user],
                {"200": _json("User"), **_problems(400, 401, 403, 404, 413, 415, 422, 503)},
                security=signed,
            )
        },
        "/api/boards": {
            "get": _operation(
                "listBoards",
                "boards",
                "All boards, in the order of their ids",
                [
                    _parameter("limit", "query", _range(1, BOARDS_LISTED_MAX, 100), "Boards on the page"),
                    _parameter("cursor", "query", TEXT, LIST_CURSOR),
                    _parameter("after", "query", TEXT, AFTER),
                ],
                {"200": _json("Boards"), **_problems(401, 422, 503)},
                security=public,
            )
        },
        "/api/boards/{board}": {
            "get": _operation(
                "readBoard",
                "boards",
                "A board's settings and position",
                [in_path],
                {"200": _json("Board"), **_problems(401, 404, 422, 503)},
                security=public,
            ),
            "put": _operation(
                "putBoard",
                "boards",
                "Create a board, or replace all its settings (scope admin)",
                [in_path],
                {"200": _json("Board"), "201": _json("Board"), **_problems(400, 401, 403, 409, 413, 415, 422, 503)},
                body="BoardBody",
                security=signed,
                description=PUT_BOARD,
            ),
            "patch": _operation(
                "patchBoard",
                "boards",
                "Change some of a board's settings (scope admin)",
                [in_path],
                {"200": _json("Board"), **_problems(400, 401, 403, 404, 409, 413, 415, 422, 503)},
                body="BoardPatch",
                security=signed,
                description=PATCH_BOARD,
            ),
        },
        "/api/boards/{board}/periods": {
            "get": _operation(
                "listPeriods",
                "boards",
                "The periods of a window in which something happened, newest first",
                [
                    in_path,
                    _parameter("window", "query", {"enum": list(WINDOWS[1:])}, "One of the board's windows", "week")
                    | {"required": True},
                    _parameter("limit", "query", _range(1, PERIODS_LISTED_MAX, 50), "Periods on the page"),
                    _parameter("cursor", "query", TEXT, LIST_CURSOR),
                    _parameter("before", "query", DAY, "The day before which the list goes on. Instead of cursor"),
                ],
                {"200": _json("Periods"), **_problems(401, 404, 422, 503)},
                security=public,
            )
        },
        "/api/boards/{board}/events/{seq}/revoke": {
            "post": _operation(
                "revokeEvent",
                "boards",
                "Undo a submission by another event (scope admin)",
                [in_path, _parameter("seq", "path", _range(1, SCORE_MAX, None), "The event", "4711")],
                {"200": _json("Revocation"), **_problems(400, 401, 403, 404, 413, 415, 422, 503)},
                body="RevokeBody",
                security=signed,
            )
        },
        "/api/boards/{board}/users/{userId}/hide": {
            "post": _operation(
                "hideUserOnBoard",
                "boards",
                "Keep a user out of the ranking of one board, also one who is yet to come (scope admin)",
                [in_path, user],
                {"200": _json("UserOnBoard"), **_problems(400, 401, 403, 404, 413, 415, 422, 503)},
                security=signed,
            )
        },
        "/api/boards/{board}/users/{userId}/unhide": {
            "post": _operation(
                "unhideUserOnBoard",
                "boards",
                "End that a user is hidden on one board; who is hidden everywhere stays so (scope admin)",
                [in_path, user],
                {"200": _json("UserOnBoard"), **_problems(400, 401, 403, 404, 413, 415, 422, 503)},
                security=signed,
            )
        },
        "/api/boards/{board}/actions": {
            "get": _operation(
                "listActions",
                "boards",
                "A board's actions, disabled ones too",
                [in_path],
                {"200": _json("Actions"), **_problems(401, 404, 422, 503)},
                security=public,
            )
        },
        "/api/boards/{board}/actions/{action}": {
            "put": _operation(
                "putAction",
                "boards",
                "Create or change an action (scope admin)",
                [in_path, action],
                {"200": _json("Action"), "201": _json("Action"), **_problems(400, 401, 403, 404, 413, 415, 422, 503)},
                body="ActionBody",
                security=signed,
            ),
            "delete": _operation(
                "disableAction",
                "boards",
                "Disable an action (scope admin)",
                [in_path, action],
                {"204": {"description": "Disabled"}, **_problems(400, 401, 403, 404, 413, 415, 422, 503)},
                security=signed,
            ),
        },
        "/api/boards/{board}/groups": {
            "get": _operation(
                "listGroups",
                "groups",
                "A board's groups, in the order of their ids",
                [
                    in_path,
                    _parameter("limit", "query", _range(1, GROUPS_PER_BOARD_MAX, 100), "Groups on the page"),
                    _parameter("cursor", "query", TEXT, LIST_CURSOR),
                    _parameter("after", "query", TEXT, AFTER),
                ],
                {"200": _json("Groups"), **_problems(401, 404, 422, 503)},
                security=public,
            )
        },
        "/api/boards/{board}/groups/{group}": {
            "get": _operation(
                "readGroup",
                "groups",
                "A group's members, in the order of their ids; hidden ones for scope admin only",
                [
                    in_path,
                    group,
                    _parameter("limit", "query", _range(1, MEMBERS_LISTED_MAX, 100), "Members on the page"),
                    _parameter("cursor", "query", TEXT, LIST_CURSOR),
                    _parameter("after", "query", TEXT, AFTER),
                ],
                {"200": _json("Members"), **_problems(401, 404, 422, 503)},
                security=public,
            ),
            "put": _operation(
                "putGroup",
                "groups",
                "Make a group have these members and no others (scope admin)",
                [in_path, group],
                {"200": _json("Group"), "201": _json("Group"), **_problems(400, 401, 403, 404, 413, 415, 422, 503)},
                body="GroupBody",
                security=signed,
            ),
            "delete": _operation(
                "deleteGroup",
                "groups",
                "Delete a group; its members' scores stay (scope admin)",
                [in_path, group],
                {"204": {"description": "Deleted"}, **_problems(400, 401, 403, 404, 413, 415, 422, 503)},
                security=signed,
            ),
        },
        "/healthz": {"get": _operation("checkHealth", "operations", "The process lives", [], {"200": _json("Health")})},
        "/readyz": {
            "get": _operation(
                "checkReadiness",
                "operations",
                "The server can serve",
                [],
                {"200": _json("Readiness"), "503": _json("Readiness")},
            )
        },
        "/metrics": {
            "get": _operation(
                "readMetrics",
                "operations",
                "Prometheus metrics, on the main port for loopback peers without forwarding headers only",
                [],
                {"200": {"description": "Metrics", "content": {"text/plain": {"schema": TEXT}}}, **_problems(404)},
            )
        },
    }


def _schemas() -> dict[str, Schema]:
    place = _object(
        rank={"type": ["integer", "null"]},
        userId=TEXT,
        displayName=NO_NAME,
        score={"type": ["integer", "null"], "description": "null, like the rank, for a user without a score"},
    )
    entry = _object(rank=RANK, userId=TEXT, displayName=NO_NAME, score=SCORE)
    event = _object(seq=RANK, actionId=NO_NAME, points=SCORE, scoreAfter=SCORE, at=TIME)
    event["properties"]["revokes"] = {**RANK, "description": "The event that this one made undone"}
    past_period = _object(period=DAY, startsAt=TIME, endsAt=TIME, total=COUNT)
    board = _object(
        board=TEXT,
        title=TEXT,
        windows={"type": "array", "items": TEXT},
        ties=TEXT,
        timezone=TEXT,
        operator=TEXT,
        floor={"type": ["integer", "null"]},
        filling={"type": "array", "items": TEXT, "description": "Windows that are being filled from the history"},
        total=COUNT,
        seq=COUNT,
        epoch=TEXT,
        createdAt=TIME,
    )
    action = _object(
        actionId=TEXT,
        points={"oneOf": [SCORE, _object(min=SCORE, max=SCORE)]},
        cooldownSeconds=COUNT,
        dailyCap={"type": ["integer", "null"]},
        enabled={"type": "boolean"},
    )
    receipt = _object(
        board=TEXT,
        userId=TEXT,
        actionId=TEXT,
        points=SCORE,
        newScore=SCORE,
        rank={"type": ["integer", "null"], "description": "Right after this event; of a replay, now"},
        previousRank={
            "type": ["integer", "null"],
            "description": "null for a first score; of a replay, the rank of now. Both are null without a ranking",
        },
        seq=RANK,
        epoch=TEXT,
        at=TIME,
        replayed={"type": "boolean"},
    )
    group = _object(group=TEXT, members={**COUNT, "description": "Their number"})
    page = _with_period(_object(**_entries(entry), next=NO_NAME))
    page = _with_group(page)
    page["properties"]["asOf"] = {
        **MOMENT,
        "description": "Where it was asked for the past, of which seq is the position",
    }
    accepted = _object(status={"enum": ["recorded", "replayed"]}, **receipt["properties"])
    rejected = _object(status={"const": "rejected"}, code={"enum": sorted(problem_codes())}, detail=TEXT)
    return {
        "Name": {
            **TEXT,
            "minLength": 1,
            "maxLength": ID_CHARS_MAX,
            "pattern": "^[A-Za-z0-9._-]+$",
            "not": {"enum": [".", ".."]},
        },
        "UserId": {
            **TEXT,
            "minLength": 1,
            "maxLength": ID_CHARS_MAX,
            "description": "Brought to Unicode NFC, in which its length counts. Something can be seen in it, nothing "
            "in it turns the direction of writing, and of invisible characters only joiners between letters or emoji "
            "are taken. Not . or ..",
        },
        "Receipt": receipt,
        "BatchResults": _object(results={"type": "array", "items": {"oneOf": [accepted, rejected]}}),
        "Page": page,
        "Entries": _with_group(_with_period(_object(**_entries(entry)))),
        "Places": _with_group(_with_period(_object(**_entries(place)))),
        "Stats": _with_group(
            _with_period(
                _with_hidden(
                    _object(
                        userId=TEXT,
                        displayName=NO_NAME,
                        board=TEXT,
                        window=TEXT,
                        score=SCORE,
                        rank={"type": ["integer", "null"], "minimum": 1, "description": "null for a hidden user"},
                        total=COUNT,
                        percentile={"type": ["number", "null"], "minimum": 0, "maximum": 100},
                        submissions=COUNT,
                        firstAt=TIME,
                        lastAt=TIME,
                        seq=COUNT,
                    )
                )
            )
        ),
        "User": _object(userId=TEXT, displayName=NO_NAME, hidden={"type": "boolean"}),
        "UserOnBoard": _object(
            board=TEXT,
            userId=TEXT,
            displayName=NO_NAME,
            hidden={"type": "boolean", "description": "On this board: hidden on it or everywhere"},
        ),
        "Periods": _object(
            board=TEXT,
            window=TEXT,
            periods={"type": "array", "items": past_period},
            next={**NO_NAME, "description": "The cursor= of the next page"},
        ),
        "Revocation": _object(
            board=TEXT,
            userId=TEXT,
            actionId=NO_NAME,
            points={**SCORE, "description": "What the total changed by"},
            newScore=SCORE,
            revokes=RANK,
            reason=TEXT,
            seq=RANK,
            epoch=TEXT,
            at=TIME,
            replayed={"type": "boolean", "description": "It had been undone before"},
        ),
        "History": _object(events={"type": "array", "items": event}, next={"type": ["integer", "null"]}),
        "Board": board,
        "Boards": _object(boards={"type": "array", "items": board}, next=NO_NAME),
        "Action": action,
        "Actions": _object(board=TEXT, actions={"type": "array", "items": action}),
        "Group": _object(board=TEXT, **group["properties"]),
        "Groups": _object(board=TEXT, groups={"type": "array", "items": group}, next=NO_NAME),
        "Members": _object(
            board=TEXT,
            group=TEXT,
            members={"type": "array", "items": TEXT},
            total={**COUNT, "description": "Members in all; without hidden ones where these are not listed"},
            next=NO_NAME,
        ),
        "Health": _object(status=TEXT),
        "Readiness": _object(status=TEXT, dependencies=_object(postgresql=TEXT, redis=TEXT)),
        "Problem": {
            "type": "object",
            "required": ["type", "title", "status", "detail", "code"],
            "properties": {
                "type": TEXT,
                "title": TEXT,
                "status": COUNT,
                "detail": TEXT,
                "code": {"enum": sorted(problem_codes())},
                "errors": {"type": "array", "items": _object(field=TEXT, message=TEXT)},
            },
            "description": "RFC 9457; code invalid adds errors.",
        },
    }


def _entries(item: Schema) -> dict[str, Schema]:
    return {
        "board": TEXT,
        "window": TEXT,
        "leaderboard": {"type": "array", "items": item},
        "total": COUNT,
        "seq": COUNT,
        "epoch": TEXT,
    }


def _with_group(schema: dict[str, Any]) -> dict[str, Any]:
    schema["properties"]["group"] = {**TEXT, "description": "Where it was asked for one"}
    return schema


def _with_period(schema: Schema) -> Schema:
    schema["properties"]["period"] = {**DAY, "description": "Of a window other than all"}
    return schema


def _with_hidden(schema: Schema) -> Schema:
    schema["properties"]["hidden"] = {"const": True, "description": "Only where the user is kept out of the ranking"}
    return schema


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties}


def _range(low: int, high: int, default: int | None) -> Schema:
    schema: Schema = {"type": "integer", "minimum": low, "maximum": high}
    return schema if default is None else {**schema, "default": default}


def _parameter(name: str, place: str, schema: Schema, description: str, example: str | None = None) -> Schema:
    parameter = {"name": name, "in": place, "required": place == "path", "schema": schema, "description": description}
    return parameter if example is None else {**parameter, "example": example}


def _json(schema: str, *headers: str) -> Schema:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": schema, "content": content, "headers": _headers(*headers)}


def _headers(*names: str) -> Schema:
    return {name: {"description": HEADERS[name], "schema": TEXT} for name in (*names, "X-Request-Id")}


def _problems(*statuses: int) -> dict[str, Schema]:
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    codes: dict[int, list[str]] = {}
    for code, kind in problem_codes().items():
        codes.setdefault(kind["status"], []).append(code)
    if 429 not in statuses:  # these are rulings on submissions
        codes[422], codes[429] = ["invalid"], ["rate_limited"]
        if 401 in statuses:
            statuses = tuple(sorted((*statuses, 429)))  # an address that fails or misses too often
    return {
        str(status): {
            "description": " · ".join(codes[status]),
            "content": content,
            "headers": _headers(*PROBLEM_HEADERS.get(status, ())),
        }
        for status in statuses
    }


def _problem(status: int, code: str) -> dict[str, Schema]:
    """A status that has one code here, of several elsewhere."""
    return {str(status): {**_problems(status)[str(status)], "description": code}}


def _operation(
    name: str,
    tag: str,
    summary: str,
    parameters: list[Schema],
    responses: dict[str, Schema],
    *,
    body: str | None = None,
    security: list[dict[str, list[str]]] | None = None,
    description: str | None = None,
) -> Schema:
    operation: Schema = {
        "operationId": name,
        "tags": [tag],
        "summary": summary,
        "parameters": parameters,
        "responses": {**responses, "default": OTHER_PROBLEM},
    }
    if body:
        content = {
            "application/json": {"schema": {"$ref": f"#/components/schemas/{body}"}, "example": BODY_EXAMPLES[body]}
        }
        operation["requestBody"] = {"required": True, "content": content}
        if body == "BoardPatch":
            content["application/merge-patch+json"] = content["application/json"]
    if description:
        operation["description"] = description
    if security:
        operation["security"] = security
    return operation
