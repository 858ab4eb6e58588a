"""Applies ``sql/migrations`` in order: forward only, checksummed, one process at a time.

A session-level advisory lock serialises instances that start together; each migration commits with its own record,
so a crash between two leaves a schema that the next run continues from. At the end the planner gets to know tables that
came with rows, from a backup for example.
"""

import asyncio

import asyncpg

from scoreboard.contracts import Migration, load_migrations
from scoreboard.errors import StartupError
from scoreboard.statistics import find_unknown, renew_statistics

LOCK_KEY = 0x53_43_4F_52_45  # any constant of ours; "SCORE" in ASCII
LOCK_WAIT_S = 60.0
STATEMENT_TIMEOUT_S = 600.0

_CREATE_RECORD = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
)
"""
_READ_RECORD = "TABLE schema_migrations ORDER BY version"
_ADD_RECORD = "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)"


async def migrate(database_url: str) -> list[str]:
    """Bring the schema up to date.

    :returns: the names of the migrations that were applied now.
    :raises StartupError: if the database holds a migration that differs from ours or is newer, can't be reached, or
        another process holds the lock for longer than LOCK_WAIT_S.
    """
    migrations = load_migrations()
    try:
        connection = await asyncpg.connect(database_url, command_timeout=STATEMENT_TIMEOUT_S)
    except ValueError as exc:  # the driver's message may hold parts of the URL, and so of a password
        raise StartupError("SCOREBOARD_DATABASE_URL: is not like postgresql://user@host:5432/database") from exc
    except (OSError, asyncpg.PostgresError, TimeoutError) as exc:
        raise StartupError(f"PostgreSQL can't be reached: {exc}") from exc
    try:
        async with asyncio.timeout(LOCK_WAIT_S):
            await connection.execute("SELECT pg_advisory_lock($1)", LOCK_KEY)
        applied = await _apply(connection, migrations)
        await renew_statistics(connection, await find_unknown(connection))
        return applied
    except TimeoutError as exc:
        raise StartupError(f"another process has been migrating for more than {LOCK_WAIT_S:.0f} s") from exc
    finally:
        await connection.close(timeout=5)


async def _apply(connection: "asyncpg.Connection[asyncpg.Record]", migrations: list[Migration]) -> list[str]:
    await connection.execute(_CREATE_RECORD)
    present = {row["version"]: row for row in await connection.fetch(_READ_RECORD)}
    unknown = sorted(set(present) - {migration.version for migration in migrations})
    if unknown:
        raise StartupError(f"the database has migrations {unknown} of a newer scoreboard")
    applied = []
    for migration in migrations:
        record = present.get(migration.version)
        if record is None:
            async with connection.transaction():
                await connection.execute(migration.text)
                await connection.execute(_ADD_RECORD, migration.version, migration.name, migration.checksum)
            applied.append(migration.name)
        elif record["checksum"] != migration.checksum:
            raise StartupError(f"migration {record['name']} in the database is not this version's {migration.name}")
    return applied
