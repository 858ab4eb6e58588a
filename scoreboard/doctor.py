"""Examines all that a server stands on, and says what to mend: versions, durability, clocks, limits, schema, roles,
keys, and how far each ranking is behind its ledger.

It changes nothing: what can be read is read, and where only trying tells (whether Redis takes a write) the trial leaves
nothing behind. What can't be looked at is a finding of its own, so that silence never passes for health.
"""

import asyncio
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import asyncpg
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from redis.exceptions import RedisError, ResponseError

from scoreboard import __version__
from scoreboard.auth import SYMMETRIC, check_secret
from scoreboard.config import PREFIX, Config
from scoreboard.connecting import (
    POSTGRES_MIN,
    REDIS_MIN,
    check_access,
    connect,
    connect_redis,
    grant_rows,
    why_no_redis,
)
from scoreboard.contracts import load_migrations, load_queries
from scoreboard.database import POOLS_MAX
from scoreboard.digests import SETTING, fingerprint, refused_key
from scoreboard.embedded import DataDir
from scoreboard.errors import RanksUnavailable, StartupError, Unavailable
from scoreboard.files import FILES_RESERVED, REQUEST_CONNECTIONS_MAX, bound_connections, raise_file_limit
from scoreboard.ledger import Ledger
from scoreboard.migrations import ENCODING, ENCODING_REMEDY, find_missing
from scoreboard.model import Board
from scoreboard.own_files import read_secret
from scoreboard.ranks import CONNECTIONS_MAX, Ranks
from scoreboard.urls import place_of

COMMAND_TIMEOUT_S = 10.0
SKEW_MAX_S = 1.0
"""Clocks may differ by this much: times of events are the database's, and ends of tokens ours."""
CLOCK_LOOKS = 5
"""Each clock is looked at so often; the look with the shortest round trip counts."""
LAG_WAIT_S = 3.0
"""A ranking that is being written to is always a little behind, so it is looked at again for so long."""
POLL_S = 0.1
BOARDS_AT_ONCE = 50
BOARDS_TOLD_MAX = 10
MEMORY_SHARE_MAX = 0.9
REDIS_OTHER_CONNECTIONS = 2
"""Of a process, besides its pool: the pipeline and the subscription."""
RSA_BITS_MIN = 2_048
DIGEST_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}
"""A shared secret shorter than the digest is easier to guess than the digest. Source: RFC 7518, section 3.2."""
DISTINCT_MIN = 8
_HAS_TABLES = "SELECT to_regclass('boards') IS NOT NULL"
_PROBE = "redis.call('SET', KEYS[1], '1', 'PX', 1000) return redis.call('DEL', KEYS[1])"


class Finding(msgspec.Struct, frozen=True):
    """What one look showed. ``mend`` says what to do about it, or why there was nothing to see."""

    check: str
    status: Literal["ok", "mend", "unknown"]
    found: str
    mend: str = ""


class Clock(msgspec.Struct, frozen=True):
    """How far a clock is ahead of ours, and how far that may be wrong, in seconds."""

    ahead_s: float
    error_s: float


def _judge(check: str, found: str, is_well: bool, mend: str) -> Finding:
    return Finding(check, "ok", found) if is_well else Finding(check, "mend", found, mend)


async def examine(config: Config, database_url: str, redis_url: str) -> list[Finding]:
    """Look at everything."""
    findings = [
        Finding("scoreboard", "ok", f"{__version__} on Python {'.'.join(map(str, sys.version_info[:3]))}"),
        check_files(config),
        check_key(config),
    ]
    of_postgres, of_redis = await asyncio.gather(
        _examine_postgres(config, database_url), _examine_redis(config, redis_url)
    )
    findings += of_postgres.findings + of_redis.findings
    if of_postgres.clock and of_redis.clock:
        findings.append(_compare_clocks(of_postgres.clock, of_redis.clock))
    if of_postgres.can_read and of_redis.clock:
        findings += await _check_rankings(database_url, redis_url)
    return findings


# -- this machine


def check_files(config: Config) -> Finding:
    """Whether the limit of open files lets as many streams and connections in as are promised."""
    limit = raise_file_limit()
    wanted = config.streams_max + REQUEST_CONNECTIONS_MAX
    try:
        possible = bound_connections(config.streams_max, limit)
    except StartupError:
        possible = 0
    return _judge(
        "open files",
        f"{limit:,}, for {possible:,} connections of clients",
        possible >= wanted,
        f"raise the hard limit to {wanted + FILES_RESERVED} (ulimit -Hn, LimitNOFILE), or lower {PREFIX}STREAMS_MAX",
    )


def check_key(config: Config) -> Finding:
    """What kind of key tokens are verified with, and whether it is strong enough."""
    algorithms = ", ".join(config.jwt_algorithms)
    if config.jwt_public_key:
        return _check_public_key(config.jwt_public_key, algorithms)
    source, secret = f"{PREFIX}JWT_SECRET", config.jwt_secret
    if secret is None:
        path = DataDir(config.data_dir).secret
        if not path.exists():
            return Finding("signing key", "ok", f"none yet: the first 'scoreboard serve' puts one into {path}")
        source = str(path)
        try:
            secret = read_secret(path)
        except (StartupError, OSError) as exc:
            return Finding("signing key", "mend", f"in {path}", str(exc))
    size, distinct = len(secret.encode()), len(set(secret))
    few = "" if distinct >= DISTINCT_MIN else f", only {distinct} of them different"
    needed = max(DIGEST_BYTES[name] for name in config.jwt_algorithms if name in SYMMETRIC)
    return _judge(
        "signing key",
        f"shared secret of {size} bytes{few}, for {algorithms}, from {source}",
        size >= needed and distinct >= DISTINCT_MIN,
        f"take at least {needed} random bytes, as from: openssl rand -base64 {needed}",
    )


def _check_public_key(pem: str, algorithms: str) -> Finding:
    key = serialization.load_pem_public_key(pem.encode())
    match key:
        case rsa.RSAPublicKey():
            return _judge(
                "signing key",
                f"RSA public key of {key.key_size} bits, for {algorithms}",
                key.key_size >= RSA_BITS_MIN,
                f"sign with a key of at least {RSA_BITS_MIN} bits",
            )
        case ec.EllipticCurvePublicKey():
            return Finding("signing key", "ok", f"public key on the curve {key.curve.name}, for {algorithms}")
    return Finding("signing key", "ok", f"{type(key).__name__.removesuffix('PublicKey')} public key, for {algorithms}")


# -- PostgreSQL


class _Examined:
    """What is known of a store so far; ``clock`` is None where it could not be looked at."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.clock: Clock | None = None
        self.can_read = False


async def _examine_postgres(config: Config, database_url: str) -> _Examined:
    done = _Examined()
    try:
        connection = await connect(database_url, command_timeout_s=COMMAND_TIMEOUT_S)
    except StartupError as exc:
        done.findings.append(Finding("PostgreSQL", "unknown", str(exc)))
        return done
    try:
        queries = load_queries()
        settings = await connection.fetchrow(queries["read_settings"].text)
        done.findings += _judge_postgres(config, settings, connection.get_server_version().major)
        done.clock = await _read_clock(lambda: _ask_postgres(connection, queries["read_clock"].text))
        done.findings.append(_judge_clock("PostgreSQL", done.clock))
        schema = await _check_schema(connection)
        done.findings += [schema, await _check_role(connection, database_url)]
        if schema.status == "ok":
            done.findings.append(await _check_digest_key(config, connection))
        done.can_read = schema.status == "ok"
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as exc:
        done.findings.append(Finding("PostgreSQL", "unknown", f"it refuses or went away: {exc}"))
    finally:
        await connection.close(timeout=5)
    return done


def _judge_postgres(config: Config, settings: Any, major: int) -> list[Finding]:
    name = "PostgreSQL"
    return [
        _judge(
            f"{name} version",
            f"{settings['version']} (at least {POSTGRES_MIN})",
            major >= POSTGRES_MIN,
            f"upgrade to PostgreSQL {POSTGRES_MIN} or newer",
        ),
        _judge(
            f"{name} fsync",
            settings["fsync"],
            settings["fsync"] == "on",
            "set fsync = on and reload: a crash of the machine would corrupt the database",
        ),
        _judge(
            f"{name} full_page_writes",
            settings["full_page_writes"],
            settings["full_page_writes"] == "on",
            "set full_page_writes = on and reload: a crash of the machine would corrupt the database",
        ),
        _judge(
            f"{name} synchronous_commit",
            settings["synchronous_commit"],
            settings["synchronous_commit"] != "off",
            "set synchronous_commit = on (ALTER SYSTEM, DATABASE or ROLE). The server asks for it in its own sessions, "
            "so its answers hold; whatever else writes here may lose its last second in a crash",
        ),
        _judge(
            f"{name} encoding",
            settings["encoding"],
            settings["encoding"] == ENCODING,
            f"{ENCODING_REMEDY}: names in other scripts can't be kept otherwise",
        ),
        _judge_connections(config, settings),
    ]


def _judge_connections(config: Config, settings: Any) -> Finding:
    needed = config.workers * POOLS_MAX + 1  # and one for a command beside the server
    bounds = {
        "max_connections less what is reserved": settings["connections_max"] - settings["connections_reserved"],
        "the role's CONNECTION LIMIT": settings["connections_role"],
        "the database's CONNECTION LIMIT": settings["connections_database"],
    }
    name, bound = min(((name, bound) for name, bound in bounds.items() if bound >= 0), key=lambda each: each[1])
    return _judge(
        "PostgreSQL connections",
        f"{bound} by {name}, {settings['connections_used']} in use; a server of {config.workers} "
        f"{'process' if config.workers == 1 else 'processes'} takes up to {needed}",
        bound >= needed,
        f"raise it to at least {needed}, and by {config.workers * POOLS_MAX} for each further server",
    )


async def _check_schema(connection: "asyncpg.Connection[asyncpg.Record]") -> Finding:
    migrations = load_migrations()
    try:
        missing = await find_missing(connection, migrations)
    except StartupError as exc:
        return Finding("schema", "mend", str(exc), "run the version of scoreboard that brought the schema up to date")
    except asyncpg.InsufficientPrivilegeError as exc:
        return Finding("schema", "mend", str(exc), "GRANT SELECT ON ALL TABLES IN SCHEMA public to the role")
    present = len(migrations) - len(missing)
    found = f"version {present} of {len(migrations)}{'' if missing else ', up to date'}"
    return _judge("schema", found, not missing, "run 'scoreboard migrate' with a role that may change the schema")


async def _check_role(connection: Any, database_url: str) -> Finding:
    role = await connection.fetchval("SELECT current_user")
    if not await connection.fetchval(_HAS_TABLES):
        return Finding(
            "PostgreSQL role",
            "mend",
            f"{role}; whether it may read and write can't be told: it sees no tables of scoreboard yet",
            "run 'scoreboard migrate', then look again",
        )
    try:
        await check_access(connection, database_url, load_migrations())
    except StartupError as exc:
        return Finding("PostgreSQL role", "mend", str(role), str(exc))
    return Finding("PostgreSQL role", "ok", f"{role} may read and write")


async def _check_digest_key(config: Config, connection: Any) -> Finding:
    """Whether the key is the one by which this database remembers people, if it does: else no server would start."""
    name, source, key = "digest key", SETTING, config.digest_key
    if key is None and config.embedded:
        path = DataDir(config.data_dir).digest_key
        source = str(path)
        try:
            key = read_secret(path) if path.exists() else ""  # none yet: what will be made is certainly another one
            if key:
                check_secret(source, key)
        except (StartupError, OSError) as exc:
            return Finding(name, "mend", f"in {path}", str(exc))
    given = None if key is None else fingerprint(key) if key else ""
    try:
        outcome = await connection.fetchval(load_queries()["read_digest_key"].text, given)
    except asyncpg.InsufficientPrivilegeError as exc:
        role = await connection.fetchval("SELECT current_user")
        return Finding(name, "mend", str(exc), grant_rows(role))
    refused = refused_key(outcome, source)
    if refused is not None:
        is_there = "" if key else "none, "
        return Finding(name, "mend", f"{is_there}not the one by which erased users are remembered", refused)
    if key is None:
        return Finding(name, "ok", f"kept in the database; {SETTING} would keep it apart from it")
    return Finding(name, "ok", f"from {source}" if key else f"none yet: it will be made in {source}")


async def _ask_postgres(connection: Any, query: str) -> float:
    now: datetime = await connection.fetchval(query)
    return now.astimezone(UTC).timestamp()


# -- Redis


async def _examine_redis(config: Config, redis_url: str) -> _Examined:
    done = _Examined()
    async with _redis(redis_url) as client:
        try:
            info = await client.info("all")
            done.findings += _judge_redis(config, info, await _read_config(client))
            done.clock = await _read_clock(lambda: _ask_redis(client))
            done.findings.append(_judge_clock("Redis", done.clock))
            done.findings.append(await _check_writes(client, info))
        except (RedisError, OSError) as exc:
            done.findings.append(Finding("Redis", "unknown", why_no_redis(exc, place_of(redis_url))))
    return done


@asynccontextmanager
async def _redis(redis_url: str) -> AsyncIterator[Any]:
    client = connect_redis(redis_url)
    try:
        yield client
    finally:
        await client.aclose()


async def _read_config(client: Any) -> dict[str, str]:
    """Settings that INFO does not have. Hosted servers often refuse to tell; then they are not known."""
    found: dict[str, str] = {}
    for name in ("save", "appendfsync", "maxclients"):
        try:
            found |= {key.decode(): value.decode() for key, value in (await _pairs(client, name)).items()}
        except ResponseError:
            pass
    return found


async def _pairs(client: Any, name: str) -> dict[bytes, bytes]:
    answer = await client.execute_command("CONFIG GET", name)
    if isinstance(answer, dict):
        return {_bytes(key): _bytes(value) for key, value in answer.items()}
    return dict(zip(map(_bytes, answer[::2]), map(_bytes, answer[1::2]), strict=True))


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _judge_redis(config: Config, info: dict[str, Any], settings: dict[str, str]) -> list[Finding]:
    version = str(info["redis_version"])
    numbers = tuple(int(part) for part in version.split(".")[:2])
    shown = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {version}"
    needed = config.workers * (CONNECTIONS_MAX + REDIS_OTHER_CONNECTIONS)
    clients = int(info.get("maxclients", settings.get("maxclients", 0)))
    policy = str(info.get("maxmemory_policy", "not told"))
    return [
        _judge(
            "Redis version",
            f"{shown} (at least Redis {'.'.join(map(str, REDIS_MIN))} or Valkey 7.2)",
            numbers >= REDIS_MIN,
            f"upgrade to Redis {'.'.join(map(str, REDIS_MIN))} or newer",
        ),
        _judge_persistence(info, settings),
        _judge(
            "Redis eviction policy",
            policy,
            policy in ("noeviction", "not told"),
            "set maxmemory-policy noeviction: a ranking that lost a key has to be rebuilt, again and again",
        ),
        _judge_memory(info),
        _judge(
            "Redis clients",
            f"{clients or 'unknown limit'}, {info.get('connected_clients', '?')} connected; a server of "
            f"{config.workers} {'process' if config.workers == 1 else 'processes'} takes up to {needed}",
            clients == 0 or clients >= needed,
            f"set maxclients to at least {needed}, and {needed} more for each further server",
        ),
    ]


def _judge_persistence(info: dict[str, Any], settings: dict[str, str]) -> Finding:
    """Redis need not keep anything, but one that fails at it stops taking writes."""
    is_kept = str(info.get("aof_enabled")) == "1"
    appended = f"appendonly {'yes' if is_kept else 'no'}"
    if is_kept and "appendfsync" in settings:
        appended += f", appendfsync {settings['appendfsync']}"
    saved = f"save {settings['save'] or 'off'}" if "save" in settings else "save not told"
    note = "" if is_kept else "; after a restart the rankings are rebuilt from PostgreSQL"
    fails = [name for name in ("rdb_last_bgsave_status", "aof_last_write_status") if info.get(name, "ok") != "ok"]
    return _judge(
        "Redis durability",
        f"{appended}, {saved}{note}" + "".join(f"; {name} is {info[name]}" for name in fails),
        not fails,
        "see its log, most often a full disk or missing permission: it refuses writes until it can save again",
    )


def _judge_memory(info: dict[str, Any]) -> Finding:
    used, limit = int(info["used_memory"]), int(info.get("maxmemory", 0))
    found = f"{used / 2**20:,.0f} MiB used, " + (f"maxmemory {limit / 2**20:,.0f} MiB" if limit else "no maxmemory")
    is_well = not limit or used <= MEMORY_SHARE_MAX * limit
    return _judge("Redis memory", found, is_well, "raise maxmemory: beyond it nothing can be ranked any more")


async def _check_writes(client: Any, info: dict[str, Any]) -> Finding:
    """Whether we may do what ranking takes: a script that writes, and messages both ways."""
    if info.get("role") != "master":
        where = f"{info.get('master_host')}:{info.get('master_port')}"
        return Finding(
            "Redis access", "mend", f"it is a replica of {where}", "name the primary: replicas take no writes"
        )
    name = f"sb:{{:doctor}}:{secrets.token_hex(8)}"  # no board has a colon in its id
    try:
        await client.execute_command("EVAL", _PROBE, 1, name)
        await client.execute_command("PUBLISH", f"{name}:events", "")
        async with client.pubsub() as subscription:
            await subscription.subscribe(f"{name}:events")
    except ResponseError as exc:
        return Finding(
            "Redis access", "mend", str(exc), "let the user write keys and channels sb:*, with scripts (ACL SETUSER)"
        )
    return Finding("Redis access", "ok", "may write, run scripts, publish and subscribe")


async def _ask_redis(client: Any) -> float:
    seconds, microseconds = await client.execute_command("TIME")
    return int(seconds) + int(microseconds) / 1e6


# -- clocks


async def _read_clock(ask: Callable[[], Awaitable[float]]) -> Clock:
    """Compare a clock with ours: it was asked at some moment of the round trip."""
    looks = []
    for _ in range(CLOCK_LOOKS):
        before = time.time()
        theirs = await ask()
        after = time.time()
        looks.append(Clock(theirs - (before + after) / 2, (after - before) / 2))
    return min(looks, key=lambda look: look.error_s)


def _judge_clock(name: str, clock: Clock) -> Finding:
    return _judge(
        f"{name} clock",
        f"{_spell(clock)} ours",
        abs(clock.ahead_s) - clock.error_s <= SKEW_MAX_S,
        "keep the clocks of all machines with NTP (chrony, systemd-timesyncd): tokens and periods go by them",
    )


def _compare_clocks(postgres: Clock, redis: Clock) -> Finding:
    apart = Clock(postgres.ahead_s - redis.ahead_s, postgres.error_s + redis.error_s)
    return _judge(
        "clocks of both stores",
        f"PostgreSQL's is {_spell(apart)} Redis'",
        abs(apart.ahead_s) - apart.error_s <= SKEW_MAX_S,
        "keep the clocks of all machines with NTP (chrony, systemd-timesyncd)",
    )


def _spell(clock: Clock) -> str:
    milliseconds, error = abs(clock.ahead_s) * 1_000, clock.error_s * 1_000
    return f"{milliseconds:,.0f} ms (±{error:.1f}) {'ahead of' if clock.ahead_s >= 0 else 'behind'}"


# -- rankings


async def _check_rankings(database_url: str, redis_url: str) -> list[Finding]:
    """How far each board's ranking is behind its ledger."""
    try:
        ledger = await Ledger.open(database_url)
        ranks = Ranks.open(redis_url)
        try:
            boards = await ledger.list_all_boards()
            behind = await _find_behind(ranks, boards)
            deadline = time.monotonic() + LAG_WAIT_S
            while behind and time.monotonic() < deadline:
                await asyncio.sleep(POLL_S)
                behind = await _find_behind(ranks, [board for board, _ in behind])
        finally:
            await ranks.close()
            await ledger.close()
    except (Unavailable, RanksUnavailable) as exc:
        return [Finding("rankings", "unknown", str(exc))]
    if not behind:
        return [Finding("rankings", "ok", f"{len(boards)} {'board' if len(boards) == 1 else 'boards'}, none behind")]
    told = [
        Finding(
            f"ranking of {board.board_id}",
            "mend",
            f"{what}, the ledger at {board.seq}",
            f"a running server catches up by itself; else run 'scoreboard rebuild --board {board.board_id}'",
        )
        for board, what in behind[:BOARDS_TOLD_MAX]
    ]
    if len(behind) > BOARDS_TOLD_MAX:
        left = len(behind) - BOARDS_TOLD_MAX
        told.append(Finding("rankings", "mend", f"{left} more boards are behind", "run 'scoreboard rebuild'"))
    return told


async def _find_behind(ranks: Ranks, boards: list[Board]) -> list[tuple[Board, str]]:
    """Boards whose ranking had not reached where their ledger was, and where it is."""
    behind = []
    for first in range(0, len(boards), BOARDS_AT_ONCE):
        some = boards[first : first + BOARDS_AT_ONCE]
        heads = await asyncio.gather(*(ranks.read_head(board.board_id) for board in some))
        for board, head in zip(some, heads, strict=True):
            if head is None:
                if board.seq:
                    behind.append((board, "there is none"))
            elif head.epoch != board.epoch:
                behind.append((board, f"it shows another history ({head.epoch})"))
            elif head.seq < board.seq:
                behind.append((board, f"it is at {head.seq}, {board.seq - head.seq:,} behind"))
    return behind
