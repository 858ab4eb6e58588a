"""A TCP proxy in front of PostgreSQL or Redis that knows when a submission passes.

At any time it can cut every connection, refuse new ones, hold back what passes (a stalled link) or drop it (a black
hole). It can also act at a moment: :meth:`Proxy.at` arms an action for the next submission (a ``submit_scores``
statement, an ``apply_events`` script) at one of these points:

    request   the whole command has come from the server, nothing was passed on: it will never have happened
    torn      PostgreSQL only: all but the closing Sync was passed on, so the transaction is open
    sent      the command was passed on: it may or may not have happened
    answered  the store's answer has come back, and was not passed on: it has happened
"""

import asyncio
import contextlib
import hashlib
import random
from collections import deque
from collections.abc import Callable
from importlib.resources import files
from typing import Literal
from urllib.parse import parse_qs, urlsplit, urlunsplit

import hiredis

from tests.faults.background import Background

Point = Literal["request", "torn", "sent", "answered"]
Action = Callable[["Link"], None]
SYNC = b"S\x00\x00\x00\x04"
ARMED_WITHIN_S = 20.0


class Proxy:
    """Forwards a local port to a store; ``url`` is the way through it."""

    def __init__(self, background: Background, url: str) -> None:
        self._background = background
        self._loop = background.loop
        self.target = url
        parts = urlsplit(url)
        self._sniffer = PostgresSniffer if parts.scheme.startswith("postgres") else RedisSniffer
        self._links: set[Link] = set()
        self._armed: tuple[Point, Action, asyncio.Future[None]] | None = None
        self._server: asyncio.Server | None = None
        self.delay_s = (0.0, 0.0)
        """How long each submission is held up before it is passed on: evenly spread between the two."""
        self._flows = asyncio.Event()
        self._flows.set()
        self._drops = False
        background.run(self._open(0))
        assert self._server is not None
        self.port = self._server.sockets[0].getsockname()[1]
        if self._sniffer is RedisSniffer:
            self.url = f"redis://127.0.0.1:{self.port}/0"
        else:
            user = parts.netloc.rpartition("@")[0]
            netloc = f"{user}@127.0.0.1:{self.port}"
            self.url = urlunsplit(parts._replace(netloc=netloc, query="sslmode=disable"))

    async def _open(self, port: int) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port)

    # -- at any time, from any thread

    def cut(self) -> None:
        """End every connection and refuse new ones."""

        async def cut() -> None:
            if self._server is not None:
                self._server.close()
                self._server = None
            self._reset()

        self._background.run(cut())

    def reset(self) -> None:
        """End every connection; new ones get through."""

        async def reset() -> None:
            self._reset()

        self._background.run(reset())

    def stall(self) -> None:
        """Hold everything back until :meth:`restore`; new connections are taken and hear nothing."""
        self._loop.call_soon_threadsafe(self._flows.clear)

    def black_hole(self) -> None:
        """Drop everything until :meth:`restore`, which ends the connections that lost something."""
        self._drops = True

    def mute_subscriptions(self) -> int:
        """Let subscriptions live and hear nothing any more; how many there are."""

        async def mute() -> int:
            muted = [link for link in self._links if link.subscribes]
            for link in muted:
                link.freeze()
            return len(muted)

        return int(self._background.run(mute()))

    def restore(self) -> None:
        """Let everything through again."""

        async def restore() -> None:
            if self._drops:
                self._drops = False
                self._reset()
            self._flows.set()
            if self._server is None:
                await self._open(self.port)

        self._background.run(restore())

    def point_to(self, url: str) -> None:
        """Lead new connections to another store; the present ones stay where they are."""
        self.target = url

    def at(self, point: Point, action: Action) -> "Armed":
        """Arm an action, to be run once in the proxy's own thread."""

        async def arm() -> asyncio.Future[None]:
            done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._armed = (point, action, done)
            return done

        return Armed(self._background, self._background.run(arm()))

    def _reset(self) -> None:
        for link in list(self._links):
            link.abort()

    # -- for links

    def fire(self, point: Point, link: "Link") -> None:
        if self._armed is not None and self._armed[0] == point:
            _, action, done = self._armed
            self._armed = None
            action(link)
            done.set_result(None)

    def is_armed(self, point: Point) -> bool:
        return self._armed is not None and self._armed[0] == point

    async def hold(self) -> bool:
        """Wait while the proxy is stalled; False for what is to be dropped."""
        await self._flows.wait()
        return not self._drops

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._flows.wait()
        try:
            store_reader, store_writer = await self._connect()
        except OSError:
            writer.transport.abort()
            return
        link = Link(self, self._sniffer(), (reader, writer), (store_reader, store_writer))
        self._links.add(link)
        try:
            await link.run()
        except asyncio.CancelledError:
            pass  # the loop ends; the stream's own callback would take it for an error
        finally:
            self._links.discard(link)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self.target)
        folder = parse_qs(parts.query).get("host", [""])[0]
        if folder:
            return await asyncio.open_unix_connection(f"{folder}/.s.PGSQL.{parts.port or 5432}")
        if parts.scheme == "unix":
            return await asyncio.open_unix_connection(parts.path)
        default = 6379 if parts.scheme == "redis" else 5432
        return await asyncio.open_connection(parts.hostname or "127.0.0.1", parts.port or default)


class Armed:
    """An action that waits for its moment."""

    def __init__(self, background: Background, done: "asyncio.Future[None]") -> None:
        self._background = background
        self._done = done

    def wait(self, within_s: float = ARMED_WITHIN_S) -> None:
        """Return when it was run."""

        async def wait() -> None:
            await asyncio.wait_for(asyncio.shield(self._done), within_s)

        self._background.run(wait(), within_s + 5)


class Link:
    """One connection through the proxy."""

    def __init__(
        self,
        proxy: Proxy,
        sniffer: "PostgresSniffer | RedisSniffer",
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        store: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._sniffer = sniffer
        self._server, self._store = server, store
        self._open = asyncio.Event()
        self._open.set()

    @property
    def subscribes(self) -> bool:
        return isinstance(self._sniffer, RedisSniffer) and self._sniffer.subscribes

    def abort(self) -> None:
        """End it at both sides, at once."""
        self._server[1].transport.abort()
        self._store[1].transport.abort()

    def freeze(self) -> None:
        """Pass nothing on any more; :meth:`thaw` goes on."""
        self._open.clear()

    def thaw(self) -> None:
        self._open.set()

    async def run(self) -> None:
        ways = [asyncio.ensure_future(self._pass_requests()), asyncio.ensure_future(self._pass_answers())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            self.abort()

    async def _pass_requests(self) -> None:
        reader, writer = self._server[0], self._store[1]
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                is_submission = self._sniffer.sees_request(data)
                if is_submission:
                    await asyncio.sleep(random.uniform(*self._proxy.delay_s))
                    self._proxy.fire("request", self)
                if is_submission and self._proxy.is_armed("torn") and data.endswith(SYNC):
                    await self._forward(writer, data.removesuffix(SYNC))
                    self._proxy.fire("torn", self)
                    data = SYNC
                await self._forward(writer, data)
                if is_submission:
                    self._proxy.fire("sent", self)

    async def _pass_answers(self) -> None:
        reader, writer = self._store[0], self._server[1]
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if self._sniffer.sees_answer(data):
                    self._proxy.fire("answered", self)
                await self._forward(writer, data)

    async def _forward(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        await self._open.wait()
        if await self._proxy.hold():
            writer.write(data)
            await writer.drain()


class PostgresSniffer:
    """Follows the frontend messages far enough to tell when submit_scores is executed, and answered."""

    def __init__(self) -> None:
        self._buffer = b""
        self._started = False
        self._statements: set[bytes] = set()
        self._executing = False
        self._tail = b""

    def sees_request(self, data: bytes) -> bool:
        """Whether these bytes complete the execution of a submission."""
        self._buffer += data
        found = False
        while (message := self._take()) is not None:
            kind, body = message
            if kind == b"P":
                name, _, rest = body.partition(b"\0")
                if b"submit_scores(" in rest:
                    self._statements.add(name)
            elif kind == b"B":
                name = body.split(b"\0", 2)[1]
                self._executing = self._executing or name in self._statements
            elif kind == b"S" and self._executing:
                found = True
        return found

    def _take(self) -> tuple[bytes, bytes] | None:
        head = 5 if self._started else 4
        if len(self._buffer) < head:
            return None
        length = int.from_bytes(self._buffer[head - 4 : head], "big") + head - 4
        if len(self._buffer) < length:
            return None
        message, self._buffer = self._buffer[:length], self._buffer[length:]
        self._started = True
        return message[: head - 4], message[head:]

    def sees_answer(self, data: bytes) -> bool:
        """Whether these bytes complete a submission's answer: ReadyForQuery is the last of it."""
        self._tail = (self._tail + data)[-6:]
        if self._executing and self._tail[:5] == b"Z\0\0\0\5":
            self._executing = False
            return True
        return False


class RedisSniffer:
    """Follows commands and answers far enough to tell when the script that applies events is sent, and answered."""

    TEXT = b"".join((files("scoreboard") / f"lua/{name}.lua").read_bytes() for name in ("shared", "apply_events"))
    DIGEST = hashlib.sha1(TEXT).hexdigest().encode()

    def __init__(self) -> None:
        self._requests = hiredis.Reader()
        self._answers = hiredis.Reader()
        self._under_way: deque[bool] = deque()  # of each command whether it applies events
        self.subscribes = False

    def sees_request(self, data: bytes) -> bool:
        """Whether these bytes complete a command that applies events."""
        self._requests.feed(data)
        found = False
        while (command := self._requests.gets()) is not False:
            self.subscribes = self.subscribes or command[0].upper() == b"SUBSCRIBE"
            applies = len(command) > 1 and command[1] == self.DIGEST
            self._under_way.append(applies)
            found = found or applies
        return found

    def sees_answer(self, data: bytes) -> bool:
        """Whether these bytes complete the answer to such a command."""
        if self.subscribes:  # what comes there is asked by nobody
            return False
        self._answers.feed(data)
        found = False
        while self._under_way and self._answers.gets() is not False:
            found = self._under_way.popleft() or found
        return found
