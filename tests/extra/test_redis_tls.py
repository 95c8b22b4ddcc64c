"""Stores over TLS; they need Debian's redis-server and openssl, for the server in the wheel has no TLS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
import redis.asyncio
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from banhammer import BackendError, Policy, Threshold
from banhammer.backends.redis import tls
from banhammer.backends.redis.settings import from_url
from servers import programs
from servers.ports import HOST
from servers.standalone import Standalone
from sides import KINDS, Side

SHORT = 0.1
ONCE = Retry(NoBackoff(), 0)
POLICY = Policy("api", [Threshold(1_000_000, "365d")], on_error="closed")


@pytest.fixture(scope="module")
def server() -> Iterator[Standalone]:
    with Standalone(programs.redis(), tls=True, password="a/b:c@d") as found:
        yield found


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_tls_server_proves_itself_and_speaks_nothing_else() -> None:
    with Standalone(programs.redis(), tls=True) as server:
        assert server.client().ping()
        with pytest.raises(RedisError):
            redis.Redis(port=server.port, socket_timeout=SHORT, retry=ONCE).ping()


def test_a_store_is_reached_over_tls(server: Standalone, kind: str) -> None:
    server.flush()
    with Side(kind, server.url, [POLICY]) as side:
        assert not any(side.hit("key", "api").degraded for _ in range(3))
        assert side.call("status", "key", "api").remaining == (999_997,)


def test_connections_of_threads_and_event_loops_share_a_context_for_a_while(
    server: Standalone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To make one takes longer than a deadline; after a while certificates may have been renewed."""
    settings, _ = from_url(server.url)

    def context() -> object:
        connection = settings.connection(None, 5.0, aio_=False, sentinel=False)
        connection.connect()
        used = connection._sock.context
        connection.disconnect()
        assert settings.connection(None, 5.0, aio_=True, sentinel=False).ssl_context.get() is used
        return used

    first = context()
    assert context() is first
    monkeypatch.setattr(tls, "KEPT", 0.0)
    assert settings.connection(None, 5.0, aio_=True, sentinel=False).ssl_context.get() is not first


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(server: Standalone, kind: str) -> None:
    with Side(kind, server.url.partition("?")[0], [POLICY]) as side:
        assert side.hit("key", "api").degraded
        with pytest.raises(BackendError, match=r"(?i)certificate"):
            side.call("status", "key", "api")


def test_a_server_without_tls_is_not_spoken_to_in_the_clear(kind: str) -> None:
    with (
        Standalone(programs.redis()) as plain,
        Side(kind, f"rediss://{HOST}:{plain.port}", [POLICY], deadline="300ms") as side,
    ):
        assert side.hit("key", "api").degraded
        assert plain.ask("DBSIZE") == 0


@pytest.mark.parametrize("module", [redis, redis.asyncio], ids=["sync client", "asyncio client"])
def test_a_client_of_the_application_gives_its_certificates(server: Standalone, kind: str, module: object) -> None:
    server.flush()
    client = module.Redis.from_url(server.url, decode_responses=True)  # type: ignore[attr-defined]
    with Side(kind, client, [POLICY]) as side:
        assert not side.hit("key", "api").degraded


def test_a_silent_server_over_tls_costs_one_deadline(kind: str) -> None:
    with (
        Standalone(programs.redis(), tls=True) as server,
        Side(kind, server.url, [POLICY], deadline="500ms") as side,
    ):
        assert not side.hit("key", "api").degraded
        server.stop()
        assert side.hit("key", "api").degraded
        server.cont()
