"""Pages: the encoded bodies of leaderboard answers, built once per change and shared by everyone who asks.

While a board's feed is right (its subscription is proven to deliver), the feed's seq is the board's, so a page
encoded at that seq is right too, and the top ten needs no store at all. Otherwise each page is read anew.
"""

import asyncio
import base64
import binascii
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson

from scoreboard.board_log import BoardLog
from scoreboard.errors import Invalid, NotFound
from scoreboard.feed import Feed
from scoreboard.ledger import Ledger
from scoreboard.metrics import Metrics
from scoreboard.model import SCORE_MAX, TOP_SIZE, Page, Position, Standing, format_time, rank_shared, validate_user_id
from scoreboard.reads import Reads
from scoreboard.repair import Repair

PAGES_PER_BOARD_MAX = 256
CURSOR_CHARS_MAX = 512

Key = tuple[int, int, tuple[int, str] | None]


class Answer(msgspec.Struct, frozen=True):
    """An encoded body and its strong entity tag, quotes included."""

    body: bytes
    etag: str


class Pages:
    """Answers what is read of boards."""

    def __init__(self, ledger: Ledger, reads: Reads, feed: Feed, repair: Repair, metrics: Metrics) -> None:
        self._ledger = ledger
        self._reads = reads
        self._feed = feed
        self._repair = repair
        self._count_ready = metrics.tally(metrics.pages.labels("ready"))
        self._count_feed = metrics.tally(metrics.pages.labels("feed"))
        self._reading: dict[tuple[str, Key], asyncio.Task[Page]] = {}

    async def read_leaderboard(
        self, board: str, *, limit: int, offset: int, after: tuple[int, str] | None = None
    ) -> Answer:
        """A page of window ``all``.

        :param limit: 1 to PAGE_SIZE_MAX entries.
        :param offset: 0-based place of the first entry; ignored with ``after``.
        :param after: score and user id of the entry before the page, from a cursor.
        :raises NotFound: if there is no such board.
        :raises Unavailable: if no store can tell.
        """
        key: Key = (limit, offset, after)
        answer = self.ready(board, key)
        if answer is not None:
            return answer
        feed = self._current_feed(board)
        if feed is None:
            await self._feed.open(board)
            answer = self.ready(board, key)
            if answer is not None:
                return answer
            feed = self._current_feed(board)
        page = await self._read(board, key)
        answer = encode_page(board, page)
        if feed is not None:
            _keep(feed, key, page, answer)
        return answer

    def ready(self, board: str, key: Key) -> Answer | None:
        """The page if it is known to be right and no store has to be asked for it.

        :param key: limit, offset and after, as for :meth:`read_leaderboard`.
        """
        self._repair.use(board)
        feed = self._current_feed(board)
        if feed is None:
            return None
        answer = feed.pages.get(key)
        if isinstance(answer, Answer):
            self._count_ready.count += 1
            return answer
        limit, offset, after = key
        if offset or after is not None or limit > TOP_SIZE:
            return None
        self._count_feed.count += 1
        page = top_page(feed, limit)
        answer = encode_page(board, page)
        self._reads.tell(board, page.position)
        _keep(feed, key, page, answer)
        return answer

    async def read_around(self, board: str, user_id: str, radius: int) -> dict[str, Any]:
        """A user with ``radius`` neighbours above and below; at an edge the other side gives more.

        :raises NotFound: if there is no such board, or the user has no score on it.
        :raises Unavailable: if no store can tell.
        """
        self._repair.use(board)
        page = await self._reads.read_around(board, user_id, radius)
        if page is None:
            await self._ledger.read_board(board)
            raise NotFound(f"user {user_id!r} has no score on board {board!r}")
        entries = [(entry.rank, entry.user_id, entry.score) for entry in page.entries]
        return render_entries(board, page.position, page.total, entries)

    async def read_users(self, board: str, users: Sequence[str]) -> dict[str, Any]:
        """Some users, in the order asked; without rank and score where they have none.

        :raises NotFound: if there is no such board.
        :raises Unavailable: if no store can tell.
        """
        self._repair.use(board)
        found = await self._reads.read_standings(board, users)
        entries = [
            (place.rank, user, place.score) if place is not None else (None, user, None)
            for user, place in zip(users, found.users, strict=True)
        ]
        return render_entries(board, found.position, found.total, entries)

    async def read_stats(self, board: str, user_id: str) -> dict[str, Any]:
        """A user's place and totals.

        :raises NotFound: if there is no such board, or the user has no score on it.
        :raises Unavailable: if PostgreSQL does not answer.
        """
        self._repair.use(board)
        total = await self._ledger.read_total(board, user_id)
        if total is None:
            await self._ledger.read_board(board)
            raise NotFound(f"user {user_id!r} has no score on board {board!r}")
        standing = await self._reads.read_standing(board, user_id)
        if standing is None:
            raise NotFound(f"user {user_id!r} has no score on board {board!r}")
        return {
            "userId": user_id,
            "displayName": None,
            "board": board,
            "window": "all",
            "score": standing.score,
            "rank": standing.rank,
            "total": standing.total,
            "percentile": percentile(standing),
            "submissions": total.submissions,
            "firstAt": format_time(total.first_at),
            "lastAt": format_time(total.last_at),
            "seq": standing.position.seq,
        }

    def _current_feed(self, board: str) -> BoardLog | None:
        """The board's feed if it is right and has all that this server has told."""
        feed = self._feed.get(board)
        return feed if feed is not None and self._reads.is_current(board, feed.position) else None

    async def _read(self, board: str, key: Key) -> Page:
        """Read a page, once for all who ask for it at the same time.

        Who joins a read under way may have been told of something since it began, so its page is checked.
        """
        task = self._reading.get((board, key))
        if task is not None:
            needed = self._reads.needed(board)
            page = await asyncio.shield(task)
            if needed.met_by(page.position):
                return page
        limit, offset, after = key
        task = asyncio.create_task(self._reads.read_page(board, offset=offset, limit=limit, after=after))
        self._reading[board, key] = task
        task.add_done_callback(lambda done: self._forget(board, key, done))
        return await asyncio.shield(task)

    def _forget(self, board: str, key: Key, task: "asyncio.Task[Page]") -> None:
        if self._reading.get((board, key)) is task:
            del self._reading[board, key]


def _keep(feed: BoardLog, key: Key, page: Page, answer: Answer) -> None:
    """Let others have a page that was just encoded, as long as it is the board's."""
    if page.position == feed.position and len(feed.pages) < PAGES_PER_BOARD_MAX:
        feed.pages[key] = answer


def top_page(feed: BoardLog, limit: int) -> Page:
    """The first entries as the feed knows them."""
    entries = rank_shared(feed.top[:limit], offset=0, first_rank=1)
    return Page(feed.position, feed.total, entries, more=feed.total > len(entries))


def encode_page(board: str, page: Page) -> Answer:
    """The body of a leaderboard answer."""
    entries = [(entry.rank, entry.user_id, entry.score) for entry in page.entries]
    following = encode_cursor(page.entries[-1].score, page.entries[-1].user_id) if page.more else None
    body = render_entries(board, page.position, page.total, entries) | {"next": following}
    return Answer(orjson.dumps(body), f'"{page.position}"')


def render_entries(
    board: str, position: Position, total: int, entries: Sequence[tuple[int | None, str, int | None]]
) -> dict[str, Any]:
    """Entries of a board as rank, user id and score, with what they are a part of."""
    return {
        "board": board,
        "window": "all",
        "leaderboard": [
            {"rank": rank, "userId": user_id, "displayName": None, "score": score} for rank, user_id, score in entries
        ],
        "total": total,
        "seq": position.seq,
        "epoch": position.epoch,
    }


def percentile(standing: Standing) -> float:
    """100 times the share of users with a strictly lower score."""
    return 100 * standing.below / standing.total if standing.total else 0.0


def encode_cursor(score: int, user_id: str) -> str:
    """The place after an entry, for the next page."""
    return base64.urlsafe_b64encode(orjson.dumps([score, user_id])).rstrip(b"=").decode()


def decode_cursor(cursor: str) -> tuple[int, str]:
    """Score and user id of the entry before the page.

    :raises Invalid: if the cursor is not one of ours.
    """
    try:
        if len(cursor) > CURSOR_CHARS_MAX:
            raise ValueError("too long")
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        score, user_id = msgspec.json.decode(
            base64.b64decode(padded, altchars=b"-_", validate=True), type=tuple[int, str]
        )
    except (ValueError, binascii.Error, RecursionError) as exc:
        raise Invalid("cursor", f"{cursor[:80]!r} is not a cursor of a leaderboard answer") from exc
    if abs(score) > SCORE_MAX or validate_user_id(user_id):
        raise Invalid("cursor", f"{cursor[:80]!r} is not a cursor of a leaderboard answer")
    return score, user_id
