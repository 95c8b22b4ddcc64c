"""A server that is away is asked in the background whether it is back, and notices little of it."""

from __future__ import annotations

import select
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
from servers.proxy import Proxy
from servers.standalone import Standalone
from servers.waiting import until

PING = ("PING",)
SHORT, LONG = 0.01, 10.0


@pytest.fixture(scope="module")
def running() -> Iterator[Standalone]:
    with Standalone(programs.valkey()) as server:
        yield server


@pytest.fixture(scope="module")
def guarded() -> Iterator[Standalone]:
    with Standalone(programs.valkey(), password="secret") as server:
        yield server


def broken(url: str) -> Server:
    """Return the server of a URL with its breaker open."""
    return open_breaker(Server(from_url(url)[0], None))


def open_breaker(server: Server) -> Server:
    for _ in range(FAILURES):
        server.breaker.failed(BackendError("no answer"))
    return server


@pytest.fixture
def away(running: Standalone) -> Iterator[Server]:
    """The server of a store while its process is stopped."""
    server = broken(running.url)
    running.ask("CONFIG", "RESETSTAT")
    running.stop()
    yield server
    running.cont()
    server.close()
    until(lambda: connections(running) == 0, "all connections closed")


def made(running: Standalone) -> int:
    """Return how many connections were made to a server."""
    return int(running.ask("INFO", "stats")["total_connections_received"])


def probed(server: Server, seconds: float) -> bool:
    """Ask whether the server is back; return whether it is."""
    server.probe(PING, monotonic() + seconds)
    return server.breaker.error is None


def test_a_server_that_hangs_owes_one_answer_however_often_it_is_asked(running: Standalone, away: Server) -> None:
    assert not any(probed(away, SHORT) for _ in range(5))
    running.cont()
    assert probed(away, LONG)
    assert (made(running), connections(running)) == (1, 1)
    link = away.take()
    link.send([("ECHO", "hers")], monotonic() + LONG)
    assert link.receive(1, monotonic() + LONG) == [b"hers"], "the connection owes nothing"
    assert probed(open_breaker(away), LONG)
    assert made(running) == 2, "not asked on the connection of a caller"
    away.give(link)


def test_a_connection_that_is_not_made_in_time_is_not_made_anew_at_once(
    guarded: Standalone, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = broken(guarded.url)
    guarded.ask("CONFIG", "RESETSTAT")
    guarded.stop()
    assert not any(probed(away, SHORT) for _ in range(5))
    guarded.cont()
    assert not probed(away, SHORT)
    assert made(guarded) == 1
    monkeypatch.setattr(module, "ASKED_ANEW", 0.0)
    assert probed(away, LONG)
    assert made(guarded) == 2
    away.close()


def test_a_question_that_is_a_second_old_is_asked_on_a_new_connection(
    running: Standalone, away: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in (1_000.0, 1_000.5, 1_001.0, 1_001.1, 1_002.0, 1_002.2):
        monkeypatch.setattr(module, "monotonic", lambda at=at: at)
        assert not probed(away, SHORT)
    running.cont()
    assert probed(away, LONG)
    assert made(running) == 3
    until(lambda: connections(running) == 1, "those that were given up closed")


def test_an_answer_that_comes_too_late_does_not_say_that_the_server_is_back(running: Standalone) -> None:
    with Proxy(running.port) as proxy:
        slow = broken(proxy.url)
        proxy.delay = 0.1
        for _ in range(3):
            assert not probed(slow, SHORT)
            assert slow._asked is not None
            assert select.select([slow._asked[0]._socket], [], [], LONG)[0], "an answer, too late"
        assert proxy.connections == 1
        proxy.delay = 0.0
        assert probed(slow, LONG)
        slow.close()


def test_idle_connections_as_old_as_one_that_is_dead_are_not_tried_one_after_another(
    running: Standalone, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(running.port) as proxy:
        server = Server(from_url(proxy.url)[0], None)
        links = [server.take() for _ in range(3)]
        for link in links:
            link.send([PING], monotonic() + LONG)
            link.receive(1, monotonic() + LONG)
            server.give(link)
        open_breaker(server)
        proxy.black_hole()
        assert not probed(server, SHORT)
        proxy._swallows = False  # Not what was open before: those stay dead.
        monkeypatch.setattr(module, "ASKED_ANEW", 0.0)
        assert probed(server, LONG)
        assert proxy.connections == 4
        server.close()


def test_a_connection_that_ends_is_made_anew_in_the_next_round(running: Standalone, away: Server) -> None:
    assert not probed(away, SHORT)
    running.kill()
    running.start()
    assert not probed(away, LONG), "the one that waited was closed"
    assert probed(away, LONG)


def test_closing_closes_the_connection_that_waits_for_an_answer(running: Standalone, away: Server) -> None:
    assert not probed(away, SHORT)
    away.close()
    running.cont()
    until(lambda: made(running) == 1 and connections(running) == 0, "closed")


def test_a_forked_child_leaves_the_connection_that_waits_to_its_parent(running: Standalone, away: Server) -> None:
    assert not probed(away, SHORT)
    left = away.abandon()
    running.cont()
    assert probed(away, LONG)
    assert made(running) == connections(running) == 2
    left.clear()
    until(lambda: connections(running) == 1, "the parent's ended with it")
