"""Boards of the past: both ways of computing them against a small model, what they look through, and their plans."""

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scoreboard import totals
from scoreboard.contracts import load_queries
from scoreboard.errors import Invalid
from scoreboard.ledger import Ledger
from scoreboard.model import Action, Board, Operator, Page, Submission, Ties
from tests.harness import Stores
from tests.integration.test_plans import inline

Run = Callable[..., object]
QUERIES = load_queries()
ACTIONS = {"win": 10, "lose": -10, "same": 0, "more": 20}
ALWAYS = {"from the start": 10**9, "from the end": -(10**9)}
"""Costs of going back that make one of the ways the cheaper one, whatever is asked."""
numbers = itertools.count()


@dataclass(frozen=True)
class State:
    """A user on a board at some moment; ``values`` are what counts of the submissions, by seq."""

    score: int = 0
    reached: int = 0
    hidden: bool = False
    values: dict[int, int] = field(default_factory=dict)


def rank(states: dict[str, State], hidden_now: set[str], ties: Ties) -> list[tuple[int, str, int]]:
    """All that is shown of a board, in its order."""
    shown = [(u, s) for u, s in states.items() if not s.hidden and u not in hidden_now]
    shown.sort(key=lambda each: (-each[1].score, each[1].reached if ties == "first" else 0, each[0].encode()))
    scores = [state.score for _, state in shown]
    places = {
        "first": lambda place, score: place + 1,
        "shared": lambda place, score: scores.index(score) + 1,
        "dense": lambda place, score: sorted(set(scores), reverse=True).index(score) + 1,
    }
    return [(places[ties](place, state.score), user, state.score) for place, (user, state) in enumerate(shown)]


class Past:
    """A board that things happen to, and the model of what it showed after each event."""

    def __init__(self, run: Run, ledger: Ledger, ties: Ties, operator: Operator, floor: int | None) -> None:
        self.run, self.ledger, self.ties, self.operator, self.floor = run, ledger, ties, operator, floor
        self.prefix = f"past{next(numbers)}"
        settings = ("", ("all",), ties, "UTC", datetime.min, operator, floor)
        run(ledger.put_board(Board(self.prefix, "", 0, 0, *settings)))
        for action, points in ACTIONS.items():
            run(ledger.put_action(self.prefix, Action(action, points, 0, None, True)))
        self.states: list[dict[str, State]] = [{}]
        self.live: list[list[tuple[int, str, int]]] = [[]]
        self.hidden: set[str] = set()
        self.points: dict[int, tuple[str, int]] = {}

    def apply(self, what: str, who: str, which: str) -> None:
        user = f"{self.prefix}-{who}"
        before = len(self.states) - 1
        getattr(self, what)(user, which)
        if len(self.states) - 1 > before:
            self.live.append(shown(self.run(self.ledger.read_page(self.prefix, limit=100))))

    def submit(self, user: str, action: str) -> None:
        (ruling,) = self.run(self.ledger.submit_scores(self.prefix, [Submission(self.prefix, user, action)]))
        old = self.states[-1].get(user)
        values = {**(old.values if old else {}), self.seq: ACTIONS[action]}
        score = (old.score if old else 0) + ACTIONS[action]
        if self.operator == "sum" and self.floor is not None:
            score = max(score, self.floor)
        elif self.operator == "best":
            score = max(old.score, ACTIONS[action]) if old else ACTIONS[action]
        elif self.operator == "last":
            score = ACTIONS[action]
        self.points[self.seq] = (user, score - (old.score if old else 0))
        reached = old.reached if old and old.score == score else self.seq
        self.append(user, State(score, reached, old.hidden if old else user in self.hidden, values))
        assert (ruling.seq, ruling.score) == (len(self.states) - 1, score)

    def revoke(self, user: str, _: str) -> None:
        mine = [seq for seq, (by, _) in self.points.items() if by == user]
        if not mine:
            return
        self.run(self.ledger.revoke_event(self.prefix, mine[0], "tried"))
        old = self.states[-1][user]
        values = {seq: value for seq, value in old.values.items() if seq != mine[0]}
        _, points = self.points.pop(mine[0])
        score = max(old.score - points, self.floor if self.floor is not None else -(10**9))
        score = score if self.operator == "sum" else self.count(values)
        self.append(user, State(score, old.reached if old.score == score else self.seq, old.hidden, values))

    def hide(self, user: str, which: str) -> None:
        hidden = which != "same"
        self.run(self.ledger.put_hidden(user, hidden=hidden))
        (self.hidden.add if hidden else self.hidden.discard)(user)
        if self.run(self.ledger.tell_board(self.prefix, user, "show_user")):
            self.append(user, replace(self.states[-1][user], hidden=hidden))

    def erase(self, user: str, _: str) -> None:
        pseudonym = f"erased-{next(numbers)}"
        self.run(self.ledger.forget_user(user))  # who is hidden stays so
        if self.run(self.ledger.erase_user(self.prefix, user, pseudonym)):
            self.points = {seq: done for seq, done in self.points.items() if done[0] != user}
            self.states = [{pseudonym if u == user else u: s for u, s in states.items()} for states in self.states]
            self.append(pseudonym, replace(self.states[-1][pseudonym], hidden=True))

    def at(self, moment: int | datetime, *, offset: int, limit: int) -> Page:
        """A page of it as it stood at a seq or a time."""
        _, page = self.run(self.ledger.stamped_past_page(self.prefix, moment, offset=offset, limit=limit))
        return page

    @property
    def seq(self) -> int:
        """That of the event that is being applied."""
        return len(self.states)

    def append(self, user: str, state: State) -> None:
        self.states.append({**self.states[-1], user: state})

    def count(self, values: dict[int, int]) -> int:
        return (max(values.values()) if self.operator == "best" else values[max(values)]) if values else 0


def shown(page: Page) -> list[tuple[int, str, int]]:
    return [(entry.rank, entry.user_id, entry.score) for entry in page.entries]


EVENT = st.tuples(
    st.sampled_from(["submit"] * 12 + ["hide"] * 2 + ["revoke", "erase"]),
    st.sampled_from("aBä"),
    st.sampled_from(["win"] * 3 + ["same"] * 3 + ["lose", "more"]),
)
"""Few users and few scores, so that many are tied, and points of 0 that leave them so."""
KINDS = st.sampled_from([("sum", None), ("sum", 0), ("best", None), ("last", None)])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["shared", "dense", "first", "first", "first"]), KINDS, st.lists(EVENT, min_size=8, max_size=25))
def test_every_position_shows_what_the_board_showed_there(
    run: Run, ledger: Ledger, ties: Ties, kind: tuple[Operator, int | None], happened: list[tuple[str, str, str]]
) -> None:
    past = Past(run, ledger, ties, *kind)
    for each in happened:
        past.apply(*each)
    hidden_now = {user for user, state in past.states[-1].items() if state.hidden}
    for seq, states in enumerate(past.states):
        expected = rank(states, hidden_now, ties)
        if not hidden_now:
            assert expected == past.live[seq]
        for cost in ALWAYS.values():
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(totals, "BACK_COST", cost)
                page = past.at(seq, offset=0, limit=100)
                assert (shown(page), page.position.seq, page.total, page.more) == (expected, seq, len(expected), False)
                rest = past.at(seq, offset=1, limit=1)
                assert (shown(rest), rest.total, rest.more) == (expected[1:2], len(expected), len(expected) > 2)


@pytest.mark.parametrize("way", ALWAYS)
def test_a_time_is_the_last_event_at_or_before_it(
    run: Run, ledger: Ledger, stores: Stores, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(totals, "BACK_COST", ALWAYS[way])
    past = Past(run, ledger, "shared", "sum", None)
    for _ in range(9):
        past.apply("submit", "a", "win")
    stores.query(
        "UPDATE ledger SET at = 'epoch'::timestamptz + seq / 3 * interval '1 second' WHERE board_id = $1", past.prefix
    )
    for tenths, seq in ((-1, 0), (0, 2), (5, 2), (10, 5), (19, 5), (20, 8), (25, 8), (30, 9), (1_000, 9)):
        at = datetime.fromisoformat("1970-01-01T00:00:00+00:00").timestamp() + tenths / 10
        page = past.at(datetime.fromtimestamp(at).astimezone(), offset=0, limit=10)
        assert (page.position.seq, shown(page)) == (seq, past.live[seq]), tenths


def test_what_is_too_far_from_both_ends_is_refused(run: Run, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    past = Past(run, ledger, "shared", "sum", None)
    for _ in range(20):
        past.apply("submit", "a", "win")
    monkeypatch.setattr(totals, "PAST_EVENTS_MAX", 6)
    answered = []
    for seq in range(21):
        try:
            page = past.at(seq, offset=0, limit=5)
        except Invalid as exc:
            assert f"{seq} events from its start and {20 - seq} from its end" in exc.detail and "6 events" in exc.detail
        else:
            assert shown(page) == past.live[seq]
            answered.append(seq)
    assert answered == [0, 1, 2, 3, 4, 5, 6, 19, 20]


def test_who_was_first_is_looked_for_in_bounds(run: Run, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a board that counts the best, a score may be far older than the user's last event."""
    past = Past(run, ledger, "first", "best", None)
    for action in ("win", *["lose"] * 20, "more"):
        past.apply("submit", "a", action)
    assert shown(past.at(21, offset=0, limit=5)) == past.live[21]
    for bound, is_found in ((20, False), (21, True)):
        monkeypatch.setattr(totals, "PAST_EVENTS_MAX", bound)
        monkeypatch.setattr(totals, "BACK_COST", -100)
        if is_found:
            assert shown(past.at(21, offset=0, limit=5)) == past.live[21]
            continue
        with pytest.raises(Invalid, match=f"{bound} events"):
            past.at(21, offset=0, limit=5)


# -- plans

FILL = """
INSERT INTO ledger (board_id, seq, user_id, action_id, points, score_after, at)
SELECT 'global', n, 'user' || n % 50000, 'win', 10, 10 * (n / 50000 + 1), 'epoch'::timestamptz + n * interval '1 s'
FROM generate_series(1, 200000) AS n
"""
FILL_TOTALS = """
INSERT INTO totals (board_id, time_window, period, user_id, score, reached_seq, submissions, first_at, last_at)
SELECT 'global', 'all', '-infinity', 'user' || n, n % 1000, 150001, 4, 'epoch', 'epoch'
FROM generate_series(0, 49999) AS n
"""
PAST = {
    "find_position": ["global", None, "1970-01-02T00:00:00Z"],
    "read_past_from_start": ["global", 1_000, "first", 0, 10],
    "read_past_from_end": ["global", 199_000, "first", 0, 10, 1_000_000],
}


@pytest.fixture(params=["with statistics", "without"])
def filled(request: pytest.FixtureRequest, ledger: Ledger, stores: Stores) -> Stores:
    analyze = ["ANALYZE"] if request.param == "with statistics" else []
    for statement in (FILL, FILL_TOTALS, "UPDATE boards SET seq = 200000, players = 50000", *analyze):
        stores.query(statement)
    return stores


@pytest.mark.parametrize("name", PAST)
def test_the_past_is_read_by_ranges_of_the_ledger(run: Run, ledger: Ledger, filled: Stores, name: str) -> None:
    async def explain() -> str:
        async with ledger._snapshot() as connection:
            await connection.fetch(QUERIES["prefer_indexes"].text)
            return str(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {inline_nulls(name)}"))

    plan = run(explain())
    assert '"Seq Scan"' not in plan and '"Bitmap' not in plan, plan
    for node in nodes(json.loads(plan)[0]["Plan"]):
        if node.get("Relation Name") == "ledger":
            assert re.search(r"seq|user_id", node["Index Cond"]), node


@pytest.mark.parametrize(("seq", "read"), [(1_000, 20_000), (199_000, 40_000)])
def test_a_board_of_the_past_reads_what_is_nearer(
    run: Run, ledger: Ledger, filled: Stores, seq: int, read: int
) -> None:
    before = entries_read(filled)
    _, page = run(ledger.stamped_past_page("global", seq, offset=0, limit=10))
    assert len(page.entries) == 10
    run(ledger.close())  # what a connection counted is told at its end
    assert entries_read(filled) - before < read


def entries_read(stores: Stores) -> int:
    """Rows and index entries of the large tables that anybody has read so far."""
    rows = stores.query(
        "SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname IN ('ledger', 'totals'))::bigint"
        " + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes)::bigint"
    )
    return int(rows[0][0])


def inline_nulls(name: str) -> str:
    return inline(QUERIES[name].text, ["NULL" if each is None else each for each in PAST[name]]).replace(
        "'NULL'", "NULL"
    )


def nodes(plan: dict[str, object]) -> list[dict[str, object]]:
    """A plan's nodes, from the top."""
    children: list[dict[str, object]] = plan.get("Plans", [])  # type: ignore[assignment]
    return [plan, *(node for child in children for node in nodes(child))]
