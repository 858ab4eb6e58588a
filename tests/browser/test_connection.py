"""What the live page says of its connection: never "Live" of a server that is dead, hangs, is full or out of reach."""

import re
import signal
import time
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.board_page import (
    CONTRAST_MIN,
    SINCE,
    open_board,
    rows_of,
    state_of,
    wait_for_rows,
    wait_for_state,
    weakest_contrast,
)
from tests.harness import Server, Stream

SILENCE_MAX_S = 25


@pytest.fixture
def own(start_module_server: Callable[..., Server]) -> Iterator[Server]:
    """A server of this test's own, to be killed, with a player on its board."""
    server = start_module_server()
    assert server.submit("ada").status_code == 200
    yield server
    server.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.timeout(180)
def test_a_killed_server_is_not_live_and_a_new_one_is(
    own: Server, new_context: Callable[..., BrowserContext], scheme: str
) -> None:
    page = open_board(new_context(color_scheme=scheme).new_page(), own, "?me=ada")
    wait_for_rows(page, [["1", "ada", "10"]])
    killed = datetime.now()
    own.kill()
    wait_for_state(page, "reconnecting", within_s=5)
    said = SINCE.search(state_of(page).inner_text())
    assert said is not None, state_of(page).inner_text()
    since = killed.replace(hour=int(said[1]), minute=int(said[2]), second=int(said[3]))
    assert abs((since - killed).total_seconds()) < 5
    expect(page.locator("body")).to_have_class(re.compile("not-live"))
    assert rows_of(page) == [["1", "ada", "10"]], "what was known stays"
    text, contrast = weakest_contrast(page)
    assert contrast >= CONTRAST_MIN, f"{text!r} has a contrast of {contrast:.2f}"
    letters = float(state_of(page).evaluate("node => parseFloat(getComputedStyle(node).fontSize)"))
    assert letters >= 0.04 * page.viewport_size["height"]  # type: ignore[index]
    own.start()
    wait_for_state(page, "live", within_s=30)
    assert own.submit("ada").status_code == 200
    wait_for_rows(page, [["1", "ada", "20"]])
    expect(page.locator("body")).not_to_have_class(re.compile("not-live"))


@pytest.mark.timeout(180)
def test_a_server_that_hangs_is_not_live(own: Server, page: Page) -> None:
    """Its connection stays, so silence is all that there is to notice."""
    open_board(page, own, "?me=ada")
    assert own.process is not None
    own.process.send_signal(signal.SIGSTOP)
    try:
        stopped = time.monotonic()
        wait_for_state(page, "reconnecting", within_s=SILENCE_MAX_S + 5)
        assert SINCE.search(state_of(page).inner_text())
        while time.monotonic() < stopped + SILENCE_MAX_S + 12:  # new attempts do not look like a live board
            assert state_of(page).get_attribute("data-state") == "reconnecting"
            page.wait_for_timeout(100)
    finally:
        own.process.send_signal(signal.SIGCONT)
    wait_for_state(page, "live", within_s=30)
    assert own.submit("ada").status_code == 200
    wait_for_rows(page, [["1", "ada", "20"]])


def test_offline_is_not_live_and_online_is_within_5_s(site: Server, new_context: Callable[..., BrowserContext]) -> None:
    context = new_context()
    page = open_board(context.new_page(), site, "?me=ada")
    context.set_offline(True)
    wait_for_state(page, "offline", within_s=2)
    assert SINCE.search(state_of(page).inner_text())
    assert site.submit("ada").status_code == 200
    page.wait_for_timeout(500)
    assert rows_of(page) == [], "a board that says that it is not live does not move"
    context.set_offline(False)
    wait_for_state(page, "live", within_s=5)
    wait_for_rows(page, [["1", "ada", "10"]])


def test_a_server_that_is_full_is_not_live(start_module_server: Callable[..., Server], page: Page) -> None:
    """It answers 200 and ends the stream, which looks like an open one for a moment."""
    server = start_module_server(STREAMS_MAX="1")
    with Stream(server.stream_url()):
        page.goto(server.url)
        expect(state_of(page)).to_have_text("Not live yet — the server is full, trying again")
        for _ in range(40):
            assert state_of(page).get_attribute("data-state") == "connecting"
            page.wait_for_timeout(100)
    wait_for_state(page, "live")
    assert state_of(page).inner_text() == "Live"
    server.stop()


@pytest.mark.timeout(120)
def test_a_quiet_board_stays_live(site: Server, page: Page) -> None:
    open_board(page, site)
    page.evaluate(
        """() => {
          window.states = [];
          const node = document.querySelector('[data-state]');
          new MutationObserver(() => states.push(node.dataset.state)).observe(node, { attributes: true });
        }"""
    )
    page.wait_for_timeout((SILENCE_MAX_S + 7) * 1_000)
    assert page.evaluate("states") == []


def test_the_state_is_told_politely(site: Server, page: Page) -> None:
    open_board(page, site)
    assert state_of(page).get_attribute("aria-live") == "polite"
    assert state_of(page).inner_text() == "Live"
