"""A lane: few at once, a short queue, and beyond that a refusal, so that what is costly has bounds of its own.

What strangers may ask costs between a microsecond and seconds. Without bounds a handful of those who ask for the costly
part hold all connections to PostgreSQL, and everybody else waits behind them.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Protocol

from scoreboard.errors import Overloaded

QUEUE_MAX = 16
"""Who wait for a turn. At the usual 5 to 50 ms a turn it comes within the wait; more would only wait to be refused."""
WAIT_S = 1.0
RETRY_AFTER_S = 2.0


class Counted(Protocol):
    """A counter, such as those of the metrics."""

    def inc(self) -> None:
        """Count one more."""


class Lane:
    """Lets in so many at once.

    :param what: is done in it, for whoever is refused: "answers from the past".
    :param refused: counts those who were sent away.
    :ivar waiting: how many wait for a turn.
    """

    def __init__(
        self, what: str, at_once: int, refused: Counted, *, queue_max: int = QUEUE_MAX, wait_s: float = WAIT_S
    ) -> None:
        self._what = what
        self._refused = refused
        self._turns = asyncio.Semaphore(at_once)
        self._queue_max = queue_max
        self._wait_s = wait_s
        self.waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """A turn, in the order asked.

        :raises Overloaded: if too many wait already, or none was to be had in time.
        """
        if self.waiting >= self._queue_max:
            raise self._refuse()
        self.waiting += 1
        try:
            async with asyncio.timeout(self._wait_s):
                await self._turns.acquire()
        except TimeoutError as exc:
            raise self._refuse() from exc
        finally:
            self.waiting -= 1
        try:
            yield
        finally:
            self._turns.release()

    def _refuse(self) -> Overloaded:
        self._refused.inc()
        return Overloaded(
            f"too many {self._what} are being computed; ask again in {RETRY_AFTER_S:.0f} s",
            retry_after_s=RETRY_AFTER_S,
        )
