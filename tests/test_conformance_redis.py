"""The conformance kit on `redis://`, on each server program, and on `redis+cluster://`."""

from __future__ import annotations

from functools import partial

import pytest

from banhammer import Policy
from banhammer.backends.redis.backend import RedisBackend
from banhammer.testing.conformance import Conformance
from banhammer.testing.conformance.stage import Opener
from redis_stores import Store
from redis_workers import PATIENCE
from servers.cluster import Cluster

pytest_plugins = ("redis_store_fixtures",)


class TestRedis(Conformance):
    @pytest.fixture
    def opener(self, every_store: Store) -> Opener:
        self.store = every_store
        return partial(RedisBackend, every_store.url, deadline=PATIENCE)

    def damage(self, backend: RedisBackend, key: str, policy: Policy, junk: bytes) -> None:
        _, name, _ = backend._names.record(policy.name, key)
        server = self.store.holder_of(name) if isinstance(self.store, Cluster) else self.store
        server.ask("SET", name, junk)
