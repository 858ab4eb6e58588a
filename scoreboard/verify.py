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

from scoreboard.database import BatchRefused
from scoreboard.errors import NotFound, UnknownTimezone
from scoreboard.ledger import Ledger
from scoreboard.model import ALL, WINDOWS, Board, Head, Scored, Standing, Standings
from scoreboard.ranks import PeriodOver, Ranks
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

Place = tuple[int, int, str]
"""What orders an entry: its negated score, the seq at which it was reached where that counts, and its user."""
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
        try:
            differences += await _verify_board(ledger, ranks, board, progress)
        except (UnknownTimezone, BatchRefused, NotFound) as exc:
            # Of this board, and of no other. One that can't be checked is not one that is right.
            differences.append(Difference(board.board_id, "can't be checked", str(exc)))
    return len(boards), differences


async def _verify_board(ledger: Ledger, ranks: Ranks, board: Board, progress: _Progress) -> list[Difference]:
    """Both comparisons at once: one waits for PostgreSQL most of the time, the other for Redis and us."""
    unfinished = await ledger.count_unfinished(board.board_id)
    if unfinished is not None:
        return [Difference(board.board_id, "import is unfinished", f"{unfinished} events are in, and not shown yet")]
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
    if row["players"] != row["shown"]:
        found.append(Difference(board, "players miscounted", f"{row['players']}, totals have {row['shown']}"))
    return found + await _verify_totals(ledger, board, row, advance) + await _verify_windows(ledger, board, row)


async def _verify_windows(ledger: Ledger, board: str, row: dict[str, Any]) -> list[Difference]:
    """What differs between a board's ledger, the totals of its windows' periods, and the counts of their users."""
    if (await ledger.read_board(board)).windows == (ALL,):
        return []
    found = []
    for period in await ledger.verify_periods(board, limit=DIFFERENCES_MAX):
        detail = f"{period['time_window']} {period['period']}: {period['players']}, totals have {period['shown']}"
        found.append(Difference(board, "players of a period miscounted", detail))
    async for user in _compare_parts(ledger.verify_windows, board, row, DIFFERENCES_MAX - len(found), _ignore):
        detail = (
            f"user {user['user_id']!r} in the {user['time_window']} of {user['period']}: events come to "
            f"{user['ledger_score']} over {user['ledger_events']}; total {user['total_score']} over "
            f"{user['total_submissions']}"
        )
        found.append(Difference(board, "total of a period is not the ledger's", detail))
    return found


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
    async for user in _compare_parts(ledger.verify_totals, board, row, DIFFERENCES_MAX, advance):
        detail = (
            f"user {user['user_id']!r}: events sum to {user['ledger_sum']} over {user['ledger_events']}, that "
            f"which reached it says {user['reached_score']}; total {user['total_score']} over "
            f"{user['total_submissions']}"
        )
        found.append(Difference(board, "total is not the ledger's sum", detail))
    return found


async def _compare_parts(
    compare: Callable[..., Awaitable[list[dict[str, Any]]]],
    board: str,
    row: dict[str, Any],
    limit: int,
    advance: Callable[[int], None],
) -> AsyncIterator[dict[str, Any]]:
    """What a statement that compares the totals of a part of the users finds in all parts, up to a limit."""
    parts = 1 + row["users"] // USERS_AT_ONCE
    for part in range(parts):
        if limit <= 0:
            return
        differing = await compare(board, part=part, parts=parts, limit=limit)
        for user in differing:
            yield user
        limit -= len(differing)
        advance(-(-row["last_seq"] // parts))


async def _verify_ranks(ledger: Ledger, ranks: Ranks, board: str, advance: Callable[[int], None]) -> list[Difference]:
    async with ledger.stream_totals(board) as (layout, totals):
        head = await _wait_for(lambda: ranks.read_head(board), lambda head: _has_reached(head, layout.head))
        lags = []
        if not _has_reached(head, layout.head):
            lags = [Difference(board, "ranking lags", f"it is at {head}, the ledger at {layout.head}")]
            if head is not None:
                return lags
        found: dict[tuple[str, str], Difference] = {}
        views = Views(totals)
        for period in (None, *layout.periods):
            window, first_day = (period.window, period.first_day) if period is not None else (ALL, "")
            async with read_ahead(ranks.read_slices(board, window, first_day)) as ranking:
                async for users in _find_suspects(views.of(window), ranking, advance if period is None else _ignore):
                    if period is None:
                        differences = await _compare_at_head(
                            ledger, ranks, board, users, layout.head, is_cold=head is None
                        )
                    else:
                        differences = await _compare_window(ledger, ranks, board, window, users)
                    found |= {(window, user): difference for user, difference in differences.items()}
                    if len(found) >= DIFFERENCES_MAX:
                        break
    return lags + [found[key] for key in sorted(found)][:DIFFERENCES_MAX]


def _ignore(done: int) -> None:
    """Windows are checked without being counted."""


class Views:
    """Splits a stream of one window's totals after the other's. To be read in their order."""

    def __init__(self, totals: AsyncIterator[tuple[str, list[Scored]]]) -> None:
        self._totals = totals
        self._next: tuple[str, list[Scored]] | None = None

    async def of(self, window: str) -> AsyncIterator[list[Scored]]:
        """The slices of a window; what is left of those before it is passed over."""
        while True:
            if self._next is None:
                self._next = await anext(self._totals, None)
            if self._next is None or WINDOWS.index(self._next[0]) > WINDOWS.index(window):
                return
            (found, entries), self._next = self._next, None
            if found == window:
                yield entries


def _has_reached(head: Head | None, position: Head) -> bool:
    """Whether a ranking shows at least a position of the ledger; nothing is needed to show that of an empty one."""
    if head is None:
        return position.seq == 0
    return head.epoch == position.epoch and head.seq >= position.seq


async def _find_suspects(
    totals: AsyncIterator[list[Scored]], ranking: AsyncIterator[list[Scored]], advance: Callable[[int], None]
) -> AsyncIterator[list[str]]:
    """Merge two streams of one order: users whose entry is not in both, as both are read, a portion at a time."""
    suspects: set[str] = set()
    left = await _next_places(totals)
    right = await _next_places(ranking)
    while left or right:
        # What is known of both goes up to here; where one has ended, that is the other's next slice.
        border = min(part[-1] for part in (left, right) if part)
        both = bisect_right(left, border), bisect_right(right, border)
        suspects.update(user for _, _, user in set(left[: both[0]]) ^ set(right[: both[1]]))
        advance(both[0])
        left = left[both[0] :] or await _next_places(totals)
        right = right[both[1] :] or await _next_places(ranking)
        while len(suspects) >= SUSPECTS_AT_ONCE:
            yield [suspects.pop() for _ in range(SUSPECTS_AT_ONCE)]
    if suspects:
        yield list(suspects)


async def _next_places(entries: AsyncIterator[list[Scored]]) -> list[Place]:
    """The next entries by what orders them; none at the end."""
    return [(-entry.score, entry.reached, entry.user_id) for entry in await anext(entries, [])]


async def _compare_at_head(
    ledger: Ledger, ranks: Ranks, board: str, users: list[str], position: Head, *, is_cold: bool
) -> dict[str, Difference]:
    """Compare users at one moment of the ranking; where it has no valid head, as it is with a position of the ledger.

    :return: what differs, by user.
    """
    aged = None
    if not is_cold:  # it may be lost only now: then a server that is up brings it back
        aged = await _wait_for(lambda: ranks.read_users(board, users), lambda aged: aged is not None)
    if aged is not None and aged.standings is not None:
        seq = aged.position.seq
        ranked = {user: place.score for user, place in zip(users, aged.standings.users, strict=True) if place}
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


async def _compare_window(
    ledger: Ledger, ranks: Ranks, board: str, window: str, users: list[str]
) -> dict[str, Difference]:
    """Compare users in a window's current period, when ranking and totals are seen at the same position.

    On a board that never rests for long enough nothing is told of those who move.
    """

    async def ask() -> tuple[Standings | None, Standings]:
        try:
            aged = await ranks.read_users(board, users, window)
        except PeriodOver:
            aged = None
        return aged.standings if aged is not None else None, await ledger.read_standings(board, users, window)

    def is_same_moment(asked: tuple[Standings | None, Standings]) -> bool:
        ranked, expected = asked
        return ranked is not None and (ranked.position, ranked.period) == (expected.position, expected.period)

    asked = await _wait_for(ask, is_same_moment)
    ranked, expected = asked
    found: dict[str, Difference] = {}
    if ranked is None or not is_same_moment(asked):
        return found
    for user, has, wanted in zip(users, ranked.users, expected.users, strict=True):
        if has != wanted:
            detail = f"user {user!r} in the {window}: {_show(has)} in the ranking, {_show(wanted)} by the totals"
            found[user] = Difference(board, "ranking of a period is not the ledger", detail)
    return found


def _show(standing: Standing | None) -> str:
    return "nothing" if standing is None else f"{standing.score} at rank {standing.rank}"


async def _wait_for(ask: Callable[[], Awaitable[T]], is_good: Callable[[T], bool]) -> T:
    """Ask until the answer is good, for at most LAG_WAIT_S; the last answer."""
    deadline = monotonic() + LAG_WAIT_S
    while True:
        answer = await ask()
        if is_good(answer) or monotonic() > deadline:
            return answer
        await asyncio.sleep(POLL_S)
