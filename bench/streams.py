"""What one stream of the server says: chunks, frames, and whether a reader that believes it knows everything.

Many readers get the same bytes, so a piece that is whole by itself is decoded once and remembered. Otherwise a
thousand readers in one process would be slower than the server that feeds them.
"""

import json
from dataclasses import dataclass, field
from typing import NamedTuple

PIECES_MAX = 2_048
"""Decoded pieces that are remembered; all are forgotten when there are more."""


class StreamBroken(Exception):
    """The stream says something that the public contract rules out."""


class Step(NamedTuple):
    """What a piece of a stream amounts to: its positions in order, the points it tells of, its frames by event."""

    epochs: frozenset[str]
    seqs: tuple[int, ...]
    points: int
    updates: int
    resets: int


def decode_chunks(data: bytes) -> tuple[bytes, bytes]:
    """The payload of the whole chunks, and the rest. :raises StreamBroken: if the stream ends."""
    payload = b""
    while (line_end := data.find(b"\r\n")) >= 0:
        size = int(data[:line_end], 16)
        if size == 0:
            raise StreamBroken("the server ended the stream")
        end = line_end + 2 + size
        if len(data) < end + 2:
            break
        payload += data[line_end + 2 : end]
        data = data[end + 2 :]
    return payload, data


def decode_frames(text: bytes) -> tuple[Step, bytes]:
    """What the whole frames say, and the rest."""
    whole, separator, rest = text.rpartition(b"\n\n")
    epochs: set[str] = set()
    seqs: list[int] = []
    points = 0
    counts = {"leaderboard": 0, "score-updated": 0, "reset": 0}
    for frame in (whole.decode() if separator else "").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in frame.split("\n") if ": " in line)
        if "id" in fields:
            epoch, _, seq = fields["id"].rpartition("-")
            epochs.add(epoch)
            seqs.append(int(seq))
        event = fields.get("event")
        if event is not None and event != "heartbeat":
            counts[event] += 1
        if event == "score-updated":
            points += json.loads(fields["data"])["points"]
    step = Step(frozenset(epochs), tuple(seqs), points, counts["score-updated"], counts["reset"])
    return step, rest if separator else text


class Decoder:
    """Decodes pieces of streams, those that many readers get only once."""

    def __init__(self) -> None:
        self._known: dict[bytes, Step] = {}

    def decode(self, piece: bytes) -> Step | None:
        """What a piece says if it is whole by itself; None if it has to be joined with others."""
        step = self._known.get(piece)
        if step is None:
            text, rest = decode_chunks(piece)
            if rest:
                return None
            step, rest = decode_frames(text)
            if rest:
                return None
            if len(self._known) >= PIECES_MAX:
                self._known.clear()
            self._known[piece] = step
        return step


@dataclass
class Story:
    """What a reader was told, and when. ``arrivals`` are the seq it was at and the time, in order.

    Once a frame with seq S is there, the reader knows every user's last state up to S, so S is delivered with the
    first frame of S or later. Updates may be folded, but then they carry the sum of their points: a reader that
    reached the last seq and was told of as many points as were scored has missed nothing and heard nothing twice.
    """

    first_seq: int | None = None
    last_seq: int = 0
    points: int = 0
    updates: int = 0
    epoch: str | None = None
    broken: str | None = None
    arrivals: list[tuple[int, float]] = field(default_factory=list)

    def hear(self, step: Step, at: float) -> None:
        """Take in a piece."""
        self.points += step.points
        self.updates += step.updates
        if step.resets:
            self.broken = "the stream was reset"
        for epoch in step.epochs:
            if self.epoch not in (None, epoch):
                self.broken = f"the epoch changed from {self.epoch} to {epoch}"
            self.epoch = epoch
        for seq in step.seqs:
            if self.first_seq is None:
                self.first_seq = seq
            elif seq < self.last_seq:
                self.broken = f"the id went back from {self.last_seq} to {seq}"
            self.last_seq = seq
        if step.seqs:
            self.arrivals.append((self.last_seq, at))

    def judge(self, final_seq: int, points_each: int) -> str | None:
        """Why the reader does not know everything up to the final seq; None if it does."""
        if self.broken is not None:
            return self.broken
        if self.first_seq is None:
            return "nothing arrived"
        if self.last_seq != final_seq:
            return f"it is at seq {self.last_seq}, the board at {final_seq}"
        expected = (final_seq - self.first_seq) * points_each
        if self.points != expected:
            return f"it was told of {self.points} points after seq {self.first_seq}, there were {expected}"
        return None
