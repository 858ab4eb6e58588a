"""How messages show a value that somebody sent: safely, and never more of it than SHOWN_CHARS_MAX characters."""

import json
import re
from collections.abc import Iterator

SHOWN_CHARS_MAX = 200
"""Of a value a message shows as much. The rest tells nobody what is wrong with it, and costs time and space in logs."""
NOT_ASCII = re.compile(r"[^ -~]")
"""What may not be printable: it is asked of each such character."""


def show(value: object) -> str:
    """A value as a message has it: text in single quotes, all else as JSON; what was cut off ends in ``…``.

    Only what is shown is looked at, so a value of a megabyte costs no more than a short one.
    """
    if not isinstance(value, str):
        return show_json(value)
    return _cut(repr(value[:SHOWN_CHARS_MAX]), is_cut=len(value) > SHOWN_CHARS_MAX)


def show_json(value: object) -> str:
    """A value of a body as it stands there, or nearly so."""
    pieces, length = [], 0
    for piece in _pieces(value):
        pieces.append(piece)
        length += len(piece)
        if length > SHOWN_CHARS_MAX:
            break
    is_cut = isinstance(value, str) and len(value) > SHOWN_CHARS_MAX
    return _cut(printable("".join(pieces)), is_cut=is_cut)


def show_name(name: str) -> str:
    """The name of a field or parameter that somebody made up, as an error names it."""
    return printable(name[:SHOWN_CHARS_MAX]) + ("…" if len(name) > SHOWN_CHARS_MAX else "")


def printable(text: str) -> str:
    """A text for a terminal or a log: what can't be printed, or would change how the rest is shown, as an escape."""
    return text if text.isprintable() else NOT_ASCII.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    char = found[0]
    return char if char.isprintable() else char.encode("unicode_escape").decode("ascii")


def _cut(shown: str, *, is_cut: bool) -> str:
    if len(shown) > SHOWN_CHARS_MAX + len("''"):  # escapes have made it longer
        return shown[:SHOWN_CHARS_MAX] + "…"
    return shown + "…" if is_cut else shown


def _pieces(value: object) -> Iterator[str]:
    """JSON, piece by piece, so that whoever has enough can stop."""
    if isinstance(value, str):
        yield json.dumps(value[:SHOWN_CHARS_MAX], ensure_ascii=False)
    elif isinstance(value, dict):
        yield "{"
        for index, (name, each) in enumerate(value.items()):
            yield ", " if index else ""
            yield from _pieces(name)
            yield ": "
            yield from _pieces(each)
        yield "}"
    elif isinstance(value, list):
        yield "["
        for index, each in enumerate(value):
            yield ", " if index else ""
            yield from _pieces(each)
        yield "]"
    elif isinstance(value, int) and abs(value) >= 10**SHOWN_CHARS_MAX:
        yield "a number of hundreds of digits"  # writing it out costs the square of its length
    else:
        yield json.dumps(value)
