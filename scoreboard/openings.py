"""Loads a CSV of users and scores into an empty board: totals from elsewhere, with which the board opens.

Each line becomes an event of kind ``opening``, in the order of the file and of one time. It counts in window ``all``
only, since nobody knows when the points were made. Everything is one transaction: a line that is wrong leaves nothing
behind, and so does an interruption.
"""

import csv
import re
from datetime import datetime
from typing import Any

from scoreboard.errors import StartupError
from scoreboard.imports import PORTION_LINES, Imported, Imports, Report, Rows, copy_lines, rank
from scoreboard.model import ID_CHARS_MAX, SCORE_MAX, Board, validate_user_id
from scoreboard.names import nfc
from scoreboard.repair import Repair
from scoreboard.shown import show
from scoreboard.transfer import Lines

ACTION = "opening"
"""What a history names as the action."""
HEADER = ["userid", "score"]
COLUMNS = ("board_id", "seq", "kind", "user_id", "action_id", "points", "score_after", "at")
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_INTEGER = re.compile(r"-?[0-9]{1,20}")


async def import_openings(
    ledger: Imports, repair: Repair, lines: Lines, board: str, report: Report = lambda done, total: None
) -> Imported:
    """Load a CSV into an empty board and have it ranked.

    :param report: called after each portion with the lines that are in, and 0 for their unknown total.
    :raises StartupError: if the board has events or an unfinished import, or a line is not as it should be.
    :raises Unavailable, RanksUnavailable: if a store went away; start again with the same file.
    """
    is_told = False
    async with ledger.hold(board) as connection:
        async with connection.transaction():
            before = await ledger.find_board(connection, board)
            progress = await ledger.begin(connection, board)
            if progress.is_new:
                settings = before or await ledger.find_board(connection, board)
                assert settings is not None  # it was made just now
                events = await _load(ledger, connection, lines, settings, report)
                is_told = await ledger.finish(connection, settings, events)
                await ledger.note(connection, board, lines, events)
            else:
                events = progress.events
                _check_same(lines, progress.digest, is_ranked_only=progress.stage == "ranking")
        told = await rank(ledger, repair, board, is_told=is_told)
    return Imported(board, events, 0, told)


def _check_same(lines: Lines, digest: str, *, is_ranked_only: bool) -> None:
    while lines.take():
        pass
    if not is_ranked_only or lines.digest != digest:
        raise StartupError(
            "an import of another file into this board is unfinished. Go on with that file, or throw away what is in "
            "with --discard"
        )


async def _load(ledger: Imports, connection: Any, lines: Lines, board: Board, report: Report) -> int:
    """Bring all lines into the ledger, and make the totals; the number of events."""
    at = await ledger.read_clock(connection)
    is_headed = is_header(lines.next)
    if is_headed:
        lines.take()
    events = 0
    while lines.next:
        first_line = lines.taken + 1
        records = _read_portion(lines, board, events, at)
        await copy_lines(connection, lines, first_line, "ledger", COLUMNS, records)
        events += len(records)
        report(events, 0)
    twice = await ledger.find_twice(connection, board.board_id)
    if twice is not None:
        user, first, last = twice
        first, last = first + is_headed, last + is_headed
        raise lines.refuse(f"userId {user!r} is in line {first} already", last)
    await ledger.count(connection, board)
    return events


def _read_portion(lines: Lines, board: Board, seq: int, at: datetime) -> Rows:
    records: Rows = []
    while lines.next and len(records) < PORTION_LINES:
        seq += 1
        user, score = parse_line(lines, lines.take(), board.floor)
        records.append((board.board_id, seq, "opening", user, ACTION, score, score, at))
    return records


def is_header(raw: bytes) -> bool:
    """Whether a line names the columns."""
    names = raw.removeprefix(BYTE_ORDER_MARK).decode(errors="replace").strip().lower()
    return [name.strip(' "') for name in names.split(",")] == HEADER


def parse_line(lines: Lines, raw: bytes, floor: int | None) -> tuple[str, int]:
    """The user and the score of the line that was taken last.

    :raises StartupError: if it has something else.
    """
    try:
        (fields,) = csv.reader([raw.removeprefix(BYTE_ORDER_MARK).decode()], strict=True)
    except (csv.Error, UnicodeDecodeError, ValueError) as exc:
        raise lines.refuse(f"is no line of CSV in UTF-8 ({exc})", text=raw) from exc
    if len(fields) != len(HEADER):
        raise lines.refuse(f"has {len(fields)} fields instead of two, userId,score", text=raw)
    user, score = nfc(fields[0], ID_CHARS_MAX), fields[1]
    wrong = validate_user_id(user)
    if wrong:
        raise lines.refuse(f"userId {wrong}", text=raw)
    if not _INTEGER.fullmatch(score):
        raise lines.refuse(f"score {show(score)} is not an integer", text=raw)
    if abs(int(score)) > SCORE_MAX:
        raise lines.refuse(f"score {score} is beyond +-{SCORE_MAX}", text=raw)
    if floor is not None and int(score) < floor:
        raise lines.refuse(f"score {score} is below {floor}, the floor of the board", text=raw)
    return user, int(score)
