"""What is wrong with a body that is JSON and not what its route takes, in words of those who write JSON.

The decoder says it in one sentence, which may hold a field's name or a value as long as the body. So its end, which
has the place, is cut off before anything is searched in it, and what is shown is looked up in the body by that place.
"""

import re
from functools import lru_cache
from typing import Any

import msgspec

from scoreboard.errors import Invalid
from scoreboard.shown import show_json, show_name

WHOLE = "body"
"""The field that an error names where it is about no single one."""
_PLACE_CHARS_MAX = 120
"""No place of ours is longer: ``submissions[999].idempotencyKey`` and the decoder's words around it."""
_REASON_CHARS_MAX = 200
"""Of what the decoder says is looked at; beyond it stand only names and values that somebody made up."""
_PLACE = re.compile(r" - at `\$((?:\.[A-Za-z]{1,40}|\[[0-9]{1,9}\])*)`$")
_STEP = re.compile(r"\.([A-Za-z]+)|\[([0-9]+)\]")
_UNKNOWN = "Object contains unknown field `"
_MISSING = re.compile(r"Object missing required field `([A-Za-z]+)`")
_TYPE = re.compile(r"Expected `([a-z |]+)`, got `([a-z]+)`")
_LENGTH = re.compile(r"Expected `(?:str|array|object)` of length (<=|>=) ([0-9]+)")
_BOUND = re.compile(r"Expected `int` (<=|>=) (-?[0-9]+)")
_JSON_TYPES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean"}
_LENGTH_WORDS = {"<=": "at most", ">=": "at least"}

Steps = tuple[str | int, ...]


def explain(message: str, body_type: type, body: dict[str, object]) -> Invalid:
    """What the decoder found wrong with a body.

    :param message: the decoder's.
    :param body: the same body as a value.
    """
    steps, length = _place(message)
    if message.startswith(_UNKNOWN):
        name = message[len(_UNKNOWN) : len(message) - length - 1]
        names, holder = _field_names(body_type, steps), _look_up(body, steps)
        if not names or not isinstance(holder, dict) or name not in holder:  # what looked like a place is of the name
            steps, name, names = (), message[len(_UNKNOWN) : -1], _field_names(body_type, ())
        return Invalid(_path((*steps, show_name(name))), f"is not a field here; {_name_fields(names)}")
    reason = message[: min(len(message) - length, _REASON_CHARS_MAX)]
    missing = _MISSING.match(reason)
    if missing:
        return Invalid(_path((*steps, missing[1])), "is missing")
    value = _look_up(body, steps)
    expected = _reword(reason, body_type, steps, value)
    # Nothing is shown twice, and the whole body is not: it is long, and what is wrong with it is no value.
    is_told = not steps or value is None or value in ("", [])
    return Invalid(_path(steps), expected if is_told else f"{expected}: {show_json(value)}")


def _name_fields(names: list[str]) -> str:
    if not names:
        return "this request takes no fields"
    return f"there {'is only' if len(names) == 1 else 'are'} {', '.join(names)}"


def _place(message: str) -> tuple[Steps, int]:
    """Where in the body something is wrong, and how many characters of the message say so."""
    found = _PLACE.search(message[-_PLACE_CHARS_MAX:])
    if found is None:
        return (), 0
    steps = tuple(name or int(index) for name, index in _STEP.findall(found[1]))
    return steps, len(found[0])


def _path(steps: Steps) -> str:
    """A place as errors name it: ``submissions[1].actionId``."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".") or WHOLE


def _look_up(value: object, steps: Steps) -> object:
    for step in steps:
        try:
            value = value[step]  # type: ignore[index]
        except (LookupError, TypeError):
            return None
    return value


def _reword(reason: str, body_type: type, steps: Steps, value: object) -> str:
    """What was expected, and of which kind the value is, in words of JSON."""
    if found := _TYPE.match(reason):
        wanted = " or ".join(_JSON_TYPES.get(name, name) for name in found[1].split(" | "))
        return f"Expected {wanted}, got {_JSON_TYPES.get(found[2], found[2])}"
    if found := _LENGTH.match(reason):
        one, many = ("entry", "entries") if "`array`" in reason else ("character", "characters")
        length = len(value) if isinstance(value, str | list) else 0
        return (
            f"Expected {_LENGTH_WORDS[found[1]]} {found[2]} {one if found[2] == '1' else many}, got {length or 'none'}"
        )
    if found := _BOUND.match(reason):
        return f"Expected {_LENGTH_WORDS[found[1]]} {found[2]}"
    if reason.startswith("Invalid enum value"):
        return f"Expected one of {', '.join(_choices(body_type, steps))}"
    if "matching regex" in reason:
        return "Expected only A-Z a-z 0-9 . _ -"
    if "out of range" in reason:
        return "Expected a number of at most 64 bits"
    return "Expected another value"


# -- what the types say


@lru_cache(maxsize=64)
def _type_at(body_type: type, steps: Steps) -> Any:
    """The type of what stands at a place, or None where the body has no such place."""
    kind: Any = msgspec.inspect.type_info(body_type)
    for step in steps:
        for each in _alternatives(kind):
            if isinstance(each, msgspec.inspect.StructType):
                kind = next((field.type for field in each.fields if field.encode_name == step), None)
                break
            if isinstance(each, msgspec.inspect.CollectionType):
                kind = each.item_type
                break
        else:
            return None
    return kind


def _alternatives(kind: Any) -> list[Any]:
    """The types that a value may be of, without what is said about them."""
    while isinstance(kind, msgspec.inspect.Metadata):
        kind = kind.type
    if isinstance(kind, msgspec.inspect.UnionType):
        return [found for each in kind.types for found in _alternatives(each)]
    return [kind]


def _plain(steps: Steps) -> Steps:
    """A place as types know it: entries of a list are of one type."""
    return tuple(0 if isinstance(step, int) else step for step in steps)


def _field_names(body_type: type, steps: Steps) -> list[str]:
    for each in _alternatives(_type_at(body_type, _plain(steps))):
        if isinstance(each, msgspec.inspect.StructType):
            return [field.encode_name for field in each.fields]
    return []


def _choices(body_type: type, steps: Steps) -> list[str]:
    for each in _alternatives(_type_at(body_type, _plain(steps))):
        if isinstance(each, msgspec.inspect.LiteralType):
            return [str(value) for value in each.values]
    return []
