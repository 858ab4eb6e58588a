"""Whatever is logged, a line comes out: one line, nothing in it that a terminal would obey, and nobody is disturbed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from scoreboard.errors import reason_of
from scoreboard.log_values import PATH_CHARS_MAX, cut, tame
from scoreboard.logs import LINE_BYTES_MAX, UNTOLD, render_console, render_json
from scoreboard.shown import printable


class Unshowable:
    """A value that can't say what it is."""

    def __str__(self) -> str:
        raise ValueError("no")

    __repr__ = __str__


def test_a_reason_is_never_empty() -> None:
    assert reason_of(OSError("connection refused")) == "connection refused"
    assert reason_of(TimeoutError()) == "TimeoutError", "that of a timeout has no words"


TEXTS = st.text(st.characters(exclude_categories=())) | st.sampled_from(
    ["\x1b[31m", "\x9b2J", "a\nb", "\r", "\u202ereversed", "\ud800", "\x7f", "\u2028", "\0", "'", '"\\', "x" * 30_000]
)
ODD: dict[str, object] = {
    "too large": 2**64,
    "too small": -(2**63) - 1,
    "too long": 10**5_000,
    "nan": float("nan"),
    "infinite": float("inf"),
    "unshowable": Unshowable(),
    "none": None,
    "true": True,
}
"""By name, for hypothesis can't show some of them either."""
VALUES = st.recursive(
    TEXTS | st.binary() | st.integers() | st.sampled_from(sorted(ODD)).map(lambda name: ODD[name]),
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS | st.integers() | st.binary(), inner),
    max_leaves=20,
)
EVENTS = st.dictionaries(TEXTS, VALUES, max_size=6).map(lambda fields: {**fields, "event": "request"})
RENDERERS: dict[str, Callable[[dict[str, object]], bytes]] = {
    "json": lambda event: render_json({"worker": 1}, None, "info", event),
    "console": lambda event: render_console(
        structlog.dev.ConsoleRenderer(colors=False), {"worker": 1}, None, "info", event
    ),
}


def check_line(line: bytes, *, form: str, has_traceback: bool = False) -> str:
    """One line of printable characters; what follows a traceback's first line is indented."""
    assert line != UNTOLD
    text = line.decode("utf-8")
    assert text.endswith("\n")
    first, *rest = text[:-1].split("\n")
    assert has_traceback or not rest
    for each in (first, *rest):
        assert each.isprintable(), each
    for each in rest:
        assert each.startswith("    "), each
    if form == "json":
        assert json.loads(text)["event"] == "request"
    return text


@pytest.mark.parametrize("form", RENDERERS)
@given(event=EVENTS)
def test_whatever_is_logged_a_line_comes_out(form: str, event: dict[str, object]) -> None:
    check_line(RENDERERS[form](event), form=form)


@pytest.mark.parametrize("form", RENDERERS)
@given(text=TEXTS)
def test_whatever_an_exception_says_it_is_no_line_of_its_own(form: str, text: str) -> None:
    try:
        raise ValueError(text)
    except ValueError:
        line = RENDERERS[form]({"event": "request", "exc_info": True})
    shown = check_line(line, form=form, has_traceback=form == "console")
    assert "ValueError" in shown or len(text) > LINE_BYTES_MAX


@pytest.mark.parametrize("form", RENDERERS)
def test_a_long_line_is_made_shorter(form: str) -> None:
    line = RENDERERS[form]({"event": "request", "path": "x" * 1_000_000, "more": [["y" * 1_000_000] * 3] * 3})
    assert len(check_line(line, form=form)) < 3 * LINE_BYTES_MAX


@given(text=TEXTS)
def test_quoting_leaves_what_can_be_seen(text: str) -> None:
    quoted = printable(text)
    assert quoted.isprintable()
    assert (quoted == text) == text.isprintable()


@given(value=VALUES)
def test_tamed_values_are_json(value: object) -> None:
    json.dumps(tame(value)).encode("utf-8")


def test_paths_are_cut() -> None:
    assert cut("/" + "x" * PATH_CHARS_MAX) == "/" + "x" * (PATH_CHARS_MAX - 1) + "..."
    assert cut("/short") == "/short"


LOG = """
import logging, os, sys
import structlog
from scoreboard.logs import configure_logs

configure_logs("info", sys.argv[1])
log = structlog.get_logger()
class Unshowable:
    def __str__(self):
        raise ValueError("no")
    __repr__ = __str__
match sys.argv[2]:
    case "full":
        os.dup2(os.open("/dev/full", os.O_WRONLY), 2)
    case "closed":
        os.close(2)
    case "gone":
        sys.stderr = None
for value in ("\\ud800", 2**70, b"\\xff", Unshowable()):
    log.warning("request", value=value)
try:
    raise ValueError(Unshowable())
except ValueError:
    log.exception("failed")
logging.getLogger("library").error("%d", "no number")
logging.getLogger("library").log(35, "a level of its own")
logging.getLogger("library").error(Unshowable())
print("went on")
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("stderr", ["open", "full", "closed", "gone"])
@pytest.mark.parametrize("form", RENDERERS)
def test_logging_raises_nothing_wherever_it_writes(form: str, stderr: str, unbuffered: str) -> None:
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run([sys.executable, "-c", LOG, form, stderr], capture_output=True, env=environment, timeout=60)
    assert done.stdout == b"went on\n", done.stderr
    assert done.returncode == 0
    if stderr == "open" and form == "json":
        events = [json.loads(line)["event"] for line in done.stderr.splitlines()]
        assert events == ["request"] * 4 + ["failed"] + ["library"] * 3
