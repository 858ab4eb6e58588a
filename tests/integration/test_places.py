"""A user's place among the neighbours, and those of several users: the ranking and the ledger against a small model."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scoreboard.acknowledged import Acknowledged
from scoreboard.costly import Costly
from scoreboard.ledger import Ledger
from scoreboard.metrics import Metrics
from scoreboard.model import Action, Submission
from scoreboard.ranks import Ranks
from scoreboard.reads import Reads
from scoreboard.repair import Repair
from tests.harness import Stores

Run = Callable[..., object]
Entry = tuple[int, str, int]
USERS = ["a", "B", "c", "ä", "z z", "z", "d", "e", "f"]
ACTIONS = {"win": 10, "lose": -10, "same": 0}


def model_ranking(scores: dict[str, int]) -> list[Entry]:
    """Everybody in the board's order with the rank of standard competition ranking."""
    order = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0].encode()))
    return [(1 + sum(other > score for other in scores.values()), user, score) for user, score in order]


def model_around(ranking: list[Entry], user: str, radius: int) -> list[Entry]:
    """The slice that has the user in the middle, pushed inwards at an edge."""
    place = [entry[1] for entry in ranking].index(user)
    slices = [ranking[start : start + 2 * radius + 1] for start in range(len(ranking))]
    full = [s for s in slices if len(s) == min(2 * radius + 1, len(ranking))]
    return min(full, key=lambda s: abs(ranking.index(s[0]) - (place - radius)))


@pytest.fixture
def reads(run: Run, ledger: Ledger, ranks: Ranks, repair: Repair) -> tuple[Reads, Reads]:
    """Reads from the ranking, and reads that have only the ledger."""
    away = Ranks.open("redis://127.0.0.1:1/0")
    costly = Costly(ledger, Metrics())
    ours = Reads(ledger, ranks, repair, Metrics(), Acknowledged(), costly)
    unwatched = Repair(ledger, away, Metrics(), lambda board: None)
    without = Reads(ledger, away, unwatched, Metrics(), Acknowledged(), costly)
    return ours, without


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(USERS), st.sampled_from(sorted(ACTIONS))), max_size=25))
def test_neighbours_and_places_are_those_of_the_model(
    run: Run,
    ledger: Ledger,
    ranks: Ranks,
    repair: Repair,
    reads: tuple[Reads, Reads],
    stores: Stores,
    played: list[tuple[str, str]],
) -> None:
    stores.query("DELETE FROM ledger")
    stores.query("DELETE FROM totals")
    stores.query("UPDATE boards SET seq = 0, players = 0, last_at = '-infinity', clock_at = '-infinity'")
    with stores.redis() as client:
        client.flushdb()
    for action, points in ACTIONS.items():
        run(ledger.put_action("global", Action(action, points, 0, None, True)))
    scores: dict[str, int] = {}
    for user, action in played:
        scores[user] = scores.get(user, 0) + ACTIONS[action]
    if played:
        run(ledger.submit_scores("global", [Submission("global", user, action) for user, action in played]))
    run(repair.heal("global"))
    ranking = model_ranking(scores)
    for each in reads:
        for user in USERS:
            for radius in (0, 1, 2, 50):
                page = run(each.read_around("global", user, radius))
                if user not in scores:
                    assert page is None
                    continue
                found = [(entry.rank, entry.user_id, entry.score) for entry in page.entries]
                assert found == model_around(ranking, user, radius)
                assert (page.total, page.position.seq) == (len(scores), len(played))
        standings = run(each.read_standings("global", [*USERS, *USERS[:2]]))
        assert (standings.total, standings.position.seq) == (len(scores), len(played))
        places = {user: (rank, score) for rank, user, score in ranking}
        for user, standing in zip([*USERS, *USERS[:2]], standings.users, strict=True):
            assert (standing and (standing.rank, standing.score)) == places.get(user)
            if standing is not None:
                assert standing.below == sum(other < standing.score for other in scores.values())
