"""Tasks that are cancelled at any moment: nobody else notices, no reply goes astray, no connection is left."""

from __future__ import annotations

import asyncio
import gc
import random

from banhammer import AsyncBanHammer, Hit, Policy, Threshold
from banhammer.backends.redis.backend import RedisBackend
from servers.cluster import Cluster
from servers.proxy import Proxy
from servers.standalone import Standalone
from servers.waiting import until

HUGE = 1_000_000
POLICY = Policy("api", [Threshold(HUGE, "365d")], on_error="closed")
CALLERS = 8
CANCELLERS = 20
CANCELLATIONS = 1_000


class Storm:
    """Callers who count their own hits, beside tasks that are cancelled at random moments."""

    def __init__(self, hammer: AsyncBanHammer) -> None:
        self.hammer = hammer
        self.over = False
        self.cancelled = 0
        self.begun: dict[str, int] = {}

    async def rage(self) -> None:
        callers = [asyncio.create_task(self.call(f"caller{number}")) for number in range(CALLERS)]
        await asyncio.gather(*[self.cancel(number) for number in range(CANCELLERS)])
        self.over = True
        await asyncio.gather(*callers)
        for key, begun in self.begun.items():
            counted = HUGE - (await self.hammer.status(key, "api")).remaining[0]
            assert counted <= begun

    async def call(self, key: str) -> None:
        """Hit again and again; each answer is this caller's own, and in order."""
        count = 0
        while not self.over:
            count += 1
            decision = await self.hammer.hit(key, "api")
            assert (decision.key, decision.remaining, decision.degraded) == (key, HUGE - count, False)

    async def cancel(self, number: int) -> None:
        rng = random.Random(number)
        while self.cancelled < CANCELLATIONS:
            victim = asyncio.create_task(self.hit(rng, f"victim{number}"))
            await asyncio.sleep(rng.choice((0, 0, rng.random() / 500)))
            victim.cancel()
            await asyncio.wait([victim])
            self.cancelled += victim.cancelled()

    async def hit(self, rng: random.Random, key: str) -> None:
        keys = [key] if rng.random() < 0.7 else [f"{key}-{number}" for number in range(20)]
        for each in keys:
            self.begun[each] = self.begun.get(each, 0) + 1
        if len(keys) == 1:
            await self.hammer.hit(key, "api")
        else:
            await self.hammer.hit_many([Hit(each, "api") for each in keys])


async def storm(url: str) -> int:
    backend = RedisBackend(url, deadline="10s")
    raging = Storm(AsyncBanHammer([POLICY], backend=backend))
    await raging.rage()
    await raging.hammer.close()
    await backend.aio.close()
    return raging.cancelled


def connections(server: Standalone) -> int:
    return len(server.ask("CLIENT LIST"))


def test_a_thousand_cancellations_disturb_nobody_and_leave_nothing(standalone: Standalone) -> None:
    before = connections(standalone)
    assert asyncio.run(storm(standalone.url)) >= CANCELLATIONS
    until(lambda: connections(standalone) <= before, "without connections of the storm")
    gc.collect()


def test_a_thousand_cancellations_over_a_cluster_disturb_nobody_and_leave_nothing(cluster: Cluster) -> None:
    before = [connections(node) for node in cluster.nodes]
    assert asyncio.run(storm(cluster.url)) >= CANCELLATIONS
    until(lambda: [connections(node) for node in cluster.nodes] == before, "without connections of the storm")
    gc.collect()


def test_cancellations_leave_few_connections_open_while_the_store_is_slow(standalone: Standalone) -> None:
    with Proxy(standalone.port) as proxy:

        async def main() -> int:
            backend = RedisBackend(proxy.url, deadline="10s")
            hammer = AsyncBanHammer([POLICY], backend=backend)
            await hammer.hit("caller", "api")
            proxy.delay = 0.02
            for _ in range(50):
                victims = [asyncio.create_task(hammer.hit("victim", "api")) for _ in range(20)]
                await asyncio.sleep(0.005)
                for victim in victims:
                    victim.cancel()
                await asyncio.wait(victims)
            told = await hammer.hit("caller", "api")
            assert (told.remaining, told.degraded) == (HUGE - 2, False)
            open_now = len(proxy._pairs)
            await backend.aio.close()
            return open_now

        assert asyncio.run(main()) <= 4
    gc.collect()
