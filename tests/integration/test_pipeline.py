"""Commands that share one connection: order, loss, silence, and what nobody asked for. The peer is a socket of ours."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import hiredis
import pytest

from scoreboard.pipeline import Pipeline
from tests.integration.conftest import Run

TIMEOUT_S = 0.2
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def connected(peer: Peer) -> AsyncIterator[tuple[Pipeline, list[int]]]:
    """A pipeline to a peer, and a list that grows with each connection."""
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(len(connections))
        try:
            await peer(reader, writer)
        except (OSError, EOFError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()

    async def connect() -> asyncio.StreamWriter:
        return (await asyncio.open_connection(host, port))[1]

    pipeline = Pipeline(connect, timeout_s=TIMEOUT_S)
    try:
        yield pipeline, connections
    finally:
        pipeline.drop()
        server.close()


async def read_command(reader: asyncio.StreamReader) -> list[bytes]:
    """The next command of a client."""
    count = int((await reader.readuntil(b"\r\n"))[1:])
    words = []
    for _ in range(count):
        size = int((await reader.readuntil(b"\r\n"))[1:])
        words.append((await reader.readexactly(size + 2))[:-2])
    return words


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        word = (await read_command(reader))[-1]
        writer.write(b"-ERR no\r\n" if word == b"bad" else b"$%d\r\n%b\r\n" % (len(word), word))


def test_answers_find_those_who_asked_whatever_became_of_the_others(run: Run) -> None:
    async def check() -> None:
        async with connected(echo) as (pipeline, connections):
            asked = [asyncio.ensure_future(pipeline.ask("ECHO", str(n) if n % 7 else "bad")) for n in range(100)]
            await asyncio.sleep(0)
            for each in asked[::5]:
                each.cancel()
            answers = await asyncio.gather(*asked, return_exceptions=True)
            for n, answer in enumerate(answers):
                if n % 5 == 0:
                    assert isinstance(answer, asyncio.CancelledError)
                elif n % 7 == 0:
                    assert isinstance(answer, hiredis.ReplyError)
                else:
                    assert answer == str(n).encode()
            assert connections == [0]

    run(check())


def test_what_nobody_asked_for_answers_nobody(run: Run) -> None:
    """A stray answer would shift all that follow: each would go to the wrong one."""
    strayed = asyncio.Event()

    async def stray_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not strayed.is_set():
            writer.write(b"$%d\r\n%b\r\n+stray\r\n" % (1, (await read_command(reader))[-1]))
            strayed.set()
        await echo(reader, writer)

    async def check() -> None:
        async with connected(stray_once) as (pipeline, connections):
            assert await pipeline.ask("ECHO", "a") == b"a"
            while len(connections) < 2:
                try:
                    assert await pipeline.ask("ECHO", "b") == b"b"
                except OSError:
                    pass  # it was under way when the stray came
            assert await pipeline.ask("ECHO", "c") == b"c"

    run(check())


def test_silence_is_given_up_for_all_who_wait_and_the_next_has_another_connection(run: Run) -> None:
    async def silent_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not was_silent.is_set():
            was_silent.set()
            await reader.read()
        else:
            await echo(reader, writer)

    was_silent = asyncio.Event()

    async def check() -> None:
        async with connected(silent_once) as (pipeline, connections):
            answers = await asyncio.gather(*(pipeline.ask("ECHO", "x") for _ in range(3)), return_exceptions=True)
            assert [type(answer) for answer in answers] == [TimeoutError] * 3
            assert await pipeline.ask("ECHO", "y") == b"y"
            assert connections == [0, 1]

    run(check())


def test_a_lost_connection_is_told_and_replaced(run: Run) -> None:
    async def close_after_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_command(reader)
        writer.write(b"+1\r\n")

    async def check() -> None:
        async with connected(close_after_one) as (pipeline, connections):
            for number in range(3):
                first, second = await asyncio.gather(pipeline.ask("A"), pipeline.ask("B"), return_exceptions=True)
                assert first == b"1"
                assert isinstance(second, ConnectionResetError)
                assert len(connections) == number + 1

    run(check())


def test_nobody_to_connect_to_is_told_to_all_who_asked(run: Run) -> None:
    async def check() -> None:
        async def refuse() -> asyncio.StreamWriter:
            raise ConnectionRefusedError("nobody there")

        pipeline = Pipeline(refuse, timeout_s=TIMEOUT_S)
        answers = await asyncio.gather(*(pipeline.ask("A") for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [ConnectionRefusedError] * 3
        with pytest.raises(ConnectionRefusedError):
            await pipeline.ask("A")

    run(check())
