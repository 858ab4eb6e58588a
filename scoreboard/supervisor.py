"""Several processes that serve one port: starts them, starts one again that ended or hangs, and ends them all.

Each has a listening socket of its own, among which the kernel spreads new connections. The sockets stay open here as
well: connections that come while a process is away wait for the one that takes its place. If that does not come up its
socket is closed, and the others get the connections, until it does.
"""

import asyncio
import os
import pickle
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from time import monotonic

import msgspec
import structlog

from scoreboard.acknowledged import shared_bytes
from scoreboard.app import Backing
from scoreboard.config import PREFIX, Config
from scoreboard.errors import StartupError
from scoreboard.listeners import bind_shared
from scoreboard.logs import flush_logs
from scoreboard.metrics_page import MetricsPage, serve_metrics
from scoreboard.siblings import ask, collect_metrics
from scoreboard.tasks import end_tasks
from scoreboard.worker import READY, Assignment

START_TIMEOUT_S = 60.0
RESTART_S = 0.5
RESTART_MAX_S = 5.0
SHORT_LIVED_S = 10.0
"""A process that ends so soon after its start has failed."""
FAILURES_MAX = 5
"""Failures in a row after which a process gets no connections until it is up. When all are there, the server ends."""
PING_S = 5.0
HANG_S = 15.0
"""A process that has not answered for so long is killed."""
END_GRACE_S = 20.0
"""How long a process may take to close after its drain time, before it is killed."""

log = structlog.get_logger(__name__)


async def supervise(
    config: Config,
    backing: Backing,
    listeners: Sequence[socket.socket],
    stop: asyncio.Event,
    on_listening: Callable[[], None],
    metrics_listener: socket.socket | None = None,
) -> None:
    """Serve by one process for each listener until told to stop, then let them drain.

    :param on_listening: called when all of them take requests.
    :param metrics_listener: a bound socket for the metrics alone, which this process asks all others for.
    :raises StartupError: if one does not start at first, or all keep ending.
    """
    count = len(listeners)
    with tempfile.TemporaryDirectory(prefix="scoreboard-") as folder, _zeros(shared_bytes(count)) as memory:
        workers = [
            _Worker(Assignment(config, backing, number, count, listener.fileno(), memory, Path(folder)), listener)
            for number, listener in enumerate(listeners)
        ]

        metrics_page = MetricsPage(partial(collect_metrics, Path(folder), count))

        async def run() -> None:
            async with asyncio.TaskGroup() as starting:
                for worker in workers:
                    starting.create_task(worker.start(), name="start-worker")
            on_listening()
            async with asyncio.TaskGroup() as keeping:
                for worker in workers:
                    keeping.create_task(worker.keep(workers), name="keep-worker")

        flushing = asyncio.create_task(flush_logs(), name="logs")
        running = [asyncio.create_task(run(), name="workers"), asyncio.create_task(stop.wait(), name="stop")]
        try:
            async with serve_metrics(metrics_listener, metrics_page):
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except ExceptionGroup as failed:
            starts, others = failed.split(StartupError)
            if starts is None or others is not None:
                raise
            raise _first(starts) from None
        finally:
            await end_tasks(running)
            await asyncio.gather(*(worker.end(config.drain_s + END_GRACE_S) for worker in workers))
            await end_tasks([flushing])


def _without_settings(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith(PREFIX)}


def _first(group: BaseException) -> BaseException:
    while isinstance(group, ExceptionGroup):
        group = group.exceptions[0]
    return group


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

    def __init__(self, assignment: Assignment, listener: socket.socket) -> None:
        self._assignment = assignment
        self._listener = listener
        self._address = listener.getsockname()[:2]
        self._process: asyncio.subprocess.Process | None = None
        self._started_at = 0.0
        self.failures = 0

    async def start(self) -> None:
        """Start the process; returns when it takes requests.

        :raises StartupError: if it ends before, or does not get there in time.
        """
        number = self._assignment.number
        self._started_at = monotonic()
        if self._listener.fileno() < 0:
            self._listener = bind_shared(*self._address)
        assignment = msgspec.structs.replace(self._assignment, listener=self._listener.fileno())
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                process = self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "scoreboard.worker"),
                    stdin=asyncio.subprocess.PIPE,  # stays open as long as this process lives: so the worker knows
                    stdout=asyncio.subprocess.PIPE,
                    # It is told all it needs: settings, and so secrets, don't lie in its environment as well.
                    env=_without_settings(os.environ) | {"PYTHONPATH": os.pathsep.join(sys.path)},
                    pass_fds=(assignment.listener, assignment.memory),
                    start_new_session=True,  # Ctrl-C reaches this process alone, which ends them in order
                )
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write(pickle.dumps(assignment))
                line = await process.stdout.readline()
        except (OSError, RuntimeError, TimeoutError) as exc:  # uvloop's word for a pipe that is closed is RuntimeError
            await self._kill()
            raise StartupError(f"worker {number} does not start: {exc or 'it took too long'}") from exc
        if line != READY:
            with suppress(TimeoutError):
                async with asyncio.timeout(RESTART_MAX_S):
                    await process.wait()
            await self._kill()
            raise StartupError(f"worker {number} did not start: it ended with {process.returncode}")

    async def keep(self, all_workers: "Sequence[_Worker]") -> None:
        """Start the process again whenever it ends.

        :raises StartupError: if all of them have failed FAILURES_MAX times in a row.
        """
        number = self._assignment.number
        while True:
            status = await self._wait_or_kill()
            lived_s = monotonic() - self._started_at
            log.error("worker_ended", worker=number, status=status, after_s=round(lived_s, 1))
            self.failures = self.failures + 1 if lived_s < SHORT_LIVED_S else 0
            while True:
                if self.failures >= FAILURES_MAX:
                    self._listener.close()
                    if all(worker.failures >= FAILURES_MAX for worker in all_workers):
                        raise StartupError(f"all workers keep ending, the last one with {status}")
                await asyncio.sleep(min(RESTART_S * 2**self.failures, RESTART_MAX_S))
                try:
                    await self.start()
                    break
                except StartupError as exc:
                    log.error("worker_did_not_start", worker=number, error=str(exc))
                    self.failures += 1

    async def _wait_or_kill(self) -> int:
        """Wait until the process ends, which it is made to if it hangs; its exit status."""
        assert self._process is not None
        answered_at = monotonic()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PING_S):
                    return await self._process.wait()
            with suppress(OSError, TimeoutError):
                await ask(self._assignment.folder, self._assignment.number)
                answered_at = monotonic()
                if answered_at - self._started_at > SHORT_LIVED_S:
                    self.failures = 0
            if monotonic() - answered_at > HANG_S:
                log.error("worker_hangs", worker=self._assignment.number, silent_s=round(monotonic() - answered_at, 1))
                await self._kill()

    async def end(self, within_s: float) -> None:
        """Give the port up and let the process drain; it is killed when that takes too long."""
        self._listener.close()  # with the process's own copy the port is then free
        if self._process is None:
            return
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(within_s):
                await self._process.wait()
        except TimeoutError:
            log.error("worker_killed", worker=self._assignment.number, after_s=within_s)
            await self._kill()

    async def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
