"""One of several processes that serve a port: ``python -m scoreboard.worker``, started by their parent alone.

What it is to do comes over standard input, which then says nothing more: its end is the parent's. Without a parent
nobody keeps the stores, the port and the other processes, so this one ends too, at once.
"""

import asyncio
import mmap
import os
import pickle
import socket
import sys
from pathlib import Path

import msgspec
import structlog

from scoreboard.app import Backing, run_process
from scoreboard.config import Config
from scoreboard.endings import Ended, catch_signals, complain, ending_at_once, run, stop_on_signals
from scoreboard.errors import EXIT_CANNOT_RUN, RanksUnavailable, ScoreboardError, StartupError
from scoreboard.logs import configure_logs
from scoreboard.siblings import Siblings

READY = b"ready\n"

log = structlog.get_logger(__name__)


class Assignment(msgspec.Struct, frozen=True):
    """What a worker is to do.

    :ivar number: which one it is, from 0, of ``count``.
    :ivar listener: file descriptor of its bound socket.
    :ivar memory: file descriptor of what the workers share.
    :ivar folder: where they listen for each other.
    """

    config: Config
    backing: Backing
    number: int
    count: int
    listener: int
    memory: int
    folder: Path


async def work(assignment: Assignment) -> None:
    """Serve until told to stop, or until the parent is gone."""
    siblings = Siblings(assignment.number, assignment.count, mmap.mmap(assignment.memory, 0), assignment.folder)
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _end_as_orphan, siblings)

    def tell_parent() -> None:
        sys.stdout.buffer.write(READY)
        sys.stdout.buffer.flush()

    listener = socket.socket(fileno=assignment.listener)
    with stop_on_signals() as stop:
        await run_process(assignment.config, assignment.backing, listener, stop, tell_parent, siblings)


def _end_as_orphan(siblings: Siblings) -> None:
    try:
        siblings.clear_away()
        log.error("parent_is_gone")
    finally:  # whatever fails: with the terminal gone nothing can be written to it
        os._exit(EXIT_CANNOT_RUN)


def main() -> None:
    """Do what the parent says."""
    catch_signals()
    try:
        with ending_at_once(serves=True):  # it loads modules
            assignment: Assignment = pickle.load(sys.stdin.buffer)  # noqa: S301  # our parent wrote it
        configure_logs(assignment.config.log_level, assignment.config.log_format, worker=assignment.number)
        run(work(assignment))
    except Ended:  # while it was starting: there is nothing to drain
        pass
    except (ScoreboardError, RanksUnavailable, StartupError) as exc:
        complain(f"worker {assignment.number}: {exc}")
        sys.exit(EXIT_CANNOT_RUN)


if __name__ == "__main__":
    main()
