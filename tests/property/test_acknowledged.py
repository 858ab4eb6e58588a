"""What the processes of a server know of each other's acknowledgements, against a dictionary."""

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreboard import acknowledged
from scoreboard.acknowledged import Acknowledged, shared_bytes
from scoreboard.model import SCORE_MAX, Position

PROCESSES = 3
BOARDS = st.sampled_from(["global", "b", "c", "d"])
SEQS = st.integers(0, 5) | st.integers(SCORE_MAX - 3, SCORE_MAX)
EPOCHS = st.sampled_from(["first1", "second"])
POSITIONS = st.builds(Position, EPOCHS, SEQS)
NOTES = st.lists(st.tuples(st.integers(0, PROCESSES - 1), BOARDS, POSITIONS), max_size=30)


def make_processes(count: int = PROCESSES) -> list[Acknowledged]:
    memory = mmap.mmap(-1, shared_bytes(count))
    return [Acknowledged(memory, row) for row in range(count)]


@given(NOTES, BOARDS, POSITIONS)
def test_each_knows_what_any_of_them_acknowledged(
    notes: list[tuple[int, str, Position]], board: str, position: Position
) -> None:
    processes = make_processes()
    latest: dict[tuple[int, str], Position] = {}
    for process, noted, at in notes:
        processes[process].note(noted, at)
        known = latest.get((process, noted))
        if known is None or known.epoch != at.epoch or known.seq < at.seq:
            latest[process, noted] = at
    of_board = [at for (_, noted), at in latest.items() if noted == board]
    expected = all(at.epoch == position.epoch and at.seq <= position.seq for at in of_board)
    assert {process.is_met_by(board, position) for process in processes} == {expected}


@given(NOTES, BOARDS, POSITIONS)
def test_whoever_takes_a_place_knows_what_was_acknowledged_there(
    notes: list[tuple[int, str, Position]], board: str, position: Position
) -> None:
    memory = mmap.mmap(-1, shared_bytes(PROCESSES))
    before = [Acknowledged(memory, row) for row in range(PROCESSES)]
    for process, noted, at in notes:
        before[process].note(noted, at)
    successor = Acknowledged(memory, 0)
    assert successor.is_met_by(board, position) == before[1].is_met_by(board, position)


def test_what_is_noted_again_does_not_take_back_what_a_predecessor_noted() -> None:
    memory = mmap.mmap(-1, shared_bytes(2))
    Acknowledged(memory, 0).note("global", Position("e1ab", 7))
    Acknowledged(memory, 0).note("global", Position("e1ab", 5))
    assert not Acknowledged(memory, 1).is_met_by("global", Position("e1ab", 6))


@given(NOTES, BOARDS, POSITIONS)
def test_what_belongs_to_a_lost_history_is_in_nobodys_way_once_the_ledger_was_read(
    notes: list[tuple[int, str, Position]], board: str, ledger: Position
) -> None:
    processes = make_processes()
    for process, noted, at in notes:
        processes[process].note(noted, at)
    reader = processes[0]
    needed = reader.needed(board)
    assert needed.met_by(ledger) == reader.is_met_by(board, ledger)
    reader.settle(board, needed, ledger)
    newest = max((at.seq for _, b, at in notes if b == board and at.epoch == ledger.epoch), default=0)
    assert reader.is_met_by(board, Position(ledger.epoch, max(newest, ledger.seq)))
    if newest < SCORE_MAX:
        processes[1].note(board, Position(ledger.epoch, newest + 1))
        assert not reader.is_met_by(board, Position(ledger.epoch, newest))


def test_a_process_alone_shares_nothing() -> None:
    alone = Acknowledged()
    assert alone.is_met_by("global", Position("e1ab", 0))
    alone.note("global", Position("e1ab", 2))
    assert not alone.is_met_by("global", Position("e1ab", 1))
    assert alone.is_met_by("global", Position("e1ab", 2))


def test_what_does_not_fit_counts_as_newer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acknowledged, "ROW_BOARDS_MAX", 3)
    one, other = make_processes(2)
    for number in range(4):
        one.note(f"board-{number}", Position("e1ab", 1))
    assert [other.is_met_by(f"board-{number}", Position("e1ab", 1)) for number in range(3)] == [True] * 3
    assert not other.is_met_by("board-3", Position("e1ab", 1))
    other.settle("board-3", other.needed("board-3"), Position("e1ab", 1))
    assert not other.is_met_by("board-3", Position("e1ab", 1))
    assert one.is_met_by("board-3", Position("e1ab", 1))
    assert one.is_met_by("board-0", Position("e1ab", 1))


def test_boards_whose_tags_lie_together_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acknowledged, "_tag", lambda board: 1 + acknowledged.ROW_SLOTS * (1 + len(board)))
    one, other = make_processes(2)
    for number in range(1, 9):
        one.note("x" * number, Position("e1ab", number))
    for number in range(1, 9):
        assert other.is_met_by("x" * number, Position("e1ab", number))
        assert not other.is_met_by("x" * number, Position("e1ab", number - 1))
