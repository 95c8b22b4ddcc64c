"""The peers on a shared store, each by its documented fast call at its best setting.

A peer has no notion of several limits on one key: they are hit one after another. Its pool is given room for every
task and thread: with less, calls fail or wait for each other. `limits` counts in fixed windows, its cheapest strategy.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, Final

from limits import RateLimitItem, RateLimitItemPerDay
from limits.aio.storage import RedisClusterStorage as AsyncClusterStorage
from limits.aio.storage import RedisStorage as AsyncStorage
from limits.aio.strategies import FixedWindowRateLimiter as AsyncFixedWindow
from limits.storage import RedisClusterStorage, RedisStorage
from limits.strategies import FixedWindowRateLimiter
from redis import ConnectionPool
from redis.asyncio import ConnectionPool as AsyncConnectionPool
from throttled import RateLimiterType, RedisStore, Throttled, per_duration, per_sec
from throttled.asyncio import RedisStore as AsyncRedisStore
from throttled.asyncio import Throttled as AsyncThrottled

from benchmarks.redis_contestants import ATTACK_LIMIT, ROOM, Answer, AsyncSubject, Contestant, Rules, Subject
from benchmarks.servers import Site

CONNECTIONS: Final = 2_048
GCRA: Final = RateLimiterType.GCRA.value


def _limits(site: Site, rules: Rules, batch: int) -> Subject:
    if site.cluster:
        limiter = FixedWindowRateLimiter(RedisClusterStorage(site.url, max_connections=CONNECTIONS))
    else:
        pool = ConnectionPool.from_url(site.url, max_connections=CONNECTIONS)
        limiter = FixedWindowRateLimiter(RedisStorage(site.url, connection_pool=pool))
    items = _items(rules)
    first = items[0]

    def walk(keys: Sequence[str]) -> list[Answer]:
        hit = limiter.hit
        return [hit(first, key) for key in keys]

    def walk_all(keys: Sequence[str]) -> list[Answer]:
        hit = limiter.hit
        return [all(hit(item, key) for item in items) for key in keys]

    return Subject(walk if len(items) == 1 else walk_all, bool)


def _async_limits(site: Site, rules: Rules, tuned: bool) -> AsyncSubject:
    storage: Any
    room: dict[str, Any] = {}
    if site.cluster:
        if tuned:
            room["max_connections"] = CONNECTIONS
        storage = AsyncClusterStorage(f"async+{site.url}", implementation="redispy", **room)
    else:
        if tuned:
            room["connection_pool"] = AsyncConnectionPool.from_url(site.url, max_connections=CONNECTIONS)
        storage = AsyncStorage(f"async+{site.url}", implementation="redispy", **room)
    limiter = AsyncFixedWindow(storage)
    items = _items(rules)
    first = items[0]

    async def walk(keys: Sequence[str]) -> list[Answer]:
        hit = limiter.hit
        return [await hit(first, key) for key in keys]

    async def hit_all(key: str) -> bool:
        return all([await limiter.hit(item, key) for item in items])

    one = (lambda key: limiter.hit(first, key)) if len(items) == 1 else hit_all
    return AsyncSubject(one, walk if len(items) == 1 else _each(hit_all), bool, storage.bridge.storage.aclose)


def _throttled(site: Site, rules: Rules, batch: int) -> Subject:
    store = RedisStore(server=site.url, options=_options(site))
    limiters = [
        Throttled(using=GCRA, quota=quota, store=store, key_prefix=f"{rules}{index}")
        for index, quota in enumerate(_quotas(rules))
    ]

    def walk(keys: Sequence[str]) -> list[Answer]:
        limit = limiters[0].limit
        return [limit(key) for key in keys]

    def walk_all(keys: Sequence[str]) -> list[Answer]:
        limits = [limiter.limit for limiter in limiters]
        return [[limit(key) for limit in limits][-1] for key in keys]

    return Subject(walk if len(limiters) == 1 else walk_all, _not_limited)


def _async_throttled(site: Site, rules: Rules, tuned: bool) -> AsyncSubject:
    store: Any = AsyncRedisStore(server=site.url, options=_options(site) if tuned else {})
    limiters = [
        AsyncThrottled(using=GCRA, quota=quota, store=store, key_prefix=f"{rules}{index}")
        for index, quota in enumerate(_quotas(rules))
    ]
    limit = limiters[0].limit

    async def walk(keys: Sequence[str]) -> list[Answer]:
        return [await limit(key) for key in keys]

    async def limit_all(key: str) -> Answer:
        return [await limiter.limit(key) for limiter in limiters][-1]

    one = limit if len(limiters) == 1 else limit_all
    client = store._backend.get_client()
    return AsyncSubject(one, walk if len(limiters) == 1 else _each(limit_all), _not_limited, client.aclose)


def _each(one: Callable[[str], Awaitable[Answer]]) -> Callable[[Sequence[str]], Awaitable[list[Answer]]]:
    async def walk(keys: Sequence[str]) -> list[Answer]:
        return [await one(key) for key in keys]

    return walk


def _items(rules: Rules) -> list[RateLimitItem]:
    if rules == "attack":
        return [RateLimitItemPerDay(ATTACK_LIMIT)]
    return [RateLimitItemPerDay(ROOM, days) for days in ((1,) if rules == "one" else (1, 2, 3))]


def _quotas(rules: Rules) -> list[Any]:
    if rules == "attack":
        return [per_duration(timedelta(days=1), ATTACK_LIMIT, burst=ATTACK_LIMIT)]
    if rules == "windows":  # Whose keys live for a minute, so that their bytes can be counted.
        return [per_duration(timedelta(days=days), 1_000, burst=1_000) for days in (1, 2, 3)]
    return [per_sec(100_000 + index, burst=ROOM) for index in range(1 if rules == "one" else 3)]


def _options(site: Site) -> dict[str, Any]:
    room = {"max_connections": CONNECTIONS}
    return {"REDIS_CLIENT_KWARGS": room} if site.cluster else {"CONNECTION_POOL_KWARGS": room}


def _not_limited(result: Any) -> bool:
    return not result.limited


PEERS: Final = (
    Contestant("limits", "fixed window", _limits, _async_limits),
    Contestant("throttled-py", "GCRA", _throttled, _async_throttled),
)
LIBRARIES: Final = ("limits", "throttled-py")
