"""A thousand boards on one server: independent of each other, and free of charge while nobody uses them."""

from pathlib import Path
from time import monotonic

import psutil

from tests.e2e.boards import admin_client, open_board
from tests.harness import Server, Stores, wait_until

BOARDS = 1_000
MEASURED_S = 2.0
REST_SHARE_MAX = 0.05
"""Of a core that a server takes while nothing happens."""


def test_a_thousand_boards_at_rest_cost_nothing(stores: Stores, server: Server, tmp_path: Path) -> None:
    stores.query(
        "INSERT INTO boards (board_id, windows) SELECT 'board' || n, '{all,day,week,month}'"
        f" FROM generate_series(1, {BOARDS}) n"
    )
    assert server.stop() == 0
    server.start()
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    # Right after the start every board's ranking is looked at once.
    wait_until(lambda: share_of_a_core(process) < REST_SHARE_MAX, within_s=60, what="a server at rest")
    assert server.metric("scoreboard_suspect_boards") == 0
    with admin_client(server) as client:
        used = open_board(server, client, windows=["all", "day"])
        assert used.score("a", 5)["rank"] == 1
        other = client.get("/api/leaderboard", params={"board": f"board{BOARDS}", "window": "week"}).json()
        assert (other["total"], other["seq"]) == (0, 0)
    assert share_of_a_core(process) < REST_SHARE_MAX


def share_of_a_core(process: psutil.Process) -> float:
    """What a process computes, over MEASURED_S."""
    before, began = sum(process.cpu_times()[:2]), monotonic()
    wait_until(lambda: monotonic() - began > MEASURED_S, what="the time to measure")
    return (sum(process.cpu_times()[:2]) - before) / (monotonic() - began)
