"""Forks, event loops, cancellation and closing: no answer reaches another caller, and nothing is left behind."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from banhammer import AsyncBanHammer, BanHammer, Policy, Threshold
from banhammer.backends.memcached import MemcachedBackend
from banhammer.backends.memcached.backend import THREADS
from closing import ClosedMeanwhile
from memcached_sides import PATIENCE
from redis_children import Child
from redis_counts import ROOM, RULES, count_down, count_down_in_tasks, count_down_in_threads, settings
from servers.memcached import Memcached, MemcachedProxy
from servers.waiting import until

pytest_plugins = ("memcached_fixtures",)
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

CHILDREN = 3
HUGE = 1_000_000
ONE = [Policy("api", [Threshold(HUGE, "365d")], on_error="closed")]


def connections(server: Memcached) -> int:
    """Return how many clients are connected, without the one that asks."""
    return server.ask(b"stats conns\r\n").count(b"listen_addr") - 1


@pytest.fixture(scope="module")
def memcached_server() -> Iterator[Memcached]:
    """A server of this module's own: its connections are counted."""
    with Memcached() as server:
        yield server


@pytest.fixture
def alone(memcached: Memcached) -> Iterator[None]:
    """The server has no other clients, and none when the test is over."""
    until(lambda: connections(memcached) == 0, "alone")
    yield
    until(lambda: connections(memcached) == 0, "without connections")


# Forks.


@pytest.mark.parametrize("used", [True, False], ids=["used before", "only built before"])
def test_a_parent_and_its_children_hear_only_their_own_answers(memcached: Memcached, used: bool) -> None:
    with BanHammer(RULES, **settings(memcached.url)) as hammer:
        if used:
            count_down_in_threads(hammer, 9)
        children = [Child(partial(count_down_in_threads, hammer, n)) for n in range(CHILDREN)]
        count_down_in_threads(hammer, CHILDREN)
        for child in children:
            child.result()
        count_down_in_threads(hammer, CHILDREN + 1)


def test_a_fork_while_other_threads_are_inside_calls_disturbs_nobody(
    memcached: Memcached, proxy: MemcachedProxy
) -> None:
    """One thread's call is in flight and others queue behind it; none of them exists in the child."""
    backend = MemcachedBackend(proxy.url, deadline=PATIENCE)
    with BanHammer(RULES, **settings(backend)) as hammer:
        count_down(hammer, "before", 1)
        proxy.delay = 0.2
        (leader,) = backend._leaders.values()
        with ThreadPoolExecutor(5) as pool:
            calls = [pool.submit(hammer.hit, f"k{number}", "api", number + 1) for number in range(5)]
            until(lambda: leader._led_until and len(leader._waiting) == 4, "queued")
            child = Child(lambda: [hammer.hit(f"c{number}", "api", 11 + number).remaining for number in range(2)])
            assert [call.result(10).remaining for call in calls] == [ROOM - number - 1 for number in range(5)]
        assert child.result() == [ROOM - 11, ROOM - 12]
    backend.close()


def test_an_asyncio_parent_forks_and_both_sides_go_on(memcached: Memcached) -> None:
    async def main() -> None:
        async with AsyncBanHammer(RULES, **settings(memcached.url)) as hammer:
            await count_down_in_tasks(hammer, 0)
            children = [Child(partial(_in_a_loop, hammer, n)) for n in range(1, CHILDREN + 1)]
            await count_down_in_tasks(hammer, CHILDREN + 1)
            for child in children:
                await asyncio.to_thread(child.result)

    asyncio.run(main())


def _in_a_loop(hammer: AsyncBanHammer, number: int) -> None:
    asyncio.run(count_down_in_tasks(hammer, number))


# Event loops.


@pytest.mark.usefixtures("alone")
def test_loops_and_threads_share_one_store_at_once(memcached: Memcached) -> None:
    backend = MemcachedBackend(memcached.url, deadline=PATIENCE)
    awaited, plain = AsyncBanHammer(RULES, **settings(backend)), BanHammer(RULES, **settings(backend))

    async def main(number: int) -> None:
        await count_down_in_tasks(awaited, number)
        await backend.aio.close()

    with ThreadPoolExecutor(6) as pool:
        work = [pool.submit(asyncio.run, main(number)) for number in range(3)]
        work += [pool.submit(count_down_in_threads, plain, number) for number in range(3, 6)]
        for each in work:
            each.result(30)
    plain.close()
    backend.close()


def test_one_hammer_lives_through_three_loops(memcached: Memcached) -> None:
    hammer = AsyncBanHammer(RULES, **settings(memcached.url))
    for number in range(3):
        asyncio.run(count_down_in_tasks(hammer, number))
    asyncio.run(hammer.close())


def test_few_threads_serve_many_tasks_and_end_with_the_store(memcached: Memcached) -> None:
    backend = MemcachedBackend(memcached.url, deadline=PATIENCE)

    async def main() -> None:
        hammer = AsyncBanHammer(RULES, **settings(backend))
        await count_down_in_tasks(hammer, 0, 64)
        assert 0 < _threads() <= THREADS
        await backend.aio.close()
        assert _threads() == 0
        assert (await hammer.hit("k", "api")).remaining == ROOM - 1
        await hammer.close()
        await backend.aio.close()

    asyncio.run(main())


def _threads() -> int:
    return sum(thread.name.startswith("banhammer-memcached") for thread in threading.enumerate())


# Cancellation.


@pytest.mark.usefixtures("alone")
def test_cancelled_tasks_take_nothing_from_others_and_leave_nothing(memcached: Memcached) -> None:

    async def main() -> None:
        backend = MemcachedBackend(memcached.url, deadline=PATIENCE)
        hammer = AsyncBanHammer(ONE, backend=backend)
        over = False

        async def call(key: str) -> None:
            count = 0
            while not over:
                count += 1
                decision = await hammer.hit(key, "api")
                assert (decision.key, decision.remaining, decision.degraded) == (key, HUGE - count, False)

        async def cancel(number: int) -> int:
            rng = random.Random(number)
            cancelled = 0
            for _ in range(40):
                victim = asyncio.create_task(hammer.hit("victim", "api"))
                await asyncio.sleep(rng.choice((0, 0, rng.random() / 500)))
                victim.cancel()
                await asyncio.wait([victim])
                cancelled += victim.cancelled()
            return cancelled

        callers = [asyncio.create_task(call(f"caller{number}")) for number in range(4)]
        cancelled = sum(await asyncio.gather(*[cancel(number) for number in range(8)]))
        over = True
        await asyncio.gather(*callers)
        counted = HUGE - (await hammer.status("victim", "api")).remaining[0]
        assert 8 * 40 - cancelled <= counted <= 8 * 40
        assert cancelled > 0
        await hammer.close()
        await backend.aio.close()

    asyncio.run(main())
    gc.collect()


# Closing.


@pytest.mark.usefixtures("alone")
def test_a_store_that_was_closed_opens_anew_when_it_is_asked(memcached: Memcached) -> None:
    backend = MemcachedBackend(memcached.url, deadline=PATIENCE)
    hammer = BanHammer(ONE, backend=backend)
    for remaining in (HUGE - 1, HUGE - 2):
        assert hammer.hit("key", "api").remaining == remaining
        until(lambda: connections(memcached) == 1, "connected once")  # Who asked last may still be seen to leave.
        backend.close()
        until(lambda: connections(memcached) == 0, "closed")
    hammer.close()


@pytest.mark.usefixtures("alone")
def test_a_connection_that_is_given_back_while_the_store_closes_is_closed_too(memcached: Memcached) -> None:
    backend = MemcachedBackend(memcached.url, deadline=PATIENCE)
    (server,) = backend._store.servers
    server._idle = ClosedMeanwhile(backend.close)
    with BanHammer(ONE, backend=backend) as hammer:
        assert hammer.hit("key", "api").remaining == HUGE - 1
    backend.close()
    gc.collect()  # One that is left open would be reported.


def test_nothing_connects_before_a_hit() -> None:
    with BanHammer(ONE, backend="memcached://198.51.100.1") as hammer:
        assert "198.51.100.1:11211" in repr(hammer)


def test_the_denial_cache_is_on_by_default(memcached: Memcached, proxy: MemcachedProxy) -> None:
    rules = [Policy("p", [Threshold(1, "1h"), Threshold(30, "1h", ban="1h")])]
    with BanHammer(rules, backend=proxy.url, deadline=PATIENCE) as hammer:
        verdicts = [hammer.hit("key", "p").verdict for _ in range(21)]
        assert verdicts == ["allowed"] + ["throttled"] * 20
        assert proxy.requests["GETS"] == 2
        until(lambda: hammer.status("key", "p").remaining[1] == 30 - 21, "told what was swallowed", seconds=5)
