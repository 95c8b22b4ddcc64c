"""The conformance kit on `memcached://`: one server, and three."""

from __future__ import annotations

from functools import partial

import pytest

from banhammer import Policy
from banhammer.backends.memcached import MemcachedBackend
from banhammer.testing.conformance import Conformance
from banhammer.testing.conformance.stage import Opener
from memcached_sides import PATIENCE, url_of
from servers.memcached import Memcached

pytest_plugins = ("memcached_fixtures",)


class TestMemcached(Conformance):
    @pytest.fixture(params=[1, 3])
    def opener(self, three: list[Memcached], request: pytest.FixtureRequest) -> Opener:
        self.servers = three[: request.param]
        return partial(MemcachedBackend, url_of(self.servers), deadline=PATIENCE)

    def damage(self, backend: MemcachedBackend, key: str, policy: Policy, junk: bytes) -> None:
        place = backend._store._place(policy.name, key)
        server = next(each for each in self.servers if place.server.name == each.url.removeprefix("memcached://"))
        server.put(place.name, junk)
