"""The server under test, started, asked and verified by its command line, and the addresses of its stores."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

import asyncpg
import jwt

from bench.processes import Child, list_children, read_command

START_TIMEOUT_S = 90.0
COMMAND_TIMEOUT_S = 60.0
TOKEN_TTL_S = 7_200
DATABASE_USER = "scoreboard"
WORKER = "scoreboard.worker"
SETTINGS = {
    # On, because production has it on and it costs a script call; never reached, because its answers are not measured.
    "SCOREBOARD_RATE_LIMIT": "1000000/60s",
    # All clients of the benchmark come from one address.
    "SCOREBOARD_CONNECTIONS_PER_IP_MAX": "0",
    "SCOREBOARD_STREAMS_PER_IP_MAX": "0",
}


class CommandFailed(Exception):
    """A command of the server exited with an error."""


class Server:
    """``scoreboard serve`` with its embedded stores on a data directory of its own.

    :param beside: another server whose stores this one shares.
    :param workers: its processes.
    :param settings: more settings by name.
    """

    def __init__(self, folder: Path, *, beside: "Server | None" = None, workers: int = 1, **settings: str) -> None:
        self._folder = folder
        settings = {"WORKERS": str(workers), **settings}
        self._data_dir = beside._data_dir if beside else folder / "data"
        self._own_stores = beside is None
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SCOREBOARD_")}
        self._environment = kept | SETTINGS | {f"SCOREBOARD_{name}": value for name, value in settings.items()}
        if beside is not None:
            self._environment |= {
                "SCOREBOARD_DATABASE_URL": self.database_url,
                "SCOREBOARD_REDIS_URL": self.redis_url,
                "SCOREBOARD_JWT_SECRET_FILE": str(self._data_dir / "jwt_secret"),
            }
        self.log = folder / ("server.log" if self._own_stores else "beside.log")
        self.host, self.port = "", 0

    @property
    def sockets(self) -> Path:
        """Where the embedded stores listen."""
        return self._data_dir / "run"

    @property
    def database_url(self) -> str:
        """URL of the embedded PostgreSQL."""
        return f"postgresql://{DATABASE_USER}@/postgres?host={self.sockets}"

    @property
    def redis_url(self) -> str:
        """URL of the embedded Valkey."""
        return f"unix://{self.sockets / 'valkey.sock'}"

    def make_database(self, name: str) -> str:
        """An empty database with the server's schema beside the server's own; its URL."""
        asyncio.run(_create_database(self.database_url, name))
        url = self.database_url.replace("/postgres?", f"/{name}?")
        environment = {"SCOREBOARD_DATABASE_URL": url, "SCOREBOARD_REDIS_URL": self.redis_url}
        secret = {"SCOREBOARD_JWT_SECRET_FILE": str(self._data_dir / "jwt_secret")}
        migrated = subprocess.run(
            [sys.executable, "-m", "scoreboard", "migrate"],
            cwd=self._folder,
            env=self._environment | environment | secret,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )
        if migrated.returncode != 0:
            raise CommandFailed(f"scoreboard migrate exited with {migrated.returncode}: {migrated.stderr}")
        return url

    @property
    def pids(self) -> list[int]:
        """The server's processes, without its stores."""
        children = [pid for pid in list_children(self._child.pid) if WORKER in read_command(pid)]
        return [self._child.pid, *children]

    def __enter__(self) -> "Server":
        # Not started from the checkout: there the folder ``scoreboard`` would hide the installed package.
        arguments = ["scoreboard", "serve", "--port", "0"]
        if self._own_stores:
            arguments += ["--data-dir", str(self._data_dir)]
        self._child = Child(*arguments, log=self.log, cwd=self._folder, environment=self._environment)
        try:
            url = urlsplit(self._child.wait_for_line("Listening on ", START_TIMEOUT_S))
        except BaseException:
            self._child.stop()
            raise
        assert url.hostname is not None
        assert url.port is not None
        self.host, self.port = url.hostname, url.port
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._child.stop()

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run another command on the same data directory."""
        return subprocess.run(
            [sys.executable, "-m", "scoreboard", *arguments, "--data-dir", str(self._data_dir)],
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
        )

    def sign_tokens(self, users: Sequence[str]) -> list[tuple[str, str]]:
        """A token for each user, as a game's own login service would sign it.

        A thousand tokens instead of one, so that the server's cache of verified tokens meets as many as in real life.
        One comes from the command line and must be accepted as well as the others.
        """
        first = self._sign("--user", users[0])
        secret = (self._data_dir / "jwt_secret").read_text(encoding="ascii").strip()
        expires = int(time.time()) + TOKEN_TTL_S
        signed = [(user, jwt.encode({"sub": user, "exp": expires}, secret, algorithm="HS256")) for user in users[1:]]
        return [(users[0], first), *signed]

    def sign_trusted_token(self) -> str:
        """A token that may submit for anybody."""
        return self._sign("--user", "game", "--scope", "scores:any")

    def put_board(self, settings: dict[str, object]) -> None:
        """Change the settings of the board ``global``."""
        connection = HTTPConnection(self.host, self.port, timeout=COMMAND_TIMEOUT_S)
        try:
            headers = {
                "Authorization": f"Bearer {self._sign('--user', 'admin', '--scope', 'admin')}",
                "Content-Type": "application/json",
            }
            connection.request("PUT", "/api/boards/global", body=json.dumps(settings), headers=headers)
            answer = connection.getresponse()
            if answer.status != 200:
                raise CommandFailed(f"PUT /api/boards/global: {answer.status} {answer.read()!r}")
        finally:
            connection.close()

    def _sign(self, *arguments: str) -> str:
        made = self.run("token", *arguments)
        if made.returncode != 0:
            raise CommandFailed(f"scoreboard token exited with {made.returncode}: {made.stderr}")
        return made.stdout.strip()

    def verify(self) -> "subprocess.CompletedProcess[str]":
        """``scoreboard verify`` beside the running server."""
        return self.run("verify")


async def _create_database(url: str, name: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}"')
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
