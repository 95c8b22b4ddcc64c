"""Whatever a key holds, nothing but safe characters reaches the wire, and no two keys meet."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from pymemcache.client.base import Client, PooledClient
from pymemcache.client.hash import HashClient
from pymemcache.client.retrying import RetryingClient

from banhammer import BanHammer, Hit, Policy, Threshold
from banhammer.backends.memcached import MemcachedBackend
from banhammer.backends.names import escape
from memcached_sides import PATIENCE, MemcachedSide, url_of
from servers.memcached import Memcached, MemcachedProxy
from servers.ports import HOST

pytest_plugins = ("memcached_fixtures",)

SAFE = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:~%-")
LONGEST = 250
KEYS = 2_000
POLICIES = [Policy(name, [Threshold(100_000, "365d")]) for name in ("p", "p.a", f"p{'-' * 63}")]
PIECES = (
    "a", ":", " ", "\r\n", "\0", "\t", "flush_all\r\n", "{0}", "%", "%00", "%~", "/", "\\", "'", '"', "*", "\x7f",
    "\x80", "\ud800", "\udfff", "\u00e9", "e\u0301", "\u2028", "\U0001f600", "\uff11", "::ffff:1.2.3.4",
    "fe80::1%eth0", "x" * 119, "x" * 250, "\u4e2d" * 90,
)  # fmt: skip


def hostile_keys(seed: int) -> list[str]:
    rng = Random(seed)
    keys = {"x" * 65_536, "x" * 65_535 + "y", *PIECES}
    while len(keys) < KEYS:
        keys.add("".join(rng.choices(PIECES, k=rng.randint(1, 6))))
    return sorted(keys)


def names_in(requests: bytes) -> set[bytes]:
    """Return every name in commands; their data blocks begin with a number of thresholds, no letter."""
    names: set[bytes] = set()
    at = 0
    while at < len(requests):
        end = requests.index(b"\r\n", at)
        words = requests[at:end].split(b" ")
        at = end + 2
        if words[0] == b"gets":
            names.update(words[1:])
            continue
        assert words[0] in (b"add", b"cas", b"delete"), words
        names.add(words[1])
        at += 0 if words[0] == b"delete" else int(words[4]) + 2
    return names


def test_nothing_of_2_000_hostile_keys_reaches_the_wire_unescaped(memcached: Memcached, proxy: MemcachedProxy) -> None:
    """Every key is counted by itself, in every batch and alone, under names of policies that begin alike."""
    keys = hostile_keys(1)
    with proxy.record() as tape, MemcachedSide("sync", proxy.url, POLICIES) as side:
        for policy in POLICIES[:2]:
            told = side.call("hit_many", [Hit(key, policy.name, cost=at) for at, key in enumerate(keys, 1)])
            assert [each.remaining for each in told] == [100_000 - at for at in range(1, KEYS + 1)]
        for at, key in enumerate(keys[::40]):
            assert side.hit(key, POLICIES[2].name, at + 1).remaining == 100_000 - at - 1
            assert side.call("status", key, "p").remaining == (100_000 - 40 * at - 1,)
            side.call("reset", key, "p.a")
    names = names_in(bytes(tape.requests)) - {b"bh:life"}
    assert len(names) == 2 * KEYS + KEYS // 40
    assert all(SAFE.issuperset(name) and name.startswith(b"bh:") and len(name) <= LONGEST for name in names)


def test_the_longest_name_is_below_what_the_server_takes(memcached: Memcached) -> None:
    name = MemcachedBackend(memcached.url)._store.place("p" * 64, "\u4e2d" * 300).name
    assert len(name) == 188
    assert len(escape("\u4e2d" * 300)) > LONGEST


def test_a_key_is_where_the_hash_client_looks_for_it(three: list[Memcached]) -> None:
    """The application's own client finds a record by its name, on the same one of three servers."""
    client = HashClient([(HOST, server.port) for server in three])
    with MemcachedSide("sync", url_of(three), [Policy("p", [Threshold(9, "1h")])]) as side:
        side.call("hit_many", [Hit(f"key{number}", "p") for number in range(200)])
    assert all(client.get(f"bh:p:key{number}") for number in range(200))
    assert all(int(server.ask(b"stats\r\n").partition(b"curr_items ")[2].split()[0]) > 20 for server in three)
    client.close()


CLIENTS = {
    "Client": Client,
    "PooledClient": PooledClient,
    "HashClient": lambda server: HashClient([server]),
    "RetryingClient": lambda server: RetryingClient(Client(server), attempts=3),
}


@pytest.mark.parametrize("make", CLIENTS.values(), ids=CLIENTS)
def test_an_applications_own_client_names_the_servers(memcached: Memcached, make: Any) -> None:
    client = make((HOST, memcached.port))
    with BanHammer([Policy("p", [Threshold(1, "1h")])], backend=client, deadline=PATIENCE) as hammer:
        assert [bool(hammer.hit("key", "p")) for _ in range(2)] == [True, False]
    assert memcached.value(b"bh:p:key")
    store: Any = hammer._backend
    assert not store._store.servers[0]._idle, "what the hammer made of the client, it closes"
    client.close()
