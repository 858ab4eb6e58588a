"""Repair on real stores: whatever is missing in the ranking comes back from the ledger."""

import asyncio
from collections.abc import Callable
from datetime import datetime

import orjson
import pytest

from scoreboard import repair as repair_module
from scoreboard.acknowledged import Acknowledged
from scoreboard.costly import Costly
from scoreboard.errors import NotFound
from scoreboard.feed import Feed
from scoreboard.ledger import Ledger
from scoreboard.metrics import Metrics
from scoreboard.model import Board, Submission
from scoreboard.pump import Pump
from scoreboard.ranks import Ranks
from scoreboard.reads import Reads
from scoreboard.repair import TICK_S, Repair
from tests.harness import DEADLINE_S, Stores, read_metric
from tests.rankings import head_key

Run = Callable[..., object]


def record(run: Run, ledger: Ledger, *users: str) -> None:
    run(ledger.submit_scores("global", [Submission("global", user, "win") for user in users]))


def ranking(run: Run, ranks: Ranks) -> dict[str, int]:
    async def read() -> dict[str, int]:
        return {each.user_id: each.score async for part in ranks.read_slices("global") for each in part}

    return run(read())


def repairs(repair: Repair, kind: str) -> float:
    """How many of a kind have begun."""
    return read_metric(repair._metrics.render().decode(), f'scoreboard_repairs_total{{kind="{kind}"}}')


def test_a_lost_ranking_is_rebuilt(run: Run, ledger: Ledger, ranks: Ranks, repair: Repair, stores: Stores) -> None:
    record(run, ledger, "a", "b", "a")
    run(repair.heal("global"))
    with stores.redis() as client:
        client.flushdb()
    run(repair.heal("global"))
    assert ranking(run, ranks) == {"a": 20, "b": 10}


def test_a_lagging_ranking_is_replayed(run: Run, ledger: Ledger, ranks: Ranks, repair: Repair) -> None:
    run(repair.heal("global"))
    for _ in range(3):
        record(run, ledger, *[f"user{i}" for i in range(400)])
    run(repair.heal("global"))
    assert run(ranks.read_head("global")).seq == 1_200
    assert set(ranking(run, ranks).values()) == {30}


@pytest.mark.parametrize(
    ("users", "inline_max", "replay_max", "is_rebuilt"),
    [
        (["a", "b", "c"], 2, 3, False),  # as many players as events are missing
        (["a", "b", "c"], 2, 2, True),
        (["a", "b", "a"], 2, 3, True),
        (["a", "b", "a"], 3, 3, False),
    ],
)
def test_a_lag_is_rebuilt_where_that_is_quicker_than_a_replay(
    run: Run, ledger: Ledger, ranks: Ranks, repair: Repair, monkeypatch: pytest.MonkeyPatch,
    users: list[str], inline_max: int, replay_max: int, is_rebuilt: bool,
) -> None:  # fmt: skip
    run(repair.heal("global"))
    monkeypatch.setattr(repair_module, "INLINE_LAG_MAX", inline_max)
    monkeypatch.setattr(repair_module, "REPLAY_LAG_MAX", replay_max)
    before = repairs(repair, "rebuild"), repairs(repair, "replay")
    record(run, ledger, *users)
    run(repair.heal("global"))
    assert run(ranks.read_head("global")).seq == 3
    assert (repairs(repair, "rebuild"), repairs(repair, "replay")) == (
        before[0] + is_rebuilt,
        before[1] + (not is_rebuilt),
    )


def test_a_ranking_ahead_of_the_ledger_means_another_history(
    run: Run, ledger: Ledger, ranks: Ranks, repair: Repair, stores: Stores
) -> None:
    record(run, ledger, "a", "b")
    run(repair.heal("global"))
    before = run(ranks.read_head("global"))
    for statement in (
        "DELETE FROM ledger WHERE seq = 2",
        "DELETE FROM totals WHERE user_id = 'b'",
        "UPDATE boards SET seq = 1, players = 1, last_at = (SELECT at FROM ledger)",
    ):
        stores.query(statement)
    run(repair.heal("global"))
    after = run(ranks.read_head("global"))
    assert after.epoch != before.epoch
    assert (after.seq, ranking(run, ranks)) == (1, {"a": 10})


def test_a_rebuild_under_load_never_goes_back(run: Run, ledger: Ledger, ranks: Ranks, repair: Repair) -> None:
    async def write(stop: asyncio.Event) -> None:
        while not stop.is_set():
            submissions = [Submission("global", user, "win") for user in "abc"]
            rulings = await ledger.submit_scores("global", submissions)
            await repair.heal("global")
            assert rulings

    async def watch(stop: asyncio.Event, heads: list[int]) -> None:
        while not stop.is_set():
            heads.append((await ranks.read_head("global")).seq)

    async def race() -> list[int]:
        await repair.heal("global")
        stop, heads = asyncio.Event(), []
        tasks = [asyncio.create_task(write(stop)), asyncio.create_task(watch(stop, heads))]
        async with asyncio.timeout(DEADLINE_S):
            for _ in range(20):
                await repair.rebuild("global")
        stop.set()
        await asyncio.gather(*tasks)
        return heads

    heads = run(race())
    assert heads == sorted(heads)
    assert run(ranks.read_head("global")).seq == run(ledger.read_heads({"global": []}))["global"][0].seq


def test_a_board_that_is_not_there_is_not_found(run: Run, repair: Repair) -> None:
    with pytest.raises(NotFound):
        run(repair.heal("nowhere"))


def test_events_read_back_have_a_rank_before_unless_they_are_first(
    run: Run, ledger: Ledger, ranks: Ranks, repair: Repair
) -> None:
    metrics = Metrics()
    feed = Feed(
        ledger,
        ranks,
        Reads(ledger, ranks, repair, metrics, Acknowledged(), Costly(ledger, metrics)),
        Pump(metrics),
        metrics,
        repair.see,
    )
    record(run, ledger, "old")
    record(run, ledger, "new", "old", "new")
    run(repair.heal("global"))
    events = run(ledger.read_events("global", after=1, limit=10))
    told = run(feed._tell("global", "all", None, events, after=1))
    updates = [orjson.loads(data) for _, _, data in told]
    ranks_told = [(update["userId"], update["rank"], update["previousRank"]) for update in updates]
    assert ranks_told == [("new", 1, None), ("old", 1, 1), ("new", 1, 1)]


def test_the_watch_notices_what_nobody_reported(run: Run, ledger: Ledger, ranks: Ranks) -> None:
    """A server died between COMMIT and script: no one says so, the lag alone tells."""

    async def watch() -> None:
        healed = asyncio.Event()
        repair = Repair(ledger, ranks, Metrics(), on_healed=lambda board: healed.set())
        await repair.heal("global")
        repair.use("global")
        task = asyncio.create_task(repair.run())
        await ledger.submit_scores("global", [Submission("global", "a", "win")])
        async with asyncio.timeout(DEADLINE_S):
            await healed.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(watch())
    assert ranking(run, ranks) == {"a": 10}


def test_whoever_names_boards_at_random_has_no_others_looked_at(
    run: Run, ledger: Ledger, ranks: Ranks, repair: Repair, stores: Stores
) -> None:
    """Each new name is looked at once, at once. The boards in use are when their time has come."""
    in_use, named, lasts_s = 60, 40, 1.0

    def count_scripts() -> int:
        with stores.redis() as client:
            return int(client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0))

    async def name_boards() -> None:
        for number in range(in_use):
            await ledger.put_board(Board(f"b{number}", "", 0, 0, "", ("all",), "shared", "UTC", datetime.min))
            await repair.prepare(f"b{number}")
        task = asyncio.create_task(repair.run())
        before = count_scripts()
        for number in range(named):
            repair.use(f"nowhere-{number}")
            await asyncio.sleep(lasts_s / named)
        looks = count_scripts() - before
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        ticks = 2 + lasts_s / TICK_S
        assert named <= looks <= 3 * named + 3 * ticks * in_use

    run(name_boards())


class TestReads:
    def test_nothing_older_than_what_was_acknowledged(
        self, run: Run, ledger: Ledger, ranks: Ranks, repair: Repair
    ) -> None:
        reads = Reads(ledger, ranks, repair, Metrics(), acknowledged := Acknowledged(), Costly(ledger, Metrics()))
        run(repair.heal("global"))
        record(run, ledger, "a")
        assert run(reads.read_page("global", offset=0, limit=10)).position.seq == 0
        acknowledged.note("global", run(ledger.read_heads({"global": []}))["global"][0].position)
        assert run(reads.read_page("global", offset=0, limit=10)).position.seq == 1
        assert run(reads.read_standing("global", "a")).users[0].rank == 1

    def test_whom_the_ranking_does_not_know_yet_is_looked_for_in_the_ledger(
        self, run: Run, ledger: Ledger, ranks: Ranks, repair: Repair
    ) -> None:
        reads = Reads(ledger, ranks, repair, Metrics(), Acknowledged(), Costly(ledger, Metrics()))
        run(repair.heal("global"))
        record(run, ledger, "a")
        assert run(reads.read_standing("global", "a")).users[0].rank == 1
        assert run(reads.read_around("global", "a", 1)).entries[0].rank == 1
        assert run(reads.read_standing("global", "b")) is None

    def test_a_head_that_was_long_not_confirmed_is_not_trusted(
        self, run: Run, ledger: Ledger, ranks: Ranks, repair: Repair, stores: Stores
    ) -> None:
        reads = Reads(ledger, ranks, repair, Metrics(), Acknowledged(), Costly(ledger, Metrics()))
        run(repair.heal("global"))
        record(run, ledger, "a")
        with stores.redis() as client:
            client.hincrby(head_key(), "verified_at", -301)
        assert run(reads.read_page("global", offset=0, limit=10)).position.seq == 1

    def test_with_redis_away_pages_come_from_the_ledger(self, run: Run, ledger: Ledger, repair: Repair) -> None:
        away = Ranks.open("redis://127.0.0.1:1/0")
        reads = Reads(ledger, away, repair, Metrics(), Acknowledged(), Costly(ledger, Metrics()))
        record(run, ledger, "a", "b", "b")
        page = run(reads.read_page("global", offset=0, limit=1))
        assert [(e.rank, e.user_id, e.score) for e in page.entries] == [(1, "b", 20)]
        assert (page.total, page.more) == (2, True)
        run(away.close())

    def test_what_was_acknowledged_of_a_lost_history_is_forgotten(
        self, run: Run, ledger: Ledger, ranks: Ranks, repair: Repair, stores: Stores
    ) -> None:
        reads = Reads(ledger, ranks, repair, Metrics(), acknowledged := Acknowledged(), Costly(ledger, Metrics()))
        record(run, ledger, "a")
        acknowledged.note("global", run(ledger.read_heads({"global": []}))["global"][0].position)
        stores.query("UPDATE boards SET epoch = 'another1'")
        run(repair.heal("global"))
        assert run(reads.read_page("global", offset=0, limit=1)).position.epoch == "another1"
        assert run(reads.read_page("global", offset=0, limit=1)).position.epoch == "another1"
        assert reads.is_current("global", run(ranks.read_head("global")).position)
