"""Commands: which of them set a data directory up, how each ends, and whom the embedded stores obey."""

import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import jwt
import pytest

from scoreboard.application_role import APPLICATION_ROLE
from scoreboard.embedded import DataDir, EmbeddedStores
from scoreboard.migrations import migrate
from tests.e2e.embedded import end, processes_of, start
from tests.harness import SECRET, Server, Stores, wait_until

Run = Callable[..., object]
ELSEWHERE = 4_321
"""A user id that nobody has here."""


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A place for a data directory, whose path leaves room for sockets; nothing of it runs any more at the end."""
    with tempfile.TemporaryDirectory(prefix="data-") as folder:
        path = Path(folder) / "data"
        yield path
        left = processes_of(path)
        if left:
            Server(data_dir=path, log=tmp_path / "last.log").run("migrate")
        assert left == []


@pytest.fixture
def embedded(data_dir: Path, tmp_path: Path) -> Server:
    """Commands on a data directory that is not set up yet."""
    return Server(data_dir=data_dir, log=tmp_path / "server.log")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that was set up, to be copied: that is faster than setting one up."""
    path = tmp_path_factory.mktemp("template") / "data"
    done = Server(data_dir=path, log=path.with_name("log")).run("migrate")
    assert done.returncode == 0, done.stderr
    return path


@pytest.fixture
def set_up(embedded: Server, template: Path, data_dir: Path) -> Server:
    """Commands on a data directory that is set up."""
    subprocess.run(["cp", "-a", str(template), str(data_dir)], check=True, timeout=60)
    return embedded


def is_plain(errors: str) -> bool:
    """Whether errors are sentences: a line each, and no traceback."""
    return "Traceback" not in errors and "Exception" not in errors


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# -- data directories


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify"],
        ["verify", "--json"],
        ["token", "--user", "alice"],
        ["rebuild"],
        ["export", "--board", "global"],
        ["export", "--board", "global", "--output", "board.ndjson"],
    ],
)
@pytest.mark.parametrize("exists", [False, True])
def test_commands_that_look_refuse_a_data_directory_that_was_never_set_up(
    embedded: Server, data_dir: Path, tmp_path: Path, arguments: list[str], exists: bool
) -> None:
    if exists:
        data_dir.mkdir()
    before = entries(tmp_path)
    arguments = [str(tmp_path / word) if word == "board.ndjson" else word for word in arguments]
    refused = embedded.run(*arguments)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert str(data_dir) in refused.stderr
    assert "'scoreboard serve', 'migrate' and 'import'" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1, refused.stderr
    assert entries(tmp_path) == before
    assert not exists or entries(data_dir) == set()


def test_migrate_sets_a_data_directory_up_for_the_others(embedded: Server, data_dir: Path) -> None:
    assert embedded.run("migrate").returncode == 0
    assert (data_dir / "jwt_secret").exists()
    made = embedded.run("token", "--user", "alice")
    assert made.returncode == 0, made.stderr
    secret = (data_dir / "jwt_secret").read_text().strip()
    assert jwt.decode(made.stdout.strip(), secret, algorithms=["HS256"])["sub"] == "alice"
    assert embedded.run("token", "--user", "bob").returncode == 0
    assert (data_dir / "jwt_secret").read_text().strip() == secret
    assert embedded.run("verify").returncode == 0


def test_a_token_is_not_signed_with_a_secret_that_no_server_knows(set_up: Server, data_dir: Path) -> None:
    (data_dir / "jwt_secret").unlink()
    refused = set_up.run("token", "--user", "alice")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert f"signing secret {data_dir / 'jwt_secret'} is missing" in refused.stderr
    assert "'scoreboard migrate'" in refused.stderr
    assert not (data_dir / "jwt_secret").exists()
    assert set_up.run("migrate").returncode == 0
    assert set_up.run("token", "--user", "alice").returncode == 0


@pytest.mark.parametrize("name", ["jwt_secret", "digest_key"])
def test_a_secret_in_the_data_directory_that_can_be_guessed_is_refused_and_named(
    set_up: Server, data_dir: Path, name: str
) -> None:
    (data_dir / name).write_text("short\n")
    (data_dir / name).chmod(0o600)
    for command in (["serve", "--port", "0"], *([["token", "--user", "a"]] if name == "jwt_secret" else [])):
        refused = set_up.run(*command)
        assert refused.returncode == 2
        assert f"scoreboard: {data_dir / name}: has 5 bytes, fewer than 32" in refused.stderr
        assert "SCOREBOARD_" not in refused.stderr


@pytest.mark.parametrize("what", ["a file", "a dangling link", "below a file"])
@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["migrate"], ["verify"]], ids=lambda command: command[0])
def test_a_data_directory_that_is_none_is_told_before_anything_is_announced(
    embedded: Server, data_dir: Path, what: str, command: list[str]
) -> None:
    said = "is not a folder"
    if what == "a file":
        data_dir.write_text("")
    elif what == "a dangling link":
        data_dir.symlink_to(data_dir.with_name("gone"))
        said = f"is a link to {data_dir.with_name('gone')}, which does not exist"
    else:
        data_dir.parent.rmdir()
        data_dir.parent.write_text("")
        said = "Not a directory" if command != ["verify"] else "does not exist"
    try:
        refused = embedded.run(*command)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert f"the data directory {data_dir}" in refused.stderr
        assert said in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    finally:
        if what == "below a file":
            data_dir.parent.unlink()
            data_dir.parent.mkdir()


def test_a_data_directory_in_use_is_told_before_anything_is_announced(set_up: Server) -> None:
    server = set_up.start()
    try:
        refused = set_up.run("serve", "--port", "0")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "another scoreboard server" in refused.stderr
    finally:
        assert server.stop() == 0


def test_import_sets_a_data_directory_up_but_not_for_a_file_that_it_refuses(
    embedded: Server, data_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "cut.ndjson").write_text('{"type":"board"}\n')
    assert embedded.run("import", str(tmp_path / "cut.ndjson")).returncode == 2
    assert not data_dir.exists()
    (tmp_path / "scores.csv").write_text("userId,score\nalice,120\n")
    imported = embedded.run("import", "--csv", "--board", "season", str(tmp_path / "scores.csv"))
    assert imported.returncode == 0, imported.stderr
    assert embedded.run("verify").returncode == 0


def test_a_command_that_needs_nothing_of_a_data_directory_does_not_ask_for_one(
    stores: Stores, data_dir: Path, tmp_path: Path
) -> None:
    production = Server(stores, data_dir=data_dir, log=tmp_path / "log")
    for arguments in (["migrate"], ["verify"], ["rebuild"], ["token", "--user", "alice"]):
        done = production.run(*arguments)
        assert done.returncode == 0, done.stderr
    signs = Server(data_dir=data_dir, log=tmp_path / "log", JWT_SECRET=SECRET)
    assert signs.run("token", "--user", "alice").returncode == 0
    assert not data_dir.exists()


# -- signals


@pytest.mark.parametrize(
    ("command", "number"), [("serve", signal.SIGTERM), ("migrate", signal.SIGINT), ("migrate", signal.SIGHUP)]
)
def test_a_signal_during_initdb_ends_a_command_with_nothing_left_running(
    embedded: Server, data_dir: Path, command: str, number: signal.Signals
) -> None:
    process = start(embedded, command, *(["--port", "0"] if command == "serve" else []))
    status, errors = end(process, number, (data_dir / "postgres.new" / "base").exists, what="initdb")
    assert status == (0 if command == "serve" else 128 + number), errors
    assert is_plain(errors)
    assert processes_of(data_dir) == []
    assert embedded.run("migrate").returncode == 0


@pytest.mark.parametrize("command", ["serve", "verify"])
def test_a_signal_while_the_stores_start_leaves_none_running(set_up: Server, data_dir: Path, command: str) -> None:
    for moment in ("lock held", "socket"):
        process = start(set_up, command, *(["--port", "0"] if command == "serve" else []))
        begun = {"lock held": lambda: len(processes_of(data_dir)) > 0, "socket": DataDir(data_dir).valkey_socket.exists}
        status, errors = end(process, signal.SIGTERM, begun[moment], what=moment)
        assert status == (0 if command == "serve" else 128 + signal.SIGTERM), errors
        assert is_plain(errors)
        assert processes_of(data_dir) == []
    assert set_up.run("verify").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_import_stops_its_stores_and_goes_on_when_it_is_started_again(
    embedded: Server, data_dir: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """It waits for the rest of its standard input when the signal comes."""
    lines = ["userId,score\n", *(f"user{i},{i}\n" for i in range(30_000))]
    process = start(embedded, "import", "--csv", "--board", "season", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write("".join(lines[:25_000]).encode())
    process.stdin.flush()
    status, errors = end(process, number, lambda: _has_locks(DataDir(data_dir)), what="a portion on its way")
    assert status == 128 + number, errors
    assert errors.splitlines()[0] == (f"scoreboard: ended by {number.name}. Start again with the same file to go on")
    assert is_plain(errors)
    assert processes_of(data_dir) == []
    (tmp_path / "scores.csv").write_text("".join(lines))
    again = embedded.run("import", "--csv", "--board", "season", str(tmp_path / "scores.csv"))
    assert again.returncode == 0, again.stderr
    assert embedded.run("verify").returncode == 0


def _has_locks(data: DataDir) -> bool:
    """Whether somebody writes to the ledger in a transaction that is under way."""
    if not (data.sockets / ".s.PGSQL.5432").exists():
        return False
    sql = "SELECT FROM pg_locks WHERE relation = to_regclass('ledger') AND mode = 'RowExclusiveLock'"
    try:
        return bool(Stores(data.admin_url, "").query(sql))
    except (OSError, asyncpg.PostgresError):
        return False


def test_an_import_into_stores_of_ones_own_is_ended_in_the_middle_of_a_silent_pipe(
    stores: Stores, tmp_path: Path
) -> None:
    commands = Server(stores, log=tmp_path / "log")
    process = start(commands, "import", "--csv", "--board", "season", "-", stdin=subprocess.PIPE)
    assert process.stdin is not None
    asleep = Path(f"/proc/{process.pid}/wchan")
    status, errors = end(process, signal.SIGTERM, lambda: "pipe" in asleep.read_text(), what="a read of standard input")
    assert status == 128 + signal.SIGTERM, errors
    assert is_plain(errors)


def test_an_export_that_nobody_reads_is_ended_by_a_signal(set_up: Server, data_dir: Path, tmp_path: Path) -> None:
    scores = "".join(f"user{i},{i}\n" for i in range(5_000))
    (tmp_path / "scores.csv").write_text(f"userId,score\n{scores}")
    assert set_up.run("import", "--csv", "--board", "season", str(tmp_path / "scores.csv")).returncode == 0
    process = start(set_up, "export", "--board", "season")
    blocked = Path(f"/proc/{process.pid}/wchan")
    status, errors = end(process, signal.SIGTERM, lambda: "pipe_write" in blocked.read_text(), what="a full pipe")
    assert status == 128 + signal.SIGTERM, errors
    assert is_plain(errors)
    assert processes_of(data_dir) == []


def test_further_signals_change_nothing(set_up: Server, data_dir: Path) -> None:
    process = start(set_up, "serve", "--port", "0")
    assert process.stdout is not None
    while not process.stdout.readline().startswith(b"Listening"):
        assert process.poll() is None
    for _ in range(20):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)  # the signals come while it drains, closes, and stops its stores
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert is_plain(errors.decode())
    assert processes_of(data_dir) == []
    assert set_up.run("verify").returncode == 0


def test_a_signal_in_the_first_moment_ends_a_command_without_a_traceback(stores: Stores, tmp_path: Path) -> None:
    """While Python and the package are being loaded, at whatever moment."""
    commands = Server(stores, log=tmp_path / "log")
    statuses = set()
    for step in range(12):
        process = start(commands, "migrate")
        time.sleep(0.06 * step)  # a moment of its own each time, not a wait for anything
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        assert is_plain(errors.decode())
        statuses.add(process.returncode)
    assert statuses <= {0, 128 + signal.SIGTERM, -signal.SIGTERM}, statuses  # the last: before our first line ran
    assert 128 + signal.SIGTERM in statuses


@pytest.mark.parametrize("arguments", [["token", "--user", "alice"], ["verify", "--json"]], ids=["token", "verify"])
@pytest.mark.parametrize(("output", "unbuffered"), [("hung up", ""), ("full", ""), ("full", "1"), ("closed", "")])
def test_output_that_can_not_be_written_is_told_in_a_sentence(
    stores: Stores, tmp_path: Path, arguments: list[str], output: str, unbuffered: str
) -> None:
    commands = Server(stores, log=tmp_path / "log", environment={"PYTHONUNBUFFERED": unbuffered})
    shell = {
        "hung up": 'exec "$@" 1>&3',
        "full": 'exec "$@" >/dev/full',
        "closed": 'exec "$@" <&- >&- 2>&-',
    }[output]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            ["bash", "-c", f"exec 3>&{writing}; {shell}", "bash", *commands.command(*arguments)],
            env=commands.environment(),
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            pass_fds=(writing,),
        )
    finally:
        os.close(writing)
    assert is_plain(done.stderr), done.stderr
    if output == "closed":  # nothing is to be written, and all else was done
        assert done.returncode == 0
    else:
        assert done.returncode == 2
        assert done.stderr.startswith("scoreboard: standard output can't be written")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_server_goes_on_when_nobody_reads_its_output(stores: Stores, tmp_path: Path, unbuffered: str) -> None:
    commands = Server(stores, log=tmp_path / "log", environment={"PYTHONUNBUFFERED": unbuffered})
    reading, writing = os.pipe()
    os.close(reading)
    process = start(commands, "serve", "--port", "0", stdout=writing)
    os.close(writing)
    assert process.stderr is not None
    line = b""
    while b'"listening"' not in line:
        line = process.stderr.readline()
        assert line, "it ended"
    status, errors = end(process, signal.SIGTERM, lambda: True, what="nothing")
    assert status == 0, errors


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["token"],
        ["token", "--user", "a,b"],
        ["verify"],
        ["export", "--board", "global", "--output", "-"],
        ["serve", "--port", "0"],
    ],
    ids=" ".join,
)
def test_an_exit_status_is_the_same_where_errors_can_not_be_written(
    stores: Stores, tmp_path: Path, arguments: list[str], unbuffered: str
) -> None:
    """A log on a full disk changes nothing else."""
    commands = Server(stores, log=tmp_path / "log", environment={"PYTHONUNBUFFERED": unbuffered})
    statuses = []
    for errors in ("/dev/null", "/dev/full"):
        with open(errors, "w") as file:
            process = subprocess.Popen(
                commands.command(*arguments), env=commands.environment(), stdout=subprocess.PIPE, stderr=file
            )
        assert process.stdout is not None
        if arguments[0] == "serve":
            while not process.stdout.readline().startswith(b"Listening"):
                assert process.poll() is None
            process.terminate()
        process.communicate(timeout=60)
        statuses.append(process.returncode)
    assert statuses[0] == statuses[1] != 120


# -- whom the embedded stores obey


def environments(data_dir: Path) -> dict[int, dict[str, str]]:
    """The environment of each process of the stores, by its id."""
    found = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                where = os.readlink(process / "cwd")
                raw = (process / "environ").read_bytes()
            except OSError:
                continue
            if where.startswith(str(data_dir)):
                found[int(process.name)] = dict(
                    line.decode().split("=", 1) for line in raw.split(b"\0") if b"=" in line
                )
    return found


def test_stores_know_nothing_of_the_servers_environment(data_dir: Path, tmp_path: Path) -> None:
    secret = "the operator's own secret, not for stores"
    server = Server(
        data_dir=data_dir, log=tmp_path / "log", JWT_SECRET=secret, environment={"OTHER_SECRET": "hunter2"}
    ).start()
    try:
        found = environments(data_dir)
        assert len(found) >= 2
        for environment in found.values():
            assert set(environment) <= {"PATH", "LC_ALL", "TZ", "PGLOCALEDIR", "PGSYSCONFDIR", "PG_GRANDPARENT_PID"}
            assert secret not in "".join(environment.values())
    finally:
        assert server.stop() == 0


def test_the_server_is_no_superuser_of_its_database(data_dir: Path, tmp_path: Path) -> None:
    server = Server(data_dir=data_dir, log=tmp_path / "log").start()
    try:
        admin = Stores(DataDir(data_dir).admin_url, "")
        roles = {
            row["usename"]
            for row in admin.query("SELECT usename FROM pg_stat_activity WHERE application_name = 'scoreboard'")
        }
        assert roles == {APPLICATION_ROLE}
        assert_owned(admin)
        ours = Stores(DataDir(data_dir).database_url, "")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            ours.query("COPY (SELECT 1) TO PROGRAM 'true'")
    finally:
        assert server.stop() == 0


def assert_owned(admin: Stores) -> None:
    """All that is in the schema, and the database, belongs to the application's role, which may do no more."""
    owners = admin.query(
        "SELECT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " UNION SELECT pg_get_userbyid(proowner) FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        " UNION SELECT pg_get_userbyid(typowner) FROM pg_type WHERE typnamespace = 'public'::regnamespace"
        " UNION SELECT pg_get_userbyid(stxowner) FROM pg_statistic_ext"
        " UNION SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'postgres'"
    )
    assert [row[0] for row in owners] == [APPLICATION_ROLE]
    (role,) = admin.query(
        f"SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles"
        f" WHERE rolname = '{APPLICATION_ROLE}'"
    )
    assert not any(role)


async def make_as_before(data: DataDir) -> None:
    """A data directory as it was made before there was a role of the application's: all is the superuser's."""
    stores = EmbeddedStores(data)
    await stores.start()
    try:
        connection = await asyncpg.connect(data.admin_url)
        for statement in (
            "ALTER DATABASE postgres OWNER TO CURRENT_USER",
            "DROP SCHEMA public CASCADE",
            "CREATE SCHEMA public",
            "ALTER SCHEMA public OWNER TO pg_database_owner",
            "GRANT USAGE ON SCHEMA public TO PUBLIC",
            f"DROP ROLE {APPLICATION_ROLE}",
        ):
            await connection.execute(statement)
        await connection.close()
        await migrate(data.admin_url)
        connection = await asyncpg.connect(data.admin_url)
        await connection.execute("INSERT INTO actions (board_id, action_id, points) VALUES ('global', 'win', 10)")
        await connection.execute("SELECT * FROM submit_scores('global', ARRAY['alice'], ARRAY['win'], ARRAY[NULL])")
        await connection.close()
    finally:
        await stores.stop()


def test_a_data_directory_of_before_is_taken_over_with_its_scores(run: Run, data_dir: Path, tmp_path: Path) -> None:
    run(make_as_before(DataDir(data_dir)))
    server = Server(data_dir=data_dir, log=tmp_path / "log").start()
    try:
        with server.client() as client:
            assert client.get("/api/leaderboard").json()["leaderboard"][0]["score"] == 10
        assert_owned(Stores(DataDir(data_dir).admin_url, ""))
    finally:
        assert server.stop() == 0
    assert server.run("verify").returncode == 0


# -- folders and files that others may have made


@pytest.fixture
def shared() -> Iterator[Path]:
    """A temporary directory of everybody's, whose path is short."""
    path = Path(tempfile.mkdtemp(prefix="shared-"))
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def far(tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Commands whose data directory's path is too long for sockets, which go to the temporary directory then."""
    path = tmp_path / ("d" * 60) / ("e" * 60)
    monkeypatch.setenv("TMPDIR", str(shared))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield Server(data_dir=path, log=tmp_path / "log")
    left = processes_of(path)
    monkeypatch.undo()
    assert left == []


def sockets_of(far: Server, shared: Path) -> Path:
    assert far._data_dir is not None
    path = DataDir(far._data_dir).sockets
    assert path.parent == shared
    return path


def test_sockets_in_the_temporary_directory_are_in_a_folder_of_our_own(far: Server, shared: Path) -> None:
    server = far.start()
    folder = sockets_of(far, shared).lstat()
    assert stat.S_ISDIR(folder.st_mode)
    assert stat.S_IMODE(folder.st_mode) == 0o700
    assert far.run("verify").returncode == 0
    assert server.stop() == 0
    assert entries(shared) == set()  # nothing stays behind
    sockets_of(far, shared).mkdir(mode=0o700)
    assert far.run("verify").returncode == 0  # found, and removed with the stores
    assert entries(shared) == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to others")
@pytest.mark.parametrize("taken", ["by another user", "by a link", "open to others", "by a file"])
def test_a_folder_of_sockets_that_somebody_else_made_is_refused(
    far: Server, shared: Path, tmp_path: Path, taken: str
) -> None:
    path = sockets_of(far, shared)
    if taken == "by another user":
        path.mkdir(mode=0o700)
        os.chown(path, ELSEWHERE, ELSEWHERE)
    elif taken == "by a link":
        (tmp_path / "theirs").mkdir(mode=0o700)
        path.symlink_to(tmp_path / "theirs")
    elif taken == "open to others":
        path.mkdir()
        path.chmod(0o777)
    else:
        path.write_text("")
    before = path.lstat()
    refused = far.run("migrate")
    assert refused.returncode == 2
    assert str(path) in refused.stderr
    assert is_plain(refused.stderr)
    assert (path.lstat().st_uid, path.lstat().st_mode) == (before.st_uid, before.st_mode)
    if taken == "by a link":
        assert (tmp_path / "theirs").stat().st_uid == os.geteuid()
        assert entries(tmp_path / "theirs") == set()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to others")
def test_a_folder_of_sockets_taken_over_while_the_server_runs_is_not_talked_to(far: Server, shared: Path) -> None:
    """What cleans temporary directories may remove it, and somebody else make it anew."""
    server = far.start()
    path = sockets_of(far, shared)
    aside = path.with_name("aside")
    path.rename(aside)
    try:
        path.mkdir(mode=0o700)
        os.chown(path, ELSEWHERE, ELSEWHERE)
        refused = far.run("verify")
        assert refused.returncode == 2
        assert str(path) in refused.stderr
    finally:
        path.rmdir()
        aside.rename(path)
        assert server.stop() == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to others")
@pytest.mark.parametrize("name", ["lock", "jwt_secret", "postgres.log", "valkey", "run"])
@pytest.mark.parametrize("kind", ["link", "another user's"])
def test_links_and_others_files_in_the_data_directory_are_refused(
    set_up: Server, data_dir: Path, tmp_path: Path, name: str, kind: str
) -> None:
    path, target = data_dir / name, tmp_path / "target"
    is_folder = name in ("valkey", "run")
    if path.exists():
        path.rename(data_dir / f"{name}.aside")
    made = target if kind == "link" else path
    made.mkdir(mode=0o700) if is_folder else made.write_text("x" * 64)
    made.chmod(0o700 if is_folder else 0o600)
    if kind == "link":
        path.symlink_to(target)
    else:
        os.chown(path, ELSEWHERE, ELSEWHERE)
    refused = set_up.run("serve", "--port", "0")
    assert refused.returncode == 2, refused.stdout
    assert str(path) in refused.stderr
    assert is_plain(refused.stderr)
    assert made.stat().st_uid == (os.geteuid() if kind == "link" else ELSEWHERE)
    assert is_folder or made.read_text() == "x" * 64


def test_a_secret_that_others_can_read_is_refused(set_up: Server, data_dir: Path) -> None:
    assert set_up.run("token", "--user", "alice").returncode == 0
    (data_dir / "jwt_secret").chmod(0o644)
    refused = set_up.run("token", "--user", "alice")
    assert refused.returncode == 2
    assert f"chmod 600 {data_dir / 'jwt_secret'}" in refused.stderr


@pytest.mark.parametrize("command", ["migrate", "verify"])
def test_a_data_directory_that_everybody_may_write_in_is_refused(set_up: Server, data_dir: Path, command: str) -> None:
    data_dir.chmod(0o777)
    refused = set_up.run(command)
    assert refused.returncode == 2
    assert "everybody may write" in refused.stderr
    data_dir.chmod(0o711)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make what belongs to others")
def test_a_data_directory_of_another_user_is_refused(embedded: Server, data_dir: Path) -> None:
    data_dir.mkdir()
    os.chown(data_dir, ELSEWHERE, ELSEWHERE)
    refused = embedded.run("migrate")
    assert refused.returncode == 2
    assert str(ELSEWHERE) in refused.stderr
    assert entries(data_dir) == set()


# -- what the help says


@pytest.mark.parametrize("command", [[], ["doctor"], ["import"]], ids=lambda command: "".join(command))
def test_help_tells_the_exit_statuses(stores: Stores, tmp_path: Path, command: list[str]) -> None:
    shown = Server(stores, log=tmp_path / "log").run(*command, "--help").stdout
    for status in ("0", "1", "2", "143"):
        assert f"\n  {status} " in shown


def test_unexpected_failures_are_a_line_and_say_where_with_debug(stores: Stores, tmp_path: Path) -> None:
    wait_until(lambda: stores.query("SELECT 1"), what="the database")
    stores.query("CREATE TABLE schema_migrations (version text)")
    failed = Server(stores, log=tmp_path / "log", LOG_FORMAT="json").run("migrate")
    assert failed.returncode == 2
    assert is_plain(failed.stderr)
    assert len(failed.stderr.splitlines()) == 1
    for line in Server(stores, log=tmp_path / "log", LOG_LEVEL="debug").run("migrate").stderr.splitlines():
        assert line.startswith("scoreboard: ") or json.loads(line)["level"] == "debug"
