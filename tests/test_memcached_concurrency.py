"""Many writers on one key never exceed its budget, and one crossing is one strike (G13, G14)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from banhammer import AsyncBanHammer, BanHammer, Hit, Policy, Threshold
from banhammer.backends.memcached import MemcachedBackend
from histories_crew import Crew, in_threads
from memcached_sides import PATIENCE
from servers.memcached import Memcached, MemcachedProxy

pytest_plugins = ("memcached_fixtures",)

PROCESSES = 4
WIDTH = 16
EACH = 20
BUDGET = 300
RULES = [
    Policy("p", [Threshold(BUDGET, "60d")], on_error="closed"),
    Policy("ban", [Threshold(BUDGET, "60d", ban="1d")], on_error="closed"),
]


@dataclass(frozen=True, slots=True)
class Told:
    """What the writers of one process were told."""

    admitted: int
    lost: int
    crossings: int


@dataclass(frozen=True, slots=True)
class Work:
    url: str
    policy: str
    awaited: bool


def write(work: Work, number: int) -> Told:
    """Hit one key from 16 threads or tasks."""
    backend = MemcachedBackend(work.url, deadline=PATIENCE, denial_cache=False)
    told = []
    if work.awaited:

        async def main() -> None:
            hammer = AsyncBanHammer(RULES, backend=backend)

            async def hit() -> None:
                told.extend([await hammer.hit("key", work.policy) for _ in range(EACH)])

            await asyncio.gather(*[hit() for _ in range(WIDTH)])
            await hammer.close()
            await backend.aio.close()

        asyncio.run(main())
    else:
        hammer = BanHammer(RULES, backend=backend)
        in_threads(lambda _: [told.append(hammer.hit("key", work.policy)) for _ in range(EACH)] and None, WIDTH)
        hammer.close()
        backend.close()
    return Told(
        sum(each.allowed for each in told),
        sum(each.degraded for each in told),
        sum(len(each.tripped) for each in told),
    )


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    with Crew() as crew:
        yield crew


@pytest.mark.parametrize("awaited", [False, True], ids=["threads", "tasks"])
@pytest.mark.parametrize("policy", ["p", "ban"])
def test_64_writers_on_one_key_never_exceed_its_budget(
    memcached: Memcached, crew: Crew, policy: str, awaited: bool
) -> None:
    told = crew.do(write, Work(memcached.url, policy, awaited))
    admitted = sum(each.admitted for each in told)
    lost = sum(each.lost for each in told)
    assert BUDGET - lost <= admitted <= BUDGET
    crossings = sum(each.crossings for each in told)
    with BanHammer(RULES, backend=memcached.url, deadline=PATIENCE) as hammer:
        status = hammer.status("key", policy)
        counted = BUDGET - status.remaining[0]
        if policy == "p":
            assert (counted, status.over, crossings) == (admitted, (True,), 1)
        else:
            assert (status.strikes, crossings) == (1, 1)
            assert status.ban is not None


def test_threads_share_the_round_trips_of_a_hot_key(memcached: Memcached, proxy: MemcachedProxy) -> None:
    """What waits while a call is under way goes with the next one, and is written with one swap."""
    proxy.delay = 0.01
    with BanHammer(RULES, backend=proxy.url, deadline=PATIENCE) as hammer:
        hammer.hit("key", "p")
        proxy.requests.clear()
        in_threads(lambda _: [hammer.hit("key", "p") for _ in range(4)] and None, 8)
        assert hammer.status("key", "p").remaining == (BUDGET - 33,)
    assert proxy.requests["CAS"] <= 12


def test_a_batch_of_a_thousand_keys_is_few_round_trips(memcached: Memcached, proxy: MemcachedProxy) -> None:
    hits = [Hit(f"key{number % 1000}", "p") for number in range(2000)]
    with BanHammer(RULES, backend=proxy.url, deadline=PATIENCE) as hammer:
        told = hammer.hit_many(hits)
        assert [each and each.remaining for each in told] == [BUDGET - 1] * 1000 + [BUDGET - 2] * 1000
    assert proxy.requests["GETS"] == 4
    assert proxy.requests["ADD"] == 1000 + 1  # And the mark of the server's life.
    assert proxy.requests["CAS"] == 0


def test_a_batch_with_stop_writes_nothing_behind_the_first_denial(memcached: Memcached, proxy: MemcachedProxy) -> None:
    rules = [Policy("p", [Threshold(1, "60d")]), Policy("shadow", [Threshold(1, "60d")], mode="shadow")]
    with BanHammer(rules, backend=proxy.url, deadline=PATIENCE) as hammer:
        first = [
            Hit("a", "shadow"),
            Hit("a", "shadow"),
            Hit("b", "p"),
            Hit("a", "shadow"),
            Hit("b", "p"),
            Hit("c", "p"),
        ]
        told = hammer.hit_many(first, stop=True)
        assert [None if each is None else each.verdict for each in told] == [
            "allowed", "throttled", "allowed", "throttled", "throttled", None,
        ]  # fmt: skip
        assert memcached.value(b"bh:p:c") is None
        assert proxy.requests["GETS"] == 3  # All at once, and the two keys that come again.


def test_stores_that_begin_at_once_agree_on_one_mark(memcached: Memcached) -> None:
    """Whoever comes second takes the mark that is there."""
    backends = [MemcachedBackend(memcached.url, deadline=PATIENCE) for _ in range(8)]
    hammers = [BanHammer(RULES, backend=backend) for backend in backends]
    barrier = threading.Barrier(8)

    def hit(number: int) -> None:
        barrier.wait(10)
        hammers[number].hit(f"key{number}", "p")

    in_threads(hit, 8)
    mark = memcached.value(b"bh:life")
    assert {backend._store.servers[0]._mark for backend in backends} == {mark}
    for hammer, backend in zip(hammers, backends, strict=True):
        hammer.close()
        backend.close()
