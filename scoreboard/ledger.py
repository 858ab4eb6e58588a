"""PostgreSQL: one method per file in ``sql/queries``, and the one place that knows its errors.

Three pools: submissions never wait behind reads, nor repair behind either. Every acquire and every statement has a
deadline, here and in the server: what this process can't end any more, because it was killed or cut off, ends there
and lets its locks go. A cancelled or timed-out commit is *unknown*, not rolled back, so its caller gets Unavailable
and repair finds what did commit.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import asyncpg
import msgspec

from scoreboard.contracts import Query, load_queries
from scoreboard.errors import NotFound, ScoreboardError, Unavailable
from scoreboard.model import (
    BOARDS_LISTED_MAX,
    Action,
    Board,
    Entry,
    Event,
    Head,
    Page,
    Position,
    Ruling,
    Standing,
    Standings,
    Submission,
    format_time,
    rank_shared,
    slice_around,
)
from scoreboard.tasks import read_ahead

WRITE_POOL_MAX = 4
READ_POOL_MAX = 8
REPAIR_POOL_MAX = 3
POOLS_MAX = WRITE_POOL_MAX + READ_POOL_MAX + REPAIR_POOL_MAX
"""Connections of one process."""
ACQUIRE_TIMEOUT_S = 1.0
STATEMENT_TIMEOUT_S = 5.0
SERVER_GRACE_S = 1.0
"""The server ends a statement this long after we gave it up, if our cancel request did not reach it."""
IDLE_TRANSACTION_S = 60
TRANSACTION_S = 8
"""A submission whose transaction the server still holds open after so long was cut off in the middle of its message.
PostgreSQL 17 and newer end it; older ones notice a lost peer after KEEPALIVE_S, and a silent one not at all."""
KEEPALIVE_S = 5
CURSOR_ROWS = 2_000
"""Rows of one slice of a stream: what becomes of them may hold the event loop for some 5 ms."""

# SQLSTATE classes and codes that mean "not now": connection, resources, operator intervention, system error;
# a read-only standby, a transaction ended for being idle, a lock that was not to be had.
_UNAVAILABLE_CLASSES = ("08", "53", "57", "58")
_UNAVAILABLE_CODES = ("25006", "25P03", "55P03")
# Undone because of another transaction: serialization failure, deadlock. Or by a timeout of the server's: we give up
# before each of them, so one that we hear of came early. PostgreSQL measures them by the wall clock, and an hour
# forward ends every statement under way.
_ROLLED_BACK_CODES = ("40001", "40P01", "57014", "25P04")


class BatchRefused(Exception):
    """A submission made the whole batch fail; nothing was recorded. Repeat them one by one."""


class RolledBack(Unavailable):
    """The transaction was undone, and not for its own sake; nothing was recorded. It may be repeated at once."""


class Total(msgspec.Struct, frozen=True):
    """A user's total on a board, with the board's position at the same moment."""

    score: int
    submissions: int
    first_at: datetime
    last_at: datetime
    display_name: str | None
    position: Position
    players: int


class Ledger:
    """The source of truth. Every method raises Unavailable when PostgreSQL does not answer."""

    def __init__(self, writes: asyncpg.Pool, reads: asyncpg.Pool, repairs: asyncpg.Pool) -> None:
        self._writes = writes
        self._reads = reads
        self._repairs = repairs
        self._queries = load_queries()

    @classmethod
    async def open(cls, database_url: str, *, statement_timeout_s: float = STATEMENT_TIMEOUT_S) -> "Ledger":
        """Open the pools with one connection each.

        :raises Unavailable: if PostgreSQL can't be reached.
        """
        # What a promise hangs on is set here, whatever the database's or the role's defaults are.
        settings = {
            "application_name": "scoreboard",
            "jit": "off",
            "synchronous_commit": "on",
            "default_transaction_isolation": "read committed",
            "statement_timeout": f"{statement_timeout_s + SERVER_GRACE_S:.0f}s",
            "idle_in_transaction_session_timeout": f"{IDLE_TRANSACTION_S}s",
            "tcp_keepalives_idle": str(KEEPALIVE_S),
            "tcp_keepalives_interval": str(KEEPALIVE_S),
            "tcp_keepalives_count": "2",
        }
        pools: list[asyncpg.Pool] = []
        async with _known_errors():
            try:
                for size, prepare in (
                    (WRITE_POOL_MAX, _bound_transactions),
                    (READ_POOL_MAX, None),
                    (REPAIR_POOL_MAX, None),
                ):
                    pool = asyncpg.create_pool(
                        database_url,
                        min_size=1,
                        max_size=size,
                        timeout=ACQUIRE_TIMEOUT_S,
                        command_timeout=statement_timeout_s,
                        server_settings=settings,
                        init=prepare,
                        reset=_keep_session,
                    )
                    pools.append(await pool)
            except BaseException:
                for pool in pools:
                    pool.terminate()
                raise
        return cls(*pools)

    async def close(self) -> None:
        """Close the pools, by force where a connection does not come back."""
        for pool in (self._writes, self._reads, self._repairs):
            try:
                async with asyncio.timeout(STATEMENT_TIMEOUT_S):
                    await pool.close()
            except TimeoutError:
                pool.terminate()

    def count_connections(self, pool: str) -> int:
        """Open connections of the pool ``writes``, ``reads`` or ``repairs``, for the metrics."""
        return int({"writes": self._writes, "reads": self._reads, "repairs": self._repairs}[pool].get_size())

    # -- writing

    async def submit_scores(self, board: str, submissions: Sequence[Submission]) -> list[Ruling]:
        """Record a batch in one transaction and rule on each submission, in order.

        :raises NotFound: if there is no such board.
        :raises BatchRefused: if a submission made the batch fail; nothing was recorded.
        :raises RolledBack: if another transaction was in the way; nothing was recorded.
        :raises Unavailable: if the outcome is unknown.
        """
        arguments = (
            board,
            [submission.user_id for submission in submissions],
            [submission.action_id for submission in submissions],
            [submission.key for submission in submissions],
        )
        rows = await self._fetch(self._writes, "submit_scores", *arguments)
        if not rows:
            raise NotFound(f"there is no board {board!r}")
        return [
            Ruling(
                outcome=row["outcome"],
                epoch=row["epoch"],
                seq=row["seq"] or 0,
                points=row["points"] or 0,
                score=row["score"] or 0,
                at=row["at"] or datetime.min,
                retry_after_s=row["retry_after_s"] or 0.0,
                quota=row["quota"] or 0,
                window_s=row["window_s"] or 0,
                previous_at=row["previous_at"],
            )
            for row in rows
        ]

    async def renew_epoch(self, board: str, ended_epoch: str) -> None:
        """Give the board a new epoch, unless somebody else already did."""
        await self._fetch(self._writes, "renew_epoch", board, ended_epoch)

    async def put_board(self, board: Board) -> tuple[Board, bool]:
        """Create or change a board's settings; True when it is new."""
        row = await self._fetch_one(
            self._writes, "put_board", board.board_id, board.title, list(board.windows), board.ties, board.timezone
        )
        return _board(row), row["created"]

    async def put_action(self, board: str, action: Action) -> tuple[Action, bool]:
        """Create or change an action; True when it is new. The board must exist."""
        row = await self._fetch_one(
            self._writes,
            "put_action",
            board,
            action.action_id,
            action.points,
            action.cooldown_seconds,
            action.daily_cap,
            action.enabled,
        )
        return _action(row), row["created"]

    async def disable_action(self, board: str, action_id: str) -> Action | None:
        """Disable an action; None when there is no such action."""
        rows = await self._fetch(self._writes, "disable_action", board, action_id)
        return _action(rows[0]) if rows else None

    # -- reading

    async def ping(self) -> None:
        """Return when the database answers."""
        await self._fetch(self._reads, "ping")

    async def read_heads(self, asked: Mapping[str, Iterable[int]]) -> dict[str, tuple[Head, set[tuple[int, str]]]]:
        """Where the ledgers of some boards stand; boards that do not exist are left out.

        :param asked: by board the seqs of events whose times are wanted too; times are as in Head, those of events
            that are not there are left out.
        """
        pairs = [(board, seq) for board, seqs in asked.items() for seq in {0, *seqs}]
        boards, seqs = [board for board, _ in pairs], [seq for _, seq in pairs]
        found: dict[str, tuple[Head, set[tuple[int, str]]]] = {}
        for row in await self._fetch(self._repairs, "read_heads", boards, seqs):
            _, times = found.setdefault(row["board_id"], (_head(row), {(0, "")}))
            if row["asked_at"] is not None:
                times.add((row["asked_seq"], format_time(row["asked_at"])))
        return found

    async def list_boards(self, *, after: str = "", limit: int) -> list[Board]:
        """Boards in the order of their ids."""
        return [_board(row) for row in await self._fetch(self._reads, "list_boards", after, limit)]

    async def list_all_boards(self) -> list[Board]:
        """All boards, in the order of their ids."""
        boards: list[Board] = []
        while page := await self.list_boards(after=boards[-1].board_id if boards else "", limit=BOARDS_LISTED_MAX):
            boards += page
        return boards

    async def read_board(self, board: str) -> Board:
        """One board.

        :raises NotFound: if there is no such board.
        """
        rows = await self._fetch(self._reads, "read_board", board)
        if not rows:
            raise NotFound(f"there is no board {board!r}")
        return _board(rows[0])

    async def list_actions(self, board: str, *, limit: int) -> list[Action]:
        """A board's actions, disabled ones too, in the order of their ids."""
        return [_action(row) for row in await self._fetch(self._reads, "list_actions", board, limit)]

    async def count_actions(self, board: str, *, bound: int) -> int:
        """The number of a board's actions, at most ``bound``."""
        row = await self._fetch_one(self._reads, "count_actions", board, bound)
        return int(row["actions"])

    async def read_events(self, board: str, *, after: int, limit: int) -> list[Event]:
        """A board's events after a seq, in order, gapless."""
        rows = await self._fetch(self._repairs, "read_events", board, after, limit)
        return [Event(*row.values()) for row in rows]

    async def read_history(self, board: str, user_id: str, *, before: int, limit: int) -> list[Event]:
        """A user's events before a seq, newest first."""
        rows = await self._fetch(self._reads, "read_history", board, user_id, before, limit)
        return [
            Event(row["seq"], user_id, row["action_id"], row["points"], row["score_after"], row["at"]) for row in rows
        ]

    async def read_total(self, board: str, user_id: str) -> Total | None:
        """A user's total, or None when the user has no score."""
        rows = await self._fetch(self._reads, "read_total", board, user_id)
        if not rows:
            return None
        row = rows[0]
        return Total(
            row["score"],
            row["submissions"],
            row["first_at"],
            row["last_at"],
            row["display_name"],
            Position(row["epoch"], row["seq"]),
            row["players"],
        )

    async def read_page(self, board: str, *, offset: int, limit: int, after: tuple[int, str] | None = None) -> Page:
        """A page from the totals, all at one moment; ``after`` (score, user id) wins over ``offset``.

        :raises NotFound: if there is no such board.
        """
        async with self._snapshot() as connection:
            head = await self._one(connection, "read_board", board)
            if head is None:
                raise NotFound(f"there is no board {board!r}")
            if after is None:
                rows = await self._run(connection, "read_page", board, offset, limit + 1)
            else:
                rows = await self._run(connection, "read_page_after", board, *after, limit + 1)
            scores = [(row["user_id"], row["score"]) for row in rows[:limit]]
            entries: tuple[Entry, ...] = ()
            if scores:
                around = await self._one(connection, "count_around", board, scores[0][1], scores[0][0])
                assert around is not None  # a count always answers
                entries = rank_shared(scores, offset=around["before"], first_rank=around["above"] + 1)
        return Page(Position(head["epoch"], head["seq"]), head["players"], entries, len(rows) > limit)

    async def read_around(self, board: str, user_id: str, radius: int) -> Page | None:
        """A user with ``radius`` neighbours on each side, all at one moment, or None when the user has no score."""
        async with self._snapshot() as connection:
            total = await self._one(connection, "read_total", board, user_id)
            if total is None:
                return None
            place = await self._one(connection, "count_around", board, total["score"], user_id)
            assert place is not None  # a count always answers
            start, size = slice_around(place["before"], radius, total["players"])
            rows = await self._run(connection, "read_page", board, start, size)
            scores = [(row["user_id"], row["score"]) for row in rows]
            first = await self._one(connection, "count_around", board, scores[0][1], scores[0][0])
            assert first is not None
        position = Position(total["epoch"], total["seq"])
        entries = rank_shared(scores, offset=start, first_rank=first["above"] + 1)
        return Page(position, total["players"], entries, start + size < total["players"])

    async def read_standings(self, board: str, users: Sequence[str]) -> Standings:
        """Users' places from the totals, all at one moment.

        :raises NotFound: if there is no such board.
        """
        async with self._snapshot() as connection:
            head = await self._one(connection, "read_board", board)
            if head is None:
                raise NotFound(f"there is no board {board!r}")
            rows = await self._run(connection, "read_standings", board, list(users))
        position, total = Position(head["epoch"], head["seq"]), head["players"]
        standings = (
            Standing(position, total, row["score"], row["above"] + 1, total - row["at_least"])
            if row["score"] is not None
            else None
            for row in rows
        )
        return Standings(position, total, tuple(standings))

    async def read_scores_at(self, board: str, users: Sequence[str], seq: int) -> dict[str, int]:
        """The scores that users had at a seq; users without an event by then are left out."""
        rows = await self._fetch(self._repairs, "read_scores_at", board, list(users), seq)
        return {row["user_id"]: row["score"] for row in rows}

    @asynccontextmanager
    async def stream_totals(self, board: str) -> AsyncIterator[tuple[Head, AsyncIterator[list[tuple[str, int]]]]]:
        """The board's head and every (user id, score), in the board's order, in slices of CURSOR_ROWS, one snapshot.

        The next slice is under way while the last one is used.

        :raises NotFound: if there is no such board.
        """
        async with self._snapshot(self._repairs) as connection:
            head = await self._one(connection, "read_heads", [board], [0])
            if head is None:
                raise NotFound(f"there is no board {board!r}")

            async def slices() -> AsyncIterator[list[tuple[str, int]]]:
                cursor = await connection.cursor(self._queries["stream_totals"].text, board)
                while rows := await cursor.fetch(CURSOR_ROWS):
                    yield [(row["user_id"], row["score"]) for row in rows]

            async with read_ahead(slices()) as ahead:
                yield _head(head), ahead

    # -- what a verification asks

    async def verify_head(self, board: str) -> dict[str, Any]:
        """What the board's row says of its ledger and totals, and what they say.

        :raises NotFound: if there is no such board.
        """
        rows = await self._fetch(self._repairs, "verify_head", board)
        if not rows:
            raise NotFound(f"there is no board {board!r}")
        return dict(rows[0].items())

    async def verify_events(self, board: str, *, after: int, through: int, limit: int) -> tuple[int, int, int]:
        """A slice of about ``limit`` events: how many, the seq of the last, how many are before their previous one."""
        row = await self._fetch_one(self._repairs, "verify_events", board, after, through, limit)
        return row["events"], row["last_seq"], row["disordered"]

    async def verify_totals(self, board: str, *, part: int, parts: int, limit: int) -> list[dict[str, Any]]:
        """Users of one part of several (from 0) whose total is not the sum of their events."""
        rows = await self._fetch(self._repairs, "verify_totals", board, part, parts, limit)
        return [dict(row.items()) for row in rows]

    # -- the only ways to the server

    async def _fetch(self, pool: asyncpg.Pool, name: str, *arguments: Any) -> list[asyncpg.Record]:
        async with _known_errors(), pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
            try:
                rows: list[asyncpg.Record] = await connection.fetch(self._queries[name].text, *arguments)
            except asyncpg.ReadOnlySQLTransactionError:
                # A failover: this is a standby now, and so is every open connection. New ones find the primary.
                for each in (self._writes, self._reads, self._repairs):
                    await each.expire_connections()
                raise
            return rows

    async def _fetch_one(self, pool: asyncpg.Pool, name: str, *arguments: Any) -> asyncpg.Record:
        rows = await self._fetch(pool, name, *arguments)
        assert len(rows) == 1, f"{name} promises one row, not {len(rows)}"
        return rows[0]

    @asynccontextmanager
    async def _snapshot(self, pool: asyncpg.Pool | None = None) -> AsyncIterator[Any]:
        """A connection in a read-only transaction that sees one moment."""
        async with (
            _known_errors(),
            (pool or self._reads).acquire(timeout=ACQUIRE_TIMEOUT_S) as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            yield connection

    async def _run(self, connection: Any, name: str, *arguments: Any) -> list[asyncpg.Record]:
        rows: list[asyncpg.Record] = await connection.fetch(self._queries[name].text, *arguments)
        return rows

    async def _one(self, connection: Any, name: str, *arguments: Any) -> asyncpg.Record | None:
        rows = await self._run(connection, name, *arguments)
        return rows[0] if rows else None

    @property
    def queries(self) -> dict[str, Query]:
        """The loaded statements by name."""
        return self._queries


@asynccontextmanager
async def _known_errors() -> AsyncIterator[None]:
    """Translate the driver's errors, once, by their SQLSTATE.

    :raises BatchRefused: for every error that names no cause beyond the statement's own data.
    """
    try:
        yield
    except ScoreboardError:
        raise
    except asyncpg.PostgresError as exc:
        code = exc.sqlstate or ""
        # Where the session ended too, the driver reports that, and the server's reason as its cause.
        reason = getattr(exc.__cause__, "sqlstate", None) or code
        if reason in _ROLLED_BACK_CODES:
            raise RolledBack("PostgreSQL undid the transaction") from exc
        if code[:2] in _UNAVAILABLE_CLASSES or code in _UNAVAILABLE_CODES:
            raise Unavailable("PostgreSQL can't take the request now") from exc
        raise BatchRefused(str(exc)) from exc
    except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.InternalClientError) as exc:
        raise Unavailable("PostgreSQL can't be reached") from exc


async def _bound_transactions(connection: Any) -> None:
    if connection.get_server_version() >= (17, 0):
        await connection.execute(f"SET transaction_timeout = '{TRANSACTION_S}s'")


async def _keep_session(connection: Any) -> None:
    """Nothing to reset when a connection goes back: no query here leaves anything behind in its session.

    The pool has already rolled back an open transaction. Its own reset is a round trip more with every batch.
    """


def _head(row: asyncpg.Record) -> Head:
    return Head(row["epoch"], row["seq"], format_time(row["last_at"]) if row["seq"] else "")


def _board(row: asyncpg.Record) -> Board:
    return Board(
        row["board_id"],
        row["epoch"],
        row["seq"],
        row["players"],
        row["title"],
        tuple(row["windows"]),
        row["ties"],
        row["timezone"],
        row["created_at"],
    )


def _action(row: asyncpg.Record) -> Action:
    return Action(row["action_id"], row["points"], row["cooldown_seconds"], row["daily_cap"], row["enabled"])
