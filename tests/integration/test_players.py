"""Who is known or has scores, as it is kept beside the totals, and what that costs."""

from collections.abc import Callable

import pytest

from scoreboard import players
from scoreboard.contracts import load_queries
from scoreboard.ledger import Ledger
from scoreboard.model import Submission
from tests.harness import Stores
from tests.integration.test_plans import inline

Run = Callable[..., object]


def listed(stores: Stores) -> set[tuple[str, str]]:
    return {(row["user_id"], row["board_id"]) for row in stores.query("SELECT user_id, board_id FROM players")}


def test_players_are_those_who_are_known_or_have_scores(run: Run, ledger: Ledger, stores: Stores) -> None:
    for user in ("ann", "bob", "ann"):
        run(ledger.submit_scores("global", [Submission("global", user, "win")]))
    run(ledger.put_user("cyd", "Cyd"))
    run(ledger.hide_on_board("global", "dan", hidden=True))
    assert listed(stores) == {("ann", "global"), ("bob", "global"), ("cyd", ""), ("dan", "")}
    for user in ("ann", "dan"):
        run(ledger.forget_user(user))
        run(ledger.erase_user("global", user, f"erased-{user}"))
    assert listed(stores) == {("bob", "global"), ("cyd", "")}


def test_ids_that_the_database_can_not_fold_are_folded_a_few_at_a_time(
    run: Run, ledger: Ledger, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(players, "SLICE_IDS", 3)
    monkeypatch.setattr(players, "SLICES_MAX", 2)
    users = [f"Ü{number}" for number in range(9)]
    run(ledger.submit_scores("global", [Submission("global", user, "win") for user in users]))
    assert run(ledger.find_namesake("x", "Ü8")) == "Ü8"  # by the letter
    while stores.query("SELECT 1 FROM players WHERE folded IS NULL"):
        before = len(stores.query("SELECT 1 FROM players WHERE folded IS NULL"))
        run(ledger.find_namesake("x", "nobody"))
        assert len(stores.query("SELECT 1 FROM players WHERE folded IS NULL")) == max(0, before - 6)
    for user in users:
        assert run(ledger.find_namesake("x", user.lower().replace("ü", "u"))) == user
        assert run(ledger.find_namesake(user, user.lower())) is None


def test_a_name_is_looked_up_by_index(ledger: Ledger, stores: Stores) -> None:
    stores.query(
        "INSERT INTO players SELECT 'user' || n, 'global', 'user' || n FROM generate_series(1, 50000) n",
    )
    stores.query("ANALYZE players")
    text = inline(load_queries()["find_namesake"].text, ["me", "User7", "user7"])
    plan = stores.query(f"EXPLAIN (FORMAT JSON) {text}")[0][0]
    assert "Seq Scan" not in plan, plan
