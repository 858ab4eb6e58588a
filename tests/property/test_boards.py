"""Boards of every setting on real servers against the model: windows, ties, users hidden and erased, events undone.

What must hold after every step: the ledger's totals are the model's in every window and period, past ones too; whatever
the ranking's head says, each ranking is exactly the model's at that seq; both give the same order and ranks. Time goes
on in leaps over the ends of days, weeks and months, also where clocks change.
"""

import asyncio
import itertools
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from scoreboard import keys
from scoreboard.administration import Administration
from scoreboard.errors import NotFound
from scoreboard.model import WINDOWS, Action, Board, Submission
from scoreboard.ranks import PeriodOver
from scoreboard.verify import verify_ledger
from tests.harness import Stores
from tests.property.board_model import BoardModel, Fact, Layout, first_day
from tests.property.test_machine import Parts

USERS = st.sampled_from(["a", "b", "ä", "Z"])
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kathmandu", "Pacific/Apia"])
TIES = st.sampled_from(["shared", "dense", "first"])
LATER = st.sets(st.sampled_from(["day", "week", "month"]))
LEAPS = st.sampled_from([0, 0, 0, 1, 3_600, 82_800, 86_400, 90_000, 7 * 86_400, 31 * 86_400])
BATCHES = st.lists(st.tuples(USERS, st.integers(-3, 3)), min_size=1, max_size=4)
BEGAN_AT = [datetime(2027, 3, 27, 22, 59, 59, tzinfo=UTC), datetime(2027, 10, 30, 22, tzinfo=UTC)]
"""The days before clocks change in Berlin: of 23 and 25 hours."""
EXAMPLES, STEPS = 60, 25
_boards = itertools.count(1)


class Machine(RuleBasedStateMachine):
    parts: Parts

    @initialize(
        ties=TIES,
        windows=LATER,
        zone=ZONES,
        how=st.sampled_from([("sum", None), ("sum", None), ("sum", 0), ("best", None), ("last", None)]),
        at=st.sampled_from(BEGAN_AT),
    )
    def create_board(self, ties: str, windows: set[str], zone: str, how: tuple[str, int | None], at: datetime) -> None:
        self.board = f"board{next(_boards)}"
        self.how = how
        self.admin = Administration(self.parts.ledger, self.parts.repair, lambda board, head: None)
        layout = Layout(0, ties, order(windows), zone)
        self.model = BoardModel(*how, layouts=[layout])
        _, created = self.put(layout)
        assert created
        self.parts.run(self.parts.ledger.put_action(self.board, Action("free", None, 0, None, True, -3, 3)))
        self.now = at
        self.users: dict[str, str] = {}

    def put(self, layout: Layout) -> tuple[Board, bool]:
        settings = (layout.windows, layout.ties, layout.zone, datetime.min, *self.how)
        return self.parts.run(self.admin.put_board(Board(self.board, "", 0, 0, "", *settings)))

    def user(self, name: str) -> str:
        """A user of this example's own: what is known of users holds for all boards."""
        return f"{name}{self.board}"

    @rule(batch=BATCHES, leap=LEAPS)
    def submit(self, batch: list[tuple[str, int]], leap: int) -> None:
        self.now = max([self.now, *(fact.at for fact in self.model.facts[-1:])]) + timedelta(seconds=leap)
        self.parts.set_time(self.board, self.now)
        asked = [Submission(self.board, self.user(name), "free", None, value) for name, value in batch]
        rulings = self.parts.run(self.parts.ledger.submit_scores(self.board, asked))
        for ruling, (name, value) in zip(rulings, batch, strict=True):
            assert ruling.score == self.model.submit(self.user(name), value, ruling.at)
            assert ruling.points == self.model.facts[-1].points
            assert ruling.seq == len(self.model.facts)

    @rule(name=USERS, hidden=st.booleans(), here=st.booleans())
    def hide(self, name: str, hidden: bool, here: bool) -> None:
        """Everywhere or on this board, also somebody who is yet to come."""
        user, model = self.user(name), self.model
        if not hidden and not self.has_heard_of(user):
            return
        who = model.hidden_here if here else model.hidden_everywhere
        (who.add if hidden else who.discard)(user)
        if here:
            told = self.parts.run(self.admin.hide_on_board(self.board, user, hidden=hidden))
            assert told.hidden == model.shall_hide(user)
        else:
            assert self.parts.run(self.admin.hide_user(user, hidden=hidden)).hidden == hidden
        if model.knows(user) and model.is_hidden(user, len(model.facts)) != model.shall_hide(user):
            self.append("hide" if model.shall_hide(user) else "unhide", user, hidden=model.shall_hide(user))

    def has_heard_of(self, user: str) -> bool:
        return self.model.knows(user) or user in self.model.names or self.model.shall_hide(user)

    @rule(name=USERS, called=st.sampled_from(["Anna", "Bob", None]))
    def rename(self, name: str, called: str | None) -> None:
        user = self.user(name)
        before = self.model.names.get(user)
        self.parts.run(self.admin.name_user(user, called))
        if self.model.knows(user) and (before != called or self.head() > len(self.model.facts)):
            self.append("name", user)
        self.model.names[user] = called or ""
        if called is None:
            del self.model.names[user]

    @rule(name=USERS)
    def erase(self, name: str) -> None:
        """Who is hidden stays so, with whatever comes later under that id."""
        user = self.user(name)
        if not self.has_heard_of(user):
            return
        was_there = self.model.knows(user)
        try:
            self.parts.run(self.admin.erase_user(user))
        except NotFound:
            assert not was_there
        self.model.names.pop(user, None)
        if was_there:
            event = self.parts.run(self.parts.ledger.read_events(self.board, after=len(self.model.facts), limit=1))[0]
            query = f"SELECT user_id FROM ledger WHERE board_id = '{self.board}' AND seq = {event.seq}"
            pseudonym = self.parts.execute(query)[0][0]
            self.model.erase(user, pseudonym, event.at)

    @precondition(lambda self: any(fact.kind == "score" for fact in self.model.facts))
    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        seqs = [seq for seq, fact in enumerate(self.model.facts, start=1) if fact.kind == "score"]
        seq = data.draw(st.sampled_from(seqs))
        again = any(fact.revokes == seq for fact in self.model.facts)
        told = self.parts.run(self.admin.revoke_event(self.board, seq, "a mistake"))
        assert told.is_new != again
        if not again:
            self.model.revoke(seq, told.event.at)
            assert (told.event.seq, told.event.points) == (len(self.model.facts), self.model.facts[-1].points)

    @rule(ties=TIES, windows=LATER, zone=ZONES | st.none())
    def change_settings(self, ties: str, windows: set[str], zone: str | None) -> None:
        before = self.model.layout(len(self.model.facts))
        wanted = Layout(0, ties, order(windows), zone or before.zone)
        self.put(wanted)
        for _ in range(self.head() - len(self.model.facts)):
            self.append("settings", "")
        wanted.seq = len(self.model.facts)
        self.model.layouts.append(wanted)

    @precondition(lambda self: self.model.facts)
    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        """Any events that follow each other, late or twice."""
        after = data.draw(st.integers(0, len(self.model.facts) - 1))
        events = self.parts.run(self.parts.ledger.read_events(self.board, after=after, limit=3))
        at = self.parts.at(self.board, after)
        epoch = self.parts.run(self.parts.ledger.read_board(self.board)).epoch
        applied = self.parts.run(self.parts.ranks.apply_events(self.board, epoch, events, previous_at=at))
        assert applied.status in ("applied", "gap", "cold")

    @rule(which=st.sampled_from(["head", "names", "all", "all:ties", "day", "week:ties", "everything"]))
    def lose_keys(self, which: str) -> None:
        """Redis evicts something, or somebody deletes it."""
        pattern = "*" if which == "everything" else which.replace(":ties", ":*ties") if which[0] in "dw" else which
        for key in self.parts.redis.scan_iter(f"{keys.live(self.board)}:{pattern}*".replace("{", "[{]")):
            self.parts.redis.delete(key)

    @rule()
    def repair(self) -> None:
        self.parts.run(self.parts.repair.heal(self.board))
        assert self.parts.run(self.parts.ranks.read_head(self.board)).seq == len(self.model.facts)

    @rule()
    def rebuild(self) -> None:
        self.parts.run(self.parts.repair.rebuild(self.board))

    @invariant()
    def the_ledger_verifies(self) -> None:
        assert self.parts.run(verify_ledger(self.parts.ledger, self.board)) == []

    @invariant()
    def every_period_of_the_ledger_is_the_models(self) -> None:
        seq = len(self.model.facts)
        layout = self.model.layout(seq)
        for window in layout.windows:
            for day in self.days(window, layout.zone):
                page = self.parts.run(
                    self.parts.ledger.read_page(self.board, window, day and day.isoformat(), limit=100)
                )
                assert entries(page) == self.model.ranking(seq, window, day), (window, day)
                assert page.total == len(page.entries)
                assert {e.user_id: e.name for e in page.entries if e.name} == {
                    user: name for user, name in self.model.names.items() if user in {e.user_id for e in page.entries}
                }

    @invariant()
    def the_ranking_is_the_models_at_its_head(self) -> None:
        for window in WINDOWS:
            try:
                aged = self.parts.run(self.parts.ranks.read_page(self.board, window, limit=100))
            except PeriodOver:
                continue  # the clock of now is beyond the period of the last event
            if aged is None:
                continue
            page, seq = aged.page, aged.page.position.seq
            assert window in self.model.layout(seq).windows
            day = date.fromisoformat(page.period.first_day) if page.period else None
            # Who was erased later is in the ranking until that event is, under the old name.
            shown = [entry for entry in entries(page) if self.model.knows(entry[1])]
            if len(shown) == len(page.entries):
                assert shown == self.model.ranking(seq, window, day), (window, day, seq)

    def days(self, window: str, zone: str) -> list[date | None]:
        if window == "all":
            return [None]
        counted = [fact for fact in self.model.facts if fact.kind == "score"]
        return sorted({first_day(window, zone, fact.counted_at) for fact in counted})  # type: ignore[return-value]

    def append(self, kind: str, user: str, *, hidden: bool | None = None) -> None:
        event = self.parts.run(self.parts.ledger.read_events(self.board, after=len(self.model.facts), limit=1))[0]
        assert event.kind == kind
        if hidden is None:
            hidden = bool(user) and self.model.is_hidden(user, len(self.model.facts))
        assert event.hidden == hidden
        self.model.facts.append(Fact(kind, user, 0, 0, event.at, event.at, hidden=hidden))

    def head(self) -> int:
        return self.parts.run(self.parts.ledger.read_board(self.board)).seq


def order(windows: set[str]) -> tuple[str, ...]:
    return tuple(window for window in WINDOWS if window == "all" or window in windows)


def entries(page: Any) -> list[tuple[int, str, int]]:
    return [(entry.rank, entry.user_id, entry.score) for entry in page.entries]


@pytest.mark.timeout(300)
def test_boards_of_every_setting_follow_the_model(stores: Stores) -> None:
    Machine.parts = Parts(stores)
    try:
        run_state_machine_as_test(Machine, settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS))
    finally:
        Machine.parts.close()
        asyncio.set_event_loop(None)
