"""Concurrent callers share round trips to Redis, and each is told what is his."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from banhammer import AsyncBanHammer, BanHammer, Decision, Hit, Policy, Threshold
from banhammer.testing import ManualClock
from histories_crew import PATIENCE, in_threads
from redis_stores import Store, forget_counts, script_calls
from servers.cluster import Cluster
from servers.proxy import Proxy, Tape
from servers.resp import Messages
from servers.standalone import Standalone

pytest_plugins = ("redis_store_fixtures",)

API = Policy("api", [Threshold(10_000, "60d")])


def test_what_is_swallowed_beside_calls_in_flight_is_told_too(single: Standalone) -> None:
    """64 tasks ask at once; the first to be denied go on, swallowed, while the answers of the others come in."""
    clock = ManualClock()
    rule = Policy("p", [Threshold(1, "60d", ban="1d"), Threshold(1_000, "60d", ban="2d")])

    async def main() -> tuple[int, int]:
        async with AsyncBanHammer(
            [rule], backend=single.url, deadline=PATIENCE, clock=clock, denial_cache=True
        ) as hammer:

            async def attack() -> None:
                for _ in range(4):
                    await hammer.hit("k", "p")

            await asyncio.gather(*[attack() for _ in range(64)])
            stored = 1_000 - (await hammer.status("k", "p")).remaining[1]
            clock.advance("2s")
            await hammer.hit("k", "p")
            return stored, 1_000 - (await hammer.status("k", "p")).remaining[1]

    stored, told = asyncio.run(main())
    assert stored < told == 64 * 4 + 1


def test_threads_share_round_trips(store: Store) -> None:
    with BanHammer([API], backend=store.url, deadline=PATIENCE) as hammer:
        hammer.hit("warm", "api")
        forget_counts(store)
        told: list[Decision] = []
        in_threads(lambda number: told.extend([hammer.hit("k", "api") for _ in range(20)]), 32)
        assert sorted(each.remaining or 0 for each in told) == list(range(10_000 - 640, 10_000))
        assert script_calls(store) < 640 / 2


def test_tasks_share_round_trips(store: Store) -> None:
    async def main() -> list[Decision]:
        async with AsyncBanHammer([API], backend=store.url, deadline=PATIENCE) as hammer:
            await hammer.hit("warm", "api")
            forget_counts(store)
            return await asyncio.gather(*[hammer.hit("k", "api") for _ in range(640)])

    told = asyncio.run(main())
    assert sorted(each.remaining or 0 for each in told) == list(range(10_000 - 640, 10_000))
    assert script_calls(store) <= 8  # At most 128 hits each, the last ones half of who is left.


def test_what_queues_while_a_threads_call_is_in_flight_goes_in_the_next_one(single: Standalone) -> None:
    with Proxy(single.port) as proxy, BanHammer([API], backend=proxy.url, deadline=PATIENCE) as hammer:
        hammer.hit("warm", "api")
        proxy.delay = 0.2
        with proxy.record() as tape:
            in_threads(lambda number: None if hammer.hit(f"k{number}", "api") else pytest.fail("denied"), 100)
        assert len(sizes(tape)) <= 3
        assert sum(sizes(tape)) == 100
        assert proxy.connections == 1


def test_no_call_holds_more_than_128_hits_and_no_loop_has_more_than_two_in_flight(single: Standalone) -> None:
    with Proxy(single.port) as proxy:

        async def main() -> list[Decision]:
            async with AsyncBanHammer([API], backend=proxy.url, deadline=PATIENCE) as hammer:
                await hammer.hit("warm", "api")
                with proxy.record() as tape:
                    told = await asyncio.gather(*[hammer.hit(f"k{number}", "api") for number in range(1_024)])
                found.extend(sizes(tape))
                return told

        found: list[int] = []
        told = asyncio.run(main())
        assert [(each.key, each.remaining) for each in told] == [(f"k{number}", 9_999) for number in range(1_024)]
        assert max(found) <= 128
        assert sum(found) == 1_024
        assert proxy.connections <= 2


@pytest.mark.parametrize("stop", [False, True])
def test_a_batch_of_a_thousand_is_cut_into_calls_of_at_most_128(single: Standalone, stop: bool) -> None:
    with Proxy(single.port) as proxy, BanHammer([API], backend=proxy.url, deadline=PATIENCE) as hammer:
        hammer.hit("warm", "api")
        with proxy.record() as tape:
            told = hammer.hit_many([Hit("k", "api") for _ in range(1_000)], stop=stop)
        assert max(sizes(tape)) <= 128
        assert sum(sizes(tape)) == 1_000
        assert [each.remaining for each in told if each] == list(range(9_999, 8_999, -1))


def test_a_batch_is_told_in_its_order_wherever_its_keys_live(store: Store) -> None:
    hits = [Hit(f"k{number % 97}", "api", cost=1 + number % 3) for number in range(1_000)]
    random.Random(5).shuffle(hits)
    room: Counter[str] = Counter()
    expected = []
    for hit in hits:
        room[hit.key] += hit.cost
        expected.append((hit.key, 10_000 - room[hit.key]))

    async def awaited() -> Sequence[Decision | None]:
        async with AsyncBanHammer([API], backend=store.url, deadline=PATIENCE) as hammer:
            await hammer.hit("warm", "api")  # From then on it is known which server holds what.
            return await hammer.hit_many(hits)

    assert [(each.key, each.remaining) for each in asyncio.run(awaited()) if each] == expected
    store.flush()
    with BanHammer([API], backend=store.url, deadline=PATIENCE) as hammer:
        assert [(each.key, each.remaining) for each in hammer.hit_many(hits) if each] == expected


def test_a_key_that_comes_twice_in_a_shared_call_is_decided_in_order(single: Standalone) -> None:
    """Tasks that queue behind a call in flight are decided in the order in which they came."""
    with Proxy(single.port) as proxy:

        async def main() -> list[Decision]:
            async with AsyncBanHammer([API], backend=proxy.url, deadline=PATIENCE) as hammer:
                await hammer.hit("warm", "api")
                proxy.delay = 0.1
                first = [asyncio.create_task(hammer.hit("other", "api")) for _ in range(2)]
                await asyncio.sleep(0)
                told = await asyncio.gather(*[hammer.hit(f"k{number % 2}", "api") for number in range(100)])
                await asyncio.gather(*first)
                return told

        told = asyncio.run(main())
    for parity in (0, 1):
        assert [each.remaining for each in told[parity::2]] == list(range(9_999, 9_949, -1))


def test_one_hits_denial_in_a_shared_call_denies_no_other(store: Store) -> None:
    policy = Policy("p", [Threshold(1, "60d", ban="1d")])
    with BanHammer([policy], backend=store.url, deadline=PATIENCE, denial_cache=False) as hammer:
        hammer.ban("foe", "p")
        wrong: list[Decision] = []

        def work(number: int) -> None:
            for turn in range(10):
                key = "foe" if (number + turn) % 2 else f"friend-{number}-{turn}"
                decision = hammer.hit(key, "p")
                if decision.allowed is (key == "foe") or decision.key != key or decision.degraded:
                    wrong.append(decision)

        in_threads(work, 16)
        assert wrong == []


def test_two_thousand_tasks_over_a_cluster_are_decided_without_a_failure(cluster: Cluster) -> None:
    async def main() -> list[Decision]:
        async with AsyncBanHammer([API], backend=cluster.url, deadline=PATIENCE) as hammer:
            return await asyncio.gather(*[hammer.hit(f"k{number}", "api", 7) for number in range(2_048)])

    told = asyncio.run(main())
    assert not any(each.degraded for each in told)
    assert [(each.key, each.remaining) for each in told] == [(f"k{number}", 9_993) for number in range(2_048)]


def sizes(tape: Tape) -> list[int]:
    """Return how many hits each call of the script held: its keys, without the index of bans."""
    found = []
    for request in Messages().feed(bytes(tape.requests)):
        parts = request.split(b"\r\n")
        if parts[2] in (b"EVALSHA", b"EVAL"):
            keys = parts[8 : 8 + 2 * int(parts[6]) : 2]
            found.append(sum(b"}#" not in key for key in keys))
    return found
