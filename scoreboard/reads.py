"""Where an answer is read from: the ranking while it can be trusted, else the ledger's totals.

A head that was not confirmed against PostgreSQL for SOFT_EXPIRY_S is confirmed in the background; one not confirmed
for HARD_EXPIRY_S is not trusted. Nor is a ranking that lacks what this server has already told somebody: nobody reads
something older than their own last 200. When PostgreSQL does not answer, an old ranking is better than none.

Where a first day names a period, the ranking is asked too, unless it is known to be of a later one: rankings are kept
of the current periods only. Of all others the ledger is asked, which is costly.

While the ranking is away, who is asked for near the top is found by the board's order at once. Whose place has to be
counted costs the more, the larger the board is: those reads have a lane, so that they leave connections for others.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from scoreboard.acknowledged import Acknowledged, Needed
from scoreboard.costly import Costly
from scoreboard.errors import NotFound, RanksUnavailable, Unavailable
from scoreboard.lane import Lane
from scoreboard.ledger import Ledger
from scoreboard.metrics import Metrics
from scoreboard.model import ALL, Cursor, Page, Position, Standings
from scoreboard.ranks import Aged, PeriodOver, Ranks
from scoreboard.repair import Repair
from scoreboard.stamps import Subject

SOFT_EXPIRY_S = 30
HARD_EXPIRY_S = 300
COUNTED_AT_ONCE = 3
"""Reads that count places while the ranking is away: of the connections for reads as many, at most."""
COUNTED_QUEUE_MAX = 64
NEAR_TOP = 1_000
"""A page that ends before this place is read without counting much."""

T = TypeVar("T", Page, Standings)


class Reads:
    """Reads pages and standings."""

    def __init__(
        self,
        ledger: Ledger,
        ranks: Ranks,
        repair: Repair,
        metrics: Metrics,
        acknowledged: Acknowledged,
        costly: Costly,
    ) -> None:
        self._ledger = ledger
        self._ranks = ranks
        self._repair = repair
        self._metrics = metrics
        self._acknowledged = acknowledged
        self._costly = costly
        self._counted = Lane(
            "places on boards whose ranking is away",
            COUNTED_AT_ONCE,
            metrics.lane_refused.labels("counted"),
            queue_max=COUNTED_QUEUE_MAX,
        )

    @property
    def waiting(self) -> int:
        """Who wait for a place to be counted while the ranking is away."""
        return self._counted.waiting

    def is_current(self, board: str, position: Position) -> bool:
        """Whether a position has all that was told by now."""
        return self._acknowledged.is_met_by(board, position)

    def needed(self, board: str) -> Needed:
        """What whoever asks now must not be told less than."""
        return self._acknowledged.needed(board)

    def tell(self, board: str, position: Position) -> None:
        """Somebody is told of a position: from now on nobody is told of an older one."""
        self._acknowledged.note(board, position)

    async def read_page(
        self,
        board: str,
        window: str = ALL,
        first_day: str | None = None,
        *,
        offset: int = 0,
        limit: int,
        after: Cursor | None = None,
    ) -> Page:
        """A page of a period of a window, by default the current one; ``after`` wins over ``offset``.

        :raises NotFound, Invalid: if there is no such board, or it has no such window.
        :raises Unavailable: if no store can tell.
        """

        async def ask_ledger() -> Page:
            if first_day is not None:
                subject = Subject(board, window, first_day)
                return (await self._costly.read_page(subject, offset=offset, limit=limit, after=after))[0]
            if after is None and offset + limit <= NEAR_TOP:
                return await self._ledger.read_page(board, window, offset=offset, limit=limit)
            async with self._counted.turn():
                return await self._ledger.read_page(board, window, offset=offset, limit=limit, after=after)

        page = await self._read(
            board,
            window,
            first_day,
            lambda: self._ranks.read_page(board, window, offset=offset, limit=limit, after=after),
            lambda aged: aged.page,
            ask_ledger,
        )
        assert page is not None
        return page

    async def read_around(
        self, board: str, user_id: str, radius: int, window: str = ALL, first_day: str | None = None
    ) -> Page | None:
        """A user with neighbours, or None when the user has no score, which the ledger has the last word on.

        :raises NotFound, Invalid: if there is no such board, or it has no such window.
        :raises Unavailable: if no store can tell.
        """

        async def ask_ledger() -> Page | None:
            if first_day is not None:
                return await self._costly.read_around(Subject(board, window, first_day), user_id, radius)
            async with self._counted.turn():
                return await self._ledger.read_around(board, user_id, radius, window)

        return await self._read(
            board,
            window,
            first_day,
            lambda: self._ranks.read_page(board, window, limit=2 * radius + 1, around=user_id),
            lambda aged: aged.page if aged.page is not None and aged.page.entries else None,
            ask_ledger,
        )

    async def read_standing(
        self, board: str, user_id: str, window: str = ALL, first_day: str | None = None
    ) -> Standings | None:
        """A user's place, or None when the user has no score, which the ledger has the last word on.

        :raises NotFound, Invalid: if there is no such board, or it has no such window.
        :raises Unavailable: if no store can tell.
        """

        def with_score(standings: Standings | None) -> Standings | None:
            return standings if standings is not None and standings.users[0] is not None else None

        async def ask_ledger() -> Standings | None:
            return with_score(await self._ask_for_places(board, [user_id], window, first_day))

        return await self._read(
            board,
            window,
            first_day,
            lambda: self._ranks.read_users(board, [user_id], window),
            lambda aged: with_score(aged.standings),
            ask_ledger,
        )

    async def read_standings(
        self, board: str, users: Sequence[str], window: str = ALL, first_day: str | None = None
    ) -> Standings:
        """The places of users, in the order asked.

        :raises NotFound, Invalid: if there is no such board, or it has no such window.
        :raises Unavailable: if no store can tell.
        """
        standings = await self._read(
            board,
            window,
            first_day,
            lambda: self._ranks.read_users(board, users, window),
            lambda aged: aged.standings,
            lambda: self._ask_for_places(board, users, window, first_day),
        )
        assert standings is not None
        return standings

    async def _ask_for_places(self, board: str, users: Sequence[str], window: str, first_day: str | None) -> Standings:
        if first_day is not None or len(users) > 1:
            return (await self._costly.read_standings(Subject(board, window, first_day), users))[0]
        async with self._counted.turn():
            return await self._ledger.read_standings(board, users, window)

    async def _read(
        self,
        board: str,
        window: str,
        first_day: str | None,
        ask_ranks: Callable[[], Awaitable[Aged | None]],
        pick: Callable[[Aged], T | None],
        ask_ledger: Callable[[], Awaitable[T | None]],
    ) -> T | None:
        """From the ranking if it can be trusted and has it, else from the ledger."""
        needed = self._acknowledged.needed(board)
        is_ranked = first_day is None or self._ranks.may_be_of(board, window, first_day)
        suspect = self._repair.is_suspect(board) or not self._ranks.available
        aged = await self._ask_ranks(board, ask_ranks, first_day) if is_ranked and not suspect else None
        found = pick(aged) if aged is not None and self._is_trusted(board, aged, needed) else None
        source = "ranks"
        if found is None:
            try:
                found, source = await ask_ledger(), "ledger"
                if found is not None:
                    self._acknowledged.settle(board, needed, found.position)
                    self._repair.use(board)
            except Unavailable:
                aged = await self._ask_ranks(board, ask_ranks, first_day) if is_ranked and suspect else aged
                found = pick(aged) if aged is not None and needed.met_by(aged.position) else None
                source = "ranks_untrusted"
                if found is None:
                    raise
        if found is not None:
            self._metrics.pages.labels(source).inc()
            self.tell(board, found.position)
        return found

    async def _ask_ranks(
        self, board: str, ask: Callable[[], Awaitable[Aged | None]], first_day: str | None
    ) -> Aged | None:
        """The ranking's answer, if it is of the period that was asked for; a window whose period is over goes on to the
        next one first."""
        try:
            try:
                aged = await ask()
            except PeriodOver:
                await self._repair.turn(board)
                aged = await ask()
        except PeriodOver:
            return None  # the stores' clocks differ: by the ledger's it is not over yet
        except RanksUnavailable:
            self._repair.suspect(board)
            return None
        except (Unavailable, NotFound):
            return None  # which the ledger will say itself
        if aged is None:
            self._repair.use(board)
            return None
        return aged if first_day is None or aged.first_day == first_day else None

    def _is_trusted(self, board: str, aged: Aged, needed: Needed) -> bool:
        # A negative age is that of a clock that was set back: it says nothing.
        if not 0 <= aged.age_s <= SOFT_EXPIRY_S:
            self._repair.confirm(board)
        return 0 <= aged.age_s <= HARD_EXPIRY_S and needed.met_by(aged.position)
