"""Both shells on Memcached, and what a test says of its servers."""

from __future__ import annotations

from banhammer.backends.memcached import MemcachedBackend
from servers.memcached import Memcached
from servers.waiting import until
from sides import Side

PATIENCE = "10s"
"""A deadline that a busy machine keeps, so that no decision is degraded."""


class MemcachedSide(Side):
    """A hammer of one kind on Memcached."""

    opened = MemcachedBackend


def url_of(servers: list[Memcached]) -> str:
    """Return the URL of several servers."""
    return "memcached://" + ",".join(server.url.partition("://")[2] for server in servers)


def until_normal(side: Side, key: str, policy: str) -> None:
    """Wait until a hit is decided by the store."""
    until(lambda: not side.hit(key, policy).degraded, "normal again", seconds=10)
