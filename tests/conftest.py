"""Fixtures: stores once per test process, a fresh database and server per test; and how tests share the machine.

Tests of one file run one after the other in one process. Those that mostly wait, for deadlines and for browsers, are
one sequence that leaves the processors to the others. Those that load or measure a server run while that is so: under
three processes that were all busy some of them were refused what they had to be given.
"""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

from scoreboard.application_role import APPLICATION_ROLE
from tests.harness import Server, StoreFactory, Stores

hypothesis.settings.register_profile("ci", max_examples=100, deadline=None, print_blob=True, derandomize=True)
hypothesis.settings.register_profile("deep", max_examples=2_000, deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

WAITING = ("tests/browser/", "tests/e2e/test_deadlines.py", "tests/e2e/test_workers.py")
LOADING = ("tests/faults/", "tests/abuse/")


class _ByFile(LoadScopeScheduling):
    """Hands out files, and all those that wait as if they were one."""

    def _split_scope(self, nodeid: str) -> str:
        return "waiting" if nodeid.startswith(WAITING) else nodeid.partition("::")[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> _ByFile:
    return _ByFile(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits begins, then what needs the processors; the order is else as it was."""
    items.sort(key=lambda item: (not item.nodeid.startswith(WAITING), not item.nodeid.startswith(LOADING)))


@pytest.fixture(scope="session")
def store_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreFactory]:
    database_url = os.environ.get("SCOREBOARD_TEST_DATABASE_URL")
    redis_url = os.environ.get("SCOREBOARD_TEST_REDIS_URL")
    if database_url and redis_url:
        factory = StoreFactory(database_url, redis_url)
        yield factory
        factory.close()
        return
    from scoreboard.embedded import DataDir, EmbeddedStores

    stores = EmbeddedStores(DataDir(tmp_path_factory.mktemp("stores")))
    with asyncio.Runner() as runner:
        try:
            runner.run(stores.start())
            runner.run(_let_make_databases(stores.data.admin_url))
            yield StoreFactory(stores.data.database_url, stores.data.redis_url)
        finally:
            runner.run(stores.stop())


async def _let_make_databases(admin_url: str) -> None:
    """Every test has a database of its own, which belongs to the role of the server: no superuser works in any."""
    connection = await asyncpg.connect(admin_url)
    await connection.execute(f"ALTER ROLE {APPLICATION_ROLE} CREATEDB")
    await connection.close()


@pytest.fixture
def stores(store_factory: StoreFactory) -> Stores:
    return store_factory.fresh()


@pytest.fixture
def start_server(stores: Stores, tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start servers on this test's stores; what still runs at its end is killed."""
    started: list[Server] = []

    def start(**settings: str) -> Server:
        server = Server(stores, log=tmp_path / f"server{len(started)}.log", **settings)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.kill()


@pytest.fixture
def server(start_server: Callable[..., Server]) -> Server:
    """A server with one action, ``win``, worth 10 points."""
    server = start_server()
    server.put_action("win", 10)
    return server


@pytest.fixture
def run() -> Iterator[Callable[..., object]]:
    """Run coroutines of one test on one event loop."""
    with asyncio.Runner() as runner:
        yield runner.run
