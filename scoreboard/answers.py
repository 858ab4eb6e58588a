"""Answers that are kept, and questions that are put together.

A kept answer is given again only after somebody has looked that it still holds, and that look begins after the question
was asked. So nobody is told less than what had been told before. The same question asked by many at once is worked on
once for all who ask it before that begins; who comes later shares the next time, which finds the answer of the last one
and has only to look whether it holds.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, TypeVar

import msgspec

KEPT_MAX = 4_096
KEPT_BYTES_MAX = 16 * 1024 * 1024
"""Of all kept answers as they are encoded, keys included."""
KEPT_OVERHEAD_BYTES = 400
"""What an answer takes beside its bytes."""

T = TypeVar("T")
S = TypeVar("S")


class Kept(Generic[S]):
    """An encoded answer, its size, and the stamp of the state that it shows."""

    __slots__ = ("body", "size", "stamp")

    def __init__(self, stamp: S, body: bytes, size: int) -> None:
        self.stamp = stamp
        self.body = body
        self.size = size


class Answers:
    """Keeps answers by their questions, bounded in number and bytes; the one not asked for the longest goes first."""

    def __init__(self, *, kept_max: int = KEPT_MAX, bytes_max: int = KEPT_BYTES_MAX) -> None:
        self._kept: OrderedDict[Hashable, Kept[Any]] = OrderedDict()
        self._kept_max, self._bytes_max = kept_max, bytes_max
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable) -> Kept[Any] | None:
        """What is kept of a question; whether it still holds is not known."""
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def keep(self, key: Hashable, stamp: object, answer: object) -> None:
        """Keep an answer in the place of an earlier one."""
        self.drop(key)
        body = msgspec.msgpack.encode(answer)
        size = len(body) + len(msgspec.msgpack.encode(key)) + KEPT_OVERHEAD_BYTES
        self._kept[key] = Kept(stamp, body, size)
        self.bytes += size
        while len(self._kept) > self._kept_max or self.bytes > self._bytes_max:
            _, oldest = self._kept.popitem(last=False)
            self.bytes -= oldest.size

    def drop(self, key: Hashable) -> None:
        """Keep what is kept of a question no longer."""
        kept = self._kept.pop(key, None)
        if kept is not None:
            self.bytes -= kept.size


class Shared:
    """Runs the work for a question once for all who ask before it begins; never twice at the same time.

    Work that nobody waits for any more is cancelled.
    """

    def __init__(self) -> None:
        self._begun: dict[Hashable, asyncio.Task[Any]] = {}
        self._next: dict[Hashable, _Run] = {}

    async def run(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """What the work for a key gives, begun after this was called."""
        run = self._next.get(key)
        if run is None:
            run = self._next[key] = _Run()
            run.task = asyncio.create_task(self._begin(key, run, work), name="shared-answer")
            run.task.add_done_callback(_note_failure)
        run.waiting += 1
        try:
            found: T = await asyncio.shield(run.task)
            return found
        finally:
            run.waiting -= 1
            if not run.waiting and not run.task.done():
                self._forget(key, run)
                run.task.cancel()

    async def _begin(self, key: Hashable, run: "_Run", work: Callable[[], Awaitable[T]]) -> T:
        while (previous := self._begun.get(key)) is not None:
            await asyncio.wait([previous])
        self._forget(key, run)
        self._begun[key] = run.task
        try:
            return await work()
        finally:
            del self._begun[key]

    def _forget(self, key: Hashable, run: "_Run") -> None:
        if self._next.get(key) is run:
            del self._next[key]


class _Run:
    """Work that has not ended, and how many wait for it."""

    __slots__ = ("task", "waiting")

    task: "asyncio.Task[Any]"

    def __init__(self) -> None:
        self.waiting = 0


def _note_failure(task: "asyncio.Task[Any]") -> None:
    """Whoever waits is told; where nobody does any more, nobody needs to be."""
    if not task.cancelled():
        task.exception()
