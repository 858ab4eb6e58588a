"""What comes in: strict bodies, path segments, headers, and who asks. Everything bad is a ScoreboardError.

Whatever is looked through here costs time by its length and no more, and is cut before it is searched: a stranger
decides what is in it.
"""

import json
import re
from collections.abc import Collection
from functools import cache
from typing import TypeVar
from urllib.parse import unquote_to_bytes

import msgspec
import orjson
from sanic.request import Request

from scoreboard.auth import TOKEN_BYTES_MAX, Caller
from scoreboard.errors import Invalid, MalformedJson, Unauthenticated, UnsupportedMediaType
from scoreboard.http.bodies import ActionBody, BatchBody, BatchedSubmission, Bounds
from scoreboard.http.body_errors import explain
from scoreboard.http.services import Services
from scoreboard.model import ID_CHARS_MAX, IDEMPOTENCY_KEY_CHARS_MAX, validate_key, validate_name, validate_user_id
from scoreboard.names import nfc
from scoreboard.shown import SHOWN_CHARS_MAX, show
from scoreboard.trace import note_board

DEFAULT_BOARD = "global"
COOKIE = "scoreboard_token"
JSON_TYPES = ("application/json",)
PATCH_TYPES = ("application/json", "application/merge-patch+json")
QUOTED_KEY_CHARS_MAX = 2 * IDEMPOTENCY_KEY_CHARS_MAX + 2
"""Of a key in quotes, each of whose characters may be escaped."""

_TYPE_NAMES = {"str": "string", "int": "number", "float": "number", "bool": "boolean", "list": "array"}
_NO_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_COOKIE_TOKEN = re.compile(r"[A-Za-z0-9._-]+")

T = TypeVar("T", bound=msgspec.Struct)


def decode_body(request: Request, decoder: "msgspec.json.Decoder[T]", types: Collection[str] = JSON_TYPES) -> T:
    """The body as the decoder's type.

    :param types: the media types that it may be announced as.
    :raises UnsupportedMediaType: if it is announced as another.
    :raises MalformedJson: if it is not one strict JSON object.
    :raises Invalid: if fields are missing, unknown, or of the wrong type.
    """
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() not in types:
        raise UnsupportedMediaType(f"Content-Type is {show(content_type)}; send {' or '.join(types)}")
    body = request.body
    try:
        value = decoder.decode(body)
        if b"\\" in body or _may_repeat_fields(body, value):
            json.loads(body, object_pairs_hook=_refuse_repeats)  # the decoder takes the last of repeated fields
        return value
    except msgspec.ValidationError as exc:
        # A wrong type may have been noticed before the malformed end.
        raise explain(str(exc), decoder.type, _decode_object(body)) from exc
    except (ValueError, RecursionError) as exc:
        raise _malformed(body, exc) from exc


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
    known: set[str] = set()
    for name, _ in pairs:
        if name in known:
            raise ValueError(f"the field {show(name)} is repeated")
        known.add(name)


def _decode_object(body: bytes) -> dict[str, object]:
    """:raises MalformedJson: if the body is not one strict JSON object."""
    try:
        value = msgspec.json.decode(body)
        json.loads(body, object_pairs_hook=_refuse_repeats, parse_int=str)  # of long integers it reads none
    except (ValueError, RecursionError) as exc:
        raise _malformed(body, exc) from exc
    if not isinstance(value, dict):
        name = "null" if value is None else _TYPE_NAMES[type(value).__name__]
        raise MalformedJson(f"the body is a JSON {name}; send an object")
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
    reason, _, _ = reason.partition(" - at `")  # a place, in the decoder's own words
    return MalformedJson(f"the body is not strict JSON: {reason[:SHOWN_CHARS_MAX]}")


def check_name(field: str, value: str) -> str:
    """A board or action id.

    :raises Invalid: if it can't be one.
    """
    wrong = validate_name(value)
    if wrong:
        raise Invalid(field, wrong)
    if field == "board":
        note_board(value)
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
    wrong = validate_key(value)
    if wrong:
        raise Invalid(field, wrong)
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

    :raises Invalid: if it is not UTF-8 in percent-encoding.
    """
    return decode_percent(field, raw)


def decode_percent(field: str, raw: str) -> str:
    """Percent-encoded text.

    :raises Invalid: if an escape is not two hexadecimal digits, or they are not UTF-8.
    """
    if "%" not in raw:
        return raw
    if _NO_ESCAPE.search(raw):
        raise Invalid(field, f"{show(raw)} has a % without two hexadecimal digits after it; write a % as %25")
    try:
        return unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError as exc:
        raise Invalid(field, f"{show(raw)} is not UTF-8 in percent-encoding") from exc


def parse_idempotency_key(request: Request) -> str | None:
    """The Idempotency-Key header, plain or as a quoted RFC 8941 string; None when there is none.

    :raises Invalid: if it is not 1 to 255 printable ASCII characters.
    """
    values: list[str] = request.headers.getall("idempotency-key", [])
    if not values:
        return None
    if len(values) > 1:
        raise Invalid("Idempotency-Key", f"is given {len(values)} times; give it once")
    key = values[0].strip(" \t")
    if key.startswith('"'):
        quoted = _QUOTED.fullmatch(key) if len(key) <= QUOTED_KEY_CHARS_MAX else None
        if quoted is None:
            raise Invalid("Idempotency-Key", f"{show(key)} begins with a quote but is not a quoted string (RFC 8941)")
        key = re.sub(r'\\(["\\])', r"\1", quoted[1])
    return check_key("Idempotency-Key", key)


def parse_leniently(request: Request, name: str) -> str | None:
    """One parameter of a page, which ignores all others; None where it is not there or can't be read."""
    for part in request.query_string.split("&"):
        raw_name, _, raw_value = part.partition("=")
        if raw_value and _decode_leniently(raw_name) == name:
            return _decode_leniently(raw_value)
    return None


def _decode_leniently(raw: str) -> str:
    return unquote_to_bytes(raw.replace("+", " ")).decode("utf-8", "replace")


# -- who asks


def check_is_admin(services: Services, request: Request) -> None:
    """:raises Unauthenticated, Forbidden: if the token is missing or not accepted, or lacks the scope ``admin``."""
    services.authenticator.verify(request.headers.get("authorization")).must_be_admin()


def check_may_read(services: Services, request: Request) -> Caller | None:
    """Reads are public unless configured otherwise; then a token in the header or the cookie is needed.

    :return: who reads, where that is asked.
    :raises Unauthenticated: if it is missing or not accepted.
    :raises Forbidden: if it is the demo's, and the board is not.
    """
    if services.public_reads:
        return None
    caller = find_caller(services, request)
    if caller is None:
        raise Unauthenticated(
            f"a token is needed, in the header Authorization or in the cookie {COOKIE}", token_was_sent=False
        )
    if caller.is_demo:
        named = request.match_info.get("board") or parse_leniently(request, "board") or DEFAULT_BOARD
        caller.may_use_board(decode_name("board", named))
    return caller


def find_caller(services: Services, request: Request) -> Caller | None:
    """Who is asking by the header, or else by the cookie, which is all that an EventSource can send; None: nobody says.

    Only what reads takes the cookie: a page of another origin could make a browser send it with anything.

    :raises Unauthenticated: if the token is not accepted.
    """
    authorization = request.headers.get("authorization")
    if authorization is not None:
        return services.authenticator.verify(authorization)
    token = read_cookie(request.headers.getall("cookie", []))
    return services.authenticator.verify_token(token) if token is not None else None


def read_cookie(headers: list[str]) -> str | None:
    """The token in the cookie; None where there is no such cookie.

    Read by ourselves, in one pass: the framework unquotes every cookie there is, which costs the square of its length,
    and a token has nothing to unquote.

    :raises Unauthenticated: if the cookie holds what no token holds.
    """
    for header in headers:
        for pair in header.split(";"):
            name, _, value = pair.strip(" \t").partition("=")
            if name == COOKIE and value:
                if len(value) > TOKEN_BYTES_MAX or not _COOKIE_TOKEN.fullmatch(value):
                    raise Unauthenticated(f"the cookie {COOKIE} does not hold a token")
                return value
    return None
