"""Answers that are written without Sanic and end their connection: whole, and as ASCII but for the body."""

from collections.abc import Mapping
from http import HTTPStatus

import orjson

from scoreboard.errors import ScoreboardError

PROBLEM_JSON = "application/problem+json"


def encode_last_problem(error: ScoreboardError) -> bytes:
    """A failure as RFC 9457 has it."""
    return encode_last_answer(error.status, PROBLEM_JSON, orjson.dumps(error.problem), error.headers)


def encode_last_answer(status: int, content_type: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """An answer that nobody may keep. :param headers: what it has besides."""
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "X-Content-Type-Options: nosniff",
        "Connection: close",
        *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body
