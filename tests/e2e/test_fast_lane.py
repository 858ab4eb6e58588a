"""The fast lane answers what the ordinary routes answer, to the byte: one server has it, another one has not."""

import json
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.e2e.answers import LAST_REQUEST, build_request, check_problem, parse_answers
from tests.harness import DEADLINE_S, Server, Stores, Stream, make_token, read_answer, wait_until
from tests.http_cases import REFUSED, TAKEN

PAGE = b"GET /api/leaderboard HTTP/1.1\r\nHost: test\r\n\r\n"
SUBMIT = b'{"actionId":"win"}'
OWN = re.compile(rb"x-request-id: [^\r]+\r\n")
"""What every answer has for itself."""
BOARDS = ("board-f", "board-p")
"""What the server with the fast lane records, and what the other one."""
PIECES_APART_S = 0.0005


@pytest.fixture(scope="module")
def servers(start_shared: Callable[..., Server]) -> tuple[Server, Server]:
    """With and without the fast lane, on the same stores; some users have scores."""
    fast, plain = start_shared(), start_shared(FAST_LANE="false")
    for board in BOARDS:
        with fast.client("admin", "admin") as admin:
            assert admin.put(f"/api/boards/{board}", json={}).status_code == 201
        fast.put_action("win", 10, board)
    fast.put_action("win", 10)
    for number in range(30):
        fast.submit(f"user-{number}")
    for server in (fast, plain):
        wait_until(lambda server=server: page_seq(server) == 30, what="the page")
        server.raw(PAGE)  # the page of now lies ready
    return fast, plain


def page_seq(server: Server) -> int:
    (answer,) = parse_answers(server.raw(PAGE))
    return int(json.loads(answer.content)["seq"])


def exchange(server: Server, *pieces: bytes) -> bytes:
    """Send pieces apart from each other; everything that comes back until the server closes."""
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for number, piece in enumerate(pieces):
                if number:  # what was sent before is read alone: nobody can wait for that from outside
                    connection.settimeout(PIECES_APART_S)
                    try:
                        received += connection.recv(65_536)
                    except TimeoutError:
                        pass
                    connection.settimeout(DEADLINE_S)
                connection.sendall(piece)
            while part := connection.recv(65_536):
                received += part
        except (BrokenPipeError, ConnectionResetError):
            pass
    return OWN.sub(b"", received)


def converse(server: Server, *requests: bytes) -> bytes:
    """Send each request when the one before is answered; all answers."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as connection:
        answers = []
        for request in requests:
            connection.sendall(request)
            answers.append(read_answer(connection))
    return OWN.sub(b"", b"".join(answers))


def check_same(servers: tuple[Server, Server], *pieces: bytes) -> bytes:
    """Both answer alike; what they answer."""
    fast, plain = (exchange(server, *pieces) for server in servers)
    assert fast == plain
    assert fast, "no answer at all"
    return fast


def lane_count(server: Server, kind: str) -> float:
    return server.metric(f'scoreboard_fast_lane_total{{kind="{kind}"}}')


@contextmanager
def answered_by_the_lane(servers: tuple[Server, Server], kind: str, count: int) -> Iterator[None]:
    """So many requests of the block are answered by the fast lane of the server that has one."""
    before = [lane_count(server, kind) for server in servers]
    yield
    after = [lane_count(server, kind) for server in servers]
    assert [b - a for a, b in zip(before, after, strict=True)] == [count, 0]


def get(target: str, *lines: str, version: str = "HTTP/1.1") -> bytes:
    return "\r\n".join([f"GET {target} {version}", "Host: test", *lines, "", ""]).encode("latin-1")


# -- pages


@pytest.mark.parametrize(
    "target",
    [
        "/api/leaderboard",
        "/api/leaderboard?limit=5",
        "/api/leaderboard?limit=1&offset=0",
        "/api/leaderboard?board=global&window=all&limit=10",
        "/api/leaderboard?limit=007",
    ],
)
def test_plain_pages_are_answered_by_the_fast_lane(servers: tuple[Server, Server], target: str) -> None:
    with answered_by_the_lane(servers, "page", 1):
        fast, plain = (converse(server, get(target)) for server in servers)
    assert fast == plain
    assert fast.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize(
    "target",
    [
        "/api/leaderboard/",
        "/api/leaderboard?",
        "/api/leaderboard?limit=0",
        "/api/leaderboard?limit=101",
        "/api/leaderboard?limit=1000",
        "/api/leaderboard?limit=-1",
        "/api/leaderboard?limit=",
        "/api/leaderboard?limit=5&limit=5",
        "/api/leaderboard?limit=5&",
        "/api/leaderboard?&limit=5",
        "/api/leaderboard?limit=5&&offset=1",
        "/api/leaderboard?limit=%35",
        "/api/leaderboard?limit=5#top",
        "/api/leaderboard?offset=25",
        "/api/leaderboard?offset=9999999999999",
        "/api/leaderboard?board=none",
        "/api/leaderboard?board=",
        "/api/leaderboard?board=a%20b",
        "/api/leaderboard?window=day",
        "/api/leaderboard?period=2026-01-01",
        "/api/leaderboard?cursor=garbage",
        "/api/leaderboard?unknown=1",
        "/api/leaderboard;x",
        "/api/leaderboard/nothing",
        "/api/leaderboards",
        "/API/leaderboard",
        "//api/leaderboard",
        "http://test/api/leaderboard",
    ],
)
def test_other_targets_are_answered_alike(servers: tuple[Server, Server], target: str) -> None:
    check_same(servers, get(target), LAST_REQUEST)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PAGE.replace(b"GET", b"HEAD"), id="head"),
        pytest.param(PAGE.replace(b"GET", b"get"), id="lower-case-method"),
        pytest.param(PAGE.replace(b"GET", b"PUT"), id="put"),
        pytest.param(PAGE.replace(b"1.1", b"1.0"), id="http-1.0"),
        pytest.param(PAGE.replace(b"1.1", b"2.0"), id="http-2.0"),
        pytest.param(get("/api/leaderboard", "Connection: keep-alive", version="HTTP/1.0"), id="http-1.0-kept"),
        pytest.param(PAGE.replace(b"Host: test\r\n", b""), id="no-host"),
        pytest.param(PAGE.replace(b"\r\n", b"\n"), id="line-feeds"),
        pytest.param(get("/api/leaderboard", "Content-Length: 5") + b"hello", id="body"),
        pytest.param(get("/api/leaderboard", "Content-Length: 0"), id="empty-body"),
        pytest.param(get("/api/leaderboard", "Content-Length: 5"), id="body-that-never-comes"),
        pytest.param(get("/api/leaderboard", "Content-Length: x"), id="bad-length"),
        pytest.param(get("/api/leaderboard", "Content-Length: 0", "Content-Length: 0"), id="two-lengths"),
        pytest.param(get("/api/leaderboard", "Transfer-Encoding: chunked") + b"0\r\n\r\n", id="chunked"),
        pytest.param(get("/api/leaderboard", "Connection: close"), id="close"),
        pytest.param(get("/api/leaderboard", "Connection: Keep-Alive"), id="keep-alive"),
        pytest.param(get("/api/leaderboard", "Connection: upgrade", "Upgrade: websocket"), id="upgrade"),
        pytest.param(get("/api/leaderboard", "Expect: 100-continue"), id="expect"),
        pytest.param(get("/api/leaderboard", "no colon"), id="no-colon"),
        pytest.param(get("/api/leaderboard", ": nameless"), id="nameless"),
        pytest.param(get("/api/leaderboard", "X-One: a", " folded"), id="folded"),
        pytest.param(get("/api/leaderboard", "X-One : a"), id="space-before-colon"),
        pytest.param(get("/api/leaderboard", "X-One: a\nX-Two: b"), id="line-feed-inside"),
        pytest.param(get("/api/leaderboard", "X-One: \x00"), id="nul"),
        pytest.param(get("/api/leaderboard", "X-One: \xe9"), id="latin-1"),
        pytest.param(get("/api/leaderboard", "Origin: https://example.org"), id="origin"),
        pytest.param(get("/api/leaderboard", "Authorization: Bearer nonsense"), id="bad-token"),
        pytest.param(get("/api/leaderboard", *(f"X-{n}: {n}" for n in range(60))), id="many-headers"),
        pytest.param(get("/api/leaderboard", f"X-Long: {'x' * 5_000}"), id="long-head"),
        pytest.param(get("/api/leaderboard", f"X-Long: {'x' * 9_000}"), id="too-long-head"),
        pytest.param(b"\r\n" + PAGE, id="blank-line-first"),
    ],
)
def test_odd_requests_are_answered_alike(servers: tuple[Server, Server], data: bytes) -> None:
    check_same(servers, data + LAST_REQUEST)
    check_same(servers, data, LAST_REQUEST)


def test_a_request_id_comes_back(servers: tuple[Server, Server]) -> None:
    for server in servers:
        answer = server.raw(get("/api/leaderboard", "X-Request-Id: mine-1"))
        assert b"x-request-id: mine-1\r\n" in answer


def test_every_answer_has_an_id_of_its_own(servers: tuple[Server, Server]) -> None:
    with socket.create_connection(("127.0.0.1", servers[0].port), timeout=DEADLINE_S) as connection:
        ids = []
        for _ in range(10):
            connection.sendall(PAGE)
            ids.append(OWN.search(read_answer(connection)))
    assert len({found[0] for found in ids if found}) == 10


def test_entity_tags_are_compared_alike(servers: tuple[Server, Server]) -> None:
    tag = re.search(rb'etag: ("[^"]+")', servers[0].raw(PAGE))
    assert tag is not None
    etag = tag[1].decode()
    for value, status in {
        etag: b"304",
        f"W/{etag}": b"304",
        f'"other", {etag}': b"304",
        "*": b"304",
        '"other"': b"200",
        "": b"200",
        etag.strip('"'): b"200",
    }.items():
        answer = check_same(servers, get("/api/leaderboard", f"If-None-Match: {value}"), LAST_REQUEST)
        assert answer.split(b" ")[1] == status, value


def test_a_page_split_at_every_byte_is_answered_alike(servers: tuple[Server, Server]) -> None:
    request = get("/api/leaderboard?limit=3", "Accept: */*")
    for at in range(1, len(request)):
        check_same(servers, request[:at], request[at:] + LAST_REQUEST)


@pytest.mark.parametrize("count", [2, 3, 50])
def test_pipelined_pages_are_all_answered_in_order(servers: tuple[Server, Server], count: int) -> None:
    requests = [get(f"/api/leaderboard?limit={1 + number % 100}") for number in range(count)]
    for pieces in ([b"".join(requests) + LAST_REQUEST], [*requests, LAST_REQUEST]):
        answers = parse_answers(check_same(servers, *pieces))
        sizes = [len(json.loads(answer.content)["leaderboard"]) for answer in answers[:-1]]
        assert sizes == [min(30, 1 + number % 100) for number in range(count)]


def test_what_follows_a_refused_body_is_not_taken_for_a_request(servers: tuple[Server, Server]) -> None:
    """The rest of a body that was refused early looks like a request: it must not be answered as one."""
    head = b"POST /api/scores HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    check_same(servers, head % len(PAGE), PAGE, LAST_REQUEST)
    check_same(servers, head % (3 * len(PAGE)), PAGE, PAGE, PAGE, LAST_REQUEST)


EDITS = st.lists(
    st.tuples(
        st.sampled_from(["insert", "delete", "replace"]),
        st.integers(0, 400),
        st.sampled_from([b"\r\n", b"\n", b"\r", b" ", b":", b"?", b"&", b"=", b"%", b"\0", b"\xff", b"x", b"1", b"\t"]),
    ),
    min_size=1,
    max_size=3,
)


def edit(data: bytes, edits: list[tuple[str, int, bytes]]) -> bytes:
    for what, where, text in edits:
        at = where % (len(data) + 1)
        data = data[:at] + (b"" if what == "delete" else text) + data[at + (what != "insert") :]
    return data


@settings(max_examples=150)
@given(edits=EDITS, at=st.none() | st.integers(1, 400))
def test_damaged_requests_are_answered_alike(
    servers: tuple[Server, Server], edits: list[tuple[str, int, bytes]], at: int | None
) -> None:
    data = edit(get("/api/leaderboard?board=global&limit=7", "Accept: */*", "If-None-Match: *"), edits)
    pieces = [data + LAST_REQUEST] if at is None else [data[: at % len(data)], data[at % len(data) :] + LAST_REQUEST]
    check_same(servers, *(piece for piece in pieces if piece))


# -- requests that are malformed, and odd ones that are not


def aim(data: bytes) -> bytes:
    """A case sent to what the fast lane answers."""
    return data.replace(b"GET / ", b"GET /api/leaderboard ").replace(b"POST /x ", b"POST /api/scores ")


def split_at_borders(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """In two, before and after all that has a meaning of its own; of what repeats, only at the first few."""
    places = {at for found in islice(BORDERS.finditer(data), 40) for at in (found.start(), found.end())}
    for at in sorted(places - {0, len(data)}):
        yield data[:at], data[at:]


BORDERS = re.compile(rb"\r\n|[\0-\x20:;,\x7f-\xff]|(?<=\n)[^\r\n]")
HARD_TO_SPLIT = 2_000
"""Longer cases come whole and in two: byte by byte they would take seconds each."""


@pytest.mark.parametrize("name", REFUSED)
def test_malformed_requests_are_refused_alike(servers: tuple[Server, Server], name: str) -> None:
    data = aim(REFUSED[name][0])
    whole = check_same(servers, data + LAST_REQUEST)
    (answer,) = parse_answers(whole)
    check_problem(answer, 400, "bad_request")
    for before, after in split_at_borders(data):
        assert check_same(servers, before, after + LAST_REQUEST) == whole
    page, refusal = parse_answers(check_same(servers, PAGE, data + LAST_REQUEST))
    assert (page.status_code, refusal.content) == (200, answer.content)
    if len(data) < HARD_TO_SPLIT:
        assert check_same(servers, *(data[at : at + 1] for at in range(len(data)))) == whole


@pytest.mark.parametrize("name", TAKEN)
def test_odd_requests_that_are_allowed_are_taken_alike(servers: tuple[Server, Server], name: str) -> None:
    data = aim(TAKEN[name][0]).replace(b"http://a/ ", b"http://a/api/leaderboard ")
    if name == "longest-head":
        data = data.replace(b"x" * 20, b"", 1)  # the path has become longer
    whole = check_same(servers, data + LAST_REQUEST)
    assert parse_answers(whole)[0].status_code in (200, 401)
    for before, after in split_at_borders(data):
        assert check_same(servers, before, after + LAST_REQUEST) == whole
    if len(data) < HARD_TO_SPLIT:
        assert check_same(servers, *(data[at : at + 1] for at in range(len(data))), LAST_REQUEST) == whole


# -- streams


def stream_beginning(server: Server, request: bytes) -> bytes:
    """The head and the first event of a stream."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as connection:
        connection.sendall(request)
        received = b""
        while b"\ndata: " not in received or not received.endswith(b"\n\n\r\n"):
            part = connection.recv(65_536)
            assert part, received
            received += part
    return OWN.sub(b"", received)


@pytest.mark.parametrize("events", ["", "&events=leaderboard", "&events=score-updated,leaderboard"])
def test_a_stream_begins_alike(servers: tuple[Server, Server], events: str) -> None:
    request = get(f"/api/leaderboard/stream?board=global{events}")
    with answered_by_the_lane(servers, "stream", 1):
        fast, plain = (stream_beginning(server, request) for server in servers)
    assert fast == plain


@pytest.mark.parametrize(
    "target",
    [
        "/api/leaderboard/stream?events=none",
        "/api/leaderboard/stream?events=",
        "/api/leaderboard/stream?events=leaderboard&events=leaderboard",
        "/api/leaderboard/stream?board=none",
        "/api/leaderboard/stream?window=day",
        "/api/leaderboard/stream/x",
    ],
)
def test_refused_streams_are_told_alike(servers: tuple[Server, Server], target: str) -> None:
    check_same(servers, get(target), LAST_REQUEST)


def test_streams_of_the_fast_lane_come_and_go(servers: tuple[Server, Server]) -> None:
    """Its readers are told of what happens, resume, and leave nothing behind; one that speaks again is cut."""
    fast = servers[0]
    readers = fast.metric("scoreboard_readers")
    with Stream(fast.stream_url("global")) as stream:
        seq = fast.submit("streamed").json()["seq"]
        stream.wait_for_seq(seq)
        assert fast.metric("scoreboard_readers") == readers + 1
        last_id = stream.of("leaderboard")[0].id
    wait_until(lambda: fast.metric("scoreboard_readers") == readers, what="the end of the stream")
    before = lane_count(fast, "stream")
    with Stream(fast.stream_url("global"), last_event_id=last_id) as stream:
        stream.wait_for_seq(seq)
        assert [frame.data["userId"] for frame in stream.of("score-updated")] == ["streamed"]
    assert lane_count(fast, "stream") == before + 1
    with socket.create_connection(("127.0.0.1", fast.port), timeout=DEADLINE_S) as connection:
        connection.sendall(get("/api/leaderboard/stream"))
        assert b"event: leaderboard" in connection.recv(65_536)
        connection.sendall(b"more")
        try:
            while connection.recv(65_536):
                pass
        except ConnectionResetError:
            pass
    wait_until(lambda: fast.metric("scoreboard_readers") == readers, what="the end of all streams")


# -- submissions


def on_board(board: str, answer: bytes) -> bytes:
    """An answer without what differs between boards that were treated alike; as long as before."""
    own = rb'(?<="at":")[^"]+|(?<="epoch":")[^"]+|(?<="board":")%b(?=")' % board.encode()
    return re.sub(own, lambda found: b"-" * len(found[0]), answer)


def submit_to_both(
    servers: tuple[Server, Server], make: Callable[[str], list[bytes]], send: Callable[..., bytes] = exchange
) -> bytes:
    """The same submissions to a board of its own on each server: the answers, which are alike."""
    answers = [on_board(board, send(server, *make(board))) for server, board in zip(servers, BOARDS, strict=True)]
    assert answers[0] == answers[1]
    return answers[0]


def submission(board: str, user: str = "alice", **headers: str) -> bytes:
    body = json.dumps({"actionId": "win", "board": board}).encode()
    return build_request("POST", "/api/scores", body, user=user, **headers)


def test_a_submission_is_recorded_replayed_and_told_alike(servers: tuple[Server, Server]) -> None:
    with answered_by_the_lane(servers, "submission", 4):
        told = submit_to_both(
            servers,
            lambda board: [
                submission(board),
                submission(board, idempotency_key=f"{board}-1"),
                submission(board, idempotency_key=f"{board}-1"),
                submission(board, idempotency_key=f'"{board}-1"'),
            ],
            converse,
        )
    answers = [json.loads(answer.content) for answer in parse_answers(told)]
    assert [answer["replayed"] for answer in answers] == [False, False, True, True]


def test_pipelined_submissions_are_all_recorded_in_order(servers: tuple[Server, Server]) -> None:
    def make(board: str) -> list[bytes]:
        each = [submission(board, user=f"pipeliner-{number}") for number in range(20)]
        return [each[0], b"".join(each[1:]) + LAST_REQUEST]

    answers = [json.loads(answer.content) for answer in parse_answers(submit_to_both(servers, make))[:-1]]
    assert [answer["userId"] for answer in answers] == [f"pipeliner-{number}" for number in range(20)]
    seqs = [answer["seq"] for answer in answers]
    assert seqs == list(range(seqs[0], seqs[0] + 20))


def test_a_submission_split_at_every_byte_is_told_alike(servers: tuple[Server, Server]) -> None:
    whole = submission(BOARDS[0])
    for at in range(1, len(whole), 7):

        def make(board: str, at: int = at) -> list[bytes]:
            data = submission(board)
            return [data[:at], data[at:] + LAST_REQUEST]

        assert submit_to_both(servers, make).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(build_request("POST", "/api/scores", SUBMIT), id="no-token"),
        pytest.param(build_request("POST", "/api/scores", SUBMIT, authorization="Basic x"), id="basic"),
        pytest.param(build_request("POST", "/api/scores", SUBMIT, authorization="Bearer x"), id="bad-token"),
        pytest.param(build_request("POST", "/api/scores", b"{", user="alice"), id="not-json"),
        pytest.param(build_request("POST", "/api/scores", b"", user="alice"), id="empty"),
        pytest.param(build_request("POST", "/api/scores", b'{"actionId":"none"}', user="alice"), id="no-action"),
        pytest.param(build_request("POST", "/api/scores", b'{"actionId":1}', user="alice"), id="wrong-type"),
        pytest.param(
            build_request("POST", "/api/scores", b'{"actionId":"win","actionId":"win"}', user="alice"), id="repeated"
        ),
        pytest.param(
            build_request("POST", "/api/scores", b'{"actionId":"win","userId":"bob"}', user="alice"), id="for-another"
        ),
        pytest.param(
            build_request("POST", "/api/scores", b'{"actionId":"win","board":"none"}', user="alice"), id="no-board"
        ),
        pytest.param(build_request("POST", "/api/scores", SUBMIT, user="alice", content_type="text/plain"), id="text"),
        pytest.param(build_request("POST", "/api/scores", SUBMIT, user="alice", content_type=""), id="untyped"),
        pytest.param(build_request("POST", "/api/scores", SUBMIT, user="alice", idempotency_key='"'), id="bad-key"),
        pytest.param(
            build_request("POST", "/api/scores", SUBMIT, user="alice", content_length="17"), id="short-length"
        ),
        pytest.param(build_request("POST", "/api/scores", SUBMIT, user="alice", content_length="-1"), id="negative"),
        pytest.param(build_request("POST", "/api/scores", SUBMIT, user="alice", content_length=""), id="no-length"),
        pytest.param(
            build_request("POST", "/api/scores", SUBMIT, user="alice", content_length="20000"), id="too-large"
        ),
        pytest.param(build_request("POST", "/api/scores", b" " * 20_000, user="alice"), id="really-too-large"),
        pytest.param(build_request("POST", "/api/scores?x=1", b"{", user="alice"), id="query"),
        pytest.param(build_request("POST", "/api/scores/", b"{", user="alice"), id="slash"),
        pytest.param(build_request("PUT", "/api/scores", SUBMIT, user="alice"), id="put"),
    ],
)
def test_refused_submissions_are_told_alike(servers: tuple[Server, Server], data: bytes) -> None:
    check_same(servers, data + LAST_REQUEST)
    check_same(servers, data, LAST_REQUEST)


def test_a_client_that_has_said_all_it_will_gets_its_answer(servers: tuple[Server, Server]) -> None:
    for server in servers:
        with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_S) as connection:
            connection.sendall(submission("global", user="half-closed"))
            connection.shutdown(socket.SHUT_WR)
            received = b""
            while part := connection.recv(65_536):
                received += part
        assert received.startswith(b"HTTP/1.1 200 OK")


def test_a_submission_whose_client_is_gone_is_recorded(servers: tuple[Server, Server], module_stores: Stores) -> None:
    for number in range(20):
        with socket.create_connection(("127.0.0.1", servers[0].port), timeout=DEADLINE_S) as connection:
            connection.sendall(submission(BOARDS[0], user="gone", idempotency_key=f"gone-{number}"))
    count = "SELECT count(*) AS events FROM ledger WHERE user_id = 'gone'"
    wait_until(lambda: module_stores.query(count)[0]["events"] == 20, what="all of them in the ledger")


@pytest.fixture(scope="module")
def private(start_shared: Callable[..., Server], servers: tuple[Server, Server]) -> Iterator[tuple[Server, Server]]:
    """Boards that only those with a token may read, and pages of another origin."""
    settings = {"PUBLIC_READS": "false", "CORS_ORIGINS": "https://example.org"}
    yield start_shared(**settings), start_shared(**settings, FAST_LANE="false")


def test_private_boards_stay_private(private: tuple[Server, Server]) -> None:
    token = make_token("alice")
    assert check_same(private, PAGE, LAST_REQUEST).startswith(b"HTTP/1.1 401")
    assert check_same(private, get("/api/leaderboard", f"Cookie: scoreboard_token={token}"), LAST_REQUEST).startswith(
        b"HTTP/1.1 200"
    )
    signed_in = get("/api/leaderboard", f"Authorization: Bearer {token}")
    assert check_same(private, signed_in, LAST_REQUEST).startswith(b"HTTP/1.1 200")
    assert check_same(private, PAGE, LAST_REQUEST).startswith(b"HTTP/1.1 401")


def test_allowed_origins_are_told_alike(start_shared: Callable[..., Server], servers: tuple[Server, Server]) -> None:
    settings = {"CORS_ORIGINS": "https://example.org"}
    both = start_shared(**settings), start_shared(**settings, FAST_LANE="false")
    for server in both:
        wait_until(lambda server=server: page_seq(server) >= 30, what="the page")
    for lines in ((), ("Origin: https://example.org",), ("Origin: https://other.example",)):
        fast, plain = (converse(server, get("/api/leaderboard", *lines)) for server in both)
        assert fast == plain
        assert b"vary: Origin" in fast
    assert lane_count(both[0], "page") >= 3
