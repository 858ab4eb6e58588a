"""``serve --workers``: several processes that are one server to whoever asks, whatever happens to one of them."""

import http.client
import itertools
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.harness import Server, Stores, Stream, make_token, wait_until

WORKERS = 2


class Client:
    """A keep-alive connection, which stays with the worker that took it."""

    def __init__(self, server: Server) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        self._connection.connect()
        _, headers = self._ask("GET", "/api/leaderboard")
        self.worker = headers["x-request-id"].partition("-")[0]

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def page(self) -> dict[str, object]:
        return self._ask("GET", "/api/leaderboard")[0]

    def submit(self, user: str, key: str) -> dict[str, object]:
        headers = {"Authorization": f"Bearer {make_token(user)}", "Idempotency-Key": key}
        return self._ask("POST", "/api/scores", {"actionId": "win"}, headers)[0]

    def _ask(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> tuple[dict[str, object], dict[str, str]]:
        content = {"Content-Type": "application/json"} if body is not None else {}
        self._connection.request(method, path, json.dumps(body) if body else None, {**content, **(headers or {})})
        answer = self._connection.getresponse()
        data = json.loads(answer.read())
        assert answer.status == 200, data
        return data, {name.lower(): value for name, value in answer.getheaders()}


def connect_to_each(server: Server) -> dict[str, Client]:
    """A connection to each worker; the kernel chooses, so it takes a few tries."""
    found: dict[str, Client] = {}

    def try_once() -> bool:
        client = Client(server)
        if client.worker in found:
            client.__exit__()
        else:
            found[client.worker] = client
        return len(found) == WORKERS

    wait_until(try_once, what="a connection to each worker")
    return found


def workers_of(server: Server) -> list[int]:
    """The workers' process ids, as far as they run."""
    assert server.process is not None
    found = []
    try:
        for pid in Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split():
            if b"scoreboard.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    except OSError:
        pass  # one ended just now
    return found


def is_running(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


@pytest.fixture(scope="module")
def server(start_shared: Callable[..., Server]) -> Server:
    server = start_shared(WORKERS=str(WORKERS))
    server.put_action("win", 10)
    return server


@pytest.fixture
def clients(server: Server) -> Iterator[dict[str, Client]]:
    found = connect_to_each(server)
    yield found
    for client in found.values():
        client.__exit__()


@pytest.fixture
def busy(server: Server) -> Iterator[None]:
    """All workers have so much to do that what is published reaches them later than what is asked of them."""
    done = threading.Event()

    def keep_busy() -> None:
        while not done.is_set():
            server.raw(b"GET /api/leaderboard?limit=50 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    threads = [threading.Thread(target=keep_busy) for _ in range(6)]
    for thread in threads:
        thread.start()
    yield
    done.set()
    for thread in threads:
        thread.join()


@pytest.mark.usefixtures("busy")
def test_nobody_reads_less_than_what_another_worker_has_acknowledged(clients: dict[str, Client]) -> None:
    older = []
    writer, reader = clients.values()
    for number in range(400):
        writer, reader = reader, writer
        acknowledged = writer.submit(f"u{number % 7}", f"busy-{number}")["seq"]
        seen = reader.page()["seq"]
        if seen < acknowledged:  # type: ignore[operator]
            older.append((seen, acknowledged))
    assert older == []


@pytest.mark.usefixtures("busy")
def test_nobody_reads_less_than_what_another_worker_has_shown(
    start_shared: Callable[..., Server], clients: dict[str, Client]
) -> None:
    """The scores come by another server, so that these workers have acknowledged none of them."""
    done = threading.Event()
    other = start_shared()

    def score() -> None:
        with other.client("game", "scores:any") as game:
            while not done.is_set():
                items = [{"actionId": "win", "userId": f"shown-{number}"} for number in range(3)]
                assert game.post("/api/scores/batch", json={"submissions": items}).status_code == 200

    scoring = threading.Thread(target=score)
    scoring.start()
    try:
        seqs = [int(client.page()["seq"]) for _, client in zip(range(2_000), itertools.cycle(clients.values()))]  # type: ignore[call-overload]
    finally:
        done.set()
        scoring.join()
    assert [pair for pair in itertools.pairwise(seqs) if pair[0] > pair[1]] == []
    assert seqs[-1] > seqs[0]


def test_streams_of_all_workers_end_up_equal(server: Server, clients: dict[str, Client]) -> None:
    url = f"{server.url}/api/leaderboard/stream"
    streams = [Stream(url) for _ in range(8)]
    for stream in streams:
        stream.__enter__()
    try:
        answered = {stream.response_headers["x-request-id"].partition("-")[0] for stream in streams}
        last = 0
        for number, client in zip(range(30), itertools.cycle(clients.values())):
            last = int(client.submit(f"s{number % 3}", f"stream-{number}")["seq"])  # type: ignore[call-overload]
        for stream in streams:
            stream.wait_for_seq(last)
            assert [int(frame.id.rpartition("-")[2]) for frame in stream.frames if frame.id] == sorted(
                int(frame.id.rpartition("-")[2]) for frame in stream.frames if frame.id
            )
        assert answered <= clients.keys()
    finally:
        for stream in streams:
            stream.__exit__()


def test_fifty_at_once_with_one_key_are_one_event(server: Server) -> None:
    def submit() -> httpx.Response:
        return server.submit("fifty", key="one-key")

    answers: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda: answers.append(submit())) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["seq"] for answer in answers}) == 1
    assert sum(not answer.json()["replayed"] for answer in answers) == 1


def test_metrics_are_those_of_all_workers(server: Server, clients: dict[str, Client]) -> None:
    def count_pages() -> dict[str, float]:
        with server.client() as client:
            lines = client.get("/metrics").text.splitlines()
        pattern = re.compile(r'scoreboard_requests_total{worker="(\d)",route="/api/leaderboard",status="200"} (\S+)')
        counts = {found[1]: float(found[2]) for line in lines if (found := pattern.fullmatch(line))}
        assert sum(line.startswith("# TYPE scoreboard_requests_total ") for line in lines) == 1
        return counts

    before = count_pages()
    for client in clients.values():
        for _ in range(5):
            client.page()
    after = count_pages()
    assert {worker: after[worker] - before.get(worker, 0) for worker in after} == {"0": 5, "1": 5}


def test_the_log_has_whole_lines_that_name_their_worker(
    start_shared: Callable[..., Server], tmp_path: Path, module_stores: Stores
) -> None:
    log = tmp_path / "log"
    server = Server(module_stores, log=log, WORKERS=str(WORKERS)).start()
    try:
        clients = connect_to_each(server)
        threads = [
            threading.Thread(target=lambda client=client: [client.submit("lines", f"{i}") for i in range(300)])
            for client in clients.values()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for client in clients.values():
            client.__exit__()
    finally:
        assert server.stop() == 0
    lines = [json.loads(line) for line in log.read_bytes().splitlines()]
    assert {line.get("worker") for line in lines if line["event"] == "request"} == {0, 1}
    assert sum(line["event"] == "request" and line["route"] == "/api/scores" for line in lines) == 600


class TestEnds:
    """On servers of their own, which are hurt."""

    @pytest.fixture
    def start(self, module_stores: Stores, server: Server, tmp_path: Path) -> Iterator[Callable[..., Server]]:
        started: list[Server] = []

        def start(**settings: str) -> Server:
            started.append(Server(module_stores, log=tmp_path / "log", WORKERS=str(WORKERS), **settings))
            return started[-1].start()

        yield start
        for each in started:
            each.kill()

    def test_one_that_is_killed_is_replaced_and_nothing_acknowledged_is_lost(
        self, start: Callable[..., Server]
    ) -> None:
        server = start()
        acknowledged: list[int] = []
        stop = threading.Event()

        def load(number: int) -> None:
            for i in itertools.count():
                if stop.is_set():
                    return
                key = f"kill-{number}-{i}"
                while True:  # a connection that breaks with its worker is opened again, and the request repeated
                    try:
                        acknowledged.append(server.submit(f"k{number}", key=key).json()["seq"])
                        break
                    except httpx.HTTPError:
                        time.sleep(0.01)

        threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()

        def wait_for_more() -> None:
            count = len(acknowledged)
            wait_until(lambda: len(acknowledged) > count + 20)

        try:
            for pid in workers_of(server):
                wait_for_more()
                os.kill(pid, signal.SIGKILL)
                wait_until(lambda pid=pid: pid not in workers_of(server) and len(workers_of(server)) == WORKERS)
            wait_for_more()
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        for client in connect_to_each(server).values():
            assert client.page()["seq"] == max(acknowledged)
            client.__exit__()
        assert len(set(acknowledged)) == len(acknowledged)
        assert server.stop() == 0

    def test_connections_that_come_meanwhile_wait_for_the_next(self, start: Callable[..., Server]) -> None:
        server = start()
        os.kill(workers_of(server)[0], signal.SIGKILL)
        for _ in range(20):  # about half of them go to the one that is away
            with server.client() as client:
                assert client.get("/healthz").status_code == 200

    def test_with_the_parent_killed_all_end_at_once_and_the_port_is_free(self, start: Callable[..., Server]) -> None:
        server = start()
        workers = workers_of(server)
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(map(is_running, workers)))
        server.start()
        assert server.submit("again").status_code == 200
        assert server.stop() == 0

    def test_ending_lets_what_is_under_way_finish(self, start: Callable[..., Server]) -> None:
        server = start()
        workers = workers_of(server)
        streams = [Stream(f"{server.url}/api/leaderboard/stream") for _ in range(4)]
        for stream in streams:
            stream.__enter__()
        assert server.stop() == 0
        for stream in streams:
            wait_until(lambda stream=stream: stream.ended)
            assert stream.retries[-1] != 2_000  # told to come back, each at a time of its own
            stream.__exit__()
        assert not any(map(is_running, workers))

    def test_the_server_ends_when_all_keep_ending(self, start: Callable[..., Server]) -> None:
        server = start()
        assert server.process is not None
        process = server.process

        def kill_all() -> bool:
            for pid in workers_of(server):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return process.poll() is not None

        wait_until(kill_all, within_s=60, what="the end of the server")
        assert process.returncode == 2

    def test_while_one_can_not_start_the_others_get_all_connections(
        self, start: Callable[..., Server], tmp_path: Path
    ) -> None:
        server = start()
        (kept, hurt) = workers_of(server)
        listening = "/proc/net/tcp"
        port = f":{server.port:04X} 00000000:0000 0A"

        def kill_others() -> bool:
            for pid in set(workers_of(server)) - {kept}:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return sum(port in line for line in Path(listening).read_text().splitlines()) == 1

        assert hurt != kept
        wait_until(kill_others, within_s=60, what="the end of its socket")
        for _ in range(20):
            with server.client() as client:
                assert client.get("/healthz").status_code == 200
        wait_until(lambda: len(workers_of(server)) == WORKERS, what="another try")
        for client in connect_to_each(server).values():
            client.__exit__()
        assert server.stop() == 0

    def test_one_that_hangs_is_replaced(self, start: Callable[..., Server]) -> None:
        server = start()
        hung = workers_of(server)[0]
        os.kill(hung, signal.SIGSTOP)
        wait_until(lambda: hung not in workers_of(server), within_s=40, what="the end of the one that hangs")
        for client in connect_to_each(server).values():
            assert client.page()
            client.__exit__()
        assert server.stop() == 0

    def test_a_second_server_does_not_get_a_part_of_the_port(
        self, start: Callable[..., Server], module_stores: Stores, tmp_path: Path
    ) -> None:
        server = start()
        second = Server(module_stores, log=tmp_path / "second", WORKERS="2")
        refused = second.run("serve", "--port", str(server.port))
        assert refused.returncode == 2
        assert f"can't listen on 127.0.0.1 port {server.port}" in refused.stderr

    def test_a_worker_that_can_not_start_ends_the_server(self, tmp_path: Path, module_stores: Stores) -> None:
        limited = Server(module_stores, log=tmp_path / "log", ulimit="-n 150", WORKERS="2")
        with pytest.raises(AssertionError):
            limited.start()
        assert limited.process is not None
        assert limited.process.returncode == 2
        log = (tmp_path / "log").read_text()
        assert "the limit of open files is 150" in log
