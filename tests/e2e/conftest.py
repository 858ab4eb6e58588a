"""Fixtures of the black-box tests: one server a module, with a Valkey of its own."""

from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.harness import Server, StoreFactory, Stores
from tests.own_stores import OwnValkey


@pytest.fixture(scope="module")
def module_stores(store_factory: StoreFactory) -> Iterator[Stores]:
    """A fresh database and a Valkey process, so that no other test's flush or message reaches this module."""
    database_url = store_factory.fresh().database_url
    with OwnValkey() as valkey:
        yield Stores(database_url, valkey.url)


@pytest.fixture(scope="module")
def start_shared(module_stores: Stores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start servers on the module's stores; at its end they stop, and ledger, totals and ranking agree."""
    started: list[Server] = []

    def start(**settings: str) -> Server:
        server = Server(module_stores, log=tmp_path_factory.mktemp("shared") / "server.log", **settings)
        started.append(server)
        return server.start()

    try:
        yield start
        assert [server.stop() for server in started] == [0] * len(started)
        verified = started[0].run("verify")
        assert verified.returncode == 0, verified.stdout + verified.stderr
    finally:
        for server in started:
            server.kill()


@pytest.fixture(scope="module")
def shared(start_shared: Callable[..., Server]) -> Server:
    """The module's server, with one action ``win`` worth 10 points on board ``global``."""
    server = start_shared()
    server.put_action("win", 10)
    return server


@pytest.fixture(scope="module")
def public(shared: Server) -> Iterator[httpx.Client]:
    """A client that nobody has signed in."""
    with shared.client() as client:
        yield client
