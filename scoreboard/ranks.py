"""Redis (or Valkey): key names, one method per script, and the subscription to what the scripts publish.

Every key of a board and its channel share the hash tag ``{board}``, so a script touches one slot. Scores are stored
negated: one ascending order, score high to low and then user id by bytes, is the same here and in PostgreSQL.

The client's own retries are off. An error means "outcome unknown", and seq makes trying again safe: applying is
idempotent, in order and exactly once, whoever does it and however often.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from time import monotonic
from typing import Any, Literal, cast

import msgspec
import orjson
from hiredis import ReplyError
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from scoreboard.contracts import load_scripts
from scoreboard.errors import RanksUnavailable
from scoreboard.model import Event, Head, Page, Position, RankChange, Standing, format_time, rank_shared
from scoreboard.pipeline import Pipeline
from scoreboard.tasks import end_tasks

COMMAND_TIMEOUT_S = 1.0
CONNECT_TIMEOUT_S = 1.0
CONNECTIONS_MAX = 64
REBUILD_CLAIM_S = 3.0
"""A server that died during a rebuild keeps the others from it for at most this long."""
REBUILD_KEY_TTL_S = 600
"""A rebuild that died leaves its temporary key for at most this long."""
SLICE_ENTRIES = 2_000
PROBE_INTERVAL_S = 0.25
PROVEN_S = 1.0
"""A subscription is trusted for this long after it delivered a probe."""
MUTE_S = 3.0
"""A subscription that delivered no probe for this long is replaced."""
RECONNECT_S = 0.2
SUBSCRIBE_TIMEOUT_S = 2.0

Status = Literal["applied", "gap", "cold", "diverged", "confirmed", "behind", "swapped", "kept", "partial"]


class Applied(msgspec.Struct, frozen=True):
    """What apply_events.lua did; ``changes`` has None for events that had been applied before."""

    status: Status
    head_seq: int
    changes: list[RankChange | None]


class Aged(msgspec.Struct, frozen=True):
    """A page or standings at a position, and the seconds since that was known to equal the ledger's."""

    age_s: int
    position: Position
    total: int
    page: Page | None = None
    standings: tuple[Standing | None, ...] = ()


class _NoScript(Exception):
    """The script is not known to the server: it was restarted or flushed."""


class Ranks:
    """The ranking. Every method raises RanksUnavailable when Redis does not answer."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._pipeline = Pipeline(self._connect, timeout_s=COMMAND_TIMEOUT_S)
        self._scripts = load_scripts()
        self._away = False

    @classmethod
    def open(cls, redis_url: str) -> "Ranks":
        """A client that connects when first used.

        :param redis_url: ``redis://``, ``rediss://`` or ``unix://``.
        """
        client = Redis.from_url(
            redis_url,
            max_connections=CONNECTIONS_MAX,
            socket_timeout=COMMAND_TIMEOUT_S,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,  # in 3 a server may say what nobody asked, between the answers
            driver_info=None,
        )
        pool = client.connection_pool
        pool.connection_class = _pack_natively(pool.connection_class)
        return cls(client)

    async def close(self) -> None:
        """Close every connection."""
        self._pipeline.drop()
        await self._client.aclose()

    async def _connect(self) -> asyncio.StreamWriter:
        """A connection of the pool's making, with all that the URL asks for, that the pool does not have."""
        connection = self._client.connection_pool.make_connection()
        await connection.connect()
        writer, connection._reader, connection._writer = connection._writer, None, None
        return cast(asyncio.StreamWriter, writer)

    @property
    def available(self) -> bool:
        """Whether Redis answered the last command. Who has another way need not wait to find out."""
        return not self._away

    async def ping(self) -> None:
        """Return when Redis answers."""
        await self._call("PING")

    # -- one method per script

    async def read_head(self, board: str) -> Head | None:
        """Where the ranking stands, or None when there is none."""
        status, epoch, seq, at = await self._run("read_head", board_keys(board), [])
        return Head(epoch.decode(), int(seq), at.decode()) if status == b"ok" else None

    async def apply_events(self, board: str, epoch: str, events: Sequence[Event], *, previous_at: str) -> Applied:
        """Apply ledger events that follow each other, and publish them.

        :param events: at least one; seqs without a gap.
        :param previous_at: time of the ledger's event before the first, '' for none.
        """
        arguments: list[str | bytes] = [channel(board), epoch, str(events[0].seq), previous_at]
        for event in events:
            arguments += (event.user_id, str(-event.score), encode_event(event)[:-1])
        status, head_seq, ranks = await self._run("apply_events", board_keys(board), arguments)
        changes = [RankChange(ranks[i], ranks[i + 1] or None) if ranks[i] else None for i in range(0, len(ranks), 2)]
        return Applied(status.decode(), int(head_seq), changes)

    async def read_page(
        self, board: str, *, offset: int, limit: int, after: tuple[int, str] | None = None
    ) -> Aged | None:
        """A page at one moment, or None when there is no ranking; ``after`` (score, user id) wins over ``offset``."""
        after_score, after_user = (str(-after[0]), after[1]) if after else ("", "")
        page = await self._run("read_page", board_keys(board), [str(limit + 1), str(offset), after_score, after_user])
        return _parse_page(page, limit)

    async def read_around(self, board: str, user_id: str, radius: int) -> Aged | None:
        """A user with ``radius`` neighbours on each side, or None when there is no ranking.

        The page of a user without a score has no entries.
        """
        page = await self._run("read_around", board_keys(board), [user_id, str(radius)])
        return _parse_page(page, 2 * radius + 1)

    async def read_users(self, board: str, users: Sequence[str]) -> Aged | None:
        """The standings of some users at one moment (None for an unscored one), or None when there is no ranking."""
        status, epoch, seq, total, age_s, flat = await self._run("read_users", board_keys(board), list(users))
        if status == b"cold":
            return None
        position = Position(epoch.decode(), int(seq))
        standings = tuple(
            Standing(position, total, -int(float(flat[i])), flat[i + 1], flat[i + 2]) if flat[i] else None
            for i in range(0, len(flat), 3)
        )
        return Aged(age_s, position, total, standings=standings)

    async def confirm_head(self, board: str, ledger: Head) -> tuple[Status, int]:
        """Mark the head as equal to the ledger's, if it is; the status and the head's seq."""
        arguments = [ledger.epoch, str(ledger.seq), ledger.at]
        status, head_seq = await self._run("confirm_head", board_keys(board), arguments)
        return status.decode(), int(head_seq)

    async def swap_board(self, board: str, rebuilt_key: str, head: Head, *, size: int) -> tuple[Status, int]:
        """Put a rebuilt ranking of ``size`` entries in place; the status and the head's seq."""
        keys = [*board_keys(board), rebuilt_key, f"{rebuilt_key}:retired"]
        arguments = [channel(board), head.epoch, str(head.seq), head.at, str(size)]
        status, head_seq = await self._run("swap_board", keys, arguments)
        return status.decode(), int(head_seq)

    async def check_rates(self, users: Sequence[str], *, interval_us: int, burst: int) -> list[tuple[bool, int, int]]:
        """Admit or refuse one request of each user: admitted, requests left, microseconds to wait."""
        keys = [f"sb:{{limits}}:{user}" for user in users]
        flat = await self._run("check_rates", keys, [str(interval_us), str(burst)])
        return [(bool(flat[i]), flat[i + 1], flat[i + 2]) for i in range(0, len(flat), 3)]

    # -- what a rebuild needs besides its script

    async def load_entries(self, rebuilt_key: str, scores: Iterable[tuple[str, int]]) -> int:
        """Add or overwrite entries of a ranking that is being rebuilt; how many were added."""
        arguments: list[str | int] = []
        for user_id, score in scores:
            arguments += (-score, user_id)
        added = await self._call("ZADD", rebuilt_key, *arguments)
        await self._call("EXPIRE", rebuilt_key, REBUILD_KEY_TTL_S)
        return int(added)

    async def drop(self, rebuilt_key: str) -> None:
        """Drop a ranking that was being rebuilt."""
        await self._call("UNLINK", rebuilt_key)

    async def claim_rebuild(self, board: str, holder: str) -> bool:
        """Keep other servers from rebuilding the board for REBUILD_CLAIM_S; False if another one keeps us from it.

        It saves work and is no lock: whoever swaps late or twice does no harm. One that would hold for longer was made
        before Redis' clock was set back, perhaps by a server that is dead, and keeps nobody.
        """
        key, claim_ms = f"sb:{{{board}}}:rebuilding", int(REBUILD_CLAIM_S * 1_000)
        if await self._call("SET", key, holder, "NX", "PX", claim_ms):
            return True
        if await self._call("GET", key) != holder.encode() and await self._call("PTTL", key) <= claim_ms:
            return False
        await self._call("SET", key, holder, "PX", claim_ms)
        return True

    async def release_rebuild(self, board: str) -> None:
        """Let others rebuild the board."""
        await self._call("UNLINK", f"sb:{{{board}}}:rebuilding")

    async def read_slices(self, board: str) -> AsyncIterator[list[tuple[str, int]]]:
        """Every user's score in the board's order, in slices: who moves meanwhile may be missed or come twice."""
        start = 0
        while True:
            flat = await self._call("ZRANGE", board_keys(board)[1], start, start + SLICE_ENTRIES - 1, "WITHSCORES")
            if not flat:
                return
            entries = parse_scores(flat)
            yield entries
            start += len(entries)

    async def read_scores(self, board: str, users: Sequence[str]) -> dict[str, int]:
        """The scores of those users who have one, also where the ranking lost entries and nobody else reads it."""
        found = await self._call("ZMSCORE", board_keys(board)[1], *users)
        return {user: -int(float(score)) for user, score in zip(users, found, strict=True) if score is not None}

    # -- the only ways to the server

    async def publish(self, name: str, message: str) -> None:
        """Publish a message on a channel."""
        await self._call("PUBLISH", name, message)

    async def _run(self, name: str, keys: Sequence[str], arguments: Sequence[str | bytes]) -> Any:
        script = self._scripts[name]
        assert script.keys is None or script.keys == len(keys), f"{name}.lua takes {script.keys} keys"
        what = f"{name}.lua"
        try:
            return await self._send(what, self._pipeline.ask("EVALSHA", script.sha, len(keys), *keys, *arguments))
        except _NoScript:
            return await self._send(what, self._pipeline.ask("EVAL", script.text, len(keys), *keys, *arguments))

    async def _call(self, *command: Any) -> Any:
        return await self._send(command[0], self._client.execute_command(*command))

    async def _send(self, what: str, answered: Awaitable[Any]) -> Any:
        """The answer. :raises RanksUnavailable: if there is none, or it is an error, by its code."""
        try:
            answer = await answered
        except (ResponseError, ReplyError) as exc:  # it answers, but can't: out of memory, still loading
            code = str(exc).partition(" ")[0]
            if code == "NOSCRIPT":
                raise _NoScript from exc
            if code == "READONLY" or isinstance(exc, ReadOnlyError):
                # A failover: this is the old primary, and so is every open connection. New ones find the new one.
                self._pipeline.drop()
                await self._client.connection_pool.disconnect(inuse_connections=True)
            raise RanksUnavailable(f"{what}: {exc}") from exc
        except (RedisError, OSError, TimeoutError) as exc:
            self._away = True
            raise RanksUnavailable(f"{what}: {exc}") from exc
        self._away = False
        return answer

    def subscription(self, on_message: Callable[[str, bytes], None], on_connect: Callable[[], None]) -> "Subscription":
        """A subscription of this client's, not yet running."""
        return Subscription(self, self._client, on_message, on_connect)


def _parse_page(answer: Sequence[Any], limit: int) -> Aged | None:
    status, epoch, seq, total, age_s, start, first_rank, flat = answer
    if status == b"cold":
        return None
    scores = parse_scores(flat)
    position = Position(epoch.decode(), int(seq))
    entries = rank_shared(scores[:limit], offset=start, first_rank=first_rank)
    return Aged(age_s, position, total, page=Page(position, total, entries, len(scores) > limit))


class Subscription:
    """One connection that listens to the boards in use, and knows whether it really delivers.

    A subscription can be alive and mute (after a failover, behind a stalled link), so a probe is published every
    PROBE_INTERVAL_S and must come back. After every (re)connect ``on_connect`` is called: messages may have been
    missed, so whoever follows a board reads its head again.

    :param on_message: called with board and message, in order.
    """

    def __init__(
        self,
        ranks: Ranks,
        client: Redis,
        on_message: Callable[[str, bytes], None],
        on_connect: Callable[[], None],
    ) -> None:
        self._ranks = ranks
        self._client = client
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
            raise RanksUnavailable(f"SUBSCRIBE {channel(board)}: {exc}") from exc

    async def unsubscribe(self, board: str) -> None:
        """Stop listening to a board."""
        self._boards.discard(board)
        self._acknowledged.pop(channel(board), None)
        if self._pubsub is not None:
            try:
                await self._pubsub.unsubscribe(channel(board))
            except (RedisError, OSError, TimeoutError) as exc:
                raise RanksUnavailable(f"UNSUBSCRIBE {channel(board)}: {exc}") from exc

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
                await self._ranks.publish(self._probe_channel, "")
            except RanksUnavailable:
                pass  # the probe that does not come back is what counts
            await asyncio.sleep(PROBE_INTERVAL_S)


def _pack_natively(connection: type) -> type:
    """The connection class with hiredis' encoder, as redis-py's blocking connections have it.

    Its own asynchronous ones encode in Python: 3 ms for 2,000 entries of a rebuild, eight times as long.
    """

    def pack_command(_: object, *arguments: Any) -> list[bytes]:
        packed: list[bytes] = HiredisRespSerializer().pack(*arguments)
        return packed

    return type(f"Packing{connection.__name__}", (connection,), {"pack_command": pack_command})


async def close_quietly(close: Callable[[], Awaitable[None]]) -> None:
    """Close a connection that may already be broken."""
    try:
        await close()
    except (RedisError, OSError):
        pass  # it is closed either way


def board_keys(board: str) -> list[str]:
    """The keys of a board in the order in which every script takes them: head, all."""
    return [f"sb:{{{board}}}:head", f"sb:{{{board}}}:all"]


def rebuilt_key(board: str) -> str:
    """A new temporary key for a rebuild, in the board's hash tag."""
    return f"sb:{{{board}}}:rebuilt:{secrets.token_hex(8)}"


def channel(board: str) -> str:
    """The channel of a board's events."""
    return f"sb:{{{board}}}:events"


def board_of(name: str) -> str:
    """The board whose channel it is."""
    return name[name.index("{") + 1 : name.index("}")]


def encode_event(event: Event) -> bytes:
    """The event's JSON object as it is published and streamed, still without its ranks."""
    return orjson.dumps(
        {
            "userId": event.user_id,
            "actionId": event.action_id,
            "points": event.points,
            "score": event.score,
            "seq": event.seq,
            "at": format_time(event.at),
        }
    )


def parse_scores(flat: Sequence[bytes]) -> list[tuple[str, int]]:
    """Pairs of user id and score from a flat list of members and negated scores."""
    return [(flat[i].decode(), -int(float(flat[i + 1]))) for i in range(0, len(flat), 2)]
