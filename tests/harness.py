"""Real stores, real server processes and a reader of streams, for all tests.

Stores are embedded ones of this test process, or yours where SCOREBOARD_TEST_DATABASE_URL and
SCOREBOARD_TEST_REDIS_URL name them (run serially then: Redis channels are shared by all its databases). Every test
gets a database of its own and an empty Redis database. Nothing waits without a deadline.
"""

import asyncio
import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import httpx
import jwt
from redis import Redis

SECRET = "a secret of the tests, longer than thirty-two bytes"
DEADLINE_S = 20.0
POLL_S = 0.01
REDIS_DATABASES = 16
UNLIMITED = {
    "SCOREBOARD_RATE_LIMIT": "off",
    "SCOREBOARD_CONNECTIONS_PER_IP_MAX": "0",
    "SCOREBOARD_STREAMS_PER_IP_MAX": "0",
    "SCOREBOARD_AUTH_FAILURES_PER_IP_MAX": "0",
    "SCOREBOARD_MISSES_PER_IP": "off",
}
"""All tests come from one address, and do what would be too much for it. An empty setting gives the default again."""
LINE_END = re.compile(rb"\r\n|\r|\n")


def read_metric(page: str, name: str) -> float:
    """A value of a page of metrics. One with labels is not there before it is counted: 0."""
    values = [float(line.split()[-1]) for line in page.splitlines() if line.startswith(f"{name} ")]
    assert values or "{" in name, f"there is no metric {name}"
    return values[0] if values else 0.0


def wait_until(condition: Callable[[], object], within_s: float = DEADLINE_S, what: str = "the condition") -> object:
    """Poll until a condition holds, and return what it gave; fail when it never does."""
    deadline = time.monotonic() + within_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {within_s} s; last: {value!r}")
        time.sleep(POLL_S)


def make_token(user: str, scope: str = "", *, secret: str = SECRET, ttl_s: float = 3600, **claims: object) -> str:
    """A token as a game's own login service would sign it."""
    payload = {"sub": user, "exp": int(time.time() + ttl_s), **({"scope": scope} if scope else {}), **claims}
    return jwt.encode(payload, secret, algorithm="HS256")


@dataclass(frozen=True)
class Stores:
    """URLs of one database and one Redis database that nobody else uses."""

    database_url: str
    redis_url: str

    def redis(self) -> "Redis[bytes]":
        return Redis.from_url(self.redis_url)

    def query(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """Run one statement on a connection of its own."""

        async def run() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.database_url)
            try:
                return await connection.fetch(sql, *arguments)
            finally:
                await connection.close()

        return asyncio.run(run())


class StoreFactory:
    """Hands out fresh databases on one pair of store processes."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self._database_url = database_url
        self._redis_url = redis_url
        self._made: list[str] = []

    def fresh(self) -> Stores:
        name = f"scoreboard_test_{secrets.token_hex(6)}"
        self._execute(f'CREATE DATABASE "{name}"')
        self._made.append(name)
        parts = urlsplit(self._database_url)
        database_url = urlunsplit(parts._replace(path=f"/{name}"))
        worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % REDIS_DATABASES
        redis_parts = urlsplit(self._redis_url)
        if redis_parts.scheme == "unix":
            redis_url = f"{self._redis_url}?db={worker}"
        else:
            redis_url = urlunsplit(redis_parts._replace(path=f"/{worker}"))
        stores = Stores(database_url, redis_url)
        with stores.redis() as client:
            client.flushdb()
        return stores

    def close(self) -> None:
        for name in self._made:
            self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _execute(self, sql: str) -> None:
        async def run() -> None:
            connection = await asyncpg.connect(self._database_url)
            try:
                await connection.execute(sql)
            finally:
                await connection.close()

        asyncio.run(run())


class Server:
    """A ``scoreboard serve`` process, started by its command line."""

    def __init__(
        self,
        stores: Stores | None = None,
        *,
        data_dir: Path | None = None,
        port: int = 0,
        log: Path,
        ulimit: str = "",
        environment: Mapping[str, str] | None = None,
        **settings: str,
    ) -> None:
        """:param ulimit: limits that the process starts under, as the shell's ``ulimit`` takes them."""
        self._stores = stores
        self._data_dir = data_dir
        self._port = port
        self._log = log
        self._ulimit = ulimit
        self._environment = environment or {}
        self._settings = settings
        self.output: list[str] = []
        self.process: subprocess.Popen[str] | None = None
        self.url = ""

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("SCOREBOARD_")}
        settings = {f"SCOREBOARD_{name}": value for name, value in self._settings.items()}
        if self._stores is not None:
            settings = {
                "SCOREBOARD_DATABASE_URL": self._stores.database_url,
                "SCOREBOARD_REDIS_URL": self._stores.redis_url,
                "SCOREBOARD_JWT_SECRET": SECRET,
                **UNLIMITED,
                **settings,
            }
        return kept | settings | self._environment

    def command(self, *arguments: str) -> list[str]:
        data_dir = ["--data-dir", str(self._data_dir)] if self._data_dir else []
        return [sys.executable, "-P", "-m", "scoreboard", *arguments, *data_dir]  # -P: the installed package

    def run(self, *arguments: str, timeout_s: float = 60) -> "subprocess.CompletedProcess[str]":
        """Run another command against the same stores."""
        return subprocess.run(
            self.command(*arguments), env=self.environment(), capture_output=True, text=True, timeout=timeout_s
        )

    def start(self, within_s: float = 60) -> "Server":
        """Start, and return once it listens."""
        command = self.command("serve", "--port", str(self._port))
        if self._ulimit:
            command = ["sh", "-c", f'ulimit {self._ulimit}; exec "$@"', "sh", *command]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self.environment(), stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
            )
        self.output = []
        listening = threading.Event()

        def read(process: "subprocess.Popen[str]") -> None:
            assert process.stdout is not None
            with process.stdout:
                for line in process.stdout:
                    self.output.append(line.rstrip())
                    if line.startswith("Listening on "):
                        self.url = line.removeprefix("Listening on ").strip()
                        self._port = int(self.url.rpartition(":")[2])  # the same again after a restart
                        listening.set()
            listening.set()

        threading.Thread(target=read, args=(self.process,), daemon=True).start()
        if not listening.wait(within_s) or not self.url:
            code = self.process.poll()
            self.kill()
            raise AssertionError(f"the server did not start (exit {code}): {self.log_tail()}")
        return self

    def read_log(self) -> str:
        """All that the server has logged."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def log_tail(self) -> str:
        return self.read_log()[-3_000:]

    def stop(self, within_s: float = 30) -> int:
        """SIGTERM, and its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(within_s)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    @property
    def port(self) -> int:
        return self._port

    def client(self, user: str | None = None, scope: str = "") -> httpx.Client:
        """An HTTP client, signed in as a user where one is named."""
        headers = {"Authorization": f"Bearer {make_token(user, scope)}"} if user else {}
        # No TLS here, and loading its certificates takes 30 ms.
        return httpx.Client(base_url=self.url, headers=headers, timeout=DEADLINE_S, verify=False)

    def stream_url(self, board: str | None = None, **query: str) -> str:
        """Address of a board's stream; none named is the default one."""
        named = {"board": board} if board is not None else {}
        return str(httpx.URL(f"{self.url}/api/leaderboard/stream", params=named | query))

    def metric(self, name: str) -> float:
        """A value of the metrics page."""
        with self.client() as client:
            return read_metric(client.get("/metrics").text, name)

    def put_action(self, action: str = "win", points: int = 10, board: str = "global", **fields: object) -> None:
        with self.client("admin", "admin") as admin:
            answer = admin.put(f"/api/boards/{board}/actions/{action}", json={"points": points, **fields})
            assert answer.status_code in (200, 201), answer.text

    def submit(self, user: str, action: str = "win", key: str | None = None, board: str = "global") -> httpx.Response:
        headers = {"Idempotency-Key": key} if key else {}
        with self.client(user) as client:
            return client.post("/api/scores", json={"actionId": action, "board": board}, headers=headers)

    def raw(self, data: bytes, within_s: float = DEADLINE_S) -> bytes:
        """Send bytes as they are and read until the server closes, or is silent after an answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=within_s) as connection:
            try:
                connection.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass
            return read_answer(connection)


def read_answer(connection: socket.socket) -> bytes:
    """One HTTP answer with a Content-Length, or whatever comes before the end of the connection."""
    received = b""
    while True:
        head, found, body = received.partition(b"\r\n\r\n")
        if found:
            length = next(
                (
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                ),
                None,
            )
            if length is not None and len(body) >= length:
                return received
        part = connection.recv(65_536)
        if not part:
            return received
        received += part


@dataclass
class Frame:
    """One event of a stream, as EventSource would dispatch it."""

    event: str
    data: dict[str, object]
    id: str | None


def seq_of(identifier: str | None) -> int:
    """The seq in a frame's id."""
    assert identifier is not None
    return int(identifier.rpartition("-")[2])


@dataclass
class Stream:
    """A stream read by a thread; frames are kept in order, and the seqs of heartbeats apart from them."""

    url: str
    last_event_id: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    frames: list[Frame] = field(default_factory=list)
    retries: list[int] = field(default_factory=list)
    heartbeats: list[int] = field(default_factory=list)
    ended: bool = False
    status: int | None = None
    response_headers: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> "Stream":
        self._changed = threading.Condition()
        self._client = httpx.Client(timeout=httpx.Timeout(DEADLINE_S, read=40), verify=False)
        self._closing = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self._wait(lambda: self.status is not None or self.ended, DEADLINE_S, "an answer")
        return self

    def __exit__(self, *_: object) -> None:
        self._closing = True
        if self._socket is not None:
            try:
                self._socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self._thread.join(10)
        self._client.close()

    _socket: socket.socket | None = None

    @property
    def last_id(self) -> str | None:
        return next((frame.id for frame in reversed(self.frames) if frame.id), None)

    def of(self, event: str) -> list[Frame]:
        return [frame for frame in list(self.frames) if frame.event == event]

    def wait_for(self, condition: Callable[["Stream"], object], within_s: float = DEADLINE_S) -> "Stream":
        """Wait until the frames so far satisfy a condition."""
        self._wait(lambda: condition(self), within_s, "the stream")
        return self

    def wait_for_seq(self, seq: int, within_s: float = DEADLINE_S) -> "Stream":
        """Wait until a frame with at least this position has come."""
        return self.wait_for(lambda s: s.last_id and int(s.last_id.rpartition("-")[2]) >= seq, within_s)

    def _wait(self, condition: Callable[[], object], within_s: float, what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(lambda: condition(), within_s):
                raise AssertionError(f"{what} did not satisfy the condition within {within_s} s: {self.frames[-5:]}")

    def _read(self) -> None:
        headers = dict(self.headers)
        if self.last_event_id is not None:
            headers["Last-Event-ID"] = self.last_event_id
        try:
            with self._client.stream("GET", self.url, headers=headers) as response:
                self._socket = response.extensions["network_stream"].get_extra_info("socket")
                with self._changed:
                    self.status = response.status_code
                    self.response_headers = dict(response.headers)
                    self._changed.notify_all()
                parser = Parser()
                for part in response.iter_bytes():
                    with self._changed:
                        parser.feed(part)
                        self.frames += parser.take()
                        self.retries, self.heartbeats = parser.retries, parser.heartbeats
                        self._changed.notify_all()
        except (httpx.HTTPError, OSError, ValueError):
            pass
        finally:
            with self._changed:
                self.ended = True
                self._changed.notify_all()


class Parser:
    """An event stream parser by the letter of WHATWG HTML 9.2.6, fed any pieces of bytes.

    Heartbeats are no frames here: they come whenever nothing else does.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._frames: list[Frame] = []
        self._event, self._data, self._id = "", [], None
        self._after_cr = False
        self.retries: list[int] = []
        self.heartbeats: list[int] = []

    def feed(self, data: bytes) -> None:
        if not data:
            return
        if self._after_cr:
            data = data.removeprefix(b"\n")
        self._after_cr = data.endswith(b"\r")
        *lines, self._buffer = LINE_END.split(self._buffer + data)
        for line in lines:
            self._line(line.decode("utf-8"))

    def take(self) -> list[Frame]:
        frames, self._frames = self._frames, []
        return frames

    def _line(self, line: str) -> None:
        if not line:
            if self._event == "heartbeat":
                self.heartbeats.append(json.loads("\n".join(self._data))["seq"])
            elif self._data:
                self._frames.append(Frame(self._event or "message", json.loads("\n".join(self._data)), self._id))
            self._event, self._data = "", []
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                self._event = value
            case "data":
                self._data.append(value)
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retries.append(int(value))
