"""Fixtures: Memcached servers that live as long as the run, healed and flushed before each test that uses them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from servers.memcached import Memcached, MemcachedProxy
from sides import KINDS


@pytest.fixture(scope="session")
def memcached_server() -> Iterator[Memcached]:
    """A server, as other tests left it."""
    with Memcached() as server:
        yield server


@pytest.fixture
def memcached(memcached_server: Memcached) -> Memcached:
    """A running, empty server."""
    memcached_server.heal()
    memcached_server.flush()
    return memcached_server


@pytest.fixture
def proxy(memcached: Memcached) -> Iterator[MemcachedProxy]:
    """A proxy before the server."""
    with MemcachedProxy(memcached.port) as found:
        yield found


@pytest.fixture(scope="session")
def memcached_servers() -> Iterator[list[Memcached]]:
    """Three servers, as other tests left them."""
    with ExitStack() as stack:
        yield [stack.enter_context(Memcached()) for _ in range(3)]


@pytest.fixture
def three(memcached_servers: list[Memcached]) -> list[Memcached]:
    """Three running, empty servers."""
    for server in memcached_servers:
        server.heal()
        server.flush()
    return memcached_servers


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)
