"""Verification on real stores, in slices so small that every border is met."""

from collections.abc import Callable

import pytest

from scoreboard import verify as verify_module
from scoreboard.ledger import Ledger
from scoreboard.model import Submission
from scoreboard.ranks import Ranks
from scoreboard.repair import Repair
from scoreboard.verify import Difference, verify
from tests.harness import Stores
from tests.rankings import all_key, head_key

Run = Callable[..., object]
HEAD, ALL = head_key(), all_key()
USERS = [f"user{number}" for number in range(9)]


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("verify.SLICE_EVENTS", 2),
        ("verify.SUSPECTS_AT_ONCE", 2),
        ("verify.LAG_WAIT_S", 0.1),
        ("totals.CURSOR_ROWS", 2),
        ("ranks.SLICE_ENTRIES", 3),
    ):
        monkeypatch.setattr(f"scoreboard.{name}", value)


@pytest.fixture
def played(run: Run, ledger: Ledger, repair: Repair) -> None:
    """Nine users with 10 or 20 points, twelve events, a ranking."""
    for users in (USERS, USERS[::3]):
        for user in users:
            run(ledger.submit_scores("global", [Submission("global", user, "win")]))
    run(repair.heal("global"))


def differences(run: Run, ledger: Ledger, ranks: Ranks) -> list[Difference]:
    _, found = run(verify(ledger, ranks))
    return found


def kinds(found: list[Difference]) -> set[str]:
    return {difference.what for difference in found}


def users_named(found: list[Difference]) -> list[str]:
    return [user for user in [*USERS, "ghost"] if any(repr(user) in difference.detail for difference in found)]


@pytest.mark.usefixtures("played")
def test_what_is_right_is_found_right_and_counted_to_the_end(run: Run, ledger: Ledger, ranks: Ranks) -> None:
    told: list[tuple[int, int]] = []
    assert run(verify(ledger, ranks, lambda done, total: told.append((done, total)))) == (1, [])
    assert {total for _, total in told} == {12 + 12 + 9}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (33, 33)


@pytest.mark.parametrize("seq", [1, 2, 3, 6, 12])
@pytest.mark.usefixtures("played")
def test_an_event_that_is_gone_is_noticed_wherever_it_was(
    run: Run, ledger: Ledger, ranks: Ranks, stores: Stores, seq: int
) -> None:
    stores.query(f"DELETE FROM ledger WHERE seq = {seq}")
    assert {"ledger has gaps", "total is not the ledger's sum"} <= kinds(differences(run, ledger, ranks))


@pytest.mark.parametrize("seq", [2, 3, 4, 5])
@pytest.mark.usefixtures("played")
def test_time_that_falls_is_noticed_across_slices(
    run: Run, ledger: Ledger, ranks: Ranks, stores: Stores, seq: int
) -> None:
    stores.query(f"UPDATE ledger SET at = at - interval '1 hour' WHERE seq = {seq}")
    (found,) = differences(run, ledger, ranks)
    assert (found.what, found.detail) == ("ledger times fall", "1 events before the previous one")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("UPDATE boards SET last_at = last_at + interval '1 ms'", "head has another time"),
        ("UPDATE boards SET players = players - 1", "players miscounted"),
        ("UPDATE totals SET reached_seq = reached_seq - 1 WHERE user_id = 'user8'", "total is not the ledger's sum"),
        ("UPDATE totals SET submissions = 2 WHERE user_id = 'user8'", "total is not the ledger's sum"),
        ("UPDATE ledger SET score_after = 7 WHERE seq = 12", "total is not the ledger's sum"),
    ],
)
@pytest.mark.usefixtures("played")
def test_what_is_wrong_in_one_place_is_named(
    run: Run, ledger: Ledger, ranks: Ranks, stores: Stores, change: str, what: str
) -> None:
    stores.query(change)
    assert what in kinds(differences(run, ledger, ranks))


@pytest.mark.parametrize("user", ["user0", "user4", "user8"])
@pytest.mark.usefixtures("played")
def test_users_who_are_only_in_ledger_or_totals_are_found(
    run: Run, ledger: Ledger, ranks: Ranks, stores: Stores, user: str
) -> None:
    stores.query(f"UPDATE totals SET user_id = user_id || 'b' WHERE user_id = '{user}'")
    details = " ".join(found.detail for found in differences(run, ledger, ranks) if "total" in found.what)
    assert repr(user) in details
    assert repr(user + "b") in details


@pytest.mark.usefixtures("played")
def test_every_false_score_of_a_ranking_is_listed_once(run: Run, ledger: Ledger, ranks: Ranks, stores: Stores) -> None:
    with stores.redis() as client:
        client.zadd(ALL, {"user0": -1, "user5": -1_000, "user8": -11})
    found = differences(run, ledger, ranks)
    assert kinds(found) == {"ranking is not the ledger"}
    assert len(found) == 3
    assert users_named(found) == ["user0", "user5", "user8"]
    assert found[0].detail == "user 'user0' at seq 12: ranked with 1, the ledger says 20"


@pytest.mark.usefixtures("played")
def test_a_ranking_that_lost_or_gained_entries_is_compared_all_the_same(
    run: Run, ledger: Ledger, ranks: Ranks, stores: Stores
) -> None:
    with stores.redis() as client:
        client.zrem(ALL, "user3", "user7")
        client.zadd(ALL, {"ghost": -15})
    found = differences(run, ledger, ranks)
    assert kinds(found) == {"ranking lags", "ranking is not the ledger"}
    assert users_named(found) == ["user3", "user7", "ghost"]


@pytest.mark.usefixtures("played")
def test_a_ranking_that_is_gone_lists_a_bounded_number(
    run: Run, ledger: Ledger, ranks: Ranks, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_module, "DIFFERENCES_MAX", 3)
    with stores.redis() as client:
        client.flushdb()
    found = differences(run, ledger, ranks)
    assert [difference.what for difference in found] == ["ranking lags"] + ["ranking is not the ledger"] * 3


@pytest.mark.usefixtures("played")
def test_a_ranking_that_stays_behind_lags(run: Run, ledger: Ledger, ranks: Ranks) -> None:
    run(ledger.submit_scores("global", [Submission("global", "user0", "win")]))
    (found,) = differences(run, ledger, ranks)
    assert found.what == "ranking lags"


def test_a_board_that_was_never_used_is_right_without_a_ranking(run: Run, ledger: Ledger, ranks: Ranks) -> None:
    assert differences(run, ledger, ranks) == []
