"""Queries, as strict as bodies: each route names the parameters that it takes, and anything else is refused.

A parameter that is ignored is a wrong answer with 200: whoever misspells ``window`` gets the board of all time and
believes that it is today's. So an unknown parameter, one that does not apply, a repeated one and an empty value are
422 and named, and so are escapes that are none. A query is read once, in one pass, in our own code: what libraries do
with it is neither strict nor always linear.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime

from sanic.request import Request

from scoreboard.cursors import ListName, decode_list_cursor
from scoreboard.errors import Invalid
from scoreboard.http.parse import DEFAULT_BOARD, check_name, check_user_id, decode_percent
from scoreboard.model import ALL, SCORE_MAX, USERS_ASKED_MAX, WINDOWS
from scoreboard.shown import show, show_name

REPEATABLE = frozenset({"id"})
"""Parameters that may be given more than once."""
UNNAMED = "query"
"""What is told to be wrong where a parameter has no name."""

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NUMBER = re.compile(r"[0-9]{1,16}")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})", re.I)


class Query:
    """The parameters of one request, decoded; each is one that its route takes, and has a value."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, list[str]]) -> None:
        self._values = values

    def text(self, name: str) -> str | None:
        """The value of a parameter, or None where it is not given."""
        values = self._values.get(name)
        return values[0] if values else None

    def texts(self, name: str) -> list[str]:
        """All values of a parameter that may be repeated."""
        return self._values.get(name, [])

    def refuse_together(self, name: str, *others: str) -> None:
        """:raises Invalid: if a parameter is given together with one that it makes no sense with."""
        for other in others:
            if name in self._values and other in self._values:
                raise Invalid(other, f"does not go together with {name}; leave one of the two out")


EMPTY = Query({})


def parse_query(request: Request, *taken: str) -> Query:
    """The query of a request to a route that takes these parameters and no others.

    :raises Invalid: if there is another parameter, one twice, or one without a value or not in percent-encoded UTF-8.
    """
    text = request.query_string
    if not text:
        return EMPTY
    values: dict[str, list[str]] = {}
    for part in text.split("&"):
        if not part:
            continue
        raw_name, _, raw_value = part.partition("=")
        name = decode_percent(show_name(raw_name), raw_name.replace("+", " "))
        if name not in taken:
            raise Invalid(show_name(name) or UNNAMED, _not_taken(taken))
        if name in values and name not in REPEATABLE:
            raise Invalid(name, "is given more than once; give it once")
        value = decode_percent(name, raw_value.replace("+", " "))
        if not value:
            raise Invalid(name, "has no value; give it one, or leave it out")
        values.setdefault(name, []).append(value)
    return Query(values)


def _not_taken(taken: tuple[str, ...]) -> str:
    if not taken:
        return "is not a parameter here: this route takes none"
    return f"is not a parameter of this route; it takes {', '.join(taken)}"


# -- parameters


def parse_integer(query: Query, name: str, default: int, *, low: int, high: int) -> int:
    """A whole number from the query.

    :raises Invalid: if it is none, or out of bounds.
    """
    text = query.text(name)
    if text is None:
        return default
    if not _NUMBER.fullmatch(text) or not low <= int(text) <= high:
        raise Invalid(name, f"{show(text)} is not a whole number from {low} to {high}")
    return int(text)


def parse_board(query: Query) -> str:
    """The board named in the query, by default ``global``.

    :raises Invalid: if it can't be a board's id.
    """
    return check_name("board", query.text("board") or DEFAULT_BOARD)


def parse_window(query: Query) -> str:
    """The window named in the query, by default ``all``. Whether the board has it is for the stores to say.

    :raises Invalid: if there is no such window.
    """
    window = query.text("window")
    if window is None:
        return ALL
    if window not in WINDOWS:
        raise Invalid("window", f"{show(window)} is not one of {', '.join(WINDOWS)}")
    return window


def parse_period(query: Query, window: str) -> str | None:
    """The first day of the period named in the query, or None for the current one.

    Whether a period of the window begins on that day depends on the board, so the stores tell.

    :raises Invalid: if it is no day, or the window has no periods.
    """
    day = parse_day(query, "period")
    if day is not None and window == ALL:
        raise Invalid("period", f"window 'all' has no periods; name the window of which {show(day)} is one")
    return day


def parse_view(query: Query) -> tuple[str, str, str | None]:
    """The board, window and first day of a period of it that a query asks for."""
    board, window = parse_board(query), parse_window(query)
    return board, window, parse_period(query, window)


def parse_day(query: Query, name: str) -> str | None:
    """A day from the query as YYYY-MM-DD, or None.

    :raises Invalid: if it is none.
    """
    text = query.text(name)
    return check_day(name, text) if text is not None else None


def check_day(name: str, text: str) -> str:
    """:raises Invalid: if a text is no day as YYYY-MM-DD."""
    try:
        if _DAY.fullmatch(text) is None:
            raise ValueError("another form")
        date.fromisoformat(text)
    except ValueError as exc:
        raise Invalid(name, f"{show(text)} is not a day as YYYY-MM-DD") from exc
    return text


def parse_as_of(query: Query) -> int | datetime | None:
    """The seq or the time of the query's ``asOf``, or None.

    :raises Invalid: if it is neither.
    """
    text = query.text("asOf")
    if text is None:
        return None
    if _NUMBER.fullmatch(text) and int(text) <= SCORE_MAX:
        return int(text)
    try:
        # The plus of an offset is a space in a query, unless it was encoded; nothing else can have become one.
        text = text.replace(" ", "+")
        if _TIME.fullmatch(text) is None:
            raise ValueError("another form")
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise Invalid("asOf", f"{show(text)} is neither a seq nor a time such as 2026-11-23T10:00:00Z") from exc


def parse_after(query: Query, named: ListName, check: Callable[[str, str], str], plain: str = "after") -> str:
    """The id or day after which a list goes on, or an empty text where it begins.

    :param named: which list it is: a ``cursor`` is good for that list alone.
    :param check: for ids or days of that kind.
    :param plain: the parameter that may name one as it is.
    :raises Invalid: if it can't be one, or the cursor is of another list.
    """
    query.refuse_together("cursor", plain)
    cursor, text = query.text("cursor"), query.text(plain)
    if cursor is not None:
        return decode_list_cursor(cursor, named, check)
    return check(plain, text) if text is not None else ""


def parse_user_ids(query: Query) -> list[str]:
    """The users asked for: ``ids`` with commas between, each percent-encoded once more, or ``id`` once for each.

    :raises Invalid: if there are none or too many, both are given, one is there twice or can't be a user's.
    """
    query.refuse_together("ids", "id")
    text = query.text("ids")
    name, ids = ("ids", text.split(",")) if text is not None else ("id", query.texts("id"))
    if not ids:
        raise Invalid("ids", "is missing: give user ids with commas between, or the parameter id once for each user")
    if len(ids) > USERS_ASKED_MAX:
        raise Invalid(name, f"names {len(ids)} users; at most {USERS_ASKED_MAX} can be asked for at once")
    known: dict[str, None] = {}
    for each in ids:
        user = check_user_id(name, decode_percent(name, each) if name == "ids" else each)
        if user in known:
            raise Invalid(name, f"names {show(user)} twice; name each user once")
        known[user] = None
    return list(known)
