"""Where there is no board, or nothing at all, the page lists the boards that there are."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from tests.browser.board_page import settle, state_of, wait_for_state, watch_for_trouble
from tests.harness import Server


@pytest.fixture(scope="module")
def quiz(site: Server) -> str:
    """A board whose title is no markup."""
    with site.client("root", "admin") as admin:
        assert admin.put("/api/boards/quiz", json={"title": "<b>Quiz</b> night", "windows": ["all", "day"]}).is_success
    return "quiz"


@pytest.mark.parametrize(
    ("path", "status", "what"),
    [
        ("/?board=unknown", 200, "There is no board “unknown”"),
        ("/?board=" + "x" * 80, 200, "There is no board"),
        ("/?board=a/b<i>", 200, "There is no board “a/b<i>”"),
        ("/?board=..", 200, "There is no board “..”"),
        ("/?board=.&me=ada", 200, "There is no board “.”"),
        ("/?board=qui&me=ada", 200, "There is no board “qui”"),
        ("/?board=quiz2&me=ada", 200, "There is no board “quiz2”"),
        ("/?window=foo&me=ada", 200, "The board “global” has no window “foo”"),
        ("/?board=quiz&window=month", 200, "The board “quiz” has no window “month”"),
        ("/no/such/page", 404, "There is nothing at /no/such/page"),
        ("/web/nope.js", 404, "There is nothing at /web/nope.js"),
    ],
)
def test_it_says_what_was_not_found_and_lists_the_boards(
    site: Server, quiz: str, page: Page, path: str, status: int, what: str
) -> None:
    trouble = watch_for_trouble(page)
    answer = page.goto(f"{site.url}{path}")
    assert answer is not None and answer.status == status
    expect(page.locator("#not-found")).to_contain_text(what)
    links = page.locator("#boards a")
    expect(links).to_have_text(["Global", "<b>Quiz</b> night"])
    expect(state_of(page)).to_have_attribute("data-state", "stopped")
    expect(page.locator("#board-page")).to_be_hidden()
    settle(page)
    assert trouble == [] or status == 404, "a browser calls each question about what is not there an error"
    links.last.click()
    wait_for_state(page, "live")
    expect(page.locator("h1:visible")).to_contain_text("<b>Quiz</b> night")


def test_more_boards_than_fit_are_shown_on_demand(site: Server, quiz: str, page: Page) -> None:
    with site.client("root", "admin") as admin:
        for number in range(105):
            assert admin.put(f"/api/boards/many-{number:03}", json={}).status_code in (200, 201)
    page.goto(f"{site.url}/?board=unknown")
    links = page.locator("#boards a")
    expect(links).to_have_count(100)
    page.get_by_role("button", name="Show more boards").click()
    expect(links).to_have_count(107)
    expect(page.get_by_role("button", name="Show more boards")).to_be_hidden()


@pytest.mark.parametrize("path", ["/no/such/page", "/?board=.."])
def test_where_reads_are_not_public_it_says_that_one_has_to_sign_in(
    start_module_server: Callable[..., Server], page: Page, path: str
) -> None:
    server = start_module_server(PUBLIC_READS="false")
    page.goto(f"{server.url}{path}")
    expect(page.locator("#boards-note")).to_contain_text("signed-in users only. Sign in")
    server.stop()
