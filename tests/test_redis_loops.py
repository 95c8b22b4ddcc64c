"""Event loops: many at once, one after another, closed in the middle; and closing, twice, early, or not at all."""

from __future__ import annotations

import asyncio
import gc
import importlib
import importlib.util
import threading
import weakref
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from banhammer import AsyncBanHammer, BanHammer, Policy, Threshold
from banhammer.backends.redis import RedisBackend
from closing import ClosedMeanwhile
from redis_counts import ROOM, RULES, count_down, count_down_in_tasks, count_down_in_threads, settings
from redis_stores import Store, at_rest, connections
from servers.proxy import Proxy
from servers.standalone import Standalone
from servers.waiting import until

pytest_plugins = ("redis_store_fixtures",)

Run = Callable[[Coroutine[Any, Any, None]], None]


def _in_anyio(main: Coroutine[Any, Any, None]) -> None:
    async def begin() -> None:
        await main

    importlib.import_module("anyio").run(begin)


def _in_uvloop(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=importlib.import_module("uvloop").new_event_loop) as runner:
        runner.run(main)


OTHERS: dict[str, Run] = {"anyio": _in_anyio, "uvloop": _in_uvloop}
RUNNERS: dict[str, Run] = {
    "asyncio": asyncio.run,
    **{name: run for name, run in OTHERS.items() if importlib.util.find_spec(name)},
}


@pytest.fixture
def no_collecting() -> Iterator[None]:
    """What nobody refers to any more stays: the driver would close it without a word."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collecting")
def test_a_connection_that_is_given_back_while_the_store_closes_is_closed_too(standalone: Standalone) -> None:
    at_rest(standalone)
    backend = RedisBackend(standalone.url, deadline="10s")
    with BanHammer(RULES, **settings(backend)) as hammer:
        assert hammer.hit("key", "api").remaining == ROOM - 1
        backend.close()
        backend._topology.servers()[0]._idle = ClosedMeanwhile(backend.close)
        assert hammer.hit("key", "api").remaining == ROOM - 2
    backend.close()
    until(lambda: connections(standalone) == 0, "closed")


@pytest.mark.parametrize("run", RUNNERS.values(), ids=RUNNERS)
def test_a_hammer_is_an_asynchronous_context_manager_that_leaves_no_connection(store: Store, run: Run) -> None:
    at_rest(store)

    async def main() -> None:
        async with AsyncBanHammer(RULES, **settings(store.url)) as hammer:
            await count_down_in_tasks(hammer, 0)
            assert connections(store) > 0

    run(main())
    until(lambda: connections(store) == 0, "without connections")


# Many loops.


def test_loops_and_threads_share_one_store_at_once(store: Store) -> None:
    backend = RedisBackend(store.url, deadline="10s")
    awaited, plain = AsyncBanHammer(RULES, **settings(backend)), BanHammer(RULES, **settings(backend))
    at_rest(store)

    async def main(number: int) -> None:
        await count_down_in_tasks(awaited, number)
        await backend.aio.close()

    with ThreadPoolExecutor(8) as pool:
        work = [pool.submit(asyncio.run, main(number)) for number in range(4)]
        work += [pool.submit(count_down_in_threads, plain, number) for number in range(4, 8)]
        for each in work:
            each.result(30)
    plain.close()
    backend.close()
    until(lambda: connections(store) == 0, "without connections")


def test_a_thread_and_a_loop_on_one_store_share_one_budget(store: Store) -> None:
    backend = RedisBackend(store.url, deadline="10s")
    awaited, plain = AsyncBanHammer(RULES, **settings(backend)), BanHammer(RULES, **settings(backend))

    async def main() -> int:
        told = await asyncio.gather(*[awaited.hit("k", "scarce") for _ in range(200)])
        await awaited.close()
        await backend.aio.close()
        return sum(each.allowed for each in told)

    with ThreadPoolExecutor(1) as pool:
        loop = pool.submit(asyncio.run, main())
        mine = sum(plain.hit("k", "scarce").allowed for _ in range(200))
        assert loop.result(30) + mine == 150
    plain.close()


# One loop after another.


@pytest.mark.parametrize("closing", [True, False], ids=["closed each time", "closed at last"])
def test_one_hammer_lives_through_three_loops(store: Store, closing: bool) -> None:
    hammer = AsyncBanHammer(RULES, **settings(store.url))
    at_rest(store)

    async def main(number: int) -> None:
        await count_down_in_tasks(hammer, number)
        if closing or number == 2:
            await hammer.close()

    for number in range(3):
        asyncio.run(main(number))
    if closing:
        until(lambda: connections(store) == 0, "without connections")
    else:
        assert connections(store) <= 2 * 2 * (3 if hammer._backend._topology._settings.cluster else 1)  # type: ignore[attr-defined]
    _collect(hammer)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_loops_that_end_without_a_word_leave_neither_themselves_nor_their_connections(single: Standalone) -> None:
    """The next loop sweeps up what closed loops left."""
    hammer = AsyncBanHammer(RULES, **settings(single.url))
    at_rest(single)
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def main(number: int) -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await count_down_in_tasks(hammer, number)

    for number in range(10):
        asyncio.run(main(number))
    gc.collect()
    assert sum(loop() is not None for loop in loops) <= 1
    until(lambda: connections(single) <= 2, "without the connections of closed loops", seconds=2)
    asyncio.run(hammer.close())
    _collect(hammer)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_loop_that_ends_in_the_middle_of_calls_leaves_no_answer_to_the_next(single: Standalone) -> None:
    with Proxy(single.port) as proxy:
        hammer = AsyncBanHammer(RULES, **settings(proxy.url))

        async def leaves() -> None:
            await hammer.hit("warm", "api")
            proxy.delay = 0.3
            calls = [asyncio.create_task(hammer.hit("k", "api", 7)) for _ in range(30)]
            await asyncio.sleep(0.1)
            assert not any(call.done() for call in calls)

        async def next_one(number: int) -> None:
            proxy.delay = 0.0
            await count_down_in_tasks(hammer, number)

        for number in range(3):
            asyncio.run(leaves())
            asyncio.run(next_one(number))
        asyncio.run(hammer.close())
        _collect(hammer)


# Closing.


def test_closing_twice_is_closing_once(store: Store) -> None:
    at_rest(store)
    plain = BanHammer(RULES, **settings(store.url))
    count_down(plain, "plain", 1)
    plain.close()
    plain.close()

    async def main() -> None:
        hammer = AsyncBanHammer(RULES, **settings(store.url))
        await count_down_in_tasks(hammer, 0)
        await hammer.close()
        await hammer.close()

    asyncio.run(main())
    BanHammer(RULES, **settings(store.url)).close()
    until(lambda: connections(store) == 0, "without connections")


def test_a_hammer_that_is_used_after_it_was_closed_works_as_before(store: Store) -> None:
    at_rest(store)
    ran: list[Any] = []
    plain = BanHammer(RULES, **settings(store.url, ran))
    for number in range(3):
        count_down(plain, f"plain-{number}", 5)
        assert not plain.hit(f"trapped-{number}", "trap")
        plain.close()
        assert len(ran) == number + 1

    async def main() -> None:
        hammer = AsyncBanHammer(RULES, **settings(store.url))
        for number in range(3):
            await count_down_in_tasks(hammer, number)
            await hammer.close()

    asyncio.run(main())
    until(lambda: connections(store) == 0, "without connections")


def test_a_hammer_that_was_closed_and_is_used_still_tells_what_its_cache_swallowed(single: Standalone) -> None:
    with BanHammer(RULES, **settings(single.url)) as hammer:
        hammer.close()
        for _ in range(11):
            hammer.hit("k", "slow")
        until(lambda: hammer.status("k", "slow").remaining[1] == 89, "told", seconds=5)


def test_a_hammer_that_was_closed_and_is_used_still_finds_a_store_that_comes_back(single: Standalone) -> None:
    policy = Policy("api", [Threshold(ROOM, "60d")])
    with Proxy(single.port) as proxy, BanHammer([policy], backend=proxy.url, deadline="1s") as hammer:
        hammer.hit("k", "api")
        hammer.close()
        proxy.refuse()
        assert all(hammer.hit("k", "api").degraded for _ in range(5))
        proxy.resume()
        until(lambda: not hammer.hit("k", "api").degraded, "asking the store again", seconds=5)


def test_closing_lets_a_call_in_flight_end_and_leaves_no_connection(single: Standalone) -> None:
    at_rest(single)
    with Proxy(single.port) as proxy:
        hammer = BanHammer(RULES, **settings(proxy.url))
        count_down(hammer, "warm", 1)
        proxy.delay = 0.3
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(hammer.hit, "k", "api", 5)
            until(lambda: hammer._backend._calls._leader._led_until, "in flight")  # type: ignore[attr-defined]
            hammer.close()
            assert call.result(10).remaining == ROOM - 5
        until(lambda: connections(single) == 0, "without connections", seconds=5)


def test_calls_that_queue_while_a_hammer_is_closed_are_decided(single: Standalone) -> None:
    with Proxy(single.port) as proxy, BanHammer(RULES, **settings(proxy.url)) as hammer:
        count_down(hammer, "warm", 1)
        proxy.delay = 0.3
        with ThreadPoolExecutor(6) as pool:
            calls = [pool.submit(hammer.hit, f"k{number}", "api", number + 1) for number in range(6)]
            until(lambda: len(hammer._backend._calls._leader._waiting) == 5, "queued")  # type: ignore[attr-defined]
            hammer.close()
            assert [call.result(10).remaining for call in calls] == [ROOM - number - 1 for number in range(6)]


@pytest.mark.parametrize("calls", [1, 30])
def test_closing_lets_tasks_in_flight_end_and_leaves_no_connection(single: Standalone, calls: int) -> None:
    at_rest(single)
    with Proxy(single.port) as proxy:

        async def main() -> None:
            hammer = AsyncBanHammer(RULES, **settings(proxy.url))
            await count_down_in_tasks(hammer, 0)
            proxy.delay = 0.3
            tasks = [asyncio.create_task(hammer.hit(f"k{number}", "api", number + 1)) for number in range(calls)]
            await asyncio.sleep(0.1)
            await hammer.close()
            told = await asyncio.gather(*tasks)
            assert [each.remaining for each in told] == [ROOM - number - 1 for number in range(calls)]
            await asyncio.to_thread(until, lambda: connections(single) == 0, "without connections", seconds=5)

        asyncio.run(main())


def test_a_backend_that_was_given_is_left_open(single: Standalone) -> None:
    """Whoever made it closes it; here another hammer still uses it."""
    backend = RedisBackend(single.url, deadline="10s")
    at_rest(single)
    with BanHammer(RULES, **settings(backend)) as one, BanHammer(RULES, **settings(backend)) as other:
        count_down(one, "one", 1)
        one.close()
        open_now = connections(single)
        assert open_now == 1
        count_down(other, "other", 2)
        assert connections(single) == open_now
    assert connections(single) == open_now
    backend.close()
    until(lambda: connections(single) == 0, "without connections")


def test_closing_ends_every_thread_that_the_hammer_began(single: Standalone) -> None:
    before = set(threading.enumerate())
    hammer = BanHammer(RULES, **settings(single.url))
    for _ in range(5):
        hammer.hit("k", "slow")
    hammer.hit("k", "trap")
    assert set(threading.enumerate()) - before
    hammer.close()
    until(lambda: set(threading.enumerate()) <= before, "without threads", seconds=5)


def _collect(hammer: AsyncBanHammer) -> None:
    """Let whatever closed loops left be collected here and not in another test."""
    for server in hammer._backend._topology.servers():  # type: ignore[attr-defined]
        server._loops.clear()
    gc.collect()
