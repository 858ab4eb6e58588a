"""Ending tasks: also those whose library swallows a cancellation."""

import asyncio

import pytest

from scoreboard import tasks
from scoreboard.tasks import end_tasks
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
