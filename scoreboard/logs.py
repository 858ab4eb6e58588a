"""Structured logs on standard error: one line an event, a constant name, values as fields."""

import logging
import sys
from typing import Any

import orjson
import structlog


def configure_logs(level: str, form: str) -> None:
    """Set up structlog, and lead the libraries' warnings into it.

    :param level: debug, info, warning or error.
    :param form: json or console.
    """
    numeric = logging.getLevelNamesMapping()[level.upper()]
    stamps: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    if form == "json":
        renderer: Any = structlog.processors.JSONRenderer(serializer=_dump)
        factory: Any = structlog.BytesLoggerFactory(sys.stderr.buffer)
    else:
        stamps.pop()  # the console renderer draws tracebacks itself
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        factory = structlog.WriteLoggerFactory(sys.stderr)
    structlog.configure(
        processors=[*stamps, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(numeric),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, handlers=[_Bridge()], force=True)
    # An unreachable database is logged once, by repair; the pool would do it at every try, with its traceback.
    for name in ("sanic.root", "sanic.error", "sanic.server", "sanic.access", "asyncpg.pool"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _dump(event: dict[str, Any], **_: Any) -> bytes:
    return orjson.dumps(event, default=str)


class _Bridge(logging.Handler):
    """Records of libraries that use the standard library's logging."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        structlog.get_logger(record.name).log(
            record.levelno, "library", logger=record.name, message=message, exc_info=record.exc_info or None
        )
