"""What is measured on Memcached: one server, started for it and ended with it, beside the storages of limits."""

from __future__ import annotations

from typing import Any, Final

from limits.aio.storage import MemcachedStorage as AsyncStorage
from limits.storage import MemcachedStorage
from memcachio import Client

from benchmarks import limits_window
from benchmarks.progress import Tell
from benchmarks.servers import Site, memcached
from benchmarks.shared_bench import Found, run
from benchmarks.shared_contestants import AsyncSubject, Contestant, Rivals, Rules, Subject
from benchmarks.shared_rows import MEMCACHED

CONNECTIONS: Final = 64
"""As many as there are tasks."""


def run_memcached(rounds: int, *, quick: bool, tell: Tell) -> Found:
    """Measure everything on one server."""
    with memcached() as site:
        return run(site, MEMCACHED, RIVALS, rounds, quick=quick, tell=tell)


def _limits(site: Site, rules: Rules, batch: int) -> Subject:
    return limits_window.subject(MemcachedStorage(site.url, no_delay=True), rules)


def _async_limits(site: Site, rules: Rules, tuned: bool) -> AsyncSubject:
    storage: Any = AsyncStorage(f"async+{site.url}", max_connections=CONNECTIONS, socket_nodelay=True)

    async def close() -> None:
        client: Client[bytes] = await storage.bridge.get_storage()
        client.connection_pool.close()

    return limits_window.async_subject(storage, rules, close)


RIVALS: Final = Rivals(
    (Contestant("limits", limits_window.NAME, _limits, _async_limits),), ("pymemcache", "memcachio", "limits")
)
