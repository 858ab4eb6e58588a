"""The commands ``export`` and ``import``. What they say goes to standard error: standard output may be the file."""

import argparse
import io
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from scoreboard.config import Config
from scoreboard.connecting import check_redis
from scoreboard.database import BatchRefused
from scoreboard.endings import Ended, interruptible, run
from scoreboard.errors import RanksUnavailable, StartupError, Unavailable
from scoreboard.exports import Exports
from scoreboard.imports import Imported, Imports, import_board
from scoreboard.metrics import Metrics
from scoreboard.migrations import migrate
from scoreboard.model import validate_name
from scoreboard.openings import import_openings
from scoreboard.progress import progress_bar
from scoreboard.ranks import Ranks
from scoreboard.repair import Repair
from scoreboard.serve import configured_digest_key, open_stores
from scoreboard.transfer import BoardFile, Lines, check_end

STATEMENT_TIMEOUT_S = 3_600.0
"""The totals of a board of many millions of events are made in one statement a window."""
STANDARD = "-"
PIPE_BYTES = 65_536
GO_ON = "Start again with the same file to go on"


def add_transfers(commands: Any, data_dir: argparse.ArgumentParser) -> None:
    """Add both commands to a command line."""
    command = commands.add_parser("export", parents=[data_dir], help="write a board with its whole history to a file")
    command.add_argument("--board", required=True, help="the board")
    command.add_argument("--output", metavar="FILE", default=STANDARD, help="where to (standard output)")
    command.set_defaults(run=run_export)

    command = commands.add_parser(
        "import",
        parents=[data_dir],
        help="load an exported board, or a CSV of scores, into an empty board",
        description="Loads an exported board into an empty one, which is made if there is none. Interrupted, also by "
        "kill -9, and started again with the same file, it goes on where it was. Users whom the database already knows "
        "keep the display name they have there, and stay hidden or shown as they are there.",
    )
    command.add_argument("file", metavar="FILE", nargs="?", help="what to load; - for standard input")
    command.add_argument("--board", help="the board to load into (that of the file)")
    command.add_argument(
        "--csv", action="store_true", help="FILE is CSV, userId,score: totals that the board opens with"
    )
    command.add_argument(
        "--discard", action="store_true", help="first throw away what an unfinished import left in --board"
    )
    command.set_defaults(run=run_import)


def run_export(config: Config, options: argparse.Namespace) -> int:
    """Write a board to a file, which is there only when it is whole, or to standard output."""

    async def work(file: BinaryIO) -> int:
        async with open_stores(config) as (database_url, _):
            await migrate(database_url, auto=config.auto_migrate)
            ledger = await Exports.open(database_url, statement_timeout_s=STATEMENT_TIMEOUT_S)
            try:
                with progress_bar("Exporting", " events") as report:
                    return await ledger.export_board(options.board, file, report)
            finally:
                await ledger.close()

    with _output(options.output) as file:
        events = run(work(file))
    _say(f"Exported {events} events of board {options.board}")
    return 0


class _Pipe(io.FileIO):
    """A file that may be read or written as slowly as others please: a signal ends the command all the same."""

    def readinto(self, buffer: Any) -> int | None:
        with interruptible:
            return super().readinto(buffer)

    def write(self, data: Any) -> int:
        with interruptible:
            return super().write(data)


@contextmanager
def _output(name: str) -> Iterator[BinaryIO]:
    """Where an export goes. A file of that name is replaced at the end, when nothing went wrong."""
    if name == STANDARD:
        try:
            with io.BufferedWriter(_Pipe(1, "wb", closefd=False), PIPE_BYTES) as file:
                yield cast(BinaryIO, file)
        except OSError as exc:
            raise StartupError(f"standard output can't be written: {exc.strerror}") from exc
        return
    unfinished = Path(f"{name}.{os.getpid()}.unfinished")
    try:
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(name)
    except OSError as exc:
        raise StartupError(f"{name} can't be written: {exc.strerror}") from exc
    finally:
        unfinished.unlink(missing_ok=True)


def run_import(config: Config, options: argparse.Namespace) -> int:
    """Load a file into an empty board."""
    if options.board is not None and (wrong := validate_name(options.board)):
        raise StartupError(f"--board {wrong}")
    if options.board is None and (options.csv or options.discard):
        raise StartupError(f"{'--csv' if options.csv else '--discard'} needs --board: which board is it?")
    if options.file is None and not options.discard:
        raise StartupError("which FILE is to be loaded? (- for standard input)")
    with _input(options.file) as file:
        try:
            imported = run(_import(config, options, file))
        except BatchRefused as exc:
            raise StartupError(f"PostgreSQL refuses {options.file}: {exc}") from exc
        except (Unavailable, RanksUnavailable) as exc:
            raise StartupError(f"{exc}. {GO_ON}") from exc
        except Ended as ended:
            raise Ended(ended.number, GO_ON) from ended
    if imported is not None:
        _tell(imported)
    return 0


@contextmanager
def _input(name: str | None) -> Iterator[BinaryIO | None]:
    if name is None:
        yield None
        return
    if name == STANDARD:
        yield cast(BinaryIO, io.BufferedReader(_Pipe(0, "rb", closefd=False), PIPE_BYTES))
        return
    with ExitStack() as stack:
        try:
            file = stack.enter_context(_Pipe(name, "rb"))
        except OSError as exc:
            raise StartupError(f"{name} can't be read: {exc.strerror}") from exc
        yield cast(BinaryIO, io.BufferedReader(file, PIPE_BYTES))


async def _import(config: Config, options: argparse.Namespace, file: BinaryIO | None) -> Imported | None:
    """Import what was read of, after looking whether it is whole, as far as that can be seen before any store is."""
    source: BoardFile | Lines | None = None
    if file is not None:
        if not options.csv:
            check_end(file, options.file)
        lines = Lines(file, options.file, ends_open=options.csv)
        source = lines if options.csv else BoardFile(lines)
    async with _rooms(config) as (ledger, repair):
        if options.discard:
            async with ledger.hold(options.board) as connection:
                was_there = await ledger.discard(connection, options.board)
            _say(f"{'Discarded an' if was_there else 'There is no'} unfinished import into board {options.board}")
        with progress_bar("Importing", " events") as report:
            if isinstance(source, BoardFile):
                return await import_board(ledger, repair, source, options.board or source.board.board, report)
            if source is not None:
                return await import_openings(ledger, repair, source, options.board, report)
    return None


@asynccontextmanager
async def _rooms(config: Config) -> AsyncIterator[tuple[Imports, Repair]]:
    async with open_stores(config, sets_up=True) as (database_url, redis_url):
        await migrate(database_url, auto=config.auto_migrate, writes=True)
        await check_redis(redis_url, needed=True)
        ledger = await Imports.open(database_url, statement_timeout_s=STATEMENT_TIMEOUT_S)
        ranks = Ranks.open(redis_url)
        try:
            await ledger.agree_on_digest_key(configured_digest_key(config))
            yield ledger, Repair(ledger, ranks, Metrics(), on_healed=lambda board: None)
        finally:
            await ranks.close()
            await ledger.close()


def _tell(imported: Imported) -> None:
    if imported.resumed_at:
        _say(f"Went on after {imported.resumed_at} events that an earlier start had brought in")
    if imported.told:
        _say(f"Users are hidden or named here otherwise than there: events for them on {', '.join(imported.told)}")
    _say(f"Imported {imported.events} events into board {imported.board}")


def _say(line: str) -> None:
    print(line, file=sys.stderr)
