"""The feed: follows the boards in use, and finds where a stream begins.

A board's log follows what the ranking publishes. When a message is missing (a lost subscription, a rebuilt ranking)
the log is *stale* until the gap has been filled from the ledger; a gap too large to fill, or another epoch, is told
to every reader by a reset and a snapshot. Never a silent gap.
"""

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic

import msgspec
import structlog

from scoreboard import frames
from scoreboard.board_log import LOG_EVENTS_MAX, BoardLog, Entry
from scoreboard.errors import NotFound, RanksUnavailable, Unavailable
from scoreboard.frames import Message, Update
from scoreboard.ledger import Ledger
from scoreboard.metrics import Metrics
from scoreboard.model import TOP_SIZE, Head, Page, Position, RankChange
from scoreboard.pump import Pump
from scoreboard.ranks import Ranks, Subscription
from scoreboard.reads import Reads

RESUME_EVENTS_MAX = 1_000
"""How far a log is continued from the ledger; readers further behind are reset."""
WATCH_S = 1.0
BOARD_IDLE_S = 60.0
"""A board is followed for this long after it was last read or streamed."""

Beginning = tuple[BoardLog, Callable[[], bytes]]
"""Where a stream begins: its log, and a function that gives its first bytes at the moment of joining."""

log = structlog.get_logger(__name__)


class Feed:
    """All boards that this server follows. :param on_seen: called with every event that readers may come to know."""

    def __init__(
        self,
        ledger: Ledger,
        ranks: Ranks,
        reads: Reads,
        pump: Pump,
        metrics: Metrics,
        on_seen: Callable[[str, Head], None],
    ) -> None:
        self._ledger = ledger
        self._ranks = ranks
        self._reads = reads
        self._pump = pump
        self._metrics = metrics
        self._on_seen = on_seen
        self._boards: dict[str, BoardLog] = {}
        self._opening: dict[str, asyncio.Task[BoardLog]] = {}
        self._early: dict[str, list[Message]] = {}
        self._reaching_back: dict[str, asyncio.Task[None]] = {}
        self._refreshing: dict[str, asyncio.Task[None]] = {}
        self._wanted: set[str] = set()
        self.subscription: Subscription = ranks.subscription(self._on_message, self._on_connect)

    # -- following boards

    def get(self, board: str) -> BoardLog | None:
        """The board's feed if it is open and right: not stale, and its subscription proven."""
        feed = self._boards.get(board)
        if feed is None or feed.stale or not self.subscription.proven:
            return None
        feed.used_at = monotonic()
        return feed

    async def open(self, board: str) -> BoardLog:
        """Follow a board.

        :raises NotFound: if there is no such board.
        :raises Unavailable: if neither store answers.
        """
        feed = self._boards.get(board)
        if feed is None:
            task = self._opening.get(board)
            if task is None:
                task = self._opening[board] = asyncio.create_task(self._open(board), name=f"open-feed:{board}")
                task.add_done_callback(lambda _: self._opening.pop(board, None))
            feed = await asyncio.shield(task)
        feed.used_at = monotonic()
        return feed

    async def _open(self, board: str) -> BoardLog:
        self._early[board] = []
        stale = False
        try:
            try:
                await self.subscription.subscribe(board)
            except RanksUnavailable:
                stale = True  # the reconnect subscribes again and refreshes
            feed = BoardLog(board, await self._reads.read_page(board, offset=0, limit=TOP_SIZE))
        except NotFound:
            await self._unsubscribe(board)
            raise
        finally:
            early = self._early.pop(board)
        feed.stale = stale or not all(feed.accept(message) for message in early)
        self._boards[board] = feed
        if feed.stale and not stale:
            self.refresh(board)
        return feed

    def _on_message(self, board: str, data: bytes) -> None:
        try:
            message = frames.parse_message(data)
        except msgspec.MsgspecError:
            log.error("message_not_understood", board=board, head=data[:200])
            self.refresh(board)
            return
        feed = self._boards.get(board)
        if feed is not None:
            if feed.accept(message):
                self._on_seen(board, Head(message.epoch, message.seq, message.at))
                self._pump.mark(feed)
            else:
                self.refresh(board)
        elif board in self._early and len(self._early[board]) < LOG_EVENTS_MAX:
            self._early[board].append(message)

    def _on_connect(self) -> None:
        for board in self._boards:
            self.refresh(board)

    def refresh(self, board: str) -> None:
        """Make the board's log reach the ranking again, in the background."""
        feed = self._boards.get(board)
        if feed is None:
            return
        feed.stale = True
        self._wanted.add(board)
        if board not in self._refreshing:
            task = asyncio.create_task(self._refresh(feed), name=f"refresh-feed:{board}")
            self._refreshing[board] = task
            task.add_done_callback(lambda _: self._refreshing.pop(board, None))

    async def _refresh(self, feed: BoardLog) -> None:
        try:
            # Whoever asks while this is under way may know of something newer than the page that was read.
            while feed.board in self._wanted:
                self._wanted.discard(feed.board)
                page = await self._reads.read_page(feed.board, offset=0, limit=TOP_SIZE)
                if page.position.epoch != feed.epoch:
                    feed.restart(page, "epoch")
                elif page.position.seq > feed.seq and not await self._fill_gap(feed, page):
                    feed.restart(page, "too_far_behind")
            feed.stale = False
            self._pump.mark(feed)
        except (Unavailable, RanksUnavailable, NotFound):
            pass  # stays stale; the sweep tries again
        except Exception:  # a bug here must not silence the board for good
            log.exception("refresh_failed", board=feed.board)

    async def _fill_gap(self, feed: BoardLog, page: Page) -> bool:
        """Append what the ledger has between the log and a page as one step; False if it is too much."""
        updates = await self._read_updates(feed.board, feed.seq, page.position.seq)
        if updates is None:
            return False
        missed = [update for update in updates if update.seq > feed.seq]
        if missed:  # messages may have closed the gap meanwhile
            entry = Entry(feed.epoch, feed.seq, page.position.seq, _encode_updates(missed))
            feed.append(entry, tuple((e.user_id, e.score) for e in page.entries), page.total)
        return True

    async def _read_updates(self, board: str, after: int, through: int) -> list[Update] | None:
        """The events in (after, through]; None if they are more than RESUME_EVENTS_MAX.

        What the rank was right after each is forgotten: both ranks are that of now, as of a player who did not move,
        but for a first score, which has none before. Without a ranking both are None.
        """
        if through - after > RESUME_EVENTS_MAX:
            return None
        events = await self._ledger.read_events(board, after=after, limit=through - after)
        users = list({event.user_id for event in events})
        ranks: dict[str, int] = {}
        try:
            aged = await self._ranks.read_users(board, users) if users else None
        except RanksUnavailable:
            aged = None
        if aged is not None:
            ranks = {u: s.rank for u, s in zip(users, aged.standings, strict=True) if s is not None}
        scored = set(await self._ledger.read_scores_at(board, users, after)) if ranks else set()
        updates = []
        for event in events:
            rank = ranks.get(event.user_id)
            change = RankChange(rank, rank if event.user_id in scored else None) if rank is not None else None
            updates.append(frames.make_update(event, change))
            scored.add(event.user_id)
        return updates

    # -- where a stream begins

    async def begin(self, board: str, kinds: int, last: str | None) -> Beginning:
        """Prepare a stream: the feed, and a function that gives its first bytes at the moment of joining.

        The function is for ``Pump.join``, which calls it and registers the reader in one step of the event loop, so
        that no event falls between.

        :param last: the reader's Last-Event-ID, or None for a fresh one.
        """
        feed = await self.open(board)
        begun = self.begin_now(board, kinds, last)
        if begun is not None:
            return begun
        position = parse_position(last or "")
        if position is None:
            return feed, self._reset(feed, "malformed", kinds)
        if position.epoch != feed.epoch or position.seq > feed.seq:
            await self._look_ahead(feed)
        if position.epoch != feed.epoch:
            return feed, self._reset(feed, "epoch", kinds)
        if position.seq > feed.seq:
            return feed, self._reset(feed, "future", kinds)
        start = "resumed"
        if position.seq < feed.start_seq:
            start = "replayed"
            await self._reach_back(feed)
            if position.seq < feed.start_seq:
                return feed, self._reset(feed, "too_far_behind", kinds)
        self._metrics.streams_opened.labels(start).inc()
        return feed, lambda: self._since(feed, position.seq, kinds)

    def begin_now(self, board: str, kinds: int, last: str | None) -> Beginning | None:
        """As :meth:`begin`, if the log that is open already has all that the reader needs; else None."""
        feed = self._boards.get(board)
        if feed is None:
            return None
        feed.used_at = monotonic()
        if last is None:
            self._metrics.streams_opened.labels("fresh").inc()
            return feed, lambda: feed.beginning(kinds)
        position = parse_position(last)
        if position is None or position.epoch != feed.epoch or not feed.start_seq <= position.seq <= feed.seq:
            return None
        self._metrics.streams_opened.labels("resumed").inc()
        return feed, lambda: self._since(feed, position.seq, kinds)

    def _reset(self, feed: BoardLog, reason: str, kinds: int) -> Callable[[], bytes]:
        self._metrics.streams_opened.labels("reset").inc()
        return lambda: frames.encode_reset(reason) + feed.beginning(kinds)

    def _since(self, feed: BoardLog, seq: int, kinds: int) -> bytes:
        due = feed.encode_since(seq, kinds)
        if due is None:  # the log moved on or restarted since begin
            return frames.encode_reset("too_far_behind") + feed.beginning(kinds)
        return due[0]

    async def _look_ahead(self, feed: BoardLog) -> None:
        """A reader knows more than this server's log: another server was quicker, or it is lost. Look once."""
        self.refresh(feed.board)
        task = self._refreshing.get(feed.board)
        if task is not None:
            await asyncio.wait([task])

    async def _reach_back(self, feed: BoardLog) -> None:
        """Continue the log backwards to RESUME_EVENTS_MAX: once, for all readers that come back at the same time."""
        task = self._reaching_back.get(feed.board)
        if task is None:
            task = asyncio.create_task(self._read_back(feed), name=f"reach-back:{feed.board}")
            self._reaching_back[feed.board] = task
            task.add_done_callback(lambda _: self._reaching_back.pop(feed.board, None))
        await asyncio.shield(task)

    async def _read_back(self, feed: BoardLog) -> None:
        epoch, after, through = feed.epoch, max(0, feed.seq - RESUME_EVENTS_MAX), feed.start_seq
        if after >= through:
            return
        self._metrics.reached_back.inc()
        updates = await self._read_updates(feed.board, after, through)
        if updates is not None and len(updates) == through - after:
            feed.prepend(epoch, after, through, _encode_updates(updates))

    # -- housekeeping

    async def watch(self) -> None:
        """Look again at boards that hear nothing, and stop following idle ones, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_S)
            for feed in list(self._boards.values()):
                # While nothing is published to us, readers are kept up to date by looking every second.
                if feed.stale or (feed.readers and not self.subscription.proven):
                    self.refresh(feed.board)
                if not feed.readers and monotonic() - feed.used_at > BOARD_IDLE_S:
                    await self._close(feed)

    async def _close(self, feed: BoardLog) -> None:
        del self._boards[feed.board]
        await self._unsubscribe(feed.board)

    async def _unsubscribe(self, board: str) -> None:
        try:
            await self.subscription.unsubscribe(board)
        except RanksUnavailable:
            pass  # the next connection will not ask for it


def _encode_updates(updates: Iterable[Update]) -> list[tuple[int, bytes]]:
    return [(update.seq, frames.encode_update(update)) for update in updates]


def parse_position(text: str) -> Position | None:
    """A position from ``<epoch>-<seq>``, or None if it is none."""
    epoch, _, seq = text.strip().rpartition("-")
    if not epoch or len(epoch) > 32 or not (seq.isascii() and seq.isdigit()) or len(seq) > 16:
        return None
    return Position(epoch, int(seq))
