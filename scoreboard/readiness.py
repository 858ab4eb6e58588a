"""Whether this server can serve, found out within a deadline that is shorter than any prober's.

Each store is asked on a connection of its own, which nobody else can hold or fill. Whoever probes within REUSE_S of an
answer shares it, and whoever probes while the stores are asked waits for the same answer, so that any number of probes
costs ten questions a second. A store that does not answer within ANSWER_S counts as hanging; its connection is given
up, and the next probe opens a new one.

When it was this process that was late, because its event loop stood still, what has arrived meanwhile is looked at first:
the store is not to blame.
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Protocol

import msgspec

from scoreboard.errors import RanksUnavailable, Unavailable

ANSWER_S = 0.2
"""For both stores at once, connecting included. Readiness promises an answer within 0.3 s."""
REUSE_S = 0.1
LATE_S = 0.02
TURNS = 3
"""Of the event loop, in which what has arrived for a question becomes its answer."""


class Probe(Protocol):
    """A connection of its own to a store."""

    async def ask(self) -> None:
        """Return when the store answers, connecting first where needed."""

    def drop(self) -> None:
        """Give the connection up, at once."""


class Answering(msgspec.Struct, frozen=True):
    """Which stores answer."""

    postgresql: bool
    redis: bool


class Readiness:
    """Asks both stores, once for all who want to know."""

    def __init__(self, postgresql: Probe, redis: Probe, *, clock: Callable[[], float] = monotonic) -> None:
        self._probes = postgresql, redis
        self._clock = clock
        self._asking: asyncio.Task[Answering] | None = None
        self._found: Answering | None = None
        self._found_at = float("-inf")

    async def check(self) -> Answering:
        """Which stores answer now, within ANSWER_S."""
        if self._found is not None and self._clock() - self._found_at < REUSE_S:
            return self._found
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_both(), name="readiness")
        return await asyncio.shield(self._asking)

    def close(self) -> None:
        """Give both connections up."""
        for probe in self._probes:
            probe.drop()

    async def _ask_both(self) -> Answering:
        try:
            postgresql, redis = await asyncio.gather(*(_answers(probe, self._clock) for probe in self._probes))
            self._found, self._found_at = Answering(postgresql, redis), self._clock()
            return self._found
        finally:
            self._asking = None


async def _answers(probe: Probe, clock: Callable[[], float]) -> bool:
    """Whether a store answers in time."""
    asking = asyncio.create_task(probe.ask(), name="probe")
    due = clock() + ANSWER_S
    try:
        await asyncio.wait([asking], timeout=ANSWER_S)
        if not asking.done() and clock() - due > LATE_S:
            for _ in range(TURNS):
                await asyncio.sleep(0)
        if not asking.done():
            return False
        asking.result()
    except (Unavailable, RanksUnavailable):
        probe.drop()
        return False
    finally:
        if not asking.done():
            probe.drop()
            asking.cancel()
    return True
