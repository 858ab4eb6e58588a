"""Pages: the encoded bodies of leaderboard answers, built once per change and shared by everyone who asks.

While a board's feed is right (its subscription is proven to deliver), the feed's seq is the board's, so a page
encoded at that seq is right too, and the top ten needs no store at all. Otherwise each page is read anew.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Any

import msgspec
import orjson

from scoreboard.board_log import BoardLog
from scoreboard.costly import Costly
from scoreboard.cursors import encode_cursor, stale_cursor, tell_origin
from scoreboard.errors import NotFound, Unavailable
from scoreboard.feed import Feed
from scoreboard.frames import render_entry
from scoreboard.groups import no_place
from scoreboard.ledger import Ledger
from scoreboard.metrics import Metrics
from scoreboard.model import (
    ALL,
    TOP_SIZE,
    Cursor,
    Page,
    Period,
    Position,
    Standing,
    Standings,
    format_time,
    rank_entries,
)
from scoreboard.reads import Reads
from scoreboard.repair import Repair
from scoreboard.stamps import Subject

PAGES_PER_BOARD_MAX = 256
DIGEST_BYTES = 12
"""Of a page's body, in the tag of a page of the past."""

Key = tuple[int, int, Cursor | None]
"""Limit, offset, and the place of the entry before the page, which wins over the offset."""


class Answer(msgspec.Struct, frozen=True):
    """An encoded body and its strong entity tag, quotes included."""

    body: bytes
    etag: str


class Pages:
    """Answers what is read of boards."""

    def __init__(
        self, ledger: Ledger, reads: Reads, costly: Costly, feed: Feed, repair: Repair, metrics: Metrics
    ) -> None:
        self._ledger = ledger
        self._reads = reads
        self._costly = costly
        self._feed = feed
        self._repair = repair
        self._count_ready = metrics.tally(metrics.pages.labels("ready"))
        self._count_feed = metrics.tally(metrics.pages.labels("feed"))
        self._reading: dict[tuple[str, str, Key], asyncio.Task[Page]] = {}

    async def read_leaderboard(self, board: str, key: Key, window: str = ALL, first_day: str | None = None) -> Answer:
        """A page of a window.

        :param key: a limit of 1 to PAGE_SIZE_MAX entries.
        :param first_day: of a period of the window, by default of the current one.
        :raises NotFound, Invalid: if there is no such board, or it has no such window.
        :raises Unavailable: if no store can tell.
        """
        if first_day is not None:
            return await self._read_period(board, key, window, first_day)
        answer = self.ready(board, key, window)
        if answer is not None:
            return answer
        log = self._current_log(board, window)
        if log is None:
            await self._feed.open(board, window)
            answer = self.ready(board, key, window)
            if answer is not None:
                return answer
            log = self._current_log(board, window)
        page = await self._read(board, key, window)
        await self._check_cursor(board, page, key[2])
        answer = encode_page(board, page)
        if log is not None:
            _keep(log, key, page, answer)
        return answer

    async def _read_period(self, board: str, key: Key, window: str, first_day: str) -> Answer:
        log = self._current_log(board, window)
        if log is not None and log.period is not None and log.period.first_day == first_day:
            answer = self.ready(board, key, window)
            if answer is not None:
                return answer
        limit, offset, after = key
        self._repair.use(board)
        page = await self._reads.read_page(board, window, first_day, offset=offset, limit=limit, after=after)
        await self._check_cursor(board, page, after)
        return encode_page(board, page)

    def ready(self, board: str, key: Key, window: str = ALL) -> Answer | None:
        """The page if it is known to be right and no store has to be asked for it."""
        self._repair.use(board)
        log = self._current_log(board, window)
        if log is None:
            return None
        answer = log.pages.get(key)
        if isinstance(answer, Answer):
            self._count_ready.count += 1
            return answer
        limit, offset, after = key
        if offset or after is not None or limit > TOP_SIZE:
            return None
        if log.ties == "first" and log.total > limit:
            return None  # the next page begins where the last entry was reached, which the top ten does not tell
        self._count_feed.count += 1
        page = top_page(log, limit)
        answer = encode_page(board, page)
        self._reads.tell(board, page.position)
        _keep(log, key, page, answer)
        return answer

    async def read_around(
        self,
        board: str,
        user_id: str,
        radius: int,
        window: str = ALL,
        first_day: str | None = None,
        group: str | None = None,
    ) -> dict[str, Any]:
        """A user with ``radius`` neighbours above and below; at an edge the other side gives more.

        :param group: ranks among its members.
        :raises NotFound: if there is no such board or group, or the user has no score on it or is not in it.
        :raises Invalid: if the board has no such window.
        :raises Unavailable: if no store can tell.
        """
        self._repair.use(board)
        if group is None:
            page = await self._reads.read_around(board, user_id, radius, window, first_day)
        else:
            page = await self._costly.read_around(Subject(board, window, first_day, group), user_id, radius)
        if page is None:
            raise _no_score(board, user_id, group)
        self._reads.tell(board, page.position)
        return render_page(board, page) | _render_group(group)

    async def read_users(
        self,
        board: str,
        users: Sequence[str],
        window: str = ALL,
        first_day: str | None = None,
        group: str | None = None,
    ) -> dict[str, Any]:
        """Some users, in the order asked; without rank and score where they have none, or are not in the group.

        :raises NotFound: if there is no such board or group.
        :raises Invalid: if the board has no such window.
        :raises Unavailable: if no store can tell.
        """
        self._repair.use(board)
        if group is None:
            found = await self._reads.read_standings(board, users, window, first_day)
        else:
            found, _ = await self._read_members(board, users, window, first_day, group)
        entries = [
            render_entry(place.rank, user, place.score, place.name)
            if place is not None
            else render_entry(None, user, None, None)
            for user, place in zip(users, found.users, strict=True)
        ]
        return render_board(board, found.period, found.position, found.total, entries) | _render_group(group)

    async def read_stats(
        self, board: str, user_id: str, window: str = ALL, first_day: str | None = None, group: str | None = None
    ) -> dict[str, Any]:
        """A user's place and totals.

        :param group: the place is that among its members.
        :raises NotFound: if there is no such board or group, or the user has no score on it or is not in it.
        :raises Invalid: if the board has no such window.
        :raises Unavailable: if PostgreSQL does not answer.
        """
        self._repair.use(board)
        found: Standings | None
        if group is None:
            total = await self._ledger.read_total(board, user_id, window, first_day)
            if total is None:
                raise _no_score(board, user_id, group)
            found = await self._reads.read_standing(board, user_id, window, first_day)
        else:
            found, (is_member,) = await self._read_members(board, [user_id], window, first_day, group)
            if not is_member:
                raise _no_score(board, user_id, group)
            total = await self._ledger.read_total(board, user_id, window, first_day)
        standing = found.users[0] if found is not None else None
        if found is None or standing is None or total is None:
            raise _no_score(board, user_id, group)
        return {
            "userId": user_id,
            "displayName": standing.name,
            "board": board,
            **render_window(found.period),
            "score": standing.score,
            "rank": standing.rank,
            "total": found.total,
            "percentile": percentile(standing, found.total),
            "submissions": total.submissions,
            "firstAt": format_time(total.first_at),
            "lastAt": format_time(total.last_at),
            "seq": found.position.seq,
            **_render_group(group),
        }

    async def read_hidden_stats(
        self, board: str, user_id: str, window: str = ALL, first_day: str | None = None, group: str | None = None
    ) -> dict[str, Any]:
        """The totals of a user who is kept out of the ranking, and so has no place in it.

        :raises NotFound: if there is no such board, or no hidden user of that id has a score on it.
        :raises Invalid: if the board has no such window.
        :raises Unavailable: if PostgreSQL does not answer.
        """
        found = await self._ledger.read_hidden(board, user_id, window, first_day)
        if found is None:
            raise _no_score(board, user_id, group)
        total, ranked = found.total, found.view.total
        if group is not None:
            within, (is_member,) = await self._read_members(board, [user_id], window, first_day, group)
            if not is_member:
                raise _no_score(board, user_id, group)
            ranked = within.total
        return {
            "userId": user_id,
            "displayName": found.name,
            "board": board,
            **render_window(found.view.period),
            "score": total.score,
            "rank": None,
            "total": ranked,
            "percentile": None,
            "submissions": total.submissions,
            "firstAt": format_time(total.first_at),
            "lastAt": format_time(total.last_at),
            "seq": found.view.position.seq,
            "hidden": True,
            **_render_group(group),
        }

    async def _read_members(
        self, board: str, users: Sequence[str], window: str, first_day: str | None, group: str
    ) -> tuple[Standings, tuple[bool, ...]]:
        """Users' places among the members of a group, and whether each is one."""
        found = await self._costly.read_standings(Subject(board, window, first_day, group), users)
        self._reads.tell(board, found[0].position)
        return found

    async def read_group(
        self, board: str, group: str, key: Key, window: str = ALL, first_day: str | None = None
    ) -> Answer:
        """A page of a group's members, ranked among themselves, as they are now.

        :raises NotFound, Invalid: if there is no such board or group, or the board has no such window.
        :raises Unavailable: if PostgreSQL does not answer.
        """
        self._repair.use(board)
        limit, offset, after = key
        subject = Subject(board, window, first_day, group)
        page, revision = await self._costly.read_page(subject, offset=offset, limit=limit, after=after)
        await self._check_cursor(board, page, after, group)
        self._reads.tell(board, page.position)
        body = orjson.dumps(_render_whole(board, page, group) | _render_group(group))
        return Answer(body, f'"{_name_state(page)}-{revision}"')

    async def read_past(self, board: str, as_of: int | datetime, *, offset: int, limit: int) -> Answer:
        """A page of a board as it stood at a seq or a time.

        :raises NotFound, Invalid: if there is no such board, or it has not come so far, or the way there is too long.
        :raises Overloaded: if too many ask for what is costly.
        :raises Unavailable: if PostgreSQL does not answer.
        """
        self._repair.use(board)
        page = await self._costly.read_past_page(board, as_of, offset=offset, limit=limit)
        self._reads.tell(board, page.position)
        shown = as_of if isinstance(as_of, int) else format_time(as_of)
        body = orjson.dumps(render_page(board, page) | {"next": None, "asOf": shown})
        # The past does not change, but for its last moments, of which events are still being committed; who may be
        # shown does, and names and ties are those of now.
        digest = blake2b(body, digest_size=DIGEST_BYTES).hexdigest()
        return Answer(body, f'"{page.position}-{digest}"')

    async def _check_cursor(self, board: str, page: Page, after: Cursor | None, group: str | None = None) -> None:
        """:raises Invalid: if a page was asked for by a cursor of another one, or of before the settings changed."""
        if after is None:
            return
        if after.origin != tell_origin(board, page, group):
            raise stale_cursor()
        try:
            changed_at = await self._ledger.read_settings_seq(board)
        except Unavailable:
            return  # where settings can't be read, they can't be changed either
        if after.seq < changed_at:
            raise stale_cursor()

    def _current_log(self, board: str, window: str) -> BoardLog | None:
        """The window's log if it is right and has all that this server has told."""
        log = self._feed.get(board, window)
        return log if log is not None and self._reads.is_current(board, log.position) else None

    async def _read(self, board: str, key: Key, window: str) -> Page:
        """Read a page, once for all who ask for it at the same time.

        Who joins a read under way may have been told of something since it began, so its page is checked.
        """
        wanted = (board, window, key)
        task = self._reading.get(wanted)
        if task is not None:
            needed = self._reads.needed(board)
            page = await asyncio.shield(task)
            if needed.met_by(page.position):
                return page
        limit, offset, after = key
        task = asyncio.create_task(self._reads.read_page(board, window, offset=offset, limit=limit, after=after))
        self._reading[wanted] = task
        task.add_done_callback(lambda done: self._forget(wanted, done))
        return await asyncio.shield(task)

    def _forget(self, wanted: tuple[str, str, Key], task: "asyncio.Task[Page]") -> None:
        if self._reading.get(wanted) is task:
            del self._reading[wanted]


def _no_score(board: str, user_id: str, group: str | None) -> NotFound:
    if group is not None:
        return no_place(board, group, user_id)
    return NotFound(f"the user {user_id!r} has no score on the board {board!r}")


def _keep(log: BoardLog, key: Key, page: Page, answer: Answer) -> None:
    """Let others have a page that was just encoded, as long as it is the window's."""
    if page.position == log.position and page.period == log.period and len(log.pages) < PAGES_PER_BOARD_MAX:
        log.pages[key] = answer


def top_page(log: BoardLog, limit: int) -> Page:
    """The first entries as the feed knows them."""
    entries = rank_entries(log.top[:limit], log.ties, offset=0, first_rank=1)
    return Page(log.position, log.total, entries, log.total > len(entries), log.ties, log.period)


def encode_page(board: str, page: Page) -> Answer:
    """The body of a leaderboard answer, and its tag, which names the period too."""
    return Answer(orjson.dumps(_render_whole(board, page)), f'"{_name_state(page)}"')


def _render_whole(board: str, page: Page, group: str | None = None) -> dict[str, Any]:
    following = encode_cursor(board, page, group) if page.more and page.entries else None
    return render_page(board, page) | {"next": following}


def _name_state(page: Page) -> str:
    return f"{page.position}-{page.period.window}-{page.period.first_day}" if page.period else str(page.position)


def _render_group(group: str | None) -> dict[str, str]:
    """Which group is ranked, if any."""
    return {"group": group} if group is not None else {}


def render_page(board: str, page: Page) -> dict[str, Any]:
    """A page as answers show it."""
    entries = [render_entry(entry.rank, entry.user_id, entry.score, entry.name) for entry in page.entries]
    return render_board(board, page.period, page.position, page.total, entries)


def render_window(period: Period | None) -> dict[str, str]:
    """Which window is shown, and which period of it."""
    return {"window": period.window, "period": period.first_day} if period is not None else {"window": ALL}


def render_board(
    board: str, period: Period | None, position: Position, total: int, entries: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """Entries of a board with what they are a part of."""
    return {
        "board": board,
        **render_window(period),
        "leaderboard": entries,
        "total": total,
        "seq": position.seq,
        "epoch": position.epoch,
    }


def percentile(standing: Standing, total: int) -> float:
    """100 times the share of users with a strictly lower score."""
    return 100 * standing.below / total if total else 0.0
