"""A reader of a board's stream that comes back as a browser does, and checks P5 on the way."""

import asyncio
import random
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.faults.background import Background
from tests.harness import Frame, Parser, Server, wait_until

RETRY_S = (0.02, 0.2)
"""Browsers wait for seconds; here what matters is that they come back."""


class Follower:
    """Keeps what it knows: every user's last score, and the sum of the points it was told of since it began."""

    def __init__(
        self, background: Background, servers: list[Server], *, board: str = "global", receive_bytes: int | None = None
    ) -> None:
        """:param receive_bytes: size of the kernel's buffer for what was not read; None leaves it to the kernel."""
        self._background = background
        self._servers = servers
        self._board = board
        self._receive_bytes = receive_bytes
        self._reading = asyncio.Event()
        self._reading.set()
        self.received_bytes = 0
        self.scores: dict[str, int] = {}
        self.summed: dict[str, int] = {}
        self.moderated: set[str] = set()
        """Users who were hidden or renamed meanwhile."""
        self.epoch = ""
        self.seq = -1
        self.resets: list[str] = []
        self.connections = 0
        self.violations: list[str] = []
        self._awaits_snapshot = True
        self._closing = False

    def __enter__(self) -> "Follower":
        self._task = self._background.start(self._follow())
        wait_until(lambda: not self._awaits_snapshot, what="the first snapshot")
        return self

    def __exit__(self, *_: object) -> None:
        self._background.run(self._end())

    async def _end(self) -> None:
        self._closing = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    @staticmethod
    @contextmanager
    def all_at_once(followers: "Sequence[Follower]") -> "Iterator[Sequence[Follower]]":
        """Begin with all of them in one turn of the event loop."""
        background = followers[0]._background

        async def begin() -> None:
            for follower in followers:
                follower._task = asyncio.ensure_future(follower._follow())

        async def end() -> None:
            await asyncio.gather(*(follower._end() for follower in followers))

        background.run(begin())
        try:
            yield followers
        finally:
            background.run(end())

    def wait_for(self, condition: Callable[["Follower"], object], within_s: float = 20.0) -> None:
        wait_until(lambda: condition(self), within_s, "what the reader knows")

    def know(self, epoch: str, seq: int, scores: Mapping[str, int]) -> None:
        """Begin as one who was there before: with everybody's score at a seq."""
        self.epoch, self.seq = epoch, seq
        self.scores, self.summed = dict(scores), dict(scores)
        self._awaits_snapshot = False

    def pause(self) -> None:
        """Stop reading; the connection stays open."""
        self._background.loop.call_soon_threadsafe(self._reading.clear)

    def resume(self) -> None:
        self._background.loop.call_soon_threadsafe(self._reading.set)

    async def _follow(self) -> None:
        while not self._closing:
            try:
                await self._read(random.choice(self._servers))
            except (OSError, EOFError, TimeoutError, ValueError):
                pass
            await asyncio.sleep(random.uniform(*RETRY_S))

    async def _read(self, server: Server) -> None:
        reader, writer = await self._connect(server)
        try:
            position = f"Last-Event-ID: {self.epoch}-{self.seq}\r\n" if self.seq >= 0 else ""
            # HTTP/1.0: the stream comes without chunks.
            writer.write(
                f"GET /api/leaderboard/stream?board={self._board} HTTP/1.0\r\nHost: t\r\n{position}\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n")[0]:
                return
            self.connections += 1
            parser = Parser()
            while await self._reading.wait() and (data := await reader.read(65_536)):
                self.received_bytes += len(data)
                parser.feed(data)
                for frame in parser.take():
                    self._take(frame)
        finally:
            writer.transport.abort()

    async def _connect(self, server: Server) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(server.url)
        if self._receive_bytes is None:
            return await asyncio.open_connection(parts.hostname, parts.port)
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_bytes)
        raw.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(raw, (parts.hostname, parts.port))
        except BaseException:
            raw.close()
            raise
        return await asyncio.open_connection(sock=raw, limit=self._receive_bytes)

    def _take(self, frame: Frame) -> None:
        if frame.event == "reset":
            self.resets.append(str(frame.data["reason"]))
            self._awaits_snapshot = True
            return
        assert frame.id is not None
        epoch, _, text = frame.id.rpartition("-")
        seq = int(text)
        if frame.event == "leaderboard" and self._awaits_snapshot:
            # There are at most ten users, so the snapshot has them all.
            self.scores = {entry["userId"]: entry["score"] for entry in frame.data["top10"]}  # type: ignore[attr-defined]
            self.summed = dict(self.scores)
            self._awaits_snapshot = False
        elif self._awaits_snapshot:
            self.violations.append(f"{frame} came before a snapshot")
        elif epoch != self.epoch:
            self.violations.append(f"the epoch went from {self.epoch} to {epoch} without a reset")
        elif seq < self.seq:
            self.violations.append(f"the id went back from {self.seq} to {seq}")
        elif frame.event == "score-updated":
            user, points = str(frame.data["userId"]), int(str(frame.data["points"]))
            self.scores[user] = int(str(frame.data["score"]))
            self.summed[user] = self.summed.get(user, 0) + points
        elif frame.event == "user-updated":
            self._take_user(frame)
        self.epoch, self.seq = epoch, seq

    def _take_user(self, frame: Frame) -> None:
        user, score = str(frame.data["userId"]), frame.data["score"]
        self.moderated.add(user)  # of whose points not all are told
        if score is None:
            self.scores.pop(user, None)
        else:
            self.scores[user] = int(str(score))
