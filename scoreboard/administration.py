"""What administrators change: boards, users, and events that are to be undone.

Each change is committed to the ledger as an event of its boards and then ranked like any other. What is known of a user
is written first and told to boards afterwards, one by one; a call that was interrupted is completed by repeating it.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Literal

from scoreboard.errors import ErasedLately, Invalid, NotFound, Unavailable
from scoreboard.ledger import HiddenOnBoard, Ledger, Revocation
from scoreboard.model import SELF_ERASURE_PAUSE_S, Board, Head, User, format_time
from scoreboard.repair import Repair
from scoreboard.timezones import check_timezone

FILL_PAUSE_S = 0.005
"""Between two slices of a fill, so that submissions that wait for the board have their turn."""
EARLIER_WAIT_S = 10.0
"""Longer than a submission's transaction may last."""
POLL_S = 0.005
PSEUDONYM_BYTES = 10


class Administration:
    """Carries out what administrators want. Every method raises Unavailable when PostgreSQL does not answer.

    :param acknowledge: called with board and head of every event before anybody is told that it is there.
    """

    def __init__(self, ledger: Ledger, repair: Repair, acknowledge: Callable[[str, Head], None]) -> None:
        self._ledger = ledger
        self._repair = repair
        self._acknowledge = acknowledge
        self._known_zones: set[str] = set()

    # -- boards

    async def put_board(self, wanted: Board) -> tuple[Board, bool]:
        """Create a board or change its settings, fill its new windows and have it ranked; True when it is new.

        :raises BoardNotEmpty: if it has events and would count them in another way.
        """
        board = wanted.board_id
        created, is_filling = await self._ledger.put_board(wanted)
        return await self._settle(board, is_new=created, is_filling=is_filling), created

    async def patch_board(self, board: str, changes: Mapping[str, object]) -> Board:
        """Change those settings of a board that are named, fill its new windows and have it ranked.

        :param changes: by the names of the fields of a Board.
        :raises NotFound: if there is no such board.
        :raises BoardNotEmpty, Invalid: if it can't be changed so.
        """
        is_filling = await self._ledger.patch_board(board, changes)
        return await self._settle(board, is_new=False, is_filling=is_filling)

    async def _settle(self, board: str, *, is_new: bool, is_filling: bool) -> Board:
        """Finish what a change of settings began; the board as it is then."""
        if is_filling:
            await self._fill_windows(board)
        changed = await self._ledger.read_board(board)
        if not is_new:
            self._acknowledge(board, (await self._ledger.read_layout(board)).head)
            self._repair.confirm(board)
        await self._repair.prepare(board)
        return changed

    async def check_timezone(self, name: str) -> str | None:
        """What is wrong with the name of a time zone, or None. What was right once is right for as long as we run."""
        if name in self._known_zones:
            return None
        wrong = await check_timezone(self._ledger, name)
        if wrong is None:
            self._known_zones.add(name)
        return wrong

    async def _fill_windows(self, board: str) -> None:
        is_done = False
        while not is_done:
            is_done = await self._ledger.fill_windows(board)
            await asyncio.sleep(FILL_PAUSE_S)

    # -- users

    async def name_user(self, user_id: str, name: str | None) -> User:
        """Give a user a display name, or take it away.

        :raises Invalid: if the name is another user's id, or looks like it. One's own id may be the name.
        """
        if name is not None and name != user_id:
            namesake = await self._ledger.find_namesake(user_id, name)
            if namesake is not None:
                raise Invalid("displayName", f"{name!r} can't be told from the id of another user, {namesake!r}")
        return await self._tell_boards(await self._ledger.put_user(user_id, name), "name_user")

    async def hide_user(self, user_id: str, *, hidden: bool) -> User:
        """Keep a user out of every ranking, also one who is yet to come, or show the user again.

        :raises NotFound: if nothing is known of the user whom to show.
        """
        user = await self._ledger.put_hidden(user_id, hidden=hidden)
        if user is None:
            await self._must_have_scores(user_id)
            return User(user_id, None, False, 0, True)
        return await self._tell_boards(user, "show_user")

    async def hide_on_board(self, board: str, user_id: str, *, hidden: bool) -> HiddenOnBoard:
        """Keep a user out of the ranking of one board, also one who is yet to come, or end that.

        :raises NotFound: if there is no such board, or nothing is known of the user whom to show.
        """
        told = await self._ledger.hide_on_board(board, user_id, hidden=hidden)
        if not told.is_known:
            await self._must_have_scores(user_id)
        if told.head is not None:
            await self._rank(board, told.head)
        return told

    async def _must_have_scores(self, user_id: str) -> None:
        """:raises NotFound: if the user has a score nowhere."""
        if not await self._ledger.list_user_boards(user_id):
            raise _no_user(user_id)

    async def _tell_boards(self, user: User, what: Literal["show_user", "name_user"]) -> User:
        if user.is_told:
            return user
        boards = await self._ledger.list_user_boards(user.user_id)
        await self._tell_each(boards, user.user_id, what)
        # A first submission to a board that was under way may have looked at the user before the change, and its total
        # is seen only when it has ended.
        await self._wait_for_earlier()
        late = set(await self._ledger.list_user_boards(user.user_id)) - set(boards)
        await self._tell_each(sorted(late), user.user_id, what)
        await self._ledger.end_telling(user)
        return user

    async def _tell_each(self, boards: list[str], user_id: str, what: Literal["show_user", "name_user"]) -> None:
        for board in boards:
            head = await self._ledger.tell_board(board, user_id, what)
            if head is not None:
                await self._rank(board, head)

    async def _wait_for_earlier(self) -> None:
        """Return when every transaction that has begun by now has ended."""
        _, until = await self._ledger.read_transactions()
        deadline = monotonic() + EARLIER_WAIT_S
        while (await self._ledger.read_transactions())[0] < until:
            if monotonic() > deadline:
                raise Unavailable("another transaction of the database lasts too long; repeat the request")
            await asyncio.sleep(POLL_S)

    async def erase_user(self, user_id: str, *, by_itself: bool = False) -> None:
        """Forget a user's id everywhere; the sums of the boards stay.

        What comes later with that id is somebody new, but for being hidden: who is hidden stays so. A user may do this
        once a day. That is noted when it is done, so that a call which was interrupted can be completed.

        :raises NotFound: if nothing is known of the user.
        :raises ErasedLately: if the user has erased itself within SELF_ERASURE_PAUSE_S.
        """
        if by_itself and (left_s := await self._ledger.read_self_erasure(user_id)) is not None:
            raise ErasedLately(
                f"user {user_id!r} has erased itself already, which a user may do once in 24 hours",
                retry_after_s=left_s,
                quota=1,
                window_s=int(SELF_ERASURE_PAUSE_S),
            )
        boards = await self._ledger.list_user_boards(user_id)
        groups_left = await self._ledger.leave_groups(user_id)
        if not boards and not groups_left and await self._ledger.read_user(user_id) is None:
            raise _no_user(user_id)
        await self._ledger.forget_user(user_id)
        for board in boards:
            pseudonym = f"erased-{secrets.token_hex(PSEUDONYM_BYTES)}"
            head = await self._ledger.erase_user(board, user_id, pseudonym)
            if head is not None:
                await self._rank(board, head, erased=user_id)
        if by_itself:
            await self._ledger.note_self_erasure(user_id)

    # -- events

    async def revoke_event(self, board: str, seq: int, reason: str) -> Revocation:
        """Make a submission undone by another event, in the periods in which it counted.

        :raises NotFound: if there is no such event.
        :raises Invalid: if it is no submission, or the user's total would leave its bounds.
        """
        revocation = await self._ledger.revoke_event(board, seq, reason)
        event = revocation.event
        await self._rank(board, Head(revocation.epoch, event.seq, format_time(event.at)))
        return revocation

    async def _rank(self, board: str, head: Head, erased: str | None = None) -> None:
        """Have an event ranked that is in the ledger, if it can be, and let everybody know of it."""
        await self._repair.catch_up(board, head, erased)
        self._acknowledge(board, head)


def _no_user(user_id: str) -> NotFound:
    return NotFound(f"there is no user {user_id!r}")
