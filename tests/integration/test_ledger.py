"""The batch function and the queries beside it."""

import asyncio
from collections.abc import Callable
from datetime import datetime

import pytest

from scoreboard.database import BatchRefused
from scoreboard.errors import NotFound
from scoreboard.ledger import Ledger
from scoreboard.model import SCORE_MAX, Action, Board, Cursor, Ruling, Submission
from scoreboard.verify import verify_ledger
from tests.harness import Stores

Run = Callable[..., object]


def asks(*triples: tuple[str, str, str | None], board: str = "global") -> list[Submission]:
    return [Submission(board, user, action, key) for user, action, key in triples]


def outcomes(rulings: list[Ruling]) -> list[str]:
    return [ruling.outcome for ruling in rulings]


def test_a_batch_is_numbered_in_order_and_summed_by_user(run: Run, ledger: Ledger) -> None:
    rulings = run(ledger.submit_scores("global", asks(("a", "win", None), ("b", "win", None), ("a", "win", None))))
    assert [(r.outcome, r.seq, r.points, r.score) for r in rulings] == [
        ("recorded", 1, 10, 10),
        ("recorded", 2, 10, 10),
        ("recorded", 3, 10, 20),
    ]
    assert len({ruling.at for ruling in rulings}) == 1


def test_a_bad_submission_does_not_touch_the_others(run: Run, ledger: Ledger) -> None:
    run(ledger.put_action("global", Action("off", 1, 0, None, False)))
    rulings = run(
        ledger.submit_scores(
            "global", asks(("a", "win", None), ("a", "nope", None), ("a", "off", None), ("b", "win", None))
        )
    )
    assert outcomes(rulings) == ["recorded", "unknown_action", "action_disabled", "recorded"]
    assert [ruling.seq for ruling in rulings] == [1, 0, 0, 2]


def test_a_key_has_one_effect(run: Run, ledger: Ledger) -> None:
    first = run(ledger.submit_scores("global", asks(("a", "win", "k"))))[0]
    run(ledger.submit_scores("global", asks(("a", "win", None))))
    again = run(ledger.submit_scores("global", asks(("a", "win", "k"), ("b", "win", "k"))))
    assert outcomes(again) == ["replayed", "recorded"]
    assert (again[0].seq, again[0].points, again[0].score, again[0].at) == (first.seq, 10, 10, first.at)


def test_a_key_of_another_action_or_board_is_a_mismatch(run: Run, ledger: Ledger) -> None:
    run(ledger.put_action("global", Action("lose", -1, 0, None, True)))
    run(ledger.put_board(Board("other", "", 0, 0, "", ("all",), "shared", "UTC", datetime.min)))
    run(ledger.put_action("other", Action("win", 10, 0, None, True)))
    run(ledger.submit_scores("global", asks(("a", "win", "k"))))
    assert outcomes(run(ledger.submit_scores("global", asks(("a", "lose", "k"))))) == ["idempotency_mismatch"]
    assert outcomes(run(ledger.submit_scores("other", asks(("a", "win", "k"))))) == ["idempotency_mismatch"]


def test_one_key_twice_in_a_batch_fails_it_whole(run: Run, ledger: Ledger) -> None:
    with pytest.raises(BatchRefused):
        run(ledger.submit_scores("global", asks(("a", "win", "k"), ("a", "win", "k"))))
    head, _ = run(ledger.read_heads({"global": []}))["global"]
    assert (head.seq, head.at) == (0, "")


def test_a_score_beyond_the_limit_fails_a_batch_and_is_ruled_invalid_alone(run: Run, ledger: Ledger) -> None:
    run(ledger.put_action("global", Action("max", SCORE_MAX, 0, None, True)))
    with pytest.raises(BatchRefused):
        run(ledger.submit_scores("global", asks(("a", "max", None), ("a", "max", None))))
    assert outcomes(run(ledger.submit_scores("global", asks(("a", "max", None))))) == ["recorded"]
    assert outcomes(run(ledger.submit_scores("global", asks(("a", "win", None))))) == ["invalid"]


def test_a_cooldown_admits_the_first_of_a_batch_and_says_when_again(run: Run, ledger: Ledger) -> None:
    run(ledger.put_action("global", Action("daily", 1, 3_600, None, True)))
    rulings = run(ledger.submit_scores("global", asks(*[("a", "daily", None)] * 3, ("b", "daily", None))))
    assert outcomes(rulings) == ["recorded", "cooldown", "cooldown", "recorded"]
    assert rulings[1].retry_after_s == 3_600
    assert (rulings[1].quota, rulings[1].window_s) == (1, 3_600)
    later = run(ledger.submit_scores("global", asks(("a", "daily", None))))[0]
    assert later.outcome == "cooldown"
    assert 3_500 < later.retry_after_s < 3_600


def test_a_cooldown_ends(run: Run, ledger: Ledger, stores: Stores) -> None:
    run(ledger.put_action("global", Action("short", 1, 60, None, True)))
    run(ledger.submit_scores("global", asks(("a", "short", None))))
    stores.query("UPDATE ledger SET at = at - interval '60 seconds'")
    stores.query("UPDATE boards SET last_at = last_at - interval '60 seconds'")
    assert outcomes(run(ledger.submit_scores("global", asks(("a", "short", None))))) == ["recorded"]


def test_a_daily_cap_counts_the_day_of_the_board(run: Run, ledger: Ledger, stores: Stores) -> None:
    run(ledger.put_action("global", Action("capped", 1, 0, 2, True)))
    rulings = run(ledger.submit_scores("global", asks(*[("a", "capped", None)] * 3)))
    assert outcomes(rulings) == ["recorded", "recorded", "daily_cap"]
    assert 0 < rulings[2].retry_after_s <= 86_400
    stores.query("UPDATE ledger SET at = at - interval '1 day'")
    assert outcomes(run(ledger.submit_scores("global", asks(("a", "capped", None))))) == ["recorded"]


def test_parallel_batches_leave_no_gap_and_no_false_sum(run: Run, ledger: Ledger) -> None:
    async def all_at_once() -> None:
        batch = asks(("a", "win", None), ("b", "win", None))
        await asyncio.gather(*(ledger.submit_scores("global", batch) for _ in range(40)))

    run(all_at_once())
    row = run(ledger.verify_head("global"))
    assert row["head"] == row["last_seq"] == 80
    assert run(verify_ledger(ledger, "global")) == []


def test_time_never_falls_when_the_clock_does(run: Run, ledger: Ledger, stores: Stores) -> None:
    hour_ahead = "date_trunc('milliseconds', clock_timestamp()) + interval '1 hour'"
    stores.query(f"UPDATE boards SET last_at = {hour_ahead}, clock_at = {hour_ahead}")
    first = run(ledger.submit_scores("global", asks(("a", "win", None))))[0]
    second = run(ledger.submit_scores("global", asks(("a", "win", None))))[0]
    assert second.at >= first.at


def test_an_unknown_board_is_not_found(run: Run, ledger: Ledger) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        run(ledger.submit_scores("nowhere", asks(("a", "win", None), board="nowhere")))


def test_pages_by_offset_and_by_cursor_agree(run: Run, ledger: Ledger) -> None:
    users = [f"user{i}" for i in range(7)]
    run(ledger.submit_scores("global", asks(*[(user, "win", None) for user in users], ("user3", "win", None))))
    by_offset = [run(ledger.read_page("global", offset=i, limit=2)) for i in range(0, 8, 2)]
    after, by_cursor = None, []
    while not by_cursor or by_cursor[-1].more:
        by_cursor.append(run(ledger.read_page("global", offset=0, limit=2, after=after)))
        after = Cursor(by_cursor[-1].entries[-1].score, by_cursor[-1].entries[-1].user_id)
    assert by_cursor == by_offset
    ranked = [(entry.rank, entry.user_id) for page in by_offset for entry in page.entries]
    assert ranked == [(1, "user3"), *[(2, user) for user in users if user != "user3"]]


@pytest.mark.parametrize(
    ("operator", "floor", "windows", "points"),
    [
        ("sum", None, ("all", "day"), [SCORE_MAX, 1]),
        ("sum", 0, ("all",), [SCORE_MAX, 1]),
        ("last", None, ("all", "month"), [SCORE_MAX, -SCORE_MAX]),
        ("best", None, ("all",), [-SCORE_MAX, SCORE_MAX]),
    ],
)
def test_what_would_leave_the_bounds_alone_is_ruled_invalid_on_every_board(
    run: Run, ledger: Ledger, operator: str, floor: int | None, windows: tuple[str, ...], points: list[int]
) -> None:
    board = Board("bounds", "", 0, 0, "", windows, "shared", "UTC", datetime.min, operator, floor)  # type: ignore[arg-type]
    run(ledger.put_board(board))
    run(ledger.put_action("bounds", Action("free", None, 0, None, True, -SCORE_MAX, SCORE_MAX)))
    rulings = [run(ledger.submit_scores("bounds", [Submission("bounds", "a", "free", None, p)]))[0] for p in points]
    assert outcomes(rulings) == ["recorded", "invalid"]
    assert run(verify_ledger(ledger, "bounds")) == []
