"""Pure values of the scoreboard, their limits, and the one order in which a board is ranked.

Nothing here does I/O. Times are aware datetimes in UTC with whole milliseconds.
"""

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

import msgspec

SCORE_MAX = 2**53 - 1
RADIUS, RADIUS_MAX = 5, 50
"""Neighbours on each side of a user, by default and at most."""
USERS_ASKED_MAX = 100
"""Users of one question."""
"""Largest magnitude of a score or of an action's points: doubles, and so Redis scores, are exact up to here."""
ID_CHARS_MAX = 64
IDEMPOTENCY_KEY_CHARS_MAX = 255
TOP_SIZE = 10
"""Entries in the top list that comes with every published message."""
PAGE_SIZE_MAX = 100
HISTORY_SIZE_MAX = 500
ACTIONS_PER_BOARD_MAX = 1_000
BOARDS_LISTED_MAX = 1_000

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
]


class Submission(msgspec.Struct, frozen=True):
    """One request to record one action of one user on a board."""

    board: str
    user_id: str
    action_id: str
    key: str | None = None


class Ruling(msgspec.Struct, frozen=True):
    """What the ledger decided about one submission.

    ``seq`` to ``at`` are set when it was recorded or replayed; the next three for cooldown and daily_cap: ``quota``
    uses are allowed in ``window_s`` seconds. ``previous_at`` is the time of the board's event before the batch.
    """

    outcome: Outcome
    epoch: str
    seq: int = 0
    points: int = 0
    score: int = 0
    at: datetime = datetime.min
    retry_after_s: float = 0.0
    quota: int = 0
    window_s: int = 0
    previous_at: datetime | None = None


class Event(msgspec.Struct, frozen=True):
    """One ledger event; ``score`` is the user's total after it."""

    seq: int
    user_id: str
    action_id: str
    points: int
    score: int
    at: datetime


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
    """A user's place in a ranking; ``rank`` is 1-based."""

    rank: int
    user_id: str
    score: int


class Page(msgspec.Struct, frozen=True):
    """A slice of a ranking with the position it shows; ``more`` says whether entries follow."""

    position: Position
    total: int
    entries: tuple[Entry, ...]
    more: bool


class Standing(msgspec.Struct, frozen=True):
    """A user's place: ``rank`` is 1-based, ``below`` counts users with a strictly lower score."""

    position: Position
    total: int
    score: int
    rank: int
    below: int


class Standings(msgspec.Struct, frozen=True):
    """The places of some users at one moment, in the order asked; None for one without a score."""

    position: Position
    total: int
    users: tuple[Standing | None, ...]


class Board(msgspec.Struct, frozen=True):
    """A board's settings and position."""

    board_id: str
    epoch: str
    seq: int
    players: int
    title: str
    windows: tuple[str, ...]
    ties: str
    timezone: str
    created_at: datetime


class Action(msgspec.Struct, frozen=True):
    """Something a player can do on a board; ``daily_cap`` None means no cap."""

    action_id: str
    points: int
    cooldown_seconds: int
    daily_cap: int | None
    enabled: bool


def rank_shared(scores: Sequence[tuple[str, int]], *, offset: int, first_rank: int) -> tuple[Entry, ...]:
    """Number entries that follow each other in a ranking, ties sharing a rank: 1, 2, 2, 4.

    :param scores: pairs of user id and score, in the board's order.
    :param offset: 0-based place of the first entry in the whole ranking.
    :param first_rank: rank of the first entry, at most ``offset + 1``: lower when ties of it come before the slice.
    """
    entries: list[Entry] = []
    rank = first_rank
    for index, (user_id, score) in enumerate(scores):
        if index > 0 and score != scores[index - 1][1]:
            rank = offset + index + 1
        entries.append(Entry(rank, user_id, score))
    return tuple(entries)


def slice_around(place: int, radius: int, total: int) -> tuple[int, int]:
    """Where a slice around an entry begins, and its size: at an edge the other side gives more.

    :param place: 0-based place of the entry among ``total``.
    """
    size = min(2 * radius + 1, total)
    return max(0, min(place - radius, total - size)), size


def validate_name(value: str) -> str | None:
    """What is wrong with a board or action id, or None."""
    return None if _NAME.fullmatch(value) else f"{value[:80]!r} is not 1 to 64 of A-Z a-z 0-9 . _ -"


def validate_user_id(value: str) -> str | None:
    """What is wrong with a user id, or None."""
    if not 1 <= len(value) <= ID_CHARS_MAX:
        return f"has {len(value)} characters, not 1 to {ID_CHARS_MAX}"
    if value.isascii() and value.isprintable() and not value.isspace():
        return None  # nearly all are, and looking at each character took 1 us
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in value):
        return f"{value!r} has control characters or surrogates"
    if value.isspace():
        return f"{value!r} is blank"
    return None


def validate_key(value: str) -> str | None:
    """What is wrong with an idempotency key, or None."""
    return None if _KEY.fullmatch(value) else f"{value[:80]!r} is not 1 to 255 printable ASCII characters"


@lru_cache(maxsize=256)  # the events of a batch share their time: formatting was 4 % of a busy server's samples
def format_time(at: datetime) -> str:
    """RFC 3339 in UTC with milliseconds: 2026-11-23T10:00:00.123Z."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
