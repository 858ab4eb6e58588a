"""The files of the browser's side, and the live page, which is also what a browser sees where there is nothing.

The page carries two things that only the server knows, as attributes of its root, so that it need not ask for what is
not there: a browser would show each such question as an error.
"""

import mimetypes
from functools import cache
from importlib.resources import files

from scoreboard.errors import NotFound
from scoreboard.shown import show

SECURITY_HEADERS = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
HTML = "text/html; charset=utf-8"
LIVE_PAGE = "index.html"
ROOT = b'data-page="board" data-demo="off"'


def read_web_file(name: str) -> tuple[bytes, str]:
    """A file under ``web/`` and its media type.

    :raises NotFound: if there is none of that name.
    """
    if name not in _names():
        raise NotFound(f"there is no file {show(name)}")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    kind = f"{kind}; charset=utf-8" if kind.startswith("text/") else kind
    return (files("scoreboard") / "web" / name).read_bytes(), kind


@cache
def render_live_page(*, demo: bool, found: bool = True) -> bytes:
    """The live page. :param found: whether there is anything at the address that it is asked for at."""
    body, _ = read_web_file(LIVE_PAGE)
    assert body.count(ROOT) == 1, f"{LIVE_PAGE} has lost its attributes"
    root = f'data-page="{"board" if found else "not-found"}" data-demo="{"on" if demo else "off"}"'
    return body.replace(ROOT, root.encode())


def prefers_html(accept: str | None) -> bool:
    """Whether an Accept header names HTML, and JSON no more than that: a browser's does when it opens a page.

    Source: RFC 9110, section 12.5.1.
    """
    weights = {"text/html": 0.0, "application/json": 0.0, "application/problem+json": 0.0}
    for part in (accept or "").lower().split(","):
        kind, *parameters = (piece.strip() for piece in part.split(";"))
        if kind in weights:
            weights[kind] = max(weights[kind], _weight(parameters))
    wanted = weights.pop("text/html")
    return wanted > 0 and wanted >= max(weights.values())


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value) if len(value) <= len("0.123") else 0.0
            except ValueError:
                return 0.0
    return 1.0


@cache
def _names() -> set[str]:
    return {entry.name for entry in (files("scoreboard") / "web").iterdir() if entry.is_file()}
