"""Loads the file of a board into an empty one, and goes on after an interruption where it was.

Events go into the ledger by COPY in portions, each committed together with how many lines are in and their SHA-256.
Whoever starts again with the same file reads over these lines, and the sum tells that they are the same. Nothing of a
board is shown before all of it is in: its seq stays 0 and it takes no events (see migration 0009). One transaction
makes totals, periods and players from the ledger, holds events against each other, and opens the board. Then its
ranking is built, and other boards are told of its users; an interruption there, too, is made good by starting again.

What can't be imported is thrown away again before the error is told, and the board is what it was. Only a store that
went away leaves what is in, as a killed process does. With it stays the board's refusal of submissions.

What this database knows of users stands: a file tells of those it does not know. Where somebody is hidden here and was
not there, or the other way round, the board gets the event for it, as it would have.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from time import monotonic
from typing import Any, Literal

import asyncpg
import msgspec

from scoreboard.database import ACQUIRE_TIMEOUT_S, BatchRefused, known_errors
from scoreboard.errors import StartupError
from scoreboard.ledger import Ledger, board_of
from scoreboard.model import ALL, Board
from scoreboard.repair import Repair
from scoreboard.statistics import TABLES, renew_statistics
from scoreboard.tasks import read_ahead
from scoreboard.timezones import check_timezone
from scoreboard.transfer import (
    LEDGER_COLUMNS,
    USER_COLUMNS,
    BoardFile,
    EventLine,
    Lines,
    UserLine,
    ledger_record,
)

PORTION_LINES = 20_000
"""Lines of a transaction: some 0.2 s of work that an interruption may cost, and 20 MB of memory."""
DISCARD_EVENTS = 50_000
"""Events deleted in a transaction."""
TOLD_USERS = 50
"""Users of whom other boards are told in a transaction, which keeps submissions to these waiting."""
RECALLED_USERS = 5_000
"""Users of whom it is looked up at once whether they are remembered as hidden: some 10 ms of digests."""
TAKE_WAIT_S = 10.0
"""How long another import into the board, which may have been killed just now, is given to end."""
POLL_S = 0.1
WORK_MEMORY_MB = 64
"""What PostgreSQL may take for a sort or a sum while it makes totals; beyond it goes on on disk."""
Report = Callable[[int, int], None]
Rows = list[tuple[object, ...]]


# No statistics are there of what has just come in, and the planner takes a board for a handful of rows.
_LOOK_UP = f"""
SET LOCAL enable_seqscan = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off;
SET LOCAL work_mem = '{WORK_MEMORY_MB}MB'
"""


class Imported(msgspec.Struct, frozen=True):
    """What an import did: events of the file, those that an earlier start had brought in, boards told of users."""

    board: str
    events: int
    resumed_at: int
    told: tuple[str, ...]


class Progress(msgspec.Struct, frozen=True):
    """Where an import stands: lines and events that are in, and the SHA-256 of these lines."""

    is_new: bool
    stage: Literal["loading", "ranking", "discarding"]
    lines: int
    events: int
    digest: str


class Portion(msgspec.Struct, frozen=True):
    """Lines of a file as rows of their tables, and where the file is after them."""

    first_line: int
    users: Rows
    events: Rows
    lines: int
    seq: int
    digest: str


class Imports(Ledger):
    """A ledger that boards are imported into."""

    @asynccontextmanager
    async def hold(self, board: str) -> AsyncIterator[Any]:
        """A connection that alone may import into a board.

        :raises StartupError: if another one does.
        :raises Unavailable: if PostgreSQL goes away.
        """
        async with known_errors(), self._repairs.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
            deadline = monotonic() + TAKE_WAIT_S
            while not (await self._run(connection, "take_import", board))[0]["is_taken"]:
                if monotonic() > deadline:
                    raise StartupError(f"another process is importing into board {board!r}")
                await asyncio.sleep(POLL_S)
            try:
                yield connection
            finally:
                if not connection.is_closed():
                    await self._run(connection, "release_import", board)

    async def begin(self, connection: Any, board: str) -> Progress:
        """Close an empty board for an import, or find where an unfinished one is; made complete, if it was being
        discarded.

        :raises StartupError: if the board has events.
        """
        async with connection.transaction():
            (row,) = await self._run(connection, "begin_import", board)
            if row["outcome"] == "has_events":
                raise StartupError(
                    f"board {board!r} has {row['events']} events: only an empty one can be imported into"
                )
        if row["stage"] == "discarding":
            await self.discard(connection, board)
            return await self.begin(connection, board)
        return Progress(row["outcome"] == "begun", row["stage"], row["lines"], row["events"], row["digest"])

    async def load(self, connection: Any, board: str, file: BoardFile, report: Report) -> None:
        """Bring in what is left of a file.

        :raises StartupError: if a line of it is not as it should be.
        """
        async with read_ahead(read_portions(file, board)) as portions:
            async for portion in portions:
                first = portion.first_line
                async with connection.transaction():
                    await copy_lines(connection, file.lines, first, "import_users", USER_COLUMNS, portion.users)
                    first += len(portion.users)
                    await copy_lines(connection, file.lines, first, "ledger", LEDGER_COLUMNS, portion.events)
                    await self._run(connection, "note_import", board, portion.lines, portion.seq, portion.digest)
                report(portion.seq, file.board.events)

    async def note(self, connection: Any, board: str, lines: Lines, events: int) -> None:
        """Note how much of a file is in."""
        await self._run(connection, "note_import", board, lines.taken, events, lines.digest)

    async def open_board(self, connection: Any, file: BoardFile, wanted: Board) -> bool:
        """Make the totals of a board whose events are all in, and open it; whether it got events of its users.

        :raises StartupError: if events of the file contradict each other.
        """
        async with connection.transaction():
            try:
                await self.count(connection, wanted)
            except asyncpg.CheckViolationError as exc:
                raise StartupError(f"{file.lines.name}: a total is out of bounds: {exc.detail}") from exc
            misfit = await self._one(connection, "find_misfit", wanted.board_id)
            if misfit is not None:
                line = file.lines.taken - 1 - wanted.seq + misfit["seq"]  # the events are the last lines but the end
                raise file.lines.refuse(misfit["reason"], line)
            for action in file.actions:
                limits = action.cooldown_seconds, action.daily_cap, action.enabled, action.points_min, action.points_max
                await self._run(connection, "put_action", wanted.board_id, action.action_id, action.points, *limits)
            return await self.finish(connection, wanted, wanted.seq)

    async def count(self, connection: Any, board: Board) -> None:
        """Make the totals and periods of a board from its ledger."""
        await connection.execute(_LOOK_UP)
        await self._run(connection, "sum_totals", board.board_id)
        for window in board.windows:
            if window == ALL:
                continue
            if board.operator == "sum":
                await self._run(connection, "sum_periods", board.board_id, window, board.timezone)
            else:
                await self._run(connection, "fold_periods", board.board_id, window, board.timezone, board.operator)
        await self._run(connection, "count_periods", board.board_id)

    async def finish(self, connection: Any, board: Board, seq: int) -> bool:
        """Open a board whose totals are there, and make its users known; whether it got events for that.

        :param seq: of its last event.
        """
        settings = (board.title, list(board.windows), board.ties, board.timezone, board.operator, board.floor)
        await self._run(connection, "open_board", board.board_id, board.epoch, seq, *settings, board.created_at)
        (known,) = await self._run(connection, "know_users", board.board_id)
        events = known["events"]
        while await self._recall(connection, board.board_id):  # looked at last: one may be erased meanwhile
            (known,) = await self._run(connection, "know_users", board.board_id)
            events += known["events"]
        await self._run(connection, "stage_import", board.board_id, "ranking")
        return bool(events)

    async def _recall(self, connection: Any, board: str) -> bool:
        """Know users of a board again who were hidden when they were erased here; whether there were any."""
        if not (await self._run(connection, "has_digests"))[0]["has_digests"]:
            return False
        recalled = 0
        cursor = await connection.cursor(self._queries["stream_ids"].text, board)
        while rows := await cursor.fetch(RECALLED_USERS):
            users = [row["user_id"] for row in rows]
            (row,) = await self._run(connection, "recall_users", users, await self.digests(users))
            recalled += row["recalled"]
        return recalled > 0

    async def tell_boards(self, board: str) -> set[str]:
        """Tell other boards of users who became known by an import; those that got events for that."""
        told: set[str] = set()
        while (row := await self._fetch_one(self._repairs, "tell_users", board, TOLD_USERS))["users"]:
            told.update(row["boards"])
        return told

    async def find_board(self, connection: Any, board: str) -> Board | None:
        """A board as the transaction sees it."""
        row = await self._one(connection, "read_board", board)
        return board_of(row) if row is not None else None

    async def find_twice(self, connection: Any, board: str) -> tuple[str, int, int] | None:
        """A user with more than one event, and the first and last of them."""
        row = await self._one(connection, "find_twice", board)
        return (row["user_id"], row["first_seq"], row["last_seq"]) if row is not None else None

    async def read_clock(self, connection: Any) -> datetime:
        """The database's time."""
        (row,) = await self._run(connection, "read_clock")
        now: datetime = row["now"]
        return now

    async def renew_statistics(self) -> None:
        """Have the planner know of what has come in."""
        async with known_errors(), self._repairs.acquire(timeout=ACQUIRE_TIMEOUT_S) as connection:
            await renew_statistics(connection, list(TABLES))

    async def end(self, board: str) -> None:
        """Forget an import whose board is ranked."""
        await self._fetch(self._repairs, "end_import", board)

    async def discard(self, connection: Any, board: str) -> bool:
        """Throw away what an unfinished import left in a board, if there is one; whether there was."""
        unfinished = await self._one(connection, "read_import", board)
        if unfinished is None or unfinished["stage"] == "ranking":
            return False
        await self._run(connection, "stage_import", board, "discarding")
        for through in range(0, unfinished["events"] + DISCARD_EVENTS, DISCARD_EVENTS):
            await self._run(connection, "delete_import_events", board, through)
        async with connection.transaction():
            await self._run(connection, "end_discard", board)
        return True


async def import_board(
    ledger: Imports, repair: Repair, file: BoardFile, board: str, report: Report = lambda done, total: None
) -> Imported:
    """Load a file into an empty board, or go on with it, and have the board ranked.

    :param report: called after each portion with the events that are in and their total.
    :raises StartupError: if the board has events, or another import, or the file is not as it should be.
    :raises Unavailable, RanksUnavailable: if a store went away; start again with the same file.
    """
    header = file.board
    wanted = Board(
        board, header.epoch, header.events, 0, header.title, tuple(header.windows), header.ties, header.timezone,
        header.created_at, header.operator, header.floor,
    )  # fmt: skip
    wrong = await check_timezone(ledger, wanted.timezone)
    if wrong:
        raise StartupError(f"{file.lines.name}: timezone: {wrong}")
    is_told = False
    async with ledger.hold(board) as connection:
        progress = await ledger.begin(connection, board)
        if progress.lines:
            file.skip(progress.lines, progress.digest)
        report(progress.events, header.events)
        if progress.stage != "ranking":
            try:
                async with known_errors():
                    await ledger.load(connection, board, file, report)
                    is_told = await ledger.open_board(connection, file, wanted)
            except (StartupError, BatchRefused):
                await ledger.discard(connection, board)
                raise
        told = await rank(ledger, repair, board, is_told=is_told)
    return Imported(board, header.events, progress.events, told)


async def copy_lines(
    connection: Any, lines: Lines, first: int, table: str, columns: Sequence[str], records: Rows
) -> None:
    """Bring rows that were lines of a file, from a first one on, into a table.

    :raises StartupError: if PostgreSQL refuses one of them.
    """
    try:
        await connection.copy_records_to_table(table, records=records, columns=columns)
    except (asyncpg.IntegrityConstraintViolationError, asyncpg.DataError) as exc:
        place = re.search(r"line (\d+)", getattr(exc, "context", None) or "")
        row = dict(zip(columns, records[int(place[1]) - 1], strict=True)) if place else {}
        what = f"{exc}: {exc.detail or 'no detail'}"
        if exc.constraint_name == "ledger_idempotency":
            what = f"key {row.get('idempotency_key')!r} of user {row.get('user_id')!r} was used in this database before"
        elif exc.constraint_name == "ledger_revoked":
            what = f"the event {row.get('revokes')} is revoked twice"
        raise lines.refuse(what, first + int(place[1]) - 1 if place else first) from exc


async def rank(ledger: Imports, repair: Repair, board: str, *, is_told: bool) -> tuple[str, ...]:
    """Have the planner know of an imported board, build its ranking, tell others of its users and bring these up.

    :param is_told: whether the board itself got events of its users.
    :returns: all boards that got any.
    """
    await ledger.renew_statistics()
    await repair.rebuild(board)
    others = sorted(await ledger.tell_boards(board))
    for each in (board, *others):
        await repair.heal(each)
    await ledger.end(board)
    return (board, *others) if is_told else tuple(others)


async def read_portions(file: BoardFile, board: str) -> AsyncIterator[Portion]:
    """What is left of a file, in portions of PORTION_LINES."""
    while not file.is_at_end:
        first_line = file.lines.taken + 1
        users, events = _read_rows(file, board)
        yield Portion(first_line, users, events, file.lines.taken, file.events, file.lines.digest)


def _read_rows(file: BoardFile, board: str) -> tuple[Rows, Rows]:
    users: Rows = []
    events: Rows = []
    while len(users) + len(events) < PORTION_LINES:
        line = file.read()
        if isinstance(line, EventLine):
            events.append(ledger_record(board, line))
        elif isinstance(line, UserLine):
            users.append((board, line.user_id, line.name, line.hidden, line.hidden_here))
        elif line is None:
            break
    return users, events
