"""The command ``serve``: takes the port, brings the stores up, then serves in this process or in several.

With one worker this process serves. With more it is their parent: it keeps the embedded stores, the port and the
memory that they share, and they serve.
"""

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog

from scoreboard.app import Backing, open_ledger, run_process
from scoreboard.auth import check_secret, read_or_create_secret
from scoreboard.config import Config
from scoreboard.connecting import check_redis
from scoreboard.database import POOLS_MAX
from scoreboard.digests import SETTING
from scoreboard.embedded import CONNECTIONS_MAX, DataDir, EmbeddedStores
from scoreboard.endings import stop_on_signals
from scoreboard.errors import StartupError
from scoreboard.ledger import Ledger
from scoreboard.listeners import bind_listeners
from scoreboard.migrations import migrate
from scoreboard.model import Action
from scoreboard.siblings import Siblings
from scoreboard.supervisor import supervise
from scoreboard.tasks import finish

DEMO_ACTIONS = (("win", 10), ("bonus", 25), ("assist", 5), ("penalty", -5))

log = structlog.get_logger(__name__)


@asynccontextmanager
async def open_stores(config: Config, *, sets_up: bool = False) -> AsyncIterator[tuple[str, str]]:
    """The URLs of both stores: yours, those of a running server's data directory, or started for the while.

    :param sets_up: whether a data directory, and a signing secret in it, is made where there is none.
    :raises StartupError: if there is none, or the embedded stores don't start.
    """
    if config.database_url is not None and config.redis_url is not None:
        yield config.database_url, config.redis_url
        return
    data = DataDir(config.data_dir)
    if not sets_up:
        data.require()
    if data.is_served():
        yield data.database_url, data.redis_url
        return
    stores = EmbeddedStores(data)
    try:
        await stores.start()
        if sets_up:
            signing_key(config)
        yield data.database_url, data.redis_url
    finally:
        await finish(stores.stop())


def signing_key(config: Config) -> str:
    """The key that verifies tokens: the configured one, else the data directory's secret, made where there is none.

    :raises StartupError: if the file is not ours alone, or holds a secret that can be guessed.
    """
    return config.jwt_secret or config.jwt_public_key or _kept_secret(DataDir(config.data_dir).secret)


def present_signing_key(config: Config) -> str:
    """The same, but never made: tokens of a new one are good for no server.

    :raises StartupError: if there is none, too.
    """
    if config.embedded and not (config.jwt_secret or config.jwt_public_key):
        data = DataDir(config.data_dir)
        data.require()
        if not data.secret.exists():
            raise StartupError(
                f"the signing secret {data.secret} is missing: put it back from a backup, or start 'scoreboard serve' "
                "anew, or run 'scoreboard migrate' while none runs: these make a new one, and tokens that were signed "
                "with the old one are not accepted any more"
            )
    return signing_key(config)


def configured_digest_key(config: Config) -> str | None:
    """The key of digests by the setting or the data directory; None where the database is to keep one."""
    if config.digest_key is None and config.embedded:
        return _kept_secret(DataDir(config.data_dir).digest_key)
    return config.digest_key


def source_of_digest_key(config: Config) -> str:
    """Where the key of digests comes from, or should: a file or a setting."""
    return str(DataDir(config.data_dir).digest_key) if config.digest_key is None and config.embedded else SETTING


def _kept_secret(path: Path) -> str:
    secret = read_or_create_secret(path)
    check_secret(str(path), secret)
    return secret


async def serve(config: Config, announce: Callable[[str], None]) -> None:
    """Serve until a signal comes, then drain. One that comes before all is up cancels this.

    :param announce: takes lines for a person; the last before serving is the address.
    :raises StartupError: if a part does not come up, or keeps failing.
    """
    # Taken before anything is started, so that a taken port costs nothing.
    listeners = bind_listeners(config.host, config.port, config.workers)
    host, port = listeners[0].getsockname()[:2]

    def announce_address() -> None:
        if metrics_listener is not None:
            metrics_port = metrics_listener.getsockname()[1]
            announce(f"Metrics at http://{_in_url(host)}:{metrics_port}/metrics")
            log.info("serving_metrics", host=host, port=metrics_port)
        announce(f"Listening on http://{_in_url(host)}:{port}")
        log.info("listening", host=host, port=port)

    async with AsyncExitStack() as stack:
        for listener in listeners:
            stack.callback(listener.close)
        metrics_listener = _bind_metrics(config)
        if metrics_listener is not None:
            stack.callback(metrics_listener.close)
        backing = await _prepare(config, announce, stack)
        with stop_on_signals() as stop:
            if config.workers == 1:
                await run_process(config, backing, listeners[0], stop, announce_address, Siblings(), metrics_listener)
            else:
                await supervise(config, backing, listeners, stop, announce_address, metrics_listener)


def _bind_metrics(config: Config) -> socket.socket | None:
    """The bound socket for the metrics alone, where there is to be one.

    :raises StartupError: if its port is taken.
    """
    if config.metrics_port is None:
        return None
    return bind_listeners(config.host, config.metrics_port, 1)[0]


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


async def _prepare(config: Config, announce: Callable[[str], None], stack: AsyncExitStack) -> Backing:
    """Stores that are up until the stack ends, their schema, and the key."""
    data = DataDir(config.data_dir)
    if config.embedded:
        more = (config.workers - 1) * POOLS_MAX
        stores = EmbeddedStores(data, connections_max=CONNECTIONS_MAX + more)
        stack.push_async_callback(lambda: finish(stores.stop()))
        stores.take()
        announce(f"Starting the embedded PostgreSQL and Valkey in {data.path}")
        await stores.start()
        database_url, redis_url = data.database_url, data.redis_url
    else:
        database_url, redis_url = config.database_url or "", config.redis_url or ""
    key = signing_key(config)
    await check_redis(redis_url, needed=False)
    for name in await migrate(database_url, auto=config.auto_migrate, purpose="rows"):
        announce(f"Applied migration {name}")
    ledger = await open_ledger(database_url)
    try:
        if config.embedded:
            await _add_demo(ledger, announce)
            if key not in (config.jwt_secret, config.jwt_public_key):
                announce(f"Tokens are signed with the secret kept in {data.secret}")
        digest_key, demo_key = await _share_keys(config, ledger)
    finally:
        await ledger.close()
    return Backing(database_url, redis_url, key, digest_key, demo_key)


async def _share_keys(config: Config, ledger: Ledger) -> tuple[bytes, str | None]:
    """The keys that all servers of a database share: of digests, and of the demo's tokens where there is a demo.

    :raises StartupError: if other servers have another one.
    """
    digest_key = await ledger.agree_on_digest_key(configured_digest_key(config), source_of_digest_key(config))
    return digest_key, await ledger.keep_demo_key() if config.has_demo else None


async def _add_demo(ledger: Ledger, announce: Callable[[str], None]) -> None:
    """Give a fresh database something to click on."""
    board = await ledger.read_board("global")
    if board.seq == 0 and not await ledger.list_actions("global", limit=1):
        for action_id, points in DEMO_ACTIONS:
            await ledger.put_action("global", Action(action_id, points, 0, None, True))
        announce(f"Added the sample actions {', '.join(name for name, _ in DEMO_ACTIONS)} to board global")
