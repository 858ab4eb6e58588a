"""Clients that submit until told to stop, and keep a journal of every request and answer.

Each submission has a key and is repeated with it, on any server, until somebody acknowledges it: so a submission
ends with exactly one event, or the run fails. Some acknowledged ones are repeated once more, some keys are tried
with another action.
"""

import asyncio
import json
import random
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic

from tests.faults.background import Background
from tests.faults.http import Connection
from tests.harness import Server, make_token, wait_until

ACTIONS = {"win": 10, "lose": -3, "draw": 0}
TRY_AGAIN = (429, 503)
PAUSE_S = (0.01, 0.1)
"""Between two attempts of one submission."""
REPEATED_SHARE = 0.05
MISUSED_SHARE = 0.02
FINISH_WITHIN_S = 30.0


@dataclass
class Attempt:
    """One request: when it was sent and answered (seconds of this process), and what the answer said."""

    key: str
    user: str
    action: str
    sent_at: float
    answered_at: float = 0.0
    status: int = 0
    """0: no answer."""
    headers: dict[str, str] = field(default_factory=dict)
    body: dict[str, object] = field(default_factory=dict)
    error: str = ""
    is_misuse: bool = False


class Load:
    """64 clients by default. :param users: few, so that clients meet on the same totals and the top ten shows all."""

    def __init__(
        self,
        background: Background,
        servers: list[Server],
        *,
        clients: int = 64,
        users: int = 8,
        board: str = "global",
        seed: int = 0,
        pause_s: float = 0.0,
    ) -> None:
        self._background = background
        self._servers = servers
        self._clients = clients
        self.pause_s = pause_s
        self.users = [f"user-{number}" for number in range(users)]
        self.board = board
        self._seed = seed
        self.attempts: list[Attempt] = []
        self.acknowledged = 0
        """Attempts that were answered 200."""
        self._stopping = False
        self._token = make_token("game", "scores:any")
        self._tasks: list[asyncio.Task[None]] = []

    def __enter__(self) -> "Load":
        self._tasks = [self._background.start(self._submit(client)) for client in range(self._clients)]
        wait_until(lambda: self.acknowledged >= min(20, self._clients), what="the first acknowledgements")
        return self

    def __exit__(self, *exc: object) -> None:
        self.finish()

    def wait_for_more(self, count: int, within_s: float = 20.0) -> None:
        """Wait for so many acknowledgements from now."""
        before = self.acknowledged
        wait_until(lambda: self.acknowledged >= before + count, within_s, f"{count} more acknowledgements")

    def finish(self, within_s: float = FINISH_WITHIN_S) -> None:
        """Begin nothing new, and wait until everything begun is acknowledged."""
        if self._stopping:
            return
        self._stopping = True

        async def finish() -> None:
            async with asyncio.timeout(within_s):
                await asyncio.gather(*self._tasks)

        self._background.run(finish(), within_s + 5)

    def write_journal(self, path: Path) -> None:
        path.write_text("".join(json.dumps(asdict(attempt)) + "\n" for attempt in self.attempts))

    async def _submit(self, client: int) -> None:
        chance = random.Random(f"{self._seed}/{client}")
        connections = [Connection(server.url) for server in self._servers]
        try:
            number = 0
            while not self._stopping:
                number += 1
                user, action = chance.choice(self.users), chance.choice(list(ACTIONS))
                key = f"{self._seed}/{client}/{number}"
                await self.until_acknowledged(chance, connections, key, user, action)
                if chance.random() < REPEATED_SHARE:
                    await self.until_acknowledged(chance, connections, key, user, action)
                if chance.random() < MISUSED_SHARE:
                    other = chance.choice([name for name in ACTIONS if name != action])
                    await self.attempt(chance.choice(connections), key, user, other, is_misuse=True)
                if self.pause_s:
                    await asyncio.sleep(self.pause_s)
        finally:
            for connection in connections:
                connection.close()

    async def until_acknowledged(
        self, chance: random.Random, connections: list[Connection], key: str, user: str, action: str
    ) -> None:
        while True:
            attempt = await self.attempt(chance.choice(connections), key, user, action)
            if attempt.status not in (0, *TRY_AGAIN):
                return
            await asyncio.sleep(chance.uniform(*PAUSE_S))

    async def attempt(
        self, connection: Connection, key: str, user: str, action: str, *, is_misuse: bool = False
    ) -> Attempt:
        attempt = Attempt(key, user, action, monotonic(), is_misuse=is_misuse)
        headers = {"Authorization": f"Bearer {self._token}", "Idempotency-Key": key}
        body = {"actionId": action, "userId": user, "board": self.board}
        try:
            answer = await connection.request("POST", "/api/scores", headers=headers, body=body)
            attempt.status, attempt.headers, attempt.body = answer.status, answer.headers, answer.json()
        except (OSError, EOFError, TimeoutError) as exc:
            attempt.error = repr(exc)
        attempt.answered_at = monotonic()
        self.attempts.append(attempt)
        self.acknowledged += attempt.status == 200
        return attempt
