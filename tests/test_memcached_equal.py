"""Memcached decides as memory does: threads and tasks, one server and three, at one injected time (G15)."""

from __future__ import annotations

import secrets
from typing import Any

from banhammer.backends.memcached import MemcachedBackend
from memcached_sides import url_of
from redis_walk import DAMAGE, Walk
from servers.memcached import Memcached

pytest_plugins = ("memcached_fixtures",)

STEPS = 400


class OneByOne(Walk):
    """The walk without lists of all: Memcached has none."""

    def listing(self) -> None:
        self.status()

    def damage(self) -> None:
        key, name = self.key(), self.name()
        wrong = self.rng.choice([each for each in DAMAGE if each is not None])
        self.sides[0].shells[0][0].reset(key, name)
        for side in self.sides[1:]:
            self.write(side.backend, f"{name}\n{key}", wrong)


def test_memcached_takes_the_same_walk_as_memory(memcached: Memcached, three: list[Memcached]) -> None:
    by_port = {server.port: server for server in (memcached, *three)}
    backends = [MemcachedBackend(url, deadline="30s") for url in (memcached.url, url_of(three))]

    def write(backend: Any, place: str, value: bytes | None) -> None:
        name, server = backend._store.place(*place.split("\n", 1))
        assert value is not None
        by_port[int(server.name.rpartition(":")[2])].put(name, value)

    walk = OneByOne(str(secrets.randbits(32)), backends, write)
    try:
        walk.take(STEPS)
        walk.compare_escalations()
    finally:
        walk.close()
    assert all(backend.damaged for backend in backends)
