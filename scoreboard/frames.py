"""Server-Sent Events, as bytes: frames, and the folding of many updates into few. Pure.

A frame's id is the position up to which its reader knows every user's last state. Folded updates of several users
are in effect one step, so all but the last of them carry the position *before* the step: a reader cut off in the
middle resumes from there and misses nothing.

Source: WHATWG HTML, section 9.2 (server-sent events).
"""

from collections.abc import Iterable, Sequence

import msgspec
import orjson

from scoreboard.model import Event, Period, Position, RankChange, Scored, Ties, format_time, rank_entries

SCORES, LEADERBOARD = 1, 2
KINDS = {"score-updated": SCORES, "leaderboard": LEADERBOARD}
"""The events that a reader can ask for, as bits. What becomes of users themselves is told with their scores."""
SCORE_UPDATED, USER_UPDATED = "score-updated", "user-updated"
RETRY_MS = 2_000
RANKS_A_EVENT = 3

Top = tuple[Scored, ...]
Told = tuple[int, str, bytes]
"""What readers are told of one event: its seq, the name of the frame, and its data."""


class Part(msgspec.Struct, frozen=True):
    """What a message says of a window other than ``all``: its period, and three numbers for each event: the user's
    score in it (None: not ranked), rank, and rank before (0: none).
    """

    period: str
    ends: int
    total: int
    events: list[int | None]
    top: list[str]


class Message(msgspec.Struct, frozen=True):
    """What the ranking published: fresh events ``first`` to ``seq``, each already a JSON object, and the top ten.

    An event that nobody is told of is null. No events means that the ranking was replaced, or that periods began; it
    stands at ``seq``. ``at`` is the time of the event there. ``names`` are users and display names in turn.
    """

    epoch: str
    first: int
    seq: int
    at: str
    total: int
    events: list[msgspec.Raw]
    top: list[str]
    names: list[str]
    windows: dict[str, Part]

    @property
    def is_replacement(self) -> bool:
        """Whether another ranking has taken the place of the one before."""
        return not self.events and not self.windows


class Update(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The data of a ``score-updated`` frame; ranks are None where they are not known any more."""

    user_id: str
    display_name: str | None = None  # servers before this version publish none
    action_id: str | None
    points: int
    score: int
    rank: int | None
    previous_rank: int | None
    seq: int
    at: str


class UserUpdate(msgspec.Struct, frozen=True, rename="camel"):
    """The data of a ``user-updated`` frame: a user was renamed, hidden, or is shown again. Without a score, no rank."""

    user_id: str
    change: str
    display_name: str | None
    score: int | None
    rank: int | None
    seq: int
    at: str


class Published(msgspec.Struct, rename="camel"):
    """An event as a message has it."""

    at: str
    seq: int = 0
    user_id: str = ""
    kind: str = "score"
    action_id: str | None = None
    points: int = 0
    score: int | None = None
    display_name: str | None = None
    rank: int | None = None
    previous_rank: int | None = None


CHANGES = {"hide": "hidden", "unhide": "shown", "name": "renamed"}
_message_decoder = msgspec.json.Decoder(Message)
_update_decoder = msgspec.json.Decoder(Update)
_user_update_decoder = msgspec.json.Decoder(UserUpdate)
_published_decoder = msgspec.json.Decoder(Published)


def parse_message(data: bytes) -> Message:
    """:raises msgspec.MsgspecError: if it is not a message of this version."""
    return _message_decoder.decode(data)


def parse_top(flat: Sequence[str], names: Sequence[str] = ()) -> Top:
    """The top ten from the flat list of user ids and negated scores in a message, and that of users and names."""
    called = {names[i]: names[i + 1] for i in range(0, len(names), 2)}
    return tuple(Scored(flat[i], -int(float(flat[i + 1])), called.get(flat[i])) for i in range(0, len(flat), 2))


def tell(message: Message, part: Part | None, *, whole: bool) -> list[Told] | None:
    """What readers are told of a message's events; None if all that one of them allows is to begin anew.

    :param part: what the message says of their window; None in window ``all``, and where it is about another period.
    :param whole: whether their window is ``all``.
    """
    told: list[Told] = []
    if not whole and part is None:
        return None if any(b'"kind":"erase"' in bytes(raw)[:20] for raw in message.events) else []
    for place, raw in enumerate(message.events):
        data = bytes(raw)
        if data == b"null":
            continue
        if part is None and not data.startswith(b'{"kind"'):
            told.append((message.first + place, SCORE_UPDATED, data))  # as it was published, for all boards' readers
            continue
        event = _published_decoder.decode(data)
        if event.kind == "erase":
            return None
        if part is not None:
            score, rank, previous = part.events[place * RANKS_A_EVENT : (place + 1) * RANKS_A_EVENT]
            event.score, event.rank, event.previous_rank = score, rank or None, previous or None
        frame = _tell(event)
        if frame is not None:
            told.append(frame)
    return told


def _tell(event: Published) -> Told | None:
    if event.kind in CHANGES:
        change = UserUpdate(
            event.user_id, CHANGES[event.kind], event.display_name, event.score, event.rank, event.seq, event.at
        )
        return event.seq, USER_UPDATED, msgspec.json.encode(change)
    if event.score is None:
        return None  # it was in another period of the window
    update = Update(
        user_id=event.user_id,
        display_name=event.display_name,
        action_id=event.action_id,
        points=event.points,
        score=event.score,
        rank=event.rank,
        previous_rank=event.previous_rank,
        seq=event.seq,
        at=event.at,
    )
    return event.seq, SCORE_UPDATED, msgspec.json.encode(update)


def tell_event(event: Event, window: str, change: RankChange | None) -> Told | None:
    """What readers of a window are told of an event of the ledger; None for nothing."""
    if event.hidden and event.kind != "hide":
        return None
    return _tell(
        Published(
            format_time(event.at),
            event.seq,
            event.user_id,
            event.kind,
            event.action_id,
            event.points,
            event.score_in(window),
            event.name or None,
            change.rank if change else None,
            change.previous_rank if change else None,
        )
    )


def fold(told: Iterable[Told]) -> list[Told]:
    """One frame a user and kind: the latest state; of scores the sum of points and the first known rank before.

    :param told: in order of seq.
    """
    folded: dict[tuple[str, str], Update | UserUpdate] = {}
    for _, name, data in told:
        update = _update_decoder.decode(data) if name == SCORE_UPDATED else _user_update_decoder.decode(data)
        earlier = folded.pop((name, update.user_id), None)
        if isinstance(update, Update) and isinstance(earlier, Update):
            update = msgspec.structs.replace(
                update, points=earlier.points + update.points, previous_rank=earlier.previous_rank
            )
        folded[name, update.user_id] = update  # popped and put back, so the order is that of the last seq
    return [(update.seq, name, msgspec.json.encode(update)) for (name, _), update in folded.items()]


def encode_frame(event: str, data: bytes, position: Position | None = None) -> bytes:
    """One frame. :param data: a JSON text on one line, so it needs no splitting."""
    assert b"\n" not in data and b"\r" not in data, "JSON encoders escape line ends"
    head = b"id: %b\n" % str(position).encode() if position is not None else b""
    return b"%bevent: %b\ndata: %b\n\n" % (head, event.encode(), data)


def encode_told(epoch: str, told: Iterable[Told]) -> bytes:
    """A frame for each event, each a step of its own."""
    return b"".join(encode_frame(name, data, Position(epoch, seq)) for seq, name, data in told)


def encode_bare(told: Iterable[Told]) -> bytes:
    """A frame for each event, without ids: who is cut off after them comes back from where it was before."""
    return b"".join(encode_frame(name, data) for _, name, data in told)


def encode_step(epoch: str, told: Sequence[Told], *, after: int, through: int) -> bytes:
    """The frames of folded events that take a reader from seq ``after`` to seq ``through``."""
    frames = [encode_frame(name, data, Position(epoch, after)) for _, name, data in told[:-1]]
    frames += [encode_frame(name, data, Position(epoch, through)) for _, name, data in told[-1:]]
    return b"".join(frames)


def render_entry(rank: int | None, user_id: str, score: int | None, name: str | None) -> dict[str, object]:
    """A user in a ranking, as frames and answers show one."""
    return {"rank": rank, "userId": user_id, "displayName": name, "score": score}


def encode_leaderboard(
    board: str,
    top: Top,
    total: int,
    position: Position,
    ties: Ties = "shared",
    period: Period | None = None,
    *,
    bare: bool = False,
) -> bytes:
    """A ``leaderboard`` frame: the snapshot at a position, of ``all`` or of a period. :param bare: without an id."""
    entries = [
        render_entry(entry.rank, entry.user_id, entry.score, entry.name)
        for entry in rank_entries(top, ties, offset=0, first_rank=1)
    ]
    shown = {"window": period.window, "period": period.first_day} if period is not None else {}
    data = orjson.dumps({"board": board, **shown, "top10": entries, "total": total, "seq": position.seq})
    return encode_frame("leaderboard", data, None if bare else position)


def encode_heartbeat(seq: int) -> bytes:
    """Tells a reader that the connection lives, and up to which seq it has everything. Without an id."""
    return encode_frame("heartbeat", b'{"seq":%d}' % seq)


def encode_position(position: Position) -> bytes:
    """Tells a reader where it stands without an event: an id and no data."""
    return b"id: %b\n\n" % str(position).encode()


def encode_reset(reason: str) -> bytes:
    """A ``reset`` frame: what the reader knew does not hold any more; a snapshot follows."""
    return encode_frame("reset", orjson.dumps({"reason": reason}))


def encode_retry(milliseconds: int) -> bytes:
    """How long a reader waits before it connects again."""
    return b"retry: %d\n\n" % milliseconds


def chunk(data: bytes) -> bytes:
    """Data framed as one chunk of HTTP/1.1 chunked transfer coding; at least one byte."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"
