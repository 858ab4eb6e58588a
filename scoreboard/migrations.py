"""Applies ``sql/migrations`` in order: forward only, checksummed, one process at a time.

A session-level advisory lock serialises instances that start together; each migration commits with its own record,
so a crash between two leaves a schema that the next run continues from. Where nothing is missing nothing but the record
is read: no lock, no statement that a role without CREATE may not run. At the end the planner gets to know tables that
came with rows, from a backup for example.
"""

import asyncio
from typing import Literal

import asyncpg

from scoreboard.connecting import POSTGRES_MIN, check_access, connect, grant_rows
from scoreboard.contracts import Migration, load_migrations
from scoreboard.errors import StartupError
from scoreboard.statistics import find_unknown, renew_statistics
from scoreboard.urls import place_of

LOCK_KEY = 0x53_43_4F_52_45  # any constant of ours; "SCORE" in ASCII
LOCK_WAIT_S = 60.0
STATEMENT_TIMEOUT_S = 600.0
ENCODING = "UTF8"
ENCODING_REMEDY = "Make another one, CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0, and name that"

_HAS_RECORD = "SELECT to_regclass('schema_migrations') IS NOT NULL"
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
_BY_MIGRATE = "Run 'scoreboard migrate' with a role that may change the schema"


Purpose = Literal["schema", "rows", "reading"]


async def migrate(
    database_url: str, *, auto: bool = True, purpose: Purpose = "schema", warns: bool = True
) -> list[str]:
    """Bring the schema up to date.

    :param auto: whether what is missing is applied, rather than refused.
    :param purpose: what for: with ``rows`` a database in which they can't be written is refused; with ``reading`` one
        that is up to date is taken although it has another encoding than UTF8, and nothing is logged.
    :param warns: whether to log which tables the planner can't get to know.
    :returns: the names of the migrations that were applied now.
    :raises StartupError: if the database holds a migration that differs from ours or is newer, can't be reached, or
        may not be changed by us, or has another encoding than UTF8, or another process holds the lock for longer than
        LOCK_WAIT_S.
    """
    migrations = load_migrations()
    connection = await connect(database_url, command_timeout_s=STATEMENT_TIMEOUT_S)
    try:
        check_version(connection.get_server_version())
        applied = []
        missing = await _read_missing(connection, migrations)
        if missing or purpose != "reading":
            _check_encoding(await connection.fetchval("SHOW server_encoding"), database_url)
        if missing:
            if not auto:
                raise StartupError(f"the schema is older than this version: {_list(missing)} missing. {_BY_MIGRATE}")
            applied = await _take_turn(connection, migrations)
        if purpose == "rows":
            await check_access(connection, database_url, migrations)
        if auto:
            await renew_statistics(connection, await find_unknown(connection), warns=warns and purpose != "reading")
        return applied
    except asyncpg.ReadOnlySQLTransactionError as exc:
        raise StartupError(
            f"the schema is older than this version, and PostgreSQL at {place_of(database_url)} is read-only (a "
            "standby, or default_transaction_read_only is on). Run 'scoreboard migrate' on the primary"
        ) from exc
    except (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidSchemaNameError) as exc:
        raise StartupError(
            f"PostgreSQL does not let this role read or change the schema: {exc}. {_BY_MIGRATE}"
        ) from exc
    except asyncpg.PostgresError as exc:
        raise StartupError(f"PostgreSQL refuses the schema: {exc}") from exc
    except (OSError, asyncpg.InterfaceError) as exc:
        raise StartupError(f"PostgreSQL at {place_of(database_url)} went away: {exc or 'it is silent'}") from exc
    finally:
        await connection.close(timeout=5)


def check_version(version: asyncpg.types.ServerVersion) -> None:
    """:raises StartupError: if the server is too old."""
    if version.major < POSTGRES_MIN:
        raise StartupError(f"PostgreSQL is {version.major}.{version.minor}: at least {POSTGRES_MIN} is needed")


def _check_encoding(encoding: str, database_url: str) -> None:
    """:raises StartupError: if the database can't keep every text that there is."""
    if encoding != ENCODING:
        raise StartupError(
            f"the database at {place_of(database_url)} has the encoding {encoding}, in which not every name can be "
            f"kept. {ENCODING_REMEDY}"
        )


async def _read_missing(
    connection: "asyncpg.Connection[asyncpg.Record]", migrations: list[Migration]
) -> list[Migration]:
    try:
        return await find_missing(connection, migrations)
    except asyncpg.InsufficientPrivilegeError as exc:
        role = await connection.fetchval("SELECT current_user")
        raise StartupError(
            f"PostgreSQL role {role} may not read the tables that 'scoreboard migrate' has made ({exc}): "
            f"{grant_rows(role)}"
        ) from exc


async def find_missing(
    connection: "asyncpg.Connection[asyncpg.Record]", migrations: list[Migration]
) -> list[Migration]:
    """The migrations that the database does not have.

    :raises StartupError: if it has others than ours.
    """
    present = {}
    if await connection.fetchval(_HAS_RECORD):
        present = {row["version"]: row for row in await connection.fetch(_READ_RECORD)}
    unknown = sorted(set(present) - {migration.version for migration in migrations})
    if unknown:
        named = f"migration {unknown[0]}" if len(unknown) == 1 else f"migrations {', '.join(map(str, unknown))}"
        raise StartupError(f"the database has {named} of a newer scoreboard")
    for migration in migrations:
        record = present.get(migration.version)
        if record is not None and record["checksum"] != migration.checksum:
            raise StartupError(f"migration {record['name']} in the database is not this version's {migration.name}")
    return [migration for migration in migrations if migration.version not in present]


async def _take_turn(connection: "asyncpg.Connection[asyncpg.Record]", migrations: list[Migration]) -> list[str]:
    """Apply what is still missing once nobody else does."""
    try:
        async with asyncio.timeout(LOCK_WAIT_S):
            await connection.execute("SELECT pg_advisory_lock($1)", LOCK_KEY)
    except TimeoutError as exc:
        raise StartupError(f"another process has been migrating for more than {LOCK_WAIT_S:.0f} s") from exc
    if not await connection.fetchval(_HAS_RECORD):
        await connection.execute(_CREATE_RECORD)
    applied = []
    for migration in await find_missing(connection, migrations):
        async with connection.transaction():
            await connection.execute(migration.text)
            await connection.execute(_ADD_RECORD, migration.version, migration.name, migration.checksum)
        applied.append(migration.name)
    return applied


def _list(missing: list[Migration]) -> str:
    names = [migration.name for migration in missing]
    return f"{names[0]} is" if len(names) == 1 else f"{names[0]} to {names[-1]} are"
