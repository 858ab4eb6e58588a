"""The lane's bounds, kept answers' bounds, and questions that are worked on once."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from scoreboard.answers import KEPT_OVERHEAD_BYTES, Answers, Shared
from scoreboard.errors import Overloaded, Unavailable
from scoreboard.lane import Lane

Run = Callable[[Coroutine[Any, Any, Any]], Any]
DEADLINE_S = 5.0


class Count:
    """A counter."""

    count = 0

    def inc(self) -> None:
        self.count += 1


def test_a_lane_lets_in_so_many_at_once_in_the_order_asked(run: Run) -> None:
    async def use() -> tuple[int, list[int]]:
        lane, inside, most, order = Lane("things", 2, Count()), 0, 0, []

        async def pass_through(number: int) -> None:
            nonlocal inside, most
            async with lane.turn():
                inside, most = inside + 1, max(most, inside + 1)
                order.append(number)
                await asyncio.sleep(0.001)
                inside -= 1

        await asyncio.gather(*(pass_through(number) for number in range(10)))
        assert lane.waiting == 0
        return most, order

    assert run(use()) == (2, list(range(10)))


def test_beyond_the_queue_is_refused_at_once_and_beyond_the_wait_soon(run: Run) -> None:
    async def use() -> None:
        refused, over = Count(), asyncio.Event()
        lane = Lane("things", 1, refused, queue_max=2, wait_s=0.05)

        async def hold() -> None:
            async with lane.turn():
                await over.wait()

        holding = asyncio.create_task(hold())
        await asyncio.sleep(0)
        waiting = [asyncio.create_task(hold()) for _ in range(2)]
        await asyncio.sleep(0)
        assert lane.waiting == 2
        with pytest.raises(Overloaded, match="too many things") as told:
            await hold()
        assert told.value.status == 503 and int(told.value.headers["Retry-After"]) >= 1
        for each in waiting:
            with pytest.raises(Overloaded):
                await each
        assert (lane.waiting, refused.count) == (0, 3)
        over.set()
        await holding
        async with lane.turn():
            pass

    run(use())


def test_who_hangs_up_gives_back_the_turn_and_the_place_in_the_queue(run: Run) -> None:
    async def use() -> None:
        lane = Lane("things", 1, Count(), queue_max=1)

        async def hold() -> None:
            async with lane.turn():
                await asyncio.sleep(60)

        for _ in range(5):
            holding, waiting = asyncio.create_task(hold()), asyncio.create_task(hold())
            await asyncio.sleep(0)
            waiting.cancel()
            holding.cancel()
            await asyncio.gather(holding, waiting, return_exceptions=True)
            assert lane.waiting == 0
        async with asyncio.timeout(DEADLINE_S), lane.turn():
            pass

    run(use())


def test_a_question_is_worked_on_once_for_all_who_ask_before_it_begins(run: Run) -> None:
    async def use() -> None:
        shared, begun, go_on = Shared(), [], asyncio.Event()

        async def work() -> int:
            begun.append(len(begun) + 1)
            number = begun[-1]
            await go_on.wait()
            return number

        first = [asyncio.create_task(shared.run("same", work)) for _ in range(3)]
        other = asyncio.create_task(shared.run("other", work))
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(begun) == 2
        later = [asyncio.create_task(shared.run("same", work)) for _ in range(3)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(begun) == 2, "the same question is not worked on twice at the same time"
        go_on.set()
        found = await asyncio.gather(*first, other, *later)
        assert (len(set(found[:3])), len(set(found[4:]))) == (1, 1)
        assert found[4] == 3, "whoever asks later gets what began later"
        assert not shared._begun and not shared._next

    run(use())


def test_work_that_nobody_waits_for_any_more_is_cancelled(run: Run) -> None:
    async def use() -> None:
        shared, ended, begun = Shared(), [], asyncio.Event()

        async def work() -> None:
            begun.set()
            try:
                await asyncio.sleep(60)
            finally:
                ended.append("yes")

        asking = [asyncio.create_task(shared.run("same", work)) for _ in range(2)]
        await begun.wait()
        late = asyncio.create_task(shared.run("same", work))
        await asyncio.sleep(0)
        asking[0].cancel()
        await asyncio.gather(asking[0], return_exceptions=True)
        await asyncio.sleep(0)
        assert not ended, "one still waits"
        begun.clear()
        asking[1].cancel()
        async with asyncio.timeout(DEADLINE_S):
            await begun.wait()  # the next one's turn
        assert ended == ["yes"]
        late.cancel()
        await asyncio.gather(*asking, late, return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)
        assert ended == ["yes", "yes"]
        assert not shared._begun and not shared._next

    run(use())


def test_a_failure_is_told_to_all_who_share_it_and_forgotten(run: Run) -> None:
    async def use() -> None:
        shared = Shared()

        async def fail() -> None:
            raise Unavailable("gone")

        async def succeed() -> str:
            return "there"

        found = await asyncio.gather(*(shared.run("same", fail) for _ in range(3)), return_exceptions=True)
        assert [type(each) for each in found] == [Unavailable] * 3
        assert await shared.run("same", succeed) == "there"

    run(use())


def test_kept_answers_are_bounded_and_the_oldest_goes_first() -> None:
    answers = Answers(kept_max=3, bytes_max=4 * KEPT_OVERHEAD_BYTES)
    for number in range(4):
        answers.keep(("q", number), number, "small")
        assert answers.get(("q", 0)) is not None or number == 3
    assert len(answers) == 3
    assert answers.get(("q", 1)) is None, "the one not asked for the longest"
    size = answers.bytes
    answers.keep(("q", 0), 9, "small")
    assert (answers.bytes, len(answers)) == (size, 3)
    answers.keep(("q", 5), 5, "x" * 2 * KEPT_OVERHEAD_BYTES)
    assert len(answers) < 3 and answers.bytes <= 4 * KEPT_OVERHEAD_BYTES
    answers.keep(("q", 6), 6, "x" * 5 * KEPT_OVERHEAD_BYTES)
    assert (len(answers), answers.bytes) == (0, 0), "one that is larger than all room is not kept"
    answers.drop("never there")
