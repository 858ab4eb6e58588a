"""PostgreSQL: connections, deadlines, and the one place that knows its errors.

Four pools: submissions never wait behind reads, nor repair behind either, nor anybody behind costly reads. And one
connection beside them by which readiness is found out. Every acquire and every statement has a deadline, here and in
the server: what this process can't end any more, because it was killed or cut off, ends there and lets its locks go. A
cancelled or timed-out commit is *unknown*, not rolled back, so its caller gets Unavailable and repair finds what did
commit.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Self

import asyncpg

from scoreboard.contracts import Query, load_queries
from scoreboard.errors import ScoreboardError, Unavailable, UnknownTimezone

WRITE_POOL_MAX = 4
READ_POOL_MAX = 8
REPAIR_POOL_MAX = 3
COSTLY_POOL_MAX = 2
PROBE_CONNECTIONS = 1
POOLS_MAX = WRITE_POOL_MAX + READ_POOL_MAX + REPAIR_POOL_MAX + COSTLY_POOL_MAX + PROBE_CONNECTIONS
"""Connections of one process."""
ACQUIRE_TIMEOUT_S = 1.0
STATEMENT_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 1.0
SERVER_GRACE_S = 1.0
"""The server ends a statement this long after we gave it up, if our cancel request did not reach it."""
IDLE_TRANSACTION_S = 60
TRANSACTION_S = 8
"""A submission whose transaction the server still holds open after so long was cut off in the middle of its message.
PostgreSQL 17 and newer end it; older ones notice a lost peer after KEEPALIVE_S, and a silent one not at all."""
KEEPALIVE_S = 5

# SQLSTATE classes and codes that mean "not now": connection, resources, operator intervention, system error;
# a read-only standby, a transaction ended for being idle, a lock that was not to be had.
_UNAVAILABLE_CLASSES = ("08", "53", "57", "58")
_UNAVAILABLE_CODES = ("25006", "25P03", "55P03")
_UNKNOWN_TIMEZONE_CODE = "22023"
"""Invalid parameter value. What a statement takes of ours is checked, but for what boards hold already: time zones."""
_CLOSED_CODE = "SB001"
"""Our own: the board takes no events now, and the message says why."""
_RECALL_CODE = "SB002"
# Undone because of another transaction: serialization failure, deadlock. Or by a timeout of the server's: we give up
# before each of them, so one that we hear of came early. PostgreSQL measures them by the wall clock, and an hour
# forward ends every statement under way.
_ROLLED_BACK_CODES = ("40001", "40P01", "57014", "25P04")


class BatchRefused(Exception):
    """A submission made the whole batch fail; nothing was recorded. Repeat them one by one."""


class RolledBack(Unavailable):
    """The transaction was undone, and not for its own sake; nothing was recorded. It may be repeated at once."""


class MustRecall(Exception):
    """Somebody of a batch may have been erased while hidden; nothing was recorded. Repeat it with digests."""


class Database:
    """Runs the statements of ``sql/queries``. Every method raises Unavailable when PostgreSQL does not answer."""

    def __init__(
        self,
        writes: asyncpg.Pool,
        reads: asyncpg.Pool,
        repairs: asyncpg.Pool,
        costly: asyncpg.Pool,
        *,
        probe: "PostgresProbe",
    ) -> None:
        self.probe = probe
        self._writes = writes
        self._reads = reads
        self._repairs = repairs
        self._costly = costly
        self._queries = load_queries()

    @classmethod
    async def open(cls, database_url: str, *, statement_timeout_s: float = STATEMENT_TIMEOUT_S) -> Self:
        """Open the pools, all but that of costly reads with one connection each.

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
        async with known_errors():
            try:
                for size, prepare, least in (
                    (WRITE_POOL_MAX, _bound_transactions, 1),
                    (READ_POOL_MAX, None, 1),
                    (REPAIR_POOL_MAX, None, 1),
                    (COSTLY_POOL_MAX, None, 0),
                ):
                    pool = asyncpg.create_pool(
                        database_url,
                        min_size=least,
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
        return cls(*pools, probe=PostgresProbe(database_url))

    async def close(self) -> None:
        """Close the pools, by force where a connection does not come back.

        Nobody uses one any more by now. An acquire that was cancelled just when it was done has lost its connection.
        """
        self.probe.drop()
        for pool in self._pools:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await pool.close()
            except TimeoutError:
                pool.terminate()

    @property
    def _pools(self) -> tuple[asyncpg.Pool, ...]:
        return self._writes, self._reads, self._repairs, self._costly

    def count_connections(self, pool: str) -> int:
        """Open connections of the pool ``writes``, ``reads``, ``repairs`` or ``costly``, for the metrics."""
        pools = {"writes": self._writes, "reads": self._reads, "repairs": self._repairs, "costly": self._costly}
        return int(pools[pool].get_size())

    # -- the only ways to the server

    async def _fetch(self, pool: asyncpg.Pool, name: str, *arguments: Any) -> list[asyncpg.Record]:
        async with known_errors(), pool.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
            try:
                rows: list[asyncpg.Record] = await connection.fetch(self._queries[name].text, *arguments)
            except asyncpg.ReadOnlySQLTransactionError:
                # A failover: this is a standby now, and so is every open connection. New ones find the primary.
                for each in self._pools:
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
            known_errors(),
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
    def queries(self) -> Mapping[str, Query]:
        """The loaded statements by name."""
        return self._queries


class PostgresProbe:
    """A connection of its own by which to find out whether PostgreSQL answers; opened when first needed."""

    def __init__(self, database_url: str) -> None:
        self._database_url = database_url
        self._ping = load_queries()["ping"].text
        self._connection: Any = None

    async def ask(self) -> None:
        """Return when PostgreSQL answers.

        :raises Unavailable: if it can't be reached or refuses.
        """
        try:
            async with known_errors():
                if self._connection is not None and not self._connection.is_closed():
                    with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                        await self._connection.fetchval(self._ping)
                        return
                    self.drop()  # it was lost, perhaps in a restart that is over
                self._connection = await asyncpg.connect(self._database_url, timeout=ACQUIRE_TIMEOUT_S)
                await self._connection.fetchval(self._ping)
        except BatchRefused as exc:
            raise Unavailable("PostgreSQL refuses the probe") from exc

    def drop(self) -> None:
        """Give the connection up; whoever waits for an answer on it hears that it is lost."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


@asynccontextmanager
async def known_errors() -> AsyncIterator[None]:
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
            raise RolledBack("PostgreSQL has undone the transaction; repeat the request") from exc
        if code == _RECALL_CODE:
            raise MustRecall(str(exc)) from exc
        if code == _CLOSED_CODE:
            raise Unavailable(str(exc)) from exc
        if code == _UNKNOWN_TIMEZONE_CODE:
            raise UnknownTimezone(
                f"a board can't be used until an administrator gives it another time zone: {exc}"
            ) from exc
        if code[:2] in _UNAVAILABLE_CLASSES or code in _UNAVAILABLE_CODES:
            raise Unavailable("PostgreSQL can't take the request now; repeat it later") from exc
        raise BatchRefused(str(exc)) from exc
    except TimeoutError as exc:
        raise Unavailable("PostgreSQL did not answer in time") from exc
    except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as exc:
        raise Unavailable("PostgreSQL can't be reached") from exc


async def _bound_transactions(connection: Any) -> None:
    if connection.get_server_version() >= (17, 0):
        await connection.execute(f"SET transaction_timeout = '{TRANSACTION_S}s'")


async def _keep_session(connection: Any) -> None:
    """Nothing to reset when a connection goes back: no query here leaves anything behind in its session.

    The pool has already rolled back an open transaction. Its own reset is a round trip more with every batch.
    """
