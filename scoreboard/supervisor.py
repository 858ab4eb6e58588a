"""Several processes that serve one port: starts them, starts one again that ended, and ends them all.

Each has a listening socket of its own, among which the kernel spreads new connections. The sockets stay open here as
well: connections that come while a process is away wait for the one that takes its place.
"""

import asyncio
import os
import pickle
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic

import structlog

from scoreboard.acknowledged import shared_bytes
from scoreboard.app import Backing
from scoreboard.config import Config
from scoreboard.errors import StartupError
from scoreboard.tasks import end_tasks
from scoreboard.worker import READY, Assignment

START_TIMEOUT_S = 60.0
RESTART_S = 0.5
SHORT_LIVED_S = 10.0
SHORT_LIVES_MAX = 5
"""Processes in a row that end within SHORT_LIVED_S of their start; then the server ends as one that can't serve."""
END_GRACE_S = 20.0
"""How long a process may take to close after its drain time, before it is killed."""

log = structlog.get_logger(__name__)


async def supervise(
    config: Config,
    backing: Backing,
    listeners: Sequence[socket.socket],
    stop: asyncio.Event,
    on_listening: Callable[[], None],
) -> None:
    """Serve by one process for each listener until told to stop, then let them drain.

    :param on_listening: called when all of them take requests.
    :raises StartupError: if one does not start, or keeps ending.
    """
    count = len(listeners)
    with tempfile.TemporaryDirectory(prefix="scoreboard-") as folder, _zeros(shared_bytes(count)) as memory:
        workers = [
            _Worker(Assignment(config, backing, number, count, listener.fileno(), memory, Path(folder)))
            for number, listener in enumerate(listeners)
        ]

        async def run() -> None:
            await asyncio.gather(*(worker.start() for worker in workers))
            on_listening()
            await asyncio.gather(*(worker.keep() for worker in workers))

        running = [asyncio.create_task(run(), name="workers"), asyncio.create_task(stop.wait(), name="stop")]
        try:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end_tasks(running)
            for listener in listeners:
                listener.close()  # the port is free when the processes have closed theirs
            await asyncio.gather(*(worker.end(config.drain_s + END_GRACE_S) for worker in workers))


@contextmanager
def _zeros(size: int) -> Iterator[int]:
    """The descriptor of a file of zeros, which is nowhere but in memory where the system has such."""
    with ExitStack() as stack:
        if sys.platform == "linux":
            memory = os.memfd_create("scoreboard")
            stack.callback(os.close, memory)
        else:
            memory = stack.enter_context(tempfile.TemporaryFile()).fileno()
        os.truncate(memory, size)
        yield memory


class _Worker:
    """One of the processes, and those that take its place."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._process: asyncio.subprocess.Process | None = None
        self._started_at = 0.0

    async def start(self) -> None:
        """Start the process; returns when it takes requests.

        :raises StartupError: if it ends before, or does not get there in time.
        """
        number = self._assignment.number
        self._started_at = monotonic()
        process = self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "scoreboard.worker"),
            stdin=asyncio.subprocess.PIPE,  # stays open as long as this process lives, which is how the worker knows
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            pass_fds=(self._assignment.listener, self._assignment.memory),
            start_new_session=True,  # Ctrl-C reaches this process alone, which ends them in order
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                process.stdin.write(pickle.dumps(self._assignment))
                line = await process.stdout.readline()
        except (OSError, RuntimeError, TimeoutError) as exc:  # uvloop's word for a pipe that is closed is RuntimeError
            raise StartupError(f"worker {number} does not start: {exc or 'it took too long'}") from exc
        if line != READY:
            raise StartupError(f"worker {number} did not start: it ended with {await process.wait()}")

    async def keep(self) -> None:
        """Start the process again whenever it ends.

        :raises StartupError: if it ended soon after its start SHORT_LIVES_MAX times in a row.
        """
        short_lives = 0
        while True:
            assert self._process is not None
            status = await self._process.wait()
            lived_s = monotonic() - self._started_at
            short_lives = short_lives + 1 if lived_s < SHORT_LIVED_S else 0
            number = self._assignment.number
            log.error("worker_ended", worker=number, status=status, after_s=round(lived_s, 1))
            if short_lives >= SHORT_LIVES_MAX:
                raise StartupError(f"worker {number} ended {short_lives} times in a row, at last with {status}")
            await asyncio.sleep(RESTART_S)
            try:
                await self.start()
            except StartupError as exc:
                log.error("worker_did_not_start", worker=number, error=str(exc))
                self._kill()

    async def end(self, within_s: float) -> None:
        """Let the process drain; it is killed when that takes too long."""
        if self._process is None:
            return
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(within_s):
                await self._process.wait()
        except TimeoutError:
            log.error("worker_killed", worker=self._assignment.number, after_s=within_s)
            self._kill()
            await self._process.wait()

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
