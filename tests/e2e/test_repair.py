"""The ranking after everything that can happen to it: lost, behind, away, of another history."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.answers import check_problem
from tests.harness import Server, StoreFactory, Stores, Stream, wait_until
from tests.own_stores import OwnValkey

USERS = 12


@pytest.fixture
def valkey() -> Iterator[OwnValkey]:
    with OwnValkey() as process:
        yield process


@pytest.fixture
def stores(store_factory: StoreFactory, valkey: OwnValkey) -> Stores:
    """A database, and a Valkey that this test may stop."""
    return Stores(store_factory.fresh().database_url, valkey.url)


@pytest.fixture(autouse=True)
def consistent(stores: Stores, valkey: OwnValkey, server: Server, tmp_path: Path) -> Iterator[None]:
    """Whatever a test did, in the end ledger, totals and ranking agree."""
    yield
    assert server.stop() in (0, -9), "-9: the test has killed it"
    verified = Server(stores, log=tmp_path / "verify.log").run("verify")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def submit(client: httpx.Client, user: str, board: str = "global") -> httpx.Response:
    return client.post("/api/scores", json={"actionId": "win", "userId": user, "board": board})


def ledger_scores(stores: Stores, board: str = "global") -> dict[str, int]:
    """What the source of truth says."""
    rows = stores.query(
        "SELECT user_id, sum(points)::bigint AS score FROM ledger WHERE board_id = $1 GROUP BY 1", board
    )
    return {row["user_id"]: row["score"] for row in rows}


def shown_scores(client: httpx.Client, board: str = "global") -> dict[str, int]:
    answer = client.get("/api/leaderboard", params={"board": board, "limit": 100})
    assert answer.status_code == 200, answer.text
    return {entry["userId"]: entry["score"] for entry in answer.json()["leaderboard"]}


def ranking_is_right(stores: Stores, board: str = "global") -> bool:
    """Whether the ranking itself, not only answers from PostgreSQL, equals the ledger."""
    with stores.redis() as redis:
        ranked = redis.zrange(f"sb:{{{board}}}:all", 0, -1, withscores=True)
    return {user.decode(): -int(score) for user, score in ranked} == ledger_scores(stores, board)


def streamed_scores(stream: Stream) -> dict[object, object]:
    """What a reader knows who lets every reset and snapshot replace what it knew."""
    known: dict[object, object] = {}
    for frame in list(stream.frames):
        if frame.event == "reset":
            known = {}
        elif frame.event == "leaderboard":
            known |= {entry["userId"]: entry["score"] for entry in frame.data["top10"]}  # type: ignore[attr-defined]
        elif frame.event == "score-updated":
            known[frame.data["userId"]] = frame.data["score"]
    return known


class Load:
    """Submissions one after another in a thread, until stopped; their answers are kept."""

    def __init__(self, server: Server, users: int = 8) -> None:
        self._server = server
        self._users = users
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.answers: list[httpx.Response] = []

    def __enter__(self) -> "Load":
        self._thread.start()
        wait_until(lambda: len(self.answers) >= 5, what="the first answers")
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(20)

    def _run(self) -> None:
        with self._server.client("game", "scores:any") as client:
            while not self._stop.is_set():
                self.answers.append(submit(client, f"u{len(self.answers) % self._users}"))

    def check(self) -> None:
        """Every submission was accepted, once."""
        assert {answer.status_code for answer in self.answers} == {200}
        seqs = [answer.json()["seq"] for answer in self.answers]
        assert sorted(seqs) == list(range(seqs[0], seqs[0] + len(seqs)))


def test_flushed_ranking_is_right_again_by_itself_within_five_seconds(stores: Stores, server: Server) -> None:
    with server.client("game", "scores:any") as client:
        for number in range(USERS):
            submit(client, f"u{number:02}")
    with stores.redis() as redis:
        redis.flushdb()
    wait_until(lambda: ranking_is_right(stores), within_s=5, what="the ranking")


def test_flush_under_load_refuses_nobody_and_everybody_converges(stores: Stores, server: Server) -> None:
    with Stream(server.stream_url()) as stream, server.client() as reader:
        with Load(server) as load, stores.redis() as redis:
            for _ in range(3):
                redis.flushdb()
                done = len(load.answers)
                wait_until(lambda done=done: len(load.answers) > done + 20, what="answers after the flush")
                wait_until(
                    lambda: load.answers[-1].json()["rank"] is not None, within_s=5, what="a rank after the flush"
                )
        load.check()
        last = load.answers[-1].json()["seq"]
        stream.wait_for_seq(last)
        assert shown_scores(reader) == ledger_scores(stores) == streamed_scores(stream)
        assert not stream.of("reset"), "a flush is no reason to reset: the ledger fills the gap"
        wait_until(lambda: ranking_is_right(stores), within_s=5, what="the ranking")


def test_no_answer_is_older_than_an_acknowledged_one_during_a_flush(stores: Stores, server: Server) -> None:
    with Load(server) as load, stores.redis() as redis, server.client() as reader:
        for number in range(60):
            if number % 20 == 0:
                redis.flushdb()
            acknowledged = load.answers[-1].json()["seq"]
            assert reader.get("/api/leaderboard").json()["seq"] >= acknowledged
    load.check()


def test_script_cache_flush_goes_unnoticed(stores: Stores, server: Server) -> None:
    server.submit("alice")
    with stores.redis() as redis:
        redis.script_flush()
    receipt = server.submit("alice").json()
    assert (receipt["newScore"], receipt["rank"]) == (20, 1)


def commit_without_ranking(stores: Stores, user: str) -> None:
    """What a server leaves that was killed between its commit and its script."""
    stores.query(
        "SELECT outcome FROM submit_scores('global', ARRAY[$1], ARRAY['win'], ARRAY[NULL]::text[])",
        user,
    )


def test_commit_that_was_never_ranked_is_ranked_and_streamed(stores: Stores, server: Server) -> None:
    server.submit("alice")
    with Stream(server.stream_url()) as stream, server.client() as reader:
        stream.wait_for(lambda s: s.frames)
        commit_without_ranking(stores, "orphan")
        wait_until(lambda: "orphan" in shown_scores(reader), within_s=4, what="the event on the board")
        stream.wait_for_seq(2, within_s=4)
        assert [frame.data["userId"] for frame in stream.of("score-updated")] == ["orphan"]
        assert not stream.of("reset")
        assert ranking_is_right(stores)


@pytest.mark.parametrize(
    "path",
    ["/api/leaderboard", "/api/leaderboard/around/alice", "/api/leaderboard/users?ids=alice", "/api/users/alice/stats"],
)
def test_who_was_told_of_a_period_by_the_ledger_reads_nothing_older_of_the_ranking(
    stores: Stores, server: Server, path: str
) -> None:
    with server.client("root", "admin") as reader:
        settings = {"windows": ["all", "day"]}
        assert reader.put("/api/boards/global", json=settings).status_code == 200
        server.submit("alice")
        today = reader.get("/api/leaderboard", params={"window": "day"}).json()["period"]
        reader.get("/api/leaderboard")
        commit_without_ranking(stores, "alice")
        told = httpx.URL(path).copy_merge_params({"window": "day", "period": today})
        seq = reader.get(told).json()["seq"]
        assert reader.get("/api/leaderboard").json()["seq"] >= seq
        assert server.submit("alice").json()["rank"] == 1  # closes the gap before it


def test_next_submission_closes_the_gap_before_it(stores: Stores, server: Server) -> None:
    server.submit("alice")
    with Stream(server.stream_url()) as stream:
        stream.wait_for(lambda s: s.frames)
        commit_without_ranking(stores, "orphan")
        receipt = server.submit("alice").json()
        assert receipt["seq"] == 3
        stream.wait_for_seq(3, within_s=4)
        assert sorted(str(frame.data["userId"]) for frame in stream.of("score-updated")) == ["alice", "orphan"]
        assert not stream.of("reset")


def test_commits_made_while_no_server_ran_are_ranked_at_start(
    stores: Stores, server: Server, start_server: Callable[..., Server]
) -> None:
    server.submit("alice")
    server.kill()
    for number in range(50):
        commit_without_ranking(stores, f"orphan{number % 5}")
    second = start_server()
    with second.client() as reader:
        assert shown_scores(reader) == ledger_scores(stores)
        assert second.submit("alice").json()["rank"] == 6
    wait_until(lambda: ranking_is_right(stores), within_s=5, what="the ranking")


def test_without_redis_submissions_and_reads_go_on(stores: Stores, server: Server, valkey: OwnValkey) -> None:
    for user in ("alice", "bob"):
        server.submit(user)
    valkey.stop()
    with server.client("game", "scores:any") as client:
        for number in range(20):
            answer = submit(client, f"u{number}")
            assert answer.status_code == 200
            assert answer.json()["rank"] is None
            assert answer.json()["previousRank"] is None
            assert client.get("/api/leaderboard").json()["seq"] == answer.json()["seq"]
        assert shown_scores(client) == ledger_scores(stores)
        stats = client.get("/api/users/alice/stats").json()
        assert (stats["score"], stats["rank"], stats["total"]) == (10, 1, 22)
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
        assert ready.json()["dependencies"]["redis"] != "ok"
        check_problem(submit(client, "x", "no-such"), 404, "not_found")
    valkey.start()  # verified at the end of the test
    wait_until(lambda: ranking_is_right(stores), within_s=5, what="the ranking")


def test_stream_opened_without_redis_starts_and_catches_up(stores: Stores, server: Server, valkey: OwnValkey) -> None:
    server.submit("alice")
    valkey.stop()
    server.submit("alice")
    with Stream(server.stream_url()) as stream:
        stream.wait_for(lambda s: s.frames)
        assert stream.frames[0].data["top10"][0]["score"] == 20  # type: ignore[index]
        last = server.submit("alice").json()["seq"]
        valkey.start()
        stream.wait_for_seq(last, within_s=8)
        assert streamed_scores(stream) == {"alice": 30}


def test_updates_of_a_lost_ranking_say_null_only_of_first_scores(
    stores: Stores, server: Server, valkey: OwnValkey
) -> None:
    server.submit("alice")
    with Stream(server.stream_url()) as stream:
        stream.wait_for(lambda s: s.frames)
        valkey.stop()
        server.submit("bob")
        last = server.submit("alice").json()["seq"]
        valkey.start()
        stream.wait_for_seq(last, within_s=8)
        updates = {frame.data["userId"]: frame.data for frame in stream.of("score-updated")}  # type: ignore[index]
        for user, rank_now in (("alice", 1), ("bob", 2)):
            if updates[user]["rank"] is None:  # read while there was no ranking yet
                assert updates[user]["previousRank"] is None
            else:
                assert updates[user]["rank"] == rank_now
                assert updates[user]["previousRank"] == (None if user == "bob" else rank_now)


def test_losing_and_finding_redis_is_in_the_log(server: Server, valkey: OwnValkey) -> None:
    valkey.stop()
    wait_until(lambda: '"store_unreachable"' in server.log_tail(), within_s=5, what="a warning")
    (line,) = [line for line in map(json.loads, server.read_log().splitlines()) if line["event"] == "store_unreachable"]
    assert re.fullmatch(r"Redis: .*[^: ]", line["error"]), "it says why"
    valkey.start()
    wait_until(lambda: '"stores_reachable"' in server.log_tail(), within_s=5, what="the end of the outage")


def test_redis_that_comes_back_empty_is_right_within_five_seconds(
    stores: Stores, server: Server, valkey: OwnValkey
) -> None:
    with Stream(server.stream_url()) as stream, server.client() as reader:
        with Load(server) as load:
            valkey.stop()
            wait_until(lambda: load.answers[-1].json()["rank"] is None, what="an answer without a rank")
            done = len(load.answers)
            wait_until(lambda: len(load.answers) > done + 20, what="answers without Redis")
            valkey.start()
            wait_until(lambda: load.answers[-1].json()["rank"] is not None, within_s=5, what="a rank again")
            assert reader.get("/readyz").json()["status"] == "ready"
        load.check()
        stream.wait_for_seq(load.answers[-1].json()["seq"])
        assert shown_scores(reader) == ledger_scores(stores) == streamed_scores(stream)
        wait_until(lambda: ranking_is_right(stores), within_s=5, what="the ranking")


def test_server_starts_without_redis_and_ranks_when_it_comes(
    stores: Stores, server: Server, valkey: OwnValkey, start_server: Callable[..., Server]
) -> None:
    server.submit("alice")
    server.kill()
    valkey.stop()
    second = start_server()
    assert second.submit("alice").json()["newScore"] == 20
    valkey.start()
    wait_until(lambda: second.submit("bob").json()["rank"] is not None, within_s=8, what="a rank")
    assert ranking_is_right(stores)


def test_rate_limit_goes_on_without_redis(
    stores: Stores, server: Server, valkey: OwnValkey, start_server: Callable[..., Server]
) -> None:
    limited = start_server(RATE_LIMIT="5/60s")
    valkey.stop()
    assert [limited.submit("fast").status_code for _ in range(7)] == [200] * 5 + [429] * 2
    valkey.start()


def test_new_epoch_resets_streams_once(stores: Stores, server: Server) -> None:
    """A database restored from backup is another history: its board has another epoch."""
    for user in ("alice", "bob"):
        server.submit(user)
    with Stream(server.stream_url()) as stream:
        stream.wait_for(lambda s: s.frames)
        stores.query("UPDATE boards SET epoch = 'newepoch1' WHERE board_id = 'global'")
        stream.wait_for(lambda s: s.of("reset"), within_s=5)
        stream.wait_for(lambda s: s.last_id == "newepoch1-2", within_s=5)
        receipt = server.submit("bob").json()
        assert receipt["epoch"] == "newepoch1"
        stream.wait_for_seq(3)
        assert [frame.event for frame in stream.frames][:4] == ["leaderboard", "reset", "leaderboard", "score-updated"]
        assert len(stream.of("reset")) == 1
    assert ranking_is_right(stores)


def test_ledger_restored_to_an_older_state_gets_a_new_epoch(stores: Stores, server: Server) -> None:
    for _ in range(5):
        epoch = server.submit("alice").json()["epoch"]
    with Stream(server.stream_url()) as stream, server.client() as reader:
        stream.wait_for(lambda s: s.frames)
        stores.query(
            """
            WITH cut AS (DELETE FROM ledger WHERE board_id = 'global' AND seq > 3),
                 back AS (UPDATE totals SET score = 30, reached_seq = 3, submissions = 3 WHERE board_id = 'global')
            UPDATE boards SET seq = 3, last_at = (SELECT at FROM ledger WHERE board_id = 'global' AND seq = 3)
            WHERE board_id = 'global'
            """
        )
        stream.wait_for(lambda s: s.of("reset"), within_s=8)
        page = wait_until(
            lambda: (page := reader.get("/api/leaderboard").json())["epoch"] != epoch and page,
            within_s=5,
            what="a new epoch",
        )
        assert isinstance(page, dict)
        assert (page["seq"], page["leaderboard"][0]["score"]) == (3, 30)
        receipt = server.submit("alice").json()
        assert (receipt["seq"], receipt["newScore"], receipt["epoch"]) == (4, 40, page["epoch"])
        stream.wait_for(lambda s: s.last_id == f"{page['epoch']}-4", within_s=5)
        assert len(stream.of("reset")) == 1


def test_tampered_ranking_is_rebuilt_on_demand(stores: Stores, server: Server) -> None:
    server.submit("alice")
    with stores.redis() as redis:
        redis.zincrby("sb:{global}:all", -1_000, "alice")
    assert server.run("verify").returncode == 1
    rebuilt = server.run("rebuild", "--board", "global")
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert ranking_is_right(stores)


# -- events that another server committed and then died: nobody ranked them, nobody was told


def test_hiding_that_was_never_ranked_is_shown_and_streamed(stores: Stores, server: Server) -> None:
    with server.client("game", "scores:any") as client, Stream(server.stream_url()) as stream:
        for user in ("a", "b"):
            submit(client, user)
        stream.wait_for(lambda s: len(s.of("score-updated")) == 2)
        stores.query("INSERT INTO users (user_id, hidden) VALUES ('a', true)")
        stores.query("SELECT show_user('global', 'a')")
        wait_until(lambda: shown_scores(client) == {"b": 10}, within_s=5, what="a board without the hidden user")
        stream.wait_for(lambda s: s.of("user-updated"))
        assert stream.of("user-updated")[0].data["change"] == "hidden"
        stores.query("UPDATE users SET hidden = false")
        stores.query("SELECT show_user('global', 'a')")
        submit(client, "b")
        wait_until(lambda: shown_scores(client) == {"a": 10, "b": 20}, within_s=5, what="everybody again")
        stream.wait_for(lambda s: len(s.of("user-updated")) == 2)
        assert not stream.of("reset")


def test_a_name_that_the_board_was_not_told_yet_makes_nobody_begin_anew(stores: Stores, server: Server) -> None:
    """What is known of users is written first: a ranking made from the ledger meanwhile has a name before its event."""
    with server.client("game", "scores:any") as client, Stream(server.stream_url()) as stream, stores.redis() as redis:
        submit(client, "ann")
        stream.wait_for(lambda s: s.of("score-updated"))
        stores.query("INSERT INTO users (user_id, display_name, revision) VALUES ('ann', 'Ann', 1)")
        redis.flushall()
        wait_until(lambda: redis.hgetall("sb:{global}:names") == {b"ann": b"Ann"}, what="the ranking with the name")
        for _ in range(3):
            submit(client, "bob")
        stream.wait_for(lambda s: len(s.of("score-updated")) == 4)
        assert stream.of("reset") == []
    with server.client("admin", "admin") as admin:
        assert admin.put("/api/users/ann", json={"displayName": "Ann"}).status_code == 200


def test_erasure_that_was_never_ranked_is_shown_and_readers_begin_anew(stores: Stores, server: Server) -> None:
    with server.client("game", "scores:any") as client, Stream(server.stream_url()) as stream:
        for user in ("a", "b"):
            submit(client, user)
        stream.wait_for(lambda s: len(s.of("score-updated")) == 2)
        stores.query("SELECT erase_user('global', 'a', 'erased-1')")
        wait_until(lambda: shown_scores(client) == {"b": 10}, within_s=5, what="a board without the erased user")
        stream.wait_for(lambda s: s.of("reset") and s.frames[-1].event == "leaderboard")
        assert stream.of("reset")[0].data == {"reason": "erased"}
        assert [e["userId"] for e in stream.frames[-1].data["top10"]] == ["b"]  # type: ignore[attr-defined]
    with Stream(server.stream_url(), last_event_id=stream.frames[0].id) as late:
        late.wait_for(lambda s: s.of("leaderboard"))
        assert "erased-1" not in str(late.frames)


def test_settings_that_were_never_ranked_are_served_and_readers_begin_anew(stores: Stores, server: Server) -> None:
    with server.client("game", "scores:any") as client, Stream(server.stream_url()) as stream:
        for user in ("b", "a"):
            submit(client, user)
        stream.wait_for(lambda s: len(s.of("score-updated")) == 2)
        stores.query("SELECT put_board('global', '', '{all}', 'first', 'UTC', 'sum', NULL)")
        stream.wait_for(lambda s: s.of("reset") and s.frames[-1].event == "leaderboard")
        assert stream.of("reset")[0].data == {"reason": "settings"}
        page = client.get("/api/leaderboard").json()["leaderboard"]
        assert [(e["rank"], e["userId"]) for e in page] == [(1, "b"), (2, "a")]
        answer = wait_until(lambda: (a := submit(client, "a").json())["rank"] and a, what="a rank")
        assert answer["rank"] == 1  # type: ignore[index]
