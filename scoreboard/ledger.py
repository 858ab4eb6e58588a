"""The ledger in PostgreSQL: what is appended to it, and what is read of it; boards, actions and users beside it.

One method for each file in ``sql/queries``.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import asyncpg
import msgspec
import orjson

from scoreboard.database import MustRecall, RolledBack
from scoreboard.errors import BoardNotEmpty, Invalid, NotFound
from scoreboard.model import (
    BOARDS_LISTED_MAX,
    SELF_ERASURE_PAUSE_S,
    Action,
    Board,
    Event,
    Head,
    Ruling,
    Submission,
    User,
    format_time,
    parse_periods,
)
from scoreboard.stamps import Stamps
from scoreboard.timezones import ZoneRules

RECALL_ATTEMPTS = 4
"""Tries of a batch: the first may go without digests, and users may be erased during another."""
FILL_EVENTS = 5_000
"""Events of a slice of a fill, for which its board is locked: some 50 ms."""


class PastPeriod(msgspec.Struct, frozen=True):
    """A period of a window in which something happened."""

    first_day: str
    starts_at: datetime
    ends_at: datetime
    total: int


class Revocation(msgspec.Struct, frozen=True):
    """The event that made another one undone; ``is_new``: it was recorded now."""

    event: Event
    epoch: str
    reason: str
    is_new: bool


class HiddenOnBoard(msgspec.Struct, frozen=True):
    """What a board makes of a user now.

    :ivar hidden: there, whether on it alone or everywhere.
    :ivar is_known: whether anything is known of the user beyond scores.
    :ivar head: the event for it, where the board has one.
    """

    name: str | None
    hidden: bool
    is_known: bool
    head: Head | None


class Ledger(Stamps):
    """The source of truth. Every method raises Unavailable when PostgreSQL does not answer."""

    # -- writing

    async def submit_scores(self, board: str, submissions: Sequence[Submission]) -> list[Ruling]:
        """Record a batch in one transaction and rule on each submission, in order.

        :raises NotFound: if there is no such board.
        :raises BatchRefused: if a submission made the batch fail; nothing was recorded.
        :raises RolledBack: if another transaction was in the way; nothing was recorded.
        :raises Unavailable: if the outcome is unknown.
        """
        users = [submission.user_id for submission in submissions]
        arguments = (
            board,
            users,
            [submission.action_id for submission in submissions],
            [submission.key for submission in submissions],
            [submission.points for submission in submissions],
        )
        rows = await self._submit(users, arguments)
        if not rows:
            raise NotFound(f"there is no board {board!r}")
        return [
            Ruling(
                outcome=row["outcome"],
                epoch=row["epoch"],
                seq=row["seq"] or 0,
                points=row["points"] or 0,
                score=row["score"] or 0,
                at=row["at"] or datetime.min,
                hidden=row["hidden"] or False,
                windows=row["windows"] or (),
                periods=parse_periods(row["periods"]) if row["periods"] else (),
                name=row["name"],
                retry_after_s=row["retry_after_s"] or 0.0,
                quota=row["quota"] or 0,
                window_s=row["window_s"] or 0,
                previous_at=row["previous_at"],
            )
            for row in rows
        ]

    async def _submit(self, users: list[str], arguments: tuple[object, ...]) -> list[asyncpg.Record]:
        """Record a batch; with digests from when on somebody is remembered by one."""
        for _ in range(RECALL_ATTEMPTS):
            digests = await self.digests(users) if self.remembers else None
            try:
                return await self._fetch(self._writes, "submit_scores", *arguments, digests)
            except MustRecall:
                self.remembers = True
        raise RolledBack("users of the batch keep being erased")

    async def revoke_event(self, board: str, seq: int, reason: str) -> Revocation:
        """Make an event undone by another one.

        :raises NotFound: if there is no such event.
        :raises Invalid: if it is not a submission, or the user's total would leave its bounds.
        """
        row = await self._fetch_one(self._writes, "revoke_event", board, seq, reason)
        match row["outcome"]:
            case "not_found":
                raise NotFound(f"the board {board!r} has no event {seq}")
            case "not_revocable":
                raise Invalid("seq", f"event {seq} of the board {board!r} is not a submission, so it can't be revoked")
            case "invalid":
                raise Invalid(
                    "seq",
                    f"without event {seq} the score of user {row['user_id']!r} would be beyond what a score can be",
                )
        event = Event(
            row["seq"],
            row["user_id"],
            row["action_id"],
            row["points"],
            row["score"],
            row["at"],
            "revoke",
            row["hidden"],
        )
        return Revocation(event, row["epoch"], row["reason"] or "", row["outcome"] == "revoked")

    async def renew_epoch(self, board: str, ended_epoch: str) -> None:
        """Give the board a new epoch, unless somebody else already did."""
        await self._fetch(self._writes, "renew_epoch", board, ended_epoch)

    # -- boards and actions

    async def put_board(self, board: Board) -> tuple[bool, bool]:
        """Create or change a board's settings; whether it is new, and whether windows of it are to be filled.

        :raises BoardNotEmpty: if it has events and counts in another way.
        """
        settings = (board.title, list(board.windows), board.ties, board.timezone, board.operator, board.floor)
        row = await self._fetch_one(self._writes, "put_board", board.board_id, *settings)
        if row["outcome"] == "operator_fixed":
            raise _operator_fixed(board.board_id, board.operator)
        return row["outcome"] == "created", row["is_filling"]

    async def patch_board(self, board: str, changes: Mapping[str, Any]) -> bool:
        """Change those settings of a board that are named and keep the others; whether windows are to be filled.

        :param changes: by the names of the fields of a Board.
        :raises NotFound: if there is no such board.
        :raises BoardNotEmpty: if it has events and would count in another way.
        :raises Invalid: if it would have a floor and another operator than sum.
        """
        values = [changes.get(name) for name in ("title", "windows", "ties", "timezone", "operator", "floor")]
        row = await self._fetch_one(self._writes, "patch_board", board, list(changes), *values)
        match row["outcome"]:
            case "no_board":
                raise NotFound(f"there is no board {board!r}")
            case "operator_fixed":
                raise _operator_fixed(board, changes["operator"])
            case "floor_without_sum":
                wrong = "floor" if changes.get("floor") is not None else "operator"
                raise Invalid(
                    wrong, f"{changes[wrong]!r} would give the board {board!r} a floor with another operator than 'sum'"
                )
        return bool(row["is_filling"])

    async def read_timezone(self, name: str, moments: list[datetime]) -> ZoneRules | None:
        """How the database understands the name of a time zone; None if it does not know it."""
        rows = await self._fetch(self._reads, "read_timezone", name, moments)
        return ZoneRules(rows[0]["is_abbreviation"], tuple(rows[0]["offsets_s"])) if rows else None

    async def read_settings_seq(self, board: str) -> int:
        """The seq of the event since which a board is set up as it is; 0 where that never changed."""
        row = await self._fetch_one(self._reads, "read_settings_seq", board)
        return int(row["settings_seq"])

    async def fill_windows(self, board: str) -> bool:
        """Do a slice of filling a board's new windows; whether that was the last one."""
        row = await self._fetch_one(self._repairs, "fill_windows", board, FILL_EVENTS)
        return bool(row["is_done"])

    async def list_periods(self, board: str, window: str, *, before: str, limit: int) -> list[PastPeriod]:
        """The periods of a window in which something happened, newest first, before a first day or ``infinity``."""
        rows = await self._fetch(self._reads, "list_periods", board, window, before, limit)
        return [PastPeriod(row["period"], row["starts_at"], row["ends_at"], row["players"]) for row in rows]

    async def put_action(self, board: str, action: Action) -> tuple[Action, bool]:
        """Create or change an action; True when it is new. The board must exist."""
        row = await self._fetch_one(
            self._writes,
            "put_action",
            board,
            action.action_id,
            action.points,
            action.cooldown_seconds,
            action.daily_cap,
            action.enabled,
            action.points_min,
            action.points_max,
        )
        return _action(row), row["created"]

    async def disable_action(self, board: str, action_id: str) -> Action | None:
        """Disable an action; None when there is no such action."""
        rows = await self._fetch(self._writes, "disable_action", board, action_id)
        return _action(rows[0]) if rows else None

    async def list_boards(self, *, after: str = "", limit: int) -> list[Board]:
        """Boards in the order of their ids."""
        return [board_of(row) for row in await self._fetch(self._reads, "list_boards", after, limit)]

    async def list_all_boards(self) -> list[Board]:
        """All boards, in the order of their ids."""
        boards: list[Board] = []
        while page := await self.list_boards(after=boards[-1].board_id if boards else "", limit=BOARDS_LISTED_MAX):
            boards += page
        return boards

    async def read_board(self, board: str) -> Board:
        """One board.

        :raises NotFound: if there is no such board.
        """
        rows = await self._fetch(self._reads, "read_board", board)
        if not rows:
            raise NotFound(f"there is no board {board!r}")
        return board_of(rows[0])

    async def list_actions(self, board: str, *, limit: int) -> list[Action]:
        """A board's actions, disabled ones too, in the order of their ids."""
        return [_action(row) for row in await self._fetch(self._reads, "list_actions", board, limit)]

    async def count_actions(self, board: str, *, bound: int) -> int:
        """The number of a board's actions, at most ``bound``."""
        row = await self._fetch_one(self._reads, "count_actions", board, bound)
        return int(row["actions"])

    # -- users

    async def read_user(self, user_id: str) -> User | None:
        """What is known of a user beyond scores, or None."""
        rows = await self._fetch(self._reads, "read_user", user_id)
        return User(*rows[0].values()) if rows else None

    async def put_user(self, user_id: str, name: str | None) -> User:
        """Give a user a display name, or take it away; boards are yet to be told."""
        row = await self._fetch_one(self._writes, "put_user", user_id, name, await self.digest(user_id))
        return User(*row.values())

    async def put_hidden(self, user_id: str, *, hidden: bool) -> User | None:
        """Hide a user, or show one again, None if nothing is known of that one; boards are yet to be told."""
        rows = await self._fetch(self._writes, "put_hidden", user_id, hidden, await self.digest(user_id))
        return User(*rows[0].values()) if rows else None

    async def hide_on_board(self, board: str, user_id: str, *, hidden: bool) -> HiddenOnBoard:
        """Hide a user on one board alone, or end that.

        :raises NotFound: if there is no such board.
        """
        rows = await self._fetch(self._writes, "hide_on_board", board, user_id, hidden, await self.digest(user_id))
        if not rows:
            raise NotFound(f"there is no board {board!r}")
        row = rows[0]
        head = _appended(rows) if row["seq"] is not None else None
        return HiddenOnBoard(row["name"], row["hidden"], row["is_known"], head)

    async def end_telling(self, user: User) -> None:
        """Note that every board has been told of what is known of a user."""
        await self._fetch(self._writes, "end_telling", user.user_id, user.revision)

    async def forget_user(self, user_id: str) -> None:
        """Forget what is known of a user beyond scores, but for where the user is hidden."""
        await self._fetch(self._writes, "forget_user", user_id, await self.digest(user_id))

    async def read_self_erasure(self, user_id: str) -> float | None:
        """For how many seconds more a user may not erase itself again; None if it may."""
        digest = await self.digest(user_id)
        rows = await self._fetch(self._writes, "read_self_erasure", digest, SELF_ERASURE_PAUSE_S)
        return rows[0]["left_s"] if rows else None

    async def note_self_erasure(self, user_id: str) -> None:
        """Note that a user has erased itself just now."""
        await self._fetch(self._writes, "note_self_erasure", await self.digest(user_id), SELF_ERASURE_PAUSE_S)

    async def keep_demo_key(self) -> str:
        """The key of the demo's tokens, the same on all servers of the database."""
        row = await self._fetch_one(self._writes, "keep_demo_key", secrets.token_urlsafe(48))
        return str(row["secret"])

    async def list_user_boards(self, user_id: str) -> list[str]:
        """The boards on which a user has a score, hidden or not."""
        return [row["board_id"] for row in await self._fetch(self._repairs, "list_user_boards", user_id)]

    async def read_transactions(self) -> tuple[int, int]:
        """The number of the oldest transaction that has not ended, and that of the next one."""
        row = await self._fetch_one(self._repairs, "read_transactions")
        return row["oldest"], row["next"]

    async def tell_board(self, board: str, user_id: str, what: Literal["show_user", "name_user"]) -> Head | None:
        """Append the event that makes a board agree with what is known of a user; None if there is none to append."""
        return _appended(await self._fetch(self._writes, what, board, user_id))

    async def erase_user(self, board: str, user_id: str, pseudonym: str) -> Head | None:
        """Put a pseudonym in the place of a user's id on a board; None if the user has no score there."""
        return _appended(await self._fetch(self._repairs, "erase_user", board, user_id, pseudonym))

    # -- events

    async def read_heads(self, asked: Mapping[str, Iterable[int]]) -> dict[str, tuple[Head, set[tuple[int, str]]]]:
        """Where the ledgers of some boards stand; boards that do not exist are left out.

        :param asked: by board the seqs of events whose times are wanted too; times are as in Head, those of events
            that are not there are left out.
        """
        pairs = [(board, seq) for board, seqs in asked.items() for seq in {0, *seqs}]
        boards, seqs = [board for board, _ in pairs], [seq for _, seq in pairs]
        found: dict[str, tuple[Head, set[tuple[int, str]]]] = {}
        for row in await self._fetch(self._repairs, "read_heads", boards, seqs):
            head = Head(row["epoch"], row["seq"], format_time(row["last_at"]) if row["seq"] else "")
            _, times = found.setdefault(row["board_id"], (head, {(0, "")}))
            if row["asked_at"] is not None:
                times.add((row["asked_seq"], format_time(row["asked_at"])))
        return found

    async def read_events(self, board: str, *, after: int, limit: int) -> list[Event]:
        """A board's events after a seq, in order, gapless.

        Of settings, and of an erasure, which names nobody, the user is empty.
        """
        return [_event(row) for row in await self._fetch(self._repairs, "read_events", board, after, limit)]

    async def read_history(self, board: str, user_id: str, *, before: int, limit: int) -> list[asyncpg.Record]:
        """A user's events before a seq, newest first, those that may have changed the score."""
        return await self._fetch(self._reads, "read_history", board, user_id, before, limit)

    async def count_unfinished(self, board: str) -> int | None:
        """Events of an unfinished import that are in a board's ledger and not shown; None where there is no import."""
        rows = await self._fetch(self._reads, "read_import", board)
        return rows[0]["events"] if rows and rows[0]["stage"] != "ranking" else None

    # -- what a verification asks

    async def verify_head(self, board: str) -> dict[str, Any]:
        """What the board's row says of its ledger and totals, and what they say.

        :raises NotFound: if there is no such board.
        """
        rows = await self._fetch(self._repairs, "verify_head", board)
        if not rows:
            raise NotFound(f"there is no board {board!r}")
        return dict(rows[0].items())

    async def verify_events(self, board: str, *, after: int, through: int, limit: int) -> tuple[int, int, int]:
        """A slice of about ``limit`` events: how many, the seq of the last, how many are before their previous one."""
        row = await self._fetch_one(self._repairs, "verify_events", board, after, through, limit)
        return row["events"], row["last_seq"], row["disordered"]

    async def verify_totals(self, board: str, *, part: int, parts: int, limit: int) -> list[dict[str, Any]]:
        """Users of one part of several (from 0) whose total is not the sum of their events."""
        rows = await self._fetch(self._repairs, "verify_totals", board, part, parts, limit)
        return [dict(row.items()) for row in rows]

    async def verify_windows(self, board: str, *, part: int, parts: int, limit: int) -> list[dict[str, Any]]:
        """Totals of periods of one part of the users (from 0) that are not what their events come to."""
        rows = await self._fetch(self._repairs, "verify_windows", board, part, parts, limit)
        return [dict(row.items()) for row in rows]

    async def verify_periods(self, board: str, *, limit: int) -> list[dict[str, Any]]:
        """Periods whose count of users is wrong."""
        rows = await self._fetch(self._repairs, "verify_periods", board, limit)
        return [dict(row.items()) for row in rows]


def _operator_fixed(board: str, operator: str) -> BoardNotEmpty:
    return BoardNotEmpty(f"operator: can't be changed to {operator!r}: the board {board!r} has scores already")


def _appended(rows: Sequence[asyncpg.Record]) -> Head | None:
    return Head(rows[0]["epoch"], rows[0]["seq"], format_time(rows[0]["at"])) if rows else None


def board_of(row: asyncpg.Record) -> Board:
    """The board of a row of ``read_board``."""
    return Board(
        row["board_id"],
        row["epoch"],
        row["seq"],
        row["players"],
        row["title"],
        tuple(row["windows"]),
        row["ties"],
        row["timezone"],
        row["created_at"],
        row["operator"],
        row["floor"],
        tuple(row["filling"]),
    )


def _action(row: asyncpg.Record) -> Action:
    return Action(
        row["action_id"],
        row["points"],
        row["cooldown_seconds"],
        row["daily_cap"],
        row["enabled"],
        row["points_min"],
        row["points_max"],
    )


def _event(row: asyncpg.Record) -> Event:
    kind = row["kind"]
    detail = orjson.loads(row["detail"]) if kind == "unhide" and row["detail"] else {}
    return Event(
        row["seq"],
        "" if kind in ("settings", "erase") else row["user_id"],
        row["action_id"],
        row["points"],
        row["score_after"],
        row["at"],
        kind,
        row["hidden"],
        (row["day_after"], row["week_after"], row["month_after"]),
        parse_periods(row["periods"]) if row["periods"] else (),
        row["name"],
        detail.get("reached", {}),
    )
