"""Everything a fault needs: stores of its own, proxies before them, servers, load, readers and the verdict."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from time import monotonic

import httpx

from tests.faults.background import Background
from tests.faults.follower import Follower
from tests.faults.judge import judge
from tests.faults.load import ACTIONS, Attempt, Load
from tests.faults.moderator import Moderator
from tests.faults.proxy import Proxy
from tests.harness import Server, Stores, wait_until
from tests.own_stores import OwnPostgres, OwnValkey

WINDOWS = ["all", "day", "week", "month"]
FULL = os.environ.get("SCOREBOARD_TEST_FAULTS") == "full"
"""Whether each fault is tried as often and as long as the promise is meant, which takes minutes."""


class Rig:
    """Stores, proxies and servers of one test. Servers reach the stores through the proxies, the verdict does not."""

    def __init__(
        self, folder: Path, *, postgres: OwnPostgres | None = None, valkey: OwnValkey | None = None, **settings: str
    ) -> None:
        self._folder = folder
        self._settings = settings
        self._stack = ExitStack()
        self.background = self._stack.enter_context(Background())
        self.postgres = self._stack.enter_context(postgres or OwnPostgres())
        self.valkey = self._stack.enter_context(valkey or OwnValkey())
        self.stores = Stores(self.postgres.url, self.valkey.url)
        self._proxies: list[Proxy] = []
        self.to_postgres = self.add_proxy(self.postgres.url)
        self.to_redis = self.add_proxy(self.valkey.url)
        self.servers: list[Server] = []
        self.loads: list[Load] = []
        self._probes: list[Attempt] = []

    def close(self) -> None:
        """End everything; the journals stay in the test's folder."""
        for server in self.servers:
            self.resume(server)
            server.kill()
        for number, load in enumerate(self.loads):
            load.write_journal(self._folder / f"journal{number}.jsonl")
        for proxy in self._proxies:
            proxy.cut()
        self._stack.close()

    def start_server(
        self,
        *,
        direct: bool = False,
        to_redis: Proxy | None = None,
        ulimit: str = "",
        environment: Mapping[str, str] | None = None,
        **settings: str,
    ) -> Server:
        """Another server. :param direct: past the proxies. :param to_redis: its own way to Redis."""
        via = self.stores if direct else Stores(self.to_postgres.url, (to_redis or self.to_redis).url)
        log = self._folder / f"server{len(self.servers)}.log"
        server = Server(via, log=log, ulimit=ulimit, environment=environment, **(self._settings | settings))
        self.servers.append(server)
        server.start()
        if len(self.servers) == 1:
            self.put_board("global")
            self.put_actions("global")
        return server

    def put_board(self, board: str) -> None:
        """A board with all windows, and ties of which the ranking has to keep something beside it."""
        with self.servers[0].client("admin", "admin") as admin:
            answer = admin.put(f"/api/boards/{board}", json={"windows": WINDOWS, "ties": "dense"})
            assert answer.status_code in (200, 201), answer.text

    def put_actions(self, board: str) -> None:
        for action, points in ACTIONS.items():
            self.servers[0].put_action(action, points, board)

    def make_board(self, board: str) -> str:
        """A board with the actions of the load."""
        self.put_board(board)
        self.put_actions(board)
        return board

    def add_proxy(self, url: str) -> Proxy:
        self._proxies.append(Proxy(self.background, url))
        return self._proxies[-1]

    def load(self, *servers: Server, **options: int | float | str) -> Load:
        load = Load(self.background, list(servers or self.servers), **options)  # type: ignore[arg-type]
        self.loads.append(load)
        return load

    def follow(self, *servers: Server, board: str = "global", receive_bytes: int | None = None) -> Follower:
        return Follower(self.background, list(servers or self.servers), board=board, receive_bytes=receive_bytes)

    def probe(self, server: Server) -> httpx.Response:
        """Submit once; the next probe is a repeat with the same key until one was acknowledged."""
        is_new = not self._probes or self._probes[-1].status == 200
        key = f"probe-{len(self._probes)}" if is_new else self._probes[-1].key
        sent_at = monotonic()
        answer = server.submit("game", "draw", key=key)
        attempt = Attempt(key, "game", "draw", sent_at, monotonic(), answer.status_code, dict(answer.headers))
        attempt.body = answer.json()
        self._probes.append(attempt)
        return answer

    def wait_for_probe(self, server: Server, status: int = 200, within_s: float = 10) -> httpx.Response:
        """Probe until it is answered with a status."""
        answer = wait_until(
            lambda: (a := self.probe(server)).status_code == status and a, within_s, f"a probe answered {status}"
        )
        assert isinstance(answer, httpx.Response)
        return answer

    def use_redis(self, valkey: OwnValkey) -> None:
        """From now on the verdict asks this one."""
        self.stores = Stores(self.stores.database_url, valkey.url)

    def judge(self, *loads: Load, followers: Sequence[Follower] = (), resets: int = 0) -> None:
        for load in loads:
            load.finish()
        alive = [server for server in self.servers if server.process is not None and server.process.poll() is None]
        if self._probes:
            self.wait_for_probe(alive[0])
        attempts = self._probes + [attempt for load in loads for attempt in load.attempts]
        judge(self.stores, alive, loads[0].board, attempts, followers, resets=resets)

    @contextmanager
    def busy(
        self, *servers: Server, resets: int = 0, moderated: bool = True, **options: int | float | str
    ) -> Iterator[Load]:
        """Load, a reader, and a moderator unless none is wanted, while the block runs, and the verdict after it."""
        board = str(options.get("board", "global"))
        with self.follow(*servers, board=board) as follower, self.load(*servers, **options) as load:
            with self.moderate(load.users[0], *servers) if moderated else nullcontext():
                yield load
            self.judge(load, followers=[follower], resets=resets)

    def moderate(self, user: str, *servers: Server) -> Moderator:
        return Moderator(self.background, list(servers or self.servers), user)

    @staticmethod
    def pause(server: Server) -> None:
        """SIGSTOP."""
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)

    @staticmethod
    def resume(server: Server) -> None:
        if server.process is not None and server.process.poll() is None:
            server.process.send_signal(signal.SIGCONT)
