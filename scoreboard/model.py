"""Pure values of the scoreboard, their limits, and the one order in which a board is ranked.

Nothing here does I/O. Times are aware datetimes in UTC with whole milliseconds.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Literal

import msgspec

from scoreboard.names import wrong_in_name
from scoreboard.shown import show

SCORE_MAX = 2**53 - 1
"""Largest magnitude of a score or of an action's points: doubles, and so Redis scores, are exact up to here."""
RADIUS, RADIUS_MAX = 5, 50
"""Neighbours on each side of a user, by default and at most."""
USERS_ASKED_MAX = 100
"""Users of one question."""
ID_CHARS_MAX = 64
NAME_CHARS_MAX = 100
"""Of a display name."""
TITLE_CHARS_MAX = 200
"""Of a board's title."""
REASON_CHARS_MAX = 500
IDEMPOTENCY_KEY_CHARS_MAX = 255
TOP_SIZE = 10
"""Entries in the top list that comes with every published message."""
PAGE_SIZE_MAX = 100
HISTORY_SIZE_MAX = 500
ACTIONS_PER_BOARD_MAX = 1_000
COOLDOWN_MAX_S = 31_536_000
DAILY_CAP_MAX = 1_000_000
BOARDS_LISTED_MAX = 1_000
PERIODS_LISTED_MAX = 100
GROUPS_PER_BOARD_MAX = 1_000
MEMBERS_MAX = 10_000
"""Users of a group."""
MEMBERS_LISTED_MAX = 1_000
SELF_ERASURE_PAUSE_S = 86_400.0
"""How long after it has erased itself a user may not do it again: each erasure makes all readers begin anew."""

WINDOWS = ("all", "day", "week", "month")
"""The views of a board, in their order. Of all but the first there is one ranking for each period."""
ALL = "all"

Points = Annotated[int, msgspec.Meta(ge=-SCORE_MAX, le=SCORE_MAX)]
Ties = Literal["shared", "dense", "first"]
Operator = Literal["sum", "best", "last"]
Kind = Literal["score", "hide", "unhide", "name", "erase", "settings", "revoke", "opening"]

_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{ID_CHARS_MAX}}}")
_KEY = re.compile(rf"[\x20-\x7e]{{1,{IDEMPOTENCY_KEY_CHARS_MAX}}}")

Outcome = Literal[
    "recorded",
    "replayed",
    "idempotency_mismatch",
    "unknown_action",
    "action_disabled",
    "cooldown",
    "daily_cap",
    "invalid",
    "points_needed",
    "points_fixed",
    "points_out_of_bounds",
]


class Submission(msgspec.Struct, frozen=True):
    """One request to record one action of one user on a board; with points where the action leaves them open."""

    board: str
    user_id: str
    action_id: str
    key: str | None = None
    points: int | None = None


class Period(msgspec.Struct, frozen=True):
    """A period of a window: its first day as ``YYYY-MM-DD``, and when it is over, in milliseconds since 1970."""

    window: str
    first_day: str
    ends_ms: int


class Ruling(msgspec.Struct, frozen=True):
    """What the ledger decided about one submission.

    ``seq`` to ``at`` are set when it was recorded or replayed; the next four when it was recorded, as of
    :class:`Event`; the next three for cooldown and daily_cap: ``quota`` uses are allowed in ``window_s`` seconds. Of
    points_out_of_bounds ``points`` and ``score`` are the bounds. ``previous_at`` is the time of the board's event
    before the batch.
    """

    outcome: Outcome
    epoch: str
    seq: int = 0
    points: int = 0
    score: int = 0
    at: datetime = datetime.min
    hidden: bool = False
    windows: Sequence[int | None] = ()
    periods: tuple[Period, ...] = ()
    name: str | None = None
    retry_after_s: float = 0.0
    quota: int = 0
    window_s: int = 0
    previous_at: datetime | None = None


class Event(msgspec.Struct, frozen=True):
    """One ledger event, and what its user's state is after it.

    :ivar user_id: empty where it concerns everybody, or a user whom nothing names any more.
    :ivar score: the user's total.
    :ivar hidden: whether the user is kept out of the ranking.
    :ivar windows: the user's totals of the day, week and month of the event, None where there is none.
    :ivar periods: which days, weeks and months these are, of the windows that the board has.
    :ivar name: the user's display name, empty for none; None where the event does not tell.
    :ivar reached: by window the seq at which the score was reached, where it is not that of the event.
    """

    seq: int
    user_id: str
    action_id: str | None
    points: int
    score: int
    at: datetime
    kind: Kind = "score"
    hidden: bool = False
    windows: Sequence[int | None] = ()
    periods: tuple[Period, ...] = ()
    name: str | None = None
    reached: Mapping[str, int] = {}

    def score_in(self, window: str) -> int | None:
        """The user's total in a window after the event, or None where the user is not ranked."""
        if self.hidden:
            return None
        return self.score if window == ALL else self.windows[WINDOWS.index(window) - 1]


class Position(msgspec.Struct, frozen=True):
    """A place in one history of a board. ``<epoch>-<seq>`` outside."""

    epoch: str
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"


class Head(msgspec.Struct, frozen=True):
    """Where a ledger or a ranking stands, and the time of the event there as :func:`format_time` has it ('': none).

    A database restored from backup counts on from an older seq with the same epoch. The time of an event tells which
    of two histories it belongs to: two events of one board and seq never had the same millisecond.
    """

    epoch: str
    seq: int
    at: str

    @property
    def position(self) -> Position:
        """The place without the time."""
        return Position(self.epoch, self.seq)


class RankChange(msgspec.Struct, frozen=True):
    """A user's 1-based rank right after an event, and before it (None: the event was the user's first)."""

    rank: int
    previous_rank: int | None


class Entry(msgspec.Struct, frozen=True):
    """A user's place in a ranking; ``rank`` is 1-based, ``reached`` the seq since which the score is what it is (0: not
    told)."""

    rank: int
    user_id: str
    score: int
    name: str | None = None
    reached: int = 0


class Page(msgspec.Struct, frozen=True):
    """A slice of a ranking with the position it shows; ``more`` says whether entries follow."""

    position: Position
    total: int
    entries: tuple[Entry, ...]
    more: bool
    ties: Ties = "shared"
    period: Period | None = None


class Standing(msgspec.Struct, frozen=True):
    """A user's place: ``rank`` is 1-based, ``below`` counts users with a strictly lower score."""

    score: int
    rank: int
    below: int
    name: str | None = None


class Standings(msgspec.Struct, frozen=True):
    """The places of some users at one moment, in the order asked; None for one without a score."""

    position: Position
    total: int
    users: tuple[Standing | None, ...]
    period: Period | None = None


class Cursor(msgspec.Struct, frozen=True):
    """The place after an entry of a ranking, which need not be there any more.

    :ivar seq: where the board stood when the page before was read.
    :ivar origin: what that was a page of, as a digest; empty where nobody asks.
    """

    score: int
    user_id: str
    reached: int = 0
    seq: int = 0
    origin: bytes = b""


class Board(msgspec.Struct, frozen=True):
    """A board's settings and position."""

    board_id: str
    epoch: str
    seq: int
    players: int
    title: str
    windows: tuple[str, ...]
    ties: Ties
    timezone: str
    created_at: datetime
    operator: Operator = "sum"
    floor: int | None = None
    filling: tuple[str, ...] = ()


class Action(msgspec.Struct, frozen=True):
    """Something a player can do on a board; ``daily_cap`` None means no cap.

    Points are fixed, or None with bounds within which a trusted server says how many.
    """

    action_id: str
    points: int | None
    cooldown_seconds: int
    daily_cap: int | None
    enabled: bool
    points_min: int | None = None
    points_max: int | None = None


class User(msgspec.Struct, frozen=True):
    """What is known of a user beyond scores. ``is_told``: every board has been told of it."""

    user_id: str
    name: str | None
    hidden: bool
    revision: int
    is_told: bool


class Scored(msgspec.Struct, frozen=True):
    """A user in a ranking's order, without a rank yet."""

    user_id: str
    score: int
    name: str | None = None
    reached: int = 0


def rank_entries(scores: Sequence[Scored], ties: Ties, *, offset: int, first_rank: int) -> tuple[Entry, ...]:
    """Number entries that follow each other in a ranking: 1, 2, 2, 4 (shared), 1, 2, 2, 3 (dense), 1, 2, 3, 4 (first).

    :param scores: in the ranking's order.
    :param offset: 0-based place of the first entry in the whole ranking.
    :param first_rank: rank of the first entry; it may be lower than its place when ties of it come before the slice.
    """
    entries: list[Entry] = []
    rank = first_rank
    for index, entry in enumerate(scores):
        if index > 0 and (ties == "first" or entry.score != scores[index - 1].score):
            rank = rank + 1 if ties == "dense" else offset + index + 1
        entries.append(Entry(rank, entry.user_id, entry.score, entry.name, entry.reached))
    return tuple(entries)


def slice_around(place: int, radius: int, total: int) -> tuple[int, int]:
    """Where a slice around an entry begins, and its size: at an edge the other side gives more.

    :param place: 0-based place of the entry among ``total``.
    """
    size = min(2 * radius + 1, total)
    return max(0, min(place - radius, total - size)), size


def validate_name(value: str) -> str | None:
    """What is wrong with a board, action or group id, or None."""
    if _NAME.fullmatch(value):
        return _wrong_in_path(value)
    return f"{show(value)} is not 1 to {ID_CHARS_MAX} of A-Z a-z 0-9 . _ -"


def validate_user_id(value: str) -> str | None:
    """What is wrong with a user id that is in NFC, or None."""
    return wrong_in_name(value, ID_CHARS_MAX) or _wrong_in_path(value)


def _wrong_in_path(value: str) -> str | None:
    """Browsers and proxies take these two for steps within a path, so nothing could be asked about such an id."""
    return f"{value!r} can't be an id: in a path it means another folder" if value in (".", "..") else None


def validate_display_name(value: str) -> str | None:
    """What is wrong with a display name that is in NFC, or None."""
    return wrong_in_name(value, NAME_CHARS_MAX)


def validate_text(value: str, chars_max: int) -> str | None:
    """What is wrong with a text for people, such as a reason, or None."""
    if not value:
        return f"is empty; give it 1 to {chars_max} characters"
    if len(value) > chars_max:
        return f"{show(value)} has {len(value)} characters, more than {chars_max}"
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in value):
        return f"{show(value)} has control characters or surrogates"
    if value.isspace():
        return f"{show(value)} is blank"
    return None


def validate_title(value: str) -> str | None:
    """What is wrong with a board's title, or None. A board need not have one."""
    return validate_text(value, TITLE_CHARS_MAX) if value else None


def validate_key(value: str) -> str | None:
    """What is wrong with an idempotency key, or None."""
    if _KEY.fullmatch(value):
        return None
    return f"{show(value)} is not 1 to {IDEMPOTENCY_KEY_CHARS_MAX} printable ASCII characters"


@lru_cache(maxsize=256)  # the events of a batch share their time: formatting was 4 % of a busy server's samples
def format_time(at: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: 2026-11-23T10:00:00.123Z."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"  # strftime: year 1 is '1'


@lru_cache(maxsize=256)
def parse_periods(text: str) -> tuple[Period, ...]:
    """Periods as the database's ``periods_at`` has them: window, first day and end in turn, with spaces between."""
    parts = text.split(" ")
    return tuple(Period(parts[i], parts[i + 1], int(parts[i + 2])) for i in range(0, len(parts), 3))
