"""The stores that come with banhammer, by the schemes of their URLs: a plugin like any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from banhammer.backends import Backend
from banhammer.errors import ConfigError
from banhammer.hookspecs import hookimpl
from banhammer.urls import SCHEMES


@hookimpl
def banhammer_backends() -> Mapping[str, Callable[..., Backend]]:
    """Return what opens each store; the module of a store is imported only when it is opened."""
    redis = {scheme: open_redis for scheme in SCHEMES if scheme.startswith("redis")}
    return {"memory": open_memory, **redis, "memcached": open_memcached}


def open_memory(url: str, *, deadline: int, denial_cache: bool | None) -> Backend:
    """Return the store in this process: it answers at once, so there is no deadline and nothing to cache."""
    from banhammer.backends.memory import MemoryBackend

    return MemoryBackend.from_url(url)


def open_redis(target: object, *, deadline: int, denial_cache: bool | None) -> Backend:
    """Return the store that a URL names, or a client of redis-py reaches."""
    try:
        from banhammer.backends.redis import RedisBackend
    except ImportError as error:
        raise ConfigError('backend: Redis needs: pip install "banhammer-limiter[redis]"') from error

    return RedisBackend(target, deadline=deadline / 1e6, denial_cache=denial_cache)


def open_memcached(target: object, *, deadline: int, denial_cache: bool | None) -> Backend:
    """Return the store that a URL names, or a client of pymemcache reaches."""
    try:
        from banhammer.backends.memcached import MemcachedBackend
    except ImportError as error:
        raise ConfigError('backend: Memcached needs: pip install "banhammer-limiter[memcached]"') from error

    return MemcachedBackend(target, deadline=deadline / 1e6, denial_cache=denial_cache)
