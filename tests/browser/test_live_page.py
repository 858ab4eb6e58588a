"""The live page in a browser: what it shows of a board, large and small, light and dark."""

import itertools
import re
import unicodedata
from collections.abc import Callable, Iterator
from urllib.parse import quote

import httpx
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.board_page import (
    CONTRAST_MIN,
    open_board,
    rows_of,
    settle,
    wait_for_rows,
    wait_on,
    watch_for_trouble,
    weakest_contrast,
)
from tests.harness import Server, wait_until

boards = (f"board-{number}" for number in itertools.count(1))


@pytest.fixture
def admin(site: Server) -> Iterator[httpx.Client]:
    with site.client("root", "admin scores:any") as client:
        yield client


@pytest.fixture
def board(admin: httpx.Client) -> str:
    """A new board whose action ``win`` is worth 10."""
    name = next(boards)
    assert admin.put(f"/api/boards/{name}", json={"title": f"Quiz № {name}"}).status_code == 201
    assert admin.put(f"/api/boards/{name}/actions/win", json={"points": 10}).status_code == 201
    return name


def score(client: httpx.Client, board: str, user: str, times: int = 1) -> None:
    for _ in range(times):
        answer = client.post("/api/scores", json={"board": board, "userId": user, "actionId": "win"})
        assert answer.status_code == 200, answer.text


# -- what it shows


def test_a_first_visit_meets_no_error(site: Server, page: Page) -> None:
    trouble = watch_for_trouble(page)
    open_board(page, site)
    expect(page.locator("#play-actions button").first).to_be_visible()
    settle(page)
    assert page.evaluate("fetch('/favicon.ico').then(answer => answer.headers.get('content-type'))") == "image/svg+xml"
    assert trouble == []


def test_a_visit_to_a_board_without_demo_meets_no_error(site: Server, board: str, page: Page) -> None:
    trouble = watch_for_trouble(page)
    open_board(page, site, f"?board={board}&me=somebody-new")
    settle(page)
    assert trouble == []


def test_the_title_of_the_board_is_in_the_heading_and_in_the_tab(
    site: Server, board: str, admin: httpx.Client, page: Page
) -> None:
    open_board(page, site, f"?board={board}")
    expect(page.locator("h1:visible")).to_contain_text(f"Quiz № {board}")
    expect(page).to_have_title(re.compile(f"^Quiz № {board}"))
    assert admin.put(f"/api/boards/{board}", json={"title": "Renamed", "ties": "dense"}).status_code == 200
    expect(page.locator("h1:visible")).to_contain_text("Renamed")
    expect(page).to_have_title(re.compile("^Renamed"))


def test_an_empty_board_waits_for_its_first_score(site: Server, board: str, admin: httpx.Client, page: Page) -> None:
    open_board(page, site, f"?board={board}&me=ada")
    expect(page.get_by_text("Waiting for the first score")).to_be_visible()
    assert "curl" not in page.locator("main:visible").inner_text()
    settle(page)
    assert rows_of(page) == [], "nobody has a row who has no score"
    score(admin, board, "ada")
    wait_for_rows(page, [["1", "ada", "10"]])
    expect(page.get_by_text("Waiting for the first score")).to_be_hidden()


def test_buttons_are_on_global_alone_and_for_actions_with_a_price(
    site: Server, board: str, admin: httpx.Client, page: Page
) -> None:
    assert admin.put("/api/boards/global/actions/open", json={"points": {"min": 1, "max": 9}}).status_code == 201
    open_board(page, site)
    buttons = page.locator("#play-actions button")
    expect(buttons.first).to_be_visible()
    names = [text.split()[0] for text in buttons.all_inner_texts()]
    assert "win" in names and "open" not in names
    open_board(page, site, f"?board={board}")
    settle(page)
    expect(page.locator("#play")).to_be_hidden()


def test_a_player_has_one_row_in_the_top_ten_or_below(
    site: Server, board: str, admin: httpx.Client, page: Page
) -> None:
    for number in range(10):
        score(admin, board, f"user-{number}", times=2)
    open_board(page, site, f"?board={board}&me=zoe")
    wait_until(lambda: [row[:2] for row in rows_of(page)][10:] == [["–", "zoe"]], what="a row without a score")
    score(admin, board, "zoe")
    wait_until(lambda: rows_of(page)[10:] == [["11", "zoe", "10"]], what="the own row")
    score(admin, board, "zoe", times=2)
    wait_until(lambda: rows_of(page)[:1] == [["1", "zoe", "30"]], what="the place in the top ten")
    assert [row[1] for row in rows_of(page)].count("zoe") == 1
    assert page.locator("tbody tr[aria-current]").count() == 1


def test_activity_says_display_names(site: Server, board: str, admin: httpx.Client, page: Page) -> None:
    for number in range(10):
        score(admin, board, f"user-{number}", times=2)
    assert admin.put("/api/users/id-17", json={"displayName": "Ada Lovelace"}).status_code == 200
    open_board(page, site, f"?board={board}")
    score(admin, board, "id-17")  # below the top ten, whose names come with them
    activity = page.locator("#activity")
    expect(activity).to_contain_text("Ada Lovelace")
    assert "id-17" not in activity.inner_text()
    assert admin.put("/api/users/id-17", json={"displayName": "Countess"}).status_code == 200
    expect(activity).to_contain_text("Countess")
    assert admin.post("/api/users/id-17/hide").status_code in (200, 204)
    expect(activity).not_to_contain_text("Countess")


def test_an_erased_player_is_not_named_any_more(site: Server, board: str, admin: httpx.Client, page: Page) -> None:
    """The row is the visitor's own choice and keeps the id, which they typed; the name was the player's."""
    for number in range(10):
        score(admin, board, f"user-{number}", times=2)
    score(admin, board, "gone")
    open_board(page, site, f"?board={board}&me=gone")
    wait_until(lambda: rows_of(page)[10:] == [["11", "gone", "10"]], what="the row")
    assert admin.put("/api/users/gone", json={"displayName": "Gone Girl"}).status_code == 200
    wait_until(lambda: rows_of(page)[10:] == [["11", "Gone Girl", "10"]], what="the name")
    score(admin, board, "gone")
    expect(page.locator("#activity")).to_contain_text("Gone Girl")
    assert admin.delete("/api/users/gone").status_code in (200, 204)
    wait_until(lambda: rows_of(page)[10:] == [["–", "gone", "–"]], what="the row without a name")
    expect(page.locator("body")).not_to_contain_text("Gone Girl")
    for _ in range(2):  # a namesake with the id starts without a name, too
        score(admin, board, "gone")
        expect(page.locator("#activity li").first).to_contain_text("gone")
        page.wait_for_timeout(500)
    expect(page.locator("body")).not_to_contain_text("Gone Girl")


def test_a_changed_title_is_read_within_two_minutes(site: Server, board: str, admin: httpx.Client, page: Page) -> None:
    page.clock.install()
    open_board(page, site, f"?board={board}")
    expect(page.locator("h1:visible")).to_contain_text(f"Quiz № {board}")
    assert admin.patch(f"/api/boards/{board}", json={"title": "Renamed"}).status_code == 200
    page.clock.fast_forward(90_000)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for _ in range(3):
        score(admin, board, "ada")
    expect(page.locator("h1:visible")).to_contain_text("Renamed")
    expect(page).to_have_title(re.compile("^Renamed"))
    assert sum(address.endswith(f"/api/boards/{board}") for address in asked) == 1


SPEAKING_WORKER = """
globalThis.SharedWorker = class {
  port = {
    close() {},
    postMessage({ say }) {
      if (say !== 'join') return;
      const hear = (data) => this.onmessage({ data });
      const frame = (type, data) => hear({ is: 'snapshot', hub: 'h', number: 1, type, data });
      setTimeout(() => {
        hear({ is: 'state', state: 'live', resumed: false });
        frame('leaderboard', { board: 'global', top10: [], total: 0, seq: 0 });
        FRAMES.forEach((name, seq) => frame('score-updated', {
          userId: `user-${seq}`, actionId: 'win', points: 1, score: 1, rank: 11, previousRank: 11, seq, ...name,
        }));
      });
    },
  };
};
"""


def test_names_that_come_with_scores_are_not_asked_for(site: Server, page: Page) -> None:
    """Null says that there is none; only where a frame says nothing is there anything to ask."""
    frames = "[{ displayName: 'Ada Lovelace' }, { displayName: null }, {}]"
    page.add_init_script(SPEAKING_WORKER.replace("FRAMES", frames))
    asked: list[str] = []
    page.on("request", lambda request: "/users?" in request.url and asked.append(request.url))
    open_board(page, site, "?me=somebody")
    names = page.locator("#activity .name")
    expect(names).to_have_text(["user-2", "user-1", "Ada Lovelace"])
    wait_on(page, lambda: any("ids=user-2" in address for address in asked), what="the question for a name")
    assert not any("user-0" in address or "user-1" in address for address in asked)


@pytest.mark.parametrize(
    ("user_id", "problem"),
    [
        ("ada\u202e", "U+202E"),
        ("a\u200bda", "U+200B"),
        ("..", "means another folder"),
        ("\u2800", "can be seen"),
        ("a\u200d", "U+200D"),
        ("a" * 65, "at most 64"),
    ],
)
def test_an_id_that_the_server_would_refuse_is_not_pinned(
    site: Server, board: str, page: Page, user_id: str, problem: str
) -> None:
    trouble = watch_for_trouble(page)
    open_board(page, site, f"?board={board}&me={quote(user_id, safe='')}")
    expect(page.locator("#me-note")).to_contain_text(problem)
    field = page.locator("#me-input")
    expect(field).to_have_value("")
    field.fill(user_id)
    page.get_by_role("button", name="Pin").click()
    assert problem in field.evaluate("field => field.validationMessage")
    settle(page)
    assert trouble == []
    assert page.evaluate("localStorage.getItem('scoreboard.me')") is None


@pytest.mark.parametrize(
    "user_id",
    [
        "a,b%/c",
        "Zoë",
        "👩\u200d🚀",
        "می\u200cخواهم",
        "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    ],
)
def test_an_id_that_the_server_takes_is_pinned_in_its_one_spelling(
    site: Server, board: str, admin: httpx.Client, page: Page, user_id: str
) -> None:
    score(admin, board, user_id)
    open_board(page, site, f"?board={board}")
    page.locator("#me-input").fill(unicodedata.normalize("NFD", user_id))
    page.get_by_role("button", name="Pin").click()
    expect(page.locator("tbody tr[aria-current] .name")).to_have_text(user_id)


# -- small, dark, still


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_320_pixels_and_can_be_read(
    site: Server, board: str, admin: httpx.Client, new_context: Callable[..., BrowserContext], scheme: str
) -> None:
    for user in ("ada", "somebody-with-quite-a-long-name-that-does-not-fit-into-a-row"):
        score(admin, board, user)
    size = {"width": 320, "height": 568}
    context = new_context(viewport=size, color_scheme=scheme, reduced_motion="reduce")
    page = open_board(context.new_page(), site, f"?board={board}&me=nobody")
    wait_until(lambda: len(rows_of(page)) == 3, what="the rows")
    assert overflow(page) == 0
    text, contrast = weakest_contrast(page)
    assert contrast >= CONTRAST_MIN, f"{text!r} has a contrast of {contrast:.2f}"
    context.set_offline(True)
    expect(page.locator("body")).to_have_class(re.compile("not-live"))
    assert overflow(page) == 0
    text, contrast = weakest_contrast(page)
    assert contrast >= CONTRAST_MIN, f"{text!r} has a contrast of {contrast:.2f}"
    assert page.evaluate("document.getAnimations().filter(each => each.playState === 'running').length") == 0


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))
