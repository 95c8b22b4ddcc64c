"""Fixtures: the stores that `redis://` and `redis+cluster://` name, and hammers of both shells on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from banhammer import Policy
from banhammer.testing import ManualClock
from redis_rules import RULES, START, Note
from redis_shells import Make, Shell, shell
from redis_stores import Store
from redis_workers import PATIENCE
from servers import programs
from servers.cluster import Cluster
from servers.standalone import Standalone


@pytest.fixture(scope="session")
def single_servers() -> Iterator[dict[str, Standalone]]:
    """One server of each installed program, as other tests left it."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(Standalone(programs.PROGRAMS[name]())) for name in programs.installed()}


@pytest.fixture(params=[*programs.installed(), "cluster"])
def every_store(request: pytest.FixtureRequest) -> Store:
    """An empty server of each program, and an empty cluster."""
    return _empty(request, request.param)


@pytest.fixture(params=["single", "cluster"])
def store(request: pytest.FixtureRequest) -> Store:
    """An empty server, and an empty cluster."""
    return _empty(request, request.param)


@pytest.fixture
def single(request: pytest.FixtureRequest) -> Standalone:
    """An empty server."""
    server = _empty(request, "single")
    assert isinstance(server, Standalone)
    return server


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def note() -> Note:
    return Note()


@pytest.fixture(params=["sync", "async"])
def make(request: pytest.FixtureRequest, every_store: Store, note: Note) -> Iterator[Make]:
    """Makes hammers of one shell on one store; they are closed behind the test."""
    made: list[Shell] = []

    def make(rules: Iterable[Policy] = RULES, **settings: Any) -> Shell:
        actions = {"note": note, "also": lambda _: None}
        named = {"backend": every_store.url, "deadline": PATIENCE, "actions": actions, **settings}
        made.append(shell(request.param, rules, **named))
        return made[-1]

    yield make
    for each in made:
        each.end()


@pytest.fixture
def hammer(make: Make, clock: ManualClock) -> Shell:
    return make(clock=clock, allow=["friend", "10.0.0.0/8"], deny=["foe"])


def _empty(request: pytest.FixtureRequest, name: str) -> Store:
    if name == "cluster":
        found: Cluster = request.getfixturevalue("cluster")
        return found
    servers: dict[str, Standalone] = request.getfixturevalue("single_servers")
    server = servers[programs.default().name if name == "single" else name]
    server.heal()
    server.flush()
    return server
