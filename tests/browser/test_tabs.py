"""Many real tabs of one browser: a stream for all that are seen, none for those that are not."""

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Error, Page, expect

from tests.browser.board_page import SINCE, open_board, rows_of, state_of, wait_for_rows, wait_for_state
from tests.harness import Server, make_token, wait_until

READERS = "scoreboard_readers"
HTTP_1_CONNECTIONS = 6
STREAMS_MAX = 3
FORGOTTEN_S = 45.0
"""A tab that says nothing any more is forgotten after 32 s, looked at every 4 s."""


SUBMIT = """
([board, token, key]) => fetch('/api/scores', {
  method: 'POST',
  headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json', 'Idempotency-Key': key },
  body: JSON.stringify({ board, actionId: 'win' }),
}).then((answer) => answer.status)
"""


@pytest.fixture
def tabs(browser: Browser) -> Iterator["Tabs"]:
    """The browser's own tabs, all closed at the end."""
    opened = Tabs(browser)
    yield opened
    opened.close()


class Tabs:
    """Tabs in windows as a person has them."""

    def __init__(self, browser: Browser) -> None:
        self._context: BrowserContext = browser.contexts[0]
        self._session = browser.new_browser_cdp_session()
        self._before = list(self._context.pages)

    def open(self, *, window: bool = False) -> Page:
        """A tab in front of those of the window used last, or in a window of its own."""
        with self._context.expect_page() as opened:
            self._session.send("Target.createTarget", {"url": "about:blank", "newWindow": window})
        page = opened.value
        page.set_default_timeout(20_000)
        return page

    def close(self) -> None:
        for page in self._context.pages:
            if page not in self._before:
                page.close()
        self._session.detach()

    @property
    def seen(self) -> int:
        pages = [page for page in self._context.pages if page not in self._before]
        return sum(page.evaluate("document.visibilityState") == "visible" for page in pages)


@pytest.fixture
def server(site: Server) -> Server:
    """The module's server, once nobody reads from it any more."""
    wait_until(lambda: site.metric(READERS) == 0, within_s=FORGOTTEN_S, what="the end of earlier streams")
    return site


def total_of(server: Server) -> int:
    with server.client() as client:
        return int(client.get("/api/boards/global").json()["seq"])


@pytest.mark.timeout(180)
def test_eight_tabs_in_two_windows_have_one_stream_and_all_work(server: Server, tabs: Tabs) -> None:
    first = [open_board(tabs.open(window=number == 0), server, f"?me=demo-t{number}") for number in range(4)]
    second = [open_board(tabs.open(window=number == 4), server, f"?me=demo-t{number}") for number in range(4, 8)]
    pages = first + second
    assert tabs.seen == 2, "one in each window"
    wait_until(lambda: server.metric(READERS) == 1, what="a single stream")
    assert server.metric("scoreboard_connections") <= HTTP_1_CONNECTIONS + 1, "the last one is this question's"

    sixth = pages[5]
    sixth.bring_to_front()
    wait_for_state(sixth, "live")
    before = total_of(server)
    sixth.get_by_role("button", name="win").click()
    wait_until(lambda: total_of(server) == before + 1, within_s=5, what="the click in the sixth tab")
    wait_until(lambda: "demo-t5" in str(rows_of(sixth)), what="its row")
    wait_until(lambda: "demo-t5" in str(rows_of(first[3])), what="its row in the other window")
    assert server.metric(READERS) == 1

    for page in pages:  # everybody who is looked at is up to date
        page.bring_to_front()
        wait_for_state(page, "live")
        wait_until(lambda page=page: "demo-t5" in str(rows_of(page)), what="the row in every tab")  # type: ignore[misc]
    assert server.metric(READERS) == 1
    assert all(page.locator("#activity li").count() <= 1 for page in pages), "told once, and not again to who returns"


def test_hidden_tabs_have_no_stream_and_go_on_where_they_were(server: Server, tabs: Tabs) -> None:
    board = open_board(tabs.open(window=True), server, "?me=demo-h")
    known = board.locator("#activity li").count()
    blank = tabs.open()
    wait_until(lambda: server.metric(READERS) == 0, within_s=10, what="the end of the hidden tab's stream")
    resumed = 'scoreboard_streams_opened_total{start="resumed"}'
    before = server.metric(resumed)
    with server.client("demo-h") as client:
        for _ in range(2):
            assert client.post("/api/scores", json={"actionId": "assist"}).status_code == 200
    assert board.locator("#activity li").count() == known, "who is not seen hears nothing"
    blank.close()
    board.bring_to_front()
    wait_for_state(board, "live")
    wait_until(lambda: ["demo-h", "10"] in [row[1:] for row in rows_of(board)], what="what was missed")
    assert server.metric(READERS) == 1
    assert server.metric(resumed) == before + 1
    expect(board.locator("#activity li").first).to_contain_text("demo-h")


def test_a_tab_that_comes_late_is_told_the_board_of_now(server: Server, tabs: Tabs) -> None:
    one = open_board(tabs.open(window=True), server, "?me=demo-one")
    with server.client("demo-late") as client:
        assert client.post("/api/scores", json={"actionId": "bonus"}).status_code == 200
    wait_until(lambda: "demo-late" in str(rows_of(one)), what="the new score")
    two = open_board(tabs.open(window=True), server, "?me=demo-one")
    wait_for_rows(two, rows_of(one))
    expect(two.locator("#total")).to_have_text(one.locator("#total").inner_text())
    expect(two.locator("#activity li").first).to_contain_text("demo-late")
    assert server.metric(READERS) == 1


def test_a_tab_that_comes_late_hears_nothing_of_who_was_erased(server: Server, tabs: Tabs) -> None:
    one = open_board(tabs.open(window=True), server, "?me=demo-one")
    behind = open_board(tabs.open(window=True), server, "?me=demo-one")
    with server.client("erased-one") as client:
        assert client.post("/api/scores", json={"actionId": "bonus"}).status_code == 200
    expect(behind.locator("#activity")).to_contain_text("erased-one")
    tabs.open()  # hides the second one
    with server.client("root", "admin") as admin:
        assert admin.delete("/api/users/erased-one").is_success
    expect(one.locator("#activity")).not_to_contain_text("erased-one")
    late = open_board(tabs.open(window=True), server, "?me=demo-one")
    wait_for_rows(late, rows_of(one))
    expect(late.locator("#activity")).not_to_contain_text("erased-one")
    behind.bring_to_front()
    wait_for_state(behind, "live")
    expect(behind.locator("#activity")).not_to_contain_text("erased-one")


def test_boards_and_windows_do_not_mix(server: Server, tabs: Tabs) -> None:
    with server.client("root", "admin") as admin:
        assert admin.put("/api/boards/other", json={"title": "Other"}).status_code in (200, 201)
    one = open_board(tabs.open(window=True), server)
    two = open_board(tabs.open(window=True), server, "?board=other")
    expect(one.locator("h1:visible")).to_contain_text("Global")
    expect(two.get_by_text("Waiting for the first score")).to_be_visible()
    wait_until(lambda: server.metric(READERS) == 2, what="a stream for each board")


@pytest.mark.timeout(240)
def test_seven_boards_that_are_seen_share_a_few_streams_and_all_work(server: Server, tabs: Tabs) -> None:
    """A browser has six connections to a host; a stream for each board would take them all."""
    boards = ["global", *(f"seen-{number}" for number in range(6))]
    with server.client("root", "admin") as admin:
        for board in boards[1:]:
            assert admin.put(f"/api/boards/{board}", json={"title": board}).status_code == 201
            assert admin.put(f"/api/boards/{board}/actions/win", json={"points": 10}).status_code == 201
    pages = []
    for board in boards:
        pages.append(page := tabs.open(window=True))
        page.goto(f"{server.url}/?board={board}&me=demo-seven")
        wait_for_state(page, "live")
    assert tabs.seen == 7
    wait_until(lambda: server.metric(READERS) == STREAMS_MAX, what="as many streams as one browser may have")
    live, waiting = pages[-STREAMS_MAX:], pages[:-STREAMS_MAX]
    for page in waiting:
        wait_for_state(page, "reconnecting")
        expect(state_of(page)).to_contain_text(
            "too many boards are open in this browser: this one is refreshed every 10 s"
        )
        expect(state_of(page)).to_have_text(SINCE)

    with server.client() as client:
        sequences = [int(client.get(f"/api/boards/{board}").json()["seq"]) for board in boards]
    for board, page, before in zip(boards, pages, sequences, strict=True):
        answer = page.evaluate(SUBMIT, [board, make_token("demo-seven"), f"{board}-{before}"])
        assert answer == 200
    pages[0].locator("#play-actions").get_by_role("button", name="bonus").click()
    for page in pages:
        wait_until(lambda page=page: "demo-seven" in str(rows_of(page)), within_s=15, what="the row on every page")  # type: ignore[misc]
    for page in live:
        assert state_of(page).get_attribute("data-state") == "live"
    assert server.metric(READERS) == STREAMS_MAX

    pages[0].evaluate("dispatchEvent(new Event('focus'))")  # who looks at a board gets a stream for it
    wait_for_state(pages[0], "live")
    wait_for_state(live[0], "reconnecting")
    live[-1].close()
    wait_for_state(live[0], "live", within_s=10)
    wait_until(lambda: server.metric(READERS) == STREAMS_MAX, what="the free stream is taken")


@pytest.mark.timeout(180)
def test_a_tab_that_crashes_does_not_keep_the_stream(server: Server, tabs: Tabs) -> None:
    """A hidden one keeps the worker alive; only the crashed one, which can say nothing, was seen."""
    open_board(tabs.open(window=True), server)
    doomed = open_board(tabs.open(), server)
    assert (tabs.seen, server.metric(READERS)) == (1, 1)
    with doomed.expect_event("crash"), pytest.raises(Error, match="crash"):
        doomed.goto("chrome://crash")
    assert server.metric(READERS) == 1, "the worker has not crashed"
    wait_until(lambda: server.metric(READERS) == 0, within_s=FORGOTTEN_S, what="the end of the crashed tab's stream")


@pytest.mark.timeout(120)
def test_where_there_is_no_shared_worker_each_seen_tab_has_its_own(server: Server, tabs: Tabs) -> None:
    def open_without(*, window: bool) -> Page:
        page = tabs.open(window=window)
        page.add_init_script("delete globalThis.SharedWorker")
        return open_board(page, server, "?me=demo-own")

    pages = [
        open_without(window=True),
        open_without(window=False),
        open_without(window=True),
        open_without(window=False),
    ]
    assert tabs.seen == 2
    wait_until(lambda: server.metric(READERS) == 2, what="a stream for each that is seen")
    with server.client("demo-own") as client:
        assert client.post("/api/scores", json={"actionId": "assist"}).status_code == 200
    for page in pages:
        page.bring_to_front()
        wait_for_state(page, "live")
        wait_until(lambda page=page: ["demo-own", "5"] in [row[1:] for row in rows_of(page)], what="its row")  # type: ignore[misc]
    wait_until(lambda: server.metric(READERS) == 2, what="a stream for each that is seen")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(("spoken", "within_s"), [(False, 15), (True, 40)])
def test_a_worker_that_says_nothing_any_more_is_replaced(
    server: Server, tabs: Tabs, spoken: bool, within_s: float
) -> None:
    """One that has not spoken yet did perhaps not start; one that has, has the time that a server has."""
    page = tabs.open(window=True)
    page.add_init_script(
        """globalThis.SharedWorker = class {
          port = {
            close() {},
            postMessage({ say }) {
              const state = { is: 'state', state: 'live', resumed: false };
              if (say === 'join' && SPOKEN) setTimeout(() => this.onmessage({ data: state }));
            },
          };
        };""".replace("SPOKEN", "true" if spoken else "false")
    )
    page.goto(f"{server.url}/?me=demo-own")
    wait_for_state(page, "live" if spoken else "connecting")
    assert server.metric(READERS) == 0
    wait_until(lambda: server.metric(READERS) == 1, within_s=within_s, what="a stream of the page's own")
    wait_for_state(page, "live")


@pytest.mark.timeout(120)
def test_a_worker_that_can_not_be_loaded_is_replaced_soon(
    server: Server, new_context: Callable[..., BrowserContext]
) -> None:
    page = new_context().new_page()
    page.add_init_script(
        "const Worker = SharedWorker; globalThis.SharedWorker = class extends Worker {"
        "constructor(_, options) { super('/web/is-not-there.js', options); } };"
    )
    open_board(page, server)
    assert state_of(page).inner_text() == "Live"
