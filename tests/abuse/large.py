"""Boards that are large at once: written straight into the database, as they would be after days of play."""

from dataclasses import dataclass

from tests.harness import Stores

LEVELS = 5_000
"""Different scores, so that there are ties."""
_SETTINGS = """
INSERT INTO boards (board_id, windows, ties, seq, players, last_at, clock_at)
SELECT $1, '{all,day}', $2, 2 * $3::bigint, $3, days.today, days.today
FROM (SELECT date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS today) days
"""
_LEDGER = """
INSERT INTO ledger (board_id, seq, user_id, action_id, points, score_after, day_after, at)
SELECT $1, n, 'user' || lpad((1 + (n - 1) % $2)::text, 7, '0'), 'win', 1 + (n - 1) % $2 % $3::bigint,
       (1 + (n - 1) / $2) * (1 + (n - 1) % $2 % $3), 1 + (n - 1) % $2 % $3,
       days.today - (n <= $2)::int * interval '1 day'
FROM generate_series(1, 2 * $2::bigint) n,
     (SELECT date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' AS today) days
"""
_TOTALS = """
INSERT INTO totals (board_id, time_window, period, user_id, score, reached_seq, submissions, first_at, last_at)
SELECT l.board_id, w.name, CASE w.name WHEN 'all' THEN '-infinity' ELSE (l.at AT TIME ZONE 'UTC')::date END, l.user_id,
       sum(l.points), max(l.seq), count(*), min(l.at), max(l.at)
FROM ledger l CROSS JOIN (VALUES ('all'), ('day')) w (name)
WHERE l.board_id = $1
GROUP BY 1, 2, 3, 4
"""
_PERIODS = """
INSERT INTO periods (board_id, time_window, period, players)
SELECT board_id, time_window, period, count(*)
FROM totals
WHERE board_id = $1 AND time_window <> 'all'
GROUP BY 1, 2, 3
"""
_ACTION = "INSERT INTO actions (board_id, action_id, points) VALUES ($1, 'win', 1)"
_DAYS = (
    "SELECT (now() AT TIME ZONE 'UTC')::date::text AS today, ((now() AT TIME ZONE 'UTC')::date - 1)::text AS yesterday"
)


@dataclass(frozen=True)
class LargeBoard:
    """A board with as many users on each of two days."""

    name: str
    users: int
    today: str
    yesterday: str

    def user(self, number: int) -> str:
        """The user of a number from 1: the higher, the better, within each LEVELS users."""
        return f"user{number:07}"

    def lowest(self, count: int, *, skip: int = 0) -> list[str]:
        """Users of the lowest scores, each set without the ones before it."""
        per_level = self.users // LEVELS or 1
        numbers = [1 + level + LEVELS * each for level in range(LEVELS) for each in range(per_level)]
        return [self.user(number) for number in numbers[skip : skip + count]]


def fill_board(stores: Stores, name: str, users: int, *, ties: str = "shared", analyze: bool = True) -> LargeBoard:
    """Make the board in a migrated database. Servers find its ranking missing and build it."""
    stores.query(_SETTINGS, name, ties, users)
    stores.query(_LEDGER, name, users, LEVELS)
    stores.query(_TOTALS, name)
    stores.query(_PERIODS, name)
    stores.query(_ACTION, name)
    if analyze:
        stores.query("ANALYZE ledger, totals, periods, boards")
    (days,) = stores.query(_DAYS)
    return LargeBoard(name, users, days["today"], days["yesterday"])


_GROUP = """
WITH made AS (INSERT INTO groups (board_id, group_id, members) VALUES ($1, $2, $4))
INSERT INTO group_members (board_id, group_id, user_id)
SELECT $1, $2, 'user' || lpad(n::text, 7, '0')
FROM generate_series($3::int, $3::int + $4::int - 1) n
"""


def fill_group(stores: Stores, board: LargeBoard, group: str, *, first: int = 1, members: int) -> None:
    """Make a group of users whose numbers follow each other."""
    stores.query(_GROUP, board.name, group, first, members)
