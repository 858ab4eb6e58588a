"""The verdict after a fault, from outside: what was acknowledged, what is in the ledger, what everybody shows."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from tests.faults.follower import Follower
from tests.faults.load import ACTIONS, Attempt
from tests.harness import Server, Stores, wait_until

CONVERGES_WITHIN_S = 8.0
LEDGER = """
    SELECT seq, kind, user_id, action_id, points, score_after, idempotency_key
    FROM ledger WHERE board_id = $1 ORDER BY seq
"""


def judge(
    stores: Stores,
    servers: Sequence[Server],
    board: str,
    attempts: Sequence[Attempt],
    followers: Sequence[Follower],
    *,
    resets: int,
) -> None:
    """Hold everything against everything (P1 to P5).

    :param stores: the ways to both stores that no fault is on.
    :param attempts: everything that was submitted to the board in the history that its ledger tells.
    :param resets: how often every follower must have been told to begin anew because history changed.
    """
    rows = stores.query(LEDGER, board)
    # P3: seq gapless; every score the sum of its user's points so far
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1)), "seq has gaps"
    last = len(rows)
    rows = [row for row in rows if row["kind"] == "score"]
    sums: dict[str, int] = defaultdict(int)
    for row in rows:
        assert row["points"] == ACTIONS[row["action_id"]]
        sums[row["user_id"]] += row["points"]
        assert row["score_after"] == sums[row["user_id"]], f"score_after of seq {row['seq']}"
    check_acknowledged(attempts, {(row["user_id"], row["idempotency_key"]): row for row in rows}, len(rows))
    # P4: the ranking is the ledger, on every server and in Redis itself
    for server in servers:
        wait_until(lambda server=server: shown(server, board) == sums, CONVERGES_WITHIN_S, "what a server shows")
    verified = servers[0].run("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    # P5: every stream knows the same, and was told of every point
    for follower in followers:
        # An event of which nobody is told has no frame, and no id.
        follower.wait_for(lambda f: (f.seq <= last and f.scores == sums) or f.violations, CONVERGES_WITHIN_S)
        assert not follower.violations
        # Who comes back after more events than are kept is told so; that is no gap.
        unasked = [reason for reason in follower.resets if reason != "too_far_behind"]
        assert len(unasked) == resets, unasked
        told = {user: points for user, points in follower.summed.items() if user not in follower.moderated}
        assert told == {user: points for user, points in sums.items() if user not in follower.moderated}


def check_acknowledged(attempts: Sequence[Attempt], by_key: dict[tuple[str, str], object], events: int) -> None:
    """Every submission has exactly one event, and every acknowledgement of it says so (P1, P2)."""
    assert len(by_key) == events, "an event without a key, or two with one"
    unexpected = Counter(a.status for a in attempts if a.status not in (0, 200, 422, 429, 503))
    assert not unexpected, unexpected
    acknowledged: set[tuple[str, str]] = set()
    for attempt in attempts:
        if attempt.is_misuse:
            assert attempt.status in (0, 422, 503), attempt
        elif attempt.status == 200:
            row = by_key.get((attempt.user, attempt.key))
            assert row is not None, f"acknowledged and not in the ledger: {attempt}"
            body = attempt.body
            told = (body["seq"], body["userId"], body["actionId"], body["points"], body["newScore"])
            assert told == tuple(row[name] for name in ("seq", "user_id", "action_id", "points", "score_after")), body  # type: ignore[index]
            acknowledged.add((attempt.user, attempt.key))
        elif attempt.status:
            assert attempt.status in (429, 503), attempt
            assert "retry-after" in attempt.headers, attempt
    assert by_key.keys() == acknowledged, "the ledger has events that nobody submitted"


def shown(server: Server, board: str) -> dict[str, int]:
    """The scores that a server's leaderboard shows."""
    with server.client() as client:
        answer = client.get("/api/leaderboard", params={"board": board, "limit": 100})
    assert answer.status_code == 200, answer.text
    return {entry["userId"]: entry["score"] for entry in answer.json()["leaderboard"]}
