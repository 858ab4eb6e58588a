"""Migrated stores, and the rooms that talk to them."""

from collections.abc import Callable, Iterator

import pytest

from scoreboard.ledger import Ledger
from scoreboard.metrics import Metrics
from scoreboard.migrations import migrate
from scoreboard.model import Action
from scoreboard.ranks import Ranks
from scoreboard.repair import Repair
from tests.harness import Stores

Run = Callable[..., object]


@pytest.fixture
def ledger(run: Run, stores: Stores) -> Iterator[Ledger]:
    """A ledger on a migrated database; board ``global`` has the action ``win`` worth 10 points."""
    run(migrate(stores.database_url))
    opened = run(Ledger.open(stores.database_url))
    run(opened.put_action("global", Action("win", 10, 0, None, True)))
    yield opened
    run(opened.close())


@pytest.fixture
def ranks(run: Run, stores: Stores) -> Iterator[Ranks]:
    opened = Ranks.open(stores.redis_url)
    yield opened
    run(opened.close())


@pytest.fixture
def repair(ledger: Ledger, ranks: Ranks) -> Repair:
    return Repair(ledger, ranks, Metrics(), on_healed=lambda board: None)
