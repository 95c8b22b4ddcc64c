"""Forks: a child begins anew, and neither hears the other's answers, counts its hits, or repeats its ids."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context

import pytest

from banhammer import AsyncBanHammer, BanHammer, Escalation
from banhammer.testing import ManualClock
from redis_children import Child
from redis_counts import ROOM, RULES, count_down, count_down_in_tasks, count_down_in_threads, settings
from redis_stores import Store
from redis_workers import PATIENCE, in_threads
from servers.proxy import Proxy
from servers.standalone import Standalone
from servers.waiting import until

pytest_plugins = ("redis_store_fixtures",)
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

CHILDREN = 4


# Threads.


@pytest.mark.parametrize("used", [True, False], ids=["used before", "only built before"])
def test_a_parent_and_its_children_hear_only_their_own_answers(store: Store, used: bool) -> None:
    """As prefork servers do: the parent builds, four workers with threads serve, and here the parent too."""
    with BanHammer(RULES, **settings(store.url)) as hammer:
        if used:
            count_down_in_threads(hammer, 9)
        children = [Child(partial(count_down_in_threads, hammer, n)) for n in range(CHILDREN)]
        count_down_in_threads(hammer, CHILDREN)
        for child in children:
            child.result()
        count_down_in_threads(hammer, CHILDREN + 1)


def test_a_fleet_of_forked_workers_admits_as_one(store: Store) -> None:
    with BanHammer(RULES, **settings(store.url)) as hammer:
        assert hammer.hit("k", "scarce")

        def serve() -> int:
            admitted = [0] * 4

            def work(thread: int) -> None:
                for _ in range(20):
                    admitted[thread] += hammer.hit("k", "scarce").allowed

            in_threads(work, 4)
            hammer.close()
            return sum(admitted)

        children = [Child(serve) for _ in range(CHILDREN)]
        assert 1 + serve() + sum(child.result() for child in children) == 150


def test_the_fork_context_of_multiprocessing_is_a_fork_like_any_other(store: Store) -> None:
    global _inherited
    with BanHammer(RULES, **settings(store.url)) as hammer:
        assert hammer.hit("k", "scarce")
        _inherited = hammer
        with get_context("fork").Pool(CHILDREN) as pool:
            told = pool.map_async(_hit_scarce, range(CHILDREN * 50))
            mine = sum(_hit_scarce(0) for _ in range(50))
            assert 1 + mine + sum(told.get(30)) == 150


def test_a_childs_connections_are_its_own_and_its_parents_stay_as_they_are(single: Standalone) -> None:
    with Proxy(single.port) as proxy, BanHammer(RULES, **settings(proxy.url)) as hammer:
        count_down(hammer, "parent", 1)
        assert proxy.connections == 1

        def serve() -> None:
            count_down(hammer, "child", 2)
            hammer.close()
            gc.collect()

        for number in range(3):
            Child(serve).result()
            single.ask("DEL", *single.ask("KEYS", "*:child"))
            count_down(hammer, f"parent-{number}", 3)
            assert proxy.connections == 2 + number


def test_escalation_ids_never_repeat_between_a_parent_and_its_children(store: Store) -> None:
    ran: list[Escalation] = []
    with BanHammer(RULES, **settings(store.url, ran)) as hammer:

        def trip(process: int) -> list[str]:
            ran.clear()
            for number in range(20):
                assert hammer.hit(f"{process}-{number}", "trap").tripped == (0,)
            assert hammer.drain(10)
            return [each.id for each in ran]

        ids = trip(0)
        children = [Child(partial(trip, n)) for n in range(1, CHILDREN + 1)]
        ids += trip(CHILDREN + 1)
        for child in children:
            ids += child.result()
        assert len(set(ids)) == len(ids) == 20 * (CHILDREN + 2)
        assert {ban.id for ban in hammer.bans()} == set(ids)


def test_a_fork_while_other_threads_are_inside_calls_disturbs_nobody(single: Standalone) -> None:
    """One thread's call is in flight and others queue behind it; none of them exists in the child."""
    with Proxy(single.port) as proxy, BanHammer(RULES, **settings(proxy.url)) as hammer:
        count_down(hammer, "before", 1)
        proxy.delay = 0.3
        with ThreadPoolExecutor(5) as pool:
            calls = [pool.submit(hammer.hit, f"k{number}", "api", number + 1) for number in range(5)]
            until(
                lambda: hammer._backend._calls._leader._led_until and len(hammer._backend._calls._leader._waiting) == 4,
                "queued",
            )  # type: ignore[attr-defined]
            child = Child(lambda: [hammer.hit(f"c{number}", "api", 11 + number).remaining for number in range(2)])
            assert [call.result(10).remaining for call in calls] == [ROOM - number - 1 for number in range(5)]
        assert child.result() == [ROOM - 11, ROOM - 12]
        proxy.delay = 0.0
        count_down(hammer, "after", 2)


def test_forks_at_any_moment_of_traffic_leave_both_sides_whole(store: Store) -> None:
    with BanHammer(RULES, **settings(store.url)) as hammer:
        over = threading.Event()

        def traffic(thread: int) -> None:
            turn = 0
            while not over.is_set():
                count_down(hammer, f"traffic-{thread}-{turn}", 10 + thread, hits=10)
                assert not hammer.hit(f"trapped-{thread}-{turn}", "trap")
                turn += 1

        with ThreadPoolExecutor(4) as pool:
            threads = [pool.submit(traffic, thread) for thread in range(4)]
            try:
                for number in range(12):
                    Child(partial(_serve, hammer, number)).result()
            finally:
                over.set()
            for thread in threads:
                thread.result(10)
        assert hammer.drain(10)


# What a parent's denial cache swallowed.


def test_what_a_parent_swallowed_is_told_by_the_parent_alone(single: Standalone) -> None:
    """Else each child would count it again, and ban falsely."""
    clock = ManualClock()
    with BanHammer(RULES, **settings(single.url), clock=clock, denial_cache=True) as hammer:
        verdicts = Counter(hammer.hit("k", "slow").verdict for _ in range(41))
        assert verdicts == {"allowed": 1, "throttled": 40}
        assert hammer.status("k", "slow").remaining[1] == 100 - 2  # The others were swallowed.

        def later() -> str:
            clock.advance("2s")
            return hammer.hit("k", "slow").verdict

        children = [Child(later) for _ in range(CHILDREN)]
        assert [child.result() for child in children] == ["throttled"] * CHILDREN
        assert later() == "throttled"
        assert hammer.status("k", "slow").remaining[1] == 100 - 41 - CHILDREN - 1


def test_a_child_tells_what_it_swallowed_itself(single: Standalone) -> None:
    """The keeper that does so is a thread: the parent's does not exist in the child."""
    with BanHammer(RULES, **settings(single.url)) as hammer:
        for _ in range(10):
            hammer.hit("parent", "slow")
        until(lambda: hammer.status("parent", "slow").remaining[1] == 90, "told by the parent")

        def swallow() -> int:
            for _ in range(10):
                hammer.hit("child", "slow")
            until(lambda: hammer.status("child", "slow").remaining[1] == 90, "told by the child", seconds=5)
            return hammer.status("child", "slow").remaining[1]

        assert Child(swallow).result() == 90


# Event loops.


def test_an_asyncio_parent_forks_and_both_sides_go_on(store: Store) -> None:
    """In the middle of a loop whose connections are open; the child runs a loop of its own."""

    async def main() -> None:
        async with AsyncBanHammer(RULES, **settings(store.url)) as hammer:
            await count_down_in_tasks(hammer, 0)
            children = [Child(partial(_in_a_loop, hammer, n)) for n in range(1, CHILDREN + 1)]
            await count_down_in_tasks(hammer, CHILDREN + 1)
            for child in children:
                await asyncio.to_thread(child.result)
            await count_down_in_tasks(hammer, CHILDREN + 2)

    asyncio.run(main())


def test_a_fork_while_tasks_wait_for_answers_takes_none_of_them(single: Standalone) -> None:
    with Proxy(single.port) as proxy:

        async def main() -> None:
            async with AsyncBanHammer(RULES, **settings(proxy.url)) as hammer:
                await count_down_in_tasks(hammer, 0)
                before = proxy.connections
                proxy.delay = 0.2
                calls = [asyncio.create_task(hammer.hit(f"k{number}", "api", number + 1)) for number in range(20)]
                await asyncio.sleep(0.05)
                child = Child(lambda: asyncio.run(_collecting(hammer)))
                told = await asyncio.gather(*calls)
                assert [each.remaining for each in told] == [ROOM - number - 1 for number in range(20)]
                assert await asyncio.to_thread(child.result) == [ROOM - 31, ROOM - 32]
                proxy.delay = 0.0
                await count_down_in_tasks(hammer, 1)
                assert proxy.connections <= before + 2  # The child's own.

        asyncio.run(main())


def test_an_asyncio_parent_may_have_children_that_use_threads(store: Store) -> None:
    async def main() -> None:
        async with AsyncBanHammer(RULES, **settings(store.url)) as hammer:
            plain = BanHammer(RULES, backend=hammer._backend, actions={"note": print})
            await count_down_in_tasks(hammer, 0)
            child = Child(lambda: count_down_in_threads(plain, 1))
            await count_down_in_tasks(hammer, 2)
            await asyncio.to_thread(child.result)

    asyncio.run(main())


def test_an_action_that_is_a_coroutine_runs_in_the_child_of_a_loop(single: Standalone) -> None:
    """Not on the parent's loop, which only seems to run in the child."""
    ran: list[str] = []

    async def note(escalation: Escalation) -> None:
        await asyncio.sleep(0)
        ran.append(escalation.key)

    async def main() -> None:
        async with AsyncBanHammer(RULES, backend=single.url, deadline=PATIENCE, actions={"note": note}) as hammer:
            await _trapped(hammer, "parent")

            def trip() -> list[str]:
                ran.clear()
                asyncio.run(_trapped(hammer, "child"))
                return ran

            assert await asyncio.to_thread(Child(trip).result) == ["child"]
            assert ran == ["parent"]

    asyncio.run(main())


async def _trapped(hammer: AsyncBanHammer, key: str) -> None:
    assert not await hammer.hit(key, "trap")
    assert await hammer.drain(5)


async def _collecting(hammer: AsyncBanHammer) -> list[int | None]:
    gc.collect()
    first = await hammer.hit("c0", "api", 31)
    gc.collect()
    second = await hammer.hit("c1", "api", 32)
    await hammer.close()
    gc.collect()
    return [first.remaining, second.remaining]


def _in_a_loop(hammer: AsyncBanHammer, process: int) -> None:
    async def main() -> None:
        await count_down_in_tasks(hammer, process)
        await hammer.close()

    asyncio.run(main())


def _serve(hammer: BanHammer, number: int) -> None:
    count_down(hammer, f"child-{number}", 500 + number, hits=10)
    assert not hammer.hit(f"trapped-child-{number}", "trap")
    assert hammer.drain(10)


def _hit_scarce(_: int) -> bool:
    assert _inherited is not None
    decision = _inherited.hit("k", "scarce")
    assert not decision.degraded
    return decision.allowed


_inherited: BanHammer | None = None
