"""What comes back: problems as the contract has them, and HTTP as raw bytes."""

import json
import re
import socket
from dataclasses import dataclass

import httpx

from tests.harness import DEADLINE_S, Server, make_token

LEAKS = ("Traceback", 'File "', "asyncpg", "msgspec", "sanic", "Sanic", "site-packages", "0x7f", "orjson", "Error")
"""Internal names that no client may ever see."""


@dataclass(frozen=True)
class RawAnswer:
    """An answer read from a socket, with the attributes of httpx that are needed here."""

    status_code: int
    headers: dict[str, str]
    content: bytes

    def json(self) -> object:
        return json.loads(self.content)


def parse_answers(received: bytes) -> list[RawAnswer]:
    """All answers with a Content-Length in what a connection gave; the last may end with the connection."""
    answers = []
    while received:
        head, found, rest = received.partition(b"\r\n\r\n")
        assert found, f"not an HTTP answer: {received[:200]!r}"
        status_line, *lines = head.decode("latin-1").split("\r\n")
        assert re.match(r"HTTP/1\.[01] \d{3} ", status_line), status_line
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(status_line.split(" ")[1])
        length = 0 if status in (100, 204, 304) else int(headers.get("content-length", len(rest)))
        answers.append(RawAnswer(status, headers, rest[:length]))
        received = rest[length:]
    return answers


def exchange(server: Server, data: bytes, within_s: float = DEADLINE_S) -> list[RawAnswer]:
    """Send bytes and read every answer until the server closes; end them with a ``Connection: close`` request."""
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=within_s) as connection:
        try:
            connection.sendall(data)
            while part := connection.recv(65_536):
                received += part
        except (BrokenPipeError, ConnectionResetError):
            pass
    return parse_answers(received)


def build_request(
    method: str, path: str, body: bytes = b"", *, user: str | None = None, scope: str = "", **headers: str
) -> bytes:
    """A request as bytes; header names are written with underscores. Without ``content_length`` the honest one."""
    fields = {"host": "test", "content_type": "application/json", "content_length": str(len(body)), **headers}
    if user is not None:
        fields["authorization"] = f"Bearer {make_token(user, scope)}"
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items() if value)
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


LAST_REQUEST = b"GET /healthz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
"""Ends an exchange: the server answers it and closes, or has closed already."""


def check_problem(
    answer: "httpx.Response | RawAnswer", status: int | set[int], code: str | set[str], names: str = ""
) -> dict[str, object]:
    """The problem document of a refusal, after checking everything that all of them promise."""
    statuses = {status} if isinstance(status, int) else status
    codes = {code} if isinstance(code, str) else code
    assert answer.status_code in statuses, answer.content
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert isinstance(problem, dict)
    assert problem["status"] == answer.status_code
    assert problem["code"] in codes, problem
    assert all(isinstance(problem[name], str) and problem[name] for name in ("type", "title", "detail"))
    assert names in problem["detail"], problem
    assert not [leak for leak in LEAKS if leak in answer.content.decode()], problem
    if problem["code"] == "invalid":
        assert problem["errors"]
        assert all(set(error) == {"field", "message"} for error in problem["errors"])
    return problem


def board_seq(server: Server, board: str = "global") -> int:
    """The position of a board: unchanged means that nothing was recorded."""
    (answer,) = parse_answers(server.raw(build_request("GET", f"/api/leaderboard?limit=1&board={board}")))
    page = answer.json()
    assert isinstance(page, dict)
    return int(page["seq"])
