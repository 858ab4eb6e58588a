"""Writes a board to a file: everything of one moment, however much is submitted meanwhile.

All is read in one snapshot through cursors, so memory holds a slice, and a slow reader of a pipe holds up nobody but
the vacuum of PostgreSQL. Windows that are being filled count as there: whoever imports the board makes all of them.
"""

import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any, BinaryIO

from scoreboard.errors import NotFound, StartupError
from scoreboard.ledger import Ledger
from scoreboard.model import ACTIONS_PER_BOARD_MAX, WINDOWS
from scoreboard.transfer import FORMAT, ActionLine, BoardLine, EndLine, UserLine, encode_line, event_line

SLICE_ROWS = 5_000
"""Rows that are read and written at once."""
_WAIT_FOR_READERS = "SET LOCAL idle_in_transaction_session_timeout = 0"


class Exports(Ledger):
    """A ledger that boards are exported from."""

    async def export_board(
        self, board: str, file: BinaryIO, report: Callable[[int, int], None] = lambda done, total: None
    ) -> int:
        """Write a board's lines to a file; the number of its events.

        :param report: called after each slice with the events written and their total.
        :raises NotFound: if there is no such board.
        :raises StartupError: if the file can't be written.
        """
        digest = hashlib.sha256()
        async with self._snapshot(self._repairs) as connection:
            await connection.execute(_WAIT_FOR_READERS)
            header = await self._read_board(connection, board)
            done = 0
            async for count, slice_ in self._read_slices(connection, board, header):
                _write(file, slice_)
                digest.update(slice_)
                done += count
                report(done, header.events)
        _write(file, encode_line(EndLine(header.events, digest.hexdigest())))
        return done

    async def _read_board(self, connection: Any, board: str) -> BoardLine:
        row = await self._one(connection, "read_board", board)
        if row is None:
            raise NotFound(f"there is no board {board!r}")
        unfinished = await self._one(connection, "read_import", board)
        if unfinished is not None and unfinished["stage"] != "ranking":
            raise StartupError(f"an import into board {board!r} is unfinished: there is nothing to export yet")
        windows = {*row["windows"], *row["filling"]}
        return BoardLine(
            format=FORMAT,
            board=board,
            epoch=row["epoch"],
            events=row["seq"],
            title=row["title"],
            windows=[window for window in WINDOWS if window in windows],  # type: ignore[misc]  # they are those four
            ties=row["ties"],
            timezone=row["timezone"],
            operator=row["operator"],
            floor=row["floor"],
            created_at=row["created_at"],
        )

    async def _read_slices(self, connection: Any, board: str, header: BoardLine) -> AsyncIterator[tuple[int, bytes]]:
        """Everything but the end, in the order of the lines: how many events each slice has, and its lines."""
        yield 0, encode_line(header)
        actions = await self._run(connection, "list_actions", board, ACTIONS_PER_BOARD_MAX)
        yield 0, b"".join(encode_line(ActionLine(**row)) for row in actions)
        cursor = await connection.cursor(self._queries["stream_known_users"].text, board)
        while rows := await cursor.fetch(SLICE_ROWS):
            yield 0, b"".join(encode_line(UserLine(*row)) for row in rows)
        cursor = await connection.cursor(self._queries["stream_events"].text, board)
        while rows := await cursor.fetch(SLICE_ROWS):
            yield len(rows), b"".join(encode_line(event_line(row)) for row in rows)


def _write(file: BinaryIO, data: bytes) -> None:
    try:
        file.write(data)
    except OSError as exc:
        raise StartupError(f"{getattr(file, 'name', 'the file')} can't be written: {exc.strerror}") from exc
