"""Ending tasks for certain, and reading ahead.

One cancellation is not always enough: in Python 3.11 ``asyncio.wait_for`` swallows it when what it waits for
finishes in the same turn, and the libraries we call use it. A task that loops then goes on, and whoever waits for its
end waits for ever. So a task is cancelled until it has ended.

Source: https://github.com/python/cpython/issues/86296
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

CANCEL_AGAIN_S = 0.1
CANCELS_MAX = 50

T = TypeVar("T")


async def end_tasks(tasks: "Iterable[asyncio.Task[Any]]") -> "set[asyncio.Task[Any]]":
    """Cancel tasks and wait until they have ended; returns those that did not within CANCELS_MAX * CANCEL_AGAIN_S."""
    running = {task for task in tasks if not task.done()}
    for _ in range(CANCELS_MAX):
        if not running:
            break
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_S)
    return running


async def finish(work: "Coroutine[Any, Any, None]") -> None:
    """Do to its end what must not be left half done, however often its caller is cancelled meanwhile.

    :raises asyncio.CancelledError: afterwards, if it was.
    """
    task = asyncio.create_task(work, name="finish")
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as exc:
            cancelled = exc
    task.result()
    if cancelled is not None:
        raise cancelled


@asynccontextmanager
async def read_ahead(items: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """An iterator over the same items, of which the next one is already being read. It ends with the context."""
    end = object()
    reading: asyncio.Task[Any] = asyncio.create_task(anext(items, end), name="read-ahead")

    async def read() -> AsyncIterator[T]:
        nonlocal reading
        while (item := await reading) is not end:
            reading = asyncio.create_task(anext(items, end), name="read-ahead")
            yield item

    try:
        yield read()
    finally:
        await end_tasks([reading])
        if reading.done() and not reading.cancelled():
            reading.exception()  # nobody waits for it any more
