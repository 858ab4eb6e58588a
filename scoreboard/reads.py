"""Where an answer is read from: the ranking while it can be trusted, else the ledger's totals.

A head that was not confirmed against PostgreSQL for SOFT_EXPIRY_S is confirmed in the background; one not confirmed
for HARD_EXPIRY_S is not trusted. Nor is a ranking that lacks what this server has already told somebody: nobody reads
something older than their own last 200. When PostgreSQL does not answer, an old ranking is better than none.
"""

from collections.abc import Awaitable

from scoreboard.acknowledged import Acknowledged, Needed
from scoreboard.errors import RanksUnavailable, Unavailable
from scoreboard.ledger import Ledger
from scoreboard.metrics import Metrics
from scoreboard.model import Page, Position, Standing
from scoreboard.ranks import Aged, Ranks
from scoreboard.repair import Repair

SOFT_EXPIRY_S = 30
HARD_EXPIRY_S = 300


class Reads:
    """Reads pages and standings."""

    def __init__(
        self, ledger: Ledger, ranks: Ranks, repair: Repair, metrics: Metrics, acknowledged: Acknowledged
    ) -> None:
        self._ledger = ledger
        self._ranks = ranks
        self._repair = repair
        self._metrics = metrics
        self._acknowledged = acknowledged

    def is_current(self, board: str, position: Position) -> bool:
        """Whether a position has all that was told by now."""
        return self._acknowledged.is_met_by(board, position)

    def needed(self, board: str) -> Needed:
        """What whoever asks now must not be told less than."""
        return self._acknowledged.needed(board)

    def tell(self, board: str, position: Position) -> None:
        """Somebody is told of a position: from now on nobody is told of an older one."""
        self._acknowledged.note(board, position)

    async def read_page(self, board: str, *, offset: int, limit: int, after: tuple[int, str] | None = None) -> Page:
        """A page; ``after`` (score, user id) wins over ``offset``.

        :raises NotFound: if there is no such board.
        :raises Unavailable: if no store can tell.
        """

        async def ask() -> Aged | None:
            return await self._ask_ranks(board, self._ranks.read_page(board, offset=offset, limit=limit, after=after))

        needed = self._acknowledged.needed(board)
        suspect = self._repair.is_suspect(board) or not self._ranks.available
        aged = None if suspect else await ask()
        if aged is not None and aged.page is not None and self._is_trusted(board, aged, needed):
            page, source = aged.page, "ranks"
        else:
            try:
                page, source = await self._ledger.read_page(board, offset=offset, limit=limit, after=after), "ledger"
                self._acknowledged.settle(board, needed, page.position)
                self._repair.use(board)
            except Unavailable:
                aged = await ask() if suspect else aged
                if aged is None or aged.page is None or not needed.met_by(aged.position):
                    raise
                page, source = aged.page, "ranks_untrusted"
        self._metrics.pages.labels(source).inc()
        self.tell(board, page.position)
        return page

    async def read_standing(self, board: str, user_id: str) -> Standing | None:
        """A user's place, or None when the user has no score.

        :raises Unavailable: if no store can tell.
        """
        needed = self._acknowledged.needed(board)
        standing = None
        if not self._repair.is_suspect(board) and self._ranks.available:
            aged = await self._ask_ranks(board, self._ranks.read_users(board, [user_id]))
            if aged is not None and self._is_trusted(board, aged, needed):
                standing = aged.standings[0]
        if standing is None:
            standing = await self._ledger.read_standing(board, user_id)
        if standing is not None:
            self.tell(board, standing.position)
        return standing

    async def _ask_ranks(self, board: str, question: Awaitable[Aged | None]) -> Aged | None:
        try:
            aged = await question
        except RanksUnavailable:
            self._repair.suspect(board)
            return None
        if aged is None:
            self._repair.use(board)
        return aged

    def _is_trusted(self, board: str, aged: Aged, needed: Needed) -> bool:
        # A negative age is that of a clock that was set back: it says nothing.
        if not 0 <= aged.age_s <= SOFT_EXPIRY_S:
            self._repair.confirm(board)
        return 0 <= aged.age_s <= HARD_EXPIRY_S and needed.met_by(aged.position)
