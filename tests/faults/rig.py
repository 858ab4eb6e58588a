"""Everything a fault needs: stores of its own, proxies before them, servers, load, readers and the verdict."""

import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.faults.background import Background
from tests.faults.follower import Follower
from tests.faults.judge import judge
from tests.faults.load import ACTIONS, Load
from tests.faults.proxy import Proxy
from tests.harness import Server, Stores
from tests.own_stores import OwnPostgres, OwnValkey

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
        self.to_postgres = Proxy(self.background, self.postgres.url)
        self.to_redis = Proxy(self.background, self.valkey.url)
        self.servers: list[Server] = []
        self.loads: list[Load] = []

    def close(self) -> None:
        """End everything; the journals stay in the test's folder."""
        for server in self.servers:
            self.resume(server)
            server.kill()
        for number, load in enumerate(self.loads):
            load.write_journal(self._folder / f"journal{number}.jsonl")
        for proxy in (self.to_postgres, self.to_redis):
            proxy.cut()
        self._stack.close()

    def start_server(
        self, *, direct: bool = False, ulimit: str = "", environment: Mapping[str, str] | None = None, **settings: str
    ) -> Server:
        """Another server. :param direct: past the proxies."""
        via = self.stores if direct else Stores(self.to_postgres.url, self.to_redis.url)
        log = self._folder / f"server{len(self.servers)}.log"
        server = Server(via, log=log, ulimit=ulimit, environment=environment, **(self._settings | settings))
        self.servers.append(server)
        server.start()
        if len(self.servers) == 1:
            self.put_actions("global")
        return server

    def put_actions(self, board: str) -> None:
        for action, points in ACTIONS.items():
            self.servers[0].put_action(action, points, board)

    def make_board(self, board: str) -> str:
        """A board with the actions of the load."""
        with self.servers[0].client("admin", "admin") as admin:
            assert admin.put(f"/api/boards/{board}", json={}).status_code == 201
        self.put_actions(board)
        return board

    def load(self, *servers: Server, **options: int | float | str) -> Load:
        load = Load(self.background, list(servers or self.servers), **options)  # type: ignore[arg-type]
        self.loads.append(load)
        return load

    def follow(self, *servers: Server, board: str = "global", receive_bytes: int | None = None) -> Follower:
        return Follower(self.background, list(servers or self.servers), board=board, receive_bytes=receive_bytes)

    def judge(self, load: Load, *followers: Follower, resets: int = 0) -> None:
        load.finish()
        alive = [server for server in self.servers if server.process is not None and server.process.poll() is None]
        judge(self.stores, alive, load, followers, resets=resets)

    @contextmanager
    def busy(self, *servers: Server, resets: int = 0, **options: int | float | str) -> Iterator[Load]:
        """Load and a reader while the block runs, and the verdict after it."""
        board = str(options.get("board", "global"))
        with self.follow(*servers, board=board) as follower, self.load(*servers, **options) as load:
            yield load
            self.judge(load, follower, resets=resets)

    @staticmethod
    def pause(server: Server) -> None:
        """SIGSTOP."""
        assert server.process is not None
        server.process.send_signal(signal.SIGSTOP)

    @staticmethod
    def resume(server: Server) -> None:
        if server.process is not None and server.process.poll() is None:
            server.process.send_signal(signal.SIGCONT)
