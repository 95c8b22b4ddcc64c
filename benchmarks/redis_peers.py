"""The peers on a shared store, each by its documented fast call at its best setting.

A peer has no notion of several limits on one key: they are hit one after another. Its pool is given room for every
task and thread: with less, calls fail or wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from limits.aio.storage import RedisClusterStorage as AsyncClusterStorage
from limits.aio.storage import RedisStorage as AsyncStorage
from limits.storage import RedisClusterStorage, RedisStorage
from redis import ConnectionPool
from redis.asyncio import ConnectionPool as AsyncConnectionPool
from throttled import RateLimiterType, RedisStore, Throttled, per_duration, per_sec
from throttled.asyncio import RedisStore as AsyncRedisStore
from throttled.asyncio import Throttled as AsyncThrottled

from benchmarks import limits_window
from benchmarks.servers import Site
from benchmarks.shared_contestants import ATTACK_LIMIT, ROOM, Answer, AsyncSubject, Contestant, Rivals, Rules, Subject

CONNECTIONS: Final = 2_048
GCRA: Final = RateLimiterType.GCRA.value


def _limits(site: Site, rules: Rules, batch: int) -> Subject:
    if site.cluster:
        return limits_window.subject(RedisClusterStorage(site.url, max_connections=CONNECTIONS), rules)
    pool = ConnectionPool.from_url(site.url, max_connections=CONNECTIONS)
    return limits_window.subject(RedisStorage(site.url, connection_pool=pool), rules)


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
    return limits_window.async_subject(storage, rules, storage.bridge.storage.aclose)


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
    return AsyncSubject(one, walk if len(limiters) == 1 else limits_window.each(limit_all), _not_limited, client.aclose)


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
    Contestant("limits", limits_window.NAME, _limits, _async_limits),
    Contestant("throttled-py", "GCRA", _throttled, _async_throttled),
)
RIVALS: Final = Rivals(PEERS, ("redis", "limits", "throttled-py"))
