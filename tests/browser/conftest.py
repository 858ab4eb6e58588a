"""Fixtures of the tests in a browser.

Playwright keeps an event loop running in its thread for as long as it is connected, so that no other one can be. It is
connected for a module at a time, and the servers of these modules bring stores of their own, which need no loop here.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser.chromium import Chromium, NoChromium
from tests.harness import SECRET, Server

DEADLINE_MS = 20_000
expect.set_options(timeout=DEADLINE_MS)


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    """The browser of the session."""
    try:
        browser = Chromium(tmp_path_factory.mktemp("chromium"))
    except NoChromium as exc:
        pytest.fail(str(exc), pytrace=False)
    yield browser
    browser.stop()


@pytest.fixture(scope="module")
def browser(chromium: Chromium) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        connected = playwright.chromium.connect_over_cdp(chromium.endpoint, no_defaults=True)
        yield connected
        connected.close()


@pytest.fixture
def new_context(browser: Browser) -> Iterator[Callable[..., BrowserContext]]:
    """Make contexts: browsers that share nothing, whose pages count as seen."""
    made: list[BrowserContext] = []

    def make(**settings: object) -> BrowserContext:
        context = browser.new_context(**settings)  # type: ignore[arg-type]
        context.set_default_timeout(DEADLINE_MS)
        made.append(context)
        return context

    yield make
    for context in made:
        context.close()


@pytest.fixture
def page(new_context: Callable[..., BrowserContext]) -> Page:
    """A page of a browser that was never here before."""
    return new_context().new_page()


@pytest.fixture(scope="module")
def start_module_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start servers with embedded stores and the demo; at the end of the module they stop."""
    started: list[tuple[Server, Path]] = []

    def start(**settings: str) -> Server:
        folder = tmp_path_factory.mktemp("server")
        defaults = {"JWT_SECRET": SECRET, "RATE_LIMIT": "off"}
        server = Server(data_dir=folder / "data", log=folder / "server.log", **defaults | settings)
        started.append((server, folder))
        return server.start()

    yield start
    for server, folder in started:
        server.kill() if server.process is None else server.stop()
        if server.process is not None and server.process.returncode != 0:  # what it left, the next command ends
            Server(data_dir=folder / "data", log=folder / "last.log").run("migrate")


@pytest.fixture(scope="module")
def site(start_module_server: Callable[..., Server]) -> Server:
    """The module's server, with the sample actions of a new database."""
    return start_module_server()
