"""Writer, repair, feed and pump of two servers in every order that hypothesis can find: P1 to P5 without sockets.

The parts are the real ones; the stores and the clock are simulated, so that each step is chosen: which call goes on,
whether its request or its answer is lost, when time passes, when a store loses what it had. Whatever happens, once
the faults end everything ends up right, and every submission has exactly one answer.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scoreboard.acknowledged import Acknowledged
from scoreboard.board_log import BoardLog, Reader
from scoreboard.costly import Costly
from scoreboard.errors import Overloaded, Unavailable
from scoreboard.feed import Feed
from scoreboard.frames import LEADERBOARD, SCORES
from scoreboard.metrics import Metrics
from scoreboard.model import Submission, format_time
from scoreboard.pump import RESET_S, Pump
from scoreboard.reads import Reads
from scoreboard.repair import Repair
from scoreboard.writer import Receipt, Writer
from tests.harness import Frame, Parser
from tests.property.simulation import LedgerState, RanksState, SimulatedLedger, SimulatedRanks, World

BOARD = "global"
STEPS_MAX = 120
FLOW_STEPS = 20
CALM_STEPS_MAX = 4_000
"""Steps after the last fault within which everything must be right; it takes a few hundred."""
USERS = ["a", "b", "c"]
KEYS = [None, None, None, "k1", "k2"]
MODULES_WITH_A_CLOCK = ("repair", "feed", "board_log", "pump")


@dataclass
class Asked:
    """A submission and its answer. ``era``: how often the database had been restored when it was made."""

    submission: Submission
    task: "asyncio.Task[Receipt]"
    era: int


class Follower:
    """Somebody who reads the stream, is cut off, and comes back to either server with the last id that came.

    It is the transport of its own connection. What was written to it is read later, or in part when it is cut.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.scores: dict[object, object] = {}
        self.top: list[tuple[object, object]] = []
        self.last: str | None = None
        self.awaits_snapshot = True
        self.reset_at = float("-inf")
        self._connecting: asyncio.Task[None] | None = None
        self._pump: Pump | None = None
        self._reader: Reader | None = None
        self._parser = Parser()
        self._unread = b""

    @property
    def is_reading(self) -> bool:
        return self._reader is not None and self._reader.log is not None

    def connect(self, server: "Server") -> None:
        """Come back to a server, unless that is under way; a server that can't tell now is asked again later."""
        if self.is_reading or (self._connecting is not None and not self._connecting.done()):
            return
        self._parser, self._unread, self._pump = Parser(), b"", server.pump
        self.reset_at = float("-inf")
        self._connecting = self._world.loop.create_task(self._connect(server))
        self._connecting.add_done_callback(lambda task: task.cancelled() or task.exception())
        self._world.loop.settle()

    async def _connect(self, server: "Server") -> None:
        self.awaits_snapshot = self.last is None  # with an id it is what was known then that is gone on from
        log, first = await server.feed.begin(BOARD, SCORES | LEADERBOARD, self.last)
        self._reader = Reader(self, SCORES | LEADERBOARD, chunked=False)
        server.pump.join(log, self._reader, first)

    def cut(self, share: float) -> None:
        """The connection breaks when a share of what is on its way has come."""
        if self._reader is not None and self._pump is not None:
            self._pump.leave(self._reader)
            self._read(self._unread[: round(len(self._unread) * share)])
            self._reader, self._unread = None, b""

    def read(self) -> None:
        data, self._unread = self._unread, b""
        self._read(data)

    def _read(self, data: bytes) -> None:
        self._parser.feed(data)
        for frame in self._parser.take():
            self._take(frame)

    def _take(self, frame: Frame) -> None:
        if frame.event == "reset":
            self.awaits_snapshot = True
            return
        is_snapshot = self.awaits_snapshot
        if frame.event == "leaderboard":
            self.top = [(entry["userId"], entry["score"]) for entry in frame.data["top10"]]  # type: ignore[attr-defined]
            if self.awaits_snapshot:  # there are few users, so that it has them all
                self.scores, self.awaits_snapshot = dict(self.top), False
        elif frame.data["score"] is None:
            self.scores.pop(frame.data["userId"], None)
        else:
            self.scores[frame.data["userId"]] = frame.data["score"]
        if frame.id is not None:
            epoch, _, seq = frame.id.rpartition("-")
            before, _, known = (self.last or f"{epoch}-0").rpartition("-")
            assert not self.awaits_snapshot, f"{frame} came before a snapshot"
            assert is_snapshot or (epoch == before and int(seq) >= int(known)), f"{self.last} was followed by {frame}"
            self.last = frame.id

    def write(self, data: bytes) -> None:
        if b"event: reset" in data and not data.startswith(b"retry: "):
            now = self._world.loop.now
            assert now - self.reset_at > RESET_S - 0.001, "two resets within a second"
            self.reset_at = now
        self._unread += data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        self._reader = None

    abort = close


class Server:
    """The parts of one server on the simulated stores."""

    def __init__(self, world: World) -> None:
        self.ledger, self.ranks = SimulatedLedger(world), SimulatedRanks(world)
        metrics = Metrics()
        self.repair = Repair(self.ledger, self.ranks, metrics, on_healed=lambda board: self.feed.refresh(board))  # type: ignore[arg-type]
        self.acknowledged = Acknowledged()
        costly = Costly(self.ledger, metrics)  # type: ignore[arg-type]
        self.reads = Reads(self.ledger, self.ranks, self.repair, metrics, self.acknowledged, costly)  # type: ignore[arg-type]
        self.pump = Pump(metrics)
        self.feed = Feed(self.ledger, self.ranks, self.reads, self.pump, metrics, on_seen=self.repair.see)  # type: ignore[arg-type]
        self.writer = Writer(self.ledger, self.ranks, self.repair, metrics, on_answer=self._answer)  # type: ignore[arg-type]
        background = (self.repair.run, self.feed.watch, self.pump.run, self.pump.sweep)
        self.tasks = [world.loop.create_task(run()) for run in background]
        self._world = world
        self.open()

    def open(self) -> None:
        """Somebody wants to read the stream."""
        self.opening = self._world.loop.create_task(self.feed.open(BOARD))
        self.opening.add_done_callback(lambda opening: opening.cancelled() or opening.exception())

    def _answer(self, board: str, head: object) -> None:
        self.acknowledged.note(board, head.position)  # type: ignore[attr-defined]
        self.repair.acknowledge(board, head)  # type: ignore[arg-type]

    @property
    def log(self) -> BoardLog | None:
        return self.feed._logs.get((BOARD, "all"))


class Play:
    """One run: two servers, and everything that was asked of them."""

    def __init__(self, world: World, data: st.DataObject | None) -> None:
        self.world = world
        self._data = data
        self.servers = [Server(world), Server(world)]
        for server in self.servers:
            server.repair.use(BOARD)
        world.loop.settle()
        self.asked: list[Asked] = []
        self.era = 0
        self.backup: LedgerState | None = None
        self.snapshot: RanksState | None = None
        self.followers = [Follower(world), Follower(world)]
        self.calm_down()
        for server in self.servers:
            assert server.log is not None
            # Somebody reads: a board without readers is closed and begun anew, which mends whatever is wrong with it.
            server.log.readers.add(Reader(Follower(world), 0, chunked=False))

    @property
    def data(self) -> st.DataObject:
        assert self._data is not None, "what happens by chance needs somebody to choose"
        return self._data

    def step(self) -> None:
        """Something happens."""
        steps = ["submit", "submit", "submit", "change user", "pass time", "deliver", "read", "cut"]
        steps += ["go on"] * 5 + ["flow"] if self.world.calls else []
        rarely = self.data.draw(st.integers(0, 9))
        if rarely == 9:
            steps = [
                "flush",
                "take snapshot",
                "old ranking",
                "take backup",
                "restore",
                "lose both",
                "lose messages",
                "deliver again",
                "evict",
                "change settings",
            ]
        getattr(self, self.data.draw(st.sampled_from(steps)).replace(" ", "_"))()
        self.check_always()

    def submit(self) -> None:
        draw = self.data.draw
        user, action = draw(st.sampled_from(USERS)), draw(st.sampled_from(["win", "win", "lose", "none"]))
        self.ask(draw(st.sampled_from(self.servers)), user, action, draw(st.sampled_from(KEYS)))

    def ask(self, server: Server, user: str, action: str = "win", key: str | None = None) -> None:
        submission = Submission(BOARD, user, action, key)
        task = self.world.loop.create_task(server.writer.submit_score(submission))
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        self.asked.append(Asked(submission, task, self.era))
        self.world.loop.settle()

    def go_on(self) -> None:
        index = self.data.draw(st.integers(0, len(self.world.calls) - 1))
        call = self.world.calls[index]
        fates = ["done"] * 7 + ["lost"]
        fates += ["rolled back"] if call.name == "submit_scores" and not call.is_executed else []
        self.world.go_on(index, self.data.draw(st.sampled_from(fates)))  # type: ignore[arg-type]

    def flow(self) -> None:
        """A quiet moment: nothing is lost for some steps."""
        for _ in range(FLOW_STEPS):
            if self.world.calls:
                self.world.go_on(0, "done")

    def pass_time(self) -> None:
        self.world.loop.advance(self.data.draw(st.sampled_from([None, 0.001, 0.6])))

    def deliver(self) -> None:
        for server in self.servers:
            if server.feed.subscription.queue:
                self.world.loop.call_soon(server.feed.subscription.deliver)  # type: ignore[attr-defined]
        self.world.loop.settle()

    def read(self) -> None:
        for follower in self.followers:
            follower.read()

    def cut(self) -> None:
        """A reader is cut off, comes back, or both."""
        follower = self.data.draw(st.sampled_from(self.followers))
        if self.data.draw(st.booleans()):
            follower.cut(self.data.draw(st.floats(0, 1)))
        follower.connect(self.data.draw(st.sampled_from(self.servers)))

    def change_user(self) -> None:
        """A user is hidden, shown or erased: committed, and ranked by whoever asked for it, or by nobody."""
        kind, user = (
            self.data.draw(st.sampled_from(["hide", "unhide", "erase"])),
            self.data.draw(st.sampled_from(USERS)),
        )
        self.change(kind, user, self.data.draw(st.sampled_from([*self.servers, None])))

    def change_settings(self) -> None:
        self.change("settings", "", self.data.draw(st.sampled_from([*self.servers, None])))

    def change(self, kind: str, user: str, server: Server | None) -> None:
        head = self.world.ledger.change(kind, user, self.world.clock())
        if head is not None and server is not None:
            server._answer(BOARD, head)
            telling = server.repair.catch_up(BOARD, head, erased=user if kind == "erase" else None)
            self.world.loop.create_task(telling)
            self.world.loop.settle()

    def flush(self) -> None:
        self.world.ranks = RanksState()

    def evict(self) -> None:
        """A key goes and the other stays."""
        if self.data.draw(st.booleans()):
            self.world.ranks.scores = {}
        else:
            self.world.ranks.head = None

    def take_snapshot(self) -> None:
        self.snapshot = self.world.ranks.copy()

    def old_ranking(self) -> None:
        """A stale replica is promoted."""
        if self.snapshot is not None:
            self.world.ranks = self.snapshot.copy()

    def take_backup(self) -> None:
        self.backup = self.world.ledger.copy()

    def restore(self) -> None:
        """The database comes back as it was; that takes a moment, so that its new events are later than the lost."""
        if self.backup is not None:
            self.world.ledger = self.backup.copy()
            self.era += 1
            self.world.loop.advance(1.0)

    def lose_both(self) -> None:
        self.flush()
        self.restore()

    def lose_messages(self) -> None:
        server = self.data.draw(st.sampled_from(self.servers))
        self.world.loop.call_soon(server.feed.subscription.lose)  # type: ignore[attr-defined]
        self.world.loop.settle()

    def deliver_again(self) -> None:
        """A batch comes once more, from wherever it was held up: any events of this history that follow each other."""
        events = [
            msgspec.structs.replace(event, user_id="") if event.kind == "erase" else event
            for event, _ in self.world.ledger.events
        ]
        if events:
            first = self.data.draw(st.integers(0, len(events) - 1))
            last = self.data.draw(st.integers(first, min(first + 4, len(events) - 1)))
            previous_at = format_time(events[first - 1].at) if first else ""
            epoch = self.world.ledger.head().epoch
            self.world.ranks.apply(epoch, events[first : last + 1], previous_at, self.world.publish)

    # -- what must hold

    def check_always(self) -> None:
        """P3, and P4 as far as it holds at every moment: a whole ranking of this history is the ledger at its head."""
        check_ledger(self.world.ledger)
        head, ranks = self.world.ranks.head, self.world.ranks
        events = self.world.ledger.events
        if head is not None and ranks.is_whole and self.era == 0 and head.epoch == self.world.ledger.head().epoch:
            assert head.seq <= len(events)
            # Who was erased later is in the ranking until that event is.
            erased = {user for seq, user in self.world.ledger.erased if seq > head.seq}
            shown = {user: score for user, score in ranks.scores.items() if user not in erased}
            assert shown == self.world.ledger.scores(head.seq)

    def calm_down(self) -> None:
        """No more faults: every call goes on, messages arrive, time passes, until all is right."""
        for _ in range(CALM_STEPS_MAX):
            if self.world.calls:
                self.world.go_on(0, "done")
            elif any(server.feed.subscription.queue for server in self.servers):  # type: ignore[attr-defined]
                self.deliver()
            elif self.is_right():
                return
            else:
                for server in self.servers:
                    if server.log is None and server.opening.done():
                        server.open()
                for number, follower in enumerate(self.followers):
                    follower.read()
                    follower.connect(self.servers[number])
                self.world.loop.advance()
            self.check_always()
        raise AssertionError(self.wrong())

    def is_right(self) -> bool:
        return not self.wrong()

    def wrong(self) -> list[str]:
        """What is not as it must be in the end."""
        ledger, ranks = self.world.ledger, self.world.ranks
        found = [f"no answer to {asked.submission}" for asked in self.asked if not asked.task.done()]
        if ranks.head != ledger.head() or ranks.scores != ledger.scores():
            found.append(f"the ranking is at {ranks.head} with {ranks.scores}, the ledger at {ledger.head()}")
        for server in self.servers:
            log = server.log
            if server.repair.is_suspect(BOARD):
                found.append("the board is still suspect")
            if log is None or log.position != ledger.head().position or log.stale:
                found.append(f"a server's readers are at {log and log.position}, the ledger at {ledger.head()}")
            elif tuple((entry.user_id, entry.score) for entry in log.top) != tuple(ledger.order()):
                found.append(f"readers see {log.top}, the ledger says {ledger.order()}")
        for follower in self.followers:
            if not follower.is_reading or follower.scores != ledger.scores() or follower.top != ledger.order():
                found.append(f"who follows the stream knows {follower.scores}, {follower.top}, not {ledger.order()}")
        return found

    def check_answers(self) -> None:
        """P1 and P2: an acknowledged event is in the ledger as told, and each key has one."""
        events = {event.seq: (event, key) for event, key in self.world.ledger.events}
        pairs = [(event.user_id, key) for event, key in events.values() if key is not None]
        assert len(pairs) == len(set(pairs))
        for asked in self.asked:
            try:
                ruling = asked.task.result().ruling
            except (Unavailable, Overloaded):
                continue
            if asked.era == self.era and ruling.outcome in ("recorded", "replayed"):
                event, key = events[ruling.seq]
                if event.user_id.startswith("erased-"):
                    continue
                assert (event.user_id, event.action_id) == (asked.submission.user_id, asked.submission.action_id)
                assert (event.points, event.score, event.at) == (ruling.points, ruling.score, ruling.at)
                assert key == asked.submission.key or ruling.outcome == "recorded"

    def end(self) -> None:
        while tasks := asyncio.all_tasks(self.world.loop):
            for task in tasks:
                task.cancel()
            self.world.loop.advance()


def check_ledger(state: LedgerState) -> None:
    sums: dict[str, int] = {}
    for number, (event, _) in enumerate(state.events, start=1):
        if event.kind == "settings":
            continue
        sums[event.user_id] = sums.get(event.user_id, 0) + event.points
        assert (event.seq, event.score) == (number, sums[event.user_id])


@contextmanager
def playing(data: st.DataObject | None = None) -> Iterator[Play]:
    """A run from its start to its calm end."""
    world = World()
    with pytest.MonkeyPatch.context() as clocks:
        for module in MODULES_WITH_A_CLOCK:
            clocks.setattr(f"scoreboard.{module}.monotonic", world.loop.time)
        asyncio.set_event_loop(world.loop)
        play = Play(world, data)
        try:
            yield play
            play.calm_down()
            play.check_answers()
        finally:
            play.end()
            asyncio.set_event_loop(None)
            world.loop.close()


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_everything_is_right_in_the_end(data: st.DataObject) -> None:
    with playing(data) as play:
        for _ in range(data.draw(st.integers(1, STEPS_MAX))):
            play.step()


def test_history_that_is_lost_with_the_ranking_is_noticed_by_who_has_seen_it() -> None:
    with playing() as play:
        play.ask(play.servers[0], "a")
        play.calm_down()
        play.take_backup()
        for user in USERS:
            play.ask(play.servers[0], user)
            play.calm_down()
        epoch = play.world.ledger.head().epoch
        play.lose_both()
        play.ask(play.servers[1], "b")
        play.calm_down()
        assert play.world.ledger.head().epoch != epoch


def test_message_that_comes_while_a_gap_is_filled_is_not_forgotten() -> None:
    with playing() as play:
        reader, writer = play.servers
        play.world.loop.call_soon(reader.feed.subscription.lose)  # type: ignore[attr-defined]
        play.world.loop.settle()
        play.world.go_on([call.name for call in play.world.calls].index("read_page"), "done")  # read, and not arrived
        (page,) = play.world.calls
        play.world.calls.clear()
        for user in USERS[:2]:
            play.ask(writer, user)
            while play.world.calls:
                play.world.go_on(0, "done")
        reader.feed.subscription.queue.pop(0)  # type: ignore[attr-defined]
        play.deliver()
        assert reader.log is not None and reader.log.seq == 0
        play.world.calls.append(page)


def test_old_ranking_of_another_history_is_never_taken_for_this_one() -> None:
    with playing() as play:
        play.ask(play.servers[0], "a")
        play.calm_down()
        play.take_backup()
        play.ask(play.servers[0], "a")
        play.calm_down()
        play.take_snapshot()
        play.restore()
        for _ in range(3):
            play.ask(play.servers[1], "b")
            play.flow()
        play.old_ranking()
