"""Ledger, ranks and repair on real servers against the model, in every order hypothesis can find.

What must hold after every step: the ledger is gapless and sums to the totals (P3); whatever the ranking's head says,
the ranking is exactly the ledger's up to there, and the head never goes back while its epoch stands (P4); a reader
fed by what was published, filling gaps from the ledger, knows at every position what the ledger says (P5).
"""

import asyncio
import itertools
from datetime import datetime

import asyncpg
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from scoreboard import frames, keys
from scoreboard.board_log import BoardLog, Break
from scoreboard.ledger import Ledger
from scoreboard.metrics import Metrics
from scoreboard.migrations import migrate
from scoreboard.model import Action, Board, Event, Page, Position, Submission, format_time
from scoreboard.ranks import Ranks
from scoreboard.repair import Repair
from scoreboard.verify import verify_ledger
from tests.harness import DEADLINE_S, Stores
from tests.property.model import Model

POINTS = {"win": 10, "lose": -3, "draw": 0}
USERS = st.sampled_from(["a", "b", "ä", "Z", "zz"])
ACTIONS = st.sampled_from([*POINTS, "unknown"])
KEYS = st.none() | st.sampled_from(["k1", "k2"])
BATCHES = st.lists(
    st.tuples(USERS, ACTIONS, KEYS), min_size=1, max_size=5, unique_by=lambda s: (s[0], s[2] or object())
)
_boards = itertools.count(1)


class Parts:
    """The real parts, shared by all examples of a run; each example has a board of its own."""

    def __init__(self, stores: Stores) -> None:
        self.runner = asyncio.Runner()
        self.runner.run(migrate(stores.database_url))
        self.ledger: Ledger = self.runner.run(Ledger.open(stores.database_url))
        self.ranks = Ranks.open(stores.redis_url)
        self.repair = Repair(self.ledger, self.ranks, Metrics(), on_healed=lambda board: None)
        self.redis = stores.redis()

    def run(self, coroutine: object) -> object:
        return self.runner.run(asyncio.wait_for(coroutine, DEADLINE_S))  # type: ignore[arg-type]

    def execute(self, sql: str) -> list[asyncpg.Record]:
        """Run a statement that nothing but a test needs."""

        async def run() -> list[asyncpg.Record]:
            async with self.ledger._repairs.acquire() as connection:
                return await connection.fetch(sql)

        return self.run(run())  # type: ignore[return-value]

    def set_time(self, board: str, at: datetime) -> None:
        """Make it this late on a board: its next event is no earlier."""
        self.execute(f"UPDATE boards SET last_at = '{at}', clock_at = '{at}' WHERE board_id = '{board}'")

    def at(self, board: str, seq: int) -> str:
        """When an event was, as the ranking has it; '' for none."""
        rows = self.execute(f"SELECT at FROM ledger WHERE board_id = '{board}' AND seq = {seq}")
        return format_time(rows[0]["at"]) if rows else ""

    def close(self) -> None:
        self.redis.close()
        self.runner.run(self.ranks.close())
        self.runner.run(self.ledger.close())
        self.runner.close()


class Machine(RuleBasedStateMachine):
    parts: Parts

    @initialize()
    def create_board(self) -> None:
        self.board = f"board{next(_boards)}"
        self.model = Model(POINTS)
        self.batches: list[list[Event]] = []
        self.head_before = 0
        run = self.parts.run
        settings = Board(self.board, "", 0, 0, "", ("all",), "shared", "UTC", datetime.min)
        run(self.parts.ledger.put_board(settings))
        self.epoch = run(self.parts.ledger.read_board(self.board)).epoch
        for name, points in POINTS.items():
            run(self.parts.ledger.put_action(self.board, Action(name, points, 0, None, True)))
        self.reader = BoardLog(self.board, Page(Position(self.epoch, 0), 0, (), False))
        self.pubsub = self.parts.redis.pubsub()
        self.pubsub.subscribe(keys.channel(self.board))
        while self.pubsub.get_message(timeout=1) is None:
            pass

    @rule(batch=BATCHES)
    def submit(self, batch: list[tuple[str, str, str | None]]) -> None:
        # Keys belong to users, not to boards: another example's key would be a repeat.
        batch = [(user, action, key and f"{self.board}:{key}") for user, action, key in batch]
        rulings = self.parts.run(
            self.parts.ledger.submit_scores(self.board, [Submission(self.board, u, a, k) for u, a, k in batch])
        )
        expected = [self.model.submit(*each) for each in batch]
        assert [(r.outcome, r.seq, r.score) for r in rulings] == expected
        events = [
            Event(r.seq, user, action, r.points, r.score, r.at)
            for r, (user, action, _) in zip(rulings, batch, strict=True)
            if r.outcome == "recorded"
        ]
        if events:
            self.batches.append(events)

    @precondition(lambda self: self.batches)
    @rule(data=st.data())
    def deliver_any_batch(self, data: st.DataObject) -> None:
        """Late, twice, out of order, all the same."""
        events = data.draw(st.sampled_from(self.batches))
        head = self.head()
        applied = self.parts.run(
            self.parts.ranks.apply_events(self.board, self.epoch, events, previous_at=self.at(events))
        )
        if head is None:
            assert applied.status == "cold"
        elif events[0].seq > head + 1:
            assert (applied.status, self.head()) == ("gap", head)
        else:
            assert applied.status == "applied"
            assert self.head() == max(head, events[-1].seq)
            for event, change in zip(events, applied.changes, strict=True):
                assert (change is None) == (event.seq <= head)
                if change is not None:
                    assert change.rank == self.rank(event.user_id, event.seq)
                    assert change.previous_rank == self.rank(event.user_id, event.seq - 1)

    @precondition(lambda self: self.batches)
    @rule()
    def deliver_the_last_batch(self) -> None:
        events = self.batches[-1]
        self.parts.run(self.parts.ranks.apply_events(self.board, self.epoch, events, previous_at=self.at(events)))

    @rule()
    def lose_redis(self) -> None:
        self.parts.redis.delete(*keys.whole(keys.live(self.board)))
        self.head_before = 0

    @rule()
    def repair(self) -> None:
        self.parts.run(self.parts.repair.heal(self.board))
        assert self.head() == len(self.model.ledger)

    @rule()
    def rebuild(self) -> None:
        self.parts.run(self.parts.repair.rebuild(self.board))
        assert self.head() == len(self.model.ledger)

    @rule()
    def listen(self) -> None:
        """The reader takes in what was published since, or fills the gap from the ledger."""
        while message := self.pubsub.get_message(timeout=0.001):
            if message["type"] == "message" and not self.reader.accept(frames.parse_message(message["data"])):
                self.fill_gap()
        position = self.reader.position
        ranking = self.model.ranking(position.seq)
        assert [(entry.user_id, entry.score) for entry in self.reader.top] == [entry[1:] for entry in ranking[:10]]
        assert self.reader.total == len(ranking)

    def fill_gap(self) -> None:
        page = self.parts.run(self.parts.ranks.read_page(self.board, offset=0, limit=10))
        if page is not None and page.position.seq > self.reader.seq:
            self.reader.restart(page.page, Break("too_far_behind", page.position.seq))

    @invariant()
    def ledger_is_gapless_and_sums_to_the_totals(self) -> None:
        row = self.parts.run(self.parts.ledger.verify_head(self.board))
        assert row["head"] == row["last_seq"] == len(self.model.ledger)
        assert row["players"] == row["users"] == len({user for user, _, _ in self.model.ledger})
        assert self.parts.run(verify_ledger(self.parts.ledger, self.board)) == []

    @invariant()
    def ranking_is_the_ledgers_up_to_its_head(self) -> None:
        aged = self.parts.run(self.parts.ranks.read_page(self.board, offset=0, limit=100))
        if aged is None:
            return
        assert aged.position.seq >= self.head_before, "the ranking went back"
        self.head_before = aged.position.seq
        assert [(e.rank, e.user_id, e.score) for e in aged.page.entries] == self.model.ranking(aged.position.seq)

    @invariant()
    def the_ledgers_own_order_is_the_same(self) -> None:
        page = self.parts.run(self.parts.ledger.read_page(self.board, offset=0, limit=100))
        assert [(e.rank, e.user_id, e.score) for e in page.entries] == self.model.ranking(len(self.model.ledger))

    def at(self, events: list[Event]) -> str:
        """When the event before some was."""
        earlier = [event for batch in self.batches for event in batch if event.seq == events[0].seq - 1]
        return format_time(earlier[0].at) if earlier else ""

    def head(self) -> int | None:
        position = self.parts.run(self.parts.ranks.read_head(self.board))
        return position.seq if position else None

    def rank(self, user: str, seq: int) -> int | None:
        return next((rank for rank, by, _ in self.model.ranking(seq) if by == user), None)

    def teardown(self) -> None:
        if hasattr(self, "pubsub"):
            self.pubsub.close()


@pytest.mark.timeout(300)
def test_ledger_and_ranks_follow_the_model(stores: Stores) -> None:
    Machine.parts = Parts(stores)
    try:
        run_state_machine_as_test(Machine)
    finally:
        Machine.parts.close()
