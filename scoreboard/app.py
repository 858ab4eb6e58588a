"""One serving process: its parts wired together, its tasks, its HTTP server, and how it drains and closes.

Order of a shutdown: readiness turns red while requests are still taken; streams end cleanly, with what was acknowledged
by then, their readers told to come back spread out; the listener closes; what is under way finishes within the drain
time; then the stores close.
"""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from time import monotonic
from typing import Any

import msgspec
import structlog

from scoreboard.acknowledged import Acknowledged
from scoreboard.administration import Administration
from scoreboard.auth import Authenticator, sign_demo_token
from scoreboard.config import Config
from scoreboard.costly import Costly
from scoreboard.errors import StartupError, Unavailable, reason_of
from scoreboard.feed import Feed
from scoreboard.files import bound_connections, raise_file_limit
from scoreboard.http.admission import ConnectionSlots, FailedAuthentications, Misses, StreamSlots
from scoreboard.http.protocol import ScoreboardProtocol
from scoreboard.http.routes import create_app
from scoreboard.http.services import Services
from scoreboard.ledger import Ledger
from scoreboard.limits import RateLimiter
from scoreboard.listeners import BACKLOG
from scoreboard.logs import flush_logs
from scoreboard.metrics import Metrics
from scoreboard.metrics_page import MetricsPage, serve_metrics
from scoreboard.model import Head
from scoreboard.pages import Pages
from scoreboard.pump import Pump
from scoreboard.ranks import Ranks
from scoreboard.readiness import Readiness
from scoreboard.reads import Reads
from scoreboard.repair import Repair
from scoreboard.siblings import Siblings
from scoreboard.stalls import Stalls
from scoreboard.tasks import end_tasks
from scoreboard.writer import Writer

RED_S = 0.5
"""How long readiness is red before the listener closes, at most a quarter of the drain time."""
PUBLISHED_WITHIN_S = 0.5
"""How long streams wait at most, before they end, for what was acknowledged to be published; at most a quarter of the
drain time."""
SUBSCRIBE_WAIT_S = 2.0
BOARDS_CHECKED_MAX = 1_000
"""Boards whose ranking is checked at start; others are when they are first used."""
RESTART_TASK_S = 0.5
POLL_S = 0.02

log = structlog.get_logger(__name__)


class Backing(msgspec.Struct, frozen=True):
    """What a serving process stands on: the URLs of both stores, migrated, and its keys.

    :ivar key: verifies tokens.
    :ivar digest_key: makes the digests by which users are known again whom nothing names any more.
    :ivar demo_key: signs and verifies tokens of the demo; None where there is no demo.
    """

    database_url: str
    redis_url: str
    key: str
    digest_key: bytes
    demo_key: str | None


class Parts:
    """The parts of a process, wired."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        ranks: Ranks,
        backing: Backing,
        siblings: Siblings,
        *,
        connections_max: int,
    ) -> None:
        self.ledger, self.ranks = ledger, ranks
        self.metrics = Metrics()
        self.stalls = Stalls(self.metrics)
        self.siblings = siblings
        self.own_metrics = MetricsPage(self.metrics.render_in_slices)
        self.metrics_page = MetricsPage(self._render_metrics)
        self.acknowledged = Acknowledged(siblings.memory, siblings.number)
        self.repair = Repair(ledger, ranks, self.metrics, on_healed=self._heal_feed)
        self.costly = Costly(ledger, self.metrics)
        self.reads = Reads(ledger, ranks, self.repair, self.metrics, self.acknowledged, self.costly)
        self.pump = Pump(self.metrics)
        self.feed = Feed(ledger, ranks, self.reads, self.pump, self.metrics, on_seen=self.repair.see)
        self.pages = Pages(ledger, self.reads, self.costly, self.feed, self.repair, self.metrics)
        self.writer = Writer(ledger, ranks, self.repair, self.metrics, on_answer=self._acknowledge)
        self.services = Services(
            authenticator=Authenticator(
                backing.key,
                config.jwt_algorithms,
                issuer=config.jwt_issuer,
                audience=config.jwt_audience,
                leeway_s=config.jwt_leeway_s,
                demo_key=backing.demo_key,
            ),
            limiter=RateLimiter(ranks, config.rate),
            writer=self.writer,
            administration=Administration(ledger, self.repair, self._acknowledge),
            pages=self.pages,
            feed=self.feed,
            pump=self.pump,
            ledger=ledger,
            readiness=Readiness(ledger.probe, ranks.probe),
            repair=self.repair,
            metrics=self.metrics,
            public_reads=config.public_reads,
            cors_origins=config.cors_origins,
            slots=StreamSlots(config.streams_max, config.streams_per_ip_max),
            connections=ConnectionSlots(connections_max, config.connections_per_ip_max, self.metrics),
            failures=FailedAuthentications(config.auth_failures_per_ip_max),
            misses=Misses(config.misses),
            trusted_proxies=config.trusted_proxies,
            read_metrics=self.metrics_page.read,
            fast_lane=config.fast_lane,
            log_reads=config.log_level == "debug",
            sign_demo=partial(sign_demo_token, backing.demo_key) if backing.demo_key is not None else None,
        )
        self._watch_gauges()

    def _heal_feed(self, board: str) -> None:
        self.feed.refresh(board)

    def _acknowledge(self, board: str, head: Head) -> None:
        self.acknowledged.note(board, head.position)
        self.repair.acknowledge(board, head)

    async def _render_metrics(self) -> bytes:
        return await self.siblings.merge_metrics(self.own_metrics.read)

    def _watch_gauges(self) -> None:
        watch = self.metrics.watch
        watch("queue_submissions", "Submissions without an answer yet", lambda: self.writer.queued)
        watch("connections", "Open connections of clients", lambda: self.services.connections.open)
        watch("readers", "Open streams", lambda: self.pump.readers)
        watch("suspect_boards", "Boards whose ranking is being healed", lambda: self.repair.suspects)
        watch("subscription_proven", "1 while published messages arrive", lambda: self.feed.subscription.proven)
        watch("lane_waiting", "Costly reads that wait", lambda: self.costly.waiting + self.reads.waiting)
        watch("lane_kept_bytes", "Answers of costly reads that are kept", lambda: self.costly.kept_bytes)
        for pool in ("writes", "reads", "repairs", "costly"):
            watch(
                f"database_connections_{pool}",
                f"Open PostgreSQL connections for {pool}",
                partial(self.ledger.count_connections, pool),
            )

    def tasks(self) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
        """The background tasks by name."""
        return {
            "repair": self.repair.run,
            "subscription": self.feed.subscription.run,
            "feed": self.feed.watch,
            "pump": self.pump.run,
            "sweep": self.pump.sweep,
            "logs": flush_logs,
            "stalls": self.stalls.watch,
        }


def token_claims(config: Config) -> dict[str, str]:
    """The claims that this configuration asks of every token."""
    claims = {"iss": config.jwt_issuer, "aud": config.jwt_audience}
    return {name: value for name, value in claims.items() if value}


async def run_process(
    config: Config,
    backing: Backing,
    listener: socket.socket,
    stop: asyncio.Event,
    on_listening: Callable[[], None],
    siblings: Siblings,
    metrics_listener: socket.socket | None = None,
) -> None:
    """Serve on a bound socket until told to stop, then drain.

    :param on_listening: called when requests are taken.
    :param siblings: the processes that make up the server, this one among them.
    :param metrics_listener: a bound socket for the metrics alone.
    :raises StartupError: if a part does not come up.
    """
    connections_max = bound_connections(config.streams_max, raise_file_limit())
    async with AsyncExitStack() as stack:
        stack.callback(listener.close)
        ledger = await open_ledger(backing.database_url, backing.digest_key)
        stack.push_async_callback(ledger.close)
        ranks = Ranks.open(backing.redis_url)
        stack.push_async_callback(ranks.close)
        parts = Parts(config, ledger, ranks, backing, siblings, connections_max=connections_max)
        await stack.enter_async_context(siblings.listening(parts.own_metrics.read))
        await stack.enter_async_context(serve_metrics(metrics_listener, parts.metrics_page))
        await stack.enter_async_context(_background(parts.tasks()))
        for board in await ledger.list_boards(limit=BOARDS_CHECKED_MAX):
            parts.repair.glance(board.board_id)
        await parts.repair.prepare("global")
        await _until(lambda: parts.feed.subscription.proven, SUBSCRIBE_WAIT_S)
        server = await _start_serving(parts, listener)
        parts.stalls.forget()
        on_listening()
        await stop.wait()
        await _drain(parts, server, config.drain_s)


async def open_ledger(database_url: str, digest_key: bytes | None = None) -> Ledger:
    """:raises StartupError: if PostgreSQL can't be reached."""
    try:
        ledger = await Ledger.open(database_url)
    except Unavailable as exc:
        raise StartupError(f"PostgreSQL can't be reached: {reason_of(exc.__cause__ or exc)}") from exc
    if digest_key is not None:
        ledger.digest_key = digest_key
    return ledger


async def _start_serving(parts: Parts, listener: socket.socket) -> Any:
    app = create_app(parts.services)
    server = await app.create_server(
        sock=listener,
        protocol=ScoreboardProtocol,
        backlog=BACKLOG,
        access_log=False,
        asyncio_server_kwargs={"start_serving": False},
    )
    assert server is not None
    await server.startup()
    await server.before_start()
    # What is there now stays. The garbage collector need not look at it each time: that stopped the server for 30 to
    # 60 ms, several times a second under batches.
    gc.freeze()
    try:
        await server.start_serving()
    except OSError as exc:  # two may have bound a port of which neither listened yet
        raise StartupError(f"can't listen: {exc.strerror}") from exc
    return server


async def _drain(parts: Parts, server: Any, drain_s: float) -> None:
    deadline = monotonic() + drain_s
    log.info("draining", seconds=drain_s, readers=parts.pump.readers, queued=parts.writer.queued)
    parts.services.draining = True
    told = [(log, parts.acknowledged.needed(log.board)) for log in parts.pump.logs]
    within_s = min(PUBLISHED_WITHIN_S, drain_s / 4)
    await _until(lambda: all(needed.met_by(log.position) for log, needed in told), within_s)
    await parts.pump.end_all()
    await asyncio.sleep(min(RED_S, drain_s / 4))  # load balancers see readiness red before connections fail
    server.server.close()
    for connection in list(server.connections):
        connection.close_if_idle()
    await _until(lambda: not server.connections and not parts.writer.queued, deadline - monotonic())
    for connection in list(server.connections):
        connection.abort()
    await parts.writer.close()
    log.info("drained")


async def _until(condition: Callable[[], bool], within_s: float) -> bool:
    deadline = monotonic() + within_s
    while not condition():
        if monotonic() > deadline:
            return False
        await asyncio.sleep(POLL_S)
    return True


@asynccontextmanager
async def _background(tasks: dict[str, Callable[[], Coroutine[Any, Any, None]]]) -> AsyncIterator[None]:
    """Run tasks; one that fails is logged and started again."""

    async def keep(name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                await run()
            except Exception:
                log.exception("task_failed", task=name)
            await asyncio.sleep(RESTART_TASK_S)

    running = [asyncio.create_task(keep(name, run), name=name) for name, run in tasks.items()]
    try:
        yield
    finally:
        # Reads and openings that nobody waits for any more end here too: after this the stores close.
        left = await end_tasks([*running, *(asyncio.all_tasks() - {asyncio.current_task()})])
        for task in left:
            log.error("task_did_not_end", task=task.get_name())
