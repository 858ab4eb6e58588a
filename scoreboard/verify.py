"""Holds everything against everything: ledger sums = totals = ranking, seq gapless, for every board.

Works beside running servers and on boards of any size: everything is read in slices, and nothing is loaded whole.
The totals of a part of the users are compared with the ledger in one statement. The ranking is merged with the totals,
two streams of one order. It moves on meanwhile, so a user who seems to differ is compared again, at a position: the
ranking's score with its head, and the ledger's score at that same seq.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Awaitable, Callable
from time import monotonic
from typing import Any, TypeVar

import msgspec

from scoreboard.ledger import Ledger
from scoreboard.model import Board, Head
from scoreboard.ranks import Ranks
from scoreboard.tasks import end_tasks, read_ahead

DIFFERENCES_MAX = 100
"""Differences listed of one kind on one board."""
LAG_WAIT_S = 5.0
POLL_S = 0.05
SUSPECTS_AT_ONCE = 1_000
SLICE_EVENTS = 20_000
"""Events that one statement compares: 10 to 200 ms of PostgreSQL and a few MB."""
USERS_AT_ONCE = 100_000
"""Users whose totals one statement compares: some tens of MB of PostgreSQL."""

Entry = tuple[str, int]
T = TypeVar("T")


class Difference(msgspec.Struct, frozen=True):
    """Something that should be equal and is not."""

    board: str
    what: str
    detail: str


class _Progress:
    """Counts what was checked, part by part; a part never counts more than was announced of it."""

    def __init__(self, total: int, report: Callable[[int, int], None]) -> None:
        self._total = total
        self._done = 0
        self._report = report

    def part(self, checks: int) -> Callable[[int], None]:
        """A function to call with every number of checks done; what is checked beyond is written meanwhile."""
        left = checks

        def advance(done: int) -> None:
            nonlocal left
            done = min(done, left)
            left -= done
            self._done += done
            self._report(self._done, self._total)

        return advance


async def verify(
    ledger: Ledger, ranks: Ranks, report: Callable[[int, int], None] = lambda done, total: None
) -> tuple[int, list[Difference]]:
    """Check every board; how many there are, and what differs.

    :param report: called now and then with the checks done and their total.
    :raises Unavailable, RanksUnavailable: if a store does not answer.
    """
    boards = await ledger.list_all_boards()
    progress = _Progress(sum(2 * board.seq + board.players for board in boards), report)
    differences: list[Difference] = []
    for board in boards:
        differences += await _verify_board(ledger, ranks, board, progress)
    return len(boards), differences


async def _verify_board(ledger: Ledger, ranks: Ranks, board: Board, progress: _Progress) -> list[Difference]:
    """Both comparisons at once: one waits for PostgreSQL most of the time, the other for Redis and us."""
    checks = [
        verify_ledger(ledger, board.board_id, progress.part(2 * board.seq)),
        _verify_ranks(ledger, ranks, board.board_id, progress.part(board.players)),
    ]
    tasks = [asyncio.create_task(check, name=f"verify:{board.board_id}") for check in checks]
    try:
        return [difference for found in await asyncio.gather(*tasks) for difference in found]
    finally:
        await end_tasks(tasks)


async def verify_ledger(
    ledger: Ledger, board: str, advance: Callable[[int], None] = lambda done: None
) -> list[Difference]:
    """What differs between a board's row, its ledger and its totals.

    :param advance: called with the number of events after every slice of them; each event is checked twice.
    :raises NotFound: if there is no such board.
    """
    row: dict[str, Any] = await ledger.verify_head(board)
    found = []
    events, disordered = await _count_events(ledger, board, row["last_seq"], advance)
    if not row["head"] == events == row["last_seq"]:
        detail = f"{events} events, last seq {row['last_seq']}, head {row['head']}"
        found.append(Difference(board, "ledger has gaps", detail))
    if disordered:
        found.append(Difference(board, "ledger times fall", f"{disordered} events before the previous one"))
    if not row["is_last_at"]:
        found.append(Difference(board, "head has another time", "its last_at is not the time of the last event"))
    if row["players"] != row["users"]:
        found.append(Difference(board, "players miscounted", f"{row['players']}, totals have {row['users']}"))
    return found + await _verify_totals(ledger, board, row, advance)


async def _count_events(ledger: Ledger, board: str, last_seq: int, advance: Callable[[int], None]) -> tuple[int, int]:
    """The number of events up to a seq, and how many of them are before the previous one."""
    events = disordered = after = 0
    while after < last_seq:
        count, after, fallen = await ledger.verify_events(board, after=after, through=last_seq, limit=SLICE_EVENTS)
        if not count:
            break
        events += count
        disordered += fallen
        advance(count)
    return events, disordered


async def _verify_totals(
    ledger: Ledger, board: str, row: dict[str, Any], advance: Callable[[int], None]
) -> list[Difference]:
    found: list[Difference] = []
    parts = 1 + row["users"] // USERS_AT_ONCE
    for part in range(parts):
        limit = DIFFERENCES_MAX - len(found)
        for user in await ledger.verify_totals(board, part=part, parts=parts, limit=limit):
            detail = (
                f"user {user['user_id']!r}: events sum to {user['ledger_sum']} over {user['ledger_events']}, the last "
                f"says {user['last_score_after']}; total {user['total_score']} over {user['total_submissions']}"
            )
            found.append(Difference(board, "total is not the ledger's sum", detail))
        advance(-(-row["last_seq"] // parts))
        if len(found) >= DIFFERENCES_MAX:
            break
    return found


async def _verify_ranks(ledger: Ledger, ranks: Ranks, board: str, advance: Callable[[int], None]) -> list[Difference]:
    async with ledger.stream_totals(board) as (position, totals):
        head = await _wait_for(lambda: ranks.read_head(board), lambda head: _has_reached(head, position))
        lags = []
        if not _has_reached(head, position):
            lags = [Difference(board, "ranking lags", f"it is at {head}, the ledger at {position}")]
            if head is not None:
                return lags
        found: dict[str, Difference] = {}
        async with read_ahead(ranks.read_slices(board)) as ranking:
            async for users in _find_suspects(totals, ranking, advance):
                found |= await _compare_at_head(ledger, ranks, board, users, position, is_cold=head is None)
                if len(found) >= DIFFERENCES_MAX:
                    break
    return lags + [found[user] for user in sorted(found)][:DIFFERENCES_MAX]


def _has_reached(head: Head | None, position: Head) -> bool:
    """Whether a ranking shows at least a position of the ledger; nothing is needed to show that of an empty one."""
    if head is None:
        return position.seq == 0
    return head.epoch == position.epoch and head.seq >= position.seq


async def _find_suspects(
    totals: AsyncIterator[list[Entry]], ranking: AsyncIterator[list[Entry]], advance: Callable[[int], None]
) -> AsyncIterator[list[str]]:
    """Merge two streams of one order: users whose entry is not in both, as both are read, a portion at a time."""
    suspects: set[str] = set()
    left: list[Entry] = await anext(totals, [])
    right: list[Entry] = await anext(ranking, [])
    while left or right:
        # What is known of both goes up to here; where one has ended, that is the other's next slice.
        border = min(_place(part[-1]) for part in (left, right) if part)
        both = bisect_right(left, border, key=_place), bisect_right(right, border, key=_place)
        suspects.update(user for user, _ in set(left[: both[0]]) ^ set(right[: both[1]]))
        advance(both[0])
        left = left[both[0] :] or await anext(totals, [])
        right = right[both[1] :] or await anext(ranking, [])
        while len(suspects) >= SUSPECTS_AT_ONCE:
            yield [suspects.pop() for _ in range(SUSPECTS_AT_ONCE)]
    if suspects:
        yield list(suspects)


def _place(entry: Entry) -> tuple[int, str]:
    user, score = entry
    return -score, user


async def _compare_at_head(
    ledger: Ledger, ranks: Ranks, board: str, users: list[str], position: Head, *, is_cold: bool
) -> dict[str, Difference]:
    """Compare users at one moment of the ranking; where it has no valid head, as it is with a position of the ledger.

    :return: what differs, by user.
    """
    aged = None
    if not is_cold:  # it may be lost only now: then a server that is up brings it back
        aged = await _wait_for(lambda: ranks.read_users(board, users), lambda aged: aged is not None)
    if aged is not None:
        seq = aged.position.seq
        ranked = {user: place.score for user, place in zip(users, aged.standings, strict=True) if place}
    else:
        seq = position.seq
        ranked = await ranks.read_scores(board, users)
    expected = await ledger.read_scores_at(board, users, seq)
    found = {}
    for user in users:
        if ranked.get(user) != expected.get(user):
            detail = f"user {user!r} at seq {seq}: ranked with {ranked.get(user)}, the ledger says {expected.get(user)}"
            found[user] = Difference(board, "ranking is not the ledger", detail)
    return found


async def _wait_for(ask: Callable[[], Awaitable[T]], is_good: Callable[[T], bool]) -> T:
    """Ask until the answer is good, for at most LAG_WAIT_S; the last answer."""
    deadline = monotonic() + LAG_WAIT_S
    while True:
        answer = await ask()
        if is_good(answer) or monotonic() > deadline:
            return answer
        await asyncio.sleep(POLL_S)
