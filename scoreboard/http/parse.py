"""What comes in: strict bodies, query parameters, path segments, headers. Everything bad is a ScoreboardError."""

import json
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import cache
from typing import TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
import orjson
from sanic.request import Request

from scoreboard.auth import Caller
from scoreboard.errors import Invalid, MalformedJson, Unauthenticated, UnsupportedMediaType
from scoreboard.http.bodies import ActionBody, BatchBody, BatchedSubmission, Bounds
from scoreboard.http.services import Services
from scoreboard.model import (
    ALL,
    ID_CHARS_MAX,
    IDEMPOTENCY_KEY_CHARS_MAX,
    SCORE_MAX,
    USERS_ASKED_MAX,
    WINDOWS,
    validate_key,
    validate_name,
    validate_user_id,
)
from scoreboard.names import nfc

DEFAULT_BOARD = "global"
COOKIE = "scoreboard_token"
SHOWN_CHARS_MAX = 120
"""Of a wrong value as much is shown."""

_JSON_TYPES = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "NoneType": "null",
}

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})", re.I)
_FIELD = re.compile(r" - at `\$\.?([^`\[.]*)[^`]*`$")
_TYPE = re.compile(r"`(\w+(?: \| \w+)*)`")
_NAMED = re.compile(r"field `([^`]*)`")

T = TypeVar("T", bound=msgspec.Struct)


def decode_body(request: Request, decoder: "msgspec.json.Decoder[T]") -> T:
    """The body as the decoder's type.

    :raises UnsupportedMediaType: if it is not announced as JSON.
    :raises MalformedJson: if it is not one strict JSON object.
    :raises Invalid: if fields are missing, unknown, or of the wrong type.
    """
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType(f"Content-Type is {content_type[:100]!r}")
    body = request.body
    try:
        value = decoder.decode(body)
        if b"\\" in body or _may_repeat_fields(body, value):
            json.loads(body, object_pairs_hook=_refuse_repeats)  # the decoder takes the last of repeated fields
        return value
    except msgspec.ValidationError as exc:
        members = _decode_object(body)  # a wrong type may have been noticed before the malformed end
        message = str(exc)
        found = _NAMED.search(message) or _FIELD.search(message)
        field = (found[1] if found else "") or "body"
        message = _TYPE.sub(lambda found: _in_words_of_json(found[1]), _FIELD.sub("", message))
        if field in members:
            message += f": {json.dumps(members[field])[:SHOWN_CHARS_MAX]}"
        raise Invalid(field, message) from exc
    except (ValueError, RecursionError) as exc:
        raise _malformed(body, exc) from exc


def _in_words_of_json(types: str) -> str:
    """Types as the decoder names them (``int | null``), for those who write JSON and not Python."""
    return " or ".join(_JSON_TYPES.get(name, name) for name in types.split(" | "))


def _may_repeat_fields(body: bytes, value: msgspec.Struct) -> bool:
    """Whether a field stands in the body more often than there are objects that have it."""
    if isinstance(value, ActionBody) and isinstance(value.points, Bounds) and _may_repeat_fields(body, value.points):
        return True
    members = value.submissions if isinstance(value, BatchBody) else ()
    return any(body.count(name) > 1 for name in _quoted_names(type(value))) or any(
        body.count(name) > len(members) for name in (_quoted_names(BatchedSubmission) if members else ())
    )


@cache
def _quoted_names(body_type: type) -> tuple[bytes, ...]:
    """The fields of a body as they stand in JSON. Counting them is a tenth of the work of parsing once more."""
    return tuple(f'"{field.encode_name}"'.encode() for field in msgspec.structs.fields(body_type))


def _refuse_repeats(pairs: list[tuple[str, object]]) -> None:
    """:raises ValueError: if an object has a field twice."""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"a field is repeated among {names}")


def _decode_object(body: bytes) -> dict[str, object]:
    """:raises MalformedJson: if the body is not one JSON object."""
    try:
        value = msgspec.json.decode(body)
    except (ValueError, RecursionError) as exc:
        raise _malformed(body, exc) from exc
    if not isinstance(value, dict):
        name = type(value).__name__
        raise MalformedJson(f"the body is a JSON {_JSON_TYPES.get(name, name)}, not an object")
    return value


def _malformed(body: bytes, exc: Exception) -> MalformedJson:
    reason = str(exc)
    if isinstance(exc, RecursionError):
        reason = "nested too deeply"
    elif isinstance(exc, msgspec.DecodeError | UnicodeDecodeError):
        try:
            orjson.loads(body)  # tells more of what is wrong, and where, in words of JSON
        except orjson.JSONDecodeError as told:
            reason = str(told)
    return MalformedJson(f"the body is not strict JSON: {_FIELD.sub('', reason)[:SHOWN_CHARS_MAX]}")


def parse_integer(request: Request, name: str, default: int, *, low: int, high: int) -> int:
    """A whole number from the query.

    :raises Invalid: if it is none, or out of bounds.
    """
    text = _single(request, name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,16}", text) or not low <= int(text) <= high:
        raise Invalid(name, f"{text[:80]!r} is not a whole number from {low} to {high}")
    return int(text)


def parse_board(request: Request) -> str:
    """The board named in the query, by default ``global``.

    :raises Invalid: if it can't be a board's id.
    """
    board = _single(request, "board")
    if board is None:
        return DEFAULT_BOARD
    return check_name("board", board)


def parse_window(request: Request) -> str:
    """The window named in the query, by default ``all``. Whether the board has it is for the stores to say.

    :raises Invalid: if there is no such window.
    """
    window = _single(request, "window")
    if window is None:
        return ALL
    if window not in WINDOWS:
        raise Invalid("window", f"{window[:80]!r} is not one of {', '.join(WINDOWS)}")
    return window


def parse_period(request: Request, window: str) -> str | None:
    """The first day of the period named in the query, or None for the current one.

    :raises Invalid: if it is no day, or none on which a period of the window begins.
    """
    day = parse_day(request, "period")
    if day is None:
        return None
    if window == ALL:
        raise Invalid("period", "window 'all' has no periods")
    first = date.fromisoformat(day)
    if (window == "week" and first.isoweekday() != 1) or (window == "month" and first.day != 1):
        raise Invalid("period", f"{day} is not the first day of a {window}")
    return day


def parse_day(request: Request, name: str) -> str | None:
    """A day from the query as YYYY-MM-DD, or None.

    :raises Invalid: if it is none.
    """
    text = _single(request, name)
    if text is None:
        return None
    try:
        if _DAY.fullmatch(text) is None:
            raise ValueError("another form")
        date.fromisoformat(text)
    except ValueError as exc:
        raise Invalid(name, f"{text[:80]!r} is not a day as YYYY-MM-DD") from exc
    return text


def parse_as_of(request: Request) -> int | datetime | None:
    """The seq or the time of the query's ``asOf``, or None.

    :raises Invalid: if it is neither.
    """
    text = _single(request, "asOf")
    if text is None:
        return None
    if re.fullmatch(r"[0-9]{1,16}", text) and int(text) <= SCORE_MAX:
        return int(text)
    try:
        # The plus of an offset is a space in a query, unless it was encoded; nothing else can have become one.
        text = text.replace(" ", "+")
        if _TIME.fullmatch(text) is None:
            raise ValueError("another form")
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise Invalid("asOf", f"{text[:80]!r} is not a seq, nor a time like 2026-11-23T10:00:00Z") from exc


def parse_text(request: Request, name: str) -> str | None:
    """A text from the query, or None.

    :raises Invalid: if it is given more than once.
    """
    return _single(request, name)


def parse_after(request: Request, check: Callable[[str, str], str]) -> str:
    """The id in the query after which a list goes on, or an empty text where it begins.

    :param check: for ids of that kind.
    :raises Invalid: if it can't be one.
    """
    after = _single(request, "after")
    return check("after", after) if after else ""


def parse_user_ids(request: Request) -> list[str]:
    """The user ids of the query's ``ids``, with commas between: clients encode those in percents or not, as they like.

    :raises Invalid: if it is missing, given more than once, has too many, or one that can't be a user's.
    """
    text = _single(request, "ids")
    if text is None:
        raise Invalid("ids", "is missing: it is a list of user ids with commas between")
    ids = text.split(",")
    if len(ids) > USERS_ASKED_MAX:
        raise Invalid("ids", f"has {len(ids)} user ids, more than {USERS_ASKED_MAX}")
    return [check_user_id("ids", each) for each in ids]


def _single(request: Request, name: str) -> str | None:
    if not request.query_string:
        return None
    values: list[str] = request.get_args(keep_blank_values=True).getlist(name) or []
    if len(values) > 1:
        raise Invalid(name, f"is given {len(values)} times")
    return values[0] if values else None


def check_name(field: str, value: str) -> str:
    """A board or action id.

    :raises Invalid: if it can't be one.
    """
    wrong = validate_name(value)
    if wrong:
        raise Invalid(field, wrong)
    return value


def check_user_id(field: str, value: str) -> str:
    """A user id in its one spelling, NFC.

    :raises Invalid: if it can't be one.
    """
    value = nfc(value, ID_CHARS_MAX)
    wrong = validate_user_id(value)
    if wrong:
        raise Invalid(field, wrong)
    return value


def check_key(field: str, value: str) -> str:
    """An idempotency key.

    :raises Invalid: if it can't be one.
    """
    if validate_key(value):
        raise Invalid(field, f"{_ascii(value)} is not 1 to {IDEMPOTENCY_KEY_CHARS_MAX} printable ASCII characters")
    return value


def decode_name(field: str, raw: str) -> str:
    """The id of a board, action or group from a segment of the path.

    :raises Invalid: if it can't be one.
    """
    return check_name(field, _decode_segment(field, raw))


def decode_user_id(raw: str) -> str:
    """A user id from a segment of the path.

    :raises Invalid: if it can't be one.
    """
    return check_user_id("userId", _decode_segment("userId", raw))


def _decode_segment(field: str, raw: str) -> str:
    """A percent-encoded path segment as text.

    :raises Invalid: if it is not UTF-8.
    """
    try:
        return unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise Invalid(field, f"{raw[:80]!r} is not percent-encoded UTF-8") from exc


def parse_idempotency_key(request: Request) -> str | None:
    """The Idempotency-Key header, plain or as a quoted RFC 8941 string; None when there is none.

    :raises Invalid: if it is not 1 to 255 printable ASCII characters.
    """
    values: list[str] = request.headers.getall("idempotency-key", [])
    if not values:
        return None
    if len(values) > 1:
        raise Invalid("Idempotency-Key", f"is given {len(values)} times")
    key = values[0].strip(" \t")
    if key.startswith('"'):
        quoted = re.fullmatch(r'"((?:[^"\\]|\\["\\])*)"', key)
        if quoted is None:
            raise Invalid("Idempotency-Key", f"{_ascii(key)} is not a quoted string")
        key = re.sub(r'\\(["\\])', r"\1", quoted[1])
    return check_key("Idempotency-Key", key)


def _ascii(text: str) -> str:
    """A header's value as it can be shown: bytes that were not UTF-8 came as surrogates."""
    return ascii(text[:80])


def check_is_admin(services: Services, request: Request) -> None:
    """:raises Unauthenticated, Forbidden: if the token is missing or not accepted, or lacks the scope ``admin``."""
    services.authenticator.verify(request.headers.get("authorization")).must_be_admin()


def check_may_read(services: Services, request: Request) -> None:
    """Reads are public unless configured otherwise; then a token in the header or the cookie is needed.

    :raises Unauthenticated: if it is missing or not accepted.
    :raises Forbidden: if it is the demo's, and the board is not.
    """
    if services.public_reads:
        return
    caller = find_caller(services, request)
    if caller is None:
        raise Unauthenticated(f"reads need a token, in the header or the cookie {COOKIE}", token_was_sent=False)
    if caller.is_demo:
        named = request.match_info.get("board")
        caller.may_use_board(decode_name("board", named) if named is not None else parse_board(request))


def find_caller(services: Services, request: Request) -> Caller | None:
    """Who is asking by the header or the cookie; None where neither is there.

    :raises Unauthenticated: if the token is not accepted.
    """
    authorization = request.headers.get("authorization")
    if authorization is not None:
        return services.authenticator.verify(authorization)
    cookie = request.cookies.get(COOKIE)
    return services.authenticator.verify_token(cookie) if cookie else None
