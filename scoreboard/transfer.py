"""The file of an exported board: a JSON object a line, written and read without holding more than a portion of it.

The first line is the board with its settings, then come its actions, the users of whom more is known than scores, the
events in the order of seq, and the end with their number and the SHA-256 of all bytes before it, so that a file that
was cut off or changed is noticed. Fields that have their usual value are left out. The same state of a board always
gives the same bytes.

An event has everything that the ledger has of it. Totals, periods and ranks are not in the file: they follow from it.
"""

import hashlib
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from sys import intern
from typing import Annotated, Any, BinaryIO, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from scoreboard import timezones
from scoreboard.errors import StartupError
from scoreboard.model import (
    ALL,
    COOLDOWN_MAX_S,
    DAILY_CAP_MAX,
    ID_CHARS_MAX,
    IDEMPOTENCY_KEY_CHARS_MAX,
    NAME_CHARS_MAX,
    SCORE_MAX,
    TITLE_CHARS_MAX,
    WINDOWS,
    Kind,
    Operator,
    Points,
    Ties,
    validate_display_name,
    validate_key,
    validate_name,
    validate_title,
    validate_user_id,
)
from scoreboard.names import nfc
from scoreboard.shown import SHOWN_CHARS_MAX, printable, show_name

FORMAT = 1
END_OF_TIME = datetime(9999, 12, 31, tzinfo=UTC)
"""The time of a board that is closed for an import."""
LINE_BYTES_MAX = 65_536
"""No line that an export writes is half as long."""

Seq = Annotated[int, Meta(ge=1, le=SCORE_MAX)]
Time = Annotated[datetime, Meta(tz=True)]


class _Line(Struct, frozen=True, tag_field="line", rename="camel", omit_defaults=True, forbid_unknown_fields=True):
    """What all kinds of lines have in common."""


class BoardLine(_Line, frozen=True, tag="board", kw_only=True):
    """The first line. ``events`` is the number of those that follow."""

    format: int
    board: str
    epoch: Annotated[str, Meta(pattern="^[a-z0-9]{4,32}$")]
    events: Annotated[int, Meta(ge=0, le=SCORE_MAX)]
    title: Annotated[str, Meta(max_length=TITLE_CHARS_MAX)]
    windows: list[Literal["all", "day", "week", "month"]]
    ties: Ties
    timezone: str
    operator: Operator
    floor: Points | None = None
    created_at: Time


class ActionLine(_Line, frozen=True, tag="action"):
    """An action of the board: fixed points, or none and the bounds of what may be submitted."""

    action_id: str
    points: Points | None = None
    points_min: Points | None = None
    points_max: Points | None = None
    cooldown_seconds: Annotated[int, Meta(ge=0, le=COOLDOWN_MAX_S)] = 0
    daily_cap: Annotated[int, Meta(ge=1, le=DAILY_CAP_MAX)] | None = None
    enabled: bool = True


class UserLine(_Line, frozen=True, tag="user"):
    """What is known, beyond scores, of a user who has a score on the board. ``hiddenHere``: on this board alone."""

    user_id: str
    name: str | None = None
    hidden: bool = False
    hidden_here: bool = False


class EventLine(_Line, frozen=True, tag="event"):
    """An event of the ledger, with the names of its columns."""

    seq: Seq
    at: Time
    kind: Kind = "score"
    user_id: str | None = None
    action_id: str | None = None
    points: Points = 0
    value: Points | None = None
    score_after: Points = 0
    day_after: Points | None = None
    week_after: Points | None = None
    month_after: Points | None = None
    key: Annotated[str, Meta(min_length=1, max_length=IDEMPOTENCY_KEY_CHARS_MAX)] | None = None
    counted_at: Time | None = None
    revokes: Seq | None = None
    hidden: bool = False
    detail: Raw | UnsetType = UNSET


class EndLine(_Line, frozen=True, tag="end"):
    """The last line: how many events there were, and the SHA-256 of all bytes before it."""

    events: int
    sha256: str


class _Header(Struct):
    format: int | None = None


class _Kind(Struct):
    line: str = ""


AnyLine = BoardLine | ActionLine | UserLine | EventLine | EndLine
ORDER = (BoardLine, ActionLine, UserLine, EventLine, EndLine)
"""Kinds of lines, as they follow each other."""
LEDGER_COLUMNS = (
    "board_id",
    "seq",
    "kind",
    "user_id",
    "action_id",
    "points",
    "value",
    "score_after",
    "day_after",
    "week_after",
    "month_after",
    "idempotency_key",
    "at",
    "counted_at",
    "revokes",
    "hidden",
    "detail",
)
USER_COLUMNS = ("board_id", "user_id", "display_name", "hidden", "hidden_here")

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(AnyLine)
_is_name = cache(lambda value: validate_name(value) is None)  # a board has few actions, a ledger names them often


def encode_line(line: AnyLine) -> bytes:
    """A line as it is in a file, with its end."""
    return _ENCODER.encode(line) + b"\n"


def event_line(row: Mapping[str, Any]) -> EventLine:
    """The line of a row of the ledger."""
    kind: Any = intern(row["kind"])  # the usual value is left out where it is the very same object
    return EventLine(
        row["seq"],
        row["at"],
        kind,
        row["user_id"],
        row["action_id"],
        row["points"],
        row["value"],
        row["score_after"],
        row["day_after"],
        row["week_after"],
        row["month_after"],
        row["idempotency_key"],
        row["counted_at"],
        row["revokes"],
        row["hidden"],
        UNSET if row["detail"] is None else Raw(row["detail"].encode()),
    )


def ledger_record(board: str, line: EventLine) -> tuple[object, ...]:
    """The values of LEDGER_COLUMNS of an event."""
    detail = None if line.detail is UNSET else bytes(line.detail).decode()
    return (
        board,
        line.seq,
        line.kind,
        line.user_id,
        line.action_id,
        line.points,
        line.value,
        line.score_after,
        line.day_after,
        line.week_after,
        line.month_after,
        line.key,
        line.at,
        line.counted_at,
        line.revokes,
        line.hidden,
        detail,
    )


class Lines:
    """The lines of a file or pipe, numbered from 1, and hashed as they are taken."""

    def __init__(self, file: BinaryIO, name: str, *, ends_open: bool = False) -> None:
        """:param ends_open: whether the last line may do without an end."""
        self._file = file
        self._ends_open = ends_open
        self._hash = hashlib.sha256()
        self._last = b""  # not hashed yet: the end of a file tells the digest of what is before it
        self.name = name
        self.taken = 0
        self.bytes_taken = 0
        self.next = self._read()

    def _read(self) -> bytes:
        try:
            return self._file.readline(LINE_BYTES_MAX + 1)
        except OSError as exc:
            raise StartupError(f"{self.name} can't be read: {exc.strerror}") from exc

    def take(self) -> bytes:
        """The next line with its end; empty when there is none.

        :raises StartupError: if it has no end: it is too long, or the file was cut off.
        """
        line = self.next
        if len(line) > LINE_BYTES_MAX:
            raise self.refuse(f"has more than {LINE_BYTES_MAX} bytes", self.taken + 1, line)
        if line and not line.endswith(b"\n") and not self._ends_open:
            raise self.refuse("the file is cut off in it", self.taken + 1, line)
        if line:
            self.taken += 1
            self.bytes_taken += len(line)
            self._hash.update(self._last)
            self._last = line
            self.next = self._read()
        return line

    @property
    def digest(self) -> str:
        """The SHA-256 of all lines taken, in hexadecimal."""
        self._hash.update(self._last)
        self._last = b""
        return self._hash.hexdigest()

    @property
    def digest_before(self) -> str:
        """That of all lines before the last one taken."""
        return self._hash.hexdigest()

    def refuse(self, what: str, number: int | None = None, text: bytes = b"") -> StartupError:
        """An error that names the line: the last one taken, if no other, with its text."""
        shown = f": {_show_line(text)}" if text else ""
        return StartupError(f"{self.name}, line {self.taken if number is None else number}: {printable(what)}{shown}")


class BoardFile:
    """Reads the file of a board line by line, and holds each line against those before it."""

    def __init__(self, lines: Lines) -> None:
        """:raises StartupError: if it does not begin as the file of a board in this format."""
        self.lines = lines
        self._stage = 0
        self.events = 0
        """Those read or skipped."""
        self._at = datetime.min.replace(tzinfo=UTC)
        self.is_at_end = False
        """Whether the end was read: everything before it is as it was written."""
        self.board = self._read_board()
        self.actions = self._read_actions()

    def _read_board(self) -> BoardLine:
        raw = self.lines.take()
        if not raw:
            raise StartupError(f"{self.lines.name} is empty")
        try:
            found = msgspec.json.decode(raw, type=_Header).format
        except msgspec.DecodeError as exc:
            raise self.lines.refuse("is not the first line of an exported board", text=raw) from exc
        if found is None:
            raise self.lines.refuse("is not the first line of an exported board: it has no format", text=raw)
        if found != FORMAT:
            raise self.lines.refuse(f"format is {found}, and this version reads {FORMAT}", text=raw)
        line = self._parse(raw)
        if not isinstance(line, BoardLine):
            raise self.lines.refuse("is not the line of a board", text=raw)
        wrong = _wrong_in_board(line)
        if wrong:
            raise self.lines.refuse(wrong, text=raw)
        return line

    def _read_actions(self) -> list[ActionLine]:
        actions: list[ActionLine] = []
        while _is_action(self.lines.next):
            line = self.read()
            assert isinstance(line, ActionLine)
            actions.append(line)
        return actions

    def _parse(self, raw: bytes) -> AnyLine:
        try:
            line: AnyLine = _DECODER.decode(raw)
            return line
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise self.lines.refuse(str(exc), text=raw) from exc

    def skip(self, number: int, digest: str) -> None:
        """Pass over the first lines, which are in already.

        :raises StartupError: if they are others.
        """
        raw = b""
        while self.lines.taken < number and self.lines.next:
            raw = self.lines.take()
        if self.lines.taken != number or self.lines.digest != digest:
            raise StartupError(
                f"an import of another file into this board is unfinished: its first {number} lines are not those of "
                f"{self.lines.name}. Go on with that file, or throw away what is in with --discard"
            )
        if raw:
            line = self._parse(raw)
            self._stage = ORDER.index(type(line))
            self.is_at_end = isinstance(line, EndLine)
            if isinstance(line, EventLine):
                self.events, self._at = line.seq, line.at

    def read(self) -> ActionLine | UserLine | EventLine | None:
        """The next line; None at the end, when it was found to be the end of all that was written.

        :raises StartupError: if the line is not as it should be, or the file is cut off.
        """
        raw = self.lines.take()
        if not raw:
            raise StartupError(
                f"{self.lines.name} is cut off after line {self.lines.taken}: it has {self.events} of "
                f"{self.board.events} events and no end"
            )
        line = _in_one_spelling(self._parse(raw))
        stage = ORDER.index(type(line))
        if isinstance(line, BoardLine) or stage < self._stage:
            raise self.lines.refuse(f"comes after {ORDER[self._stage].__struct_config__.tag!r} lines", text=raw)
        self._stage = stage
        if isinstance(line, EndLine):
            self._check_end(line, raw)
            return None
        wrong = self._wrong_in_event(line) if isinstance(line, EventLine) else _wrong_in_other(line)
        if wrong:
            raise self.lines.refuse(wrong, text=raw)
        return line

    def _wrong_in_event(self, line: EventLine) -> str | None:
        if line.seq != self.events + 1:
            return f"seq is {line.seq}, not {self.events + 1}"
        if line.at < self._at:
            return f"at is before {self._at.isoformat()}, that of the event before"
        self.events, self._at = line.seq, line.at
        return _wrong_in_event(line)

    def _check_end(self, line: EndLine, raw: bytes) -> None:
        if not self.events == line.events == self.board.events:
            raise self.lines.refuse(
                f"there are {self.events} events before it, and {self.board.events} by the first line", text=raw
            )
        if line.sha256 != self.lines.digest_before:
            raise self.lines.refuse(f"the lines before it have the SHA-256 {self.lines.digest_before}", text=raw)
        if self.lines.next:
            raise self.lines.refuse("something follows the end", self.lines.taken + 1, self.lines.next)
        self.is_at_end = True


def check_end(file: BinaryIO, name: str) -> None:
    """Look at the end of a file without reading it, where it is one, so that nothing is begun of one that was cut off.

    :raises StartupError: if its last line is not the end.
    """
    if not file.seekable():
        return
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - LINE_BYTES_MAX))
    last = file.read().rpartition(b"\n")[0].rpartition(b"\n")[2]
    file.seek(0)
    try:
        is_end = isinstance(_DECODER.decode(last), EndLine)
    except (msgspec.DecodeError, UnicodeDecodeError):
        is_end = False
    if not is_end and size:
        with_text = f": {_show_line(last)}" if last else ""
        raise StartupError(f"{name} is cut off: its last line is not an 'end' line{with_text}")


def _show_line(raw: bytes) -> str:
    """The beginning of a line, whatever bytes it has."""
    return show_name(raw[: 4 * (SHOWN_CHARS_MAX + 1)].decode(errors="replace").strip())


def _is_action(raw: bytes) -> bool:
    try:
        return msgspec.json.decode(raw, type=_Kind).line == "action"
    except msgspec.DecodeError:
        return False


def _wrong_in_board(line: BoardLine) -> str | None:
    wrong_id = validate_name(line.board)
    if wrong_id:
        return f"board {wrong_id}"
    if sorted(set(line.windows), key=WINDOWS.index) != line.windows or ALL not in line.windows:
        return f"windows {line.windows} are not some of {list(WINDOWS)} in this order, with {ALL!r}"
    if line.timezone not in timezones.names():
        return f"timezone {line.timezone!r} is not a name of the IANA time zone database, such as Europe/Berlin"
    wrong_title = validate_title(line.title)
    if wrong_title:
        return f"title {wrong_title}"
    if line.floor is not None and line.operator != "sum":
        return f"floor {line.floor} goes with the operator 'sum' only, not with {line.operator!r}"
    return None


def _in_one_spelling(line: AnyLine) -> AnyLine:
    """A line with its user id and its name in NFC."""
    if isinstance(line, EventLine) and line.user_id is not None and not line.user_id.isascii():
        return msgspec.structs.replace(line, user_id=nfc(line.user_id, ID_CHARS_MAX))
    if isinstance(line, UserLine):
        name = nfc(line.name, NAME_CHARS_MAX) if line.name is not None else None
        return msgspec.structs.replace(line, user_id=nfc(line.user_id, ID_CHARS_MAX), name=name)
    return line


def _wrong_in_other(line: ActionLine | UserLine) -> str | None:
    if isinstance(line, UserLine):
        wrong_id = validate_user_id(line.user_id)
        wrong_name = validate_display_name(line.name) if line.name is not None else None
        return f"userId {wrong_id}" if wrong_id else f"name {wrong_name}" if wrong_name else None
    wrong = validate_name(line.action_id)
    if wrong:
        return f"actionId {wrong}"
    bounds = line.points_min, line.points_max
    if (line.points is None) != (None not in bounds) or (line.points is not None and bounds != (None, None)):
        return "an action has either points or both pointsMin and pointsMax"
    if line.points_min is not None and line.points_max is not None and line.points_min > line.points_max:
        return f"pointsMin {line.points_min} is more than pointsMax {line.points_max}"
    return None


def _wrong_in_event(line: EventLine) -> str | None:
    """What is wrong with an event by itself: the rules of the ledger's table, in words."""
    kind = line.kind
    if line.at >= END_OF_TIME:
        return f"at is not before {END_OF_TIME.isoformat()}"
    if line.user_id is None:
        if kind != "settings":
            return f"an event of kind {kind!r} has a userId"
    elif kind == "settings":
        return f"settings concern everybody, not userId {line.user_id!r}"
    elif (wrong := validate_user_id(line.user_id)) is not None:
        return f"userId {wrong}"
    if line.key is not None and (wrong := validate_key(line.key)) is not None:
        return f"key {wrong}"
    if line.action_id is not None and not _is_name(line.action_id):
        return f"actionId {validate_name(line.action_id)}"
    if line.detail is not UNSET and not _is_object(bytes(line.detail)):
        return "detail is not an object"
    if kind == "score":
        return None if line.action_id is not None and line.revokes is None else "a score has an actionId and no revokes"
    return _wrong_in_kind(line)


def _is_object(raw: bytes) -> bool:
    try:
        return isinstance(msgspec.json.decode(raw), dict)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False


def _wrong_in_kind(line: EventLine) -> str | None:
    if line.kind == "revoke":
        if line.revokes is None or line.revokes >= line.seq or line.counted_at is None or line.counted_at > line.at:
            return "a revoke has revokes, an earlier seq, and countedAt, when that was"
    elif line.revokes is not None:
        return f"an event of kind {line.kind!r} revokes nothing"
    elif line.kind != "opening" and line.points != 0:
        return f"an event of kind {line.kind!r} has no points"
    return None
