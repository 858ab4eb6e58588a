"""How long the event loop stood still: while one thing holds it, everybody waits.

A timer that comes late tells. That costs a few microseconds 40 times a second, and misses at most PULSE_S of a stall.
"""

import asyncio
from time import monotonic

import structlog

from scoreboard.metrics import Metrics

PULSE_S = 0.025
WARN_S = 0.25
"""A stall as long as this is logged: by then a probe may have given up."""
SPAN_S = 30.0
"""The longest stall is that of the present span of time and the one before."""

log = structlog.get_logger(__name__)


class Stalls:
    """Watches the loop that it runs on."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._longest, self._longest_before = 0.0, 0.0
        self._span_ends = monotonic() + SPAN_S
        metrics.watch(
            "loop_stall_seconds_max",
            f"Longest time for which the event loop stood still within the last {SPAN_S:.0f} to {2 * SPAN_S:.0f} s",
            lambda: max(self._longest, self._longest_before),
        )

    async def watch(self) -> None:
        """Measure until cancelled."""
        due = monotonic() + PULSE_S
        while True:
            await asyncio.sleep(max(0.0, due - monotonic()))
            now = monotonic()
            self._note(now - due, now)
            due = monotonic() + PULSE_S

    def forget(self) -> None:
        """Begin anew: what came before concerned nobody."""
        self._longest = self._longest_before = 0.0

    def _note(self, late_s: float, now: float) -> None:
        if now > self._span_ends:
            self._longest_before, self._longest = self._longest, 0.0
            self._span_ends = now + SPAN_S
        self._longest = max(self._longest, late_s)
        self._metrics.loop_stall_seconds.observe(late_s)
        if late_s > WARN_S:
            log.warning("loop_stalled", seconds=round(late_s, 3))
