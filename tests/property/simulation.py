"""A world without sockets or clocks: both stores as plain Python, and a loop whose every step somebody chooses.

Every call to a store stops twice: before it has an effect and before its answer arrives. Whoever drives the world
decides which call goes on next, whether its request or its answer is lost, and when time passes. The simulated
stores do what the scripts and statements do; ``test_simulation.py`` holds them against the real ones.
"""

import asyncio
import heapq
import selectors
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
import orjson

from scoreboard.database import BatchRefused, RolledBack
from scoreboard.errors import RanksUnavailable, Unavailable
from scoreboard.model import (
    Event,
    Head,
    Page,
    Position,
    RankChange,
    Ruling,
    Scored,
    Standing,
    Standings,
    Submission,
    format_time,
    rank_entries,
)
from scoreboard.ranks import REBUILD_CLAIM_S, Aged, Applied, NewRanking, encode_event
from scoreboard.totals import Layout

BEGAN_AT = datetime(2026, 11, 24, tzinfo=UTC)
Fate = Literal["done", "lost", "rolled back"]


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes only by :meth:`advance`; :meth:`settle` runs whatever can run without it."""

    def __init__(self) -> None:
        super().__init__(selectors.SelectSelector())
        self.now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._count = 0

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass  # it is thrown away when its time comes

    def advance(self, seconds: float | None = None) -> None:
        """Let the given time pass, or as much as the next timer needs."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if seconds is None:
            self.now = max(self.now, self._timers[0][0]) if self._timers else self.now
        else:
            self.now += seconds
        while self._timers and self._timers[0][0] <= self.now:
            _, _, timer = heapq.heappop(self._timers)
            self.call_soon(_fire, timer)
        self.settle()

    def settle(self) -> None:
        """Run until everything waits for a store or for time."""
        while self._ready:
            self.call_soon(self.stop)
            self.run_forever()


def _fire(timer: asyncio.TimerHandle) -> None:
    if not timer.cancelled():
        timer._run()


@dataclass
class Call:
    """A call to a store that is under way: first its request, then its answer. ``error``: what a loss looks like."""

    name: str
    execute: Callable[[], Any]
    answer: "asyncio.Future[Any]"
    error: type[Exception]
    is_executed: bool = False
    result: Any = None


class World:
    """The loop, the stores' contents, and the calls under way in the order in which they were made."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.calls: list[Call] = []
        self.ledger = LedgerState()
        self.ranks = RanksState()
        self.subscribers: list[SimulatedSubscription] = []

    def clock(self) -> datetime:
        return BEGAN_AT + timedelta(milliseconds=round(self.loop.now * 1_000))

    def go_on(self, index: int, fate: Fate) -> None:
        """Let one request reach its store, or one answer the caller, or either be lost."""
        call = self.calls[index]
        error: Exception | None = None
        try:
            if fate == "lost":
                raise call.error("it was lost on its way")
            if fate == "rolled back":
                raise RolledBack("the transaction lost against another")
            if not call.is_executed:
                call.result, call.is_executed = call.execute(), True
                return
        except Exception as exc:
            error = exc
        del self.calls[index]
        if not call.answer.done():
            if error is not None:
                call.answer.set_exception(error)
            else:
                call.answer.set_result(call.result)
        self.loop.settle()

    async def call(self, name: str, error: type[Exception], execute: Callable[[], Any]) -> Any:
        call = Call(name, execute, self.loop.create_future(), error)
        self.calls.append(call)
        return await call.answer

    def publish(self, message: bytes) -> None:
        for subscriber in self.subscribers:
            subscriber.queue.append(message)


# -- PostgreSQL


@dataclass
class LedgerState:
    """One board's ledger: pairs of event and key. The epoch is counted up when it is renewed."""

    points: dict[str, int] = field(default_factory=lambda: {"win": 10, "lose": -3})
    epoch: int = 1
    events: list[tuple[Event, str | None]] = field(default_factory=list)
    erased: list[tuple[int, str]] = field(default_factory=list)
    """Who was erased, and the seq of the event that says so."""

    def copy(self) -> "LedgerState":
        return LedgerState(self.points, self.epoch, list(self.events), list(self.erased))

    def head(self) -> Head:
        at = format_time(self.events[-1][0].at) if self.events else ""
        return Head(f"e{self.epoch}", len(self.events), at)

    def totals(self, seq: int | None = None) -> dict[str, int]:
        return {event.user_id: event.score for event, _ in self.events[:seq] if event.user_id}

    def hidden(self, seq: int | None = None) -> set[str]:
        last = {event.user_id: event.hidden for event, _ in self.events[:seq]}
        return {user for user, hidden in last.items() if hidden}

    def scores(self, seq: int | None = None) -> dict[str, int]:
        """Of those who are shown."""
        hidden = self.hidden(seq)
        return {user: score for user, score in self.totals(seq).items() if user not in hidden}

    def change(self, kind: Any, user: str, clock: datetime) -> Head | None:
        """Hide a user, show or erase one, or set the board up otherwise; None where there is nothing to change."""
        at = max(clock, self.events[-1][0].at) if self.events else clock
        seq, totals = len(self.events) + 1, self.totals()
        if kind == "settings":
            self.events.append((Event(seq, "", None, 0, 0, at, kind), None))
            return self.head()
        if user not in totals or (kind != "erase" and (kind == "hide") == (user in self.hidden())):
            return None
        if kind == "erase":
            self.events = [
                (msgspec.structs.replace(event, user_id=f"erased-{seq}", hidden=True), None)
                if event.user_id == user
                else (event, key)
                for event, key in self.events
            ]
        if kind == "erase":
            self.erased.append((seq, user))
            user = f"erased-{seq}"
        score = self.totals()[user]
        self.events.append((Event(seq, user, None, 0, score, at, kind, kind != "unhide"), None))
        return self.head()

    def order(self) -> list[tuple[str, int]]:
        return sorted(self.scores().items(), key=lambda entry: (-entry[1], entry[0].encode()))

    def submit(self, submissions: Sequence[Submission], clock: datetime) -> list[Ruling]:
        keys = [(s.user_id, s.key) for s in submissions if s.key is not None]
        if len(keys) != len(set(keys)):
            raise BatchRefused("one key twice")
        previous_at = self.events[-1][0].at if self.events else None
        at = max(clock, previous_at or clock)
        return [self._rule(submission, at, previous_at) for submission in submissions]

    def _rule(self, submission: Submission, at: datetime, previous_at: datetime | None) -> Ruling:
        def rule(outcome: Any, event: Event | None = None) -> Ruling:
            told = (event.seq, event.points, event.score, event.at, event.hidden) if event else ()
            return Ruling(outcome, f"e{self.epoch}", *told, previous_at=previous_at)

        for event, key in self.events:
            if key is not None and (event.user_id, key) == (submission.user_id, submission.key):
                if event.action_id != submission.action_id:
                    return rule("idempotency_mismatch")
                return rule("replayed", event)
        points = self.points.get(submission.action_id)
        if points is None:
            return rule("unknown_action")
        score = self.totals().get(submission.user_id, 0) + points
        hidden = submission.user_id in self.hidden()
        event = Event(
            len(self.events) + 1, submission.user_id, submission.action_id, points, score, at, "score", hidden
        )
        self.events.append((event, submission.key))
        return rule("recorded", event)


class SimulatedLedger:
    """What the parts use of ``scoreboard.ledger.Ledger``, for one board."""

    def __init__(self, world: World) -> None:
        self._world = world

    def _call(self, name: str, execute: Callable[[LedgerState], Any]) -> Awaitable[Any]:
        return self._world.call(name, Unavailable, lambda: execute(self._world.ledger))

    async def submit_scores(self, board: str, submissions: Sequence[Submission]) -> list[Ruling]:
        return await self._call("submit_scores", lambda s: s.submit(submissions, self._world.clock()))

    async def read_heads(self, asked: Mapping[str, Iterable[int]]) -> dict[str, tuple[Head, set[tuple[int, str]]]]:
        seqs = {board: list(seqs) for board, seqs in asked.items()}

        def read(state: LedgerState) -> dict[str, tuple[Head, set[tuple[int, str]]]]:
            return {
                board: (
                    state.head(),
                    {(0, "")}
                    | {(n, format_time(state.events[n - 1][0].at)) for n in wanted if 1 <= n <= len(state.events)},
                )
                for board, wanted in seqs.items()
            }

        return await self._call("read_heads", read)

    async def renew_epoch(self, board: str, ended_epoch: str) -> None:
        def renew(state: LedgerState) -> None:
            if ended_epoch == f"e{state.epoch}":
                # As unlikely to come again as a random one, also after a restore.
                state.epoch = 1_000 + len(self._world.ledger.events) + round(self._world.loop.now * 1_000)

        await self._call("renew_epoch", renew)

    async def read_events(self, board: str, *, after: int, limit: int) -> list[Event]:
        def read(state: LedgerState) -> list[Event]:
            return [
                msgspec.structs.replace(event, user_id="") if event.kind == "erase" else event
                for event, _ in state.events[after : after + limit]
            ]

        return await self._call("read_events", read)

    async def read_scores_at(self, board: str, users: Sequence[str], seq: int) -> dict[str, int]:
        return await self._call(
            "read_scores_at", lambda s: {user: score for user, score in s.scores(seq).items() if user in users}
        )

    async def read_page(
        self,
        board: str,
        window: str = "all",
        first_day: object = None,
        *,
        offset: int = 0,
        limit: int,
        after: object = None,
    ) -> Page:
        return await self._call("read_page", lambda s: make_page(s.order(), s.head().position, offset, limit))

    @asynccontextmanager
    async def stream_totals(self, board: str) -> AsyncIterator[tuple[Layout, AsyncIterator[tuple[str, list[Scored]]]]]:
        head, order = await self._call("stream_totals", lambda s: (s.head(), s.order()))

        async def slices() -> AsyncIterator[tuple[str, list[Scored]]]:
            for start in range(0, len(order), 2):
                yield "all", [Scored(user, score) for user, score in order[start : start + 2]]

        yield Layout(head, "shared", ()), slices()


def make_page(order: list[tuple[str, int]], position: Position, offset: int, limit: int) -> Page:
    scores = [Scored(user, score) for user, score in order[offset : offset + limit]]
    first_rank = 1 + sum(score > scores[0].score for _, score in order) if scores else 0
    entries = rank_entries(scores, "shared", offset=offset, first_rank=first_rank)
    return Page(position, len(order), entries, len(order) > offset + limit)


# -- Redis


@dataclass
class RanksState:
    """One board's ranking with its head, rankings under construction, and the claim on rebuilding."""

    head: Head | None = None
    size: int = 0
    scores: dict[str, int] = field(default_factory=dict)
    rebuilt: "dict[str, RanksState]" = field(default_factory=dict)
    claim: tuple[str, float] | None = None
    """Who rebuilds, and until when that keeps others from it."""

    def copy(self) -> "RanksState":
        rebuilt = {key: state.copy() for key, state in self.rebuilt.items()}
        return RanksState(self.head, self.size, dict(self.scores), rebuilt, self.claim)

    @property
    def is_whole(self) -> bool:
        return self.head is not None and self.size == len(self.scores)

    def order(self) -> list[tuple[str, int]]:
        return sorted(self.scores.items(), key=lambda entry: (-entry[1], entry[0].encode()))

    def rank(self, score: int) -> int:
        return 1 + sum(other > score for other in self.scores.values())

    def apply(self, epoch: str, events: Sequence[Event], previous_at: str, publish: Callable[[bytes], None]) -> Applied:
        head = self.head
        if head is None or head.epoch != epoch or not self.is_whole:
            return Applied("cold", head.seq if head else 0, [])
        first, last = events[0].seq, events[-1].seq
        if first > head.seq + 1:
            return Applied("gap", head.seq, [])
        at_head = {event.seq: format_time(event.at) for event in events} | {first - 1: previous_at}
        if (
            first - 1 <= head.seq <= last
            and (head.seq >= first or first == head.seq + 1)
            and at_head[head.seq] != head.at
        ):
            return Applied("diverged", head.seq, [])
        if any(event.seq > head.seq and not event.user_id for event in events):
            self.size = -1
            return Applied("cold", head.seq, [])
        changes: list[RankChange | None] = []
        fresh = []
        for event in events:
            if event.seq <= head.seq:
                changes.append(None)
                continue
            before = self.scores.pop(event.user_id, None)
            previous_rank = self.rank(before) if before is not None else None
            if not event.hidden:
                self.scores[event.user_id] = event.score
            rank = self.rank(event.score) if not event.hidden else None
            changes.append(RankChange(rank, previous_rank) if rank else None)
            ranks = orjson.dumps({"rank": rank, "previousRank": previous_rank})
            told = encode_event(event)
            fresh.append(told[:-1] + b"," + ranks[1:] if told.startswith(b"{") else b"null")
        if fresh:
            self.head, self.size = Head(epoch, last, format_time(events[-1].at)), len(self.scores)
            publish(self.message(last + 1 - len(fresh), fresh))
        return Applied("applied", max(last, head.seq), changes)

    def message(self, first: int, events: list[bytes]) -> bytes:
        assert self.head is not None
        told = {"epoch": self.head.epoch, "first": first, "seq": self.head.seq, "at": self.head.at}
        told |= {"total": self.size, "top": [part for user, score in self.order()[:10] for part in (user, str(-score))]}
        told |= {"names": [], "windows": {}}
        return orjson.dumps(told)[:-1] + b',"events":[' + b",".join(events) + b"]}"

    def confirm(self, ledger: Head) -> tuple[str, int]:
        head = self.head
        if head is None or head.epoch != ledger.epoch or not self.is_whole:
            return "cold", head.seq if head else 0
        if head.seq < ledger.seq:
            return "behind", head.seq
        return ("diverged" if head.seq == ledger.seq and head.at != ledger.at else "confirmed"), head.seq

    def swap(self, key: str, publish: Callable[[bytes], None]) -> tuple[str, int]:
        head, rebuilt = self.head, self.rebuilt.get(key, RanksState())
        to = rebuilt.head
        if to and head is not None and self.is_whole and head.epoch == to.epoch and head.seq > to.seq:
            return "kept", head.seq
        self.rebuilt.pop(key, None)
        if to is None or not rebuilt.is_whole:
            return "partial", head.seq if head else 0
        self.head, self.size, self.scores = to, rebuilt.size, rebuilt.scores
        publish(self.message(to.seq + 1, []))
        return "swapped", to.seq


class SimulatedRanks:
    """What the parts use of ``scoreboard.ranks.Ranks``, for one board."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.available = True

    async def _call(self, name: str, execute: Callable[[RanksState], Any]) -> Any:
        try:
            answer = await self._world.call(name, RanksUnavailable, lambda: execute(self._world.ranks))
        except RanksUnavailable:
            self.available = False
            raise
        self.available = True
        return answer

    async def ping(self) -> None:
        await self._call("ping", lambda state: None)

    async def read_head(self, board: str) -> Head | None:
        return await self._call("read_head", lambda s: s.head if s.is_whole else None)

    async def apply_events(
        self, board: str, epoch: str, events: Sequence[Event], *, previous_at: str, prefix: str | None = None
    ) -> Applied:
        def apply(state: RanksState) -> Applied:
            if prefix is None:
                return state.apply(epoch, events, previous_at, self._world.publish)
            return state.rebuilt.get(prefix, RanksState()).apply(epoch, events, previous_at, lambda message: None)

        return await self._call("apply_events", apply)

    async def confirm_head(self, board: str, ledger: Head) -> tuple[str, int]:
        return await self._call("confirm_head", lambda s: s.confirm(ledger))

    async def swap_board(self, board: str, new: NewRanking) -> tuple[str, int]:
        return await self._call("swap_board", lambda s: s.swap(new.prefix, self._world.publish))

    async def load_entries(self, new: NewRanking, window: str, entries: Sequence[Scored]) -> None:
        def load(state: RanksState) -> None:
            ranking = state.rebuilt.setdefault(new.prefix, RanksState())
            ranking.scores |= {entry.user_id: entry.score for entry in entries}

        await self._call("load_entries", load)
        new.sizes[window] = new.sizes.get(window, 0) + len(entries)

    async def load_head(self, new: NewRanking) -> None:
        def load(state: RanksState) -> None:
            ranking = state.rebuilt.setdefault(new.prefix, RanksState())
            ranking.head, ranking.size = new.head, new.size

        await self._call("load_head", load)

    async def drop(self, new: NewRanking) -> None:
        await self._call("drop", lambda s: s.rebuilt.pop(new.prefix, None))

    async def claim_rebuild(self, board: str, holder: str) -> bool:
        def claim(state: RanksState) -> bool:
            now = self._world.loop.now
            if state.claim is None or state.claim[0] == holder or state.claim[1] <= now:
                state.claim = (holder, now + REBUILD_CLAIM_S)
            return state.claim[0] == holder

        return await self._call("claim_rebuild", claim)

    async def release_rebuild(self, board: str) -> None:
        def release(state: RanksState) -> None:
            state.claim = None

        await self._call("release_rebuild", release)

    async def read_page(
        self,
        board: str,
        window: str = "all",
        *,
        offset: int = 0,
        limit: int,
        after: object = None,
        around: object = None,
    ) -> Aged | None:
        def read(state: RanksState) -> Aged | None:
            if state.head is None or not state.is_whole:
                return None
            position = state.head.position
            return Aged(0, page=make_page(state.order(), position, offset, limit))

        return await self._call("read_page", read)

    async def read_users(self, board: str, users: Sequence[str], window: str = "all") -> Aged | None:
        def read(state: RanksState) -> Aged | None:
            if state.head is None or not state.is_whole:
                return None
            position, scores = state.head.position, state.scores
            standings = tuple(
                Standing(
                    scores[user],
                    state.rank(scores[user]),
                    sum(other < scores[user] for other in scores.values()),
                )
                if user in scores
                else None
                for user in users
            )
            return Aged(0, standings=Standings(position, len(scores), standings))

        return await self._call("read_users", read)

    def subscription(
        self, on_message: Callable[[str, bytes], None], on_connect: Callable[[], None]
    ) -> "SimulatedSubscription":
        subscription = SimulatedSubscription(on_message, on_connect)
        self._world.subscribers.append(subscription)
        return subscription


class SimulatedSubscription:
    """Delivers what was published in order, when the driver says so; a lost one loses it all and connects again."""

    def __init__(self, on_message: Callable[[str, bytes], None], on_connect: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_connect = on_connect
        self.queue: list[bytes] = []
        self.proven = True

    def deliver(self) -> None:
        self._on_message("global", self.queue.pop(0))

    def lose(self) -> None:
        self.queue.clear()
        self._on_connect()

    async def subscribe(self, board: str) -> None:
        pass

    async def unsubscribe(self, board: str) -> None:
        pass
