"""The first connection to each store: why there is none, or why nothing could be done with it, in one sentence.

What comes over time (a store that is away, a failover) is no business of this module: see database.py and ranks.py.
"""

import re
import ssl
from collections.abc import Iterable
from typing import Any

import asyncpg
import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from scoreboard.contracts import Migration, load_queries
from scoreboard.errors import StartupError
from scoreboard.urls import place_of

CONNECT_TIMEOUT_S = 10.0
REDIS_TIMEOUT_S = 2.0
POSTGRES_MIN = 14
REDIS_MIN = (6, 2)
"""Valkey begins at 7.2, with Redis' version in its own place."""
_TABLE = re.compile(r"^CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?(\w+)", re.MULTILINE)
_FUNCTION = re.compile(r"^CREATE (?:OR REPLACE )?FUNCTION (\w+)", re.MULTILINE)

log = structlog.get_logger(__name__)


# -- PostgreSQL


async def connect(database_url: str, *, command_timeout_s: float) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection of its own.

    :raises StartupError: if there is none.
    """
    try:
        return await asyncpg.connect(database_url, timeout=CONNECT_TIMEOUT_S, command_timeout=command_timeout_s)
    except (OSError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as exc:
        raise StartupError(_why_not(exc, place_of(database_url))) from exc


def _why_not(exc: Exception, place: str) -> str:
    match exc:
        case asyncpg.InvalidCatalogNameError():
            return f"PostgreSQL at {place}: {exc}. Make it (CREATE DATABASE), or name another one"
        case asyncpg.InvalidAuthorizationSpecificationError():  # a wrong password is one
            return f"PostgreSQL at {place} does not let us in: {exc}"
        case asyncpg.PostgresError():
            return f"PostgreSQL at {place} refuses the connection: {exc}"
        case asyncpg.TargetServerAttributeNotMatched():
            return f"PostgreSQL at {place} is not what target_session_attrs asks for: {exc}"
        case ssl.SSLCertVerificationError():
            return f"the certificate of PostgreSQL at {place} is not trusted: {exc.verify_message} (see sslrootcert)"
        case TimeoutError() | asyncpg.exceptions.ConnectionDoesNotExistError():
            return f"PostgreSQL at {place} does not answer within {CONNECT_TIMEOUT_S:.0f} s"
        case ValueError():  # the driver's message may hold parts of the URL, and so of a password
            return "SCOREBOARD_DATABASE_URL: is not like postgresql://user@host:5432/database"
        case OSError():
            return f"PostgreSQL at {place} can't be reached: {exc.strerror or exc}"
    return f"PostgreSQL at {place} can't be reached: {exc}"


async def check_access(connection: Any, database_url: str, migrations: Iterable[Migration]) -> None:
    """Return if rows of our tables can be read and written.

    :raises StartupError: if not.
    """
    queries = load_queries()
    place = place_of(database_url)
    access = await connection.fetchrow(queries["read_access"].text)
    if access["is_standby"]:
        raise StartupError(
            f"PostgreSQL at {place} is a standby, which takes no writes: name the primary, or several hosts with "
            "target_session_attrs=read-write"
        )
    if access["is_read_only"]:
        raise StartupError(
            f"PostgreSQL at {place} is read-only for {access['role']}: default_transaction_read_only is on; set it to "
            "off for the server, the database or the role"
        )
    missing = await connection.fetch(queries["find_missing_privileges"].text, *_names(migrations))
    if missing:
        first = missing[0]
        raise StartupError(
            f"PostgreSQL role {access['role']} has no {first['privileges']} on {first['name']}"
            f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}: {grant_rows(access['role'])}"
        )


def grant_rows(role: str) -> str:
    """The statement by which a role may do all that a server does with rows."""
    return f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}"


def _names(migrations: Iterable[Migration]) -> tuple[list[str], list[str]]:
    """The tables and functions of a schema. The record of migrations is only read by others than ``migrate``."""
    texts = [migration.text for migration in migrations]
    tables = {name for text in texts for name in _TABLE.findall(text)}
    functions = {name for text in texts for name in _FUNCTION.findall(text)}
    return sorted(tables), sorted(functions)


# -- Redis


def connect_redis(redis_url: str) -> "Redis":
    """A client that gives up soon, and does not try again."""
    return Redis.from_url(
        redis_url,
        socket_timeout=REDIS_TIMEOUT_S,
        socket_connect_timeout=REDIS_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )


async def check_redis(redis_url: str, *, needed: bool) -> None:
    """Return if Redis lets us work. The server also serves without it, so for that it may be away, which is logged.

    :param needed: whether nothing can be done without it.
    :raises StartupError: if it refuses us, or is away and needed.
    """
    client = connect_redis(redis_url)
    try:
        await client.execute_command("PING")
    except (RedisError, OSError) as exc:
        why = why_no_redis(exc, place_of(redis_url))
        if needed or isinstance(_reason(exc), AuthenticationError | ResponseError):
            raise StartupError(why) from exc
        log.warning("redis_away", error=why)
    finally:
        await client.aclose()


def why_no_redis(exc: Exception, place: str) -> str:
    """Why Redis does not do what it is asked, in a sentence."""
    reason = _reason(exc)
    match reason:
        case ssl.SSLCertVerificationError():
            return f"the certificate of Redis at {place} is not trusted: {reason.verify_message} (see ssl_ca_certs)"
        case AuthenticationError():
            return f"Redis at {place} does not let us in: {reason}"
        case BusyLoadingError():
            return f"Redis at {place} is still loading its data"
        case RedisTimeoutError() | TimeoutError():
            return f"Redis at {place} does not answer within {REDIS_TIMEOUT_S:.0f} s"
        case ResponseError():
            return f"Redis at {place} refuses: {reason}"
    return f"Redis at {place} can't be reached: {_short(exc)}"


def _reason(exc: BaseException) -> BaseException:
    """What an error is about: the driver tells of a refusal by one of a lost connection, which has it as its cause."""
    reason: BaseException | None = exc
    while reason is not None:
        if isinstance(reason, ssl.SSLCertVerificationError | AuthenticationError | ResponseError):
            return reason
        reason = reason.__cause__ or reason.__context__
    return exc


def _short(exc: BaseException) -> str:
    """The driver repeats the address before the reason."""
    return str(exc).rpartition(". ")[2].rstrip(".") or type(exc).__name__
