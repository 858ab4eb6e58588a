"""Boards of different sizes: made in PostgreSQL directly, then ranked and served by the server itself.

A board of a million users has a ledger with an event of each. Filling one by submissions would take minutes and
measure nothing new; `scoreboard verify` says afterwards whether what was made is a board as the server makes them.
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any

import asyncpg
from redis.asyncio import Redis

from bench.server import Server

FILL_TIMEOUT_S = 600.0
RANKED_TIMEOUT_S = 120.0
POLL_S = 0.1
HEAD, ALL = "sb:{global}:head", "sb:{global}:all"
# Event n belongs to user n modulo the number of users, and is worth the same as all events of that user.
EVENTS = """
INSERT INTO ledger (board_id, seq, user_id, action_id, points, score_after, idempotency_key, at)
SELECT 'global', n, 'user-' || n % $1::bigint, 'win', 1 + n % $1 % 1000, (1 + n % $1 % 1000) * (1 + (n - 1) / $1),
       md5(n::text), '2026-01-01'::timestamptz + n / 10 * interval '10 ms'
FROM generate_series(1, $2::bigint) n
"""
TOTALS = """
INSERT INTO totals (board_id, time_window, period, user_id, score, reached_seq, submissions, first_at, last_at)
SELECT 'global', 'all', '-infinity', user_id, max(score_after), max(seq), count(*), min(at), max(at)
FROM ledger
WHERE board_id = 'global'
GROUP BY user_id
"""
BOARD = """
UPDATE boards
SET seq = $1, players = $2, last_at = last.at, clock_at = last.at
FROM (SELECT at FROM ledger WHERE board_id = 'global' AND seq = $1) last
WHERE board_id = 'global'
"""


async def fill_board(database_url: str, *, users: int, events: int) -> float:
    """Give the board ``global`` of a fresh database so many users and events; the seconds it took."""
    began = monotonic()
    connection = await asyncpg.connect(database_url, command_timeout=FILL_TIMEOUT_S)
    try:
        async with connection.transaction():
            await connection.execute(EVENTS, users, events)
            await connection.execute(TOTALS)
            await connection.execute(BOARD, events, users)
        await connection.execute("VACUUM (ANALYZE) ledger, totals, boards")  # as a board that grew by itself has had
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
    return monotonic() - began


async def wait_for_ranking(redis_url: str, users: int) -> dict[str, Any]:
    """Wait until the server has ranked everybody; the seconds that took, and Redis' memory for a user."""
    began = monotonic()
    client = Redis.from_url(redis_url, driver_info=None)
    try:
        while int(await client.hget(HEAD, "size") or 0) < users:
            if monotonic() - began > RANKED_TIMEOUT_S:
                raise TimeoutError(f"{users} users were not ranked within {RANKED_TIMEOUT_S:g} s")
            await asyncio.sleep(POLL_S)
        took = monotonic() - began
        return {"ranked_s": took, "redis_bytes": await client.memory_usage(ALL, samples=0) / users}
    finally:
        await client.aclose()


def grow(server: Server, ask: Callable[[Server], object], *, users: int, events: int) -> dict[str, Any]:
    """Fill a server's board and wait until it is ranked.

    :param ask: reads the board: a server looks after those that are in use.
    """
    filled_s = asyncio.run(fill_board(server.database_url, users=users, events=events))
    ask(server)
    return {"filled_s": filled_s} | asyncio.run(wait_for_ranking(server.redis_url, users))
