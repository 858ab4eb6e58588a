"""Commands with a data directory of their own, and what is left of them."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.harness import Server, wait_until


def processes_of(data_dir: Path) -> list[str]:
    """Command lines of the stores' processes that name the directory."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            where = os.readlink(process / "cwd")
        except OSError:
            continue
        line = b" ".join(words).decode(errors="replace").strip()
        if (str(data_dir) in line or where.startswith(str(data_dir))) and b"scoreboard" not in words:
            found.append(line)
    return found


def start(command: Server, *arguments: str, **options: object) -> "subprocess.Popen[bytes]":
    """Start a command in a session of its own, as a terminal would; both outputs are pipes."""
    settings: dict[str, object] = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "start_new_session": True,
        "preexec_fn": _heed_signals,
    }
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        command.command(*arguments), env=command.environment(), **settings | options
    )


def _heed_signals() -> None:
    """The tests may run where a shell's background or nohup has signals ignored, which commands would inherit."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def end(
    process: "subprocess.Popen[bytes]",
    number: signal.Signals,
    when: Callable[[], object],
    *,
    what: str,
    within_s: float = 30,
) -> tuple[int, str]:
    """Wait for a moment of a command, signal its whole group, and return its status and errors."""
    try:
        wait_until(lambda: process.poll() is not None or when(), what=what)
        assert process.poll() is None, f"it ended before {what}: {process.communicate(timeout=10)}"
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=within_s)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate(timeout=10)
    return process.returncode, errors.decode()
