"""The rate limit: shared through Redis, and by each server alone while Redis is away."""

import asyncio
from collections.abc import Callable

import pytest

from scoreboard.errors import RateLimited
from scoreboard.limits import Rate, RateLimiter
from scoreboard.ranks import Ranks

Run = Callable[..., object]
RATE = Rate(quota=5, window_s=60)


async def ask(limiter: RateLimiter, user: str, times: int) -> int:
    """How many of so many simultaneous requests were admitted."""
    answers = await asyncio.gather(*(limiter.admit(user) for _ in range(times)), return_exceptions=True)
    assert all(isinstance(answer, dict | RateLimited) for answer in answers)
    return sum(isinstance(answer, dict) for answer in answers)


def test_servers_share_the_count(run: Run, ranks: Ranks) -> None:
    async def both() -> list[int]:
        return await asyncio.gather(ask(RateLimiter(ranks, RATE), "a", 10), ask(RateLimiter(ranks, RATE), "a", 10))

    assert sum(run(both())) == 5


def test_users_do_not_share_it(run: Run, ranks: Ranks) -> None:
    limiter = RateLimiter(ranks, RATE)
    assert [run(ask(limiter, user, 7)) for user in "abc"] == [5, 5, 5]


def test_without_redis_each_server_counts_for_itself(run: Run) -> None:
    away = Ranks.open("redis://127.0.0.1:1/0")
    limiter = RateLimiter(away, RATE)
    assert run(ask(limiter, "a", 10)) == 5
    run(away.close())


def test_off_is_off(run: Run, ranks: Ranks) -> None:
    assert run(ask(RateLimiter(ranks, None), "a", 50)) == 50


def test_a_refusal_says_when_again(run: Run, ranks: Ranks) -> None:
    limiter = RateLimiter(ranks, RATE)
    run(ask(limiter, "a", 5))
    with pytest.raises(RateLimited) as refused:
        run(limiter.admit("a"))
    headers = refused.value.headers
    assert headers["RateLimit-Policy"] == '"user";q=5;w=60'
    assert 1 <= int(headers["Retry-After"]) <= 12
