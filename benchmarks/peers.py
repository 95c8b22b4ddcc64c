"""The peers, each by its documented fast call at its best setting.

Where a peer has no notion of several limits on one key, they are hit one after another, the tight one
first, and the first denial ends it: the cheapest order, and the one that charges no limit in vain.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from limits import RateLimitItemPerDay
from limits.storage import MemoryStorage
from limits.strategies import (
    FixedWindowRateLimiter,
    MovingWindowRateLimiter,
    RateLimiter,
    SlidingWindowCounterRateLimiter,
)
from pyrate_limiter import (
    AbstractBucket,
    BucketFactory,
    Duration,
    InMemoryBucket,
    Limiter,
    MonotonicClock,
    Rate,
    RateItem,
    StateBucket,
)
from throttled import RateLimiterType, Throttled, per_duration, per_sec
from throttled.store import MemoryStore

from benchmarks.contestants import CAPACITY, Contestant, Subject

ROOM: Final = 10**9


def _limits(strategy: type[RateLimiter], admitted: bool, thresholds: int) -> Subject:
    storage = MemoryStorage()
    limiter = strategy(storage)
    tight = ROOM if admitted else 1
    items = [RateLimitItemPerDay(tight), RateLimitItemPerDay(ROOM, 2), RateLimitItemPerDay(ROOM, 3)]

    def run_one(keys: Sequence[str]) -> None:
        hit, item = limiter.hit, items[0]
        for key in keys:
            hit(item, key)

    def run_three(keys: Sequence[str]) -> None:
        hit, (first, second, third) = limiter.hit, items
        for key in keys:
            if hit(first, key) and hit(second, key):
                hit(third, key)

    return Subject(
        admits=lambda key: all(limiter.hit(item, key) for item in items[:thresholds]),
        run=run_one if thresholds == 1 else run_three,
        settle=lambda: storage.timer.join(),  # It sweeps all keys in the background: not on the next one's time.
        close=lambda: storage.timer.join(),
    )


def _throttled(admitted: bool, thresholds: int) -> Subject:
    store = MemoryStore(options={"MAX_SIZE": CAPACITY})
    roomy = [per_sec(100_000 + index, burst=ROOM) for index in range(3)]
    quotas = roomy if admitted else [per_duration(timedelta(days=1), 1, burst=1), *roomy[1:]]
    limiters = [
        Throttled(using=RateLimiterType.GCRA.value, quota=quota, store=store, key_prefix=f"api{index}")
        for index, quota in enumerate(quotas)
    ]

    def run_one(keys: Sequence[str]) -> None:
        limit = limiters[0].limit
        for key in keys:
            limit(key)

    def run_three(keys: Sequence[str]) -> None:
        first, second, third = (limiter.limit for limiter in limiters)
        for key in keys:
            if not first(key).limited and not second(key).limited:
                third(key)

    return Subject(
        admits=lambda key: all(not limiter.limit(key).limited for limiter in limiters[:thresholds]),
        run=run_one if thresholds == 1 else run_three,
    )


class _BucketOfEach(BucketFactory):
    """A bucket for each key, as pyrate-limiter's guide shows, without the thread that tidies them."""

    def __init__(self, kind: type[InMemoryBucket] | type[StateBucket], rates: list[Rate]) -> None:
        self._kind = kind
        self._rates = rates
        self._clock = MonotonicClock()
        self.buckets: dict[str, AbstractBucket] = {}

    def wrap_item(self, name: str, weight: int = 1) -> RateItem:
        return RateItem(name, self._clock.now(), weight=weight)

    def get(self, item: RateItem) -> AbstractBucket:
        bucket = self.buckets.get(item.name)
        if bucket is None:
            bucket = self.buckets[item.name] = self._kind(self._rates)
        return bucket


def _pyrate(kind: type[InMemoryBucket] | type[StateBucket], admitted: bool, thresholds: int) -> Subject:
    rates = [Rate(ROOM * (index + 1), Duration.DAY * 3**index) for index in range(3)]
    if not admitted:
        rates = [Rate(index + 1, Duration.DAY * 3**index) for index in range(3)]
    limiter = Limiter(_BucketOfEach(kind, rates[:thresholds]))

    def run(keys: Sequence[str]) -> None:
        try_acquire = limiter.try_acquire
        for key in keys:
            try_acquire(key, blocking=False)

    return Subject(admits=lambda key: bool(limiter.try_acquire(key, blocking=False)), run=run)


def _strategy(name: str, strategy: type[RateLimiter]) -> Contestant:
    return Contestant("limits", name, lambda *limits: _limits(strategy, *limits))


def _algorithm(name: str, kind: Any) -> Contestant:
    return Contestant("pyrate-limiter", name, lambda *limits: _pyrate(kind, *limits))


PEERS: Final = (
    _strategy("fixed window", FixedWindowRateLimiter),
    _strategy("moving window", MovingWindowRateLimiter),
    _strategy("sliding window", SlidingWindowCounterRateLimiter),
    Contestant("throttled-py", "GCRA", _throttled),
    _algorithm("sliding log", InMemoryBucket),
    _algorithm("GCRA", StateBucket),
)
LIBRARIES: Final = ("limits", "throttled-py", "pyrate-limiter")
