"""What PostgreSQL's planner knows of the tables, renewed where it can't know anything yet.

After much has come in at once, by an import or from a backup, the planner takes a board for a handful of rows until
PostgreSQL looks by itself, up to a minute later. Statements that are asked all the time don't depend on it; the costly
ones took all the time that they are given.
"""

from typing import Any

import asyncpg
import structlog

TABLES = ("boards", "users", "ledger", "totals", "periods", "groups", "group_members")
_FIND_UNKNOWN = """
SELECT c.relname
FROM unnest($1::text[]) named (name)
JOIN pg_class c ON c.oid = to_regclass(named.name)
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE pg_relation_size(c.oid) > 0
  AND NOT EXISTS (SELECT 1 FROM pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname)
ORDER BY c.relname
"""

log = structlog.get_logger(__name__)


async def find_unknown(connection: Any) -> list[str]:
    """Tables with rows of which the planner knows nothing."""
    return [row["relname"] for row in await connection.fetch(_FIND_UNKNOWN, list(TABLES))]


async def renew_statistics(connection: Any, tables: list[str], *, warns: bool = True) -> None:
    """Have PostgreSQL look at tables, by samples. Where it doesn't, that is logged, once for all: it goes on without.

    Tables that somebody else is looking at are left to that one. Those of another role PostgreSQL skips.
    """
    if not tables:
        return
    reasons: list[str] = []

    def note(_: object, message: Any) -> None:
        reasons.append(message.message)

    connection.add_log_listener(note)
    try:
        await connection.execute(f"ANALYZE (SKIP_LOCKED) {', '.join(tables)}")
    except asyncpg.PostgresError as exc:
        reasons.append(str(exc))
    finally:
        connection.remove_log_listener(note)
    if reasons and warns:
        remedy = f"ANALYZE {', '.join(tables)}, as their owner"
        log.warning("statistics_not_renewed", reason="; ".join(reasons), remedy=remedy)
