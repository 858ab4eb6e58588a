"""Costly reads: past periods, groups, boards of the past, and many users of a board whose ranking is away.

Each may take PostgreSQL from some milliseconds to seconds, and strangers may ask for them. So all share a small lane
with connections of its own. Answers are kept, and given again as long as their stamp holds, which is a small read: see
:mod:`scoreboard.stamps`. Those small reads have a lane too, so that they can't take all connections of the others.

A kept answer is shown with the position at which it was found to hold, not the one at which it was made: it has all
that was told by then.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from scoreboard.answers import Answers, Shared
from scoreboard.database import COSTLY_POOL_MAX
from scoreboard.lane import Lane
from scoreboard.metrics import Metrics
from scoreboard.model import Cursor, Page, Standings
from scoreboard.stamps import Stamps, Subject

CHECKS_AT_ONCE = 2
"""Looks whether an answer still holds: of the connections for reads as many, at most."""

T = TypeVar("T")

Members = tuple[bool, ...]
_PAGE: "msgspec.msgpack.Decoder[Page]" = msgspec.msgpack.Decoder(Page)
_AROUND: "msgspec.msgpack.Decoder[Page | None]" = msgspec.msgpack.Decoder(Page | None)
_STANDINGS: "msgspec.msgpack.Decoder[tuple[Standings, Members]]" = msgspec.msgpack.Decoder(tuple[Standings, Members])


class Costly:
    """Answers what is costly. Every method raises Overloaded when too many ask, and Unavailable when PostgreSQL does
    not answer."""

    def __init__(self, ledger: Stamps, metrics: Metrics) -> None:
        self._ledger = ledger
        what, refused = "answers from the past or of groups", metrics.lane_refused
        self._lane = Lane(what, COSTLY_POOL_MAX, refused.labels("costly"))
        self._checks = Lane(what, CHECKS_AT_ONCE, refused.labels("kept"))
        self._answers = Answers()
        self._shared = Shared()
        self._count_kept = metrics.tally(metrics.costly.labels("kept"))
        self._count_made = metrics.tally(metrics.costly.labels("made"))

    @property
    def waiting(self) -> int:
        """Who wait for the lane."""
        return self._lane.waiting + self._checks.waiting

    @property
    def kept_bytes(self) -> int:
        """What the kept answers take."""
        return self._answers.bytes

    async def read_page(
        self, subject: Subject, *, offset: int = 0, limit: int, after: Cursor | None = None
    ) -> tuple[Page, str | None]:
        """A page, where ``after`` wins over ``offset``, and the revision of the group that was asked for.

        :raises NotFound: if there is no such board or group.
        :raises Invalid: if the board has no such window.
        """
        page, stamp = await self._ask(
            ("page", subject, offset, limit, after),
            _PAGE,
            lambda kept: self._ledger.check_stamp(subject, kept),
            lambda: self._ledger.stamped_page(subject, offset=offset, limit=limit, after=after),
        )
        return msgspec.structs.replace(page, position=stamp.position), stamp.revision

    async def read_around(self, subject: Subject, user_id: str, radius: int) -> Page | None:
        """A user with neighbours, or None when the user has no score.

        :raises NotFound: if there is no such board or group, or the user is not in it.
        :raises Invalid: if the board has no such window.
        """
        page, stamp = await self._ask(
            ("around", subject, user_id, radius),
            _AROUND,
            lambda kept: self._ledger.check_stamp(subject, kept),
            lambda: self._ledger.stamped_around(subject, user_id, radius),
        )
        return msgspec.structs.replace(page, position=stamp.position) if page is not None else None

    async def read_standings(self, subject: Subject, users: Sequence[str]) -> tuple[Standings, Members]:
        """The places of users, in the order asked, and whether each is in the group; without one all are.

        :raises NotFound: if there is no such board or group.
        :raises Invalid: if the board has no such window.
        """
        asked = tuple(users)
        (standings, members), stamp = await self._ask(
            ("users", subject, asked),
            _STANDINGS,
            lambda kept: self._ledger.check_stamp(subject, kept),
            lambda: self._ledger.stamped_standings(subject, asked),
        )
        return msgspec.structs.replace(standings, position=stamp.position), members

    async def read_past_page(self, board: str, as_of: int | datetime, *, offset: int, limit: int) -> Page:
        """A page of a board as it stood at a seq or a time.

        :raises NotFound, Invalid: if there is no such board, or it has not come so far, or the way there is too long.
        """
        page, _ = await self._ask(
            ("past", board, as_of, offset, limit),
            _PAGE,
            lambda kept: self._ledger.check_past_stamp(board, as_of, kept),
            lambda: self._ledger.stamped_past_page(board, as_of, offset=offset, limit=limit),
        )
        return page

    async def _ask(
        self,
        key: tuple[Any, ...],
        form: "msgspec.msgpack.Decoder[T]",
        check: Callable[[Any], Awaitable[Any]],
        make: Callable[[], Awaitable[tuple[Any, T]]],
    ) -> tuple[T, Any]:
        """The answer to a question and the stamp with which it was found to hold."""
        return await self._shared.run(key, lambda: self._answer(key, form, check, make))

    async def _answer(
        self,
        key: tuple[Any, ...],
        form: "msgspec.msgpack.Decoder[T]",
        check: Callable[[Any], Awaitable[Any]],
        make: Callable[[], Awaitable[tuple[Any, T]]],
    ) -> tuple[T, Any]:
        kept = self._answers.get(key)
        if kept is not None:
            async with self._checks.turn():
                stamp = await check(kept.stamp)
            if stamp is not None:
                self._count_kept.count += 1
                kept.stamp = stamp
                return form.decode(kept.body), stamp
            self._answers.drop(key)
        async with self._lane.turn():
            stamp, answer = await make()
        self._count_made.count += 1
        self._answers.keep(key, stamp, answer)
        return answer, stamp
