"""The least that a server of pages and streams has to do: ``python -m bench.broadcast``.

One uvloop protocol without a framework, without stores and without a memory. A GET of ``/ready`` is answered with bytes
that lie ready; another GET opens a stream; a POST makes one event, which is written to every open stream at once, in
one turn of the event loop, as bytes of the size that the server sends. What the server takes longer is what ranking,
durability and fairness cost.
"""

import asyncio
import json
import socket
from datetime import UTC, datetime
from typing import Protocol, cast

import uvloop

BACKLOG = 4_096
STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-store, no-transform\r\n"
    b"transfer-encoding: chunked\r\nconnection: keep-alive\r\n\r\n"
)
TOP = [{"rank": rank, "userId": f"user-{rank:04}", "displayName": None, "score": 1_000 - rank} for rank in range(1, 11)]
EPOCH = "bare0000"
READY = json.dumps(
    {
        "board": "global",
        "window": "all",
        "leaderboard": TOP,
        "total": 1_000,
        "seq": 4_711,
        "epoch": EPOCH,
        "next": None,
    },
    separators=(",", ":"),
).encode()
"""A page as long as a leaderboard of ten."""


def encode_frame(event: str, seq: int, data: dict[str, object]) -> bytes:
    """One event of a stream."""
    return f"id: {EPOCH}-{seq}\nevent: {event}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def encode_chunk(data: bytes) -> bytes:
    """Data as one chunk of HTTP/1.1."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def encode_answer(body: bytes) -> bytes:
    """An answer that is whole."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


READY_ANSWER = encode_answer(READY)


def encode_snapshot(seq: int) -> bytes:
    """What a stream begins with."""
    data: dict[str, object] = {"board": "global", "top10": TOP, "total": 1_000, "seq": seq}
    return b"retry: 2000\n\n" + encode_frame("leaderboard", seq, data)


class Frames(Protocol):
    """Who tells all streams of an event."""

    def write(self, frame: bytes) -> None: ...


class Streams:
    """The open streams."""

    def __init__(self) -> None:
        self.transports: set[asyncio.Transport] = set()

    def write(self, frame: bytes) -> None:
        """Write a frame to each."""
        chunk = encode_chunk(frame)
        for transport in self.transports:
            transport.write(chunk)


class Board:
    """The number of events so far, and who tells of them."""

    def __init__(self, frames: Frames) -> None:
        self.seq = 0
        self._frames = frames

    def score(self, user: str) -> bytes:
        """Make an event, tell every stream, and return the answer to whoever made it."""
        self.seq += 1
        at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told: dict[str, object] = {"userId": user, "actionId": "win", "points": 10, "score": 10 * self.seq}
        told |= {"seq": self.seq, "at": at, "rank": 3, "previousRank": 5}
        self._frames.write(encode_frame("score-updated", self.seq, told))
        return encode_answer(json.dumps({"seq": self.seq, "at": at, "replayed": False}, separators=(",", ":")).encode())


class Connection(asyncio.Protocol):
    """A client: one stream, or submissions one after the other. Requests come whole, as ours do."""

    def __init__(self, board: Board, streams: Streams | None = None) -> None:
        self._board = board
        self._streams = streams or Streams()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /ready "):
            self._transport.write(READY_ANSWER)
        elif data.startswith(b"POST"):
            body = json.loads(data[data.index(b"\r\n\r\n") + 4 :])
            self._transport.write(self._board.score(body["userId"]))
        else:
            self._transport.write(STREAM_HEAD + encode_chunk(encode_snapshot(self._board.seq)))
            self._streams.transports.add(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._streams.transports.discard(self._transport)


async def serve() -> None:
    """Serve until killed."""
    streams = Streams()
    board = Board(streams)
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    listener.setblocking(False)
    await asyncio.get_running_loop().create_server(lambda: Connection(board, streams), sock=listener, backlog=BACKLOG)
    print("Listening on {}:{}".format(*listener.getsockname()), flush=True)
    await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    uvloop.run(serve())
