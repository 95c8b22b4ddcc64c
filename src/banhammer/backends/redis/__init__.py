"""Redis, Redis Cluster, Sentinel and Valkey: the shared store, where a script decides and a fleet acts as one."""

from banhammer.backends.redis.backend import RedisBackend

__all__ = ["RedisBackend"]
