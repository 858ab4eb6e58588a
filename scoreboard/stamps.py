"""What names the state of a part of a board, so that an answer about it can be told to be right without making it anew.

A board's seq moves with every score, a part of it seldom. What a period shows changes by a score in it; by what is no
submission, such as a user who is hidden, named or erased, an event that is revoked, another setting; and by nothing
else. After the first event that is later than the period no score can come into it, because a board's time never falls.
What a group shows changes by its list, by a score of a member, and by what is no submission. So these are compared, in
one look at the ledger that costs the same whatever the answer did. Where it can't be told, the state counts as another.

The event at a stamp's own position is looked for too, with its time: a database that was restored from a backup may
have come to the same numbers by another history.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, TypeVar

import asyncpg
import msgspec

from scoreboard.errors import NotFound
from scoreboard.groups import Groups
from scoreboard.model import ALL, Cursor, Page, Position, Standings
from scoreboard.totals import View, check_position

LOOKED_THROUGH_MAX = 1_000
"""Events that are looked through for one of a group's member: 2 ms. When more have come, the answer is made anew."""

T = TypeVar("T")


class Subject(msgspec.Struct, frozen=True):
    """What is asked about: a window of a board in a period, by default the current one, or a group of it there."""

    board: str
    window: str = ALL
    first_day: str | None = None
    group: str | None = None


class Stamp(msgspec.Struct, frozen=True):
    """The state of a subject at a position.

    :ivar at_ms: the time of the event there, in milliseconds since 1970.
    :ivar period: its first day.
    :ivar is_over: no later score can be in the period.
    :ivar changed_seq: the last event that was no submission.
    :ivar revision: that of the group's list; None without a group.
    """

    position: Position
    at_ms: int
    period: str
    is_over: bool
    changed_seq: int
    revision: str | None

    def is_same(self, now: "Stamp", *, is_touched: bool) -> bool:
        """Whether the subject shows the same now. :param is_touched: a member may have got a score since."""
        if self._named != now._named or self.position.seq > now.position.seq:
            return False
        if self.is_over or self.position.seq == now.position.seq:
            return True
        return self.revision is not None and not is_touched

    @property
    def _named(self) -> tuple[str, str, int, str | None]:
        return self.position.epoch, self.period, self.changed_seq, self.revision


class PastStamp(msgspec.Struct, frozen=True):
    """The state of a board of the past: the event that it stands at and the last one that was no submission, both with
    their times in milliseconds."""

    position: Position
    at_ms: int
    changed_seq: int
    changed_ms: int


class Stamps(Groups):
    """Reads costly things with the stamps of what they show, on connections of their own."""

    async def check_stamp(self, subject: Subject, kept: Stamp) -> Stamp | None:
        """The stamp of now, if the subject shows what it did; None if it may not.

        :raises NotFound: if the board is gone.
        """
        rows = await self._fetch(self._reads, "read_stamp", *_asked(subject, kept))
        if not rows:
            raise NotFound(f"there is no board {subject.board!r}")
        now = _stamp(rows[0])
        is_same = rows[0]["is_same"] and kept.is_same(now, is_touched=rows[0]["is_touched"])
        return now if is_same else None

    async def check_past_stamp(self, board: str, as_of: int | datetime, kept: PastStamp) -> PastStamp | None:
        """The same stamp, if a board of the past shows what it did.

        :raises NotFound, Invalid: if the board is gone, or has not come so far any more.
        """
        named = (as_of, None) if isinstance(as_of, int) else (None, as_of)
        rows = await self._fetch(self._reads, "find_position", board, *named)
        return kept if _past_stamp(check_position(board, as_of, rows[0] if rows else None)) == kept else None

    async def stamped_page(
        self, subject: Subject, *, offset: int, limit: int, after: Cursor | None
    ) -> tuple[Stamp, Page]:
        """A page; ``after`` wins over ``offset``.

        :raises NotFound, Invalid: if there is no such board or group, or no such window, as the next two do.
        """

        async def read(connection: Any, view: View) -> Page:
            if subject.group is None:
                return await self._page(connection, view, offset=offset, limit=limit, after=after)
            return await self._group_page(connection, view, subject.group, offset=offset, limit=limit, after=after)

        return await self._stamped(subject, read)

    async def stamped_around(self, subject: Subject, user_id: str, radius: int) -> tuple[Stamp, Page | None]:
        """A user with neighbours, or None for one without a score.

        :raises NotFound: if the user is not in the group, too.
        """

        async def read(connection: Any, view: View) -> Page | None:
            if subject.group is None:
                return await self._around(connection, view, user_id, radius)
            return await self._group_around(connection, view, subject.group, user_id, radius)

        return await self._stamped(subject, read)

    async def stamped_standings(
        self, subject: Subject, users: tuple[str, ...]
    ) -> tuple[Stamp, tuple[Standings, tuple[bool, ...]]]:
        """Users' places, and whether each is in the group; without one all are."""

        async def read(connection: Any, view: View) -> tuple[Standings, tuple[bool, ...]]:
            if subject.group is None:
                return await self._standings(connection, view, users), (True,) * len(users)
            return await self._group_standings(connection, view, subject.group, users)

        return await self._stamped(subject, read)

    async def stamped_past_page(
        self, board: str, as_of: int | datetime, *, offset: int, limit: int
    ) -> tuple[PastStamp, Page]:
        """A page of a board as it stood at a seq or a time.

        :raises NotFound, Invalid: if there is no such board, or it has not come so far, or the way there is too long.
        """
        async with self._snapshot(self._costly) as connection:
            found = await self._find_position(connection, board, as_of)
            page = await self._past_page(connection, board, found, offset=offset, limit=limit)
        return _past_stamp(found), page

    async def _stamped(self, subject: Subject, read: Callable[[Any, View], Awaitable[T]]) -> tuple[Stamp, T]:
        async with self._snapshot(self._costly) as connection:
            if subject.group is None:
                view = await self._view(connection, subject.board, subject.window, subject.first_day)
            else:
                view = (
                    await self._group_view(connection, subject.board, subject.group, subject.window, subject.first_day)
                )[1]
            row = await self._one(connection, "read_stamp", *_asked(subject, None))
            assert row is not None  # the view is of the same moment
            await self._run(connection, "prefer_indexes")
            return _stamp(row), await read(connection, view)


def _asked(subject: Subject, kept: Stamp | None) -> tuple[str, str, str | None, str | None, int, int, int]:
    since = (kept.position.seq, kept.at_ms) if kept is not None else (0, 0)
    return subject.board, subject.window, subject.first_day, subject.group, *since, LOOKED_THROUGH_MAX


def _stamp(row: asyncpg.Record) -> Stamp:
    return Stamp(
        Position(row["epoch"], row["seq"]),
        row["at_ms"],
        row["period"],
        row["is_over"],
        row["changed_seq"],
        row["revision"],
    )


def _past_stamp(row: asyncpg.Record) -> PastStamp:
    position = Position(row["epoch"], row["seq"])
    return PastStamp(position, row["at_ms"], row["changed_seq"], row["changed_ms"])
