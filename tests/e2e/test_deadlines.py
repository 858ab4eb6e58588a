"""What the server's own clocks do. These tests wait for them, so they come first."""

import select
import socket
import time
from contextlib import ExitStack

import pytest

from tests.e2e.answers import board_seq, check_problem, exchange, parse_answers
from tests.e2e.raw_streams import open_stream, receive_until
from tests.harness import Server, Stores, Stream, make_token, wait_until

REQUEST_DEADLINE_S = 15
WIN = b'{"actionId":"win"}'


@pytest.fixture
def board(shared: Server) -> str:
    """A board of its own for a test that fills it."""
    with shared.client("admin", "admin") as admin:
        assert admin.put("/api/boards/filled", json={}).status_code == 201
    shared.put_action("win", 10, "filled")
    return "filled"


def test_slow_reader_is_cut_while_others_go_on(shared: Server, module_stores: Stores, board: str) -> None:
    """It never reads, so its buffers fill: 5,000 updates of users with ids of 256 bytes are more than they hold."""
    wait_until(lambda: shared.metric("scoreboard_readers") == 0, what="the end of earlier streams")
    with Stream(shared.stream_url(board)) as witness, open_stream(shared, board, receive_bytes=4_096) as slow:
        receive_until(slow, b"leaderboard")
        for round_number in range(10):
            module_stores.query(
                """
                SELECT count(*) FROM submit_scores($1,
                    ARRAY(SELECT rpad($2 || '-' || n, 64, '🏆') FROM generate_series(1, 500) n),
                    array_fill('win'::text, ARRAY[500]), array_fill(NULL::text, ARRAY[500]))
                """,
                board,
                str(round_number),
            )
            seq = shared.submit("witness", board=board).json()["seq"]  # closes the gap, so that streams hear of it
            witness.wait_for_seq(seq)
        wait_until(lambda: shared.metric("scoreboard_readers") == 1, within_s=60, what="the end of the slow reader")
        witness.wait_for_seq(shared.submit("witness", board=board).json()["seq"])
        assert not witness.ended
        assert not witness.of("reset")


def test_request_that_does_not_arrive_whole_gets_408_within_the_deadline(shared: Server) -> None:
    """One byte a second keeps idle timers quiet; the deadline is absolute, from the first byte."""
    before = board_seq(shared)
    token = f"Authorization: Bearer {make_token('slow')}\r\nContent-Type: application/json\r\n"
    head = f"POST /api/scores HTTP/1.1\r\nHost: test\r\n{token}"
    beginnings = {
        "head": head.encode() + b"X-Slow: ",
        "body": head.encode() + b"Content-Length: 1000\r\n\r\n" + WIN,
        "chunked": head.encode() + b"Transfer-Encoding: chunked\r\n\r\n200\r\n" + WIN,
    }
    started = time.monotonic()
    open_ones = {socket.create_connection(("127.0.0.1", shared.port), timeout=20): name for name in beginnings}
    received = dict.fromkeys(beginnings, b"")
    try:
        for connection, name in open_ones.items():
            connection.sendall(beginnings[name])
        waiting = set(open_ones)
        while waiting and time.monotonic() - started < REQUEST_DEADLINE_S + 8:
            for connection in select.select(waiting, [], [], 1.0)[0]:
                received[open_ones[connection]] += connection.recv(65_536)
                waiting.discard(connection)
            for connection in waiting:
                try:
                    connection.sendall(b" ")
                except OSError:
                    waiting = waiting - {connection}
    finally:
        for connection in open_ones:
            connection.close()
    assert time.monotonic() - started < REQUEST_DEADLINE_S + 5
    assert board_seq(shared) == before
    for name, answer in received.items():
        assert answer, f"no answer to the unfinished {name}"
        check_problem(parse_answers(answer)[0], 408, "request_timeout")


def test_connection_whose_body_never_arrived_is_closed(shared: Server) -> None:
    """Answered with 408, the client says nothing more: it must not hold the connection for ever."""
    request = b"POST /api/scores HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nabc"
    started = time.monotonic()
    (answer,) = exchange(shared, request, within_s=REQUEST_DEADLINE_S + 15)
    check_problem(answer, 408, "request_timeout")
    assert time.monotonic() - started < REQUEST_DEADLINE_S + 10


def test_quiet_stream_gets_a_heartbeat_within_15_seconds(shared: Server) -> None:
    """Whatever it asks for, and whether it can take chunks or not."""
    asked: list[dict[str, str]] = [{}, {"events": "leaderboard"}, {"events": "score-updated"}]
    with ExitStack() as stack:
        streams = [stack.enter_context(Stream(shared.stream_url("global", **query))) for query in asked]
        raw = stack.enter_context(open_stream(shared, "global", version="1.0"))
        seq = board_seq(shared)
        for query, stream in zip(asked, streams, strict=True):
            stream.wait_for(lambda s: s.heartbeats, within_s=15)
            assert len(stream.frames) == ("leaderboard" in query.get("events", "leaderboard"))
            assert stream.heartbeats == [seq]
        receive_until(raw, b'\n\nevent: heartbeat\ndata: {"seq":%d}\n\n' % seq)
