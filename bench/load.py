"""A process that makes requests: ``python -m bench.load``, a plan as one JSON line in, figures as one JSON line out.

A *closed* loop keeps every connection busy: the next request leaves when the previous answer came. It finds the
throughput, and its latencies are those under full load. An *open* loop sends at times fixed beforehand, and counts
latency from the intended time: when the server stalls, all requests that should have left meanwhile count as late
(no coordinated omission).
"""

import asyncio
import json
import os
import random
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from time import monotonic
from typing import Any

import uvloop

from bench.client import Connection, connect, encode_get
from bench.figures import summarise_ms

ANSWER_TIMEOUT_S = 20.0
"""How long after the end of a phase the last answers may take."""
START_DELAY_S = 0.05
PROBLEM_BYTES = 160
PACE_S = 0.0002
"""At high rates requests that fall due within this time leave together; what they leave late counts as latency."""
OK = 200
ITEM = b'{"status":'
"""What each result in a batch's answer begins with."""
LINE_END = "\r\n"

Job = dict[str, Any]


def make_requests(job: Job, host: str, port: int, tokens: list[tuple[str, str]]) -> Iterator[bytes]:
    """The requests of a job, one after the other, without end."""
    if job["method"] == "GET":
        request = encode_get(host, port, job["path"])
        while True:
            yield request
    if "batch" in job:
        while True:
            yield encode_batch(job, host, port, [user for user, _ in tokens])
    pick = random.Random(job["seed"]).choice
    pieces = [_post_pieces(job["path"], host, port, user, token) for user, token in tokens]
    while True:
        head, tail = pick(pieces)
        # Random keys, as clients make them: they land all over the index of keys, not at its end.
        yield head + os.urandom(16).hex().encode() + tail


def encode_batch(job: Job, host: str, port: int, users: list[str]) -> bytes:
    """Submissions of users chosen at random, each with a key of its own."""
    keys = os.urandom(16 * job["batch"]).hex()
    items = [
        f'{{"actionId":"win","userId":"{user}","idempotencyKey":"{keys[32 * n : 32 * n + 32]}"}}'
        for n, user in enumerate(random.choices(users, k=job["batch"]))
    ]
    return encode_post(job["path"], host, port, job["token"], f'{{"submissions":[{",".join(items)}]}}')


def encode_post(path: str, host: str, port: int, token: str, body: str) -> bytes:
    """A POST of JSON."""
    head = [
        f"POST {path} HTTP/1.1",
        f"Host: {host}:{port}",
        f"Authorization: Bearer {token}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
    ]
    return f"{LINE_END.join(head)}{LINE_END}{LINE_END}{body}".encode()


def _post_pieces(path: str, host: str, port: int, user: str, token: str) -> tuple[bytes, bytes]:
    """A submission of a user, before and after its Idempotency-Key."""
    body = json.dumps({"actionId": "win", "userId": user}, separators=(",", ":"))
    head, _, _ = encode_post(path, host, port, token, body).partition(b"\r\n\r\n")
    return head + b"\r\nIdempotency-Key: ", f"\r\n\r\n{body}".encode()


class Loop:
    """What both kinds of loop keep: their connections, their window of time, and what was answered."""

    def __init__(self, job: Job, connections: list[Connection], requests: Iterator[bytes]) -> None:
        self._job = job
        self._connections = connections
        self._requests = requests
        self._expected: bytes = job["expect"].encode()
        self._each: int = job.get("batch", 1)
        self._latencies: list[float] = []
        self._accepted = 0
        self._wrong: Counter[str] = Counter()
        self._under_way = 0
        self._done = asyncio.Event()
        self._begins = self._ends = 0.0

    def _start_clock(self) -> float:
        start = monotonic() + START_DELAY_S
        self._begins = start + self._job["warmup_s"]
        self._ends = self._begins + self._job["seconds"]
        return start

    def _check(self, status: int, body: bytes) -> bool:
        if status == OK and (self._expected in body if self._each == 1 else body.count(self._expected) == self._each):
            self._accepted += self._each
            return True
        problem = next((part for part in body.split(ITEM)[1:] if self._expected not in ITEM + part), body)
        self._wrong[f"{status} {problem[:PROBLEM_BYTES].decode(errors='replace')}"] += 1
        return False

    def _result(self) -> dict[str, Any]:
        return {
            "job": self._job,
            "accepted": self._accepted,
            "wrong": sum(self._wrong.values()),
            "problems": dict(self._wrong.most_common(3)),
            "latency_ms": summarise_ms(self._latencies),
        }


class ClosedLoop(Loop):
    """Every connection always has one request under way."""

    async def run(self) -> dict[str, Any]:
        """Run to the end of the window and the last answer."""
        await asyncio.sleep(self._start_clock() - monotonic())
        for connection in self._connections:
            self._ask(connection)
        async with asyncio.timeout(self._ends - monotonic() + ANSWER_TIMEOUT_S):
            await self._done.wait()
        return self._result() | {"per_s": round(len(self._latencies) * self._each / self._job["seconds"], 1)}

    def _ask(self, connection: Connection) -> None:
        self._under_way += 1
        connection.ask(next(self._requests), partial(self._answered, connection, monotonic()))

    def _answered(self, connection: Connection, sent: float, status: int, body: bytes) -> None:
        now = monotonic()
        self._under_way -= 1
        # What began in the warm-up and ends in the window counts: it stands for what the window's end cuts off.
        if self._check(status, body) and self._begins <= now <= self._ends:
            self._latencies.append(now - sent)
        if now < self._ends and not connection.lost:
            self._ask(connection)
        elif not self._under_way:
            self._done.set()


class OpenLoop(Loop):
    """Requests leave at times that were fixed before, on any free connection."""

    def __init__(self, job: Job, connections: list[Connection], requests: Iterator[bytes]) -> None:
        super().__init__(job, connections, requests)
        self._free = deque(connections)
        self._due: deque[float] = deque()
        self._left = 0
        self._late: list[float] = []
        self._events: list[tuple[int, float, float]] = []
        self._last_seq = 0

    async def run(self) -> dict[str, Any]:
        """Send the whole schedule and wait for the last answer."""
        schedule = make_schedule(self._start_clock(), self._ends, self._job["rate"], self._job["seed"])
        self._left = len(schedule)
        stop = threading.Event()
        pacer = threading.Thread(target=self._pace, args=(schedule, asyncio.get_running_loop(), stop), daemon=True)
        pacer.start()
        try:
            async with asyncio.timeout(self._ends - monotonic() + ANSWER_TIMEOUT_S):
                await self._done.wait()
        finally:
            stop.set()
            pacer.join()
        result = self._result() | {"sent_late_ms": summarise_ms(self._late)}
        if self._job.get("events"):
            result |= {"events": sorted(self._events), "last_seq": self._last_seq}
        return result

    def _pace(self, schedule: list[float], loop: asyncio.AbstractEventLoop, stop: threading.Event) -> None:
        # A thread, because timers of the event loop are rounded to milliseconds, which is what is measured here.
        sent = 0
        while sent < len(schedule):
            wait_s = schedule[sent] - monotonic()
            if wait_s > 0:
                time.sleep(max(wait_s, PACE_S))
            if stop.is_set():
                return
            now, first = monotonic(), sent
            while sent < len(schedule) and schedule[sent] <= now:
                sent += 1
            if sent > first:
                loop.call_soon_threadsafe(self._fall_due, schedule[first:sent])

    def _fall_due(self, intended: list[float]) -> None:
        self._due.extend(intended)
        self._send_due()

    def _send_due(self) -> None:
        while self._due and self._free:
            intended, connection = self._due.popleft(), self._free.popleft()
            self._late.append(monotonic() - intended)
            connection.ask(next(self._requests), partial(self._answered, connection, intended))

    def _answered(self, connection: Connection, intended: float, status: int, body: bytes) -> None:
        now = monotonic()
        self._left -= 1
        if self._check(status, body):
            counts = intended >= self._begins
            if counts:
                self._latencies.append(now - intended)
            if self._job.get("events"):
                self._note_event(intended, body, counts=counts)
        if not connection.lost:
            self._free.append(connection)
            self._send_due()
        if not self._left:
            self._done.set()

    def _note_event(self, intended: float, body: bytes, *, counts: bool) -> None:
        receipt = json.loads(body)
        self._last_seq = max(self._last_seq, receipt["seq"])
        if counts:
            self._events.append((receipt["seq"], intended, datetime.fromisoformat(receipt["at"]).timestamp()))


def make_schedule(start: float, end: float, rate: float, seed: int) -> list[float]:
    """Times between start and end with exponential gaps, as independent clients make them.

    Even gaps could fall in step with a timer of the server, and would then measure the phase between the two.
    """
    gap = random.Random(seed)
    times: list[float] = []
    at = start + gap.expovariate(rate)
    while at < end:
        times.append(at)
        at += gap.expovariate(rate)
    return times or [start]


async def run_job(job: Job, host: str, port: int, tokens: list[tuple[str, str]]) -> dict[str, Any]:
    """Run one job on connections of its own."""
    connections = await connect(host, port, job["connections"])
    try:
        kind = ClosedLoop if job["loop"] == "closed" else OpenLoop
        return await kind(job, connections, make_requests(job, host, port, tokens)).run()
    finally:
        for connection in connections:
            connection.close()


async def run_plan(plan: dict[str, Any]) -> dict[str, Any]:
    """Run all jobs of a plan at the same time; results by name."""
    jobs: dict[str, Job] = plan["jobs"]
    runs = [run_job(job, plan["host"], plan["port"], plan["tokens"]) for job in jobs.values()]
    return dict(zip(jobs, await asyncio.gather(*runs), strict=True))


if __name__ == "__main__":
    print(json.dumps(uvloop.run(run_plan(json.loads(sys.stdin.readline())))), flush=True)
