"""Values as log lines hold them: whatever they are, they can be written, and can't pretend to be something else.

Much of what is logged comes from strangers: paths, ids, texts of exceptions. A terminal must not obey it, one line
must not look like two, and neither size nor kind of a value may make logging fail, which would make the request fail.
"""

import re
from collections.abc import Mapping, Sequence, Set

from scoreboard.shown import NOT_ASCII

PATH_CHARS_MAX = 200
"""Of a request's path and method so much is logged."""
VALUE_CHARS_MAX = 2_000
EXCEPTION_CHARS_MAX = 16_000
ITEMS_MAX = 100
DEPTH_MAX = 5
INTEGER_MIN, INTEGER_MAX = -(2**63), 2**64 - 1
"""What the JSON encoder writes as digits."""


def cut(text: str, chars_max: int = PATH_CHARS_MAX) -> str:
    """The beginning of a text that may be long."""
    return text if len(text) <= chars_max else f"{text[:chars_max]}..."


def quote_json(text: str) -> str:
    """A text that is JSON, for a terminal: as :func:`scoreboard.shown.printable` does it, but it means the same."""
    return text if text.isprintable() else NOT_ASCII.sub(_escape_json, text)


def _escape_json(found: re.Match[str]) -> str:
    char = found[0]
    if char.isprintable():
        return char
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def tame(value: object, depth: int = 0) -> object:
    """A value as JSON can hold it, in a size that a log can."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return int(value) if INTEGER_MIN <= value <= INTEGER_MAX else _show_integer(value)
    if isinstance(value, bytes | bytearray):
        return cut(bytes(value[: VALUE_CHARS_MAX + 1]).decode("ascii", "backslashreplace"), VALUE_CHARS_MAX)
    if depth < DEPTH_MAX and isinstance(value, Mapping):
        pairs = [pair for pair, _ in zip(value.items(), range(ITEMS_MAX), strict=False)]
        return {tame_text(key): tame(each, depth + 1) for key, each in pairs}
    if depth < DEPTH_MAX and isinstance(value, Sequence | Set) and not isinstance(value, str):
        return [tame(each, depth + 1) for each, _ in zip(value, range(ITEMS_MAX), strict=False)]
    return tame_text(value)


def tame_text(value: object, chars_max: int = VALUE_CHARS_MAX) -> str:
    """Any value as a text without surrogates."""
    try:
        text = cut(str(value), chars_max)
    except Exception:  # a value that can't even say what it is
        text = f"<{type(value).__name__}>"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def tame_exception(text: object) -> str:
    """A traceback, whose end tells most."""
    whole = tame_text(text, chars_max=10 * EXCEPTION_CHARS_MAX)
    return whole if len(whole) <= EXCEPTION_CHARS_MAX else f"...{whole[-EXCEPTION_CHARS_MAX:]}"


def _show_integer(value: int) -> str:
    bits = value.bit_length()
    return str(value) if bits <= 1_024 else f"<an integer of {bits} bits>"
