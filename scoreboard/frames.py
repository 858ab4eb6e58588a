"""Server-Sent Events, as bytes: frames, and the folding of many updates into few. Pure.

A frame's id is the position up to which its reader knows every user's last state. Folded updates of several users
are in effect one step, so all but the last of them carry the position *before* the step: a reader cut off in the
middle resumes from there and misses nothing.

Source: WHATWG HTML, section 9.2 (server-sent events).
"""

from collections.abc import Iterable, Sequence

import msgspec
import orjson

from scoreboard.model import Event, Position, RankChange, format_time, rank_shared

SCORES, LEADERBOARD = 1, 2
KINDS = {"score-updated": SCORES, "leaderboard": LEADERBOARD}
"""The events that a reader can ask for, as bits."""
RETRY_MS = 2_000
HEARTBEAT = b": hb\n\n"

Top = tuple[tuple[str, int], ...]


class Message(msgspec.Struct, frozen=True):
    """What the ranking published: fresh events ``first`` to ``seq``, each already a JSON object, and the top ten.

    No events means that the ranking was replaced; it stands at ``seq``. ``at`` is the time of the event there.
    """

    epoch: str
    first: int
    seq: int
    at: str
    total: int
    events: list[msgspec.Raw]
    top: list[str]


class Update(msgspec.Struct, frozen=True, rename="camel"):
    """The data of a ``score-updated`` frame; ranks are None where they are not known any more."""

    user_id: str
    action_id: str
    points: int
    score: int
    rank: int | None
    previous_rank: int | None
    seq: int
    at: str


_message_decoder = msgspec.json.Decoder(Message)
_update_decoder = msgspec.json.Decoder(Update)


def parse_message(data: bytes) -> Message:
    """:raises msgspec.MsgspecError: if it is not a message of this version."""
    return _message_decoder.decode(data)


def parse_top(flat: Sequence[str]) -> Top:
    """Pairs of user id and score from the flat list of user ids and negated scores in a message."""
    return tuple((flat[i], -int(float(flat[i + 1]))) for i in range(0, len(flat), 2))


def parse_update(data: bytes | msgspec.Raw) -> Update:
    """The update that a frame's data holds."""
    return _update_decoder.decode(data)


def make_update(event: Event, change: RankChange | None) -> Update:
    """The update that tells of one event."""
    return Update(
        event.user_id,
        event.action_id,
        event.points,
        event.score,
        change.rank if change else None,
        change.previous_rank if change else None,
        event.seq,
        format_time(event.at),
    )


def fold_updates(updates: Iterable[Update]) -> list[Update]:
    """One update a user: the latest state, the sum of points, the first known rank before; in order of seq.

    :param updates: in order of seq.
    """
    folded: dict[str, Update] = {}
    for update in updates:
        earlier = folded.pop(update.user_id, None)
        if earlier is not None:
            update = msgspec.structs.replace(
                update, points=earlier.points + update.points, previous_rank=earlier.previous_rank
            )
        folded[update.user_id] = update  # popped and put back, so the order is that of the last seq
    return list(folded.values())


def encode_update(update: Update) -> bytes:
    """The data of a ``score-updated`` frame."""
    return msgspec.json.encode(update)


def encode_frame(event: str, data: bytes, position: Position | None = None) -> bytes:
    """One frame. :param data: a JSON text on one line, so it needs no splitting."""
    assert b"\n" not in data and b"\r" not in data, "JSON encoders escape line ends"
    head = b"id: %b\n" % str(position).encode() if position is not None else b""
    return b"%bevent: %b\ndata: %b\n\n" % (head, event.encode(), data)


def encode_step(epoch: str, updates: Sequence[Update], *, after: int, through: int) -> bytes:
    """The frames of folded updates that take a reader from seq ``after`` to seq ``through``."""
    frames = [encode_frame("score-updated", encode_update(u), Position(epoch, after)) for u in updates[:-1]]
    frames += [encode_frame("score-updated", encode_update(u), Position(epoch, through)) for u in updates[-1:]]
    return b"".join(frames)


def encode_leaderboard(board: str, top: Top, total: int, position: Position) -> bytes:
    """A ``leaderboard`` frame: the snapshot at a position."""
    entries = [
        {"rank": entry.rank, "userId": entry.user_id, "displayName": None, "score": entry.score}
        for entry in rank_shared(top, offset=0, first_rank=1)
    ]
    data = orjson.dumps({"board": board, "top10": entries, "total": total, "seq": position.seq})
    return encode_frame("leaderboard", data, position)


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
