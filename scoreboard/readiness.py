"""Whether this server can serve, found out within a deadline that is shorter than any prober's.

Each store is asked on a connection of its own, which nobody else can hold or fill. Whoever probes while the stores are
asked shares the answer, and the next question comes PAUSE_S later, so that any number of probes costs 50 questions a
second. No answer is given again later: what was so a moment ago may be what ended just now. A store that does not
answer within ANSWER_S counts as hanging; its connection is given up, and the next probe opens a new one.

When it was this process that was late, because its event loop stood still, the store is not to blame: the loop takes in
what has arrived meanwhile before it looks at its timers.
"""

import asyncio
from time import monotonic
from typing import Protocol

import msgspec

from scoreboard.errors import RanksUnavailable, Unavailable

ANSWER_S = 0.2
"""For both stores at once, connecting included. Readiness promises an answer within 0.3 s."""
PAUSE_S = 0.02


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

    def __init__(self, postgresql: Probe, redis: Probe) -> None:
        self._probes = postgresql, redis
        self._asking: asyncio.Task[Answering] | None = None
        self._asked_at = float("-inf")

    async def check(self) -> Answering:
        """Which stores answer now, within PAUSE_S and ANSWER_S."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask_both(), name="readiness")
        return await asyncio.shield(self._asking)

    async def _ask_both(self) -> Answering:
        try:
            pause_s = self._asked_at + PAUSE_S - monotonic()
            if pause_s > 0:
                await asyncio.sleep(pause_s)
            self._asked_at = monotonic()
            return Answering(*await asyncio.gather(*(_answers(probe) for probe in self._probes)))
        finally:
            self._asking = None


async def _answers(probe: Probe) -> bool:
    """Whether a store answers in time."""
    asking = asyncio.create_task(probe.ask(), name="probe")
    try:
        await asyncio.wait([asking], timeout=ANSWER_S)
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
