"""Keeps the ranks equal to the ledger: replays what is missing, rebuilds what is lost, confirms what is right.

A board is *suspect* from the moment somebody noticed that its ranking may be wrong (an unknown outcome, a gap it
could not close, a lost key) until its head is equal to the ledger's again. While it is, submissions are answered
without ranks and reads come from PostgreSQL.

A database that was restored from an older state goes on from there with the same epoch, and soon has other events
at the seqs that the ranking and the readers know. That is told by *witnesses*: the event that the ranking stands at,
and those that this server has seen. The ledger is written first and read last, so a ledger without one of these very
events has lost it. The board then gets a new epoch, its ranking is rebuilt, and its readers are told to begin anew.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from time import monotonic

import msgspec
import structlog

from scoreboard import keys
from scoreboard.errors import NotFound, RanksUnavailable, Unavailable, UnknownTimezone, reason_of
from scoreboard.ledger import Ledger
from scoreboard.metrics import Metrics
from scoreboard.model import SCORE_MAX, Event, Head, format_time
from scoreboard.ranks import REBUILD_CLAIM_S, NewRanking, Ranks
from scoreboard.tasks import end_tasks, read_ahead

TICK_S = 0.5
PAUSE_S = 0.02
CONFIRM_S = 10.0
"""A head in use is confirmed this often: well before readers stop trusting it."""
REPLAY_EVENTS = 250
"""Events in one script call of a replay: 2 ms of Redis, or 6 on a board of a million users."""
REPLAY_LAG_MAX = 100_000
"""More missing events than this are never replayed, nor more than the board has players: on 2 cores 26,000 events/s are
replayed, 145,000 players/s ranked anew."""
INLINE_LAG_MAX = 5_000
"""So many missing events are always replayed, by a writer itself too; larger gaps are left to the background."""
SWAP_ATTEMPTS = 50
SEEN_MAX = 250
"""Events of a board that are remembered between two looks at the ledger; the first of them, which can't be new ones
of a history that has replaced theirs."""
PREPARE_S = 2.0
GLANCE_S = 2.0
BOARD_IN_USE_S = 60.0
"""A board is watched for this long after it was last written, read or streamed."""
BOARDS_WATCHED_MAX = 10_000

log = structlog.get_logger(__name__)


class _Watched:
    """A board in use: when it was used and confirmed, its head at the last look, and what this server has seen of it.

    ``proven`` was in the ledger at the last look; ``seen`` came since, and is what a restored database may have lost.
    """

    __slots__ = ("confirmed_at", "head", "proven", "seen", "used_at")

    def __init__(self) -> None:
        self.used_at = monotonic()
        self.confirmed_at = float("-inf")
        self.head: Head | None = None
        self.proven: Head | None = None
        self.seen: list[Head] = []


class Repair:
    """Watches the boards in use. :param on_healed: called with a board that is right again."""

    def __init__(self, ledger: Ledger, ranks: Ranks, metrics: Metrics, on_healed: Callable[[str], None]) -> None:
        self._ledger = ledger
        self._ranks = ranks
        self._metrics = metrics
        self._on_healed = on_healed
        self._watched: dict[str, _Watched] = {}
        self._suspects: set[str] = set()
        self._unusable: set[str] = set()
        self._urgent: set[str] = set()
        self._tick_at = float("-inf")
        self._wake = asyncio.Event()
        self._healing: dict[str, asyncio.Task[None]] = {}
        self._name = secrets.token_hex(8)

    def use(self, board: str) -> None:
        """Watch a board for the next BOARD_IN_USE_S; one that was not watched is checked at once."""
        watched = self._watched.get(board)
        if watched is not None:
            watched.used_at = monotonic()
            return
        if len(self._watched) >= BOARDS_WATCHED_MAX:
            self._forget(next(iter(self._watched)))
        self._watched[board] = _Watched()
        self._look_soon(board)

    def _look_soon(self, board: str) -> None:
        """Check a board before the next tick, and it alone: anybody can name boards at random, many a second."""
        self._urgent.add(board)
        self._wake.set()

    def glance(self, board: str) -> None:
        """Check a board that nobody uses yet: it is watched for a moment only, so that boards at rest cost nothing."""
        self.use(board)
        self._watched[board].used_at -= BOARD_IN_USE_S - GLANCE_S

    def acknowledge(self, board: str, head: Head) -> None:
        """Watch a board of which somebody is about to be told an event."""
        self.use(board)
        self.see(board, head)

    def see(self, board: str, head: Head) -> None:
        """Remember an event of the board, if it is watched, until the ledger was asked for it."""
        watched = self._watched.get(board)
        if watched is not None and len(watched.seen) < SEEN_MAX:
            watched.seen.append(head)

    def _witnesses(self, board: str, head: Head | None) -> list[Head]:
        """What the ledger must have, unless it is another history: the ranking's head, and what was seen here."""
        watched = self._watched.get(board)
        seen = [watched.proven, *watched.seen] if watched is not None else []
        return [witness for witness in (head, *seen) if witness is not None]

    def _prove(self, board: str, witnesses: list[Head], ledger: Head, times: set[tuple[int, str]]) -> bool:
        """Whether the ledger has every witness of its epoch; those need not be asked for again."""
        ours = [witness for witness in witnesses if witness.epoch == ledger.epoch]
        if any((witness.seq, witness.at) not in times for witness in ours):
            return False
        watched = self._watched.get(board)
        if watched is not None:
            asked = set(witnesses)
            watched.seen = [head for head in watched.seen if head not in asked]
            watched.proven = max(ours, key=lambda head: head.seq, default=None)
        return True

    def confirm(self, board: str) -> None:
        """Hold the ranking against the ledger now."""
        self.use(board)
        self._watched[board].confirmed_at = float("-inf")
        self._look_soon(board)

    async def prepare(self, board: str) -> None:
        """Give a board its ranking before its first submission, if both stores answer in time."""
        self.use(board)
        await asyncio.wait([self._start_healing(board)], timeout=PREPARE_S)

    def suspect(self, board: str) -> None:
        """The board's ranking may be wrong: heal it now."""
        self.use(board)
        self._suspects.add(board)
        self._look_soon(board)

    def is_suspect(self, board: str) -> bool:
        """Whether the ranking may be wrong, so that nobody should ask it."""
        return board in self._suspects

    @property
    def suspects(self) -> int:
        """Boards being healed or waiting for it."""
        return len(self._suspects)

    async def run(self) -> None:
        """Check the boards in use every TICK_S, and new ones and suspects at once, until cancelled."""
        away: str | None = None
        try:
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, self._tick_at - monotonic())):
                        await self._wake.wait()
                self._wake.clear()
                was_away = away
                away = await self._try_to_check()
                if away is not None and was_away is None:
                    log.warning("store_unreachable", error=away)
                elif was_away is not None and away is None:
                    log.info("stores_reachable")
                await asyncio.sleep(PAUSE_S)  # whatever goes wrong, this does not spin
        finally:
            await end_tasks(self._healing.values())

    async def _try_to_check(self) -> str | None:
        """Check boards; which store did not answer and why, or None. The next tick tries again."""
        try:
            await self._check()
        except Unavailable as exc:
            return f"PostgreSQL: {reason_of(exc.__cause__ or exc)}"
        except RanksUnavailable as exc:
            self._suspects.update(self._watched)
            return f"Redis: {exc}"
        return None

    async def _check(self) -> None:
        now = monotonic()
        urgent, self._urgent = self._urgent, set()
        is_tick = now >= self._tick_at
        if is_tick:
            self._tick_at = now + TICK_S
        for board in [b for b, watched in self._watched.items() if now - watched.used_at > BOARD_IN_USE_S]:
            self._forget(board)
        due = self._watched if is_tick else [board for board in urgent if board in self._watched]
        boards = [board for board in due if board not in self._healing]
        if not self._ranks.available:
            await self._ranks.ping()
        heads = {board: await self._ranks.read_head(board) for board in boards}
        witnesses = {board: self._witnesses(board, heads[board]) for board in boards}
        asked = {board: [witness.seq for witness in witnesses[board]] for board in boards}
        ledgers = await self._ledger.read_heads(asked) if boards else {}
        if is_tick:
            lags = (ledger.seq - (head.seq if (head := heads[b]) else 0) for b, (ledger, _) in ledgers.items())
            self._metrics.lag_events.set(max(lags, default=0))
        for board in boards:
            if board not in ledgers:
                self._forget(board)
            elif not self._prove(board, witnesses[board], *ledgers[board]) or await self._is_wrong(
                board, heads[board], ledgers[board][0]
            ):
                self._start_healing(board)

    async def _is_wrong(self, board: str, head: Head | None, ledger: Head) -> bool:
        watched = self._watched.get(board)
        if watched is None:
            return False
        previous, watched.head = watched.head, head
        if head is None or head.epoch != ledger.epoch:
            return True
        if head.seq == ledger.seq:
            if monotonic() - watched.confirmed_at > CONFIRM_S:
                status, _ = await self._ranks.confirm_head(board, ledger)
                if status != "confirmed":
                    return True
                watched.confirmed_at = monotonic()
            if board in self._suspects:
                self._trust(board)
            return False
        # Events between a writer's two stages are the ordinary state of a busy board. Without progress since the
        # last look they are not.
        return board in self._suspects or head == previous

    def _start_healing(self, board: str) -> "asyncio.Task[None]":
        """One board's trouble must not delay the others', so each heals in a task of its own, and in one only."""
        task = self._healing.get(board)
        if task is None:
            task = self._healing[board] = asyncio.create_task(self._heal_suspect(board), name=f"heal:{board}")
            task.add_done_callback(partial(self._end_healing, board))
        return task

    def _end_healing(self, board: str, task: "asyncio.Task[None]") -> None:
        self._healing.pop(board, None)
        if not task.cancelled() and task.exception() is not None:
            log.error("repair_failed", board=board, exc_info=task.exception())

    async def _heal_suspect(self, board: str) -> None:
        self._suspects.add(board)
        try:
            await self.heal(board)
        except NotFound:
            self._forget(board)
        except UnknownTimezone as exc:
            if board not in self._unusable:  # it stays suspect and is tried again, but once is enough to be told
                self._unusable.add(board)
                log.error("board_unusable", board=board, error=str(exc))
        except (Unavailable, RanksUnavailable):
            pass  # stays suspect; the next tick tries again
        else:
            self._trust(board)

    def _trust(self, board: str) -> None:
        self._suspects.discard(board)
        self._unusable.discard(board)
        self._on_healed(board)

    def _forget(self, board: str) -> None:
        self._watched.pop(board, None)
        self._suspects.discard(board)
        self._unusable.discard(board)

    async def heal(self, board: str) -> None:
        """Make the ranks equal to the ledger, as it is at some moment during the call.

        :raises NotFound: if there is no such board.
        :raises Unavailable, RanksUnavailable: if either store does not answer.
        """
        while True:
            head = await self._ranks.read_head(board)
            witnesses = self._witnesses(board, head)
            found = (await self._ledger.read_heads({board: [witness.seq for witness in witnesses]})).get(board)
            if found is None:
                raise NotFound(f"there is no board {board!r}")
            ledger, times = found
            if not self._prove(board, witnesses, ledger, times):
                log.warning("ledger_went_back", board=board, epoch=ledger.epoch, seq=ledger.seq)
                await self._ledger.renew_epoch(board, ledger.epoch)
            elif head is None or head.epoch != ledger.epoch or await self._is_far_behind(board, ledger.seq - head.seq):
                if not await self._rebuild_alone(board):
                    raise RanksUnavailable(f"another server rebuilds the ranking of {board!r}")
            elif head.seq < ledger.seq:
                caught_up = await self._replay(board, ledger.epoch, after=head.seq, through=ledger.seq)
                # To wait for a moment at which nothing is under way would be to wait for ever on a busy board.
                # What came meanwhile, the next batch finds missing.
                if caught_up and ledger.seq - head.seq <= REPLAY_EVENTS:
                    return
            elif (await self._ranks.confirm_head(board, ledger))[0] == "confirmed":
                return

    async def _is_far_behind(self, board: str, lag: int) -> bool:
        """Whether so many events are missing that a rebuild is quicker than a replay."""
        if lag <= INLINE_LAG_MAX:
            return False
        return lag > min(REPLAY_LAG_MAX, (await self._ledger.read_board(board)).players)

    async def replay(self, board: str, epoch: str, *, through: int) -> None:
        """Apply the ledger's events up to a seq, if they are few enough to wait for."""
        head = await self._ranks.read_head(board)
        if head is not None and head.epoch == epoch and through - head.seq <= INLINE_LAG_MAX:
            await self._replay(board, epoch, after=head.seq, through=through)

    async def catch_up(self, board: str, head: Head, erased: str | None = None) -> None:
        """Rank an event that was just committed and is no submission, if the ranking is there; else it will be.

        :param erased: the id of the user whom the event erased. The ledger does not have it any more, and without it
            the ranking has to be rebuilt.
        """
        try:
            if erased is not None:
                await self._erase(board, head, erased)
            else:
                await self.replay(board, head.epoch, through=head.seq)
        except (Unavailable, RanksUnavailable):
            self.suspect(board)
            return
        self.confirm(board)

    async def _erase(self, board: str, head: Head, erased: str) -> None:
        await self.replay(board, head.epoch, through=head.seq - 1)
        events = await self._ledger.read_events(board, after=max(head.seq - 2, 0), limit=2)
        events = [
            msgspec.structs.replace(event, user_id=erased) if event.seq == head.seq else event for event in events
        ]
        await self._ranks.apply_events(board, head.epoch, events, previous_at="")

    async def turn(self, board: str) -> None:
        """Begin the periods of now in a board's ranking, where those it has are over.

        :raises NotFound: if there is no such board.
        :raises Unavailable, RanksUnavailable: if either store does not answer.
        """
        layout = await self._ledger.read_layout(board)
        await self._ranks.turn_board(board, layout.head.epoch, layout.periods)

    async def _replay(self, board: str, epoch: str, *, after: int, through: int) -> bool:
        """Apply the ledger's events in (after, through]; False if the ranking was replaced meanwhile."""
        self._metrics.repairs.labels("replay").inc()
        async with read_ahead(self._read_events(board, after=after, through=through)) as batches:
            async for events in batches:
                applied = await self._ranks.apply_events(board, epoch, events, previous_at="")
                if applied.status != "applied":
                    return False
                after = events[-1].seq
        return after >= through

    async def _read_events(self, board: str, *, after: int, through: int) -> AsyncIterator[list[Event]]:
        """The events in (after, through], or as far as there are any.

        Each part begins with the one before, at which the ranking stands then.
        """
        while after < through:
            events = await self._ledger.read_events(board, after=max(after - 1, 0), limit=REPLAY_EVENTS)
            events = [event for event in events if event.seq <= through]
            if not events or events[-1].seq <= after:
                return
            yield events
            after = events[-1].seq

    async def _rebuild_alone(self, board: str) -> bool:
        """Rebuild, unless another server is at it: it will be done soon, and twice is twice the load."""
        if not await self._ranks.claim_rebuild(board, self._name):
            return False
        await self.rebuild(board)
        await self._ranks.release_rebuild(board)
        return True

    async def rebuild(self, board: str) -> None:
        """Build the ranking anew beside the present one and swap it in, never going back behind it.

        :raises NotFound: if there is no such board.
        :raises Unavailable, RanksUnavailable: if either store does not answer, or the swap kept losing its race.
        """
        self._metrics.repairs.labels("rebuild").inc()
        started = monotonic()
        new: NewRanking | None = None
        try:
            async with self._ledger.stream_totals(board) as (layout, slices):
                new = NewRanking(keys.rebuilt(board), layout.head, layout.ties, layout.periods)
                claimed_at = started
                async for window, entries in slices:
                    if monotonic() - claimed_at > REBUILD_CLAIM_S / 3:
                        await self._ranks.claim_rebuild(board, self._name)
                        claimed_at = monotonic()
                    await self._ranks.load_entries(new, window, entries)
            await self._ranks.load_head(new)
            for _ in range(SWAP_ATTEMPTS):
                status, _ = await self._ranks.swap_board(board, new)
                if status == "swapped":
                    seconds = round(monotonic() - started, 3)
                    log.info("ranking_rebuilt", board=board, seq=new.head.seq, players=new.size, seconds=seconds)
                    return
                if status == "partial":
                    raise RanksUnavailable(f"the new ranking of {board!r} lost entries; is Redis evicting keys?")
                await self._bring_up(board, new)
        finally:
            if new is not None:
                await self._ranks.drop(new)
        raise RanksUnavailable(f"the ranking of {board!r} moved on during {SWAP_ATTEMPTS} tries to replace it")

    async def _bring_up(self, board: str, new: NewRanking) -> None:
        """Apply to a new ranking what came since.

        :raises RanksUnavailable: if that can't be told by events, so that it has to be made once more.
        """
        async for events in self._read_events(board, after=new.head.seq, through=SCORE_MAX):
            applied = await self._ranks.apply_events(board, new.head.epoch, events, previous_at="", prefix=new.prefix)
            if applied.status != "applied":
                raise RanksUnavailable(f"the new ranking of {board!r} can't be brought up: {applied.status}")
            last = events[-1]
            new.head = Head(new.head.epoch, last.seq, format_time(last.at))
            # It may have gone on to later periods, never to earlier ones.
            reached = {period.window: period for period in last.periods}
            new.periods = tuple(
                max(period, reached.get(period.window, period), key=lambda each: each.first_day)
                for period in new.periods
            )
