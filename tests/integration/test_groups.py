"""Groups on large tables: a page looks at its members' totals only, and erasure at a user's groups."""

import json
from collections.abc import Callable

import pytest

from scoreboard.contracts import load_queries
from scoreboard.ledger import Ledger
from scoreboard.stamps import Subject
from tests.harness import Stores
from tests.integration.test_past import FILL_TOTALS, nodes
from tests.integration.test_plans import inline

Run = Callable[..., object]
QUERIES = load_queries()
MEMBERS = 100
FILL_GROUPS = """
INSERT INTO groups (board_id, group_id, members)
SELECT 'global', 'g' || n, 100
FROM generate_series(1, 1000) n
"""
FILL_MEMBERS = """
INSERT INTO group_members (board_id, group_id, user_id)
SELECT 'global', 'g' || n, 'user' || n * 40 + m
FROM generate_series(1, 1000) n, generate_series(0, 99) m
"""
NOBODY = [None, None, None]


@pytest.fixture(params=["with statistics", "without"])
def filled(request: pytest.FixtureRequest, ledger: Ledger, stores: Stores) -> Stores:
    analyze = ["ANALYZE"] if request.param == "with statistics" else []
    for statement in (FILL_TOTALS, FILL_GROUPS, FILL_MEMBERS, *analyze):
        stores.query(statement)
    return stores


def test_a_group_page_finds_each_total_by_its_key(run: Run, ledger: Ledger, filled: Stores) -> None:
    query = inline(QUERIES["read_group_page"].text, ["global", "all", "-infinity", "g7", "first", 0, 11, *NOBODY])

    async def explain() -> str:
        async with ledger._snapshot() as connection:
            await connection.fetch(QUERIES["prefer_indexes"].text)
            return str(await connection.fetchval(f"EXPLAIN (FORMAT JSON) {query.replace('None', 'NULL')}"))

    found = nodes(json.loads(run(explain()))[0]["Plan"])
    assert not [node for node in found if node["Node Type"] == "Seq Scan"], found
    (totals,) = (node for node in found if node.get("Relation Name") == "totals")
    assert totals["Index Name"] == "totals_pkey"
    assert "user_id" in str(totals["Index Cond"])


def test_a_group_page_reads_as_many_totals_as_there_are_members(run: Run, ledger: Ledger, filled: Stores) -> None:
    before = read(filled, "totals")
    for _ in range(10):  # the statement's plan for all values is not worse
        _, page = run(ledger.stamped_page(Subject("global", group="g7"), offset=0, limit=10, after=None))
        assert (page.total, len(page.entries)) == (MEMBERS, 10)
    run(ledger.close())  # what a connection counted is told at its end
    assert read(filled, "totals") - before == 10 * MEMBERS


def test_leaving_all_groups_reads_those_of_the_user_only(run: Run, ledger: Ledger, filled: Stores) -> None:
    before = read(filled, "group_members") + read(filled, "groups")
    assert run(ledger.leave_groups("user4000")) == 3
    assert run(ledger.leave_groups("user4000")) == 0
    assert run(ledger.leave_groups("nobody")) == 0
    run(ledger.close())
    assert read(filled, "group_members") + read(filled, "groups") - before < 50
    counts = filled.query("SELECT g.members, (SELECT count(*) FROM group_members m WHERE m.group_id = g.group_id)"
                          " FROM groups g WHERE g.members <> 100")  # fmt: skip
    assert [tuple(row) for row in counts] == [(99, 99)] * 3


def read(stores: Stores, table: str) -> int:
    """Rows and index entries of a table that anybody has read so far."""
    rows = stores.query(
        "SELECT ((SELECT sum(seq_tup_read) FROM pg_stat_user_tables WHERE relname = $1)"
        " + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = $1))::bigint",
        table,
    )
    return int(rows[0][0])
