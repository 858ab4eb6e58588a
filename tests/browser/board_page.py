"""What a person sees on the live page."""

import re
import time
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.harness import Server, wait_until

LIVE_MS = 20_000
CONTRAST_MIN = 4.5
SINCE = re.compile(r"Not live since (?:\d+ \w+, )?(\d\d):(\d\d):(\d\d)")

CONTRASTS = """
() => {
  const parse = (colour) => {
    const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const luminance = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((value) => {
      const share = value / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const lineage = (node) => node === null ? [] : [...lineage(node.parentElement), node];
  const canvasColour = matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18, 1] : [255, 255, 255, 1];
  const results = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim();
    const node = walker.currentNode.parentElement;
    if (text === '' || !node.checkVisibility({ visibilityProperty: true })) continue;
    if (node.closest('[aria-hidden=true], .visually-hidden')) continue;
    let ground = canvasColour;
    let opacity = 1;
    for (const ancestor of lineage(node)) {
      const style = getComputedStyle(ancestor);
      ground = over(parse(style.backgroundColor), ground);
      opacity *= Number(style.opacity);
    }
    const colour = parse(getComputedStyle(node).color);
    colour[3] *= opacity;
    const [light, dark] = [luminance(over(colour, ground)), luminance(ground)].sort((a, b) => b - a);
    results.push([text, (light + 0.05) / (dark + 0.05)]);
  }
  return results;
}
"""


def open_board(page: Page, server: Server, query: str = "") -> Page:
    """Open a board and wait until it is live."""
    page.goto(f"{server.url}/{query}")
    wait_for_state(page, "live")
    return page


def state_of(page: Page) -> Locator:
    return page.locator("[data-state]")


def wait_for_state(page: Page, state: str, within_s: float = LIVE_MS / 1_000) -> None:
    expect(state_of(page)).to_have_attribute("data-state", state, timeout=within_s * 1_000)


def rows_of(page: Page) -> list[list[str]]:
    """Rank, name and score of each row, that of the followed player last."""
    cells = page.locator("tbody tr:not(.leaving), tfoot:not([hidden]) tr")
    return cells.evaluate_all(
        "rows => rows.map(row => ['.medal', '.name', 'td.score'].map(each => row.querySelector(each).textContent))"
    )


def wait_for_rows(page: Page, rows: list[list[str]]) -> None:
    seen: list[list[list[str]]] = []

    def are_there() -> bool:
        seen[:] = [rows_of(page)]
        return seen[0] == rows

    try:
        wait_until(are_there, what="the rows")
    except AssertionError:
        assert seen[0] == rows


def weakest_contrast(page: Page) -> tuple[str, float]:
    """The text that is hardest to read, and its contrast."""
    found: list[tuple[str, float]] = page.evaluate(CONTRASTS)
    assert len(found) > 10, found
    return min(((text, contrast) for text, contrast in found), key=lambda each: each[1])


def watch_for_trouble(page: Page) -> list[str]:
    """What the console calls an error, from now on, and answers that are failures."""
    trouble: list[str] = []

    def hear(message: Any) -> None:
        if message.type == "error":
            trouble.append(f"console: {message.text} {message.location}")

    page.on("console", hear)
    page.on("pageerror", lambda error: trouble.append(f"script: {error}"))
    page.on("response", lambda answer: answer.status >= 400 and trouble.append(f"{answer.status} {answer.url}"))
    return trouble


def wait_on(page: Page, condition: Callable[[], object], what: str) -> None:
    """Wait until a condition holds, while the page's requests are answered by the test's own handlers."""

    def holds() -> object:
        page.wait_for_timeout(50)
        return condition()

    wait_until(holds, what=what)


def settle(page: Page) -> None:
    """Wait until the page has asked for nothing for a second."""
    asked, since = -1, time.monotonic()

    def is_quiet() -> bool:
        nonlocal asked, since
        now = int(page.evaluate("performance.getEntriesByType('resource').length"))
        if now != asked:
            asked, since = now, time.monotonic()
        return time.monotonic() - since > 1

    wait_on(page, is_quiet, what="the end of the page's requests")
