"""Cursors: the place after the last entry of a page or a list, and what it was a part of.

A place says nothing on another board, in another period, group or order: going on from it there would leave users out
or show some twice, with 200. So a cursor names what it came from, in a digest, and the seq at which it was made, which
tells whether the board's settings have changed since. It is no secret: whoever makes one up gets what all may see.

A list is in the order of its ids or days, so of its place the last of them is enough.
"""

import base64
from collections.abc import Callable
from hashlib import blake2b

import msgspec
import orjson

from scoreboard.errors import Inapplicable, Invalid
from scoreboard.model import ALL, SCORE_MAX, Cursor, Page, validate_user_id
from scoreboard.shown import show

VERSION = 1
"""Of what a cursor is made of; one of another version is not taken."""
CURSOR_CHARS_MAX = 512
ORIGIN_BYTES = 8

ListName = tuple[str, ...]


class _Packed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    score: int
    user_id: str
    reached: int
    seq: int
    origin: bytes


_decoder = msgspec.msgpack.Decoder(_Packed)


def tell_origin(board: str, page: Page, group: str | None = None) -> bytes:
    """What a page is of: the board and its history, the window and the period of it, the group, how ties are ranked."""
    window, first_day = (page.period.window, page.period.first_day) if page.period is not None else (ALL, None)
    named = [board, page.position.epoch, window, first_day, group, page.ties]
    return blake2b(orjson.dumps(named), digest_size=ORIGIN_BYTES).digest()


def encode_cursor(board: str, page: Page, group: str | None = None) -> str:
    """The place after a page's last entry, for the next page."""
    last = page.entries[-1]
    origin = tell_origin(board, page, group)
    return pack_cursor(Cursor(last.score, last.user_id, last.reached, page.position.seq, origin))


def pack_cursor(cursor: Cursor) -> str:
    """A cursor as answers have it."""
    packed = _Packed(VERSION, cursor.score, cursor.user_id, cursor.reached, cursor.seq, cursor.origin)
    return _to_text(msgspec.msgpack.encode(packed))


def decode_cursor(text: str) -> Cursor:
    """The place of the entry before the page.

    :raises Invalid: if the cursor is not one of ours.
    """
    try:
        packed = _decoder.decode(_from_text(text))
    except (ValueError, RecursionError) as exc:
        raise _no_cursor(text) from exc
    if (
        packed.version != VERSION
        or abs(packed.score) > SCORE_MAX
        or validate_user_id(packed.user_id)
        or not 0 <= packed.reached <= SCORE_MAX
        or not 0 <= packed.seq <= SCORE_MAX
        or len(packed.origin) != ORIGIN_BYTES
    ):
        raise _no_cursor(text)
    return Cursor(packed.score, packed.user_id, packed.reached, packed.seq, packed.origin)


def encode_list_cursor(named: ListName, last: str) -> str:
    """The place after the last id or day of a part of a list, for the next part.

    :param named: which list it is: what is listed, and of which board, group or window.
    """
    return _to_text(_list_digest(named, last) + last.encode())


def decode_list_cursor(text: str, named: ListName, check: Callable[[str, str], str]) -> str:
    """The id or day after which a list goes on.

    :param check: for ids or days of that kind.
    :raises Invalid: if the cursor is not one of ours, or is of another list.
    """
    try:
        packed = _from_text(text)
        last = packed[ORIGIN_BYTES:].decode()
    except ValueError as exc:
        raise _no_cursor(text) from exc
    if packed[:ORIGIN_BYTES] != _list_digest(named, last):
        raise Invalid("cursor", f"{show(text)} is not a cursor of this list; send the next of this list as it is")
    return check("cursor", last)


def _list_digest(named: ListName, last: str) -> bytes:
    """Of the list and the place in it, so that neither can be another one."""
    return blake2b(orjson.dumps([VERSION, *named, last]), digest_size=ORIGIN_BYTES).digest()


def _to_text(packed: bytes) -> str:
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def _from_text(text: str) -> bytes:
    """:raises ValueError: if the text is too long, or not in base64."""
    if len(text) > CURSOR_CHARS_MAX:
        raise ValueError("too long")
    padded = text.encode("ascii") + b"=" * (-len(text) % 4)
    return base64.b64decode(padded, altchars=b"-_", validate=True)


def stale_cursor() -> Inapplicable:
    """What is told to whoever goes on with a cursor where it does not lead on."""
    return Inapplicable(
        "cursor",
        "belongs to another board, window, period or group, or the board's settings have changed since; "
        "begin again without a cursor",
    )


def _no_cursor(text: str) -> Invalid:
    return Invalid("cursor", f"{show(text)} is not a cursor; send the next of another page as it is")
