"""Every script, every status, on a real server."""

from collections.abc import Callable
from datetime import UTC, datetime

import orjson
import pytest

from scoreboard.errors import RanksUnavailable
from scoreboard.keys import channel
from scoreboard.model import SCORE_MAX, Cursor, Event, Head, RankChange, Scored, format_time
from scoreboard.ranks import Ranks
from tests.harness import Stores, wait_until
from tests.rankings import load, start

Run = Callable[..., object]
AT = datetime(2026, 11, 23, tzinfo=UTC)
TIME = format_time(AT)
EMPTY = Head("e1", 0, "")


def event(seq: int, user: str, score: int, points: int = 10) -> Event:
    return Event(seq, user, "win", points, score, AT)


@pytest.fixture
def started(run: Run, ranks: Ranks) -> Ranks:
    """Ranks of an empty board at seq 0."""
    run(start(ranks, "global", EMPTY, {}))
    return ranks


def page(run: Run, ranks: Ranks, **wanted: object) -> list[tuple[int, str, int]]:
    aged = run(ranks.read_page("global", **({"offset": 0, "limit": 100} | wanted)))
    return [(entry.rank, entry.user_id, entry.score) for entry in aged.page.entries]


def test_without_a_head_everything_is_cold(run: Run, ranks: Ranks) -> None:
    assert run(ranks.apply_events("global", "e1", [event(1, "a", 10)], previous_at="")).status == "cold"
    assert run(ranks.read_page("global", offset=0, limit=1)) is None
    assert run(ranks.read_users("global", ["a"])) is None
    assert run(ranks.confirm_head("global", EMPTY)) == ("cold", 0)


def test_another_epoch_is_cold_and_changes_nothing(run: Run, started: Ranks) -> None:
    assert run(started.apply_events("global", "e2", [event(1, "a", 10)], previous_at="")).status == "cold"
    assert run(started.read_head("global")) == EMPTY


def test_events_are_applied_once_whoever_repeats_them(run: Run, started: Ranks) -> None:
    batch = [event(1, "a", 10), event(2, "b", 20), event(3, "a", 30)]
    first = run(started.apply_events("global", "e1", batch, previous_at=""))
    assert first.changes == [RankChange(1, None), RankChange(1, None), RankChange(1, 2)]
    again = run(started.apply_events("global", "e1", batch, previous_at=""))
    assert (again.status, again.head_seq, again.changes) == ("applied", 3, [None, None, None])
    overlap = run(started.apply_events("global", "e1", [event(3, "a", 30), event(4, "b", 40)], previous_at=TIME))
    assert overlap.changes == [None, RankChange(1, 2)]
    assert page(run, started) == [(1, "b", 40), (2, "a", 30)]


def test_a_gap_changes_nothing(run: Run, started: Ranks) -> None:
    applied = run(started.apply_events("global", "e1", [event(2, "a", 10)], previous_at=TIME))
    assert (applied.status, applied.head_seq) == ("gap", 0)
    assert page(run, started) == []


def test_ties_share_a_rank_and_order_by_bytes(run: Run, started: Ranks) -> None:
    scores = {"b": 50, "a": 50, "Z": 30, "ä": 30, "c": 10}
    run(
        started.apply_events(
            "global", "e1", [event(i, u, s) for i, (u, s) in enumerate(scores.items(), 1)], previous_at=""
        )
    )
    assert page(run, started) == [(1, "a", 50), (1, "b", 50), (3, "Z", 30), (3, "ä", 30), (5, "c", 10)]
    assert page(run, started, offset=1, limit=3) == [(1, "b", 50), (3, "Z", 30), (3, "ä", 30)]
    assert page(run, started, offset=99) == []


@pytest.mark.parametrize("users", [5, 127, 128, 129, 300])
def test_a_cursor_finds_its_place_among_ties_on_both_encodings(run: Run, started: Ranks, users: int) -> None:
    names = sorted(f"user{i:03d}" for i in range(users))
    run(started.apply_events("global", "e1", [event(i, user, 7) for i, user in enumerate(names, 1)], previous_at=""))
    for index in (0, users // 2, users - 1):
        found = page(run, started, after=Cursor(7, names[index]), limit=2)
        assert [user for _, user, _ in found] == names[index + 1 : index + 3]
    assert page(run, started, after=Cursor(7, "user"), limit=1) == [(1, names[0], 7)]
    assert page(run, started, after=Cursor(8, "zzz"), limit=1) == [(1, names[0], 7)]
    assert page(run, started, after=Cursor(6, "a"), limit=1) == []


@pytest.mark.parametrize("score", [0, -1, 1, SCORE_MAX, -SCORE_MAX, SCORE_MAX - 1, 10**15 + 1])
def test_scores_are_exact_at_every_size(run: Run, started: Ranks, score: int) -> None:
    run(started.apply_events("global", "e1", [event(1, "a", score), event(2, "b", score)], previous_at=""))
    assert page(run, started) == [(1, "a", score), (1, "b", score)]
    standing = run(started.read_users("global", ["b"])).standings.users[0]
    assert (standing.score, standing.rank, standing.below) == (score, 1, 0)
    assert page(run, started) == [(1, "a", score), (1, "b", score)]


def test_users_are_read_in_the_order_asked(run: Run, started: Ranks) -> None:
    run(started.apply_events("global", "e1", [event(1, "a", 10), event(2, "b", 20)], previous_at=""))
    aged = run(started.read_users("global", ["x", "a", "b"]))
    assert [s and (s.score, s.rank, s.below) for s in aged.standings.users] == [None, (10, 2, 0), (20, 1, 1)]


def test_one_message_tells_all(run: Run, started: Ranks, stores: Stores) -> None:
    with stores.redis() as client, client.pubsub() as pubsub:
        pubsub.subscribe(channel("global"))
        wait_until(lambda: pubsub.get_message(timeout=0.1), what="the confirmation")
        run(started.apply_events("global", "e1", [event(1, 'a"\\', 10), event(2, "b", 20)], previous_at=""))
        message = wait_until(lambda: pubsub.get_message(timeout=0.1), what="the message")
    told = orjson.loads(message["data"])
    assert (told["epoch"], told["first"], told["seq"], told["total"]) == ("e1", 1, 2, 2)
    assert told["top"] == ["b", "-20", 'a"\\', "-10"]
    assert [(e["userId"], e["rank"], e["previousRank"]) for e in told["events"]] == [('a"\\', 1, None), ("b", 1, None)]


def test_a_head_is_confirmed_only_when_it_has_caught_up(run: Run, started: Ranks) -> None:
    assert run(started.confirm_head("global", Head("e1", 0, ""))) == ("confirmed", 0)
    assert run(started.confirm_head("global", Head("e1", 1, TIME))) == ("behind", 0)
    assert run(started.confirm_head("global", Head("e2", 0, ""))) == ("cold", 0)


def test_a_swap_never_goes_back(run: Run, started: Ranks) -> None:
    run(started.apply_events("global", "e1", [event(1, "a", 10), event(2, "b", 20)], previous_at=""))
    new = run(load(started, "global", Head("e1", 1, TIME), {"a": 10}))
    assert run(started.swap_board("global", new)) == ("kept", 2)
    caught_up = started.apply_events("global", "e1", [event(2, "b", 20)], previous_at=TIME, prefix=new.prefix)
    assert run(caught_up).status == "applied"
    assert run(started.swap_board("global", new)) == ("swapped", 2)
    assert page(run, started) == [(1, "b", 20), (2, "a", 10)]


def test_a_swap_refuses_a_ranking_that_lost_entries(run: Run, started: Ranks) -> None:
    assert run(start(started, "global", Head("e1", 2, TIME), {"a": 10}, missing=1)) == ("partial", 0)
    assert run(started.read_head("global")) == EMPTY


def test_events_of_another_history_are_not_applied(run: Run, started: Ranks) -> None:
    run(started.apply_events("global", "e1", [event(1, "a", 10), event(2, "b", 20)], previous_at=""))
    later = format_time(datetime(2026, 11, 24, tzinfo=UTC))
    assert run(started.apply_events("global", "e1", [event(3, "a", 20)], previous_at=later)).status == "diverged"
    other = Event(2, "b", "win", 10, 20, datetime(2026, 11, 24, tzinfo=UTC))
    assert run(started.apply_events("global", "e1", [other, event(3, "a", 20)], previous_at=TIME)).status == "diverged"
    assert run(started.confirm_head("global", Head("e1", 2, later))) == ("diverged", 2)
    assert page(run, started) == [(1, "b", 20), (2, "a", 10)]


def test_a_ranking_that_lost_entries_is_cold(run: Run, started: Ranks, stores: Stores) -> None:
    """Evicted for want of memory, or deleted by hand, while the head is still there."""
    run(started.apply_events("global", "e1", [event(1, "a", 10), event(2, "b", 20)], previous_at=""))
    with stores.redis() as client:
        client.zrem("sb:{global}:all", "a")
    assert run(started.read_head("global")) is None
    assert run(started.read_page("global", offset=0, limit=10)) is None
    assert run(started.read_users("global", ["b"])) is None
    assert run(started.confirm_head("global", Head("e1", 2, TIME))) == ("cold", 2)
    assert run(started.apply_events("global", "e1", [event(3, "a", 20)], previous_at=TIME)).status == "cold"
    assert run(start(started, "global", EMPTY, {})) == ("swapped", 0)


def test_slices_hold_every_entry_in_order(run: Run, started: Ranks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoreboard.ranks.SLICE_ENTRIES", 2)
    run(started.apply_events("global", "e1", [event(i, f"u{i}", -i) for i in range(1, 6)], previous_at=""))

    async def read() -> list[list[Scored]]:
        return [part async for part in started.read_slices("global")]

    assert run(read()) == [[Scored(f"u{i}", -i) for i in part] for part in ([1, 2], [3, 4], [5])]


def test_scores_are_read_also_from_a_ranking_that_lost_entries(run: Run, started: Ranks, stores: Stores) -> None:
    run(started.apply_events("global", "e1", [event(1, "a", 10), event(2, "b", -20)], previous_at=""))
    with stores.redis() as client:
        client.zrem("sb:{global}:all", "a")
    assert run(started.read_scores("global", ["a", "b", "c"])) == {"b": -20}


def test_a_rebuild_is_claimed_by_one(run: Run, ranks: Ranks) -> None:
    assert [run(ranks.claim_rebuild("global", who)) for who in "aab"] == [True, True, False]
    run(ranks.release_rebuild("global"))
    assert run(ranks.claim_rebuild("global", "b"))


def test_rates_admit_a_burst_and_then_one_by_one(run: Run, ranks: Ranks) -> None:
    answers = run(ranks.check_rates(["a"] * 4 + ["b"], interval_us=10_000_000, burst=3))
    assert [admitted for admitted, _, _ in answers] == [True, True, True, False, True]
    assert [left for _, left, _ in answers] == [2, 1, 0, 0, 2]
    assert 0 < answers[3][2] <= 10_000_000


def test_scripts_survive_a_script_flush(run: Run, started: Ranks, stores: Stores) -> None:
    with stores.redis() as client:
        client.script_flush()
    assert run(started.apply_events("global", "e1", [event(1, "a", 10)], previous_at="")).status == "applied"


def test_a_server_that_is_away_is_said_to_be(run: Run) -> None:
    away = Ranks.open("redis://127.0.0.1:1/0")
    with pytest.raises(RanksUnavailable):
        run(away.ping())
    run(away.close())
