"""Fixtures: real servers that live as long as the run, healed and flushed before each test that uses them.

The ones called `..._server` live as long and are left alone: for `@given`, which wants no fixture of one test.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from servers import programs
from servers.cluster import Cluster
from servers.programs import Program
from servers.sentinel import Sentinel
from servers.standalone import Standalone


@pytest.fixture(scope="session", params=programs.installed())
def redis_program(request: pytest.FixtureRequest) -> Program:
    """Redis, where it is installed, then Valkey."""
    return programs.PROGRAMS[request.param]()


@pytest.fixture(scope="session")
def standalone_server(redis_program: Program) -> Iterator[Standalone]:
    """A server of each program, as other tests left it."""
    with Standalone(redis_program) as server:
        yield server


@pytest.fixture
def standalone(standalone_server: Standalone) -> Standalone:
    """A running, empty server of each program."""
    standalone_server.heal()
    standalone_server.flush()
    return standalone_server


@pytest.fixture(scope="session")
def cluster_server() -> Iterator[Cluster]:
    """A cluster, as other tests left it."""
    with Cluster(programs.valkey()) as cluster:
        yield cluster


@pytest.fixture
def cluster(cluster_server: Cluster) -> Cluster:
    """A whole, empty cluster of three masters and three replicas."""
    cluster_server.heal()
    cluster_server.flush()
    return cluster_server


@pytest.fixture(scope="session")
def sentinel_server() -> Iterator[Sentinel]:
    """A master, a replica and three Sentinels, as other tests left them."""
    with Sentinel(programs.default()) as sentinel:
        yield sentinel


@pytest.fixture
def sentinel(sentinel_server: Sentinel) -> Sentinel:
    """A master, a replica and three Sentinels, whole and empty."""
    sentinel_server.heal()
    sentinel_server.flush()
    return sentinel_server
