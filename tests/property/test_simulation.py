"""The simulated stores answer as the real ones do, so that what is proven on them means something."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoreboard.ledger import Ledger
from scoreboard.migrations import migrate
from scoreboard.model import Action, Board, Event, Head, Submission, format_time
from scoreboard.ranks import Ranks
from tests.harness import Stores
from tests.property.simulation import LedgerState, RanksState, make_page
from tests.rankings import start

KINDS = st.sampled_from(["score"] * 6 + ["hide", "unhide", "settings"])
EPOCHS = st.sampled_from(["e1", "e1", "e1", "e2"])
USERS = st.sampled_from(["a", "b", "c"])
TIMES = st.sampled_from([datetime(2026, 11, 24, tzinfo=UTC) + timedelta(milliseconds=n) for n in range(2)])
HEADS = st.builds(Head, EPOCHS, st.integers(0, 4), TIMES.map(format_time) | st.just(""))
_boards = itertools.count(1)


@st.composite
def batches(draw: st.DrawFn) -> tuple[str, list[Event], str]:
    first = draw(st.integers(1, 5))
    drawn = draw(st.lists(st.tuples(USERS, st.integers(-3, 3), TIMES, KINDS), min_size=1, max_size=3))
    events = [
        Event(first + n, "" if kind == "settings" else user, "win", 1, score, at, kind, kind == "hide")
        for n, (user, score, at, kind) in enumerate(drawn)
    ]
    return draw(EPOCHS), events, draw(TIMES.map(format_time) | st.just(""))


STEPS = st.lists(
    st.tuples(st.just("apply"), batches())
    | st.tuples(st.just("confirm"), HEADS)
    | st.tuples(st.just("swap"), st.tuples(HEADS, st.dictionaries(USERS, st.integers(-3, 3)), st.integers(0, 1)))
    | st.tuples(st.just("lose"), st.sampled_from(["all", "head"])),
    min_size=1,
    max_size=12,
)


@pytest.fixture
def runner() -> "asyncio.Runner":
    with asyncio.Runner() as runner:
        yield runner  # type: ignore[misc]


def test_ranks(runner: asyncio.Runner, stores: Stores) -> None:
    ranks = Ranks.open(stores.redis_url)

    @settings(max_examples=300)
    @given(steps=STEPS)
    def compare(steps: list[tuple[str, object]]) -> None:
        board, state = f"board{next(_boards)}", RanksState()
        for step in [("swap", (Head("e1", 0, ""), {}, 0)), *steps]:
            assert runner.run(really(ranks, board, *step)) == simulated(state, *step), step
            assert runner.run(ranks.read_head(board)) == (state.head if state.is_whole else None)
            page = runner.run(ranks.read_page(board, offset=0, limit=10))
            if state.head is None or not state.is_whole:
                assert page is None
            else:
                assert page.page == make_page(state.order(), state.head.position, 0, 10)

    try:
        compare()
    finally:
        runner.run(ranks.close())


async def really(ranks: Ranks, board: str, name: str, argument: object) -> object:
    match name, argument:
        case "apply", (epoch, events, previous_at):
            return await ranks.apply_events(board, epoch, events, previous_at=previous_at)
        case "confirm", head:
            return await ranks.confirm_head(board, head)  # type: ignore[arg-type]
        case "swap", (head, scores, missing):
            return await start(ranks, board, head, scores, missing=missing)
        case "lose", key:
            await ranks._call("DEL", f"sb:{{{board}}}:{key}")
    return None


def simulated(state: RanksState, name: str, argument: object) -> object:
    match name, argument:
        case "apply", (epoch, events, previous_at):
            return state.apply(epoch, events, previous_at, lambda message: None)
        case "confirm", head:
            return state.confirm(head)  # type: ignore[arg-type]
        case "swap", (head, scores, missing):
            state.rebuilt["key"] = RanksState(head, len(scores) + missing, dict(scores))
            return state.swap("key", lambda message: None)
        case "lose", "all":
            state.scores = {}
        case "lose", "head":
            state.head = None
    return None


ASKED = st.tuples(USERS, st.sampled_from(["win", "lose", "none"]), st.sampled_from([None, "k1", "k2"]))


def test_ledger(runner: asyncio.Runner, stores: Stores) -> None:
    runner.run(migrate(stores.database_url))
    ledger: Ledger = runner.run(Ledger.open(stores.database_url))

    @settings(max_examples=60)
    @given(
        rounds=st.lists(
            st.lists(ASKED, min_size=1, max_size=3, unique_by=lambda s: (s[0], s[2] or object())), max_size=5
        )
    )
    def compare(rounds: list[list[tuple[str, str, str | None]]]) -> None:
        board, state = f"board{next(_boards)}", LedgerState()
        runner.run(ledger.put_board(Board(board, "", 0, 0, "", ("all",), "shared", "UTC", datetime.min)))
        for action, points in state.points.items():
            runner.run(ledger.put_action(board, Action(action, points, 0, None, True)))
        for asked in rounds:
            # Keys belong to users, not to boards: another example's key would be a repeat.
            batch = [Submission(board, user, action, key and f"{board}:{key}") for user, action, key in asked]
            real = runner.run(ledger.submit_scores(board, batch))
            told = state.submit(batch, datetime.now(UTC))
            assert [(r.outcome, r.seq, r.points, r.score) for r in real] == [
                (r.outcome, r.seq, r.points, r.score) for r in told
            ]
            assert {r.previous_at is None for r in real} == {r.previous_at is None for r in told}
        head, times = runner.run(ledger.read_heads({board: [1, 99]}))[board]
        assert head.seq == state.head().seq
        assert {seq for seq, _ in times} == {0} | ({1} if state.events else set())
        events = runner.run(ledger.read_events(board, after=1, limit=2))
        assert [(e.seq, e.user_id, e.score) for e in events] == [
            (e.seq, e.user_id, e.score) for e, _ in state.events[1:3]
        ]

    try:
        compare()
    finally:
        runner.run(ledger.close())
