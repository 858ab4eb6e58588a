"""Boards moved by a file, between real stores: what arrives is what left, whatever has happened on the board."""

import hashlib
import io
import itertools
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scoreboard import imports as imports_module
from scoreboard.errors import NotFound, StartupError, Unavailable
from scoreboard.exports import Exports
from scoreboard.imports import Imports, import_board
from scoreboard.metrics import Metrics
from scoreboard.migrations import migrate
from scoreboard.model import SCORE_MAX, Action, Board, Submission
from scoreboard.openings import import_openings
from scoreboard.ranks import Ranks
from scoreboard.repair import Repair
from scoreboard.transfer import BoardFile, Lines
from scoreboard.verify import verify, verify_ledger
from tests.harness import StoreFactory, Stores

Run = Callable[..., Any]
WINDOWS = ("all", "day", "week", "month")

# A clock that a test sets: what PostgreSQL calls is looked for in this schema first.
CLOCK = """
CREATE TABLE clock_shift (shift interval NOT NULL);
INSERT INTO clock_shift VALUES ('-100 days');
CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
AS 'SELECT pg_catalog.clock_timestamp() + shift FROM clock_shift';
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$;
"""


class Place:
    """A migrated database with a clock, its ledger, and a ranking."""

    def __init__(self, run: Run, stores: Stores) -> None:
        self.run, self.stores = run, stores
        run(migrate(stores.database_url))
        for statement in CLOCK.strip().split(";\n"):
            stores.query(statement)
        self.exports: Exports = run(Exports.open(stores.database_url))
        self.ledger: Imports = run(Imports.open(stores.database_url))
        self.ranks = Ranks.open(stores.redis_url)
        self.repair = Repair(self.ledger, self.ranks, Metrics(), on_healed=lambda board: None)

    def close(self) -> None:
        for opened in (self.exports, self.ledger, self.ranks):
            self.run(opened.close())

    def pass_time(self, **duration: float) -> None:
        self.stores.query("UPDATE clock_shift SET shift = shift + $1", timedelta(**duration))

    def export(self, board: str) -> bytes:
        file = io.BytesIO()
        self.run(self.exports.export_board(board, file))
        return file.getvalue()

    def load(self, data: bytes, board: str = "b") -> Any:
        file = BoardFile(Lines(io.BytesIO(data), "file"))
        return self.run(import_board(self.ledger, self.repair, file, board))

    def load_csv(self, text: str, board: str = "c") -> Any:
        lines = Lines(io.BytesIO(text.encode()), "file", ends_open=True)
        return self.run(import_openings(self.ledger, self.repair, lines, board))

    def dump(self, board: str) -> dict[str, list[tuple[Any, ...]]]:
        """All that the database has of a board, without its id."""
        queries = {
            "board": "SELECT (to_jsonb(t) - 'board_id' - 'clock_at')::text FROM boards t WHERE board_id = $1",
            "actions": "SELECT (to_jsonb(t) - 'board_id')::text FROM actions t WHERE board_id = $1 ORDER BY action_id",
            "ledger": "SELECT (to_jsonb(t) - 'board_id')::text FROM ledger t WHERE board_id = $1 ORDER BY seq",
            "totals": "SELECT (to_jsonb(t) - 'board_id')::text FROM totals t WHERE board_id = $1 "
            "ORDER BY time_window, period, user_id",
            "periods": "SELECT (to_jsonb(t) - 'board_id')::text FROM periods t WHERE board_id = $1 AND players > 0 "
            "ORDER BY time_window, period",
        }
        return {name: [tuple(row) for row in self.stores.query(text, board)] for name, text in queries.items()}

    def ranking(self, board: str) -> list[tuple[int, str, int]]:
        page = self.run(self.ledger.read_page(board, limit=100))
        return [(entry.rank, entry.user_id, entry.score) for entry in page.entries]

    def is_untouched(self, board: str) -> bool:
        """Whether there is no trace of a board that did not exist, or of an import."""
        tables = ("boards", "actions", "ledger", "totals", "periods", "imports", "import_users")
        return not any(self.stores.query(f"SELECT 1 FROM {name} WHERE board_id = $1", board) for name in tables)


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ranking's periods are of another time than the set clock's: nothing is to be waited for."""
    monkeypatch.setattr("scoreboard.verify.LAG_WAIT_S", 0.2)


@pytest.fixture
def places(run: Run, store_factory: StoreFactory) -> Iterator[Callable[[], Place]]:
    made: list[Place] = []

    def make() -> Place:
        made.append(Place(run, store_factory.fresh()))
        return made[-1]

    yield make
    for place in made:
        place.close()


@pytest.fixture
def place(places: Callable[[], Place]) -> Place:
    return places()


def play(place: Place, operator: str = "sum", floor: int | None = None, ties: str = "first") -> None:
    """A board ``b`` with every kind of event, in several days, weeks and months."""
    run, ledger = place.run, place.ledger
    board = run(ledger.list_boards(limit=1))[0]
    fields = {"board_id": "b", "windows": WINDOWS, "ties": ties, "timezone": "America/New_York", "operator": operator}
    wanted = Board(**{**{f: getattr(board, f) for f in board.__struct_fields__}, **fields, "floor": floor})
    run(ledger.put_board(wanted))
    run(ledger.put_action("b", Action("win", 10, 0, None, True)))
    run(ledger.put_action("b", Action("free", None, 0, 500, True, -SCORE_MAX, SCORE_MAX)))
    scores = itertools.cycle([5, -3, 20, 0, 12, 7, 20, -30, 1])
    for day in range(12):
        for user in ("ann", "bob", "cyd", 'däve, "x"', "eve")[: 2 + day % 4]:
            submission = Submission("b", user, "free", f"key {day}", next(scores))
            assert run(ledger.submit_scores("b", [submission]))[0].outcome == "recorded"
        if day == 3:
            run(ledger.put_hidden("cyd", hidden=True))
            run(ledger.tell_board("b", "cyd", "show_user"))
        if day == 5:
            run(ledger.put_user("bob", "Bob ☃"))
            run(ledger.tell_board("b", "bob", "name_user"))
            run(ledger.put_hidden("ann", hidden=True))
            run(ledger.tell_board("b", "ann", "show_user"))
        if day == 7:
            run(ledger.put_hidden("ann", hidden=False))
            run(ledger.tell_board("b", "ann", "show_user"))
            run(ledger.put_board(Board(**{f: getattr(wanted, f) for f in wanted.__struct_fields__} | {"title": "T"})))
        if day in (6, 8, 11):
            scores_of_late = place.stores.query("SELECT seq FROM ledger WHERE kind = 'score' ORDER BY seq DESC LIMIT 4")
            run(ledger.revoke_event("b", scores_of_late[day % 4][0], "it was a ☃"))
        if day == 9:
            run(ledger.erase_user("b", "eve", "erased-1"))
            run(ledger.put_board(Board(**{f: getattr(wanted, f) for f in wanted.__struct_fields__} | {"ties": ties})))
        place.pass_time(days=4, hours=7)
    run(ledger.submit_scores("b", [Submission("b", "bob", "win"), Submission("b", "ann", "win")]))


@pytest.mark.parametrize(
    ("operator", "floor", "ties"),
    [("sum", None, "first"), ("sum", 0, "shared"), ("best", None, "first"), ("last", None, "dense")],
)
def test_a_board_arrives_as_it_left(places: Callable[[], Place], operator: str, floor: int | None, ties: str) -> None:
    source = places()
    play(source, operator, floor, ties)
    left, ranking, data = source.dump("b"), source.ranking("b"), source.export("b")
    kinds = {json.loads(row[0])["kind"] for row in left["ledger"]}
    assert kinds == {"score", "hide", "unhide", "name", "erase", "revoke"}
    target = places()
    imported = target.load(data)
    assert (imported.events, imported.resumed_at, imported.told) == (len(left["ledger"]), 0, ())
    assert target.dump("b") == left
    assert target.ranking("b") == ranking
    assert target.run(verify(target.ledger, target.ranks)) == (2, [])
    assert target.stores.query("SELECT 1 FROM imports") == []
    users = "SELECT user_id, display_name, hidden FROM users ORDER BY 1"
    assert target.stores.query(users) == source.stores.query(users)
    assert target.export("b") == data
    # The board goes on: an old key is a replay, a new event is the next one.
    again, new = (Submission("b", "bob", "free", key, points) for key, points in (("key 0", -3), ("new", 4)))
    (replayed, recorded) = (target.run(target.ledger.submit_scores("b", [each]))[0] for each in (again, new))
    assert (replayed.outcome, replayed.seq) == ("replayed", 2)
    assert (recorded.outcome, recorded.seq) == ("recorded", imported.events + 1)


def test_settings_events_and_openings_arrive(places: Callable[[], Place]) -> None:
    source = places()
    source.load_csv("ann,10\nbob,-4\n", "b")
    board = source.run(source.ledger.read_board("b"))
    source.run(source.ledger.put_action("b", Action("win", 10, 0, None, True)))
    changed = {f: getattr(board, f) for f in board.__struct_fields__} | {"ties": "dense", "windows": ("all", "week")}
    assert source.run(source.ledger.put_board(Board(**changed)))[1]
    source.run(source.ledger.submit_scores("b", [Submission("b", "cyd", "win")]))
    while not source.run(source.ledger.fill_windows("b")):
        pass
    left, data = source.dump("b"), source.export("b")
    assert [json.loads(row[0])["kind"] for row in left["ledger"]] == [
        "opening",
        "opening",
        "settings",
        "score",
        "settings",
    ]
    target = places()
    target.load(data)
    assert target.dump("b") == left
    assert target.run(verify(target.ledger, target.ranks)) == (2, [])


def test_nothing_of_a_board_is_missing_that_was_never_played(places: Callable[[], Place]) -> None:
    source, data = (made := places()), made.export("global")
    target = places()
    target.load(data, "global")
    assert target.export("global") == data == source.export("global")


def test_a_board_that_does_not_exist_is_not_exported(place: Place) -> None:
    with pytest.raises(NotFound, match="'nowhere'"):
        place.export("nowhere")


# -- a random history


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("score"), st.sampled_from("abcd"), st.integers(-5, 9)),
        st.tuples(st.just("revoke"), st.integers(1, 20)),
        st.tuples(st.just("hide"), st.sampled_from("abcd"), st.booleans()),
        st.tuples(st.just("here"), st.sampled_from("abcd"), st.booleans()),
        st.tuples(st.just("erase"), st.sampled_from("abcd")),
        st.tuples(st.just("days"), st.integers(1, 20)),
    ),
    max_size=25,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS, st.sampled_from(["sum", "best", "last"]), st.sampled_from(["first", "shared"]))
def test_any_history_arrives_as_it_is(place: Place, steps: list[tuple[Any, ...]], operator: str, ties: str) -> None:
    number = len(place.stores.query("SELECT 1 FROM boards"))
    board, copy = f"from{number}", f"to{number}"
    run, ledger = place.run, place.ledger
    fields = place.run(ledger.read_board("global"))
    named = {f: getattr(fields, f) for f in fields.__struct_fields__}
    run(ledger.put_board(Board(**named | {"board_id": board, "windows": WINDOWS, "ties": ties, "operator": operator})))
    run(ledger.put_action(board, Action("free", None, 0, None, True, -10, 10)))
    for index, step in enumerate(steps):
        match step:
            case ("score", user, points):
                run(ledger.submit_scores(board, [Submission(board, f"{user}{number}", "free", None, points)]))
            case ("revoke", seq):
                try:
                    run(ledger.revoke_event(board, seq, "why"))
                except Exception as exc:
                    assert type(exc).__name__ in ("NotFound", "Invalid")
            case ("hide", user, hidden):
                run(ledger.put_hidden(f"{user}{number}", hidden=hidden))
                run(ledger.tell_board(board, f"{user}{number}", "show_user"))
            case ("here", user, hidden):
                run(ledger.hide_on_board(board, f"{user}{number}", hidden=hidden))
            case ("erase", user):
                run(ledger.forget_user(f"{user}{number}"))
                run(ledger.erase_user(board, f"{user}{number}", f"erased-{number}-{index}"))
            case ("days", days):
                place.pass_time(days=days)
    left = place.dump(board)
    place.load(place.export(board), copy)
    arrived = place.dump(copy)
    assert {name: arrived[name] for name in left} == left
    assert run(verify_ledger(ledger, copy)) == run(verify_ledger(ledger, board))


# -- what is refused, and leaves nothing


def lines_of(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


def signed(lines: list[bytes]) -> bytes:
    """Lines with an end that fits them."""
    body = b"".join(lines[:-1])
    end = json.loads(lines[-1]) | {"sha256": hashlib.sha256(body).hexdigest()}
    return body + json.dumps(end).encode() + b"\n"


@pytest.fixture
def data(place: Place) -> bytes:
    """A file with an action, 3 events, and the end: 6 lines."""
    place.run(place.ledger.put_action("global", Action("win", 10, 0, None, True)))
    for user in ("ann", "bob", "ann"):
        key = f"of {user}" if user == "bob" else None
        place.run(place.ledger.submit_scores("global", [Submission("global", user, "win", key)]))
    exported = place.export("global")
    assert len(lines_of(exported)) == 6
    return exported


def test_a_file_that_is_cut_off_anywhere_is_refused(
    places: Callable[[], Place], data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports_module, "PORTION_LINES", 1)
    target = places()
    for size in (0, 1, 40, *(len(data) * part // 12 for part in range(1, 12)), len(data) - 1):
        with pytest.raises(StartupError, match="file"):
            target.load(data[:size])
        assert target.is_untouched("b"), size
    target.load(data)


@pytest.mark.parametrize(
    ("line", "old", "new", "said"),
    [
        (0, b'"format":1', b'"format":2', "line 1: format is 2, and this version reads 1"),
        (0, b'"timezone":"UTC"', b'"timezone":"Mars"', "line 1: timezone 'Mars'"),
        (1, b'"actionId":"win"', b'"actionId":"w n"', "line 2: actionId 'w n'"),
        (2, b'"seq":1', b'"seq":2', "line 3: seq is 2, not 1"),
        (3, b'"points":10', b'"points":"x"', "line 4: Expected `int`"),
        (3, b'"points":10', b'"points":9007199254740992', "line 4: Expected `int` <= 9007199254740991"),
        (3, b'"userId":"bob"', b'"userId":""', "line 4: userId is empty"),
        (3, b'"userId":"bob"', b'"userId":"bob","more":1', "line 4: Object contains unknown field `more`"),
        (3, b'"userId":"bob"', b'"userId":"bob","kind":"hide"', "line 4: an event of kind 'hide' has no points"),
        (3, b"{", b"[", "line 4: "),
        (4, b'"scoreAfter":20', b'"scoreAfter":30', "line 5: scoreAfter 30 of user 'ann': the points of all"),
        (4, b'"at":"2', b'"at":"1', "line 5: at is before"),
        (5, b'"events":3', b'"events":4', "line 6: there are 3 events before it"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_and_nothing_is_left(
    places: Callable[[], Place], data: bytes, line: int, old: bytes, new: bytes, said: str
) -> None:
    target = places()
    lines = lines_of(data)
    assert old in lines[line]
    lines[line] = lines[line].replace(old, new)
    with pytest.raises(StartupError) as refused:
        target.load(signed(lines))
    assert said in str(refused.value)
    assert target.is_untouched("b")
    assert target.run(verify(target.ledger, target.ranks)) == (1, [])


def test_a_file_that_was_changed_is_refused(places: Callable[[], Place], data: bytes) -> None:
    target = places()
    with pytest.raises(StartupError, match="line 6: the lines before it have the SHA-256"):
        target.load(data.replace(b'"bob"', b'"rob"'))
    with pytest.raises(StartupError, match="line 7: something follows the end"):
        target.load(data + b"\n")
    assert target.is_untouched("b")


def test_a_board_with_events_is_refused_and_kept(place: Place, data: bytes) -> None:
    before = place.dump("global")
    with pytest.raises(StartupError, match="board 'global' has 3 events"):
        place.load(data, "global")
    assert place.dump("global") == before


def test_a_key_that_the_database_has_already_is_named(place: Place, data: bytes) -> None:
    with pytest.raises(StartupError, match="line 4: key 'of bob' of user 'bob' was used in this database before"):
        place.load(data, "copy")
    assert place.is_untouched("copy")


def test_an_empty_board_is_as_it_was_after_a_refusal(places: Callable[[], Place], data: bytes) -> None:
    target = places()
    board = target.run(target.ledger.read_board("global"))
    fields = {f: getattr(board, f) for f in board.__struct_fields__}
    target.run(target.ledger.put_board(Board(**fields | {"board_id": "mine", "windows": ("all", "day")})))
    before = target.dump("mine")
    with pytest.raises(StartupError):
        target.load(data[:-5], "mine")
    assert target.dump("mine") == before


# -- interruptions


class Interrupted(Exception):
    """What stands for the end of the process: nobody cleans up after it."""


def interrupt_after(portions: int) -> Callable[[int, int], None]:
    left = itertools.count(portions, -1)

    def report(done: int, total: int) -> None:
        if next(left) == 0:
            raise Interrupted

    return report


@pytest.fixture
def half(places: Callable[[], Place], data: bytes, monkeypatch: pytest.MonkeyPatch) -> Place:
    """A database into which two of three events of ``data`` have come."""
    monkeypatch.setattr(imports_module, "PORTION_LINES", 1)
    target = places()
    file = BoardFile(Lines(io.BytesIO(data), "file"))
    with pytest.raises(Interrupted):
        target.run(import_board(target.ledger, target.repair, file, "b", interrupt_after(2)))
    assert target.stores.query("SELECT events FROM imports") == [(2,)]
    return target


def test_an_import_goes_on_where_it_was(half: Place, place: Place, data: bytes) -> None:
    imported = half.load(data)
    assert (imported.events, imported.resumed_at) == (3, 2)
    assert half.dump("b") == place.dump("global")
    assert half.run(verify(half.ledger, half.ranks)) == (2, [])


def test_a_half_imported_board_shows_nothing_and_takes_nothing(half: Place) -> None:
    assert half.ranking("b") == []
    assert half.run(half.ledger.read_history("b", "ann", before=SCORE_MAX, limit=9)) == []
    assert half.run(half.ledger.list_user_boards("ann")) == []
    half.run(half.repair.heal("b"))
    half.run(half.ledger.put_action("b", Action("win", 10, 0, None, True)))
    for attempt in (
        half.ledger.submit_scores("b", [Submission("b", "ann", "win")]),
        half.ledger.revoke_event("b", 1, "why"),
    ):
        with pytest.raises(Unavailable, match="board 'b' is being imported"):
            half.run(attempt)
    (difference,) = half.run(verify(half.ledger, half.ranks))[1]
    assert (difference.what, difference.detail) == ("import is unfinished", "2 events are in, and not shown yet")
    with pytest.raises(StartupError, match="unfinished"):
        half.export("b")


def test_another_file_does_not_go_on_with_an_import(half: Place, data: bytes) -> None:
    with pytest.raises(StartupError, match=r"another file .* its first 4 lines"):
        half.load(signed(lines_of(data.replace(b'"bob"', b'"rob"'))))
    with pytest.raises(StartupError, match="another file"):
        half.load_csv("ann,1\n", "b")
    assert half.load(data).resumed_at == 2


def test_what_an_unfinished_import_left_can_be_discarded(half: Place, data: bytes) -> None:
    async def discard() -> bool:
        async with half.ledger.hold("b") as connection:
            return await half.ledger.discard(connection, "b")

    assert half.run(discard())
    assert half.is_untouched("b")
    assert not half.run(discard())
    assert half.load(data).resumed_at == 0


def test_a_discard_that_was_interrupted_is_completed_first(half: Place, data: bytes) -> None:
    half.stores.query("UPDATE imports SET stage = 'discarding'")
    half.stores.query("DELETE FROM ledger WHERE seq = 1")
    assert half.load(data).resumed_at == 0
    assert half.run(verify(half.ledger, half.ranks)) == (2, [])


def test_a_board_whose_ranking_is_missing_gets_it_by_starting_again(
    places: Callable[[], Place], data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object, **__: object) -> None:
        raise Interrupted

    target = places()
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(imports_module, "rank", fail)
        target.load(data)
    target.run(target.ledger.submit_scores("b", [Submission("b", "new", "win")]))
    assert target.load(data).resumed_at == 3
    assert target.run(verify(target.ledger, target.ranks)) == (2, [])
    with pytest.raises(StartupError, match="has 4 events"):
        target.load(data)


def test_two_imports_into_a_board_do_not_mix(half: Place, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports_module, "TAKE_WAIT_S", 0.2)

    async def import_twice() -> None:
        async with half.ledger.hold("b"):
            file = BoardFile(Lines(io.BytesIO(data), "file"))
            with pytest.raises(StartupError, match="another process is importing into board 'b'"):
                await import_board(half.ledger, half.repair, file, "b")

    half.run(import_twice())


# -- users who are known


def test_what_the_database_knows_of_users_stands_and_its_boards_agree(
    places: Callable[[], Place], place: Place, data: bytes
) -> None:
    for user, name, hidden in (("ann", "Ann there", False), ("bob", "Bob there", True)):
        place.run(place.ledger.put_user(user, name))
        place.run(place.ledger.put_hidden(user, hidden=hidden))
        place.run(place.ledger.tell_board("global", user, "show_user"))
    data = place.export("global")
    target = places()
    run, ledger = target.run, target.ledger
    run(ledger.put_action("global", Action("win", 10, 0, None, True)))
    run(ledger.submit_scores("global", [Submission("global", user, "win") for user in ("ann", "bob")]))
    run(target.repair.heal("global"))
    run(ledger.put_user("ann", "Ann here"))
    run(ledger.put_hidden("ann", hidden=True))
    run(ledger.tell_board("global", "ann", "show_user"))
    imported = target.load(data)
    assert sorted(imported.told) == ["b", "global"]
    known = target.stores.query("SELECT user_id, display_name, hidden, revision = told_revision FROM users ORDER BY 1")
    assert known[0][:3] == ("ann", "Ann here", True)
    assert known[1] == ("bob", "Bob there", True, True)
    hidden = target.stores.query("SELECT board_id, user_id, hidden FROM totals ORDER BY 1, 2")
    assert hidden == [("b", "ann", True), ("b", "bob", True), ("global", "ann", True), ("global", "bob", True)]
    assert run(verify(ledger, target.ranks)) == (2, [])


def test_other_boards_are_told_of_users_a_few_at_a_time_and_of_each_once(
    places: Callable[[], Place], place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    users, target = ("ann", "bob", "cyd"), places()
    run, ledger = target.run, target.ledger
    for each in (place, target):
        each.run(each.ledger.put_action("global", Action("win", 10, 0, None, True)))
        each.run(each.ledger.submit_scores("global", [Submission("global", user, "win") for user in users]))
    for user in users:
        place.run(place.ledger.put_user(user, f"{user} there"))
    data = place.export("global")
    run(target.repair.heal("global"))
    monkeypatch.setattr(imports_module, "TOLD_USERS", 1)
    asked: list[str] = []
    fetch_one = ledger._fetch_one

    async def interrupt(pool: Any, name: str, *arguments: Any) -> Any:
        asked.append(name)
        if asked.count("tell_users") == 3:
            raise Unavailable("the second of three users is told")
        return await fetch_one(pool, name, *arguments)

    monkeypatch.setattr(ledger, "_fetch_one", interrupt)
    with pytest.raises(Unavailable):
        target.load(data)
    query = "SELECT user_id FROM ledger WHERE board_id = 'global' AND kind = 'name' ORDER BY seq"
    assert target.stores.query(query) == [("ann",), ("bob",)]
    assert target.load(data).told == ("global",)
    assert target.stores.query(query) == [("ann",), ("bob",), ("cyd",)]
    assert target.stores.query("SELECT count(*) FROM users WHERE revision <> told_revision") == [(0,)]
    assert target.stores.query("SELECT count(*) FROM import_users") == [(0,)]
    assert run(verify(ledger, target.ranks)) == (2, [])


# -- openings


def test_openings_are_events_that_count_in_all_only(place: Place) -> None:
    board = place.run(place.ledger.read_board("global"))
    fields = {f: getattr(board, f) for f in board.__struct_fields__}
    place.run(place.ledger.put_board(Board(**fields | {"board_id": "c", "windows": WINDOWS, "ties": "first"})))
    place.run(place.ledger.put_hidden("bob", hidden=True))
    text = '\ufeffuserId,score\r\ncyd,5\r\n"x, ""y""",5\r\nbob,9007199254740991\r\nann,-7'
    assert place.load_csv(text).events == 4
    assert place.ranking("c") == [(1, "cyd", 5), (2, 'x, "y"', 5), (3, "ann", -7)]
    events = place.stores.query("SELECT kind, action_id, points, score_after FROM ledger WHERE seq = 4")
    assert events == [("opening", "opening", -7, -7)]
    total = place.run(place.ledger.read_total("c", "ann"))
    assert (total.score, total.submissions, total.first_at) == (-7, 1, total.last_at)
    assert place.run(place.ledger.read_total("c", "ann", "day")) is None
    assert place.run(verify(place.ledger, place.ranks)) == (2, [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ann,1\nbob,x\n", "line 2: score 'x' is not an integer: bob,x"),
        ("ann,1\nbob,1.5\n", "line 2: score '1.5' is not an integer"),
        ("ann,1\nbob,9007199254740992\n", "line 2: score 9007199254740992 is beyond +-9007199254740991"),
        ("ann,1\n,5\n", "line 2: userId is empty"),
        (f"ann,1\n{'x' * 65},5\n", "has 65 characters, more than 64"),
        ("userId,score\nann,1\nbob,2\nann,3\n", "line 4: userId 'ann' is in line 2 already"),
        ("ann,1\nbob\n", "line 2: has 1 fields"),
        ("ann,1\n\nbob,2\n", "line 2: "),
        ('ann,1\n"bob,2\n', "line 2: is no line of CSV"),
    ],
)
def test_a_bad_line_of_csv_is_named_and_nothing_is_left(place: Place, text: str, said: str) -> None:
    with pytest.raises(StartupError) as refused:
        place.load_csv(text)
    assert said in str(refused.value)
    assert place.is_untouched("c")


def test_csv_into_a_board_with_events_is_refused(place: Place, data: bytes) -> None:
    with pytest.raises(StartupError, match="board 'global' has 3 events"):
        place.load_csv("ann,1\n", "global")


def test_openings_below_the_floor_of_the_board_are_refused(place: Place) -> None:
    board = place.run(place.ledger.read_board("global"))
    fields = {f: getattr(board, f) for f in board.__struct_fields__}
    place.run(place.ledger.put_board(Board(**fields | {"floor": 0})))
    with pytest.raises(StartupError, match="line 2: score -1 is below 0, the floor of the board"):
        place.load_csv("ann,1\nbob,-1\n", "global")
