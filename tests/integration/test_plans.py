"""No hot query scans a table, however large the tables are: plans on 50,000 users and 200,000 events."""

import json
import re

import pytest

from scoreboard.contracts import load_queries
from scoreboard.ledger import Ledger
from tests.harness import Stores

QUERIES = load_queries()
FILL = """
INSERT INTO ledger (board_id, seq, user_id, action_id, points, score_after, idempotency_key, at)
SELECT
    'global', n, 'user' || n % 50000, 'win', 10, 10 * (n / 50000 + 1), 'key' || n,
    'epoch'::timestamptz + n * interval '1 second'
FROM generate_series(1, 200000) AS n
"""
FILL_TOTALS = """
INSERT INTO totals (board_id, time_window, period, user_id, score, reached_seq, submissions, first_at, last_at)
SELECT 'global', 'all', '-infinity', 'user' || n, n % 1000, 200000, 4, 'epoch', 'epoch'
FROM generate_series(0, 49999) AS n
"""
HOT = {
    "read_events": ["global", 150_000, 500],
    "read_history": ["global", "user7", 150_000, 50],
    "read_total": ["global", "all", "-infinity", "user7"],
    "read_standings": ["global", "all", "-infinity", "shared", ["user7", "user8"]],
    "list_user_boards": ["user7"],
    "read_page": ["global", "all", "-infinity", 0, 10],
    "read_page_first": ["global", "all", "-infinity", 0, 10],
    "read_page_first_after": ["global", "all", "-infinity", 500, 7, 10],
    "read_page_after": ["global", "all", "-infinity", 500, "user7", 10],
    "count_place": ["global", "all", "-infinity", "shared", 990, "user7", 0],
    "read_scores_at": ["global", ["user1", "user2"], 150_000],
    "list_actions": ["global", 100],
    "read_board": ["global"],
    "read_settings_seq": ["global"],
    "read_heads": [["global"], [150_000]],
    "verify_events": ["global", 150_000, 200_000, 20_000],
}


@pytest.fixture
def filled(ledger: Ledger, stores: Stores) -> Stores:
    for statement in (FILL, FILL_TOTALS, "UPDATE boards SET seq = 200000, players = 50000", "ANALYZE"):
        stores.query(statement)
    return stores


def test_hot_queries_touch_large_tables_only_by_index(filled: Stores) -> None:
    for name, arguments in HOT.items():
        plan = filled.query(f"EXPLAIN (FORMAT JSON) {inline(QUERIES[name].text, arguments)}")[0][0]
        scanned = set(re.findall(r'"Node Type": "Seq Scan".*?"Relation Name": "(\w+)"', plan, re.DOTALL))
        assert not scanned & {"ledger", "totals"}, f"{name}: {json.dumps(json.loads(plan), indent=1)}"


def test_the_planner_knows_how_scores_are_spread(filled: Stores) -> None:
    """Else it takes a third of a board to be above any score, and scans boards of a million users for each page."""
    query = inline(QUERIES["count_place"].text, ["global", "all", "-infinity", "shared", 995, "user7", 0])
    plan = filled.query(f"EXPLAIN (FORMAT JSON) {query}")[0][0]
    guesses = re.findall(r'"Relation Name": "totals".*?"Plan Rows": (\d+)', plan, re.DOTALL)
    assert len(guesses) == 2
    assert all(int(rows) < 1_000 for rows in guesses), plan


def test_submitting_reads_its_own_users_only_without_statistics_too(ledger: Ledger, stores: Stores) -> None:
    """A database that was just restored has none."""
    keep_statistics_away(stores, "ledger", "totals")
    for statement in (FILL, FILL_TOTALS, "UPDATE boards SET seq = 200000, players = 50000"):
        stores.query(statement)
    assert stores.query("SELECT count(*) FROM pg_stats WHERE tablename IN ('ledger', 'totals')") == [(0,)]
    before = index_entries_read(stores)
    stores.query(
        "SELECT * FROM submit_scores('global', ARRAY['user1', 'new'], ARRAY['win', 'win'], ARRAY['key1', 'x'])"
    )
    stores.query("SELECT pg_stat_force_next_flush()")
    assert index_entries_read(stores) - before < 20


def test_submitting_to_a_young_board_never_looks_through_its_order(ledger: Ledger, stores: Stores) -> None:
    """PostgreSQL 18 skipped through the scores to find a user: few entries read, by very many scans."""
    users = ", ".join(f"'user{number}'" for number in range(100))
    for _ in range(3):
        stores.query(
            f"SELECT count(*) FROM submit_scores('global', ARRAY[{users}], array_fill('win'::text, ARRAY[100]),"
            " array_fill(NULL::text, ARRAY[100]))"
        )
    stores.query("SELECT pg_stat_force_next_flush()")
    scans = {
        row["indexrelname"]: row["idx_scan"]
        for row in stores.query("SELECT indexrelname, idx_scan FROM pg_stat_user_indexes WHERE relname = 'totals'")
    }
    assert scans["totals_pkey"] >= 300
    assert scans["totals_order"] == 0


def test_looking_for_many_events_reads_only_them_without_statistics_too(ledger: Ledger, stores: Stores) -> None:
    stores.query(FILL)
    seqs = list(range(1, 200_000, 800))
    query = inline(QUERIES["read_heads"].text, [["global"] * len(seqs), seqs])
    before = index_entries_read(stores)
    assert len([row for row in stores.query(query) if row["asked_at"]]) == len(seqs)
    stores.query("SELECT pg_stat_force_next_flush()")
    assert index_entries_read(stores) - before < 3 * len(seqs)


CHANGES = """
INSERT INTO ledger (board_id, seq, kind, user_id, points, score_after, at)
SELECT 'global', 200000 + n, 'hide', 'user' || n, 0, 0, 'epoch'::timestamptz + (200000 + n) * interval '1 second'
FROM generate_series(1, 20) AS n
"""
LATER = """
INSERT INTO ledger (board_id, seq, user_id, action_id, points, score_after, at)
SELECT 'global', 200020 + n, 'user' || n, 'win', 10, 10, 'epoch'::timestamptz + (200020 + n) * interval '1 second'
FROM generate_series(1, 100000) AS n
"""
SINCE_MS = (1_000 * 300_000, 1_000 * 1)
STAMPS = {
    "all": ("read_stamp", ["global", "all", None, None, 300_000, SINCE_MS[0], 1_000]),
    "of a group": ("read_stamp", ["global", "all", None, "g", 299_900, SINCE_MS[0], 1_000]),
    "of a group after too much": ("read_stamp", ["global", "all", None, "g", 1, SINCE_MS[1], 1_000]),
    "of the past": ("find_position", ["global", 150_000, None]),
}


@pytest.mark.parametrize("statistics", ["with", "without"])
def test_a_stamp_is_a_handful_of_looks_at_the_ledger(ledger: Ledger, stores: Stores, statistics: str) -> None:
    """The last event that was no submission may be far back."""
    if statistics == "without":
        keep_statistics_away(stores, "ledger", "group_members")
    for statement in (FILL, CHANGES, LATER, "UPDATE boards SET seq = 300020, last_at = 'epoch'"):
        stores.query(f"/* {statistics} */ {statement}")
    stores.query("INSERT INTO groups (board_id, group_id, members) VALUES ('global', 'g', 1)")
    stores.query("INSERT INTO group_members SELECT 'global', 'g', 'member' || n FROM generate_series(1, 10000) n")
    if statistics == "with":
        stores.query("ANALYZE")
    for what, (name, arguments) in STAMPS.items():
        query = inline(QUERIES[name].text, ["NULL" if each is None else each for each in arguments])
        before, scanned = index_entries_read(stores), sequential_reads(stores)
        (row,) = stores.query(query.replace("'NULL'", "NULL"))
        stores.query("SELECT pg_stat_force_next_flush()")
        assert row["changed_seq"] == 200_020, what
        assert index_entries_read(stores) - before < 500, what
        assert sequential_reads(stores) == scanned, what


def keep_statistics_away(stores: Stores, *tables: str) -> None:
    """PostgreSQL does not look at what comes into these tables, as if it had not had the time yet."""
    for table in tables:
        stores.query(f"ALTER TABLE {table} SET (autovacuum_enabled = false)")


def index_entries_read(stores: Stores) -> int:
    return int(stores.query("SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes")[0][0])


def test_submitting_reads_no_table_sequentially(filled: Stores) -> None:
    before = sequential_reads(filled)
    filled.query(
        "SELECT * FROM submit_scores('global', ARRAY['user1', 'new'], ARRAY['win', 'win'], ARRAY['key1', NULL])"
    )
    filled.query("SELECT pg_stat_force_next_flush()")
    assert sequential_reads(filled) == before


def sequential_reads(stores: Stores) -> int:
    rows = stores.query(
        "SELECT sum(seq_tup_read)::bigint FROM pg_stat_user_tables WHERE relname IN ('ledger', 'totals')"
    )
    return int(rows[0][0])


def inline(sql: str, arguments: list[object]) -> str:
    for number, value in reversed(list(enumerate(arguments, start=1))):
        sql = sql.replace(f"${number}", literal(value))
    return sql


def literal(value: object) -> str:
    if isinstance(value, list):
        return f"ARRAY[{', '.join(literal(item) for item in value)}]"
    return f"'{value}'" if isinstance(value, str) else str(value)
