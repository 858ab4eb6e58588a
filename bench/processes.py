"""Child processes that speak in lines, each with a deadline, and none left behind."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from time import monotonic
from types import TracebackType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STOP_TIMEOUT_S = 40.0


class ChildFailed(Exception):
    """A child ended, or was silent for too long."""


class Child:
    """A process of ours: lines out of it in a queue, lines into it, its errors in a log file.

    It has a session of its own, so that Ctrl-C reaches only the parent, which then stops its children in order.
    """

    def __init__(
        self, *arguments: str, log: Path, cwd: Path = ROOT, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = " ".join(arguments[:2])
        self._log = log
        self._lines: queue.Queue[str | None] = queue.Queue()
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=cwd,
                env=environment,
                start_new_session=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> "Child":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as output:
            for line in output:
                self._lines.put(line)
        self._lines.put(None)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def tell(self, message: object) -> None:
        """Send one line of JSON."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as exc:
            raise self._failed("ended") from exc

    def hear(self, within_s: float) -> Any:
        """Receive one line of JSON."""
        return json.loads(self._next_line(monotonic() + within_s))

    def wait_for_line(self, prefix: str, within_s: float) -> str:
        """The rest of the first line that starts so."""
        deadline = monotonic() + within_s
        while True:
            line = self._next_line(deadline)
            if line.startswith(prefix):
                return line.removeprefix(prefix).strip()

    def _next_line(self, deadline: float) -> str:
        try:
            line = self._lines.get(timeout=max(0.0, deadline - monotonic()))
        except queue.Empty:
            raise self._failed("said nothing in time") from None
        if line is None:
            raise self._failed("ended")
        return line

    def _failed(self, what: str) -> ChildFailed:
        tail = self._log.read_text(errors="replace")[-2_000:]
        return ChildFailed(f"{self.name} {what}; its log ends with:\n{tail}")

    def stop(self) -> None:
        """End it politely, or else together with the children that it could not end itself."""
        process = self._process
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                orphans = list_children(process.pid)
                process.kill()
                process.wait()
                for pid in orphans:
                    os.kill(pid, signal.SIGKILL)
        if process.stdin is not None:
            process.stdin.close()
        self._reader.join(5)


def resident_bytes(pids: Iterable[int]) -> int:
    """Memory of processes that is in RAM; Linux only."""
    return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pids: Iterable[int]) -> float:
    """Time that processes have computed so far; Linux only."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / os.sysconf("SC_CLK_TCK")


def read_command(pid: int) -> str:
    """The command line of a process, empty where there is none any more; Linux only."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def list_children(pid: int) -> list[int]:
    """Ids of a process's children; none where the system does not tell."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
