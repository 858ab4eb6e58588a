"""The per-user rate limit on submissions: generic cell rate algorithm, counted in Redis for all servers together.

Requests that arrive while a check is under way share the next script call, as submissions share a transaction. When
Redis is away each server counts by itself, so the limit is per server until Redis is back.

Source: ITU-T I.371 (generic cell rate algorithm).
"""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from time import monotonic

import msgspec

from scoreboard.errors import Overloaded, RanksUnavailable, RateLimited
from scoreboard.ranks import Ranks

BATCH_MAX = 500
WAITING_MAX = 20_000
LOCAL_USERS_MAX = 100_000


class Rate(msgspec.Struct, frozen=True):
    """``quota`` requests in ``window_s`` seconds; the whole quota may come at once."""

    quota: int
    window_s: int

    @property
    def interval_us(self) -> int:
        """Microseconds that one request costs, at least 1."""
        return max(1, self.window_s * 1_000_000 // self.quota)


class Admission(msgspec.Struct, frozen=True):
    """Whether a request may go on, how many more may now, and how long to wait for the next or for all."""

    admitted: bool
    remaining: int
    wait_us: int


class RateLimiter:
    """Admits submissions by user. :param rate: None turns the limit off."""

    def __init__(self, ranks: Ranks, rate: Rate | None) -> None:
        self._ranks = ranks
        self._rate = rate
        self._waiting: list[tuple[str, asyncio.Future[Admission]]] = []
        self._flusher: asyncio.Task[None] | None = None
        self._local = LocalRates(rate) if rate else None

    async def admit(self, user_id: str) -> dict[str, str]:
        """Count one submission of the user; returns the answer's RateLimit headers.

        :raises RateLimited: if the user's quota is used up.
        :raises Overloaded: if too many requests wait for the check.
        """
        if self._rate is None:
            return {}
        admission = await self._ask(user_id)
        if not admission.admitted:
            raise self._refuse(user_id, admission)
        return {"RateLimit": f'"user";r={admission.remaining};t={-(-admission.wait_us // 1_000_000)}'}

    async def admit_all(self, users: Sequence[str]) -> list[RateLimited | None]:
        """Count a submission of each user, in order; None for those that may go on.

        :raises Overloaded: if too many requests wait for the check.
        """
        if self._rate is None:
            return [None] * len(users)
        admissions = await asyncio.gather(*[self._ask(user) for user in users])
        return [None if a.admitted else self._refuse(user, a) for user, a in zip(users, admissions, strict=True)]

    def _ask(self, user_id: str) -> "asyncio.Future[Admission]":
        if len(self._waiting) >= WAITING_MAX:
            raise Overloaded(
                f"{WAITING_MAX} requests are waiting for the check of the rate limit; repeat this one later"
            )
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.create_task(self._flush(), name="rate-limiter")
        # The task knows its loop; in Python 3.11 asking for the running one is a system call, 3 % of a submission.
        future: asyncio.Future[Admission] = self._flusher.get_loop().create_future()
        self._waiting.append((user_id, future))
        return future

    def _refuse(self, user_id: str, admission: Admission) -> RateLimited:
        assert self._rate is not None
        return RateLimited(
            f"user {user_id!r} is over {self._rate.quota} submissions in {self._rate.window_s} s",
            retry_after_s=admission.wait_us / 1e6,
            quota=self._rate.quota,
            window_s=self._rate.window_s,
        )

    async def _flush(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
            for (_, future), admission in zip(batch, await self._check([user for user, _ in batch]), strict=True):
                if not future.done():
                    future.set_result(admission)

    async def _check(self, users: list[str]) -> list[Admission]:
        assert self._rate is not None
        assert self._local is not None
        if self._ranks.available:  # else requests would wait one after another to find out
            try:
                answers = await self._ranks.check_rates(
                    users, interval_us=self._rate.interval_us, burst=self._rate.quota
                )
                return [Admission(*answer) for answer in answers]
            except RanksUnavailable:
                pass
        return [self._local.admit(user) for user in users]


class LocalRates:
    """The same algorithm in this process, for the users seen last. :param keys_max: that are remembered."""

    def __init__(self, rate: Rate, keys_max: int = LOCAL_USERS_MAX) -> None:
        self._rate = rate
        self._keys_max = keys_max
        self._arrivals: OrderedDict[str, int] = OrderedDict()

    def admit(self, user_id: str) -> Admission:
        """Count one request of the user."""
        now_us = int(monotonic() * 1_000_000)
        interval_us = self._rate.interval_us
        span_us = interval_us * self._rate.quota
        arrival = max(self._arrivals.get(user_id, now_us), now_us) + interval_us
        if arrival - now_us > span_us:
            return Admission(False, 0, arrival - now_us - span_us)
        self._arrivals[user_id] = arrival
        self._arrivals.move_to_end(user_id)
        if len(self._arrivals) > self._keys_max:
            self._arrivals.popitem(last=False)
        return Admission(True, (span_us - (arrival - now_us)) // interval_us, arrival - now_us)

    def look(self, user_id: str) -> int:
        """Microseconds until a request of the user would be admitted; 0 if it would be now. Nothing is counted."""
        arrival = self._arrivals.get(user_id)
        if arrival is None:  # like most
            return 0
        now_us = int(monotonic() * 1_000_000)
        interval_us = self._rate.interval_us
        return max(0, max(arrival, now_us) + interval_us - now_us - interval_us * self._rate.quota)
