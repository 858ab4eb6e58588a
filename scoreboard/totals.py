"""The totals in PostgreSQL: pages, places and streams of them, of any window and period.

They are what is read while Redis is away, of periods that are over, and by whoever rebuilds or verifies a ranking.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime, timedelta
from typing import Any

import asyncpg
import msgspec

from scoreboard.errors import Inapplicable, NotFound, Unavailable
from scoreboard.model import (
    ALL,
    Cursor,
    Entry,
    Head,
    Page,
    Period,
    Position,
    Scored,
    Standing,
    Standings,
    Ties,
    format_time,
    parse_periods,
    rank_entries,
    slice_around,
)
from scoreboard.players import Players
from scoreboard.tasks import read_ahead

CURSOR_ROWS = 2_000
"""Rows of one slice of a stream: what becomes of them may hold the event loop for some 5 ms."""
EVER = "-infinity"
"""The period of window ``all``."""
PAST_EVENTS_MAX = 1_000_000
"""Events looked through for a board of the past: 1.3 to 1.7 s forwards where each is another user's."""
BACK_COST = 4
"""Going back over an event is counted as going forward over so many: what its user had before is looked up."""


class Total(msgspec.Struct, frozen=True):
    """A user's total, and how it came to be."""

    score: int
    submissions: int
    first_at: datetime
    last_at: datetime


class View(msgspec.Struct, frozen=True):
    """A window of a board in one of its periods, at one moment."""

    board: str
    window: str
    first_day: str
    position: Position
    ties: Ties
    total: int
    period: Period | None

    @property
    def key(self) -> tuple[str, str, str]:
        """What the statements take to find its totals."""
        return self.board, self.window, self.first_day


class Hidden(msgspec.Struct, frozen=True):
    """A user who is kept out of a window's ranking: what the user has there, beside what it shows."""

    view: View
    name: str | None
    total: Total


class Layout(msgspec.Struct, frozen=True):
    """What of a board is ranked and how, at one moment: its ties, and the current periods of its windows."""

    head: Head
    ties: Ties
    periods: tuple[Period, ...]


class Totals(Players):
    """Reads the totals. Methods raise NotFound if there is no such board, and Invalid if it has no such window."""

    async def read_page(
        self,
        board: str,
        window: str = ALL,
        first_day: str | None = None,
        *,
        offset: int = 0,
        limit: int,
        after: Cursor | None = None,
    ) -> Page:
        """A page, all at one moment; ``after`` wins over ``offset``.

        :param first_day: of the period, by default the current one.
        """
        async with self._snapshot() as connection:
            view = await self._view(connection, board, window, first_day)
            return await self._page(connection, view, offset=offset, limit=limit, after=after)

    async def _page(self, connection: Any, view: View, *, offset: int, limit: int, after: Cursor | None) -> Page:
        is_first = view.ties == "first"
        if after is None:
            name = "read_page_first" if is_first else "read_page"
            rows = await self._run(connection, name, *view.key, offset, limit + 1)
        elif is_first:
            place = (after.score, after.reached)
            rows = await self._run(connection, "read_page_first_after", *view.key, *place, limit + 1)
        else:
            place_by_id = (after.score, after.user_id)
            rows = await self._run(connection, "read_page_after", *view.key, *place_by_id, limit + 1)
        return await self._rank(connection, view, rows[:limit], more=len(rows) > limit)

    async def read_around(
        self, board: str, user_id: str, radius: int, window: str = ALL, first_day: str | None = None
    ) -> Page | None:
        """A user with ``radius`` neighbours on each side, all at one moment, or None when the user has no score."""
        async with self._snapshot() as connection:
            view = await self._view(connection, board, window, first_day)
            return await self._around(connection, view, user_id, radius)

    async def _around(self, connection: Any, view: View, user_id: str, radius: int) -> Page | None:
        total = await self._one(connection, "read_total", *view.key, user_id)
        if total is None:
            return None
        place, _ = await self._place(connection, view, Scored(user_id, total["score"], None, total["reached_seq"]))
        start, size = slice_around(place, radius, view.total)
        name = "read_page_first" if view.ties == "first" else "read_page"
        rows = await self._run(connection, name, *view.key, start, size)
        return await self._rank(connection, view, rows, more=start + size < view.total)

    async def read_standings(
        self, board: str, users: Sequence[str], window: str = ALL, first_day: str | None = None
    ) -> Standings:
        """Users' places, all at one moment."""
        async with self._snapshot() as connection:
            view = await self._view(connection, board, window, first_day)
            return await self._standings(connection, view, users)

    async def _standings(self, connection: Any, view: View, users: Sequence[str]) -> Standings:
        rows = await self._run(connection, "read_standings", *view.key, view.ties, list(users))
        standings = tuple(
            Standing(row["score"], _rank_of(view.ties, row) + 1, view.total - row["at_least"], row["name"])
            if row["score"] is not None
            else None
            for row in rows
        )
        return Standings(view.position, view.total, standings, view.period)

    async def read_total(
        self, board: str, user_id: str, window: str = ALL, first_day: str | None = None
    ) -> Total | None:
        """A user's total, or None when the user has no score or is hidden."""
        async with self._snapshot() as connection:
            view = await self._view(connection, board, window, first_day)
            row = await self._one(connection, "read_total", *view.key, user_id)
        return _total(row) if row is not None else None

    async def read_hidden(
        self, board: str, user_id: str, window: str = ALL, first_day: str | None = None
    ) -> Hidden | None:
        """What a hidden user has, or None when no hidden user of that id has a score."""
        async with self._snapshot() as connection:
            view = await self._view(connection, board, window, first_day)
            row = await self._one(connection, "read_hidden", *view.key, user_id)
        return Hidden(view, row["name"], _total(row)) if row is not None else None

    async def _view(self, connection: Any, board: str, window: str, first_day: str | None) -> View:
        row = await self._one(connection, "read_view", board, window, first_day)
        if row is None:
            raise _no_board(board)
        if window not in row["windows"]:
            if window in row["filling"]:
                raise Unavailable(
                    f"the window {window!r} of the board {board!r} is being filled from its history; ask again later"
                )
            has = ", ".join(row["windows"])
            raise Inapplicable("window", f"the board {board!r} has no window {window!r}; it has {has}")
        if first_day is not None:
            check_first_day(window, first_day)
        period = Period(window, row["period"], row["ends_ms"]) if window != ALL else None
        position = Position(row["epoch"], row["seq"])
        return View(board, window, row["period"], position, row["ties"], row["players"], period)

    async def _rank(self, connection: Any, view: View, rows: Sequence[asyncpg.Record], *, more: bool) -> Page:
        is_first = view.ties == "first"  # elsewhere no place depends on when it was reached
        scores = [_scored(row, is_first=is_first) for row in rows]
        place, rank = await self._place(connection, view, scores[0]) if scores else (0, 0)
        entries = rank_entries(scores, view.ties, offset=place, first_rank=rank)
        return Page(view.position, view.total, entries, more, view.ties, view.period)

    async def _place(self, connection: Any, view: View, entry: Scored) -> tuple[int, int]:
        """The 0-based place of an entry, and its rank."""
        place = (entry.score, entry.user_id, entry.reached)
        row = await self._one(connection, "count_place", *view.key, view.ties, *place)
        assert row is not None  # a count always answers
        return row["above"] + row["tied"], _rank_of(view.ties, row) + 1

    # -- for whoever makes a ranking or verifies it

    @asynccontextmanager
    async def stream_totals(self, board: str) -> AsyncIterator[tuple[Layout, AsyncIterator[tuple[str, list[Scored]]]]]:
        """The board's layout and all who are shown, in slices of CURSOR_ROWS, each with its window; in one snapshot.

        First those of ``all``, in the order of their scores, then those of each current period. The next slice is under
        way while the last one is used.
        """
        async with self._snapshot(self._repairs) as connection:
            layout = await self._layout(connection, board)

            async def slices() -> AsyncIterator[tuple[str, list[Scored]]]:
                is_first = layout.ties == "first"
                text = self._queries["stream_totals_first" if is_first else "stream_totals"].text
                keys = [(ALL, EVER), *((period.window, period.first_day) for period in layout.periods)]
                for window, first_day in keys:
                    cursor = await connection.cursor(text, board, window, first_day)
                    while rows := await cursor.fetch(CURSOR_ROWS):
                        yield window, [_scored(row, is_first=is_first) for row in rows]

            async with read_ahead(slices()) as ahead:
                yield layout, ahead

    async def _layout(self, connection: Any, board: str) -> Layout:
        row = await self._one(connection, "read_layout", board)
        if row is None:
            raise _no_board(board)
        at = format_time(row["last_at"]) if row["seq"] else ""
        periods = parse_periods(row["periods"]) if row["periods"] else ()
        return Layout(Head(row["epoch"], row["seq"], at), row["ties"], periods)

    async def read_layout(self, board: str) -> Layout:
        """What of a board is ranked and how, now."""
        async with self._snapshot() as connection:
            return await self._layout(connection, board)

    async def read_scores_at(self, board: str, users: Sequence[str], seq: int) -> dict[str, int]:
        """The scores that users had at a seq; users without an event by then, or hidden then, are left out."""
        rows = await self._fetch(self._repairs, "read_scores_at", board, list(users), seq)
        return {row["user_id"]: row["score"] for row in rows}

    # -- the past

    async def _past_page(self, connection: Any, board: str, found: asyncpg.Record, *, offset: int, limit: int) -> Page:
        seq, page = found["seq"], (found["seq"], found["ties"], offset, limit + 1)
        forward = seq
        back = BACK_COST * (found["head"] - seq) + min(offset + limit, found["players"])
        if min(forward, back) > PAST_EVENTS_MAX:
            raise _too_far(board, found, offset)
        await self._run(connection, "prefer_indexes")
        if forward <= back:
            rows = await self._run(connection, "read_past_from_start", board, *page)
        else:
            rows = await self._run(connection, "read_past_from_end", board, *page, PAST_EVENTS_MAX)
            if not rows[0]["is_known"]:
                raise _too_far(board, found, offset)
        return ranked_page(Position(found["epoch"], seq), found["ties"], rows, limit)

    async def _find_position(self, connection: Any, board: str, as_of: int | datetime) -> asyncpg.Record:
        named = (as_of, None) if isinstance(as_of, int) else (None, as_of)
        return check_position(board, as_of, await self._one(connection, "find_position", board, *named))


def check_position(board: str, as_of: int | datetime, found: asyncpg.Record | None) -> asyncpg.Record:
    """The row of ``find_position``.

    :raises NotFound, Invalid: if there is no such board, or it has not come so far.
    """
    if found is None:
        raise _no_board(board)
    if not found["is_past"]:
        asked = as_of if isinstance(as_of, int) else as_of.isoformat()
        raise Inapplicable("asOf", f"{asked} is in the future: the board {board!r} is at seq {found['head']}")
    return found


def check_first_day(window: str, first_day: str) -> None:
    """:raises Invalid: if no period of the window begins on that day."""
    day = date.fromisoformat(first_day)
    if window == "week" and day.isoweekday() != 1:
        monday = day - timedelta(days=min(day.isoweekday() - 1, day.toordinal() - 1))
        raise Inapplicable(
            "period", f"{first_day!r} is not the first day of a week, which is a Monday, such as {monday}"
        )
    if window == "month" and day.day != 1:
        raise Inapplicable("period", f"{first_day!r} is not the first day of a month, such as {day.replace(day=1)}")


def ranked_page(
    position: Position, ties: Ties, rows: Sequence[asyncpg.Record], limit: int, period: Period | None = None
) -> Page:
    """A page of rows that come ranked: one more than the limit if more follow, and one with nulls if there is none."""
    found = [row for row in rows if row["user_id"] is not None]
    entries = tuple(
        Entry(row["rank"], row["user_id"], row["score"], row["name"], row.get("reached_seq", 0))
        for row in found[:limit]
    )
    return Page(position, rows[0]["total"], entries, len(found) > limit, ties, period)


def _total(row: asyncpg.Record) -> Total:
    return Total(row["score"], row["submissions"], row["first_at"], row["last_at"])


def _no_board(board: str) -> NotFound:
    return NotFound(f"there is no board {board!r}")


def _too_far(board: str, found: asyncpg.Record, offset: int) -> Inapplicable:
    seq, head = found["seq"], found["head"]
    return Inapplicable(
        "asOf",
        f"seq {seq} of the board {board!r} is {seq} events from its start and {head - seq} from its end, at offset "
        f"{offset}; at most {PAST_EVENTS_MAX} events are looked through, and one from the end counts as {BACK_COST}",
    )


def _scored(row: asyncpg.Record, *, is_first: bool) -> Scored:
    return Scored(row["user_id"], row["score"], row["name"], row["reached_seq"] if is_first else 0)


def _rank_of(ties: Ties, row: asyncpg.Record) -> int:
    """The 0-based rank of a place whose entries before it were counted."""
    if ties == "dense":
        return int(row["levels"])
    return int(row["above"] + (row["tied"] if ties == "first" else 0))
