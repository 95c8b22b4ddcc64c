"""Tasks share round trips: two calls in flight; nobody waits for ever, and nobody hears another's answer."""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any

import pytest

from banhammer.backends.gather import BATCH, FEW, IN_FLIGHT, Gatherer
from banhammer.errors import BackendError, BackendTimeout

PATIENCE = 10.0
"""Seconds that nothing here needs."""


class Loop:
    """What tasks ask: answers `-n` for `n`, each call held until it is let go."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.goes = [asyncio.Event() for _ in range(10)]
        self.gone = False
        self.turns = 1
        """How many turns of the event loop a call takes at least."""
        self.raises: dict[int, Exception] = {}
        self.flying = self.most = 0
        self.senders: list[asyncio.Task[Any] | None] = []
        self.gatherer = Gatherer(self.send, deadline=PATIENCE)

    async def send(self, asked: Sequence[int], until: float) -> Sequence[int]:
        number = len(self.calls)
        self.calls.append(list(asked))
        self.senders.append(asyncio.current_task())
        self.flying += 1
        self.most = max(self.most, self.flying)
        try:
            if not self.gone:
                await self.goes[number].wait()
            for _ in range(self.turns):
                await asyncio.sleep(0)
        finally:
            self.flying -= 1
        if number in self.raises:
            raise self.raises[number]
        return [-each for each in asked]

    async def start(self, *asked: int, until: float = PATIENCE) -> asyncio.Task[Sequence[int]]:
        task = asyncio.create_task(self.call(*asked, until=until))
        await settled()
        return task

    async def call(self, *asked: int, until: float = PATIENCE) -> Sequence[int]:
        return await self.gatherer.call(asked, monotonic() + until)

    def go(self) -> None:
        self.gone = True
        for event in self.goes:
            event.set()


async def settled() -> None:
    """Let every task come as far as it comes without time passing."""
    for _ in range(10):
        await asyncio.sleep(0)


def ring(gatherer: Gatherer[int, int]) -> None:
    """Let the gatherer's timer go off now."""
    assert gatherer._timer is not None
    gatherer._timer.cancel()
    gatherer._expire()


def in_a_loop(test: Callable[[Loop], Awaitable[None]]) -> Callable[[], None]:
    """Run a test in an event loop, in which nothing may be left: no task, queued call or unheard error."""

    async def run() -> None:
        complaints: list[dict[str, Any]] = []
        running: Any = asyncio.get_running_loop()
        running.set_exception_handler(lambda loop, context: complaints.append(context))
        loop = Loop()
        await test(loop)
        loop.go()
        await settled()
        gc.collect()
        assert len([timer for timer in running._scheduled if not timer.cancelled()]) <= 1  # One for all that ever wait.
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert (loop.gatherer._flying, len(loop.gatherer._waiting), complaints) == (0, 0, [])

    def wrapped() -> None:
        asyncio.run(run())

    return wrapped


@in_a_loop
async def test_a_lone_task_sends_itself(loop: Loop) -> None:
    task = await loop.start(1)
    loop.go()
    assert await task == [-1]
    assert loop.senders == [task]


@in_a_loop
async def test_what_tasks_queue_during_calls_goes_together_in_order_with_two_in_flight(loop: Loop) -> None:
    tasks = [await loop.start(*each) for each in ((1,), (2,), (3, 4), (5,), (6, 7))]
    assert loop.calls == [[1], [2]]
    loop.goes[1].set()
    await settled()
    assert loop.calls == [[1], [2], [3, 4, 5, 6, 7]]
    tasks.append(await loop.start(8))
    assert loop.flying == IN_FLIGHT
    loop.go()
    assert await asyncio.gather(*tasks) == [[-1], [-2], [-3, -4], [-5], [-6, -7], [-8]]
    assert (loop.most, loop.calls[3:]) == (IN_FLIGHT, [[8]])


@in_a_loop
async def test_tasks_that_begin_at_once_share_two_calls_so_that_one_is_always_answered(loop: Loop) -> None:
    loop.go()
    await asyncio.gather(*[loop.call(each) for each in range(101)])
    assert loop.calls == [[0], list(range(1, 51)), list(range(51, 101))]


@in_a_loop
async def test_two_calls_in_flight_are_of_the_same_size_whoever_began_alone(loop: Loop) -> None:
    loop.go()
    loop.turns = 2

    async def ask(number: int) -> None:
        for _ in range(30):
            await loop.call(number)

    await asyncio.gather(*[ask(number) for number in range(64)])
    assert loop.most == IN_FLIGHT
    sizes = [len(call) for call in loop.calls]
    assert (sizes[0], set(sizes[1:-1])) == (1, {32}), sizes  # Whoever went alone comes last.


@in_a_loop
async def test_few_tasks_share_a_call_and_are_not_parted(loop: Loop) -> None:
    loop.go()
    await asyncio.gather(*[loop.call(each) for each in range(FEW + 1)])
    assert loop.calls == [[0], list(range(1, FEW + 1))]


@in_a_loop
async def test_tasks_share_at_most_128_in_a_call_and_a_larger_one_goes_alone(loop: Loop) -> None:
    large = range(1_000, 1_000 + BATCH + 50)
    loop.go()
    told = await asyncio.gather(*[loop.call(each) for each in range(300)], loop.call(*large))
    assert told == [*[[-each] for each in range(300)], [-each for each in large]]
    assert loop.calls[:3] == [[0], list(range(1, BATCH + 1)), list(range(BATCH + 1, 2 * BATCH + 1))]
    assert loop.calls[-1] == list(large)
    assert [each for call in loop.calls[:-1] for each in call] == list(range(300))


@in_a_loop
async def test_an_error_fails_the_tasks_of_its_call_and_only_those(loop: Loop) -> None:
    loop.raises = {2: BackendError("away")}
    tasks = [await loop.start(each) for each in (1, 2, 3, 4)]
    loop.goes[0].set()
    await settled()
    tasks.append(await loop.start(5))
    loop.go()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert told == [[-1], [-2], loop.raises[2], loop.raises[2], [-5]]


@in_a_loop
async def test_an_error_of_a_lone_task_is_its_own_and_the_next_goes(loop: Loop) -> None:
    loop.raises = {0: BackendError("away"), 1: BackendError("away too")}
    tasks = [await loop.start(each) for each in (1, 2, 3)]
    loop.go()
    assert await asyncio.gather(*tasks, return_exceptions=True) == [loop.raises[0], loop.raises[1], [-3]]


@in_a_loop
async def test_a_task_that_is_cancelled_before_it_is_sent_is_never_sent(loop: Loop) -> None:
    tasks = [await loop.start(each) for each in (1, 2, 3, 4)]
    tasks[2].cancel()
    loop.go()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [told[0], told[1], told[3]] == [[-1], [-2], [-4]]
    assert tasks[2].cancelled()
    assert loop.calls == [[1], [2], [4]]


@in_a_loop
async def test_a_task_that_is_cancelled_in_flight_takes_nothing_from_the_others(loop: Loop) -> None:
    tasks = [await loop.start(each) for each in (1, 2)]
    tasks += [asyncio.create_task(loop.call(each)) for each in (3, 4, 5)]
    await settled()
    loop.goes[0].set()
    await settled()
    assert loop.calls[2] == [3, 4, 5]
    tasks[3].cancel()
    loop.go()
    told = await asyncio.gather(*tasks, return_exceptions=True)
    assert tasks[3].cancelled()
    assert [told[2], told[4]] == [[-3], [-5]]


@in_a_loop
async def test_a_lone_task_that_is_cancelled_strands_nobody(loop: Loop) -> None:
    tasks = [await loop.start(each) for each in (1, 2, 3)]
    tasks[0].cancel()
    await settled()
    assert loop.calls == [[1], [2], [3]]
    loop.go()
    assert await asyncio.gather(*tasks[1:]) == [[-2], [-3]]


@in_a_loop
async def test_a_flight_that_is_cancelled_fails_its_riders_and_strands_nobody(loop: Loop) -> None:
    tasks = [await loop.start(each) for each in (1, 2, 3)]
    loop.goes[0].set()
    await settled()
    assert loop.calls == [[1], [2], [3]]
    tasks.append(await loop.start(4))
    for flight in list(loop.gatherer._flights):
        flight.cancel()
    loop.go()
    async with asyncio.timeout(PATIENCE / 2):
        told = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in told] == [list, BackendTimeout, BackendTimeout, list]
    assert loop.calls[3:] == [[4]]


@in_a_loop
async def test_a_flight_that_is_cancelled_before_it_began_strands_nobody(loop: Loop) -> None:
    first = await loop.start(1)
    second = asyncio.create_task(loop.call(2))
    asyncio.get_running_loop().call_soon(lambda: [flight.cancel() for flight in loop.gatherer._flights])
    await settled()
    loop.go()
    async with asyncio.timeout(PATIENCE / 2):
        assert [await first, await second] == [[-1], [-2]]


@in_a_loop
async def test_a_task_whose_time_is_up_is_never_sent_or_takes_nothing_from_the_others(loop: Loop) -> None:
    tasks = [await loop.start(1), await loop.start(2, until=0.01), await loop.start(3, until=0.01)]
    with pytest.raises(BackendTimeout):
        await tasks[1]
    with pytest.raises(BackendTimeout):
        await tasks[2]
    tasks.append(await loop.start(4))
    loop.go()
    assert [await tasks[0], await tasks[3]] == [[-1], [-4]]
    assert loop.calls == [[1], [2], [4]]


@in_a_loop
async def test_tasks_whose_time_is_up_at_about_the_same_time_end_together_and_others_in_their_own(loop: Loop) -> None:
    with pytest.MonkeyPatch.context() as patch:
        began = now = monotonic()
        patch.setattr("banhammer.backends.gather.monotonic", lambda: now)
        held = [await loop.start(each) for each in (1, 2)]
        early = [asyncio.create_task(loop.call(3, until=5.0)), asyncio.create_task(loop.call(4, until=5.15))]
        late = asyncio.create_task(loop.call(5, until=7.0))
        await settled()
        now = began + 5.05
        ring(loop.gatherer)
        await settled()
        assert [task.done() for task in (*held, *early, late)] == [False, False, True, True, False]
        timer = loop.gatherer._timer
        assert timer is not None
        assert 1.5 < timer.when() - asyncio.get_running_loop().time() < 2.0
        now = began + 7.1
        ring(loop.gatherer)
        loop.go()
        told = await asyncio.gather(*held, *early, late, return_exceptions=True)
    assert [type(each) for each in told] == [list, list, BackendTimeout, BackendTimeout, BackendTimeout]
    assert loop.calls == [[1], [2]]


@in_a_loop
async def test_a_timer_that_was_interrupted_is_set_anew_by_the_next_task(loop: Loop) -> None:
    held = [await loop.start(each) for each in (1, 2)]

    def interrupt() -> float:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("banhammer.backends.gather.monotonic", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ring(loop.gatherer)
    with pytest.raises(BackendTimeout):
        await loop.call(3, until=0.01)
    loop.go()
    assert await asyncio.gather(*held) == [[-1], [-2]]


@in_a_loop
async def test_a_task_beside_whom_no_flight_can_begin_hears_why_and_the_next_ones_go_on(loop: Loop) -> None:
    running = asyncio.get_running_loop()
    first = await loop.start(1)
    second = asyncio.create_task(loop.call(2))

    def refuse(loop: Any, task: Any, **kwargs: Any) -> Any:
        task.close()
        raise RecursionError("no stack is left")

    running.set_task_factory(refuse)
    with pytest.raises(RecursionError):
        await second
    running.set_task_factory(None)
    third = await loop.start(3)
    loop.go()
    assert await asyncio.gather(first, third) == [[-1], [-3]]
    assert loop.calls == [[1], [3]]


@in_a_loop
async def test_a_task_that_is_cancelled_as_its_call_fails_leaves_no_error_unheard(loop: Loop) -> None:
    async def fail(asked: Sequence[int], until: float) -> Sequence[int]:
        asyncio.get_running_loop().call_soon(second.cancel)  # Comes before the failure reaches the task.
        raise BackendError("away")

    first = await loop.start(1)
    loop.gatherer._send = fail
    second = asyncio.create_task(loop.call(2))
    await settled()
    assert second.cancelled()
    loop.go()
    assert await first == [-1]


@in_a_loop
async def test_closing_lets_the_calls_in_flight_end(loop: Loop) -> None:
    tasks = [await loop.start(1)]
    closing = [asyncio.create_task(loop.gatherer.close()) for _ in range(3)]
    await settled()
    tasks += [await loop.start(each) for each in (2, 3)]
    closing[0].cancel()
    for go in (0, 1):
        assert not any(each.done() for each in closing[1:])
        loop.goes[go].set()
        await settled()
    loop.go()
    await asyncio.gather(*closing[1:])
    assert loop.flying == 0
    assert [await task for task in tasks] == [[-1], [-2], [-3]]
    await loop.gatherer.close()


@in_a_loop
async def test_a_thousand_cancellations_disturb_nobody(loop: Loop) -> None:
    loop.go()
    chance = random.Random(3)
    kept: list[tuple[int, asyncio.Task[Sequence[int]]]] = []
    for each in range(3_000):
        task = asyncio.create_task(loop.call(each))
        if each % 3:
            kept.append((each, task))
        else:
            asyncio.get_running_loop().call_soon(task.cancel)
        if chance.random() < 0.2:
            await asyncio.sleep(0)
    for each, task in kept:
        assert await task == [-each]
    assert loop.most <= IN_FLIGHT


def test_a_loop_that_ends_in_the_middle_of_calls_leaves_nothing_behind() -> None:
    async def leave() -> None:
        loop = Loop()
        for each in range(5):
            await loop.start(each)

    asyncio.run(leave())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Of the flights of the closed loop.
def test_what_waits_on_a_closed_loop_is_sent_by_no_other() -> None:
    sent: list[int] = []

    async def send(asked: Sequence[int], until: float) -> Sequence[int]:
        sent.extend(asked)
        await asyncio.sleep(PATIENCE)
        return asked

    async def ask(gatherer: Gatherer[int, int], number: int) -> Sequence[int]:
        return await gatherer.call((number,), monotonic() + PATIENCE)

    async def begin() -> list[asyncio.Task[Sequence[int]]]:
        gatherer: Gatherer[int, int] = Gatherer(send, deadline=PATIENCE)
        calls = [asyncio.create_task(ask(gatherer, each)) for each in range(3 * FEW)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return calls

    async def go_on() -> None:
        gc.collect()
        for _ in range(5):
            await asyncio.sleep(0)

    closed = asyncio.new_event_loop()
    calls = closed.run_until_complete(begin())
    closed.close()
    before = list(sent)
    del closed, calls
    asyncio.run(go_on())
    assert 1 < len(before) < 3 * FEW
    assert sent == before


def test_a_flight_that_dies_of_anything_leaves_nobody_waiting() -> None:
    async def tell_nonsense(asked: Sequence[int], until: float) -> Any:
        await asyncio.sleep(0)

    async def ask(gatherer: Gatherer[int, int], number: int) -> Sequence[int]:
        return await gatherer.call((number,), monotonic() + PATIENCE)

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.append(context["exception"]))
        gatherer: Gatherer[int, int] = Gatherer(tell_nonsense, deadline=PATIENCE)
        async with asyncio.timeout(PATIENCE / 2):
            calls = [asyncio.create_task(ask(gatherer, each)) for each in range(3)]
            told = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(each) for each in told] == [type(None), BackendTimeout, BackendTimeout]
        assert gatherer._flying == 0

    errors: list[BaseException] = []
    asyncio.run(run())
    gc.collect()
    assert [type(error) for error in errors] == [TypeError]
