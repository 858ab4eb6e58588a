"""Clients that hang up, repeat themselves, read nothing, send nothing, or all come at once: nobody else notices."""

import asyncio
import itertools
import random
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import quantiles
from time import monotonic

import psutil
import pytest

from scoreboard.feed import RESUME_EVENTS_MAX
from scoreboard.files import CLIENTS_MIN, FILES_RESERVED, raise_file_limit
from scoreboard.http.protocol import CHECK_S, LINGER_S, REQUEST_DEADLINE_S
from scoreboard.pump import BUFFER_SOFT_BYTES
from tests.e2e.answers import check_problem, parse_answers
from tests.faults.follower import Follower
from tests.faults.http import Connection
from tests.faults.judge import LEDGER
from tests.faults.load import Attempt, Load
from tests.faults.raw import (
    HalfOpen,
    connect,
    encode_submission,
    hang_up_after,
    memory_bytes,
    open_files,
    send_slowly,
)
from tests.faults.rig import FULL, Rig
from tests.harness import Server, wait_until

HANG_UPS = 5_000 if FULL else 300
REPEATS = 50
ROUNDS = 50 if FULL else 4
SLOW_READERS = 200 if FULL else 20
HALF_OPEN = 5_000 if FULL else 500
CROWD = 500
STORM = 2_000 if FULL else 200
MIB = 1024 * 1024
STOPPED_S = 40.0 if FULL else 0.0
"""How long readers do not read: longer than the server waits for them."""
PROBES = 5
DELIVERED_WITHIN_S = 2.0
LOG_BYTES_MAX = 48 * MIB
"""By which a server may grow under load alone: it keeps the board's latest events."""
HALF_OPEN_PER_S = 1_000
HALF_OPEN_BYTES_MAX = 32 * 1024
SLACK_S = 2.0
"""What a busy machine may add."""
POOLS_MAX = 20
"""Files by which a server may have grown because its pools did."""
seeds = itertools.count()
"""Keys belong to users, who play on all boards: each load needs keys of its own."""


@pytest.fixture(scope="module", autouse=True)
def files() -> None:
    """Both ends of thousands of connections."""
    raise_file_limit()


def logged_errors(folder: Path) -> list[str]:
    """What servers logged that should never happen."""
    lines = [line for log in folder.glob("server*.log") for line in log.read_text().splitlines()]
    return [line for line in lines if '"level": "error"' in line or '"level":"error"' in line or "Traceback" in line]


# -- clients that hang up


@pytest.mark.timeout(120 + HANG_UPS // 10)
def test_clients_that_hang_up_leave_nothing_behind(rig: Rig, tmp_path: Path) -> None:
    """In the head, in the body, or right after sending it all; a whole submission is recorded at most once."""
    server = rig.start_server()
    chance = random.Random(3)
    with rig.busy(clients=16) as load:
        load.wait_for_more(200)
        connections, files = server.metric("scoreboard_connections"), open_files(server)
        whole: list[tuple[str, str, str]] = []

        async def hang_up(number: int) -> None:
            ask = (f"hang-up/{number}", chance.choice(load.users), "win")
            head, body = encode_submission(load.board, *ask, chunked=number % 2 == 0)
            place = chance.choice(["head", "body", "whole"])
            if place == "whole":
                data = head + body + (b"\r\n0\r\n\r\n" if number % 2 == 0 else b"")
                whole.append(ask)
            else:
                data = head + body[:-1] if place == "body" else head[: chance.randint(0, len(head) - 1)]
            await hang_up_after(server, data, reset=chance.random() < 0.5)

        async def repeat() -> list[Attempt]:
            connection = Connection(server.url)
            try:
                return [await load.attempt(connection, *ask) for ask in whole]
            finally:
                connection.close()

        async def hang_up_all() -> None:
            for first in range(0, HANG_UPS, 50):
                await asyncio.gather(*(hang_up(number) for number in range(first, first + 50)))

        rig.background.run(hang_up_all())
        repeated = rig.background.run(repeat())
        assert {attempt.status for attempt in repeated} == {200}
        assert any(attempt.body["replayed"] for attempt in repeated)
        load.wait_for_more(200)
        wait_until(lambda: server.metric("scoreboard_connections") <= connections, what="the end of connections")
        wait_until(lambda: open_files(server) <= files + POOLS_MAX, what="the files of before")
    wait_until(lambda: server.metric("scoreboard_queue_submissions") == 0, what="an empty queue")
    assert logged_errors(tmp_path) == []


# -- one key many times


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Two servers for tests with boards of their own."""
    rig = Rig(tmp_path_factory.mktemp("pair"))
    try:
        rig.start_server()
        rig.start_server()
        yield rig
    finally:
        rig.close()


def ask_at_once(rig: Rig, load: Load, servers: list[Server], asks: list[tuple[str, str, str]]) -> list[Attempt]:
    """Submissions (key, user, action), each on a connection of its own that is open already."""

    async def ask() -> list[Attempt]:
        connections = [Connection(servers[number % len(servers)].url) for number in range(len(asks))]
        try:
            await asyncio.gather(*(connection.request("GET", "/healthz") for connection in connections))
            pairs = zip(connections, asks, strict=True)
            return list(await asyncio.gather(*(load.attempt(connection, *one) for connection, one in pairs)))
        finally:
            for connection in connections:
                connection.close()

    return rig.background.run(ask())  # type: ignore[no-any-return]


@pytest.mark.parametrize("redis", ["up", "cut"])
@pytest.mark.parametrize("servers", [1, 2])
def test_parallel_repeats_of_one_key_are_one_event(pair: Rig, servers: int, redis: str) -> None:
    board = pair.make_board(f"repeats-{servers}-{redis}")
    with pair.busy(clients=8, board=board, seed=next(seeds)) as load:
        if redis == "cut":
            pair.to_redis.cut()
        try:
            for number in range(ROUNDS):
                ask = (f"{board}/{number}", load.users[number % len(load.users)], "win")
                attempts = ask_at_once(pair, load, pair.servers[:servers], [ask] * REPEATS)
                assert Counter(attempt.status for attempt in attempts) == {200: REPEATS}
                assert Counter(attempt.body["replayed"] for attempt in attempts) == {True: REPEATS - 1, False: 1}
                assert len({attempt.body["seq"] for attempt in attempts}) == 1
        finally:
            pair.to_redis.restore()


def test_a_key_belongs_to_one_body(pair: Rig) -> None:
    """Two bodies race for a key: the first one has it, every other is a mismatch and records nothing."""
    board = pair.make_board("bodies")
    with pair.busy(clients=8, board=board, seed=next(seeds)) as load:
        for number in range(ROUNDS):
            asks = [(f"contested/{number}", load.users[0], ("win", "draw")[turn % 2]) for turn in range(REPEATS)]
            attempts = ask_at_once(pair, load, pair.servers, asks)
            (winner,) = {attempt.action for attempt in attempts if attempt.status == 200}
            for attempt in attempts:
                attempt.is_misuse = attempt.action != winner
                if attempt.is_misuse:
                    assert (attempt.status, attempt.body["code"]) == (422, "idempotency_mismatch")
            assert Counter(attempt.status for attempt in attempts) == {200: REPEATS // 2, 422: REPEATS // 2}
            assert len({attempt.body["seq"] for attempt in attempts if attempt.status == 200}) == 1


def test_a_key_belongs_to_one_user(pair: Rig) -> None:
    board = pair.make_board("users")
    with pair.busy(clients=8, board=board, seed=next(seeds)) as load:
        for number in range(ROUNDS):
            users = load.users * 5
            attempts = ask_at_once(pair, load, pair.servers, [(f"shared/{number}", user, "win") for user in users])
            assert {attempt.status for attempt in attempts} == {200}
            fresh = [attempt for attempt in attempts if not attempt.body["replayed"]]
            assert sorted(attempt.user for attempt in fresh) == sorted(load.users)
            assert len({attempt.body["seq"] for attempt in attempts}) == len(load.users)


# -- readers that do not read


@pytest.mark.timeout(180)
def test_readers_that_stop_reading_slow_nobody_and_catch_up(rig: Rig) -> None:
    server = rig.start_server()
    with ExitStack() as stack:
        slow = [stack.enter_context(rig.follow(receive_bytes=4_096)) for _ in range(SLOW_READERS)]
        witness = stack.enter_context(rig.follow())
        load = stack.enter_context(rig.load(clients=16))
        load.wait_for_more(500)
        memory = memory_bytes(server)
        for reader in slow:
            reader.pause()
        read_before = witness.received_bytes
        deliveries: list[float] = []
        stopped_at = monotonic()
        while len(deliveries) < PROBES or monotonic() - stopped_at < STOPPED_S:
            load.wait_for_more(500)
            (probe,) = ask_at_once(rig, load, [server], [(f"probe/{len(deliveries)}", "user-0", "draw")])
            wait_until(lambda seq=probe.body["seq"]: witness.seq >= seq, DELIVERED_WITHIN_S, "the delivery of a probe")
            deliveries.append(monotonic() - probe.answered_at)
        grown = memory_bytes(server) - memory
        unread = witness.received_bytes - read_before
        if FULL:
            cut = 'scoreboard_streams_cut_total{reason="stalled"}'
            wait_until(lambda: server.metric(cut) == SLOW_READERS, what="the end of those that stalled")
        print(f"{SLOW_READERS} readers left {unread / MIB:.2f} MiB each; memory grew by {grown / MIB:.1f} MiB;")
        print(f"deliveries to others took at most {max(deliveries):.3f} s")
        assert grown < LOG_BYTES_MAX + SLOW_READERS * 2 * BUFFER_SOFT_BYTES
        for reader in slow:
            reader.resume()
        rig.judge(load, followers=[witness, *slow])


# -- requests that do not arrive


@pytest.mark.timeout(180)
def test_half_open_requests_end_at_their_deadline_and_hold_nobody_up(rig: Rig) -> None:
    server = rig.start_server()
    head, body = encode_submission("global", "half-open", "user-0", "win")
    chunked_head, _ = encode_submission("global", "half-open", "user-0", "win", chunked=True)
    beginnings = [head[:-2] + b"X-Slow: ", head.replace(b"Length: ", b"Length: 9") + body, chunked_head + b"9"]
    with rig.busy(clients=16, pause_s=0.02) as load:
        load.wait_for_more(200)
        connections, files, memory = server.metric("scoreboard_connections"), open_files(server), memory_bytes(server)
        started, peak = monotonic(), memory
        within_s = REQUEST_DEADLINE_S + CHECK_S + LINGER_S + SLACK_S + HALF_OPEN / HALF_OPEN_PER_S

        async def send(number: int) -> HalfOpen:
            await asyncio.sleep(number / HALF_OPEN_PER_S)
            return await send_slowly(server, beginnings[number % len(beginnings)], stays=FULL, within_s=within_s)

        async def send_all() -> list[HalfOpen]:
            return await asyncio.gather(*(send(number) for number in range(HALF_OPEN)))

        sending = rig.background.start(send_all())
        while not sending.done():
            peak = max(peak, memory_bytes(server))
            load.wait_for_more(20)
        ended = sending.result()
        took = [a.answered_at - a.sent_at for a in load.attempts if a.sent_at > started]
        p99 = quantiles(took, n=100)[98]
        slowest = max(half.answered_after_s for half in ended)
        print(f"{HALF_OPEN} half-open: memory grew by {(peak - memory) / MIB:.1f} MiB, p99 of others {p99:.3f} s,")
        print(f"ended {Counter(half.status for half in ended)}, after at most {slowest:.1f} s")
        assert {half.status for half in ended} <= {0, 408}
        assert max(half.answered_after_s for half in ended) < REQUEST_DEADLINE_S + CHECK_S + SLACK_S
        assert max(half.closed_after_s for half in ended) < REQUEST_DEADLINE_S + CHECK_S + LINGER_S + SLACK_S
        assert p99 < 1.0
        assert peak - memory < LOG_BYTES_MAX + HALF_OPEN * HALF_OPEN_BYTES_MAX
        wait_until(lambda: server.metric("scoreboard_connections") <= connections, what="the end of connections")
        wait_until(lambda: open_files(server) <= files + POOLS_MAX, what="the files of before")


# -- everybody at once


@pytest.mark.timeout(240)
def test_a_storm_of_returning_readers_is_served_without_a_gap(rig: Rig) -> None:
    chance = random.Random(11)
    server = rig.start_server()
    with rig.load(clients=32) as load:
        load.wait_for_more(RESUME_EVENTS_MAX * 2)
        load.pause_s = 0.5
        server.stop()
        rows = rig.stores.query(LEDGER, "global")
        epoch, last = str(load.attempts[0].body["epoch"]), len(rows)
        readers = []
        for seq in chance.choices(range(last - RESUME_EVENTS_MAX * 3 // 2, last + 1), k=STORM):
            readers.append(rig.follow())
            scores = {row["user_id"]: row["score_after"] for row in rows[:seq] if row["kind"] == "score"}
            readers[-1].know(epoch, seq, scores)
        server.start()
        started = monotonic()
        with Follower.all_at_once(readers):
            wait_until(lambda: all(reader.seq >= last for reader in readers), 60.0, "what the readers know")
            print(f"{STORM} readers knew everything {monotonic() - started:.2f} s after the start;")
            print(f"{sum(reader.resets != [] for reader in readers)} were reset")
            rig.judge(load, followers=readers)
        assert server.metric("scoreboard_reached_back_total") == 1
        assert {tuple(reader.resets) for reader in readers} <= {(), ("too_far_behind",)}


# -- more connections than there are files


def test_connections_beyond_the_bound_are_refused_and_those_within_it_go_on(rig: Rig) -> None:
    server = rig.start_server(ulimit=f"-n {FILES_RESERVED + CLIENTS_MIN}")
    with rig.busy(clients=8) as load:
        load.wait_for_more(200)
        files = open_files(server)

        async def crowd() -> list[bytes]:
            connections = [await connect(server) for _ in range(CLIENTS_MIN)]
            try:
                probes = [await ask(path) for path in (b"/healthz", b"/readyz") for _ in range(3)]
                assert {answer.split(b"\r\n")[0] for answer in probes} == {b"HTTP/1.1 200 OK"}
                answers = [await ask() for _ in range(10)]
                answers += await asyncio.gather(*(ask() for _ in range(CROWD)))
                return answers
            finally:
                for _, writer in connections:
                    writer.transport.abort()

        async def ask(path: bytes = b"/api/leaderboard") -> bytes:
            """One more connection, that asks at once; what it hears until it is closed."""
            async with asyncio.timeout(10):
                reader, writer = await connect(server)
                try:
                    writer.write(b"GET %b HTTP/1.1\r\nHost: test\r\n\r\n" % path)
                    return await reader.read()
                except OSError:
                    return b""
                finally:
                    writer.transport.abort()

        answers = rig.background.run(crowd())
        for answer in answers[:10]:
            check_problem(parse_answers(answer)[0], 503, "overloaded")
            assert parse_answers(answer)[0].headers["connection"] == "close"
            assert int(parse_answers(answer)[0].headers["retry-after"]) >= 1
        # Of very many at once some are just cut: telling each would take a file each.
        assert {answer.split(b"\r\n")[0] for answer in answers} <= {b"HTTP/1.1 503 Service Unavailable", b""}
        load.wait_for_more(200)
        wait_until(lambda: open_files(server) <= files + POOLS_MAX, what="the files of before")
        assert server.metric("scoreboard_connections_refused_total") >= 10 + CROWD
    assert server.metric("scoreboard_connections") == 1


def test_a_server_raises_its_limit_of_files_or_does_not_start(rig: Rig) -> None:
    server = rig.start_server(ulimit="-Sn 256")
    assert server.process is not None
    soft, hard = psutil.Process(server.process.pid).rlimit(resource.RLIMIT_NOFILE)
    assert soft == hard
    with pytest.raises(AssertionError, match=f"at least {FILES_RESERVED + CLIENTS_MIN} are needed"):
        rig.start_server(ulimit=f"-n {FILES_RESERVED + CLIENTS_MIN - 1}")
