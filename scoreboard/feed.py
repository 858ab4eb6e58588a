"""The feed: follows the boards in use, and finds where a stream begins.

A board's log follows what the ranking publishes. When a message is missing (a lost subscription, a rebuilt ranking)
the log is *stale* until the gap has been filled from the ledger; a gap too large to fill, or another epoch, is told
to every reader by a reset and a snapshot. Never a silent gap.
"""

import asyncio
from collections.abc import Callable
from time import monotonic, time

import msgspec
import structlog

from scoreboard import frames
from scoreboard.board_log import LOG_EVENTS_MAX, BoardLog, Break, Entry, top_of
from scoreboard.errors import Invalid, NotFound, RanksUnavailable, Unavailable
from scoreboard.frames import Message, Told
from scoreboard.ledger import Ledger
from scoreboard.metrics import Metrics
from scoreboard.model import ALL, TOP_SIZE, WINDOWS, Event, Head, Page, Period, Position, RankChange
from scoreboard.pump import Pump
from scoreboard.ranks import PeriodOver, Ranks
from scoreboard.reads import Reads
from scoreboard.subscription import Subscription

RESUME_EVENTS_MAX = 1_000
"""How far a log is continued from the ledger; readers further behind are reset."""
WATCH_S = 1.0
LOOK_S = 1.0
"""A board's stores are asked at most this often because readers say that they know more: anybody can say so."""
BOARD_IDLE_S = 60.0
"""A board is followed for this long after it was last read or streamed."""

BREAKS = {"settings": "settings", "erase": "erased"}
"""Kinds of events after which nothing that readers know can be relied on, and how they are told."""
Key = tuple[str, str]
"""A board and a window."""
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
        self._logs: dict[Key, BoardLog] = {}
        self._opening: dict[Key, asyncio.Task[BoardLog]] = {}
        self._early: dict[Key, list[Message]] = {}
        self._reaching_back: dict[Key, asyncio.Task[None]] = {}
        self._refreshing: dict[Key, asyncio.Task[None]] = {}
        self._looking: dict[Key, asyncio.Task[None]] = {}
        self._wanted: set[Key] = set()
        self.subscription: Subscription = ranks.subscription(self._on_message, self._on_connect)

    # -- following boards

    def get(self, board: str, window: str = ALL) -> BoardLog | None:
        """The window's log if it is open and right: not stale, its subscription proven, its period not over."""
        log = self._logs.get((board, window))
        if log is None or log.stale or not self.subscription.proven:
            return None
        if log.period is not None and log.period.ends_ms <= time() * 1_000:
            return None
        log.used_at = monotonic()
        return log

    def follows(self, board: str, window: str) -> bool:
        """Whether the window's log is open, so that its first page and streams of it need no store."""
        return (board, window) in self._logs

    async def open(self, board: str, window: str = ALL) -> BoardLog:
        """Follow a window of a board.

        :raises NotFound, Invalid: if there is no such board, or it has no such window.
        :raises Unavailable: if neither store answers.
        """
        key = (board, window)
        log = self._logs.get(key)
        if log is None:
            task = self._opening.get(key)
            if task is None:
                task = self._opening[key] = asyncio.create_task(self._open(key), name=f"open-feed:{board}:{window}")
                task.add_done_callback(lambda _: self._opening.pop(key, None))
            log = await asyncio.shield(task)
        log.used_at = monotonic()
        return log

    async def _open(self, key: Key) -> BoardLog:
        board, window = key
        # Nobody can make us subscribe to what is not there: the same read says so first.
        await self._reads.read_page(board, window, limit=TOP_SIZE)
        self._early[key] = []
        stale = False
        try:
            try:
                await self.subscription.subscribe(board)
            except RanksUnavailable:
                stale = True  # the reconnect subscribes again and refreshes
            followed = BoardLog(board, await self._reads.read_page(board, window, limit=TOP_SIZE))
        except Exception:
            await self._leave(board, failed=key)
            raise
        finally:
            early = self._early.pop(key)
        followed.stale = stale or not all(followed.accept(message) for message in early)
        self._logs[key] = followed
        if followed.stale and not stale:
            self._refresh_log(key)
        return followed

    def _on_message(self, board: str, data: bytes) -> None:
        try:
            message = frames.parse_message(data)
        except msgspec.MsgspecError:
            log.error("message_not_understood", board=board, head=data[:200])
            self.refresh(board)
            return
        is_seen = False
        for window in WINDOWS:
            key = (board, window)
            followed = self._logs.get(key)
            if followed is not None:
                is_accepted = followed.accept(message)
                is_seen = is_seen or is_accepted
                if is_accepted:
                    self._pump.mark(followed)
                if not is_accepted or message.is_replacement:
                    self._refresh_log(key)
            elif key in self._early and len(self._early[key]) < LOG_EVENTS_MAX:
                self._early[key].append(message)
        if is_seen:
            self._on_seen(board, Head(message.epoch, message.seq, message.at))

    def _on_connect(self) -> None:
        for key in self._logs:
            self._refresh_log(key)

    def refresh(self, board: str) -> None:
        """Make the board's logs reach the ranking again, in the background."""
        for window in WINDOWS:
            self._refresh_log((board, window))

    def _refresh_log(self, key: Key, *, is_stale: bool = True) -> None:
        followed = self._logs.get(key)
        if followed is None:
            return
        followed.stale = followed.stale or is_stale
        self._wanted.add(key)
        if key not in self._refreshing:
            task = asyncio.create_task(self._refresh(key, followed), name=f"refresh-feed:{key[0]}:{key[1]}")
            self._refreshing[key] = task
            task.add_done_callback(lambda _: self._refreshing.pop(key, None))

    async def _refresh(self, key: Key, followed: BoardLog) -> None:
        board, window = key
        try:
            # Whoever asks while this is under way may know of something newer than the page that was read.
            while key in self._wanted:
                self._wanted.discard(key)
                page = await self._reads.read_page(board, window, limit=TOP_SIZE)
                if page.position.epoch != followed.epoch:
                    followed.restart(page, Break("epoch", 0))
                elif (broken := await self._fill_gap(followed, page)) is not None:
                    followed.restart(page, broken)
                elif page.position == followed.position and not followed.shows(page):
                    # The ranking was wrong, and so is what readers know of it, up to where they are now.
                    followed.restart(page, Break("rebuilt", page.position.seq + 1))
            followed.stale = False
            self._pump.mark(followed)
        except Invalid:  # the board does not have the window any more: who asks again is told so
            self._forget(key, followed)
            self._pump.end_readers(followed, "window")
            await self._leave(board)
        except (Unavailable, RanksUnavailable, NotFound):
            pass  # stays stale; the sweep tries again
        except Exception:  # a bug here must not silence the board for good
            log.exception("refresh_failed", board=board)

    async def _fill_gap(self, followed: BoardLog, page: Page) -> Break | None:
        """Append what the ledger has between the log and a page as one step; or why that can't be done."""
        if page.position.seq <= followed.seq and not _is_later(page, followed):
            return None
        after, through = followed.seq, page.position.seq
        if through - after > RESUME_EVENTS_MAX:
            return Break("too_far_behind", 0)
        events = await self._read_events(followed.board, after=after, through=through)
        broken = find_break(events)
        if broken is not None:
            return broken
        told = await self._tell(followed.board, followed.window, page.period, events, after=after)
        if page.period is not None and _is_later(page, followed):
            # Of a period that is over nobody needs to know any more.
            begun_at = told[0][0] - 1 if told else page.position.seq
            followed.turn(page.period, max(begun_at, followed.seq))
        missed = [each for each in told if each[0] > followed.seq]
        if page.position.seq > followed.seq:  # messages may have closed the gap meanwhile
            entry = Entry(followed.epoch, followed.seq, page.position.seq, missed)
            followed.append(entry, top_of(page), page.total)
        return None

    async def _read_events(self, board: str, *, after: int, through: int) -> list[Event]:
        """The ledger's events in (after, through]."""
        return await self._ledger.read_events(board, after=after, limit=through - after) if through > after else []

    async def _tell(
        self, board: str, window: str, period: Period | None, events: list[Event], *, after: int
    ) -> list[Told]:
        """What is to be told of events that follow a seq, of those in the period.

        What the rank was right after each is forgotten: both ranks are that of now, as of a player who did not move,
        but for a first score, which has none before. Without a ranking both are None.
        """
        if period is not None:
            events = [event for event in events if _is_in(event, period)]
        users = list({event.user_id for event in events})
        ranks: dict[str, int] = {}
        try:
            aged = await self._ranks.read_users(board, users, window) if users else None
        except (RanksUnavailable, PeriodOver):
            aged = None
        if aged is not None and aged.standings is not None:
            ranks = {u: s.rank for u, s in zip(users, aged.standings.users, strict=True) if s is not None}
        scored = set(await self._ledger.read_scores_at(board, users, after)) if ranks else set()
        told = []
        for event in events:
            rank = ranks.get(event.user_id)
            change = RankChange(rank, rank if event.user_id in scored else None) if rank is not None else None
            frame = frames.tell_event(event, window, change)
            if frame is not None:
                told.append(frame)
            scored.add(event.user_id)
        return told

    # -- where a stream begins

    async def begin(self, board: str, kinds: int, last: str | None, window: str = ALL) -> Beginning:
        """Prepare a stream: the log, and a function that gives its first bytes at the moment of joining.

        The function is for ``Pump.join``, which calls it and registers the reader in one step of the event loop, so
        that no event falls between.

        :param last: the reader's Last-Event-ID, or None for a fresh one.
        """
        followed = await self.open(board, window)
        if followed.period is not None and self.get(board, window) is None:
            followed = await self._look_again(followed)  # its period may be over
        begun = self.begin_now(board, kinds, last, window)
        if begun is not None:
            return begun
        position = parse_position(last or "")
        if position is None:
            return followed, self._reset(followed, "malformed", kinds)
        if position.epoch != followed.epoch or position.seq > followed.seq:
            followed = await self._look_again(followed)
        if position.epoch != followed.epoch:
            return followed, self._reset(followed, "epoch", kinds)
        if position.seq > followed.seq:
            return followed, self._reset(followed, "future", kinds)
        start = "resumed"
        if not followed.reaches(position.seq):
            start = "replayed"
            await self._reach_back(followed)
            if not followed.reaches(position.seq):
                return followed, self._reset(followed, followed.why_lost(position.seq), kinds)
        self._metrics.streams_opened.labels(start).inc()
        return followed, lambda: self._since(followed, position, kinds)

    def begin_now(self, board: str, kinds: int, last: str | None, window: str = ALL) -> Beginning | None:
        """As :meth:`begin`, if the log that is open already has all that the reader needs; else None."""
        followed = self._logs.get((board, window))
        if followed is None:
            return None
        followed.used_at = monotonic()
        if last is None:
            self._metrics.streams_opened.labels("fresh").inc()
            return followed, lambda: followed.beginning(kinds)
        position = parse_position(last)
        if position is None or position.epoch != followed.epoch or not followed.reaches(position.seq):
            return None
        self._metrics.streams_opened.labels("resumed").inc()
        return followed, lambda: self._since(followed, position, kinds)

    def _reset(self, followed: BoardLog, reason: str, kinds: int) -> Callable[[], bytes]:
        self._metrics.streams_opened.labels("reset").inc()
        return lambda: frames.encode_reset(reason) + followed.beginning(kinds)

    def _since(self, followed: BoardLog, position: Position, kinds: int) -> bytes:
        due = followed.encode_since(position.seq, kinds) if position.epoch == followed.epoch else None
        if due is None:  # the log moved on or restarted since begin
            reason = "epoch" if position.epoch != followed.epoch else followed.why_lost(position.seq)
            return frames.encode_reset(reason) + followed.beginning(kinds)
        return due[0]

    async def _look_again(self, followed: BoardLog) -> BoardLog:
        """A reader knows more than this server's log: another server was quicker, or it is lost. Look once.

        :raises Invalid: if the board has lost the window meanwhile.
        """
        key = (followed.board, followed.window)
        task = self._looking.get(key)
        if task is None:
            task = asyncio.create_task(self._look(key, followed), name=f"look-again:{key[0]}:{key[1]}")
            self._looking[key] = task
        await asyncio.shield(task)
        return await self.open(*key)

    async def _look(self, key: Key, followed: BoardLog) -> None:
        """Look for all who have come to ask by then, once LOOK_S have passed since the last look."""
        try:
            await asyncio.sleep(max(0.0, followed.looked_at + LOOK_S - monotonic()))
        finally:
            del self._looking[key]  # who comes from here on may know of something newer than what is read
        followed.looked_at = monotonic()
        self._metrics.looked_again.inc()
        self._refresh_log(key, is_stale=False)
        task = self._refreshing.get(key)
        if task is not None:
            await asyncio.wait([task])

    async def _reach_back(self, followed: BoardLog) -> None:
        """Continue the log backwards to RESUME_EVENTS_MAX: once, for all readers that come back at the same time."""
        key = (followed.board, followed.window)
        task = self._reaching_back.get(key)
        if task is None:
            task = asyncio.create_task(self._read_back(followed), name=f"reach-back:{key[0]}:{key[1]}")
            self._reaching_back[key] = task
            task.add_done_callback(lambda _: self._reaching_back.pop(key, None))
        await asyncio.shield(task)

    async def _read_back(self, followed: BoardLog) -> None:
        """Continue a log backwards, as far as to the latest break: those who know that one need nothing from before.

        Where it ends then it can't be continued further, so whoever says that it knows less costs nothing.
        """
        epoch, through = followed.epoch, followed.start_seq
        after = max(followed.broken.seq, followed.seq - RESUME_EVENTS_MAX)
        if after >= through:
            return
        self._metrics.reached_back.inc()
        events = await self._read_events(followed.board, after=after, through=through)
        broken = find_break(events)
        if broken is not None:
            events, after = [event for event in events if event.seq > broken.seq], broken.seq
        told = await self._tell(followed.board, followed.window, followed.period, events, after=after)
        if epoch == followed.epoch:
            if broken is not None:
                followed.note_break(broken)
            followed.prepend(epoch, after, through, told)

    # -- housekeeping

    async def watch(self) -> None:
        """Look again at boards that hear nothing, and stop following idle ones, until cancelled."""
        while True:
            await asyncio.sleep(WATCH_S)
            for key, followed in list(self._logs.items()):
                # While nothing is published to us, readers are kept up to date by looking every second.
                is_over = followed.period is not None and followed.period.ends_ms <= time() * 1_000
                if followed.stale or (followed.readers and (is_over or not self.subscription.proven)):
                    self._refresh_log(key)
                if not followed.readers and monotonic() - followed.used_at > BOARD_IDLE_S:
                    self._forget(key, followed)
                    await self._leave(followed.board)

    def _forget(self, key: Key, followed: BoardLog) -> None:
        """Follow a window no longer, unless that log has given its place to another already."""
        followed.is_over = True
        if self._logs.get(key) is followed:
            del self._logs[key]

    async def _leave(self, board: str, *, failed: Key | None = None) -> None:
        """Stop listening to a board, unless a window of it is followed or about to be.

        :param failed: the one that could not be opened.
        """
        keys = [(board, window) for window in WINDOWS]
        if any(key in self._logs or (key in self._opening and key != failed) for key in keys):
            return
        try:
            await self.subscription.unsubscribe(board)
        except RanksUnavailable:
            pass  # the next connection will not ask for it


def _is_later(page: Page, followed: BoardLog) -> bool:
    """Whether a page is of a later period than a log."""
    if page.period is None or followed.period is None:
        return False
    return page.period.first_day > followed.period.first_day


def _is_in(event: Event, period: Period) -> bool:
    return any(period.window == each.window and period.first_day == each.first_day for each in event.periods)


def find_break(events: list[Event]) -> Break | None:
    """The last event after which nothing that readers knew before can be relied on."""
    return next((Break(BREAKS[event.kind], event.seq) for event in reversed(events) if event.kind in BREAKS), None)


def parse_position(text: str) -> Position | None:
    """A position from ``<epoch>-<seq>``, or None if it is none."""
    epoch, _, seq = text.strip().rpartition("-")
    if not epoch or len(epoch) > 32 or not (seq.isascii() and seq.isdigit()) or len(seq) > 16:
        return None
    return Position(epoch, int(seq))
