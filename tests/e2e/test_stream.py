"""The event stream: what a reader gets, in which order, and that it never misses anything."""

import itertools
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from tests.e2e.raw_streams import open_stream, receive_until
from tests.harness import Frame, Parser, Server, Stores, Stream, make_token, seq_of, wait_until

RESUME_EVENTS_MAX = 1_000
RETRY_MS = (1_000, 6_000)
LEEWAY_S = 10
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
names = (f"board-{number}" for number in itertools.count())


@pytest.fixture
def board(shared: Server) -> str:
    """A board of this test, where ``win`` is worth 10 points."""
    name = next(names)
    with shared.client("admin", "admin") as admin:
        assert admin.put(f"/api/boards/{name}", json={}).status_code == 201
        for action, points in (("win", 10), ("big", 1_000), ("foul", -5)):
            assert admin.put(f"/api/boards/{name}/actions/{action}", json={"points": points}).status_code == 201
    return name


@pytest.fixture(scope="module")
def game(shared: Server) -> Iterator[httpx.Client]:
    """A client that may submit for anyone."""
    with shared.client("game", "scores:any") as client:
        yield client


def play(client: httpx.Client, board: str, user: str, action: str = "win") -> dict[str, object]:
    answer = client.post("/api/scores", json={"board": board, "userId": user, "actionId": action})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def read_page(server: Server, board: str) -> dict[str, object]:
    with server.client() as client:
        return dict(client.get("/api/leaderboard", params={"board": board, "limit": 100}).json())


def check_ids(stream: Stream, epoch: object) -> None:
    """Ids are epoch-seq and never go back."""
    ids = [frame.id for frame in stream.frames if frame.event != "reset"]
    assert all(identifier is not None and identifier.startswith(f"{epoch}-") for identifier in ids), ids[:5]
    seqs = [seq_of(identifier) for identifier in ids]
    assert seqs == sorted(seqs)


def latest_scores(frames: list[Frame]) -> dict[object, object]:
    """What a reader of ``score-updated`` frames knows in the end."""
    return {frame.data["userId"]: frame.data["score"] for frame in frames if frame.event == "score-updated"}


# -- a fresh connection


def test_stream_is_announced_as_one_that_nobody_may_buffer(shared: Server, board: str) -> None:
    with Stream(shared.stream_url(board)) as stream:
        assert stream.status == 200
        assert stream.response_headers["content-type"] == "text/event-stream"
        assert stream.response_headers["cache-control"] == "no-store, no-transform"
        assert stream.response_headers["x-accel-buffering"] == "no"
        assert "content-length" not in stream.response_headers


def test_fresh_stream_starts_with_the_retry_time_and_one_snapshot(
    shared: Server, game: httpx.Client, board: str
) -> None:
    for user in ("b", "a", "c"):
        receipt = play(game, board, user)
    play(game, board, "c")
    with Stream(shared.stream_url(board)) as stream:
        stream.wait_for(lambda s: s.frames)
        assert stream.retries == [2_000]
        (frame,) = stream.frames
        assert (frame.event, frame.id) == ("leaderboard", f"{receipt['epoch']}-4")
        assert frame.data == {
            "board": board,
            "top10": [
                {"rank": 1, "userId": "c", "displayName": None, "score": 20},
                {"rank": 2, "userId": "a", "displayName": None, "score": 10},
                {"rank": 2, "userId": "b", "displayName": None, "score": 10},
            ],
            "total": 3,
            "seq": 4,
        }


def test_snapshot_of_an_empty_board_is_empty(shared: Server, board: str) -> None:
    with Stream(shared.stream_url(board)) as stream:
        stream.wait_for(lambda s: s.frames)
        assert stream.frames[0].data == {"board": board, "top10": [], "total": 0, "seq": 0}
        assert seq_of(stream.frames[0].id) == 0


def test_submission_sends_the_update_and_then_the_changed_top(shared: Server, game: httpx.Client, board: str) -> None:
    play(game, board, "rival", "big")
    play(game, board, "alice")
    with Stream(shared.stream_url(board)) as stream:
        stream.wait_for(lambda s: s.frames)
        receipt = play(game, board, "alice", "big")
        stream.wait_for(lambda s: len(s.frames) == 3)
        update, top = stream.frames[1:]
        assert (update.event, update.id) == ("score-updated", f"{receipt['epoch']}-3")
        assert update.data == {
            "userId": "alice",
            "displayName": None,
            "actionId": "big",
            "points": 1_000,
            "score": 1_010,
            "rank": 1,
            "previousRank": 2,
            "seq": 3,
            "at": receipt["at"],
        }
        assert TIME.fullmatch(str(update.data["at"]))
        assert (top.event, seq_of(top.id), top.data["seq"]) == ("leaderboard", 3, 3)
        assert [entry["userId"] for entry in top.data["top10"]] == ["alice", "rival"]  # type: ignore[attr-defined]


def test_first_score_of_a_user_has_no_previous_rank(shared: Server, game: httpx.Client, board: str) -> None:
    with Stream(shared.stream_url(board)) as stream:
        play(game, board, "newcomer")
        stream.wait_for_seq(1)
        assert stream.of("score-updated")[0].data["previousRank"] is None


def test_replayed_submission_sends_nothing(shared: Server, board: str) -> None:
    shared.submit("alice", key="once", board=board)
    with Stream(shared.stream_url(board)) as stream:
        stream.wait_for(lambda s: s.frames)
        assert shared.submit("alice", key="once", board=board).json()["replayed"] is True
        shared.submit("bob", board=board)
        stream.wait_for_seq(2)
        assert [frame.data["userId"] for frame in stream.of("score-updated")] == ["bob"]


def test_top_list_has_at_most_ten(shared: Server, game: httpx.Client, board: str) -> None:
    for number in range(12):
        play(game, board, f"u{number:02}")
    with Stream(shared.stream_url(board)) as stream:
        stream.wait_for(lambda s: s.frames)
        assert [entry["userId"] for entry in stream.frames[0].data["top10"]] == [f"u{n:02}" for n in range(10)]  # type: ignore[attr-defined]
        assert stream.frames[0].data["total"] == 12


def test_change_below_the_top_ten_sends_no_leaderboard(shared: Server, game: httpx.Client, board: str) -> None:
    for number in range(11):
        play(game, board, f"u{number:02}", "big")
    play(game, board, "last")
    with Stream(shared.stream_url(board)) as stream:
        stream.wait_for(lambda s: s.frames)
        assert play(game, board, "last")["rank"] == 12
        stream.wait_for_seq(13)
        play(game, board, "last", "foul")
        stream.wait_for_seq(14)
        assert Counter(frame.event for frame in stream.frames) == {"leaderboard": 1, "score-updated": 2}
        play(game, board, "u00", "big")
        stream.wait_for(lambda s: len(s.of("leaderboard")) == 2)


def test_boards_have_streams_of_their_own(shared: Server, game: httpx.Client, board: str) -> None:
    with Stream(shared.stream_url("global")) as other, Stream(shared.stream_url(board)) as stream:
        other.wait_for(lambda s: s.frames)
        play(game, board, "alice")
        stream.wait_for_seq(1)
        receipt = play(game, "global", "bob")
        other.wait_for_seq(int(str(receipt["seq"])))
        assert {frame.data["userId"] for frame in other.of("score-updated")} == {"bob"}
        assert {frame.data["userId"] for frame in stream.of("score-updated")} == {"alice"}


@pytest.mark.parametrize("user", ["Ünï", "a/b c", "🏆", "क्\u200dष", '"\\', "</script>"])
def test_any_user_id_passes_through_the_stream(shared: Server, game: httpx.Client, board: str, user: str) -> None:
    with Stream(shared.stream_url(board)) as stream:
        play(game, board, user)
        stream.wait_for(lambda s: len(s.frames) == 3)
        assert stream.of("score-updated")[0].data["userId"] == user
        assert stream.of("leaderboard")[1].data["top10"][0]["userId"] == user  # type: ignore[index]


# -- what is asked for


def test_reader_of_scores_only_gets_no_leaderboard(shared: Server, game: httpx.Client, board: str) -> None:
    with Stream(shared.stream_url(board, events="score-updated")) as stream:
        for _ in range(3):
            play(game, board, "alice")
        stream.wait_for_seq(3)
        assert {frame.event for frame in stream.frames} == {"score-updated"}
        assert stream.frames[-1].data["score"] == 30


def test_reader_of_leaderboards_only_gets_no_scores(shared: Server, game: httpx.Client, board: str) -> None:
    with Stream(shared.stream_url(board, events="leaderboard")) as stream:
        for _ in range(3):
            play(game, board, "alice")
        stream.wait_for_seq(3)
        assert {frame.event for frame in stream.frames} == {"leaderboard"}
        assert stream.frames[-1].data["top10"][0]["score"] == 30  # type: ignore[index]


def test_both_events_may_be_named(shared: Server, game: httpx.Client, board: str) -> None:
    with Stream(shared.stream_url(board, events="score-updated,leaderboard")) as stream:
        play(game, board, "alice")
        stream.wait_for(lambda s: len(s.frames) == 3)
        assert [frame.event for frame in stream.frames] == ["leaderboard", "score-updated", "leaderboard"]


# -- resuming


def check_resumed_after_two(stream: Stream, epoch: object) -> None:
    """Exactly events 3 to 5: no reset, no snapshot of now before them, nothing twice."""
    stream.wait_for_seq(5)
    updates = stream.of("score-updated")
    assert not stream.of("reset")
    assert stream.frames[0].event == "score-updated"
    assert [seq_of(str(f"x-{frame.data['seq']}")) for frame in updates] == [3, 4, 5]
    assert latest_scores(updates) == {"u2": 10, "u3": 10, "u4": 10}
    check_ids(stream, epoch)


@pytest.fixture
def five(game: httpx.Client, board: str) -> str:
    """Five events, u0 to u4; the epoch."""
    for number in range(5):
        receipt = play(game, board, f"u{number}")
    return str(receipt["epoch"])


def test_reader_resumes_by_header(shared: Server, board: str, five: str) -> None:
    with Stream(shared.stream_url(board), last_event_id=f"{five}-2") as stream:
        check_resumed_after_two(stream, five)


def test_reader_resumes_by_query(shared: Server, board: str, five: str) -> None:
    with Stream(shared.stream_url(board, lastEventId=f"{five}-2")) as stream:
        check_resumed_after_two(stream, five)


def test_header_wins_over_the_query(shared: Server, board: str, five: str) -> None:
    with Stream(shared.stream_url(board, lastEventId=f"{five}-0"), last_event_id=f"{five}-2") as stream:
        check_resumed_after_two(stream, five)


def test_reader_that_missed_nothing_gets_only_what_comes(
    shared: Server, game: httpx.Client, board: str, five: str
) -> None:
    with Stream(shared.stream_url(board), last_event_id=f"{five}-5") as stream:
        stream.wait_for(lambda s: s.retries)
        play(game, board, "u9")
        stream.wait_for_seq(6)
        assert stream.frames[0].event == "score-updated"
        assert [frame.data["userId"] for frame in stream.of("score-updated")] == ["u9"]


def test_reader_resumes_from_the_very_beginning(shared: Server, board: str, five: str) -> None:
    with Stream(shared.stream_url(board), last_event_id=f"{five}-0") as stream:
        stream.wait_for_seq(5)
        assert not stream.of("reset")
        assert latest_scores(stream.frames) == {f"u{number}": 10 for number in range(5)}


def test_resumed_reader_learns_the_top_ten_that_changed(shared: Server, board: str, five: str) -> None:
    with Stream(shared.stream_url(board), last_event_id=f"{five}-2") as stream:
        stream.wait_for(lambda s: s.of("leaderboard"))
        assert len(stream.of("leaderboard")[-1].data["top10"]) == 5  # type: ignore[arg-type]


def test_reader_of_leaderboards_resumes(shared: Server, board: str, five: str) -> None:
    with Stream(shared.stream_url(board, events="leaderboard"), last_event_id=f"{five}-2") as stream:
        stream.wait_for_seq(5)
        assert {frame.event for frame in stream.frames} == {"leaderboard"}


@pytest.mark.parametrize(
    "last",
    [
        pytest.param("EPOCH-999999", id="from-the-future"),
        pytest.param("otherepoch-2", id="other-epoch"),
        pytest.param("EPOCH-x", id="seq-not-a-number"),
        pytest.param("EPOCH--1", id="seq-negative"),
        pytest.param("EPOCH-2.0", id="seq-with-point"),
        pytest.param("EPOCH-18446744073709551616", id="seq-beyond-64-bits"),
        pytest.param("EPOCH", id="no-seq"),
        pytest.param("-2", id="no-epoch"),
        pytest.param("garbage", id="garbage"),
        pytest.param("x" * 1_000, id="long"),
        pytest.param("٢-٢", id="arabic-digits"),
    ],
)
@pytest.mark.parametrize("way", ["header", "query"])
def test_reader_that_cannot_resume_gets_one_reset_and_a_snapshot(
    shared: Server, game: httpx.Client, board: str, five: str, last: str, way: str
) -> None:
    last = last.replace("EPOCH", five)
    if way == "query":
        stream = Stream(shared.stream_url(board, lastEventId=last))
    else:
        stream = Stream(shared.stream_url(board), headers={"Last-Event-ID": last.encode()})  # type: ignore[dict-item]
    with stream:
        stream.wait_for(lambda s: s.of("leaderboard"))
        reset, snapshot = stream.frames
        assert (reset.event, snapshot.event) == ("reset", "leaderboard")
        assert set(reset.data) == {"reason"}
        assert isinstance(reset.data["reason"], str)
        assert snapshot.id == f"{five}-5"
        play(game, board, "after")
        stream.wait_for_seq(6)
        assert Counter(frame.event for frame in stream.frames)["reset"] == 1


def test_empty_last_event_id_is_a_fresh_connection(shared: Server, board: str, five: str) -> None:
    with Stream(shared.stream_url(board), last_event_id="") as stream:
        stream.wait_for(lambda s: s.frames)
        assert (stream.frames[0].event, stream.frames[0].id) == ("leaderboard", f"{five}-5")


# -- several servers on the same stores


@pytest.fixture(scope="module")
def second(start_shared: Callable[..., Server], shared: Server) -> Server:
    """Another server on the module's stores."""
    return start_shared()


def test_submission_on_one_server_reaches_the_streams_of_another(
    shared: Server, second: Server, game: httpx.Client, board: str
) -> None:
    with Stream(second.stream_url(board)) as stream:
        stream.wait_for(lambda s: s.frames)
        receipt = play(game, board, "alice")
        stream.wait_for_seq(1)
        (update,) = stream.of("score-updated")
        assert (update.data["score"], update.data["at"]) == (10, receipt["at"])


def test_reader_moves_to_another_server_without_a_gap(
    shared: Server, second: Server, game: httpx.Client, board: str
) -> None:
    with Stream(shared.stream_url(board)) as stream:
        play(game, board, "u0")
        stream.wait_for(lambda s: len(s.frames) == 3)
    for number in range(1, 5):
        epoch = play(game, board, f"u{number}")["epoch"]
    with Stream(second.stream_url(board), last_event_id=stream.last_id) as resumed:
        resumed.wait_for_seq(5)
        assert not resumed.of("reset")
        assert latest_scores(resumed.frames) == {f"u{number}": 10 for number in range(1, 5)}
        check_ids(resumed, epoch)


def record(stores: Stores, board: str, count: int) -> None:
    """Append many events to the ledger at once, as a server that lost its ranking would have."""
    stores.query(
        """
        SELECT count(*) FROM submit_scores($1, ARRAY(SELECT 'u' || n % 50 FROM generate_series(1, $2) n),
                                           array_fill('win'::text, ARRAY[$2]), array_fill(NULL::text, ARRAY[$2]))
        """,
        board,
        count,
    )


def wait_for_ranking(server: Server, board: str, seq: int) -> None:
    """A page can be at a seq because it came from the ledger, while the ranking is still on its way there."""
    wait_until(lambda: read_page(server, board)["seq"] == seq, what="the ledger's page")
    wait_until(lambda: server.metric("scoreboard_suspect_boards") == 0, what="the ranking")


@pytest.mark.parametrize("missed", [1, RESUME_EVENTS_MAX])
def test_server_without_a_log_resumes_from_the_ledger(
    module_stores: Stores, shared: Server, second: Server, game: httpx.Client, board: str, missed: int
) -> None:
    epoch = play(game, board, "before")["epoch"]
    record(module_stores, board, missed)
    wait_for_ranking(shared, board, missed + 1)
    with Stream(second.stream_url(board), last_event_id=f"{epoch}-1") as stream:
        stream.wait_for_seq(missed + 1)
        assert not stream.of("reset")
        entries = read_page(second, board)["leaderboard"]
        assert latest_scores(stream.frames) == {
            entry["userId"]: entry["score"]
            for entry in entries  # type: ignore[attr-defined]
            if entry["userId"] != "before"
        }
        check_ids(stream, epoch)


def test_reader_too_far_behind_for_the_ledger_is_reset(
    module_stores: Stores, shared: Server, second: Server, game: httpx.Client, board: str
) -> None:
    epoch = play(game, board, "before")["epoch"]
    record(module_stores, board, RESUME_EVENTS_MAX + 500)
    wait_for_ranking(shared, board, RESUME_EVENTS_MAX + 501)
    with Stream(second.stream_url(board), last_event_id=f"{epoch}-1") as stream:
        stream.wait_for_seq(RESUME_EVENTS_MAX + 501)
        assert [frame.event for frame in stream.frames] == ["reset", "leaderboard"]


@pytest.mark.parametrize("reason", ["settings", "erased"])
def test_reader_resumes_although_something_broke_before_it(
    module_stores: Stores, shared: Server, second: Server, game: httpx.Client, board: str, reason: str
) -> None:
    """The log of the second server begins later. What it reads back is needed as far as to the break only."""
    for number in range(5):
        epoch = play(game, board, f"{board}-u{number}")["epoch"]
    with shared.client("admin", "admin") as admin:
        if reason == "settings":
            assert admin.put(f"/api/boards/{board}", json={"ties": "dense"}).status_code == 200
        else:
            assert admin.delete(f"/api/users/{board}-u0").status_code == 204
    for number in range(5, 9):
        play(game, board, f"{board}-u{number}")
    wait_for_ranking(shared, board, 10)
    reached_back = second.metric("scoreboard_reached_back_total")
    with Stream(second.stream_url(board), last_event_id=f"{epoch}-8") as stream:
        stream.wait_for_seq(10)
        assert not stream.of("reset")
        assert [frame.data["userId"] for frame in stream.of("score-updated")] == [f"{board}-u7", f"{board}-u8"]
        check_ids(stream, epoch)
    with Stream(second.stream_url(board), last_event_id=f"{epoch}-6") as stream:
        stream.wait_for_seq(10)
        assert latest_scores(stream.frames) == {f"{board}-u{number}": 10 for number in range(5, 9)}
        assert not stream.of("reset")
    for seq in (5, 4, 0):  # who knew less, and nobody reads for that once more
        with Stream(second.stream_url(board), last_event_id=f"{epoch}-{seq}") as stream:
            stream.wait_for(lambda s: s.of("leaderboard"))
            assert [frame.event for frame in stream.frames] == ["reset", "leaderboard"]
            assert stream.frames[0].data == {"reason": reason}
    assert second.metric("scoreboard_reached_back_total") == reached_back + 1


def test_readers_from_the_future_have_the_stores_looked_at_once_a_second(shared: Server, board: str, five: str) -> None:
    before, began = shared.metric("scoreboard_looked_again_total"), time.monotonic()
    with ExitStack() as stack, ThreadPoolExecutor(8) as pool:

        def open_one(number: int) -> Stream:
            last = f"{five}-{1_000 + number}" if number % 2 else f"other{number}-3"
            return stack.enter_context(Stream(shared.stream_url(board), last_event_id=last))

        for number, stream in enumerate(pool.map(open_one, range(40))):
            stream.wait_for(lambda s: s.of("leaderboard"))
            assert [frame.event for frame in stream.frames] == ["reset", "leaderboard"]
            assert stream.frames[0].data == {"reason": "future" if number % 2 else "epoch"}
    looked = shared.metric("scoreboard_looked_again_total") - before
    assert 1 <= looked <= 1 + (time.monotonic() - began)


def test_what_is_not_there_is_not_subscribed_to(module_stores: Stores, shared: Server, board: str) -> None:
    with module_stores.redis() as redis, shared.client() as client:

        def subscriptions() -> int:
            return int(redis.info("commandstats").get("cmdstat_subscribe", {}).get("calls", 0))

        before = subscriptions()
        for number in range(20):
            assert client.get("/api/leaderboard/stream", params={"board": f"none-{number}"}).status_code == 404
            assert client.get("/api/leaderboard/stream", params={"board": board, "window": "day"}).status_code == 422
        assert subscriptions() == before
    with Stream(shared.stream_url(board)) as stream:
        stream.wait_for(lambda s: s.frames)


# -- under load


def load(client: httpx.Client, board: str, count: int, threads: int) -> list[dict[str, object]]:
    """Submissions for many users from several threads; the receipts."""
    jobs = [(f"u{number % 37}", ("win", "foul", "big")[number % 3]) for number in range(count)]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda job: play(client, board, *job), jobs))


def test_readers_converge_under_load_and_ids_never_go_back(
    shared: Server, second: Server, game: httpx.Client, board: str
) -> None:
    with ExitStack() as stack:
        streams = [
            stack.enter_context(Stream(server.stream_url(board, events=events)))
            for server in (shared, second)
            for events in ("leaderboard,score-updated", "score-updated", "leaderboard")
        ]
        receipts = load(game, board, 200, threads=8)
        page = read_page(shared, board)
        assert page["seq"] == 200
        entries: list[dict[str, object]] = page["leaderboard"]  # type: ignore[assignment]
        for stream in streams:
            if "score-updated" in stream.url:
                stream.wait_for_seq(200)
            else:  # the last event need not change the top ten
                stream.wait_for(lambda s: s.of("leaderboard") and s.of("leaderboard")[-1].data["top10"] == entries[:10])
            check_ids(stream, receipts[0]["epoch"])
            if "score-updated" in stream.url:
                assert latest_scores(stream.frames) == {entry["userId"]: entry["score"] for entry in entries}
                points: Counter[object] = Counter()
                for frame in stream.of("score-updated"):
                    points[frame.data["userId"]] += int(str(frame.data["points"]))
                assert points == {entry["userId"]: entry["score"] for entry in entries}
            if stream.of("leaderboard"):
                assert stream.of("leaderboard")[-1].data["top10"] == entries[:10]


def test_readers_that_reconnect_under_load_miss_nothing(
    shared: Server, second: Server, game: httpx.Client, board: str
) -> None:
    """A reader that is cut off again and again, on one server or the other, ends with every user's last state."""
    known: dict[object, object] = {}
    done = threading.Event()
    failures: list[object] = []

    def read() -> None:
        last: str | None = None
        for number in itertools.count():
            server = (shared, second)[number % 2]
            with Stream(server.stream_url(board, events="score-updated"), last_event_id=last) as stream:
                try:
                    stream.wait_for(lambda s: s.of("score-updated") or done.is_set())
                except AssertionError:
                    failures.append("silence")
            frames = list(stream.frames)
            failures.extend(frame.data for frame in frames if frame.event == "reset")
            known.update(latest_scores(frames))
            last = stream.last_id or last
            if failures or (done.is_set() and last is not None and seq_of(last) == 200):
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    load(game, board, 200, threads=4)
    done.set()
    reader.join(40)
    assert not reader.is_alive()
    assert failures == []
    entries: list[dict[str, object]] = read_page(shared, board)["leaderboard"]  # type: ignore[assignment]
    assert known == {entry["userId"]: entry["score"] for entry in entries}


# -- connections


def is_cut(connection: socket.socket) -> bool:
    """Whether the server has ended the connection; what it sent before is dropped."""
    connection.settimeout(0.05)
    try:
        return connection.recv(1_048_576) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_http_1_0_reader_gets_no_chunks(shared: Server, game: httpx.Client, board: str) -> None:
    with open_stream(shared, board, version="1.0") as connection:
        received = receive_until(connection, b"\n\n")
        head, _, body = received.partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head.lower()
        assert head.startswith(b"HTTP/1.")
        assert b" 200 " in head.split(b"\r\n")[0]
        play(game, board, "alice")
        body += receive_until(connection, b"score-updated")
        body += receive_until(connection, b"\n\n") if not body.endswith(b"\n\n") else b""
    parser = Parser()
    parser.feed(body)
    assert parser.retries == [2_000]
    assert [frame.event for frame in parser.take()][:2] == ["leaderboard", "score-updated"]


def test_reader_that_sends_data_after_its_request_is_cut(shared: Server, board: str) -> None:
    with open_stream(shared, board) as connection:
        receive_until(connection, b"leaderboard")
        connection.sendall(b"x" * 100)
        wait_until(lambda: is_cut(connection), within_s=10, what="the end of the connection")


def test_reader_that_leaves_is_forgotten(shared: Server, board: str) -> None:
    wait_until(lambda: shared.metric("scoreboard_readers") == 0, what="the end of earlier streams")
    with ExitStack() as stack:
        for _ in range(5):
            receive_until(stack.enter_context(open_stream(shared, board)), b"leaderboard")
        assert shared.metric("scoreboard_readers") == 5
    wait_until(lambda: shared.metric("scoreboard_readers") == 0, within_s=10, what="the end of the streams")


# -- full, and ending


def test_full_server_tells_streams_to_come_back(
    start_shared: Callable[..., Server], shared: Server, board: str
) -> None:
    server = start_shared(STREAMS_MAX="2")
    with Stream(server.stream_url(board)), Stream(server.stream_url(board)) as second_stream:
        with Stream(server.stream_url(board)) as refused:
            refused.wait_for(lambda s: s.ended)
            assert refused.status == 200
            assert refused.response_headers["content-type"].split(";")[0] == "text/event-stream"
            assert refused.frames == []
            assert len(refused.retries) == 1
            assert RETRY_MS[0] <= refused.retries[0] <= RETRY_MS[1]
        assert not second_stream.ended
    with ExitStack() as stack:

        def opens() -> bool:
            stream = stack.enter_context(Stream(server.stream_url(board)))
            stream.wait_for(lambda s: s.frames or s.ended)
            return bool(stream.frames)

        wait_until(opens, within_s=10, what="a free place")


def test_streams_of_one_address_are_bounded(start_shared: Callable[..., Server], shared: Server, board: str) -> None:
    server = start_shared(STREAMS_PER_IP_MAX="1")
    with Stream(server.stream_url(board)) as first, Stream(server.stream_url(board)) as refused:
        refused.wait_for(lambda s: s.ended)
        assert (refused.status, refused.frames) == (200, [])
        assert refused.retries
        assert not first.ended


def test_shutdown_ends_streams_cleanly_and_spread_out(start_shared: Callable[..., Server], board: str) -> None:
    server = start_shared()
    with ExitStack() as stack:
        raw = stack.enter_context(open_stream(server, board))
        received = receive_until(raw, b"leaderboard")
        streams = [stack.enter_context(Stream(server.stream_url(board))) for _ in range(8)]
        for stream in streams:
            stream.wait_for(lambda s: s.frames)
        started = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - started < 10
        while part := raw.recv(65_536):
            received += part
        assert received.endswith(b"0\r\n\r\n")
        retries = []
        for stream in streams:
            stream.wait_for(lambda s: s.ended)
            assert len(stream.retries) == 2
            retries.append(stream.retries[-1])
        assert all(RETRY_MS[0] <= retry <= RETRY_MS[1] for retry in retries)
        assert len(set(retries)) > 1


def test_shutdown_delivers_what_was_acknowledged(start_shared: Callable[..., Server], board: str) -> None:
    server = start_shared()
    with Stream(server.stream_url(board)) as stream:
        stream.wait_for(lambda s: s.frames)
        last = [server.submit("alice", board=board).json()["seq"] for _ in range(5)][-1]
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        stream.wait_for(lambda s: s.ended)
        assert seq_of(stream.last_id) == last
    assert server.process.wait(20) == 0


def test_private_stream_needs_a_token(start_shared: Callable[..., Server], shared: Server, board: str) -> None:
    server = start_shared(PUBLIC_READS="false")
    token = make_token("alice")
    with Stream(server.stream_url(board)) as stream:
        assert stream.status == 401
    with Stream(server.stream_url(board, token=token, access_token=token)) as stream:
        assert stream.status == 401
    for headers in ({"Authorization": f"Bearer {token}"}, {"Cookie": f"scoreboard_token={token}"}):
        with Stream(server.stream_url(board), headers=headers) as stream:
            assert stream.status == 200
            stream.wait_for(lambda s: s.frames)


def test_private_stream_ends_with_its_token(
    start_shared: Callable[..., Server], shared: Server, game: httpx.Client, board: str
) -> None:
    """Whichever way the token came, and whether anything happens or not."""
    server = start_shared(PUBLIC_READS="false")
    quiet = next(names)
    with shared.client("admin", "admin") as admin:
        assert admin.put(f"/api/boards/{quiet}", json={}).status_code == 201
    expires_at = int(time.time()) + 2
    short = make_token("alice", ttl_s=expires_at - time.time() + 0.5)
    ways = ({"Authorization": f"Bearer {short}"}, {"Cookie": f"scoreboard_token={short}"})
    with ExitStack() as stack:
        ending = [
            stack.enter_context(Stream(server.stream_url(name), headers=way)) for name in (board, quiet) for way in ways
        ]
        staying = stack.enter_context(
            Stream(server.stream_url(board), headers={"Authorization": f"Bearer {make_token('bob')}"})
        )
        for stream in (*ending, staying):
            stream.wait_for(lambda s: s.frames)
        while not all(stream.ended for stream in ending):
            play(game, board, "alice")
            assert time.time() < expires_at + LEEWAY_S + 5, "the streams outlive their token"
            assert time.time() >= expires_at + LEEWAY_S or not any(stream.ended for stream in ending), "ended too early"
            time.sleep(0.05)
        for stream in ending:
            assert len(stream.retries) == 2, "ended without a word"
            assert RETRY_MS[0] <= stream.retries[-1] <= RETRY_MS[1]
        seq = play(game, board, "bob")["seq"]
        staying.wait_for_seq(int(str(seq)))
        assert not staying.ended
    with Stream(server.stream_url(board), headers=ways[0]) as stream:
        assert stream.status == 401
