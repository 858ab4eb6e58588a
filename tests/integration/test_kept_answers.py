"""Kept answers: never other than fresh ones, whatever happens to a board, and kept where nothing concerns them."""

import itertools
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scoreboard.costly import Costly
from scoreboard.errors import ScoreboardError
from scoreboard.ledger import Ledger
from scoreboard.metrics import Metrics
from scoreboard.model import Action, Board, Cursor, Operator, Submission, Ties
from scoreboard.stamps import Subject
from tests.harness import Stores

Run = Callable[[Coroutine[Any, Any, Any]], Any]
ACTIONS = {"win": 10, "lose": -10, "same": 0}
GROUPS = ("g", "h")
ZONES = ("UTC", "Pacific/Auckland")
FIRST_DAY = datetime(2030, 5, 1, 12, tzinfo=UTC)
"""Later than now, so that a board's time goes on from where it is put."""
DAYS = tuple((FIRST_DAY + timedelta(days=each)).date().isoformat() for each in range(4))
numbers = itertools.count()


class Played:
    """A board that things happen to. Users are its own: what is known of them holds on all boards."""

    def __init__(
        self, run: Run, ledger: Ledger, stores: Stores, ties: Ties = "shared", operator: Operator = "sum"
    ) -> None:
        self.run, self.ledger, self.stores = run, ledger, stores
        self.name, self.ties, self.operator, self.zone = f"kept{next(numbers)}", ties, operator, "UTC"
        self.users = [f"{self.name}-{each}" for each in "abcd"]
        self.scored: list[int] = []
        self.seq = 0
        self.put_board()
        for action, points in ACTIONS.items():
            run(ledger.put_action(self.name, Action(action, points, 0, None, True)))
        self.set_time(FIRST_DAY)
        self.day = 0

    def put_board(self) -> None:
        about = ("", ("all", "day"), self.ties, self.zone, datetime.min, self.operator, None)
        _, is_filling = self.run(self.ledger.put_board(Board(self.name, "", 0, 0, *about)))
        while is_filling:
            is_filling = not self.run(self.ledger.fill_windows(self.name))

    def set_time(self, at: datetime) -> None:
        self.stores.query("UPDATE boards SET last_at = $1, clock_at = $1 WHERE board_id = $2", at, self.name)

    # -- what may happen, each with a user, another one and a choice

    def submit(self, user: str, other: str, choice: int) -> None:
        action = list(ACTIONS)[choice % len(ACTIONS)]
        (ruling,) = self.run(self.ledger.submit_scores(self.name, [Submission(self.name, user, action)]))
        self.scored.append(ruling.seq)

    def begin_day(self, user: str, other: str, choice: int) -> None:
        self.day += 1
        self.set_time(FIRST_DAY + timedelta(days=self.day))
        self.submit(user, other, choice)

    def revoke(self, user: str, other: str, choice: int) -> None:
        if self.scored:
            self.run(self.ledger.revoke_event(self.name, self.scored[choice % len(self.scored)], "tried"))

    def hide(self, user: str, other: str, choice: int) -> None:
        self.run(self.ledger.put_hidden(user, hidden=choice % 2 == 0))
        self.run(self.ledger.tell_board(self.name, user, "show_user"))

    def call(self, user: str, other: str, choice: int) -> None:
        self.run(self.ledger.put_user(user, f"Name {choice}"))
        self.run(self.ledger.tell_board(self.name, user, "name_user"))

    def erase(self, user: str, other: str, choice: int) -> None:
        self.run(self.ledger.leave_groups(user))
        self.run(self.ledger.forget_user(user))
        self.run(self.ledger.erase_user(self.name, user, f"erased-{next(numbers)}"))

    def group(self, user: str, other: str, choice: int) -> None:
        members = sorted({user, other} if choice else set())
        self.run(self.ledger.put_group(self.name, GROUPS[choice % 2], members))

    def ungroup(self, user: str, other: str, choice: int) -> None:
        try:
            self.run(self.ledger.delete_group(self.name, GROUPS[choice % 2]))
        except ScoreboardError:
            pass

    def set_up(self, user: str, other: str, choice: int) -> None:
        if choice % 2:
            self.ties = ("shared", "dense", "first")[choice % 3]  # type: ignore[assignment]
        else:
            self.zone = ZONES[self.zone == ZONES[0]]
        self.put_board()

    def renew(self, user: str, other: str, choice: int) -> None:
        (row,) = self.stores.query("SELECT epoch FROM boards WHERE board_id = $1", self.name)
        self.run(self.ledger.renew_epoch(self.name, row["epoch"]))

    # -- what may be asked

    def questions(self) -> list[Callable[[Costly], Coroutine[Any, Any, Any]]]:
        name, users = self.name, self.users
        subjects = [
            Subject(name, window, day, group)
            for window, day in (("all", None), ("day", None), *(("day", day) for day in DAYS))
            for group in (None, *GROUPS)
        ]
        asked: list[Callable[[Costly], Coroutine[Any, Any, Any]]] = []
        for subject in subjects:
            asked += [
                lambda costly, s=subject: costly.read_page(s, limit=3),
                lambda costly, s=subject: costly.read_page(s, limit=2, after=Cursor(10, users[1])),
                lambda costly, s=subject: costly.read_around(s, users[0], 1),
                lambda costly, s=subject: costly.read_standings(s, [*users, "nobody"]),
            ]
        for moment in (0, 1, 3, 6, FIRST_DAY, FIRST_DAY + timedelta(days=1, seconds=1)):
            asked.append(lambda costly, m=moment: costly.read_past_page(name, m, offset=0, limit=4))
        return asked


def answer(run: Run, question: Callable[[Costly], Coroutine[Any, Any, Any]], costly: Costly) -> object:
    """What is answered, or the refusal."""
    try:
        return run(question(costly))
    except ScoreboardError as exc:
        return type(exc).__name__, exc.detail


HAPPENINGS = (
    ["submit"] * 6 + ["begin_day"] * 2 + ["revoke", "hide", "hide", "call", "group", "group", "ungroup", "erase"]
)
HAPPENING = st.tuples(
    st.sampled_from([*HAPPENINGS, "set_up", "renew"]), st.integers(0, 3), st.integers(0, 3), st.integers(0, 5)
)


@pytest.mark.timeout(300)
@settings(
    max_examples=settings.default.max_examples // 16,  # each asks some 150 questions three times
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    st.sampled_from(["shared", "dense", "first"]),
    st.sampled_from(["sum", "best", "last"]),
    st.lists(HAPPENING, min_size=6, max_size=16),
    st.randoms(use_true_random=False),
)
def test_a_kept_answer_is_never_other_than_a_fresh_one(
    run: Run, ledger: Ledger, stores: Stores, ties: Ties, operator: Operator, happened: list[Any], chance: Any
) -> None:
    board = Played(run, ledger, stores, ties, operator)
    board.group(board.users[0], board.users[1], 2)
    board.group(board.users[1], board.users[2], 1)
    metrics = Metrics()
    keeping, questions = Costly(ledger, metrics), board.questions()
    asked = chance.sample(questions, 8)
    for what, user, other, choice in happened:
        getattr(board, what)(board.users[user], board.users[other], choice)
        asked = [*asked[-4:], *chance.sample(questions, 4)]  # some that were asked before, and are kept perhaps
        for question in asked:
            fresh = answer(run, question, Costly(ledger, metrics))
            assert answer(run, question, keeping) == fresh, what
            assert answer(run, question, keeping) == fresh, what


SUBJECTS = {
    "day that is over": lambda board: Subject(board.name, "day", DAYS[0]),
    "group on that day": lambda board: Subject(board.name, "day", DAYS[0], "g"),
    "group now": lambda board: Subject(board.name, "day", None, "g"),
    "group of all time": lambda board: Subject(board.name, group="g"),
    "day of now": lambda board: Subject(board.name, "day"),
}
BY_LIST = {"group on that day", "group now", "group of all time"}
NOW = {"group now", "group of all time"}
CASES: dict[str, tuple[Callable[[Played], None], set[str]]] = {
    "nothing": (lambda board: None, set()),
    "a score of somebody else": (lambda board: board.submit(board.users[2], "", 0), {"day of now"}),
    "a score of a member": (lambda board: board.submit(board.users[0], "", 0), {*NOW, "day of now"}),
    "a new day, by somebody else": (
        lambda board: board.begin_day(board.users[2], "", 0), {"group now", "day of now"},
    ),
    "somebody is hidden": (lambda board: board.hide(board.users[2], "", 0), set(SUBJECTS)),
    "somebody is named": (lambda board: board.call(board.users[2], "", 0), set(SUBJECTS)),
    "an event is revoked": (lambda board: board.revoke(board.users[0], "", 0), set(SUBJECTS)),
    "the list changes": (lambda board: board.group(board.users[0], board.users[3], 2), BY_LIST),
    "another list changes": (lambda board: board.group(board.users[0], board.users[3], 1), set()),
    "the list is put again as it is": (lambda board: board.group(board.users[0], board.users[1], 2), set()),
    "the ties change": (lambda board: board.set_up("", "", 1), set(SUBJECTS)),
    "the epoch ends": (lambda board: board.renew("", "", 0), set(SUBJECTS)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_an_answer_is_made_anew_when_something_concerns_it_and_kept_else(
    run: Run, ledger: Ledger, stores: Stores, case: str
) -> None:
    board = Played(run, ledger, stores)
    board.group(board.users[0], board.users[1], 2)
    for user in board.users[:3]:
        board.submit(user, "", 0)
    board.begin_day(board.users[0], "", 0)
    costly = Costly(ledger, Metrics())
    before = {name: run(costly.read_standings(subject(board), board.users)) for name, subject in SUBJECTS.items()}
    happen, concerned = CASES[case]
    happen(board)
    for name, subject in SUBJECTS.items():
        made = costly._count_made.count
        standings, members = run(costly.read_standings(subject(board), board.users))
        assert (costly._count_made.count > made) == (name in concerned), name
        fresh, fresh_members = run(Costly(ledger, Metrics()).read_standings(subject(board), board.users))
        assert (standings, members) == (fresh, fresh_members)
        assert standings.position.seq >= before[name][0].position.seq


def test_a_group_is_made_anew_after_more_events_than_are_looked_through(
    run: Run, ledger: Ledger, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scoreboard.stamps.LOOKED_THROUGH_MAX", 5)
    board = Played(run, ledger, stores)
    board.group(board.users[0], board.users[1], 2)
    board.submit(board.users[0], "", 0)
    costly, subject = Costly(ledger, Metrics()), Subject(board.name, group="g")
    run(costly.read_page(subject, limit=3))
    for events, made in ((5, 1), (6, 2), (5, 2)):
        for _ in range(events):
            board.submit(board.users[2], "", 0)
        run(costly.read_page(subject, limit=3))
        assert costly._count_made.count == made


def test_another_history_at_the_same_numbers_is_noticed(run: Run, ledger: Ledger, stores: Stores) -> None:
    """A database restored from a backup goes on with the same epoch until somebody has seen it."""
    board = Played(run, ledger, stores)
    board.submit(board.users[0], "", 0)
    board.begin_day(board.users[0], "", 0)
    costly, subject = Costly(ledger, Metrics()), Subject(board.name, "day", DAYS[0])
    (first, _) = run(costly.read_standings(subject, board.users))
    assert first.users[0].score == 10
    stores.query("UPDATE totals SET score = 7 WHERE board_id = $1 AND period = $2::text::date", board.name, DAYS[0])
    assert run(costly.read_standings(subject, board.users))[0] == first  # nobody can notice that
    stores.query("UPDATE ledger SET at = at + interval '5 ms' WHERE board_id = $1 AND seq = 2", board.name)
    assert run(costly.read_standings(subject, board.users))[0].users[0].score == 7
    moment = (board.name, 1)
    page = run(costly.read_past_page(*moment, offset=0, limit=3))
    stores.query(
        "UPDATE ledger SET at = at - interval '5 ms', score_after = 8 WHERE board_id = $1 AND seq = 1", board.name
    )
    assert run(costly.read_past_page(*moment, offset=0, limit=3)) != page
