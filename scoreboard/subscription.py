"""The subscription to what the ranking's scripts publish."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from scoreboard.errors import RanksUnavailable, reason_of
from scoreboard.keys import board_of, channel
from scoreboard.tasks import end_tasks

PROBE_INTERVAL_S = 0.25
PROVEN_S = 1.0
"""A subscription is trusted for this long after it delivered a probe."""
MUTE_S = 3.0
"""A subscription that delivered no probe for this long is replaced."""
RECONNECT_S = 0.2
SUBSCRIBE_TIMEOUT_S = 2.0


class Subscription:
    """One connection that listens to the boards in use, and knows whether it really delivers.

    A subscription can be alive and mute (after a failover, behind a stalled link), so a probe is published every
    PROBE_INTERVAL_S and must come back. After every (re)connect ``on_connect`` is called: messages may have been
    missed, so whoever follows a board reads its head again.

    :param publish: publishes a message on a channel.
    :param on_message: called with board and message, in order.
    """

    def __init__(
        self,
        client: Redis,
        publish: Callable[[str, str], Awaitable[None]],
        on_message: Callable[[str, bytes], None],
        on_connect: Callable[[], None],
    ) -> None:
        self._client = client
        self._publish = publish
        self._on_message = on_message
        self._on_connect = on_connect
        self._probe_channel = f"sb:probe:{secrets.token_hex(8)}"
        self._boards: set[str] = set()
        self._acknowledged: dict[str, asyncio.Event] = {}
        self._pubsub: Any = None
        self._proven_at = float("-inf")

    @property
    def proven(self) -> bool:
        """Whether a probe came back lately."""
        return monotonic() - self._proven_at < PROVEN_S

    async def subscribe(self, board: str) -> None:
        """Listen to a board; returns when the server has confirmed it.

        :raises RanksUnavailable: if there is no connection or no confirmation within SUBSCRIBE_TIMEOUT_S; the next
            connection subscribes the board all the same.
        """
        self._boards.add(board)
        acknowledged = self._acknowledged.setdefault(channel(board), asyncio.Event())
        if self._pubsub is None:
            raise RanksUnavailable("there is no subscription at the moment")
        try:
            async with asyncio.timeout(SUBSCRIBE_TIMEOUT_S):
                await self._pubsub.subscribe(channel(board))
                await acknowledged.wait()
        except (RedisError, OSError, TimeoutError) as exc:
            raise RanksUnavailable(f"SUBSCRIBE {channel(board)}: {reason_of(exc)}") from exc

    async def unsubscribe(self, board: str) -> None:
        """Stop listening to a board."""
        self._boards.discard(board)
        self._acknowledged.pop(channel(board), None)
        if self._pubsub is not None:
            try:
                await self._pubsub.unsubscribe(channel(board))
            except (RedisError, OSError, TimeoutError) as exc:
                raise RanksUnavailable(f"UNSUBSCRIBE {channel(board)}: {reason_of(exc)}") from exc

    async def run(self) -> None:
        """Listen until cancelled, reconnecting after every failure."""
        while True:
            try:
                await self._listen()
            except (RedisError, OSError, TimeoutError, RanksUnavailable):
                self._proven_at = float("-inf")
            await asyncio.sleep(RECONNECT_S)

    async def _listen(self) -> None:
        channels = [self._probe_channel, *(channel(board) for board in self._boards)]
        for acknowledged in self._acknowledged.values():
            acknowledged.clear()
        self._pubsub = self._client.pubsub()
        prober: asyncio.Task[None] | None = None
        try:
            await self._pubsub.subscribe(*channels)
            prober = asyncio.create_task(self._probe(), name="subscription-probe")
            pending = set(channels)
            silent_since = monotonic()
            while True:
                message = await self._pubsub.get_message(timeout=PROBE_INTERVAL_S)
                if message is None or message["type"] not in ("subscribe", "message"):
                    pass
                elif message["type"] == "subscribe":
                    name = message["channel"].decode()
                    if name in self._acknowledged:
                        self._acknowledged[name].set()
                    if pending and not (pending := pending - {name}):
                        self._on_connect()
                elif (name := message["channel"].decode()) == self._probe_channel:
                    self._proven_at = silent_since = monotonic()
                else:
                    self._on_message(board_of(name), message["data"])
                if monotonic() - silent_since > MUTE_S:
                    raise TimeoutError("the subscription is mute")
        finally:
            pubsub, self._pubsub = self._pubsub, None
            if prober is not None:
                await end_tasks([prober])
            await close_quietly(pubsub.aclose)

    async def _probe(self) -> None:
        while True:
            try:
                await self._publish(self._probe_channel, "")
            except RanksUnavailable:
                pass  # the probe that does not come back is what counts
            await asyncio.sleep(PROBE_INTERVAL_S)


async def close_quietly(close: Callable[[], Awaitable[None]]) -> None:
    """Close a connection that may already be broken."""
    try:
        await close()
    except (RedisError, OSError):
        pass  # it is closed either way
