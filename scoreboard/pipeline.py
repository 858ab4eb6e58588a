"""One connection to Redis on which commands don't wait for each other: each leaves at once, answers come in order.

What a submission waits for are two script calls. A pool takes a connection out, writes, waits, reads through streams
and puts the connection back, which took 140 us a call where this takes 65, with the server itself at 40. Long commands
and subscriptions stay with the pool; there nobody waits behind them.

An answer that does not come in time ends the connection, for what comes next on it can't be told from it, and everybody
who waits hears that the outcome is unknown. The next command opens another one.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, cast

import hiredis

Connect = Callable[[], Awaitable[asyncio.StreamWriter]]


class Pipeline:
    """Sends commands on a connection that is opened when first needed.

    :param connect: opens a connection that is ready for commands.
    :param timeout_s: how long an answer may take.
    """

    def __init__(self, connect: Connect, *, timeout_s: float) -> None:
        self._connect = connect
        self._timeout_s = timeout_s
        self._link: _Link | None = None
        self._opening: asyncio.Task[_Link] | None = None

    async def ask(self, *command: str | bytes | int) -> Any:
        """The answer to a command.

        :raises hiredis.ReplyError: if the answer is an error.
        :raises OSError: if the connection is lost, also by an answer that did not come in time: the outcome is unknown.
        """
        link = self._link
        if link is None or link.is_lost:
            link = await self._open()
        return await link.ask(hiredis.pack_command(command))  # type: ignore[arg-type]  # its tuple is of one

    async def _open(self) -> "_Link":
        """Open a connection, one for all who ask meanwhile."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._open_link(), name="open-pipeline")
            self._opening.add_done_callback(self._forget_opening)
        return await asyncio.shield(self._opening)

    def _forget_opening(self, done: "asyncio.Task[_Link]") -> None:
        self._opening = None
        if not done.cancelled():
            done.exception()  # whoever asked has it

    async def _open_link(self) -> "_Link":
        self._link = _Link(await self._connect(), self._timeout_s)
        return self._link

    def drop(self) -> None:
        """End the connection; the next command opens another one."""
        if self._link is not None:
            self._link.end()
            self._link = None


class _Link(asyncio.Protocol):
    """One connection, and those who wait for its answers, in order, each with the time at which it is overdue.

    The connection speaks RESP2, in which nothing comes but answers.
    """

    def __init__(self, writer: asyncio.StreamWriter, timeout_s: float) -> None:
        self._writer = writer  # kept: it closes its transport when nobody has it any more
        self._transport = cast(asyncio.Transport, writer.transport)
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._overdue: asyncio.TimerHandle | None = None
        self.is_lost = False
        self._transport.set_protocol(self)
        self._transport.resume_reading()

    def ask(self, data: bytes) -> "asyncio.Future[Any]":
        """Send a command; the future is its answer's."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if self.is_lost:
            future.set_exception(ConnectionResetError("the connection is lost"))
            return future
        due_at = self._loop.time() + self._timeout_s
        self._waiting.append((future, due_at))
        if self._overdue is None:
            self._overdue = self._loop.call_at(due_at, self._check_overdue)
        self._transport.write(data)
        return future

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets()) is not False:
                if not self._waiting:
                    raise hiredis.ProtocolError("nobody asked for it")
                future, _ = self._waiting.popleft()
                if future.done():  # whoever asked has gone
                    continue
                if isinstance(answer, hiredis.ReplyError):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
        except hiredis.ProtocolError as exc:
            self._lose(ConnectionResetError(f"what came is not an answer: {exc}"))

    def _check_overdue(self) -> None:
        self._overdue = None
        if not self._waiting:
            return
        due_at = self._waiting[0][1]
        if due_at <= self._loop.time():
            self._lose(TimeoutError(f"no answer within {self._timeout_s} s"))
        else:
            self._overdue = self._loop.call_at(due_at, self._check_overdue)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(exc if isinstance(exc, OSError) else ConnectionResetError("the connection was closed"))

    def end(self) -> None:
        """Close at once; whoever waits hears of it."""
        self._lose(ConnectionResetError("the connection was given up"))

    def _lose(self, reason: OSError) -> None:
        self.is_lost = True
        self._transport.abort()
        if self._overdue is not None:
            self._overdue.cancel()
        while self._waiting:
            future, _ = self._waiting.popleft()
            if not future.done():
                future.set_exception(type(reason)(*reason.args))
