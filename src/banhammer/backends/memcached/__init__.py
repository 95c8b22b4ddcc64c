"""The store on Memcached, which a fleet of processes shares: `memcached://host:port,host:port`."""

from banhammer.backends.memcached.backend import MemcachedBackend

__all__ = ["MemcachedBackend"]
