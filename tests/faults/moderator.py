"""Somebody who renames, hides and shows a user while faults happen, repeating what got no answer."""

import asyncio
import random
from time import monotonic
from urllib.parse import quote

from tests.faults.background import Background
from tests.faults.http import Connection
from tests.harness import Server, make_token

PAUSE_S = (0.02, 0.15)
"""Between two deeds; each is an event of every board that the user has a score on."""
FINISH_WITHIN_S = 60.0


class Moderator:
    """Moderates one user; in the end that user is shown. Use as a context manager."""

    def __init__(self, background: Background, servers: list[Server], user: str, seed: int = 0) -> None:
        self._background = background
        self._servers = servers
        self.user = user
        self._chance = random.Random(seed)
        self._stopping = False
        self.deeds = 0

    def __enter__(self) -> "Moderator":
        self._task = self._background.start(self._moderate())
        return self

    def __exit__(self, *exc: object) -> None:
        self.finish()

    def finish(self) -> None:
        """Show the user again, and wait until that was acknowledged."""
        if self._stopping:
            return
        self._stopping = True

        async def wait() -> None:
            async with asyncio.timeout(FINISH_WITHIN_S):
                await self._task

        self._background.run(wait(), FINISH_WITHIN_S + 5)

    async def _moderate(self) -> None:
        connections = [Connection(server.url) for server in self._servers]
        path = f"/api/users/{quote(self.user)}"
        try:
            while not self._stopping:
                name = f"Name {self._chance.randrange(3)}"
                await self._insist(connections, "PUT", path, {"displayName": name})
                await self._insist(connections, "POST", f"{path}/hide", None)
                await self._insist(connections, "POST", f"{path}/unhide", None)
            await self._insist(connections, "POST", f"{path}/unhide", None)
        finally:
            for connection in connections:
                connection.close()

    async def _insist(self, connections: list[Connection], method: str, path: str, body: object) -> None:
        """Ask until it is acknowledged; who has no score yet is not known and needs no hiding."""
        headers = {"Authorization": f"Bearer {make_token('moderator', 'admin')}"}
        deadline = monotonic() + FINISH_WITHIN_S
        while monotonic() < deadline:
            try:
                connection = self._chance.choice(connections)
                answer = await connection.request(method, path, headers=headers, body=body)
                assert answer.status in (200, 404, 429, 503), answer.body
                if answer.status in (200, 404):
                    self.deeds += answer.status == 200
                    break
            except (OSError, EOFError, TimeoutError):
                pass
            await asyncio.sleep(self._chance.uniform(*PAUSE_S))
        else:
            raise AssertionError(f"{method} {path} was not acknowledged within {FINISH_WITHIN_S} s")
        await asyncio.sleep(self._chance.uniform(*PAUSE_S))
