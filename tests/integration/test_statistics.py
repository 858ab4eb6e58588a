"""The planner knows of tables that came with rows, as soon as a command has migrated or imported."""

import secrets
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import structlog

from scoreboard.ledger import Ledger
from scoreboard.migrations import migrate
from scoreboard.statistics import TABLES, find_unknown, renew_statistics
from tests.harness import StoreFactory, Stores
from tests.integration.test_plans import FILL, FILL_TOTALS
from tests.own_stores import OwnPostgres

Run = Callable[..., object]
KNOWN = "SELECT DISTINCT tablename FROM pg_stats WHERE tablename = ANY ($1)"


@pytest.fixture
def stores(store_factory: StoreFactory) -> Iterator[Stores]:
    """A PostgreSQL of its own, whose superuser may make roles, and have the planner forget."""
    with OwnPostgres() as postgres:
        yield Stores(postgres.url, store_factory.fresh().redis_url)


def known(stores: Stores) -> set[str]:
    return {row["tablename"] for row in stores.query(KNOWN, list(TABLES))}


def test_migrating_tells_the_planner_of_tables_that_came_with_rows(run: Run, ledger: Ledger, stores: Stores) -> None:
    for statement in (FILL, FILL_TOTALS, "UPDATE boards SET seq = 200000, players = 50000"):
        stores.query(statement)
    stores.query("DELETE FROM pg_statistic WHERE starelid IN ('ledger'::regclass, 'totals'::regclass)")
    assert not known(stores) & {"ledger", "totals"}
    assert run(migrate(stores.database_url)) == []
    assert known(stores) >= {"ledger", "totals"}


def test_what_the_planner_knows_is_left_to_postgresql(run: Run, ledger: Ledger, stores: Stores) -> None:
    """Every command migrates, and large tables take seconds."""
    stores.query(FILL)
    run(migrate(stores.database_url))
    analyzed = "SELECT analyze_count FROM pg_stat_user_tables WHERE relname = 'ledger'"
    stores.query("SELECT pg_stat_force_next_flush()")
    before = stores.query(analyzed)[0][0]
    run(migrate(stores.database_url))
    stores.query("SELECT pg_stat_force_next_flush()")
    assert stores.query(analyzed)[0][0] == before >= 1


def test_a_role_that_does_not_own_the_tables_goes_on_and_says_so(run: Run, ledger: Ledger, stores: Stores) -> None:
    stores.query(FILL)
    role = f"reader_{secrets.token_hex(4)}"
    stores.query(f"CREATE ROLE {role} LOGIN")
    stores.query(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")

    async def look() -> tuple[list[str], list[str]]:
        connection = await asyncpg.connect(as_role(stores.database_url, role))
        try:
            unknown = await find_unknown(connection)
            await renew_statistics(connection, unknown)
            return unknown, await find_unknown(connection)
        finally:
            await connection.close()

    try:
        with structlog.testing.capture_logs() as logs:
            before, after = run(look())  # type: ignore[misc]
        assert "ledger" in before
        assert after == before
        assert {entry["event"] for entry in logs} == {"statistics_not_renewed"}
        assert any("ledger" in entry["reason"] and "owner" in entry["remedy"] for entry in logs)
    finally:
        stores.query(f"DROP OWNED BY {role}")
        stores.query(f"DROP ROLE {role}")


def as_role(url: str, role: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}"))


@pytest.mark.parametrize("table", TABLES)
def test_each_table_that_is_looked_at_is_there(ledger: Ledger, stores: Stores, table: str) -> None:
    assert stores.query("SELECT to_regclass($1) IS NOT NULL", table)[0][0]
