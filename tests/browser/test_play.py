"""Submissions from the page while the server is away: pending, then counted once, or not and why."""

import itertools
import re
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Route, expect

from tests.browser.board_page import open_board, rows_of, wait_for_state, wait_on
from tests.harness import Server, make_token, wait_until

SUBMISSIONS = "**/api/scores"
GIVE_UP_MS = 5 * 60 * 1_000
players = (f"demo-player-{number}" for number in itertools.count(1))


@pytest.fixture
def player() -> str:
    return next(players)


@pytest.fixture
def admin(site: Server) -> Iterator[httpx.Client]:
    with site.client("root", "admin scores:any") as client:
        yield client


def play_as(page: Page, server: Server, player: str) -> Page:
    open_board(page, server, f"?me={player}")
    expect(page.locator("#play-name")).to_have_text(player)
    return page


def press(page: Page, action: str = "win") -> None:
    page.locator("#play-actions").get_by_role("button", name=re.compile(f"^{action} ")).click()


def fates(page: Page) -> Locator:
    return page.locator("#outbox li")


def score_of(server: Server, player: str) -> int | None:
    with server.client() as client:
        users = client.get("/api/leaderboard/users", params={"ids": player}).json()["leaderboard"]
    return users[0]["score"]  # type: ignore[no-any-return]


def wait_for_score(page: Page, server: Server, player: str, score: int) -> None:
    wait_on(page, lambda: score_of(server, player) == score, what=f"a score of {score}")


def lose_answers(page: Page, lost: int) -> list[str]:
    """Lose the answers to the first submissions after the server gave them; returns the keys of all tries in order."""
    keys: list[str] = []

    def handle(route: Route) -> None:
        keys.append(route.request.headers["idempotency-key"])
        if len(keys) <= lost:
            assert route.fetch().status == 200
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route(SUBMISSIONS, handle)
    return keys


def test_what_counts_at_once_needs_no_words(site: Server, page: Page, player: str) -> None:
    play_as(page, site, player)
    press(page)
    wait_for_score(page, site, player, 10)
    wait_until(lambda: [player, "10"] in [row[1:] for row in rows_of(page)], what="the row")
    expect(fates(page)).to_have_count(0)


@pytest.mark.timeout(180)
def test_presses_while_the_server_is_away_are_pending_and_count_once(
    start_module_server: Callable[..., Server], page: Page, player: str
) -> None:
    server = start_module_server()
    play_as(page, server, player)
    server.kill()
    wait_for_state(page, "reconnecting")
    press(page, "win")
    press(page, "bonus")
    expect(fates(page)).to_have_count(2)
    expect(fates(page).first).to_contain_text("pending")
    expect(fates(page).last).to_contain_text("pending")
    server.start()
    expect(fates(page).first).to_contain_text("counted", timeout=30_000)
    expect(fates(page).last).to_contain_text("counted", timeout=30_000)
    wait_for_score(page, server, player, 35)
    expect(fates(page)).to_have_count(0, timeout=10_000)
    with server.client() as client:
        assert client.get("/api/boards/global").json()["seq"] == 2
    server.stop()


def test_a_lost_answer_does_not_count_twice(site: Server, page: Page, player: str) -> None:
    play_as(page, site, player)
    keys = lose_answers(page, 2)
    press(page)
    expect(fates(page)).to_contain_text("counted: the score is 10")
    assert len(keys) == 3 and len(set(keys)) == 1
    assert score_of(site, player) == 10


def test_a_refused_submission_says_why(site: Server, admin: httpx.Client, page: Page, player: str) -> None:
    assert admin.put("/api/boards/global/actions/brief", json={"points": 3}).status_code in (200, 201)
    play_as(page, site, player)
    assert admin.delete("/api/boards/global/actions/brief").status_code == 204
    press(page, "brief")
    expect(fates(page)).to_contain_text("did not count")
    expect(fates(page)).to_contain_text("brief")
    assert score_of(site, player) is None
    fates(page).get_by_role("button", name="Dismiss").click()
    expect(fates(page)).to_have_count(0)


def expire_tokens(page: Page, *, times: int, renewed: bool) -> None:
    """The page's token has expired for so many tries. :param renewed: whether the server still gives new ones."""
    tries = itertools.count(1)

    def handle(route: Route) -> None:
        user = "demo-whoever"
        stale = {**route.request.headers, "authorization": f"Bearer {make_token(user, ttl_s=-600)}"}
        route.continue_(headers=stale if next(tries) <= times else route.request.headers)

    page.route(SUBMISSIONS, handle)
    if not renewed:
        page.route("**/demo?*", lambda route: route.fulfill(status=404, body="{}"))


def test_an_expired_token_is_renewed(site: Server, page: Page, player: str) -> None:
    play_as(page, site, player)
    expire_tokens(page, times=1, renewed=True)
    press(page)
    wait_for_score(page, site, player, 10)


def test_an_expired_token_that_is_not_renewed_is_said(site: Server, page: Page, player: str) -> None:
    play_as(page, site, player)
    expire_tokens(page, times=99, renewed=False)
    press(page)
    expect(fates(page)).to_contain_text("did not count")
    expect(fates(page)).to_contain_text("token has expired")
    assert score_of(site, player) is None


def test_a_refusal_after_a_lost_answer_does_not_say_that_it_did_not_count(
    site: Server, page: Page, player: str
) -> None:
    play_as(page, site, player)
    expire_tokens(page, times=99, renewed=False)
    keys = lose_answers(page, 1)  # asked first: it counts, and nobody hears of it

    def handle(route: Route) -> None:
        if not keys:
            route.fallback()
        else:
            headers = {**route.request.headers, "authorization": f"Bearer {make_token(player, ttl_s=-600)}"}
            route.continue_(headers=headers)

    page.route(SUBMISSIONS, handle)
    press(page)
    expect(fates(page)).to_contain_text("may have counted or not")
    assert score_of(site, player) == 10
    page.unroute_all()
    fates(page).get_by_role("button", name="Try again").click()
    expect(fates(page)).to_contain_text("counted: the score is 10")


def test_a_pending_submission_survives_a_reload(site: Server, page: Page, player: str) -> None:
    play_as(page, site, player)
    page.route(SUBMISSIONS, lambda route: route.abort("connectionrefused"))
    press(page)
    expect(fates(page)).to_contain_text("pending")
    page.unroute_all()
    lose_answers(page, 1)
    page.reload()
    expect(fates(page)).to_contain_text("counted: the score is 10")
    page.reload()
    wait_for_state(page, "live")
    expect(page.locator("#play-actions button").first).to_be_visible()
    page.wait_for_timeout(1_000)
    assert score_of(site, player) == 10


def hold_back(page: Page) -> None:
    """Nothing that the page submits reaches the server."""
    page.route(SUBMISSIONS, lambda route: route.abort("connectionrefused"))


@pytest.mark.parametrize("has_locks", [True, False])
def test_a_pending_submission_of_a_closed_tab_is_sent_at_the_next_visit(
    site: Server, new_context: Callable[..., BrowserContext], player: str, has_locks: bool
) -> None:
    context = new_context()
    if not has_locks:
        context.add_init_script("Object.defineProperty(navigator, 'locks', { value: undefined })")
    page = play_as(context.new_page(), site, player)
    hold_back(page)
    press(page)
    expect(fates(page)).to_contain_text("pending")
    page.close()
    page = open_board(context.new_page(), site)
    expect(fates(page)).to_contain_text("counted: the score is 10")
    expect(page.locator("#play-name")).to_have_text(player)
    page.reload()
    wait_for_state(page, "live")
    page.wait_for_timeout(1_000)
    expect(fates(page)).to_have_count(0)
    assert score_of(site, player) == 10


def test_another_tab_takes_up_what_a_closed_one_left(
    site: Server, new_context: Callable[..., BrowserContext], player: str
) -> None:
    context = new_context()
    one, two = (play_as(context.new_page(), site, player) for _ in range(2))
    hold_back(one)
    sent: list[str] = []
    two.on("request", lambda request: request.method == "POST" and sent.append(request.url))
    press(one)
    expect(fates(one)).to_contain_text("pending")
    two.wait_for_timeout(2_000)
    assert sent == [], "one tab at a time"
    one.close()
    expect(fates(two)).to_contain_text("counted: the score is 10")
    assert len(sent) == 1
    assert score_of(site, player) == 10


def test_what_is_too_old_at_the_next_visit_is_not_sent_by_itself(
    site: Server, new_context: Callable[..., BrowserContext], player: str
) -> None:
    context = new_context()
    page = play_as(context.new_page(), site, player)
    hold_back(page)
    press(page)
    expect(fates(page)).to_contain_text("pending")
    page.close()
    page = context.new_page()
    page.clock.install(time=time.time() + 2 * GIVE_UP_MS / 1_000)
    open_board(page, site)
    expect(fates(page)).to_contain_text("may have counted or not")
    assert score_of(site, player) is None
    fates(page).get_by_role("button", name="Try again").click()
    expect(fates(page)).to_contain_text("counted: the score is 10")


def test_who_follows_somebody_else_plays_as_before(site: Server, page: Page) -> None:
    open_board(page, site)
    name = page.locator("#play-name")
    expect(name).to_have_text(re.compile("^demo-"))
    player = name.inner_text()
    for query in ("?me=alice", ""):
        open_board(page, site, query)
        expect(name).to_have_text(player)
    page.locator("#me-input").fill("alice")
    page.get_by_role("button", name="Pin").click()
    open_board(page, site)
    expect(name).to_have_text(player)


def test_a_hidden_player_is_told_so_with_the_score(site: Server, admin: httpx.Client, page: Page, player: str) -> None:
    play_as(page, site, player)
    press(page)
    wait_for_score(page, site, player, 10)
    own = page.locator("#me-row")
    assert admin.post(f"/api/users/{player}/hide").is_success
    expect(own.locator(".note")).to_have_text("hidden by the organiser")
    wait_on(page, lambda: rows_of(page)[-1] == ["–", player, "10"], what="the score without a rank")
    page.reload()
    expect(own.locator(".note")).to_have_text("hidden by the organiser")
    assert rows_of(page)[-1] == ["–", player, "10"]
    press(page)
    wait_on(page, lambda: rows_of(page)[-1] == ["–", player, "20"], what="the new score")
    assert admin.post(f"/api/users/{player}/unhide").is_success
    wait_on(page, lambda: [player, "20"] in [row[1:] for row in rows_of(page) if row[0] != "–"], what="the rank")
    expect(own).to_be_hidden()  # the player is in the top ten


def test_it_gives_up_and_says_that_nobody_knows(
    site: Server, new_context: Callable[..., BrowserContext], player: str
) -> None:
    page = new_context().new_page()
    page.clock.install()
    play_as(page, site, player)
    page.route(SUBMISSIONS, lambda route: route.abort("connectionreset"))
    press(page)
    page.clock.run_for(1_000)
    expect(fates(page)).to_contain_text("pending")
    page.clock.fast_forward(GIVE_UP_MS)
    page.clock.run_for(10_000)
    expect(fates(page)).to_contain_text("may have counted or not")
    expect(fates(page)).to_contain_text("5 minutes")
    page.unroute_all()
    fates(page).get_by_role("button", name="Try again").click()
    expect(fates(page)).to_contain_text("counted: the score is 10")
    assert score_of(site, player) == 10


def test_too_many_on_their_way_are_refused_at_once(site: Server, page: Page, player: str) -> None:
    play_as(page, site, player)
    page.route(SUBMISSIONS, lambda route: route.abort("connectionrefused"))
    for _ in range(21):
        press(page)
    expect(page.locator("#play-message")).to_contain_text("Too many")
    page.unroute_all()
    wait_for_score(page, site, player, 200)
