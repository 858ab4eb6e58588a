"""Holds everything against everything: ledger sums = totals = ranking, seq gapless, for every board.

Works beside running servers. The ledger and the totals are compared in one statement each. The ranking moves on
meanwhile, so a user who seems to differ is compared again, at a position: the ranking's score with its head, and the
ledger's score at that same seq.
"""

import asyncio
from time import monotonic
from typing import Any

import msgspec

from scoreboard.errors import NotFound
from scoreboard.ledger import Ledger
from scoreboard.ranks import Ranks

DIFFERENCES_MAX = 100
"""Differences listed of one kind on one board."""
LAG_WAIT_S = 5.0
POLL_S = 0.05
SUSPECTS_AT_ONCE = 1_000


class Difference(msgspec.Struct, frozen=True):
    """Something that should be equal and is not."""

    board: str
    what: str
    detail: str


async def verify(ledger: Ledger, ranks: Ranks) -> tuple[int, list[Difference]]:
    """Check every board; how many there are, and what differs.

    :raises Unavailable, RanksUnavailable: if a store does not answer.
    """
    boards = await ledger.list_all_boards()
    differences: list[Difference] = []
    for board in boards:
        differences += await _verify_ledger(ledger, board)
        differences += await _verify_ranks(ledger, ranks, board)
    return len(boards), differences


async def _verify_ledger(ledger: Ledger, board: str) -> list[Difference]:
    counts: dict[str, Any] = await ledger.verify_ledger(board)
    found = []
    if not counts["head"] == counts["events"] == counts["last_seq"]:
        detail = f"{counts['events']} events, last seq {counts['last_seq']}, head {counts['head']}"
        found.append(Difference(board, "ledger has gaps", detail))
    if counts["disordered"]:
        found.append(Difference(board, "ledger times fall", f"{counts['disordered']} events before the previous one"))
    if counts["players"] != counts["users"]:
        found.append(Difference(board, "players miscounted", f"{counts['players']}, totals have {counts['users']}"))
    for row in await ledger.verify_totals(board, limit=DIFFERENCES_MAX):
        detail = (
            f"user {row['user_id']!r}: events sum to {row['ledger_sum']} over {row['ledger_events']}, "
            f"the last says {row['last_score_after']}; total {row['total_score']} over {row['total_submissions']}"
        )
        found.append(Difference(board, "total is not the ledger's sum", detail))
    return found


async def _verify_ranks(ledger: Ledger, ranks: Ranks, board: str) -> list[Difference]:
    async with ledger.stream_totals(board) as (position, slices):
        expected = {user: score async for part in slices for user, score in part}
    deadline = monotonic() + LAG_WAIT_S
    while (head := await ranks.read_head(board)) is None or head.epoch != position.epoch or head.seq < position.seq:
        if monotonic() > deadline:
            if head is None and position.seq == 0:
                return []  # never used: there is nothing to rank
            return [Difference(board, "ranking lags", f"it is at {head}, the ledger at {position}")]
        await asyncio.sleep(POLL_S)
    actual = {user: score async for part in ranks.read_slices(board) for user, score in part}
    suspects = [user for user in expected.keys() | actual.keys() if expected.get(user) != actual.get(user)]
    found: list[Difference] = []
    for start in range(0, len(suspects), SUSPECTS_AT_ONCE):
        found += await _compare_at_head(ledger, ranks, board, suspects[start : start + SUSPECTS_AT_ONCE])
        if len(found) >= DIFFERENCES_MAX:
            break
    return found[:DIFFERENCES_MAX]


async def _compare_at_head(ledger: Ledger, ranks: Ranks, board: str, users: list[str]) -> list[Difference]:
    aged = await ranks.read_users(board, users)
    if aged is None:
        raise NotFound(f"the ranking of {board!r} vanished while it was verified")
    seq = aged.position.seq
    expected = await ledger.read_scores_at(board, users, seq)
    found = []
    for user, standing in zip(users, aged.standings, strict=True):
        ranked = standing.score if standing else None
        if ranked != expected.get(user):
            detail = f"user {user!r} at seq {seq}: ranked with {ranked}, the ledger says {expected.get(user)}"
            found.append(Difference(board, "ranking is not the ledger", detail))
    return found
