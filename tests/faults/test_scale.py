"""Boards of a million users: how long verify, a rebuild and a replay take, what they hold in memory, who waits.

With SCOREBOARD_TEST_FAULTS=full a board has a million users, and the limits are what we promise of two cores. Else
it is smaller, and the limits leave room for machines that are busy with other things. ``-rP`` shows the figures.
"""

import math
import os
import pty
import re
import subprocess
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
from redis import Redis

from tests.harness import DEADLINE_S, Server, StoreFactory, Stores, wait_until
from tests.rankings import all_key, head_key

FULL = os.environ.get("SCOREBOARD_TEST_FAULTS") == "full"
USERS = 1_000_000 if FULL else 50_000
EVENTS = USERS + USERS // 5
MISSED_EVENTS = 99_000 if FULL else 9_000
"""With what is submitted meanwhile at most what is replayed; more is rebuilt."""

VERIFY_S_MAX = 20.0 if FULL else 10.0
VERIFY_MB_MAX = 128
REBUILD_S_MAX = 15.0 if FULL else 8.0
REPLAY_S_MAX = 5.0 if FULL else 4.0
GROWTH_MB_MAX = 64
READ_P99_S_MAX = 0.1 if FULL else 0.5
COMMAND_S_MAX = 300.0
READS_PER_S = 50
SUBMISSIONS_PER_S = 20
SAMPLE_S = 0.02

HEAD, ALL = head_key(), all_key()
REBUILDS = 'scoreboard_repairs_total{kind="rebuild"}'

pytestmark = pytest.mark.timeout(600)

# Event n belongs to user n * 7919 % USERS, so any USERS events that follow each other are one of each user, in an
# order that is not theirs. A user's events all have the same points.
EVENT = f"""
    'user' || made.n * 7919 % {USERS} AS user_id, 1 + made.n * 7919 % {USERS} % 1000 AS points,
    (made.n - 1) / {USERS} + 1 AS nth, '2026-01-01'::timestamptz + made.n / 10 * interval '10 ms' AS at
"""
FILL_LEDGER = f"""
INSERT INTO ledger (board_id, seq, user_id, action_id, points, score_after, at)
SELECT 'global', event.n, event.user_id, 'win', event.points, event.points * event.nth, event.at
FROM (SELECT made.n, {EVENT} FROM generate_series($1::bigint, $2) AS made (n)) event
"""
FILL_TOTALS = f"""
INSERT INTO totals (board_id, time_window, period, user_id, score, reached_seq, submissions, first_at, last_at)
SELECT 'global', 'all', '-infinity', event.user_id, event.points * event.nth, event.n, event.nth, event.at, event.at
FROM (SELECT made.n, {EVENT} FROM generate_series($1::bigint, $2) AS made (n)) event
ON CONFLICT (board_id, time_window, period, user_id) DO UPDATE
SET score = excluded.score, reached_seq = excluded.reached_seq, submissions = excluded.submissions,
    last_at = excluded.last_at
"""
FILL_BOARD = """
UPDATE boards
SET seq = $1, last_at = last.at, clock_at = last.at, players = (SELECT count(*) FROM totals WHERE board_id = 'global')
FROM (SELECT at FROM ledger WHERE board_id = 'global' AND seq = $1) last
WHERE boards.board_id = 'global'
"""
# One event more for each of so many users.
MISS_EVENTS = """
WITH board AS MATERIALIZED (
    SELECT seq, greatest(last_at, date_trunc('milliseconds', clock_timestamp())) AS at
    FROM boards
    WHERE board_id = 'global'
    FOR UPDATE
),
picked AS (
    SELECT user_id, row_number() OVER () AS nth
    FROM (SELECT user_id FROM totals WHERE board_id = 'global' ORDER BY md5(user_id) LIMIT $1::bigint) few
),
totalled AS (
    UPDATE totals t
    SET score = t.score + 7, reached_seq = board.seq + picked.nth, submissions = t.submissions + 1, last_at = board.at
    FROM board, picked
    WHERE t.board_id = 'global' AND t.time_window = 'all' AND t.user_id = picked.user_id
    RETURNING t.user_id, t.score, t.reached_seq
),
appended AS (
    INSERT INTO ledger (board_id, seq, user_id, action_id, points, score_after, at)
    SELECT 'global', totalled.reached_seq, totalled.user_id, 'win', 7, totalled.score, board.at
    FROM totalled, board
)
UPDATE boards b
SET seq = b.seq + $1, last_at = board.at, clock_at = board.at
FROM board
WHERE b.board_id = 'global'
RETURNING b.seq
"""


def show(what: str, **figures: float) -> None:
    """Print figures for whoever asks with -rP or -s."""
    print(f"{what}: {', '.join(f'{name} {value:,.3g}' for name, value in figures.items())}")


@pytest.fixture(scope="module")
def large(store_factory: StoreFactory, tmp_path_factory: pytest.TempPathFactory) -> Stores:
    """A board with a ledger of EVENTS and USERS totals, and no ranking."""
    stores = store_factory.fresh()
    migrated = Server(stores, log=tmp_path_factory.mktemp("large") / "log").run("migrate")
    assert migrated.returncode == 0, migrated.stderr
    started = time.monotonic()
    stores.query(FILL_LEDGER, 1, EVENTS)
    stores.query(FILL_TOTALS, EVENTS - USERS + 1, EVENTS)
    stores.query(FILL_BOARD, EVENTS)
    stores.query("ANALYZE")  # a board that grew by itself has had it
    show("filled", users=USERS, events=EVENTS, seconds=time.monotonic() - started)
    return stores


@pytest.fixture
def start_large(large: Stores, tmp_path: Path) -> Iterator[Callable[[], Server]]:
    """Start a server on the large board; returns when its ranking is whole."""
    started: list[Server] = []

    def start() -> Server:
        server = Server(large, log=tmp_path / "server.log")
        started.append(server)
        server.start()
        server.put_action("win", 10)
        with large.redis() as redis:
            wait_until(lambda: is_ranked(redis), within_s=60, what="a whole ranking")
        wait_until(lambda: server.metric("scoreboard_suspect_boards") == 0, what="a board that is right")
        return server

    yield start
    for server in started:
        server.kill()


def is_ranked(redis: "Redis[bytes]") -> bool:
    """Whether every user is in the ranking."""
    size = redis.zcard(ALL)
    return size >= USERS and int(redis.hget(HEAD, "size") or 0) == size


def run_measured(command: list[str], environment: dict[str, str]) -> tuple[int, float, float, str, str]:
    """Run a command: its exit code, seconds, peak of resident MB, and both outputs."""
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        started = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=stdout, stderr=stderr)
        memory, peak = psutil.Process(process.pid), 0
        while process.poll() is None:
            try:
                peak = max(peak, memory.memory_info().rss)
                process.wait(SAMPLE_S)
            except (psutil.NoSuchProcess, subprocess.TimeoutExpired):
                pass
            if time.monotonic() - started > COMMAND_S_MAX:
                process.kill()
        seconds = time.monotonic() - started
        stdout.seek(0)
        stderr.seek(0)
        return process.returncode, seconds, peak / 2**20, stdout.read(), stderr.read()


class Users:
    """People who read pages and submit scores, on schedule, each answer with its time since it was due."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stop = threading.Event()
        self.reads: list[tuple[int, float]] = []
        self.submissions: list[tuple[int, float]] = []

    def __enter__(self) -> "Users":
        self._threads = [
            threading.Thread(target=self._act, args=(self._read, READS_PER_S, self.reads), daemon=True),
            threading.Thread(target=self._act, args=(self._submit, SUBMISSIONS_PER_S, self.submissions), daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        wait_until(lambda: len(self.reads) > 5 and len(self.submissions) > 5, what="some answers")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)

    def _act(self, act: Callable[[httpx.Client, int], int], per_s: float, answers: list[tuple[int, float]]) -> None:
        started = time.monotonic()
        with self._server.client("game", "scores:any") as client:
            number = 0
            while not self._stop.is_set():
                number += 1
                due = started + number / per_s
                self._stop.wait(max(0.0, due - time.monotonic()))
                answers.append((act(client, number), time.monotonic() - due))

    def _read(self, client: httpx.Client, number: int) -> int:
        return client.get("/api/leaderboard", params={"limit": 50, "offset": number % 4 * 50}).status_code

    def _submit(self, client: httpx.Client, number: int) -> int:
        user = f"user{number * 7919 % USERS}"
        return client.post("/api/scores", json={"actionId": "win", "userId": user}).status_code


def p99(answers: list[tuple[int, float]]) -> float:
    seconds = sorted(seconds for _, seconds in answers)
    return seconds[math.ceil(0.99 * len(seconds)) - 1]


@contextmanager
def watch_memory(server: Server) -> Iterator[Callable[[], float]]:
    """A function that gives the MB by which the server's resident memory has grown at most."""
    assert server.process is not None
    process = psutil.Process(server.process.pid)
    samples = [process.memory_info().rss]
    stop = threading.Event()

    def sample() -> None:
        while not stop.wait(SAMPLE_S):
            samples.append(process.memory_info().rss)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield lambda: (max(samples) - samples[0]) / 2**20
    finally:
        stop.set()
        thread.join(DEADLINE_S)


def check_answers(what: str, users: Users) -> None:
    """Reads were quick and submissions accepted all the while."""
    figures = {"reads": len(users.reads), "p99_ms": p99(users.reads) * 1_000}
    show(f"{what}, meanwhile", **figures, submissions=len(users.submissions), p99_ms_=p99(users.submissions) * 1_000)
    assert {status for status, _ in users.reads} == {200}
    assert {status for status, _ in users.submissions} == {200}
    assert p99(users.reads) < READ_P99_S_MAX


def test_verify_is_quick_and_small_beside_a_server_in_use(start_large: Callable[[], Server]) -> None:
    server = start_large()
    with Users(server) as users:
        code, seconds, peak_mb, stdout, stderr = run_measured(server.command("verify"), server.environment())
    show("verify", users=USERS, events=EVENTS, seconds=seconds, peak_mb=peak_mb)
    check_answers("verify", users)
    assert (code, stdout, stderr) == (0, "1 boards verified, 0 differences\n", "")
    assert seconds < VERIFY_S_MAX
    assert peak_mb < VERIFY_MB_MAX


def test_rebuild_is_quick_and_small_while_the_server_answers(start_large: Callable[[], Server], large: Stores) -> None:
    server = start_large()
    with watch_memory(server) as growth_mb, Users(server) as users, large.redis() as redis:
        before = len(users.reads), len(users.submissions)
        started = time.monotonic()
        redis.flushdb()
        wait_until(lambda: is_ranked(redis), within_s=60, what="a whole ranking")
        seconds = time.monotonic() - started
        wait_until(
            lambda: len(users.reads) > before[0] and len(users.submissions) > before[1], what="answers meanwhile"
        )
        show("rebuild", users=USERS, seconds=seconds, growth_mb=growth_mb())
        assert growth_mb() < GROWTH_MB_MAX
    check_answers("rebuild", users)
    assert seconds < REBUILD_S_MAX
    assert server.run("verify").returncode == 0


def test_replay_is_quick_while_the_server_answers(start_large: Callable[[], Server], large: Stores) -> None:
    """Events that another server committed before it died, all of them at once."""
    server = start_large()
    rebuilds = server.metric(REBUILDS)
    (row,) = large.query(MISS_EVENTS, MISSED_EVENTS)
    started = time.monotonic()
    with watch_memory(server) as growth_mb, Users(server) as users, large.redis() as redis:
        wait_until(lambda: int(redis.hget(HEAD, "seq")) >= row["seq"], within_s=60, what="the ranking")
        seconds = time.monotonic() - started
        show("replay", events=MISSED_EVENTS, seconds=seconds, growth_mb=growth_mb())
        assert growth_mb() < GROWTH_MB_MAX
    check_answers("replay", users)
    assert server.metric(REBUILDS) == rebuilds
    assert seconds < REPLAY_S_MAX
    assert server.run("verify").returncode == 0


def test_progress_is_shown_on_a_terminal(server: Server) -> None:
    for user in ("alice", "bob", "alice"):
        server.submit(user)
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    shown = bytearray()

    def read() -> None:
        try:
            while part := os.read(ours, 4_096):
                shown.extend(part)
        except OSError:  # Linux says so when the last writer of a terminal is gone
            pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    verified = subprocess.run(
        server.command("verify"),
        env=server.environment(),
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        timeout=60,
    )
    os.close(theirs)
    reader.join(DEADLINE_S)
    os.close(ours)
    assert (verified.returncode, verified.stdout) == (0, "1 boards verified, 0 differences\n")
    percents = [int(percent) for percent in re.findall(rb"(\d+)%", shown)]
    assert percents == sorted(percents), shown
    assert percents[-1:] == [100], shown
    assert b"8.00/8.00" in shown, "three events twice, two users once"
