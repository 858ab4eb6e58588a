"""Streams under abuse: who erases in a loop, who claims to know what nobody can know, and what others notice of it."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic
from typing import Any

import httpx

from tests.abuse.bystander import bystander
from tests.harness import DEADLINE_S, Frame, Parser, Server, make_token

RESET_S = 1.0
CONVERGES_WITHIN_S = 5.0


class Reader(asyncio.Protocol):
    """An open stream, over HTTP/1.0 and so without chunks, and when it was reset."""

    def __init__(self, path: str, headers: str = "") -> None:
        self.frames: list[Frame] = []
        self.resets: list[float] = []
        self.began: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = f"GET {path} HTTP/1.0\r\nHost: t\r\n{headers}\r\n".encode()
        self._head: bytes | None = b""
        self._parser = Parser()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            self._head, found, data = (self._head + data).partition(b"\r\n\r\n")
            if not found:
                return
            assert b" 200 " in self._head.split(b"\r\n")[0], self._head
            self._head = None
        self._parser.feed(data)
        for frame in self._parser.take():
            self.frames.append(frame)
            if frame.event == "reset":
                self.resets.append(monotonic())
        if self.frames and self.frames[-1].event == "leaderboard" and not self.began.done():
            self.began.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.began.done():
            self.began.set_exception(ConnectionResetError("the stream ended before it began"))

    @property
    def top(self) -> object:
        return next((frame.data["top10"] for frame in reversed(self.frames) if frame.event == "leaderboard"), None)


@asynccontextmanager
async def reading(server: Server, headers: str = "") -> Any:
    """An open stream of the board ``global``, once it has begun."""
    loop = asyncio.get_running_loop()
    transport, reader = await loop.create_connection(
        lambda: Reader("/api/leaderboard/stream", headers), "127.0.0.1", server.port
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            await reader.began
        yield reader
    finally:
        transport.abort()


async def until(condition: Callable[[], object], within_s: float, what: str) -> None:
    deadline = monotonic() + within_s
    while not condition():
        assert monotonic() < deadline, f"{what} did not come true within {within_s} s"
        await asyncio.sleep(0.01)


def test_submissions_and_erasures_in_a_loop(server: Server, full: bool) -> None:
    """Every one of them is something that readers may not know any more; they begin anew once a second for all."""

    async def abuse() -> None:
        as_player = {"Authorization": f"Bearer {make_token('victim')}"}
        as_admin = {"Authorization": f"Bearer {make_token('admin', 'admin')}"}
        async with AsyncExitStack() as stack:
            readers = [await stack.enter_async_context(reading(server)) for _ in range(1_000 if full else 100)]
            client = await stack.enter_async_context(httpx.AsyncClient(base_url=server.url))
            began, rounds = monotonic(), 0
            while monotonic() - began < (60 if full else 3):
                answer = await client.post("/api/scores", json={"actionId": "win"}, headers=as_player)
                assert answer.status_code == 200
                assert (await client.delete("/api/users/victim", headers=as_admin)).status_code == 204
                rounds += 1
            lasted = monotonic() - began
            print(f"{rounds} rounds in {lasted:.1f} s: {max(len(reader.resets) for reader in readers)} resets")
            assert rounds > 2 * lasted, "too few to tell"
            await asyncio.sleep(RESET_S)  # the last reset may be held back for as long
            page = (await client.get("/api/leaderboard")).json()["leaderboard"]
            assert [entry["userId"] for entry in page] == ["bystander"]
            for reader in readers:
                await until(lambda r=reader: knows_only_the_bystander(r), CONVERGES_WITHIN_S, "what a reader knows")
                assert 1 <= len(reader.resets) <= lasted / RESET_S + 3
                assert {frame.data["reason"] for frame in reader.frames if frame.event == "reset"} == {"erased"}

    with bystander(server) as waits:
        asyncio.run(abuse())
    waits.check(p95_ms=300, max_ms=2_000)


def knows_only_the_bystander(reader: Reader) -> bool:
    return [entry["userId"] for entry in reader.top or []] == ["bystander"]  # type: ignore[attr-defined]


def flood(server: Server, seconds: float, last_ids: Callable[[int], str]) -> tuple[int, float]:
    """Open streams with made-up positions, 50 at a time; how many, and how long that took."""
    opened = 0

    async def go_on(until: float) -> None:
        nonlocal opened
        while monotonic() < until:
            opened += 1
            async with reading(server, f"Last-Event-ID: {last_ids(opened)}\r\n") as reader:
                assert reader.frames[0].event == "reset"

    async def all_of_them() -> None:
        until = monotonic() + seconds
        await asyncio.gather(*(go_on(until) for _ in range(50)))

    began = monotonic()
    asyncio.run(all_of_them())
    return opened, monotonic() - began


def test_streams_that_claim_to_come_from_the_future(server: Server, full: bool) -> None:
    epoch = server.submit("somebody").json()["epoch"]
    with bystander(server) as waits:
        before = server.metric("scoreboard_looked_again_total")
        opened, lasted = flood(
            server, 30 if full else 3, lambda n: f"{epoch}-{10**9 + n}" if n % 2 else f"epoch{n}-{n}"
        )
        looked = server.metric("scoreboard_looked_again_total") - before
    print(f"{opened} streams in {lasted:.1f} s: {looked:.0f} looks")
    assert opened >= 50
    assert looked <= lasted + 2
    waits.check(p95_ms=300, max_ms=2_000)


def test_streams_that_claim_to_come_from_before_a_break(server: Server, full: bool) -> None:
    """What a log can't be continued by is read once, or never."""
    epoch = server.submit("somebody").json()["epoch"]
    with server.client("admin", "admin") as admin:
        assert admin.delete("/api/users/somebody").status_code == 204
    with bystander(server) as waits:
        opened, lasted = flood(server, 30 if full else 3, lambda n: f"{epoch}-{n % 2}")
        read_back = server.metric("scoreboard_reached_back_total")
    print(f"{opened} streams in {lasted:.1f} s: {read_back:.0f} times read back")
    assert opened >= 200
    assert read_back <= 1
    waits.check(p95_ms=300, max_ms=2_000)
