"""Structured logs on standard error: one line an event, a constant name, values as fields.

Nothing in here raises: a line that can't be made says so, one that can't be written is lost. Whoever logs is in the
middle of something that matters more.
"""

import asyncio
import atexit
import logging
import select
import sys
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar

import orjson
import structlog

from scoreboard.log_values import quote_json, tame, tame_exception, tame_text
from scoreboard.shown import printable

FLUSH_S = 0.1
LINE_BYTES_MAX = 8 * 1024
"""What is longer is made shorter."""
UNTOLD = b'{"event":"log_line_lost","level":"error"}\n'
"""Stands for a line that could not be made."""
DELETE = 0x7F
"""The one control character that JSON leaves as it is."""
_JSON = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


def configure_logs(level: str, form: str, *, worker: int | None = None) -> None:
    """Set up structlog, and lead the libraries' warnings into it.

    :param level: debug, info, warning or error.
    :param form: json or console.
    :param worker: told with every line, where several processes write to one log.
    """
    numeric = logging.getLevelNamesMapping()[level.upper()]
    more = {} if worker is None else {"worker": worker}
    if form == "json":
        render: Any = partial(render_json, more)
        factory: Any = _Lines
        atexit.register(_Lines.flush)
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        render = partial(render_console, renderer, more)
        factory = _UnheldLines
    structlog.configure(
        processors=[render],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Bridge()], force=True)
    # An unreachable database is logged once, by repair; the pool would do it at every try, with its traceback.
    for name in ("sanic.root", "sanic.error", "sanic.server", "sanic.access", "asyncpg.pool"):
        logging.getLogger(name).setLevel(logging.ERROR)


class _Lines:
    """Writes lines to standard error: what needs attention at once, what is only told within FLUSH_S.

    A write for every request took 4 us of its 53. Lines are written whole, so that those of several processes do not
    run into each other. Where nothing can be written (a full disk, a closed pipe) they are lost: that is no reason for
    anything else to fail.
    """

    _waiting: ClassVar[list[bytes]] = []
    _waiting_bytes = 0

    def __init__(self, *_: Any) -> None:
        pass

    def debug(self, line: bytes) -> None:
        cls = _Lines
        if cls._waiting_bytes + len(line) > select.PIPE_BUF:
            cls.flush()
        cls._waiting.append(line)
        cls._waiting_bytes += len(line)

    info = debug

    def warning(self, line: bytes) -> None:
        self.debug(line)
        self.flush()

    error = critical = warning

    @classmethod
    def flush(cls) -> None:
        """Write what waits."""
        lines, cls._waiting, cls._waiting_bytes = cls._waiting, [], 0
        _write(b"".join(lines))


class _UnheldLines:
    """Writes lines at once, for somebody who watches them."""

    def __init__(self, *_: Any) -> None:
        pass

    def debug(self, line: bytes) -> None:
        _write(line)

    info = warning = error = critical = debug


def _write(lines: bytes) -> None:
    try:
        # Past the buffer, in which what can't be written would stay until the interpreter's end, and fail that too.
        file = getattr(sys.stderr.buffer, "raw", sys.stderr.buffer)
        while lines:
            lines = lines[file.write(lines) or len(lines) :]
    except (OSError, ValueError, AttributeError):  # it is full, or closed, or there is none
        pass


async def flush_logs() -> None:
    """Write what is left of the lines every FLUSH_S, until cancelled, and then once more."""
    try:
        while True:
            await asyncio.sleep(FLUSH_S)
            _Lines.flush()
    finally:
        _Lines.flush()


def render_json(more: dict[str, Any], logger: Any, level: str, event: MutableMapping[str, Any]) -> bytes:
    """A line of JSON, in one step: a chain of structlog's own processors took 4.7 us a line, this takes 3.2.

    :param more: fields of every line.
    """
    try:
        if "exc_info" in event:
            event = structlog.processors.format_exc_info(logger, level, event)
        event["level"] = level
        event["timestamp"] = datetime.now(UTC)
        event.update(more)
        line = orjson.dumps(event, default=str, option=_JSON)
        if len(line) <= LINE_BYTES_MAX and line.isascii() and DELETE not in line:
            return line
    except Exception:  # orjson refuses surrogates and large integers, and some values can't be shown at all
        pass
    try:
        text = orjson.dumps(_tame_event({**event, **more}, level), default=str, option=_JSON).decode()
        return (quote_json(text.removesuffix("\n")) + "\n").encode()
    except Exception:
        return UNTOLD


def render_console(
    renderer: structlog.dev.ConsoleRenderer, more: dict[str, Any], logger: Any, level: str, event: dict[str, Any]
) -> bytes:
    """A line for somebody's eyes, after it the traceback if there is one, indented, so that it is no line by itself.

    :param more: fields of every line.
    """
    try:
        if "exc_info" in event:
            event = dict(structlog.processors.format_exc_info(logger, level, event))
        exception = event.pop("exception", None)
        tamed = _tame_event({**event, **more}, level)
        shown: dict[str, Any] = {
            printable(name): printable(v) if isinstance(v, str) else v for name, v in tamed.items()
        }
        if exception is not None:
            lines = tame_exception(exception).split("\n")
            shown["exception"] = "\n".join(f"    {printable(line)}" for line in lines)
        return f"{renderer(logger, level, shown)}\n".encode("utf-8", "backslashreplace")
    except Exception:  # as above
        return UNTOLD


def _tame_event(event: Mapping[str, Any], level: str) -> dict[str, object]:
    """An event of which every part can be written."""
    tamed = {tame_text(name): tame(value) for name, value in event.items()}
    if "exception" in event:
        tamed["exception"] = tame_exception(event["exception"])
    return tamed | {"level": level, "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z")}


class _Bridge(logging.Handler):
    """Records of libraries that use the standard library's logging."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # its arguments do not fit its text
            message = tame_text(record.msg)
        level = max(known for known in _LEVELS if known <= max(record.levelno, logging.DEBUG))
        structlog.get_logger(record.name).log(
            level, "library", logger=record.name, message=message, exc_info=record.exc_info or None
        )
