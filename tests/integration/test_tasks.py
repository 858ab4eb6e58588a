"""Ending tasks: also those whose library swallows a cancellation."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from scoreboard import tasks
from scoreboard.tasks import end_tasks, read_ahead
from tests.integration.conftest import Run


async def swallow(cancellations: int) -> None:
    """Run for ever, but for this many cancellations that are taken no notice of."""
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if not cancellations:
                raise
            cancellations -= 1


@pytest.mark.parametrize("cancellations", [0, 1, 3])
def test_a_task_that_swallows_cancellations_ends_all_the_same(run: Run, cancellations: int) -> None:
    async def check() -> None:
        task = asyncio.create_task(swallow(cancellations))
        await asyncio.sleep(0)
        assert await end_tasks([task]) == set()
        assert task.cancelled()

    run(check())


def test_a_task_that_never_ends_is_given_up_and_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "CANCEL_AGAIN_S", 0.01)
    monkeypatch.setattr(tasks, "CANCELS_MAX", 3)

    async def check() -> None:
        task = asyncio.create_task(swallow(4))
        await asyncio.sleep(0)
        assert await end_tasks([task]) == {task}
        await end_tasks([task])

    run(check())


async def count(begun: list[int], through: int) -> AsyncIterator[int]:
    for number in range(1, through + 1):
        begun.append(number)
        await asyncio.sleep(0)
        yield number


def test_the_next_item_is_read_while_the_last_is_used(run: Run) -> None:
    async def check() -> None:
        begun: list[int] = []
        async with read_ahead(count(begun, 3)) as ahead:
            async for number in ahead:
                await asyncio.sleep(0)  # what uses it waits too
                assert begun[-1] == min(number + 1, 3)
        assert begun == [1, 2, 3]

    run(check())


def test_reading_ahead_ends_with_its_context(run: Run) -> None:
    async def check() -> None:
        begun: list[int] = []
        async with read_ahead(count(begun, 3)) as ahead:
            assert await anext(ahead) == 1
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert begun == [1, 2] or begun == [1]

    run(check())


def test_an_error_ahead_comes_where_its_item_would(run: Run) -> None:
    async def fail() -> AsyncIterator[int]:
        yield 1
        raise ValueError("no second")

    async def check() -> None:
        async with read_ahead(fail()) as ahead:
            assert await anext(ahead) == 1
            with pytest.raises(ValueError, match="no second"):
                await anext(ahead)

    run(check())
