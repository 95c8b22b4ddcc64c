"""A server that is away is asked in the background whether it is back, and notices little of it."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic

import pytest

from banhammer import BackendError
from banhammer.backends.breaker import FAILURES
from banhammer.backends.redis import server as module
from banhammer.backends.redis.server import Server
from banhammer.backends.redis.settings import from_url
from redis_stores import connections
from servers import programs
from servers.standalone import Standalone
from servers.waiting import until

PING = ("PING",)
SHORT, LONG = 0.01, 10.0


@pytest.fixture(scope="module")
def running() -> Iterator[Standalone]:
    with Standalone(programs.valkey()) as server:
        yield server


@pytest.fixture
def away(running: Standalone) -> Iterator[Server]:
    """The server of a store, away, while its process is stopped."""
    server = Server(from_url(running.url)[0], None)
    for _ in range(FAILURES):
        server.breaker.failed(BackendError("no answer"))
    running.ask("CONFIG", "RESETSTAT")
    running.stop()
    yield server
    running.cont()
    server.close()
    until(lambda: connections(running) == 0, "all connections closed")


def made(running: Standalone) -> int:
    """Return how many connections were made to a server."""
    return int(running.ask("INFO", "stats")["total_connections_received"])


def test_a_server_that_hangs_owes_one_answer_and_is_back_with_it(running: Standalone, away: Server) -> None:
    for _ in range(5):
        away.probe(PING, monotonic() + SHORT)
        assert away.breaker.error is not None
    running.cont()
    away.probe(PING, monotonic() + LONG)
    assert away.breaker.error is None
    assert (made(running), connections(running)) == (1, 1)
    link = away.take()
    link.send([PING], monotonic() + LONG)
    assert link.receive(1, monotonic() + LONG) == [b"PONG"], "the connection owes nothing"
    away.give(link)
    assert made(running) == 1


def test_a_question_that_is_a_second_old_is_asked_on_another_connection(
    running: Standalone, away: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = [1_000.0]
    monkeypatch.setattr(module, "monotonic", lambda: at[0])
    for at[0] in (1_000.0, 1_000.5, 1_001.0, 1_001.1, 1_002.0, 1_002.2):
        away.probe(PING, monotonic() + SHORT)
    running.cont()
    away.probe(PING, monotonic() + LONG)
    assert away.breaker.error is None
    assert made(running) == 3
    until(lambda: connections(running) == 1, "those that were given up closed")


def test_a_connection_that_ends_is_made_anew_in_the_next_round(running: Standalone, away: Server) -> None:
    away.probe(PING, monotonic() + SHORT)
    running.kill()
    running.start()
    away.probe(PING, monotonic() + LONG)
    assert away.breaker.error is not None, "the one that waited was closed"
    away.probe(PING, monotonic() + LONG)
    assert away.breaker.error is None


def test_closing_closes_the_connection_that_waits_for_an_answer(running: Standalone, away: Server) -> None:
    away.probe(PING, monotonic() + SHORT)
    away.close()
    running.cont()
    until(lambda: made(running) == 1 and connections(running) == 0, "closed")
