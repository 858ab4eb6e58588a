"""The schema equals its migrations, whoever applies them and however many at once."""

import asyncio
from collections.abc import Callable

import pytest

from scoreboard.contracts import load_migrations
from scoreboard.errors import StartupError
from scoreboard.migrations import migrate
from tests.harness import Stores

Run = Callable[..., object]


def test_migrations_apply_once(run: Run, stores: Stores) -> None:
    names = [migration.name for migration in load_migrations()]
    assert run(migrate(stores.database_url)) == names
    assert run(migrate(stores.database_url)) == []


def test_instances_that_start_together_take_turns(run: Run, stores: Stores) -> None:
    async def all_at_once() -> list[list[str]]:
        return await asyncio.gather(*(migrate(stores.database_url) for _ in range(5)))

    applied = run(all_at_once())
    assert sorted(map(len, applied)) == [0, 0, 0, 0, len(load_migrations())]


def test_a_changed_migration_is_refused(run: Run, stores: Stores) -> None:
    run(migrate(stores.database_url))
    stores.query("UPDATE schema_migrations SET checksum = 'other' WHERE version = 1")
    with pytest.raises(StartupError, match="0001"):
        run(migrate(stores.database_url))


def test_a_newer_schema_is_refused(run: Run, stores: Stores) -> None:
    run(migrate(stores.database_url))
    stores.query("INSERT INTO schema_migrations (version, name, checksum) VALUES (999, 'later', 'x')")
    with pytest.raises(StartupError, match="999"):
        run(migrate(stores.database_url))


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE boards SET seq = -1",
        "UPDATE boards SET players = 1",
        "INSERT INTO ledger (board_id, seq, user_id, action_id, points, score_after, at)"
        " VALUES ('global', 0, 'u', 'win', 1, 1, now())",
        "INSERT INTO ledger (board_id, seq, user_id, action_id, points, score_after, at)"
        " VALUES ('global', 1, 'u', 'win', 1, 9007199254740992, now())",
        "INSERT INTO totals"
        " (board_id, time_window, period, user_id, score, reached_seq, submissions, first_at, last_at)"
        " VALUES ('global', 'all', '2026-01-01', 'u', 1, 1, 1, now(), now())",
    ],
)
def test_the_schema_refuses_what_can_not_be(run: Run, stores: Stores, tampering: str) -> None:
    import asyncpg

    run(migrate(stores.database_url))
    with pytest.raises(asyncpg.CheckViolationError):
        stores.query(tampering)
