"""The stores that must decide alike, one line each, and how a test reaches behind a store's back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest
from redis import Redis

from banhammer.backends.memcached import MemcachedBackend
from banhammer.backends.memory import MemoryBackend
from banhammer.backends.names import escape
from banhammer.backends.redis.backend import RedisBackend
from doc_pages import DOCS, blocks
from histories_crew import PATIENCE
from servers.cluster import Cluster, slot_of
from servers.memcached import Memcached
from servers.ports import HOST
from servers.standalone import Standalone


class Store(Protocol):
    """A store, and what only a test may do to its records."""

    url: str
    backend: Any
    bounded: bool
    """Whether a hit is denied, degraded, where others kept changing its record."""

    def emptied(self) -> Any:
        """Return a backend on the store, which holds nothing."""
        ...

    def held(self, policy: str, key: str) -> object:
        """Return all that is kept of a record, and until when; it differs whenever anything was written."""
        ...

    def damage(self, policy: str, key: str, wrong: bytes | None) -> None:
        """Put in a record's place what is none."""
        ...

    def expire(self, policy: str, key: str) -> None:
        """Let go of a record, as the store does by itself once its time has come."""
        ...


class MemoryStore:
    """The store of this process: its records have no bytes, so a damaged one is an absent one."""

    url = "memory://"
    bounded = False

    def __init__(self) -> None:
        self.backend = MemoryBackend()

    def emptied(self) -> MemoryBackend:
        self.backend = MemoryBackend()
        return self.backend

    def held(self, policy: str, key: str) -> object:
        kept = self.backend
        tables = {name: dict(table) for name, table in kept._tables.items() if table}
        return tables, list(kept._details), copy.deepcopy(kept._leaving._heaps), len(kept)

    def damage(self, policy: str, key: str, wrong: bytes | None) -> None:
        kept = self.backend
        if policy in kept._policies:
            kept.forget(key, kept._policies[policy], strikes=True)

    def expire(self, policy: str, key: str) -> None:
        """Do nothing: with an injected clock a lapsed record stays until its room is needed."""


class RedisStore:
    """One server, or a cluster whose slots stay where they are."""

    bounded = False

    def __init__(self, server: Standalone | Cluster, target: object) -> None:
        self.url = server.url
        self._server = server
        self._servers = [server] if isinstance(server, Standalone) else server.masters()
        self._holders: dict[int, Standalone] = {}
        self.backend = RedisBackend(target, deadline=PATIENCE)

    def emptied(self) -> RedisBackend:
        for server in self._servers:
            server.ask("FLUSHALL")
        return self.backend

    def held(self, policy: str, key: str) -> object:
        _, name, _ = self.backend._names.record(policy, key)
        server = self._holder(name)
        return server.ask("DUMP", name), server.ask("PEXPIRETIME", name)

    def damage(self, policy: str, key: str, wrong: bytes | None) -> None:
        _, name, _ = self.backend._names.record(policy, key)
        self.expire(policy, key)
        self._holder(name).ask(*(("RPUSH", name, "x") if wrong is None else ("SET", name, wrong)))

    def expire(self, policy: str, key: str) -> None:
        _, name, _ = self.backend._names.record(policy, key)
        self._holder(name).ask("DEL", name)

    def _holder(self, name: str) -> Standalone:
        if isinstance(self._server, Standalone):
            return self._server
        slot = slot_of(name)
        if slot not in self._holders:
            self._holders[slot] = self._server.holder(slot)
        return self._holders[slot]


class MemcachedStore:
    """One Memcached server, or several that share the keys."""

    bounded = True

    def __init__(self, servers: Sequence[Memcached]) -> None:
        self.url = "memcached://" + ",".join(f"{HOST}:{server.port}" for server in servers)
        self._servers = {f"{HOST}:{server.port}": server for server in servers}
        self.backend = MemcachedBackend(self.url, deadline=PATIENCE)

    def emptied(self) -> MemcachedBackend:
        for server in self._servers.values():
            server.flush()
        return self.backend

    def held(self, policy: str, key: str) -> object:
        name, server = self._place(policy, key)
        return server.ask(b"gets %b\r\n" % name)  # Its token is another after each write.

    def damage(self, policy: str, key: str, wrong: bytes | None) -> None:
        name, server = self._place(policy, key)
        server.put(name, wrong or b"", flags=0 if wrong is not None else 7)

    def expire(self, policy: str, key: str) -> None:
        name, server = self._place(policy, key)
        server.ask(b"delete %b\r\n" % name)

    def _place(self, policy: str, key: str) -> tuple[bytes, Memcached]:
        name, server = self.backend._store.place(policy, key)
        return name, self._servers[server.name]


class ExampleStore:
    """The backend that the documentation writes, on a file of its own."""

    url = "sqlite"
    bounded = False

    def __init__(self, file: Path) -> None:
        page = blocks(DOCS / "how-to" / "write-a-backend.md")
        code = next(block.text for block in page if block.text.startswith("# sqlite_store.py"))
        names: dict[str, Any] = {}
        exec(code, names)
        self.backend = names["SqliteStore"](str(file))

    def emptied(self) -> Any:
        self.backend._database.execute("DELETE FROM records")
        return self.backend

    def held(self, policy: str, key: str) -> object:
        query = "SELECT * FROM records WHERE (policy, key) = (?, ?)"
        return self.backend._database.execute(query, (policy, escape(key))).fetchall()

    def damage(self, policy: str, key: str, wrong: bytes | None) -> None:
        self.expire(policy, key)
        row = "INSERT INTO records VALUES (?, ?, ?, 0, 'hit', '', '', 0)"
        self.backend._database.execute(row, (policy, escape(key), wrong or b""))

    def expire(self, policy: str, key: str) -> None:
        query = "DELETE FROM records WHERE (policy, key) = (?, ?)"
        self.backend._database.execute(query, (policy, escape(key)))


def _single(request: pytest.FixtureRequest) -> RedisStore:
    """Reached through a client of the application's own, which would decode what it reads."""
    server: Standalone = request.getfixturevalue("single")
    return RedisStore(server, Redis.from_url(server.url, decode_responses=True))


def _cluster(request: pytest.FixtureRequest) -> RedisStore:
    cluster: Cluster = request.getfixturevalue("cluster")
    return RedisStore(cluster, cluster.url)


def _memcached(request: pytest.FixtureRequest) -> MemcachedStore:
    return MemcachedStore([request.getfixturevalue("memcached")])


def _memcached_on_three(request: pytest.FixtureRequest) -> MemcachedStore:
    return MemcachedStore(request.getfixturevalue("three"))


def _example(request: pytest.FixtureRequest) -> ExampleStore:
    return ExampleStore(request.getfixturevalue("tmp_path") / "hits.db")


STORES: dict[str, Callable[[pytest.FixtureRequest], Store]] = {
    "memory": lambda _: MemoryStore(),
    "redis": _single,
    "cluster": _cluster,
    "memcached": _memcached,
    "memcached on three servers": _memcached_on_three,
    "the example of the documentation": _example,
}
"""What opens each store, given the servers of the run; the first is the one that the others are compared with."""
