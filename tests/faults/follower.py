"""A reader of a board's stream that comes back as a browser does, and checks P5 on the way."""

import asyncio
import random
from collections.abc import Callable
from urllib.parse import urlsplit

from tests.faults.background import Background
from tests.harness import Frame, Parser, Server, wait_until

RETRY_S = (0.02, 0.2)
"""Browsers wait for seconds; here what matters is that they come back."""


class Follower:
    """Keeps what it knows: every user's last score, and the sum of the points it was told of since it began."""

    def __init__(self, background: Background, servers: list[Server], *, board: str = "global") -> None:
        self._background = background
        self._servers = servers
        self._board = board
        self.scores: dict[str, int] = {}
        self.summed: dict[str, int] = {}
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
        self._closing = True

        async def end() -> None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

        self._background.run(end())

    def wait_for(self, condition: Callable[["Follower"], object], within_s: float = 20.0) -> None:
        wait_until(lambda: condition(self), within_s, "what the reader knows")

    async def _follow(self) -> None:
        while not self._closing:
            try:
                await self._read(random.choice(self._servers))
            except (OSError, EOFError, TimeoutError, ValueError):
                pass
            await asyncio.sleep(random.uniform(*RETRY_S))

    async def _read(self, server: Server) -> None:
        parts = urlsplit(server.url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
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
            while data := await reader.read(65_536):
                parser.feed(data)
                for frame in parser.take():
                    self._take(frame)
        finally:
            writer.transport.abort()

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
        self.epoch, self.seq = epoch, seq
