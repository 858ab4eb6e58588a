"""Micro-batches: every submission waits in its board's open batch, first for the ledger, then for the ranks.

A batch leaves as soon as the previous one's transaction has returned. There is no timer: an idle server batches one
submission and adds no delay, a busy one shares round trips, fsync and script calls among all that wait (group
commit). Ledger and ranks are two stages, so batch k+1 may be in PostgreSQL while batch k is in Redis, each in order.

A lane (the two stages of one board) ends LANE_IDLE_S after its board's last submission: boards at rest cost
nothing. A client that hangs up cancels only its own wait, never a batch.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import cast

import msgspec
import structlog

from scoreboard.database import WRITE_POOL_MAX, BatchRefused, RolledBack
from scoreboard.errors import NotFound, Overloaded, RanksUnavailable, ScoreboardError, Unavailable
from scoreboard.ledger import Ledger
from scoreboard.metrics import Metrics
from scoreboard.model import Event, Head, RankChange, Ruling, Submission, format_time
from scoreboard.ranks import Applied, Ranks
from scoreboard.repair import Repair

BATCH_MAX = 256
"""Submissions in one transaction. Throughput is flat beyond it; a larger batch only holds the board's lock longer."""
QUEUE_MAX = 10_000
"""Submissions waiting for the ledger, over all boards; beyond it they are refused at once."""
UNRANKED_BATCHES_MAX = 32
"""Committed batches of one board that may wait for the ranks before its next transaction waits too."""
WAIT_REFUSE_S = 0.4
"""While a board's oldest waiting submission has waited this long, and more wait than the next transaction takes, more
come in than go out: new ones are refused."""
WAIT_MAX_S = 0.8
"""A submission that the ledger did not take in this time is answered 503: nothing was recorded. One that can't be taken
in this time, if the next transactions take as long as the last one, is refused at once."""
LANE_IDLE_S = 1.0
ATTEMPTS = 3
"""Tries of a batch that lost against another transaction, and of a lone submission that fails by itself."""


log = structlog.get_logger(__name__)


class Receipt(msgspec.Struct, frozen=True):
    """What became of a submission.

    ``change`` is None while the ranking can't tell. Of a replay it holds the rank of now, twice: nothing moved.
    """

    ruling: Ruling
    change: RankChange | None


class _Pending:
    """A submission that waits, with the repeats of it (same key, same body) that came meanwhile."""

    __slots__ = ("arrived_at", "repeats", "result", "submission")

    def __init__(self, submission: Submission, result: "asyncio.Future[Receipt]", arrived_at: float) -> None:
        self.submission = submission
        self.result = result
        self.arrived_at = arrived_at
        self.repeats: list[asyncio.Future[Receipt]] = []

    def succeed(self, ruling: Ruling, change: RankChange | None) -> None:
        _set(self.result, Receipt(ruling, change))
        if self.repeats:
            outcome = "replayed" if ruling.outcome == "recorded" else ruling.outcome
            repeated = Receipt(msgspec.structs.replace(ruling, outcome=outcome), change)
            for repeat in self.repeats:
                _set(repeat, repeated)

    def fail(self, error: Exception) -> None:
        for future in (self.result, *self.repeats):
            if not future.done():
                future.set_exception(error)


def _set(future: "asyncio.Future[Receipt]", receipt: Receipt) -> None:
    if not future.done():  # done: its client has hung up
        future.set_result(receipt)


class Writer:
    """The one way in for submissions.

    :param on_answer: called with board and head just before their submitters are told.
    """

    def __init__(
        self,
        ledger: Ledger,
        ranks: Ranks,
        repair: Repair,
        metrics: Metrics,
        on_answer: Callable[[str, Head], None],
    ) -> None:
        self._ledger = ledger
        self._ranks = ranks
        self._repair = repair
        self._metrics = metrics
        self._on_answer = on_answer
        self._lanes: dict[str, _Lane] = {}
        self._queued = 0
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        # Lanes take turns at the pool, so that many busy boards wait here and not in acquire, which has a deadline.
        self._transactions = asyncio.Semaphore(WRITE_POOL_MAX - 1)

    async def submit_score(self, submission: Submission) -> Receipt:
        """Record one submission; returns when it is committed, and ranked if the ranking is up.

        :raises NotFound: if there is no such board.
        :raises Overloaded: if too many submissions wait already, or this one waited too long; nothing was recorded.
        :raises Unavailable: if the outcome is unknown; repeating with the same key is safe. Or the server is ending.
        """
        return await self._add(submission)

    async def submit_scores(self, submissions: Sequence[Submission]) -> list[Receipt | ScoreboardError]:
        """Record submissions in order; what each led to, or why it failed, as :meth:`submit_score` would tell.

        Of a board's, those that a full or slow ledger did not take are the last ones.
        """
        results: list[Receipt | ScoreboardError | asyncio.Future[Receipt]] = []
        for submission in submissions:
            try:
                results.append(self._add(submission))
            except ScoreboardError as exc:
                results.append(exc)
        futures = [result for result in results if isinstance(result, asyncio.Future)]
        done = iter(await asyncio.gather(*futures, return_exceptions=True))
        told = [next(done) if isinstance(result, asyncio.Future) else result for result in results]
        for result in told:
            if isinstance(result, BaseException) and not isinstance(result, ScoreboardError):
                raise result
        return cast("list[Receipt | ScoreboardError]", told)

    def _add(self, submission: Submission) -> "asyncio.Future[Receipt]":
        if self._closing:
            raise Unavailable("the server is shutting down; repeat the request with the same key")
        if self._queued >= QUEUE_MAX:
            self._metrics.overloaded.inc()
            raise Overloaded(f"{QUEUE_MAX} submissions are waiting already; repeat this one later")
        lane = self._lanes.get(submission.board)
        if lane is None:
            lane = self._lanes[submission.board] = _Lane(self, submission.board)
        return lane.add(submission)

    @property
    def queued(self) -> int:
        """Submissions that have no answer yet, those included whose clients have hung up."""
        return self._queued

    async def close(self) -> None:
        """Wait until every submission has its answer and every lane has ended."""
        self._closing = True
        for lane in self._lanes.values():
            lane.wake()
        while self._tasks:
            await asyncio.wait(self._tasks)


class _Lane:
    """The two stages of one board, alive while it has submissions."""

    def __init__(self, writer: Writer, board: str) -> None:
        self._writer = writer
        self._board = board
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Pending] = deque()
        self._by_key: dict[tuple[str, str], _Pending] = {}
        self._arrived = asyncio.Event()
        self._expiry: asyncio.TimerHandle | None = None
        self._transaction_s = 0.0
        self._committed: asyncio.Queue[tuple[list[_Pending], list[Ruling]] | None] = asyncio.Queue(UNRANKED_BATCHES_MAX)
        for stage in (self._write_batches, self._rank_batches):
            task = self._loop.create_task(stage(), name=f"{stage.__name__.strip('_')}:{board}")
            writer._tasks.add(task)
            task.add_done_callback(writer._tasks.discard)

    def add(self, submission: Submission) -> "asyncio.Future[Receipt]":
        """:raises Overloaded: if it would wait too long."""
        now = self._loop.time()
        if len(self._waiting) >= BATCH_MAX and (
            now - self._waiting[0].arrived_at > WAIT_REFUSE_S
            or len(self._waiting) // BATCH_MAX * self._transaction_s >= WAIT_MAX_S
        ):
            self._writer._metrics.overloaded.inc()
            raise Overloaded(
                f"{len(self._waiting)} submissions to the board {self._board!r} are waiting already; repeat later"
            )
        self._writer._queued += 1
        future: asyncio.Future[Receipt] = self._loop.create_future()
        pending = _Pending(submission, future, now)
        if submission.key is not None:
            twin = self._by_key.get((submission.user_id, submission.key))
            if twin is not None and twin.submission == submission:
                twin.repeats.append(future)
                return future
            if twin is None:
                self._by_key[submission.user_id, submission.key] = pending
        self._waiting.append(pending)
        self._arrived.set()
        if self._expiry is None:
            self._expiry = self._loop.call_at(now + WAIT_MAX_S, self._expire)
        return future

    def _expire(self) -> None:
        """Answer those who have waited WAIT_MAX_S, and come back for the next."""
        self._expiry = None
        while self._waiting:
            due_at = self._waiting[0].arrived_at + WAIT_MAX_S
            if due_at > self._loop.time():
                self._expiry = self._loop.call_at(due_at, self._expire)
                return
            pending = self._pop()
            self._writer._metrics.overloaded.inc()
            self._fail(
                pending, Overloaded(f"the board {self._board!r} took no submission for {WAIT_MAX_S} s; repeat later")
            )

    def wake(self) -> None:
        """Look again whether there is something to do, or a reason to end."""
        self._arrived.set()

    def _take_batch(self) -> list[_Pending]:
        """The longest batch from the front without one (user, key) twice: the second may need the first's outcome."""
        batch: list[_Pending] = []
        keys: set[tuple[str, str]] = set()
        while self._waiting and len(batch) < BATCH_MAX:
            submission = self._waiting[0].submission
            if submission.key is not None:
                key = (submission.user_id, submission.key)
                if key in keys:
                    break
                keys.add(key)
            batch.append(self._pop())
        return batch

    def _pop(self) -> _Pending:
        """The next that waits. From here on the ledger decides: a later repeat must ask it again."""
        pending = self._waiting.popleft()
        submission = pending.submission
        if submission.key is not None and self._by_key.get((submission.user_id, submission.key)) is pending:
            del self._by_key[submission.user_id, submission.key]
        return pending

    async def _write_batches(self) -> None:
        # What arrives in one turn of the event loop is waiting when this task is woken, and shares a batch.
        while self._waiting or await self._has_more():
            self._arrived.clear()
            while self._waiting:
                await self._write_or_fail(self._take_batch())
        # No await from the last look to here: a submission finds either this lane alive or none.
        del self._writer._lanes[self._board]
        await self._committed.put(None)

    async def _has_more(self) -> bool:
        """Wait for a submission; False when none came in LANE_IDLE_S, or none will."""
        if self._writer._closing:
            return False
        try:
            async with asyncio.timeout(LANE_IDLE_S):
                await self._arrived.wait()
        except TimeoutError:
            return bool(self._waiting)
        return bool(self._waiting) or not self._writer._closing

    async def _write_or_fail(self, batch: list[_Pending]) -> None:
        try:
            await self._write(batch)
        except Exception as exc:  # every waiting client must be told, whatever it was
            for pending in batch:
                self._fail(pending, exc)
            if isinstance(exc, Unavailable):
                self._writer._repair.suspect(self._board)

    def _succeed(self, pending: _Pending, ruling: Ruling, change: RankChange | None) -> None:
        self._writer._queued -= 1 + len(pending.repeats)
        pending.succeed(ruling, change)

    def _fail(self, pending: _Pending, error: Exception) -> None:
        self._writer._queued -= 1 + len(pending.repeats)
        pending.fail(error)

    async def _write(self, batch: list[_Pending]) -> None:
        metrics = self._writer._metrics
        metrics.batch_size.observe(len(batch))
        started = perf_counter()
        try:
            rulings = await self._record([pending.submission for pending in batch])
        except BatchRefused:
            await self._write_singly(batch)
        else:
            self._transaction_s = perf_counter() - started
            metrics.ledger_seconds.observe(self._transaction_s)
            await self._committed.put((batch, rulings))

    async def _record(self, submissions: list[Submission]) -> list[Ruling]:
        """One transaction, again when it lost against another one: nothing was recorded then."""
        for _ in range(ATTEMPTS - 1):
            try:
                async with self._writer._transactions:
                    return await self._writer._ledger.submit_scores(self._board, submissions)
            except RolledBack:
                self._writer._metrics.rolled_back.inc()
        async with self._writer._transactions:
            return await self._writer._ledger.submit_scores(self._board, submissions)

    async def _write_singly(self, batch: list[_Pending]) -> None:
        """Repeat a batch that one submission made fail, each in its own transaction, in order."""
        for pending in batch:
            try:
                rulings = await self._submit_alone(pending.submission)
            except ScoreboardError as exc:
                self._fail(pending, exc)
            else:
                await self._committed.put(([pending], rulings))

    async def _submit_alone(self, submission: Submission) -> list[Ruling]:
        for _ in range(ATTEMPTS):
            try:
                return await self._record([submission])
            except BatchRefused as exc:
                refusal = exc
        # A key that races with another board's is a replay at the second try; this is something else.
        log.error("submission_refused", board=self._board, user=submission.user_id, error=str(refusal))
        raise Unavailable(
            f"the submission of {submission.user_id!r} can't be recorded now; repeat it with the same key"
        ) from refusal

    async def _rank_batches(self) -> None:
        while (committed := await self._committed.get()) is not None:
            batch, rulings = committed
            changes: dict[int, RankChange] = {}
            try:
                changes = await self._rank(batch, rulings)
            except Exception:  # committed is committed: the answer never depends on the ranks
                log.exception("ranking_failed", board=self._board)
                self._writer._repair.suspect(self._board)
            last = max(rulings, key=lambda ruling: ruling.seq)
            if last.seq:
                self._writer._on_answer(self._board, Head(last.epoch, last.seq, format_time(last.at)))
            for pending, ruling in zip(batch, rulings, strict=True):
                self._succeed(pending, ruling, changes.get(ruling.seq))

    async def _rank(self, batch: list[_Pending], rulings: list[Ruling]) -> dict[int, RankChange]:
        """Apply a batch's events; the rank changes by seq, empty while the ranking is away or behind."""
        if self._writer._repair.is_suspect(self._board):
            return {}
        events = [
            Event(
                r.seq,
                p.submission.user_id,
                p.submission.action_id,
                r.points,
                r.score,
                r.at,
                "score",
                r.hidden,
                r.windows,
                r.periods,
                r.name,
            )
            for p, r in zip(batch, rulings, strict=True)
            if r.outcome == "recorded"
        ]
        changes: dict[int, RankChange] = {}
        started = perf_counter()
        try:
            if events:
                previous_at = rulings[0].previous_at
                applied = await self._apply(rulings[0].epoch, events, format_time(previous_at) if previous_at else "")
                if applied.status != "applied":
                    self._writer._repair.suspect(self._board)
                    return {}
                changes = {e.seq: c for e, c in zip(events, applied.changes, strict=True) if c is not None}
            changes |= await self._look_up(batch, rulings, changes)
        except (RanksUnavailable, Unavailable, NotFound):
            self._writer._repair.suspect(self._board)
        else:
            self._writer._metrics.ranks_seconds.observe(perf_counter() - started)
        return changes

    async def _look_up(
        self, batch: list[_Pending], rulings: list[Ruling], known: dict[int, RankChange]
    ) -> dict[int, RankChange]:
        """The ranks of now for replays, and for events that another server's replay applied before us."""
        unknown = [(p, r) for p, r in zip(batch, rulings, strict=True) if r.seq and not r.hidden and r.seq not in known]
        if not unknown:
            return {}
        aged = await self._writer._ranks.read_users(self._board, [p.submission.user_id for p, _ in unknown])
        if aged is None or aged.standings is None:
            return {}
        return {
            r.seq: RankChange(standing.rank, standing.rank if r.outcome == "replayed" else None)
            for (_, r), standing in zip(unknown, aged.standings.users, strict=True)
            if standing is not None
        }

    async def _apply(self, epoch: str, events: list[Event], previous_at: str) -> Applied:
        applied = await self._writer._ranks.apply_events(self._board, epoch, events, previous_at=previous_at)
        if applied.status == "gap":
            # Another server committed before us and is still on its way, or never will be: do its part too.
            await self._writer._repair.replay(self._board, epoch, through=events[0].seq - 1)
            applied = await self._writer._ranks.apply_events(self._board, epoch, events, previous_at=previous_at)
        return applied
