"""HTTP that is not HTTP, sent to a server: what is malformed is told, counted and logged, and ends the connection."""

import json
import socket
from collections.abc import Callable

import pytest

from tests.e2e.answers import LAST_REQUEST, RawAnswer, build_request, check_problem, exchange, parse_answers
from tests.harness import DEADLINE_S, Server, wait_until
from tests.http_cases import REFUSED, TAKEN, head

WIN = b'{"actionId":"win"}'
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n"
PAGE = b"GET /api/leaderboard HTTP/1.1\r\nHost: a\r\n\r\n"


def refused_count(server: Server) -> float:
    return server.metric('scoreboard_requests_total{route="none",status="400"}')


def converse(server: Server, *pieces: bytes) -> list[RawAnswer]:
    """Send pieces, then no more; all answers."""
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as connection:
        for piece in pieces:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(65_536):
            received += part
    return parse_answers(received)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_malformed_is_told_and_ends_the_connection(shared: Server, name: str) -> None:
    """What was asked before is answered, in order; what comes after is not."""
    data, told = REFUSED[name]
    data = data.replace(b"/x", b"/api/scores")
    answers = exchange(shared, HEALTH + PAGE + data + LAST_REQUEST)
    assert [answer.status_code for answer in answers] == [200, 200, 400]
    check_problem(answers[2], 400, "bad_request", names=told)
    assert answers[2].headers["connection"] == "close"
    assert answers[2].headers["x-request-id"]


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_odd_and_allowed_is_answered(shared: Server, name: str) -> None:
    data, _ = TAKEN[name]
    answers = exchange(shared, data.replace(b"/x", b"/api/scores") + LAST_REQUEST)
    assert answers[0].status_code == (401 if data.startswith(b"POST") else 200)  # the body of a POST was read first
    assert len(answers) == (1 if b"HTTP/1.0" in data else 2)


def test_an_asterisk_goes_with_options(shared: Server) -> None:
    answers = exchange(shared, head(line=b"OPTIONS * HTTP/1.1") + LAST_REQUEST)
    assert [answer.status_code for answer in answers] == [404, 200]


def test_bare_line_feeds_are_told_at_once(shared: Server) -> None:
    """No end of the head ever comes, so nothing may wait for it."""
    (answer,) = parse_answers(shared.raw(b"GET /healthz HTTP/1.1\nHost: test\n\n", within_s=5))
    check_problem(answer, 400, "bad_request", names="line feed")


def test_what_is_malformed_is_counted_and_logged(shared: Server) -> None:
    before = refused_count(shared)
    (answer,) = exchange(shared, head(b"X : a", line=b"PUT /some/where HTTP/1.1"))
    assert refused_count(shared) == before + 1
    request_id = answer.headers["x-request-id"]
    wait_until(lambda: request_id in shared.read_log(), what="the log line")
    (line,) = [json.loads(line) for line in shared.read_log().splitlines() if f'"{request_id}"' in line]
    assert (line["method"], line["path"], line["status"]) == ("PUT", "/some/where", 400)


def test_answers_under_way_come_before_the_refusal(shared: Server) -> None:
    """The malformed bytes come while a submission waits for its commit."""
    submission = build_request("POST", "/api/scores", WIN, user="early")
    for pieces in ([submission + b"\0"], [submission, b"\0"], [submission, b"GET / HTTP/1.1\r\n", b"X : a\r\n"]):
        answers = converse(shared, *pieces)
        assert [answer.status_code for answer in answers] == [200, 400]


def test_requests_sent_in_one_go_by_somebody_who_says_no_more_are_all_answered(shared: Server) -> None:
    for fast in (PAGE, HEALTH):
        answers = converse(shared, fast * 30 + build_request("POST", "/api/scores", WIN, user="all-in-one"))
        assert [answer.status_code for answer in answers] == [200] * 31


def test_a_malformed_chunk_is_told_by_handlers_that_read_their_body_themselves(shared: Server) -> None:
    for body in (b"0x5\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n", b"0\r\nX : a\r\n\r\n"):
        request = build_request(
            "POST",
            "/api/scores/batch",
            body,
            user="game",
            scope="scores:any",
            content_length="",
            transfer_encoding="chunked",
        )
        (answer,) = exchange(shared, request + LAST_REQUEST)
        check_problem(answer, 400, "bad_request", names="chunk" if b"X :" not in body else "'X'")


def test_a_malformed_chunk_is_told_where_there_is_nothing_too(shared: Server) -> None:
    for method, path in (("POST", "/nope"), ("POST", "/api/boards"), ("PUT", "/api/leaderboard")):
        request = build_request(method, path, content_length="", transfer_encoding="chunked")
        for pieces in ([request + b"0x12\r\n"], [request, b"5\r\nhello\r\n", b"0x12\r\n"]):
            (answer,) = converse(shared, *pieces)
            check_problem(answer, 400, "bad_request", names="the size of a chunk begins as '0x'")
            assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("size", [b"5000", b"f" * 17, b"1" + b"0" * 60], ids=["20-kib", "17-digits", "61-digits"])
@pytest.mark.parametrize("before", [b"", b"2\r\n{}\r\n"], ids=["first", "second"])
def test_a_chunk_beyond_the_limit_is_refused_when_it_is_announced(shared: Server, size: bytes, before: bytes) -> None:
    for path in ("/api/scores", "/api/users/alice/hide"):
        headers = {"content_length": "", "transfer_encoding": "chunked"}
        request = build_request("POST", path, user="root", scope="admin", **headers)
        answers = parse_answers(shared.raw(request + before + size + b"\r\n", within_s=5))
        assert [answer.status_code for answer in answers] == [413]
        check_problem(answers[0], 413, "too_large", names="the body has more than 16384 bytes")


def test_a_chunk_beyond_a_smaller_limit_is_no_reason_to_refuse_a_batch(shared: Server) -> None:
    body = b'{"submissions":[{"actionId":"win"}]}'.ljust(30_000)
    headers = {"content_length": "", "transfer_encoding": "chunked"}
    request = build_request("POST", "/api/scores/batch", user="game", scope="scores:any", **headers)
    pieces = [request + b"%x\r\n" % len(body), body[:10_000], body[10_000:] + b"\r\n0\r\n\r\n"]
    assert [answer.status_code for answer in converse(shared, *pieces)] == [200]


def test_chunks_are_put_together_without_extensions_and_trailers(shared: Server) -> None:
    parts = b"".join(b"%x;n=%d\r\n%c\r\n" % (1, number, byte) for number, byte in enumerate(WIN))
    body = parts + b"000;last\r\nX-Checksum: 1\r\nContent-Length: 5\r\n\r\n"
    request = build_request("POST", "/api/scores", body, user="chunks", content_length="", transfer_encoding="Chunked")
    answers = exchange(shared, request + LAST_REQUEST)
    assert [answer.status_code for answer in answers] == [200, 200], answers[0].content


def test_a_head_over_the_bound_is_too_large(shared: Server) -> None:
    for data in (b"x" * 100_000, head(b"X: " + b"x" * 9_000), head(*[b"X: y"] * 2_000)):
        (answer,) = exchange(shared, data)
        check_problem(answer, 413, "too_large", names="8192 bytes")


def test_a_refusal_arrives_although_the_client_is_still_sending(shared: Server) -> None:
    """Unread data would make the close a reset, which can destroy the answer on its way."""
    answers = exchange(shared, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n" + b"x" * 4_000_000)
    assert [answer.status_code for answer in answers] == [400]


def test_a_streams_client_that_says_more_in_the_same_go_is_cut(shared: Server) -> None:
    """What it says would lie unread, and its end behind it unnoticed."""
    request = b"GET /api/leaderboard/stream HTTP/1.1\r\nHost: a\r\n\r\n"
    with socket.create_connection(("127.0.0.1", shared.port), timeout=DEADLINE_S) as connection:
        connection.sendall(request + HEALTH)
        try:
            while connection.recv(65_536):
                pass
        except ConnectionResetError:
            pass
    wait_until(lambda: shared.metric("scoreboard_readers") == 0, what="the end of the stream")


ODD_PATH = b"/" + b"\\x1b[31m" * 200
HOSTILE = [
    head(line=b"G\xffT / HTTP/1.1"),
    head(line=b"GET /\x1b[2J HTTP/1.1"),
    head(line=b"\x9b2J / HTTP/1.1"),
    head(b"X-Request-Id: \x1b[2J"),
    head(b"X-Request-Id: \xc2\x9b2J", line=b"GET /healthz HTTP/1.1"),
    head(line=b"GET /nowhere%1b[2J%0aforged HTTP/1.1"),
    head(line=b"GET " + ODD_PATH + b" HTTP/1.1"),
    head(line=b"M" * 5_000 + b" / HTTP/1.1"),
    head(line=b"GET /api/leaderboard?board=%1b%5b2J HTTP/1.1"),
    head(line=b"GET /api/users/%ed%a0%80/stats HTTP/1.1"),
    head(b"Authorization: Bearer \xff\xfe", line=b"GET /api/users/a/history HTTP/1.1"),
]


@pytest.mark.parametrize("form", ["json", "console"])
def test_whatever_is_sent_the_log_is_lines_that_no_terminal_obeys(
    start_server: Callable[..., Server], form: str
) -> None:
    server = start_server(LOG_FORMAT=form)
    for data in HOSTILE:
        answers = exchange(server, data + LAST_REQUEST)
        assert 400 <= answers[0].status_code < 500 or answers[0].status_code == 200
        assert b"HTTP/1.1 500" not in answers[0].content
    assert server.stop() == 0
    text = server.read_log()
    assert text.count("/nowhere") == 1
    for line in text.splitlines():
        assert line.isascii() and line.isprintable(), line
        assert len(line) < 1_000, line
        if form == "json":
            assert json.loads(line)["level"] in ("info", "warning"), line
    assert "Traceback" not in text
    assert "..." in text
