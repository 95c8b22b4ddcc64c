"""Every way to name a store: URLs with all that they may hold, and an application's own clients."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.cluster import RedisCluster as AsyncRedisCluster
from redis.cluster import RedisCluster

from banhammer import BackendError, BanHammer, ConfigError, Policy, Threshold
from banhammer.backends.redis import RedisBackend
from servers import programs
from servers.cluster import Cluster
from servers.ports import HOST, free_port
from servers.sentinel import Sentinel
from servers.standalone import Standalone
from sides import KINDS, Side

POLICY = Policy("api", [Threshold(1_000_000, "365d")], on_error="closed")
PASSWORD = "a/b:c@d%e? f#\u00e9"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def locked_server() -> Iterator[Standalone]:
    with Standalone(programs.valkey(), unix=True, password=PASSWORD) as server:
        yield server


@pytest.fixture
def locked(locked_server: Standalone) -> Standalone:
    locked_server.flush()
    return locked_server


def over_tcp(server: Standalone) -> str:
    """Return the URL of a server that was started with a socket, by its port."""
    login = server.url.removeprefix("redis+unix://").rpartition("@")[0]
    return f"redis://{login}@{HOST}:{server.port}"


def works(kind: str, target: Any) -> None:
    """Count twice with one shell and read it with the other kind; neither is degraded."""
    with Side(kind, target, [POLICY]) as side:
        assert not any(side.hit("key", "api").degraded for _ in range(2))
        assert {status.key for status in side.call("status_all")} == {"key"}
    (other,) = (each for each in KINDS if each != kind)
    with Side(other, target, [POLICY]) as side:
        assert side.call("status", "key", "api").remaining == (999_998,)


def test_every_program_is_reached_by_its_url(standalone: Standalone, kind: str) -> None:
    works(kind, standalone.url)


def test_a_password_of_any_characters_is_percent_encoded(locked: Standalone, kind: str) -> None:
    works(kind, over_tcp(locked))


def test_a_unix_socket_is_reached_with_a_password_and_without_one(locked: Standalone, kind: str) -> None:
    works(kind, locked.url)
    with Standalone(programs.valkey(), unix=True) as server:
        works(kind, server.url)


def test_a_user_of_the_access_list_is_named_in_the_url(locked: Standalone, kind: str) -> None:
    locked.ask("ACL", "SETUSER", "shop", "on", ">s:e@c", "~*", "+@all")
    works(kind, f"redis://shop:s%3Ae%40c@{HOST}:{locked.port}")
    locked.ask("ACL", "DELUSER", "shop")


@pytest.mark.parametrize("unix", [False, True])
def test_the_number_of_a_database_is_in_the_url(locked: Standalone, kind: str, unix: bool) -> None:
    url = f"{locked.url}?db=3" if unix else f"{over_tcp(locked)}/3"
    works(kind, url)
    with locked.client() as client:
        assert client.dbsize() == 0
    with locked.client(db=3) as client:
        assert client.dbsize() == 1


def test_a_cluster_and_sentinels_are_reached_by_their_urls(cluster: Cluster, sentinel: Sentinel, kind: str) -> None:
    works(kind, cluster.url)
    works(kind, sentinel.url)


def test_a_wrong_password_degrades_decisions_and_is_told_to_operators_without_itself(
    locked: Standalone, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for secret in ("wr0ng-s3cret", ""):
        login = f":{secret}@" if secret else ""
        with Side(kind, f"redis://{login}{HOST}:{locked.port}", [POLICY]) as side:
            assert all(side.hit("key", "api").degraded for _ in range(5))
            told = [repr(side.backend), repr(side.hammer), *errors_of(side)]
        assert not any("s3cret" in text for text in [*told, caplog.text])
        assert sum("is away" in message for message in caplog.messages) == 1
        caplog.clear()


def errors_of(side: Side) -> Iterator[str]:
    """Yield what each operators' verb raises, with its traceback; it is nothing but a `BackendError`."""
    verbs: list[tuple[Any, ...]] = [
        ("ban", "key", "api", "1h"), ("unban", "key", "api"), ("reset", "key", "api"), ("status", "key", "api"),
        ("status_all",), ("bans",),
    ]  # fmt: skip
    for verb, *arguments in verbs:
        with pytest.raises(BackendError) as caught:
            side.call(verb, *arguments)
        yield "".join(traceback.format_exception(caught.value))


Make = Callable[[Standalone], Any]
OWN: dict[str, Make] = {
    "plain": lambda server: redis.Redis(port=server.port, password=PASSWORD, db=2),
    "decoding": lambda server: redis.Redis(port=server.port, password=PASSWORD, decode_responses=True),
    "third protocol": lambda server: redis.Redis(port=server.port, password=PASSWORD, protocol=3),
    "of a URL": lambda server: redis.Redis.from_url(over_tcp(server), health_check_interval=30, socket_timeout=9),
    "blocking pool": lambda server: redis.Redis(
        connection_pool=redis.BlockingConnectionPool(port=server.port, password=PASSWORD, max_connections=1, timeout=1)
    ),
    "unix socket": lambda server: redis.Redis.from_url(server.url.replace("redis+unix:", "unix:")),
    "one connection": lambda server: redis.Redis(port=server.port, password=PASSWORD, single_connection_client=True),
    "asyncio": lambda server: redis.asyncio.Redis(port=server.port, password=PASSWORD),
    "asyncio decoding": lambda server: redis.asyncio.Redis(
        port=server.port, password=PASSWORD, decode_responses=True, protocol=3
    ),
    "asyncio unix socket": lambda server: redis.asyncio.Redis(
        unix_socket_path=server.url.partition("@")[2], password=PASSWORD
    ),
    "asyncio blocking pool": lambda server: redis.asyncio.Redis.from_pool(
        redis.asyncio.BlockingConnectionPool(port=server.port, password=PASSWORD, max_connections=1)
    ),
}


@pytest.mark.parametrize("name", OWN)
def test_a_client_of_the_application_is_read_and_left_as_it_is(locked: Standalone, kind: str, name: str) -> None:
    client = OWN[name](locked)
    settings = dict(client.connection_pool.connection_kwargs)
    works(kind, client)
    assert client.connection_pool.connection_kwargs == settings
    assert said(client) in ("PONG", b"PONG", True)


def said(client: Any) -> Any:
    """Ping with the application's client, and close it."""
    if not isinstance(client, (redis.asyncio.Redis, AsyncRedisCluster)):
        with client:
            return client.ping()

    async def ping() -> Any:
        async with client:
            return await client.ping()

    return asyncio.run(ping())


def test_a_client_that_is_in_use_is_not_disturbed(locked: Standalone, kind: str) -> None:
    with redis.Redis(port=locked.port, password=PASSWORD, single_connection_client=True) as client:
        name = client.client_id()
        works(kind, client)
        assert client.client_id() == name


def test_a_cluster_client_is_read_and_left_as_it_is(cluster: Cluster, kind: str) -> None:
    with RedisCluster(host=HOST, port=cluster.nodes[0].port, decode_responses=True) as client:
        works(kind, client)
        assert client.set("key", "value")
        assert client.get("key") == "value"


def test_an_asyncio_cluster_client_is_read_before_and_after_it_connected(cluster: Cluster, kind: str) -> None:
    client = AsyncRedisCluster(host=HOST, port=cluster.nodes[0].port)
    works(kind, client)
    cluster.flush()

    async def use() -> Any:
        async with client:
            await client.set("key", "value")
            await asyncio.to_thread(works, kind, client)
            return await client.get("key")

    assert asyncio.run(use()) == b"value"


def test_a_sentinel_client_is_read_and_left_as_it_is(sentinel: Sentinel, kind: str) -> None:
    addresses = [(HOST, each.port) for each in sentinel.sentinels]
    with redis.Sentinel(addresses).master_for("mymaster", decode_responses=True) as client:
        works(kind, client)
        assert client.set("key", "value")
        assert client.get("key") == "value"
    sentinel.flush()

    async def use() -> Any:
        sentinels = redis.asyncio.Sentinel(addresses)
        async with sentinels.master_for("mymaster") as other:
            await asyncio.to_thread(works, kind, other)
            told = await other.ping()
        for each in sentinels.sentinels:
            await each.aclose()
        return told

    assert asyncio.run(use())


def test_the_application_gives_its_client_to_a_hammer(locked: Standalone) -> None:
    with (
        redis.Redis(port=locked.port, password=PASSWORD, decode_responses=True) as client,
        BanHammer([POLICY], backend=client, deadline="5s") as hammer,
    ):
        assert not hammer.hit("key", "api").degraded
        assert client.ping()


def test_a_client_with_tls_is_read_with_what_only_one_kind_of_connection_knows() -> None:
    for options in ({"ssl": True}, {"ssl": True, "ssl_check_hostname": False, "ssl_cert_reqs": "none"}):
        RedisBackend(redis.Redis(host="h", **options)).close()
        RedisBackend(redis.asyncio.Redis(host="h", **options)).close()
    with pytest.raises(ConfigError, match="ssl_validate_ocsp"):
        RedisBackend(redis.Redis(host="h", ssl=True, ssl_validate_ocsp=True))


def test_nothing_connects_before_it_is_asked(kind: str) -> None:
    with Side(kind, f"redis://:{PASSWORD[0]}@{HOST}:{free_port()}", [POLICY]) as side:
        assert "RedisBackend" in repr(side.backend)
