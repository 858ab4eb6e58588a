"""``scoreboard export`` and ``scoreboard import`` by their command lines, also killed, and beside a server."""

import hashlib
import json
import os
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

import pytest

from scoreboard.imports import PORTION_LINES
from scoreboard.transfer import ActionLine, BoardLine, EndLine, EventLine, encode_line
from tests.e2e.embedded import end, start
from tests.harness import Server, Stores, wait_until

EVENTS = 3 * PORTION_LINES
USERS = 500


@pytest.fixture
def commands(stores: Stores, tmp_path: Path) -> Iterator[Server]:
    """Runs commands on this test's stores; in the end everything agrees."""
    runner = Server(stores, log=tmp_path / "commands.log")
    assert runner.run("migrate").returncode == 0
    yield runner
    verified = runner.run("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of a board ``large`` with EVENTS events of 10 points of USERS users."""
    began = datetime(2026, 3, 1, tzinfo=UTC)
    board = BoardLine(
        format=1, board="large", epoch="0123abcd", events=EVENTS, title="Large", windows=["all", "week"],
        ties="first", timezone="Europe/Berlin", operator="sum", created_at=began,
    )  # fmt: skip
    lines = [encode_line(board), encode_line(ActionLine("win", 10))]
    for seq in range(1, EVENTS + 1):
        user, at = f"user{seq % USERS}", began + timedelta(seconds=30 * seq)
        score = 10 * ((seq - 1) // USERS + 1) if seq % USERS else 10 * (seq // USERS)
        lines.append(
            encode_line(
                EventLine(
                    seq=seq, at=at, user_id=user, action_id="win", points=10, score_after=score, key=f"round {seq}"
                )
            )
        )
    body = b"".join(lines)
    path = tmp_path_factory.mktemp("large") / "large.ndjson"
    path.write_bytes(body + encode_line(EndLine(EVENTS, hashlib.sha256(body).hexdigest())))
    return path


def test_an_import_killed_in_the_middle_goes_on_with_the_same_file(
    commands: Server, stores: Stores, large: Path, tmp_path: Path
) -> None:
    noted = "SELECT events FROM imports WHERE events > 0"
    with (
        (tmp_path / "errors").open("wb") as errors,
        subprocess.Popen(
            commands.command("import", "-"), env=commands.environment(), stdin=subprocess.PIPE, stderr=errors
        ) as process,
        large.open("rb") as file,
    ):
        assert process.stdin is not None
        try:
            process.stdin.writelines(islice(file, 2 * PORTION_LINES + PORTION_LINES // 2))
            process.stdin.flush()
            (row,) = wait_until(lambda: stores.query(noted), what="a portion")  # type: ignore[misc]
        finally:
            process.kill()
    assert 0 < row["events"] < EVENTS
    assert stores.query("SELECT seq FROM boards WHERE board_id = 'large'") == [(0,)]
    verified = commands.run("verify")
    assert verified.returncode == 1
    assert "import is unfinished" in verified.stdout
    again = commands.run("import", str(large))
    assert again.returncode == 0, again.stderr
    assert "Went on after" in again.stderr
    assert f"Imported {EVENTS} events into board large" in again.stderr
    assert stores.query("SELECT seq, players FROM boards WHERE board_id = 'large'") == [(EVENTS, USERS)]
    exported = commands.run("export", "--board", "large")
    assert exported.stdout == large.read_text()


def test_a_cut_off_file_is_refused_before_anything_is_begun(commands: Server, large: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.ndjson"
    cut.write_bytes(large.read_bytes()[:-100])
    refused = commands.run("import", str(cut))
    assert refused.returncode == 2
    assert f"scoreboard: {cut} is cut off" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_pipe_that_is_cut_off_leaves_nothing(commands: Server, stores: Stores, large: Path) -> None:
    lines = large.read_bytes().splitlines(keepends=True)[: PORTION_LINES + 10]
    refused = subprocess.run(
        commands.command("import", "-"),
        env=commands.environment(),
        input=b"".join(lines),
        capture_output=True,
        timeout=60,
    )
    assert refused.returncode == 2
    assert f"is cut off after line {len(lines)}" in refused.stderr.decode()
    assert stores.query("SELECT 1 FROM ledger UNION ALL SELECT 1 FROM boards WHERE board_id = 'large'") == []


def test_a_board_moves_through_a_file_beside_a_server(start_server: Callable[..., Server], tmp_path: Path) -> None:
    server = start_server()
    server.put_action("win", 10)
    for user in ("ann", "bob", "ann"):
        server.submit(user)
    file = tmp_path / "global.ndjson"
    assert server.run("export", "--board", "global", "--output", str(file)).returncode == 0
    assert list(tmp_path.glob("*.unfinished")) == []
    imported = server.run("import", str(file), "--board", "moved")
    assert imported.returncode == 0, imported.stderr
    with server.client() as client:
        left, arrived = (
            client.get("/api/leaderboard", params={"board": board}).json() for board in ("global", "moved")
        )
    assert (arrived["seq"], arrived["leaderboard"]) == (left["seq"], left["leaderboard"])
    receipt = server.submit("bob", board="moved").json()
    assert (receipt["seq"], receipt["newScore"], receipt["rank"]) == (4, 20, 1)
    assert server.run("verify").returncode == 0


# -- where an export goes


@pytest.fixture
def exported(commands: Server) -> str:
    """The file of board ``global``."""
    return commands.run("export", "--board", "global").stdout


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_written_into_and_stays(commands: Server, exported: str, tmp_path: Path, linked: bool) -> None:
    pipe, output = tmp_path / "pipe", tmp_path / "link" if linked else tmp_path / "pipe"
    os.mkfifo(pipe)
    if linked:
        output.symlink_to(pipe)
    with subprocess.Popen(
        commands.command("export", "--board", "global", "--output", str(output)),
        env=commands.environment(),
        stderr=subprocess.DEVNULL,
    ) as process:
        assert pipe.read_text() == exported
        assert process.wait(30) == 0
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert output.is_symlink() == linked
    assert list(tmp_path.glob("*.unfinished")) == []


def test_an_export_into_a_pipe_that_nobody_opens_is_ended_by_a_signal(commands: Server, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    process = start(commands, "export", "--board", "global", "--output", str(tmp_path / "pipe"))
    asleep = Path(f"/proc/{process.pid}/wchan")
    status, errors = end(process, signal.SIGTERM, lambda: "partner" in asleep.read_text(), what="a wait for a reader")
    assert status == 128 + signal.SIGTERM, errors
    assert "Traceback" not in errors


def test_a_device_is_written_into_and_stays(commands: Server, tmp_path: Path) -> None:
    """Always full, and reached by a link of ours."""
    (tmp_path / "full").symlink_to("/dev/full")
    refused = commands.run("export", "--board", "global", "--output", str(tmp_path / "full"))
    assert refused.returncode == 2
    assert f"{tmp_path / 'full'} can't be written: No space left on device" in refused.stderr
    assert (tmp_path / "full").is_symlink()
    assert stat.S_ISCHR(Path("/dev/full").lstat().st_mode)


def test_a_link_is_followed_and_stays(commands: Server, exported: str, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("before")
    for name in ("kept", "made"):
        link = tmp_path / f"{name}.link"
        link.symlink_to(name)
        done = commands.run("export", "--board", "global", "--output", str(link))
        assert done.returncode == 0, done.stderr
        assert link.is_symlink()
        assert not (tmp_path / name).is_symlink()
        assert (tmp_path / name).read_text() == exported
    assert list(tmp_path.glob("*.unfinished")) == []


def test_a_file_that_is_replaced_keeps_its_mode_and_owner(commands: Server, exported: str, tmp_path: Path) -> None:
    file = tmp_path / "board.ndjson"
    for mode in (0o600, 0o664):
        file.write_text("before")
        file.chmod(mode)
        if os.geteuid() == 0:
            os.chown(file, 4_321, 4_322)
        before = file.stat()
        assert commands.run("export", "--board", "global", "--output", str(file)).returncode == 0
        after = file.stat()
        assert file.read_text() == exported
        assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
        assert after.st_ino != before.st_ino
    assert commands.run("export", "--board", "nowhere", "--output", str(file)).returncode == 2
    assert file.read_text() == exported  # what goes wrong replaces nothing


def test_standard_output_by_its_path_is_standard_output(commands: Server, exported: str, tmp_path: Path) -> None:
    arguments = ("export", "--board", "global", "--output", "/dev/stdout")
    assert commands.run(*arguments).stdout == exported
    with (tmp_path / "log").open("w") as log:
        log.write("before\n")
        log.flush()
        subprocess.run(
            commands.command(*arguments),
            env=commands.environment(),
            stdout=log,
            stderr=subprocess.DEVNULL,
            timeout=60,
            check=True,
        )
        log.write("after\n")
    assert (tmp_path / "log").read_text() == f"before\n{exported}after\n"


# -- what is refused


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"line":"board"}\n', "line 1: is not the first line of an exported board: it has no format"),
        ('{"line":"board","format":1,"a\u202eb\u200b":1}\n'.encode(), "\\u202e"),
        (b'{"format":2,"title":"\x1b[31m"}\n', "\\x1b[31m"),
    ],
)
def test_a_bad_line_of_standard_input_is_told_so_and_shown_safely(commands: Server, line: bytes, said: str) -> None:
    done = subprocess.run(
        commands.command("import", "-"), env=commands.environment(), input=line, capture_output=True, timeout=60
    )
    assert done.returncode == 2
    (told,) = done.stderr.decode().splitlines()
    assert told.startswith("scoreboard: standard input, line 1: ")
    assert said in told
    assert told.isprintable()


def test_a_bad_line_of_csv_is_shown_safely(commands: Server, tmp_path: Path) -> None:
    file = tmp_path / "scores.csv"
    file.write_text("ann\u202e,1\nbob\u200b,2\n")
    done = commands.run("import", "--csv", "--board", "season", str(file))
    assert done.returncode == 2
    (told,) = (line for line in done.stderr.splitlines() if line.startswith("scoreboard: "))
    assert f"{file}, line 1: " in told
    assert told.isprintable()


def test_embedded_stores_take_a_board_from_a_csv(tmp_path: Path) -> None:
    runner = Server(data_dir=tmp_path / "data", log=tmp_path / "log")
    file = tmp_path / "scores.csv"
    file.write_text("userId,score\nann,12\nbob,7\n")
    imported = runner.run("import", str(file), "--board", "season2", "--csv")
    assert imported.returncode == 0, imported.stderr
    verified = runner.run("verify")
    assert verified.stdout.strip() == "2 boards verified, 0 differences"
    exported = runner.run("export", "--board", "season2")
    kinds = [json.loads(line)["line"] for line in exported.stdout.splitlines()]
    assert kinds == ["board", "event", "event", "end"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("export", "--board", "nowhere"), "there is no board 'nowhere'"),
        (("export", "--board", "global", "--output", "/nowhere/at/all"), "/nowhere/at/all can't be written: No such"),
        (("export", "--board", "global", "--output", "/"), "/ can't be written: Is a directory"),
        (("export", "--board", "global", "--output", ""), "--output is empty"),
        (("rebuild", "--board", ""), "there is no board ''"),
        (("import", "/nowhere/at/all"), "/nowhere/at/all can't be read: No such file"),
        (("import", "/dev/null"), "/dev/null is empty"),
        (("import", "/dev/null", "--csv"), "--csv needs --board"),
        (("import", "--discard"), "--discard needs --board"),
        (("import",), "which FILE"),
        (("import", "-", "--board", "a b"), "--board 'a b'"),
    ],
)
def test_what_a_command_cannot_do_it_says_in_a_line(commands: Server, arguments: tuple[str, ...], said: str) -> None:
    done = commands.run(*arguments)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_reader_that_goes_away_ends_an_export_without_a_traceback(commands: Server, large: Path) -> None:
    assert commands.run("import", str(large)).returncode == 0
    process = subprocess.Popen(
        commands.command("export", "--board", "large"),
        env=commands.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    errors = process.stderr.read().decode()
    process.stderr.close()
    assert process.wait(20) == 2
    assert "can't be written: Broken pipe" in errors
    assert "Traceback" not in errors
