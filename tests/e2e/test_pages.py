"""What a browser gets at addresses outside the API, and what clients of the API go on getting."""

import re

import httpx
import pytest

from tests.e2e.answers import check_problem
from tests.harness import Server

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
PROBLEM = "application/problem+json"


def test_an_unknown_board_is_a_page(public: httpx.Client) -> None:
    answer = public.get("/?board=unknown", headers={"Accept": BROWSER})
    assert answer.status_code == 200
    assert 'data-page="board"' in answer.text


@pytest.mark.parametrize("path", ["/nope", "/no/such/thing", "/web/nope.js", "/apiary", "/demo", "/ö?x=%2e%2e"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_an_unknown_path_is_the_page_with_404_for_a_browser(public: httpx.Client, method: str, path: str) -> None:
    home = public.get("/")
    answer = public.request(method, path, headers={"Accept": BROWSER})
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    for name in ("content-security-policy", "x-content-type-options"):
        assert answer.headers[name] == home.headers[name]
    assert answer.headers["cache-control"] == "no-store"
    shown = home.text.replace('data-page="board"', 'data-page="not-found"')
    assert answer.text == (shown if method == "GET" else "")


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "*/*",
        "application/json",
        "text/*",
        "text/html;q=0",
        "text/html;q=nonsense",
        "text/html;q=0.5, application/json",
        "text/html;level=1;q=0.2, application/problem+json;q=0.3",
        "text/htmlx",
        ",;,=;q",
    ],
)
def test_an_unknown_path_is_a_problem_for_all_others(shared: Server, accept: str | None) -> None:
    headers = {} if accept is None else {"Accept": accept}
    with httpx.Client(base_url=shared.url, headers=headers) as client:
        if accept is None:
            del client.headers["accept"]
        check_problem(client.get("/nope"), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/api"), ("GET", "/api/nope"), ("GET", "/api/boards/nope"), ("POST", "/nope")]
)
def test_the_api_answers_a_browser_as_anybody(public: httpx.Client, method: str, path: str) -> None:
    check_problem(public.request(method, path, headers={"Accept": BROWSER}), 404, "not_found")


def test_other_failures_of_pages_stay_what_they_are(public: httpx.Client) -> None:
    check_problem(public.delete("/", headers={"Accept": BROWSER}), 405, "method_not_allowed")


def test_a_browser_that_asks_for_an_icon_gets_one(public: httpx.Client) -> None:
    answer = public.get("/favicon.ico")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/svg+xml"


def test_the_page_says_whether_there_is_a_demo(public: httpx.Client) -> None:
    has_demo = public.get("/demo").status_code == 200
    assert re.search(r'data-demo="(on|off)"', public.get("/").text)[1] == ("on" if has_demo else "off")  # type: ignore[index]


def test_files_of_the_page_come_from_the_server_alone(public: httpx.Client) -> None:
    page = public.get("/").text
    for address in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert address.startswith(("/", "#")) and not address.startswith("//"), address
        assert public.get(address).status_code == 200, address


def test_all_modules_of_the_page_are_asked_for_at_once(public: httpx.Client) -> None:
    """What a module imports is known only when it is there: five round trips one after the other without this."""
    needed: set[str] = set()
    left = ["live.js"]
    while left:
        imported = set(re.findall(r"from '\./([\w-]+\.js)'", public.get(f"/web/{left.pop()}").text)) - needed
        needed |= imported
        left += imported
    named = re.findall(r'rel="modulepreload" href="/web/([^"]+)"', public.get("/").text)
    assert sorted(needed) == sorted(named)
