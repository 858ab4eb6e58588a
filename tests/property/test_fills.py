"""A window that is added to a board with a history is, row by row, what it would be had the board always had it."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreboard.model import WINDOWS, Action, Board, Submission
from tests.harness import Stores
from tests.property.test_machine import Parts

BEGAN_AT = datetime(2027, 3, 27, 22, 59, 59, tzinfo=UTC)
"""Shortly before a day of 23 hours in Berlin."""
Steps = list[tuple[int, list[tuple[str, int]] | int]]
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0, 0, 0, 3_600, 86_400]),  # seconds that pass before it
        st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(-2, 2)), min_size=1, max_size=3)  # a batch
        | st.integers(0, 9),  # or which event is made undone
    ),
    min_size=2,
    max_size=12,
)
OPERATORS = st.sampled_from([("sum", None), ("sum", 0), ("best", None), ("last", None)])
_boards = itertools.count(1)


@pytest.mark.timeout(300)
def test_a_window_that_is_filled_is_as_if_it_had_always_been_there(stores: Stores) -> None:
    parts = Parts(stores)

    @settings(max_examples=200)
    @given(how=OPERATORS, zone=st.sampled_from(["UTC", "Europe/Berlin"]), steps=STEPS, slice_events=st.integers(1, 9))
    def check(how: tuple[str, int | None], zone: str, steps: Steps, slice_events: int) -> None:
        number = next(_boards)
        always, later = f"always{number}", f"later{number}"

        def put(board: str, windows: tuple[str, ...]) -> None:
            parts.run(parts.ledger.put_board(Board(board, "", 0, 0, "", windows, "first", zone, datetime.min, *how)))

        for board, windows in ((always, WINDOWS), (later, ("all",))):
            put(board, windows)
            parts.run(parts.ledger.put_action(board, Action("free", None, 0, None, True, -2, 2)))
            play(parts, board, steps)
        put(later, WINDOWS)
        while not parts.execute(f"SELECT is_done FROM fill_windows('{later}', {slice_events})")[0]["is_done"]:
            pass
        assert totals(parts, later) == totals(parts, always)

    try:
        check()
    finally:
        parts.close()
        asyncio.set_event_loop(None)


def play(parts: Parts, board: str, steps: Steps) -> None:
    """Submit batches and make events undone, at times of the future that are the same for every board."""
    now, scores = BEGAN_AT, []
    for leap, what in steps:
        now += timedelta(seconds=leap)
        parts.set_time(board, now)
        if isinstance(what, list):
            asked = [Submission(board, user, "free", None, value) for user, value in what]
            scores += [ruling.seq for ruling in parts.run(parts.ledger.submit_scores(board, asked))]
        elif scores:
            parts.run(parts.ledger.revoke_event(board, scores[what % len(scores)], ""))


def totals(parts: Parts, board: str) -> list[tuple[object, ...]]:
    """The rows of every period, and how many play in each."""
    rows = parts.execute(
        "SELECT t.time_window, t.period, t.user_id, t.score, t.reached_seq, t.submissions, t.first_at, t.last_at, "
        f"t.hidden, p.players FROM totals t LEFT JOIN periods p USING (board_id, time_window, period) "
        f"WHERE t.board_id = '{board}' ORDER BY 1, 2, 3"
    )
    return [tuple(row) for row in rows]
