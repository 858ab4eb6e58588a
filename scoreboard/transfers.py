"""The commands ``export`` and ``import``. What they say goes to standard error: standard output may be the file."""

import argparse
import io
import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

from scoreboard.config import Config
from scoreboard.connecting import check_redis
from scoreboard.database import BatchRefused
from scoreboard.endings import Ended, interruptible, run, tell
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
from scoreboard.serve import configured_digest_key, open_stores, source_of_digest_key
from scoreboard.transfer import BoardFile, Lines, check_end

STATEMENT_TIMEOUT_S = 3_600.0
"""The totals of a board of many millions of events are made in one statement a window."""
STANDARD = "-"
STANDARD_INPUT, STANDARD_OUTPUT = "standard input", "standard output"
NEW_FILE_MODE = 0o666
"""Less the umask."""
OWN_FILE_MODE = 0o600
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
    """Write a board to a file, which is there only when it is whole, or straight into a pipe or device."""

    async def work(file: BinaryIO) -> int:
        async with open_stores(config) as (database_url, _):
            await migrate(database_url, auto=config.auto_migrate, purpose="reading")
            ledger = await Exports.open(database_url, statement_timeout_s=STATEMENT_TIMEOUT_S)
            try:
                with progress_bar("Exporting", " events") as report:
                    return await ledger.export_board(options.board, file, report)
            finally:
                await ledger.close()

    with _output(options.output) as file:
        events = run(work(file))
    tell(f"Exported {events} events of board {options.board}")
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
    """Where an export goes: straight into what is no regular file, else to a file that is replaced when all went well.

    Links are followed: what they point to is written or replaced, and they stay.
    """
    shown = STANDARD_OUTPUT if name == STANDARD else name
    try:
        found = os.fstat(1) if name == STANDARD else _look(name)
        if found is None or (stat.S_ISREG(found.st_mode) and not os.path.samestat(found, os.fstat(1))):
            written = _replacing(name, found)
        elif os.path.samestat(found, os.fstat(1)):
            written = _writing(1, STANDARD_OUTPUT)  # also as /dev/stdout
        else:
            # Without O_CREAT: what was found is written, and nothing put in the place of what went away meanwhile.
            written = _writing(os.open(name, os.O_WRONLY | os.O_NOCTTY | os.O_CLOEXEC), name)
        with written as file:
            yield file
    except OSError as exc:
        raise StartupError(f"{shown} can't be written: {exc.strerror}") from exc


def _look(name: str) -> os.stat_result | None:
    """What there is of that name, behind links; None for nothing."""
    if not name:
        raise StartupError("--output is empty: name a file, or - for standard output")
    try:
        return os.stat(name)
    except FileNotFoundError:
        return None


@contextmanager
def _writing(number: int, name: str) -> Iterator[BinaryIO]:
    """What a descriptor is open for."""
    with io.BufferedWriter(_named(number, name), PIPE_BYTES) as file:
        yield cast(BinaryIO, file)


def _named(number: int, name: str) -> _Pipe:
    """:param name: by which messages call it."""
    pipe = _Pipe(number, "wb", closefd=number != 1)
    pipe.name = name
    return pipe


@contextmanager
def _replacing(name: str, found: os.stat_result | None) -> Iterator[BinaryIO]:
    """A new file beside the one of that name, put in its place at the end, when nothing went wrong. It takes over the
    mode of the one that it replaces, and the owner where that is allowed."""
    target = Path(os.path.realpath(name))
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.unfinished")
    mode = NEW_FILE_MODE if found is None else OWN_FILE_MODE
    number = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with io.BufferedWriter(_named(number, name), PIPE_BYTES) as file:
            if found is not None:
                for owner in (-1, found.st_uid):  # the group alone is what more users may give
                    with suppress(PermissionError):
                        os.fchown(number, owner, found.st_gid)
                os.fchmod(number, stat.S_IMODE(found.st_mode))
            yield cast(BinaryIO, file)
            file.flush()
            os.fsync(number)
        unfinished.replace(target)
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
    name = STANDARD_INPUT if options.file == STANDARD else options.file
    with _input(options.file) as file:
        try:
            imported = run(_import(config, options, file, name))
        except BatchRefused as exc:
            raise StartupError(f"PostgreSQL refuses {name}: {exc}") from exc
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


async def _import(config: Config, options: argparse.Namespace, file: BinaryIO | None, name: str) -> Imported | None:
    """Import what was read of, after looking whether it is whole, as far as that can be seen before any store is.

    :param name: what messages call the file.
    """
    source: BoardFile | Lines | None = None
    if file is not None:
        if not options.csv:
            check_end(file, name)
        lines = Lines(file, name, ends_open=options.csv)
        source = lines if options.csv else BoardFile(lines)
    async with _rooms(config) as (ledger, repair):
        if options.discard:
            async with ledger.hold(options.board) as connection:
                was_there = await ledger.discard(connection, options.board)
            tell(f"{'Discarded an' if was_there else 'There is no'} unfinished import into board {options.board}")
        with progress_bar("Importing", " events") as report:
            if isinstance(source, BoardFile):
                return await import_board(ledger, repair, source, options.board or source.board.board, report)
            if source is not None:
                return await import_openings(ledger, repair, source, options.board, report)
    return None


@asynccontextmanager
async def _rooms(config: Config) -> AsyncIterator[tuple[Imports, Repair]]:
    async with open_stores(config, sets_up=True) as (database_url, redis_url):
        await migrate(database_url, auto=config.auto_migrate, purpose="rows", warns=False)  # it is told at the end
        await check_redis(redis_url, needed=True)
        ledger = await Imports.open(database_url, statement_timeout_s=STATEMENT_TIMEOUT_S)
        ranks = Ranks.open(redis_url)
        try:
            await ledger.agree_on_digest_key(configured_digest_key(config), source_of_digest_key(config))
            yield ledger, Repair(ledger, ranks, Metrics(), on_healed=lambda board: None)
        finally:
            await ranks.close()
            await ledger.close()


def _tell(imported: Imported) -> None:
    if imported.resumed_at:
        tell(f"Went on after {imported.resumed_at} events that an earlier start had brought in")
    if imported.told:
        tell(f"Users are hidden or named here otherwise than there: events for them on {', '.join(imported.told)}")
    tell(f"Imported {imported.events} events into board {imported.board}")
