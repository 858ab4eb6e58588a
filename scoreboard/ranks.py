"""Redis (or Valkey): one method per script, and what a rebuild needs besides.

Scores are stored negated: one ascending order, score high to low and then user id by bytes, is the same here and in
PostgreSQL. On boards whose ties are ``first`` the seq at which a score was reached comes before the user id.

The client's own retries are off. An error means "outcome unknown", and seq makes trying again safe: applying is
idempotent, in order and exactly once, whoever does it and however often.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, cast

import msgspec
import orjson
from hiredis import ReplyError
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.connection import HiredisRespSerializer
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from scoreboard import keys
from scoreboard.contracts import load_scripts
from scoreboard.errors import RanksUnavailable, reason_of
from scoreboard.model import (
    ALL,
    Cursor,
    Event,
    Head,
    Page,
    Period,
    Position,
    RankChange,
    Scored,
    Standing,
    Standings,
    Ties,
    format_time,
    rank_entries,
)
from scoreboard.pipeline import Pipeline
from scoreboard.subscription import Subscription

COMMAND_TIMEOUT_S = 1.0
CONNECT_TIMEOUT_S = 1.0
CONNECTIONS_MAX = 64
REBUILD_CLAIM_S = 3.0
"""A server that died during a rebuild keeps the others from it for at most this long."""
REBUILD_KEY_TTL_S = 600
"""A rebuild that died leaves its temporary key for at most this long."""
SLICE_ENTRIES = 2_000
PERIOD_GRACE_S = 3_600
"""Of a period that is over the ranking stays in Redis for this long; then only the ledger has it."""
PERIODS_KNOWN_MAX = 10_000
MOVES_MAX = 3
DIGITS = 16
"""Of the seq in a member of a ranking whose ties are ``first``."""
NOBODY = b"-"
"""What the JSON of an event begins with that nobody is told of."""

Status = Literal["applied", "gap", "cold", "diverged", "confirmed", "behind", "swapped", "kept", "partial", "turned"]


class Applied(msgspec.Struct, frozen=True):
    """What apply_events.lua did; ``changes`` has None for events that had been applied before."""

    status: Status
    head_seq: int
    changes: list[RankChange | None]


class Aged(msgspec.Struct, frozen=True):
    """A page or standings, and the seconds since they were known to equal the ledger's."""

    age_s: int
    page: Page | None = None
    standings: Standings | None = None

    @property
    def position(self) -> Position:
        """The position that is shown."""
        return self._shown.position

    @property
    def first_day(self) -> str | None:
        """That of the period that is shown; None in window ``all``."""
        period = self._shown.period
        return period.first_day if period is not None else None

    @property
    def _shown(self) -> Page | Standings:
        shown = self.page or self.standings
        assert shown is not None, "one of them is there"
        return shown


class NewRanking(msgspec.Struct):
    """A ranking that is made beside the present one: its keys' prefix, where it stands, its layout and its sizes."""

    prefix: str
    head: Head
    ties: Ties
    periods: tuple[Period, ...]
    sizes: dict[str, int] = {}
    names: int = 0

    @property
    def size(self) -> int:
        """Users in the ranking of all, as they were loaded."""
        return self.sizes.get(ALL, 0)


class PeriodOver(Exception):
    """The current period of the window that was asked for is over, and the next one has not begun in the ranking."""


class _NoScript(Exception):
    """The script is not known to the server: it was restarted or flushed."""


class Ranks:
    """The ranking. Every method raises RanksUnavailable when Redis does not answer."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._pipeline = Pipeline(self._connect, timeout_s=COMMAND_TIMEOUT_S)
        self._scripts = load_scripts()
        self.probe = RedisProbe(self._connect)
        self._away = False
        self._first_days: dict[tuple[str, str], str] = {}

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
        self.probe.drop()
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
        status, epoch, seq, at = await self._run("read_head", keys.whole(keys.live(board)), [])
        return Head(epoch.decode(), int(seq), at.decode()) if status == b"ok" else None

    async def apply_events(
        self, board: str, epoch: str, events: Sequence[Event], *, previous_at: str, prefix: str | None = None
    ) -> Applied:
        """Apply ledger events that follow each other, and publish them.

        :param events: at least one; seqs without a gap.
        :param previous_at: time of the ledger's event before the first, '' for none.
        :param prefix: of the keys of a ranking that is being rebuilt; nobody is told of what is applied to it.
        """
        periods = list(dict.fromkeys(period for event in events for period in event.periods))
        places = {period: str(place) for place, period in enumerate(periods, start=1)}
        target = prefix or keys.live(board)
        names = keys.whole(target)
        arguments: list[str | bytes] = [
            f"{prefix}:events" if prefix else keys.channel(board),
            epoch,
            str(events[0].seq),
            previous_at,
            str(len(events)),
            str(len(events[0].periods)),
            str(len(periods)),
        ]
        for period in periods:
            names += keys.ranking(target, period.window, period.first_day)
            arguments += (period.window, period.first_day, str(period.ends_ms), str(_expires_ms(period)))
        for event in events:
            arguments += (event.user_id, encode_event(event)[:-1], _encode_score(event, ALL))
            for period in event.periods:
                arguments += (places[period], _encode_score(event, period.window))
        for event in events:
            if event.name is not None or event.kind in ("hide", "erase"):
                arguments += (str(event.seq), event.user_id, "" if event.hidden else event.name or "")
        status, head_seq, ranks = await self._run("apply_events", names, arguments)
        changes = [RankChange(ranks[i], ranks[i + 1] or None) if ranks[i] else None for i in range(0, len(ranks), 2)]
        return Applied(status.decode(), int(head_seq), changes)

    async def read_page(
        self,
        board: str,
        window: str = ALL,
        *,
        offset: int = 0,
        limit: int,
        after: Cursor | None = None,
        around: str | None = None,
    ) -> Aged | None:
        """A page at one moment, or None when there is no ranking.

        :param after: wins over ``offset``: the entries after that place.
        :param around: wins over both: a user to have in the middle of ``limit`` entries, which is odd then; at an edge
            the other side gives more. The page of a user without a score has no entries.
        :raises PeriodOver: if the window's next period has to begin first.
        """
        after_score, after_member = "", ""
        if after is not None:
            prefix = _digits(after.reached) if after.reached else ""
            after_score, after_member = str(-after.score), prefix + after.user_id
        asked = limit if around else limit + 1  # one more tells whether there are more
        arguments = [str(asked), str(offset), after_score, after_member, around or ""]
        answer = await self._read("read_page", board, window, arguments)
        if answer is None:
            return None
        position, total, age_s, ties, period, (start, first_rank, flat, called) = answer
        scores = parse_scores(flat, called, ties=ties)
        entries = rank_entries(scores[:limit], ties, offset=start, first_rank=first_rank)
        return Aged(age_s, page=Page(position, total, entries, start + len(entries) < total, ties, period))

    async def read_users(self, board: str, users: Sequence[str], window: str = ALL) -> Aged | None:
        """The standings of some users at one moment, or None when there is no ranking.

        :raises PeriodOver: if the window's next period has to begin first.
        """
        answer = await self._read("read_users", board, window, list(users))
        if answer is None:
            return None
        position, total, age_s, _, period, (flat,) = answer
        standings = tuple(
            Standing(-int(float(flat[i])), flat[i + 1], flat[i + 2], flat[i + 3].decode() or None) if flat[i] else None
            for i in range(0, len(flat), 4)
        )
        return Aged(age_s, standings=Standings(position, total, standings, period))

    def may_be_of(self, board: str, window: str, first_day: str) -> bool:
        """Whether the ranking of a window may be that of a period: it is not known to be of a later one."""
        return first_day >= self._first_days.get((board, window), "")

    async def _read(
        self, script: str, board: str, window: str, arguments: Sequence[str]
    ) -> tuple[Position, int, int, Ties, Period | None, list[Any]] | None:
        """Ask a ranking, by the key of its current period; None when there is none, or no such window.

        The script tells the period where we think it another one.
        """
        prefix = keys.live(board)
        for _ in range(MOVES_MAX):
            first_day = self._first_days.get((board, window), "")
            names = keys.head(prefix) + keys.ranking(prefix, window, first_day)
            answer = await self._run(script, names, [window, first_day, *arguments])
            status, epoch, seq, total, age_s, ties, current, ends_ms, *rest = answer
            if status == b"ok":
                period = Period(window, current.decode(), int(ends_ms)) if window != ALL else None
                return Position(epoch.decode(), int(seq)), total, age_s, ties.decode(), period, rest
            if status == b"over":
                raise PeriodOver
            if status != b"moved":
                return None
            if len(self._first_days) >= PERIODS_KNOWN_MAX:
                self._first_days.clear()
            self._first_days[board, window] = current.decode()
        return None

    async def turn_board(self, board: str, epoch: str, periods: Sequence[Period]) -> Status:
        """Begin the periods of now in those windows whose ranking is of an earlier one; what became of it."""
        prefix = keys.live(board)
        names, arguments = [keys.head(prefix)[0]], [keys.channel(board), epoch]
        for period in periods:
            names += keys.ranking(prefix, period.window, period.first_day)
            arguments += (period.window, period.first_day, str(period.ends_ms))
        status, _ = await self._run("turn_board", names, arguments)
        return cast(Status, status.decode())

    async def confirm_head(self, board: str, ledger: Head) -> tuple[Status, int]:
        """Mark the head as equal to the ledger's, if it is; the status and the head's seq."""
        arguments = [ledger.epoch, str(ledger.seq), ledger.at]
        status, head_seq = await self._run("confirm_head", keys.whole(keys.live(board)), arguments)
        return status.decode(), int(head_seq)

    async def swap_board(self, board: str, new: NewRanking) -> tuple[Status, int]:
        """Put a new ranking in the place of the present one; the status and the head's seq."""
        prefix = keys.live(board)
        names = keys.whole(prefix) + keys.whole(new.prefix)
        arguments = [keys.channel(board), str(len(new.periods))]
        for period in new.periods:
            for each in (prefix, new.prefix):
                names += keys.ranking(each, period.window, period.first_day)
            arguments += (period.window, str(_expires_ms(period)))
        status, head_seq = await self._run("swap_board", names, arguments)
        return status.decode(), int(head_seq)

    async def check_rates(self, users: Sequence[str], *, interval_us: int, burst: int) -> list[tuple[bool, int, int]]:
        """Admit or refuse one request of each user: admitted, requests left, microseconds to wait."""
        names = [f"sb:{{limits}}:{user}" for user in users]
        flat = await self._run("check_rates", names, [str(interval_us), str(burst)])
        return [(bool(flat[i]), flat[i + 1], flat[i + 2]) for i in range(0, len(flat), 3)]

    # -- what a rebuild needs besides its script

    async def load_entries(self, new: NewRanking, window: str, entries: Sequence[Scored]) -> None:
        """Add entries to the ranking of a window's period, or of all, that is being made; each user once."""
        first_day = next((period.first_day for period in new.periods if period.window == window), "")
        key, ties_key = keys.ranking(new.prefix, window, first_day)
        names_key = keys.head(new.prefix)[1]
        members: list[str | int] = []
        beside: list[str | int] = []
        for entry in entries:
            prefix = _digits(entry.reached) if new.ties == "first" else ""
            members += (-entry.score, prefix + entry.user_id)
            if new.ties == "first":
                beside += (entry.user_id, prefix)
            elif new.ties == "dense":
                beside += (-entry.score, -entry.score)
        named = [part for entry in entries if entry.name is not None for part in (entry.user_id, entry.name)]
        new.sizes[window] = new.sizes.get(window, 0) + await self._call("ZADD", key, *members)
        if beside:
            await self._call("HSET" if new.ties == "first" else "ZADD", ties_key, *beside)
        if named:
            new.names += await self._call("HSET", names_key, *named)
        for each in (key, ties_key, names_key):
            await self._call("EXPIRE", each, REBUILD_KEY_TTL_S)

    async def load_head(self, new: NewRanking) -> None:
        """Say where a new ranking stands, once all its entries are loaded; events can be applied to it then."""
        fields: list[str | int] = ["epoch", new.head.epoch, "seq", new.head.seq, "at", new.head.at, "ties", new.ties]
        fields += ["size", new.size, "names", new.names, "verified_at", 0]
        for period in new.periods:
            window = period.window
            fields += [window, period.first_day, f"{window}:size", new.sizes.get(window, 0)]
            fields += [f"{window}:ends", period.ends_ms]
        key = keys.head(new.prefix)[0]
        await self._call("HSET", key, *fields)
        await self._call("EXPIRE", key, REBUILD_KEY_TTL_S)

    async def drop(self, new: NewRanking) -> None:
        """Drop a ranking that was being made, as far as it has not taken the present one's place."""
        names = keys.whole(new.prefix)
        for period in new.periods:
            names += keys.ranking(new.prefix, period.window, period.first_day)
        await self._call("UNLINK", *names)

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

    async def _read_ties(self, board: str) -> Ties:
        """How a board's ties are ranked, also where it is cold."""
        ties = await self._call("HGET", keys.head(keys.live(board))[0], "ties")
        return cast(Ties, (ties or b"shared").decode())

    async def read_slices(self, board: str, window: str = ALL, first_day: str = "") -> AsyncIterator[list[Scored]]:
        """Every user's score in the board's order, in slices: who moves meanwhile may be missed or come twice."""
        ties = await self._read_ties(board)
        key, start = keys.ranking(keys.live(board), window, first_day)[0], 0
        while True:
            flat = await self._call("ZRANGE", key, start, start + SLICE_ENTRIES - 1, "WITHSCORES")
            if not flat:
                return
            entries = parse_scores(flat, ties=ties)
            yield entries
            start += len(entries)

    async def read_scores(self, board: str, users: Sequence[str]) -> dict[str, int]:
        """The scores of those users who have one, also where the ranking lost entries and nobody else reads it."""
        key, ties_key = keys.ranking(keys.live(board), ALL)
        ties = await self._read_ties(board)
        members = list(users)
        if ties == "first":
            reached = await self._call("HMGET", ties_key, *users)
            members = [(each or b"").decode() + user for each, user in zip(reached, users, strict=True)]
        found = await self._call("ZMSCORE", key, *members)
        return {user: -int(float(score)) for user, score in zip(users, found, strict=True) if score is not None}

    # -- the only ways to the server

    async def publish(self, name: str, message: str) -> None:
        """Publish a message on a channel."""
        await self._call("PUBLISH", name, message)

    async def _run(self, name: str, names: Sequence[str], arguments: Sequence[str | bytes]) -> Any:
        script = self._scripts[name]
        assert script.keys is None or script.keys == len(names), f"{name}.lua takes {script.keys} keys"
        what = f"{name}.lua"
        try:
            return await self._send(what, self._pipeline.ask("EVALSHA", script.sha, len(names), *names, *arguments))
        except _NoScript:
            return await self._send(what, self._pipeline.ask("EVAL", script.text, len(names), *names, *arguments))

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
            raise RanksUnavailable(f"{what}: {reason_of(exc)}") from exc
        self._away = False
        return answer

    def subscription(self, on_message: Callable[[str, bytes], None], on_connect: Callable[[], None]) -> Subscription:
        """A subscription of this client's, not yet running."""
        return Subscription(self._client, self.publish, on_message, on_connect)


class RedisProbe:
    """A connection of its own by which to find out whether Redis answers; opened when first needed."""

    def __init__(self, connect: Callable[[], Awaitable[asyncio.StreamWriter]]) -> None:
        self._pipeline = Pipeline(connect, timeout_s=COMMAND_TIMEOUT_S)

    async def ask(self) -> None:
        """Return when Redis answers.

        :raises RanksUnavailable: if it can't be reached or refuses.
        """
        try:
            with suppress(OSError):
                await self._pipeline.ask("PING")
                return
            await self._pipeline.ask("PING")  # the connection was lost, perhaps in a restart that is over
        except (ReplyError, RedisError, OSError) as exc:
            raise RanksUnavailable(f"PING: {reason_of(exc)}") from exc

    def drop(self) -> None:
        """Give the connection up."""
        self._pipeline.drop()


def _expires_ms(period: Period) -> int:
    return period.ends_ms + PERIOD_GRACE_S * 1_000


def _encode_score(event: Event, window: str) -> str:
    """A score as apply_events.lua takes it."""
    score = event.score_in(window)
    if score is None:
        return ""
    reached = event.reached.get(window)
    return f"{-score}@{_digits(reached)}" if reached else str(-score)


def _digits(reached: int) -> str:
    """The seq at which a score was reached, as members of a ranking begin with it."""
    return f"{reached:0{DIGITS}d}"


def _pack_natively(connection: type) -> type:
    """The connection class with hiredis' encoder, as redis-py's blocking connections have it.

    Its own asynchronous ones encode in Python: 3 ms for 2,000 entries of a rebuild, eight times as long.
    """

    def pack_command(_: object, *arguments: Any) -> list[bytes]:
        packed: list[bytes] = HiredisRespSerializer().pack(*arguments)
        return packed

    return type(f"Packing{connection.__name__}", (connection,), {"pack_command": pack_command})


def encode_event(event: Event) -> bytes:
    """The event's JSON object as it is published and streamed, still without its ranks; begun otherwise where nobody is
    told. Its time stands in it either way.
    """
    at = format_time(event.at)
    told: dict[str, object] = {}
    if event.kind in ("score", "revoke", "opening"):
        told = {
            "userId": event.user_id,
            "actionId": event.action_id,
            "points": event.points,
            "score": event.score,
            "seq": event.seq,
            "at": at,
        }
    elif event.kind in ("hide", "unhide", "name"):
        told = {"kind": event.kind, "userId": event.user_id, "displayName": event.name or None}
        told |= {"score": None if event.hidden else event.score, "seq": event.seq, "at": at}
    elif event.kind == "erase":
        return orjson.dumps({"kind": event.kind, "seq": event.seq, "at": at})
    if not told or (event.hidden and event.kind != "hide"):
        return NOBODY + orjson.dumps({"at": at})
    return orjson.dumps(told)


def parse_scores(flat: Sequence[bytes], names: Sequence[bytes] = (), *, ties: Ties) -> list[Scored]:
    """Entries from a flat list of members and negated scores, and one of users and display names."""
    called = {names[i].decode(): names[i + 1].decode() for i in range(0, len(names), 2)}
    entries = []
    for i in range(0, len(flat), 2):
        member, score = flat[i].decode(), -int(float(flat[i + 1]))
        user_id, reached = (member[DIGITS:], int(member[:DIGITS])) if ties == "first" else (member, 0)
        entries.append(Scored(user_id, score, called.get(user_id), reached))
    return entries
