"""Streams without sockets: whatever is folded, cut and resumed, a reader knows what its id says it knows (P5)."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreboard import board_log, frames
from scoreboard.board_log import BoardLog
from scoreboard.frames import LEADERBOARD, SCORES
from scoreboard.model import Event, Page, Position, RankChange, Scored
from scoreboard.ranks import encode_event
from tests.harness import Frame, Parser
from tests.property.model import Model

AT = datetime(2026, 11, 23, tzinfo=UTC)
POINTS = {"win": 10, "lose": -3, "draw": 0}
NAMES = st.text(min_size=1, max_size=8) | st.sampled_from(["a\u2028b", 'q"\\', "é", "\U0001f3c6", "x\ny", "c\rd"])


@dataclass
class Reader:
    """What somebody knows who follows a stream through cuts."""

    scores: dict[str, int]
    points: dict[str, int] = field(default_factory=dict)
    top: list[tuple[str, int]] | None = None
    position: int = 0

    def take(self, frame: Frame) -> None:
        assert frame.id is not None
        seq = int(frame.id.rpartition("-")[2])
        assert seq >= self.position, "the id went back"
        self.position = seq
        if frame.event == "leaderboard":
            self.top = [(e["userId"], e["score"]) for e in frame.data["top10"]]
        else:
            user = frame.data["userId"]
            self.scores[user] = frame.data["score"]
            self.points[user] = self.points.get(user, 0) + frame.data["points"]


def message(model: Model, first: int, last: int) -> frames.Message:
    """What the ranking publishes of events first to last."""
    events = []
    for seq in range(first, last + 1):
        user, action, _ = model.ledger[seq - 1]
        event = Event(seq, user, action, POINTS[action], model.score(user, seq), AT)
        events.append(encode_event(event)[:-1] + b',"rank":1,"previousRank":null}')
    top = [part for _, user, score in model.ranking(last)[:10] for part in (user, str(-score))]
    told = {"epoch": "e1", "first": first, "seq": last, "at": "", "total": len(model.ranking(last)), "top": top}
    told |= {"names": [], "windows": {}}
    return frames.parse_message(orjson.dumps(told)[:-1] + b',"events":[' + b",".join(events) + b"]}")


def parse(data: bytes) -> list[Frame]:
    parser = Parser()
    parser.feed(data)
    return parser.take()


@pytest.mark.parametrize("fold_bytes", [0, 4_096])
@given(data=st.data(), users=st.lists(NAMES, min_size=1, max_size=14, unique=True))
def test_a_reader_knows_what_its_id_says(fold_bytes: int, data: st.DataObject, users: list[str]) -> None:
    original, board_log.FOLD_BYTES = board_log.FOLD_BYTES, fold_bytes
    try:
        follow(data, users)
    finally:
        board_log.FOLD_BYTES = original


def follow(data: st.DataObject, users: list[str]) -> None:
    model = Model(POINTS)
    steps = st.lists(
        st.lists(st.tuples(st.sampled_from(users), st.sampled_from(list(POINTS))), min_size=1, max_size=6), max_size=12
    )
    log = BoardLog("global", Page(Position("e1", 0), 0, (), False))
    reader, index, cut = Reader({}), log.end, False
    for batch in data.draw(steps):
        first = len(model.ledger) + 1
        for user, action in batch:
            model.submit(user, action, None)
        assert log.accept(message(model, first, len(model.ledger)))
        match data.draw(st.sampled_from(["wait", "visit", "cut"])):
            case "visit":
                due = (
                    log.encode_since(reader.position, SCORES | LEADERBOARD)
                    if cut
                    else log.encode_from(index, SCORES | LEADERBOARD)
                )
                receive(reader, due[0], model)
                index, cut = log.end, False
            case "cut":
                due = log.encode_since(reader.position, SCORES | LEADERBOARD)
                received = due[0][: data.draw(st.integers(0, len(due[0])))]
                receive(reader, received, model)
                cut = True
    due = log.encode_since(reader.position, SCORES | LEADERBOARD)
    receive(reader, due[0], model)
    assert reader.scores == {user: score for _, user, score in model.ranking(len(model.ledger))}


def receive(reader: Reader, data: bytes, model: Model) -> None:
    for frame in parse(data):
        reader.take(frame)
        for user in {user for user, _, _ in model.ledger[: reader.position]}:
            known = reader.scores.get(user)
            last = max(seq for seq, entry in enumerate(model.ledger, 1) if entry[0] == user and seq <= reader.position)
            later = {model.score(user, seq) for seq in range(last, len(model.ledger) + 1)}
            if frame.event == "score-updated":
                assert known in later, f"{user!r} is known with {known} at {reader.position}"


@given(
    batches=st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=5), min_size=1, max_size=8), data=st.data()
)
def test_resuming_tells_what_was_missed_and_nothing_else(batches: list[list[str]], data: st.DataObject) -> None:
    model = Model(POINTS)
    log = BoardLog("global", Page(Position("e1", 0), 0, (), False))
    for batch in batches:
        first = len(model.ledger) + 1
        for user in batch:
            model.submit(user, "win", None)
        log.accept(message(model, first, len(model.ledger)))
    seen = data.draw(st.integers(0, len(model.ledger)))
    due = log.encode_since(seen, SCORES)
    assert due is not None
    told = [frame.data["seq"] for frame in parse(due[0])]
    assert told == list(range(seen + 1, len(model.ledger) + 1))
    assert [frame.id for frame in parse(due[0])] == [f"e1-{seq}" for seq in told]


@pytest.mark.parametrize("fold_bytes", [0, 4_096])
@given(users=st.lists(st.sampled_from("abc"), min_size=1, max_size=20), data=st.data())
def test_a_log_continued_backwards_tells_what_was_missed(
    fold_bytes: int, users: list[str], data: st.DataObject
) -> None:
    model = Model(POINTS)
    for user in users:
        model.submit(user, "win", None)
    last = len(model.ledger)
    begins = data.draw(st.integers(0, last), label="where the log begins")
    reaches = data.draw(st.integers(0, begins), label="how far it is continued")
    seen = data.draw(st.integers(reaches, last), label="what the reader knows")
    log = BoardLog("global", Page(Position("e1", begins), 0, (), False))
    ready = log.end
    earlier = [tell(model, seq) for seq in range(reaches + 1, begins + 1)]
    if data.draw(st.booleans(), label="continued at once"):
        log.prepend("e1", reaches, begins, earlier)
    for seq in range(begins + 1, last + 1):
        assert log.accept(message(model, seq, seq))
    log.prepend("e1", reaches, begins, earlier)
    log.prepend("another", 0, reaches, [(1, "score-updated", b"{}")])
    original, board_log.FOLD_BYTES = board_log.FOLD_BYTES, fold_bytes
    try:
        assert log.encode_since(reaches - 1, SCORES) is None
        due = log.encode_since(seen, SCORES)
        assert log.encode_from(ready, SCORES) == log.encode_since(begins, SCORES)
    finally:
        board_log.FOLD_BYTES = original
    assert due is not None
    points: dict[object, int] = {}
    for frame in parse(due[0]):
        points[frame.data["userId"]] = points.get(frame.data["userId"], 0) + int(str(frame.data["points"]))
    assert points == {user: 10 * users[seen:].count(user) for user in set(users[seen:])}
    if due[0]:
        assert parse(due[0])[-1].id == f"e1-{last}"


def tell(model: Model, seq: int) -> frames.Told:
    """An event as it is read back from the ledger."""
    user, action, _ = model.ledger[seq - 1]
    told = frames.tell_event(Event(seq, user, action, POINTS[action], model.score(user, seq), AT), "all", None)
    assert told is not None
    return told


@given(
    batches=st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4), min_size=1, max_size=4),
    spans=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 3)), max_size=12),
)
def test_a_log_takes_in_every_event_once_or_says_that_one_is_missing(
    batches: list[list[str]], spans: list[tuple[int, int]]
) -> None:
    """Messages come lost, repeated, late, and cut otherwise than they were (another server's replay)."""
    model = Model(POINTS)
    ends = [0]
    for batch in batches:
        for user in batch:
            model.submit(user, "win", None)
        ends.append(len(model.ledger))
    log = BoardLog("global", Page(Position("e1", 0), 0, (), False))
    for start, length in spans:
        first, last = ends[min(start, len(batches) - 1)] + 1, ends[min(start + length, len(batches))]
        before = log.seq
        assert log.accept(message(model, first, last)) == (first <= before + 1)
        assert log.seq == (max(before, last) if first <= before + 1 else before)
        due = log.encode_since(0, SCORES)
        assert due is not None
        assert [frame.data["seq"] for frame in parse(due[0])] == list(range(1, log.seq + 1))
    assert not log.accept(frames.Message("another", log.seq + 1, log.seq + 1, "", 0, [], [], [], {}))


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(-5, 5)), min_size=1, max_size=30))
def test_folding_keeps_last_states_and_sums(steps: list[tuple[str, int]]) -> None:
    scores: dict[str, int] = {}
    told = []
    for seq, (user, points) in enumerate(steps, start=1):
        scores[user] = scores.get(user, 0) + points
        event = Event(seq, user, "win", points, scores[user], AT)
        told.append(frames.tell_event(event, "all", RankChange(seq, None)))
    folded = frames.fold(told)
    updates = [orjson.loads(data) for _, _, data in folded]
    assert {update["userId"]: update["score"] for update in updates} == scores
    assert {update["userId"]: update["points"] for update in updates} == scores
    assert [seq for seq, _, _ in folded] == [update["seq"] for update in updates]
    assert [seq for seq, _, _ in folded] == sorted(seq for seq, _, _ in folded)
    assert frames.fold(folded) == folded


@given(name=NAMES, pieces=st.lists(st.integers(1, 40), max_size=40))
def test_frames_parse_whole_however_the_bytes_are_split(name: str, pieces: list[int]) -> None:
    update = frames.tell_event(Event(7, name, "win", 10, 10, AT), "all", RankChange(1, None))
    assert update is not None
    top = (Scored(name, 10),)
    data = (
        frames.encode_retry(2_000)
        + frames.encode_leaderboard("global", top, 1, Position("e1", 6))
        + frames.encode_heartbeat(6)
        + frames.encode_step("e1", [update], after=6, through=7)
        + frames.encode_reset("epoch")
    )
    parser = Parser()
    for size in pieces:
        parser.feed(data[:size])
        data = data[size:]
    parser.feed(data)
    snapshot, updated, reset = parser.take()
    assert (snapshot.event, snapshot.id, snapshot.data["top10"][0]["userId"]) == ("leaderboard", "e1-6", name)
    assert (updated.event, updated.id, updated.data["userId"]) == ("score-updated", "e1-7", name)
    assert (reset.event, reset.id, reset.data) == ("reset", "e1-7", {"reason": "epoch"})
    assert (parser.retries, parser.heartbeats) == ([2_000], [6])
