"""The writer on real stores: sharing, order, bounds, and one bad submission among good ones."""

import asyncio
from collections.abc import Callable, Iterator

import pytest

from scoreboard import writer as writer_module
from scoreboard.errors import NotFound, Overloaded, Unavailable
from scoreboard.ledger import Ledger
from scoreboard.metrics import Metrics
from scoreboard.model import SCORE_MAX, Action, Position, Submission
from scoreboard.ranks import Ranks
from scoreboard.repair import Repair
from scoreboard.writer import Receipt, Writer
from tests.harness import Stores, wait_until

Run = Callable[..., object]


class Desk:
    """A writer, and what it said was acknowledged."""

    def __init__(self, ledger: Ledger, ranks: Ranks, repair: Repair) -> None:
        self.answers: list[tuple[str, Position]] = []
        self.metrics = Metrics()
        self.writer = Writer(ledger, ranks, repair, self.metrics, lambda b, p: self.answers.append((b, p)))

    async def submit(self, *submissions: tuple[str, str, str | None]) -> list[Receipt | BaseException]:
        waits = [self.writer.submit_score(Submission("global", *each)) for each in submissions]
        return await asyncio.gather(*waits, return_exceptions=True)

    def batches(self) -> list[float]:
        return [
            s.value for m in self.metrics.batch_size.collect() for s in m.samples if s.name.endswith(("_count", "_sum"))
        ]


@pytest.fixture
def desk(run: Run, ledger: Ledger, ranks: Ranks, repair: Repair) -> Iterator[Desk]:
    run(repair.heal("global"))
    desk = Desk(ledger, ranks, repair)
    yield desk
    run(desk.writer.close())
    assert desk.writer.queued == 0


def test_submissions_that_wait_together_share_a_transaction(run: Run, desk: Desk) -> None:
    receipts = run(desk.submit(*[(f"user{i}", "win", None) for i in range(100)]))
    assert [receipt.ruling.seq for receipt in receipts] == list(range(1, 101))
    assert [receipt.change.rank for receipt in receipts] == [1] * 100
    count, total = desk.batches()
    assert (count, total) == (1, 100)
    assert desk.answers[-1][1].seq == 100


def test_a_lone_submission_is_its_own_batch(run: Run, desk: Desk) -> None:
    run(desk.submit(("a", "win", None)))
    assert desk.batches() == [1, 1]


def test_fifty_repeats_of_a_key_are_one_event(run: Run, desk: Desk) -> None:
    receipts = run(desk.submit(*[("a", "win", "k")] * 50))
    assert {receipt.ruling.seq for receipt in receipts} == {1}
    assert sorted(receipt.ruling.outcome for receipt in receipts) == ["recorded"] + ["replayed"] * 49
    assert run(desk.submit(("a", "win", "k")))[0].ruling.outcome == "replayed"


def test_a_key_with_another_body_is_refused_in_the_same_breath(run: Run, ledger: Ledger, desk: Desk) -> None:
    run(ledger.put_action("global", Action("lose", -1, 0, None, True)))
    receipts = run(desk.submit(("a", "win", "k"), ("a", "lose", "k"), ("a", "win", "k")))
    assert [receipt.ruling.outcome for receipt in receipts] == ["recorded", "idempotency_mismatch", "replayed"]


def test_a_repeat_of_a_refused_submission_is_refused_too(run: Run, desk: Desk) -> None:
    receipts = run(desk.submit(("a", "nope", "k"), ("a", "nope", "k")))
    assert [receipt.ruling.outcome for receipt in receipts] == ["unknown_action"] * 2
    assert run(desk.submit(("a", "win", "k")))[0].ruling.outcome == "recorded"


def test_a_poison_submission_leaves_its_batch_alone(run: Run, ledger: Ledger, desk: Desk) -> None:
    run(ledger.put_action("global", Action("max", SCORE_MAX, 0, None, True)))
    run(desk.submit(("a", "win", None)))
    receipts = run(desk.submit(("b", "win", None), ("a", "max", None), ("c", "win", None)))
    assert [receipt.ruling.outcome for receipt in receipts] == ["recorded", "invalid", "recorded"]
    assert [receipt.change is not None for receipt in receipts] == [True, False, True]


def test_one_key_on_two_boards_at_once_has_one_effect(run: Run, ledger: Ledger, desk: Desk, stores: Stores) -> None:
    stores.query("INSERT INTO boards (board_id) VALUES ('other')")
    run(ledger.put_action("other", Action("win", 10, 0, None, True)))

    async def race() -> list[str]:
        keys = [f"k{i}" for i in range(20)]
        waits = [desk.writer.submit_score(Submission(b, "a", "win", k)) for k in keys for b in ("global", "other")]
        receipts = await asyncio.gather(*waits)
        return [receipt.ruling.outcome for receipt in receipts]

    outcomes = run(race())
    assert sorted(set(outcomes)) == ["idempotency_mismatch", "recorded"]
    assert outcomes.count("recorded") == 20


def test_a_client_that_hangs_up_does_not_stop_its_submission(run: Run, ledger: Ledger, desk: Desk) -> None:
    async def hang_up() -> None:
        tasks = [asyncio.create_task(desk.writer.submit_score(Submission("global", u, "win"))) for u in "ab"]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.to_thread(wait_until, lambda: desk.writer.queued == 0, what="an empty queue")

    run(hang_up())
    assert run(ledger.read_heads({"global": []}))["global"][0].seq == 2
    assert run(desk.submit(("c", "win", None)))[0].ruling.seq == 3


def test_a_full_queue_refuses_at_once(run: Run, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "QUEUE_MAX", 10)
    receipts = run(desk.submit(*[(f"user{i}", "win", None) for i in range(15)]))
    assert [isinstance(receipt, Overloaded) for receipt in receipts] == [False] * 10 + [True] * 5
    assert desk.writer.queued == 0


def test_a_ledger_that_stalls_refuses_those_only_whom_its_next_transaction_does_not_take(
    run: Run, desk: Desk, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "BATCH_MAX", 4)
    monkeypatch.setattr(writer_module, "WAIT_REFUSE_S", -1.0)  # whoever waits has waited too long

    async def stall() -> list[Receipt | BaseException]:
        async with ledger._repairs.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM boards WHERE board_id = 'global' FOR UPDATE")
            first = asyncio.create_task(desk.submit(("a", "win", None)))
            await asyncio.to_thread(wait_until, lambda: desk.batches() == [1, 1], what="a transaction")
            others = asyncio.create_task(desk.submit(*[(user, "win", None) for user in "bcdefg"]))
            await asyncio.sleep(0)
        return [*await first, *await others]

    receipts = run(stall())
    assert [isinstance(receipt, Overloaded) for receipt in receipts] == [False] * 5 + [True] * 2
    assert [receipt.ruling.seq for receipt in receipts[:5]] == [1, 2, 3, 4, 5]


def test_a_writer_that_is_closing_takes_no_more(run: Run, desk: Desk) -> None:
    run(desk.submit(("a", "win", None)))
    run(desk.writer.close())
    assert isinstance(run(desk.submit(("a", "win", None)))[0], Unavailable)


def test_an_unknown_board_is_told_to_everyone_who_waits(run: Run, desk: Desk) -> None:
    async def submit() -> list[object]:
        waits = [desk.writer.submit_score(Submission("nowhere", "a", "win")) for _ in range(3)]
        return await asyncio.gather(*waits, return_exceptions=True)

    assert [type(answer) for answer in run(submit())] == [NotFound] * 3


def test_events_that_another_server_committed_first_are_applied_on_its_behalf(
    run: Run, ledger: Ledger, ranks: Ranks, desk: Desk
) -> None:
    run(ledger.submit_scores("global", [Submission("global", "other", "win")] * 3))
    receipt = run(desk.submit(("a", "win", None)))[0]
    assert (receipt.ruling.seq, receipt.change.rank, receipt.change.previous_rank) == (4, 2, None)
    assert run(ranks.read_head("global")).seq == 4


def test_without_a_ranking_submissions_are_recorded_unranked(run: Run, desk: Desk, stores: Stores) -> None:
    with stores.redis() as client:
        client.flushdb()
    receipt = run(desk.submit(("a", "win", None)))[0]
    assert (receipt.ruling.outcome, receipt.change) == ("recorded", None)
