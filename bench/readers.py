"""A process with many readers of streams: ``python -m bench.readers``.

In and out are lines of JSON. In: where and how many. Out: ``connected`` once every reader has its first snapshot.
In: what was submitted meanwhile, as ``[seq, intended send time, commit time]``. Out: what the readers received.
"""

import asyncio
import json
import resource
import sys
import time
from collections import Counter
from time import monotonic
from typing import Any, cast

import uvloop

from bench.client import encode_get, set_no_delay
from bench.figures import summarise_ms
from bench.streams import Decoder, Story, StreamBroken

CONNECTING_MAX = 256
CONNECT_TIMEOUT_S = 30.0
CONVERGE_TIMEOUT_S = 15.0
ORDERS_TIMEOUT_S = 300.0
POLL_S = 0.01
FILES_SPARE = 100
PATH = "/api/leaderboard/stream"


class Reader(asyncio.Protocol):
    """One open stream."""

    def __init__(self, request: bytes, decoder: Decoder) -> None:
        self.story = Story()
        self.received_bytes = 0
        self._request = request
        self._decoder = decoder
        self._transport: asyncio.Transport | None = None
        self._head_is_over = False
        self._rest = b""
        self._closing = False
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done with the first snapshot, or when there will be none."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        set_no_delay(self._transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = monotonic()
        self.received_bytes += len(data)
        if not self._head_is_over:
            data = self._take_head(data)
        try:
            self._take_body(data, now)
        except (StreamBroken, ValueError, KeyError) as exc:
            self.story.broken = repr(exc)
            self.close()

    def _take_head(self, data: bytes) -> bytes:
        head, found, body = (self._rest + data).partition(b"\r\n\r\n")
        if not found:
            self._rest = head
            return b""
        self._rest, self._head_is_over = b"", True
        if not head.startswith(b"HTTP/1.1 200") or b"chunked" not in head:
            self.story.broken = f"the answer was {head[:100]!r}"
        return body

    def _take_body(self, data: bytes, now: float) -> None:
        if not self._head_is_over or not data:
            return
        data = self._rest + data if self._rest else data
        step = self._decoder.decode(data)
        # The server frames whole events as chunks, so what is not whole yet is so with the bytes that follow.
        self._rest = data if step is None else b""
        if step is not None:
            self.story.hear(step, now)
            if self.story.first_seq is not None:
                self._begin()

    def _begin(self) -> None:
        if not self.begun.done():
            self.begun.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closing:
            self.story.broken = self.story.broken or f"the connection was lost: {exc}"
        self._begin()

    def close(self) -> None:
        """Leave."""
        self._closing = True
        if self._transport is not None:
            self._transport.abort()


async def connect_readers(host: str, port: int, count: int, headers: list[str]) -> list[Reader]:
    """Open streams, and wait until each has its snapshot."""
    decoder = Decoder()
    request = encode_get(host, port, PATH, "Accept: text/event-stream", *headers)
    gate = asyncio.Semaphore(CONNECTING_MAX)

    async def connect_one() -> Reader:
        async with gate:
            loop = asyncio.get_running_loop()
            _, reader = await loop.create_connection(lambda: Reader(request, decoder), host, port)
            await reader.begun
            if reader.story.broken is not None:
                raise StreamBroken(reader.story.broken)
            return reader

    async with asyncio.timeout(CONNECT_TIMEOUT_S):
        return list(await asyncio.gather(*(connect_one() for _ in range(count))))


async def wait_for_all(readers: list[Reader], final_seq: int) -> None:
    """Wait until each reader is at the final seq or broken, within CONVERGE_TIMEOUT_S."""
    deadline = monotonic() + CONVERGE_TIMEOUT_S
    waiting = readers
    while waiting and monotonic() < deadline:
        waiting = [r for r in waiting if r.story.last_seq < final_seq and r.story.broken is None]
        await asyncio.sleep(POLL_S)


def measure_delivery(stories: list[Story], events: list[tuple[int, float, float]]) -> dict[str, Any]:
    """Latencies of all deliveries, and of the last reader of each event.

    :param events: seq, intended send time (monotonic clock) and commit time (wall clock), in order of seq.
    """
    wall_ahead = time.time() - monotonic()
    from_send: list[float] = []
    from_commit: list[float] = []
    last_of_event = [0.0] * len(events)
    for story in stories:
        index = 0
        for seq, at in story.arrivals:
            while index < len(events) and events[index][0] <= seq:
                _, sent, committed = events[index]
                from_send.append(at - sent)
                from_commit.append(at + wall_ahead - committed)
                last_of_event[index] = max(last_of_event[index], at + wall_ahead - committed)
                index += 1
    return {
        "deliveries": len(from_send),
        "from_send_ms": summarise_ms(from_send),
        "from_commit_ms": summarise_ms(from_commit),
        "last_reader_from_commit_ms": summarise_ms(last_of_event if from_send else []),
    }


def judge_readers(readers: list[Reader], final_seq: int, points_each: int) -> dict[str, Any]:
    """How many know everything, and what is wrong with the others."""
    verdicts = [reader.story.judge(final_seq, points_each) for reader in readers]
    problems = Counter(verdict for verdict in verdicts if verdict is not None)
    return {
        "readers": len(readers),
        "converged": verdicts.count(None),
        "problems": dict(problems.most_common(3)),
        "updates_received": sum(reader.story.updates for reader in readers),
        "pieces_received": sum(len(reader.story.arrivals) for reader in readers),
        "received_bytes": sum(reader.received_bytes for reader in readers),
    }


async def read_orders() -> dict[str, Any]:
    """The next line of standard input."""
    async with asyncio.timeout(ORDERS_TIMEOUT_S):
        line = await asyncio.to_thread(sys.stdin.readline)
    if not line:
        sys.exit("the parent is gone")
    orders: dict[str, Any] = json.loads(line)
    return orders


async def main() -> None:
    """Connect, read while others submit, and tell what came."""
    plan = await read_orders()
    allow_files(plan["readers"] + FILES_SPARE)
    began = monotonic()
    readers = await connect_readers(plan["host"], plan["port"], plan["readers"], plan["headers"])
    print(json.dumps({"connected": len(readers), "seconds": round(monotonic() - began, 3)}), flush=True)
    orders = await read_orders()
    await wait_for_all(readers, orders["final_seq"])
    result = judge_readers(readers, orders["final_seq"], orders["points_each"])
    # The garbage of a measurement is none of it, so figures are made after the last byte has come.
    for reader in readers:
        reader.close()
    result |= measure_delivery([reader.story for reader in readers], [tuple(event) for event in orders["events"]])
    print(json.dumps(result), flush=True)


def allow_files(count: int) -> None:
    """Raise this process's soft limit of open files where it is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count <= hard or (soft < count and hard == resource.RLIM_INFINITY):
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


if __name__ == "__main__":
    uvloop.run(main())
