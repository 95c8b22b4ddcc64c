"""Hostile keys through Redis: kept apart, listed as they are, and nothing of them is ever read as a command."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banhammer import BanHammer, Hit, Policy, Threshold
from banhammer.backends.names import escape, shorten
from banhammer.backends.redis.backend import RedisBackend
from banhammer.testing import ManualClock
from servers.cluster import Cluster
from servers.standalone import Standalone

HOSTILE = (
    "a:b", "a", "p:a", "{tag}", "}{", "{0}", "bh:{0}#bans", "#bans", "a\0b", "a\0", "a\r\nb", "\r\nFLUSHALL\r\n", " ",
    "a b", "'", '"', "\\", "$-1\r\n", "*", "?", "[a-z]", "x" * 65_536, "x" * 65_535 + "y", "\ud800", "\udfff\ud800",
    "\ud83d\ude00", "\U0001f600", "caf\u00e9", "cafe\u0301", "\u00e9" * 60, "e\u0301" * 60, "::ffff:1.2.3.4",
    "1.2.3.4", "fe80::1%eth0", "1.2.3.4:80", "[::1]", "\uff11.2.3.4", "%", "%25", "%00", "a%00b", "%~", "x" * 120,
    "x" * 121, "x" * 86 + "%~" + "0" * 32, "p|hit|nonce|reason", "\u2028", "\U0010ffff",
)  # fmt: skip
POLICIES = [Policy(name, [Threshold(1000, "1h"), Threshold(2000, "1h", ban="1h")]) for name in ("p", "p.a", "p-a")]


@pytest.fixture
def hammers(standalone: Standalone, cluster: Cluster) -> Iterator[list[BanHammer]]:
    """On one server, and on a cluster."""
    backends = [RedisBackend(server.url, deadline="10s") for server in (standalone, cluster)]
    hammers = [BanHammer(POLICIES, backend=backend, clock=ManualClock()) for backend in backends]
    yield hammers
    for hammer, backend in zip(hammers, backends, strict=True):
        hammer.close()
        backend.close()


def spelled(keys: object) -> list[str]:
    """Return keys as the list of all records tells them, cut where they are long."""
    assert isinstance(keys, tuple)
    return sorted(key if len(escape(key)) <= 120 else shorten(escape(key)) for key in keys)


def test_hostile_keys_are_kept_apart(hammers: list[BanHammer]) -> None:
    """G18: one by one and in one batch, under policies whose names begin alike."""
    for hammer in hammers:
        keep_apart(hammer)


def keep_apart(hammer: BanHammer) -> None:
    for policy in ("p", "p.a", "p-a"):
        for number, key in enumerate(HOSTILE, 1):
            assert hammer.hit(key, policy, number).remaining == 1000 - number
        batch = hammer.hit_many([Hit(key, policy, cost=number) for number, key in enumerate(HOSTILE, 1)])
        assert [each and each.remaining for each in batch] == [1000 - 2 * n for n in range(1, len(HOSTILE) + 1)]
    for number, key in enumerate(HOSTILE, 1):
        assert [hammer.status(key, policy).remaining[0] for policy in ("p", "p.a", "p-a")] == [1000 - 2 * number] * 3
    listed = list(hammer.status_all())
    assert sorted(each.key for each in listed if each.policy == "p") == spelled(HOSTILE)
    assert len(listed) == 3 * len(HOSTILE)


def test_a_ban_is_listed_by_its_key_however_long_that_is(hammers: list[BanHammer]) -> None:
    """By a hit or by hand."""
    for hammer in hammers:
        ban_and_lift(hammer)


def ban_and_lift(hammer: BanHammer) -> None:
    for number, key in enumerate(HOSTILE):
        if number % 2:
            hammer.ban(key, "p", "1h", reason=key[:40])
        else:
            assert hammer.hit(key, "p", 5000).verdict == "banned"
    found = {ban.key: ban for ban in hammer.bans()}
    assert sorted(found) == sorted(HOSTILE)
    for number, key in enumerate(HOSTILE):
        assert (found[key].origin, found[key].reason) == (
            ("manual", key[:40]) if number % 2 else ("hit", "over 2000 per 1h")
        )
        assert hammer.status(key, "p").ban == found[key]
    for key in HOSTILE:
        lifted = hammer.unban(key, "p")
        assert lifted is not None
        assert lifted == found[key]
    assert list(hammer.bans()) == []
    for key in HOSTILE:
        hammer.reset(key, "p")
    assert list(hammer.status_all()) == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(), min_size=1, max_size=50), unique=True, min_size=1, max_size=12))
def test_any_keys_are_kept_apart_and_listed_as_they_are(hammers: list[BanHammer], keys: list[str]) -> None:
    """One store for all examples: each takes back what it did."""
    for hammer in hammers:
        hit_and_reset(hammer, keys)


def hit_and_reset(hammer: BanHammer, keys: list[str]) -> None:
    batch = hammer.hit_many([Hit(key, "p", cost=number) for number, key in enumerate(keys, 1)])
    assert [each and each.remaining for each in batch] == [1000 - number for number in range(1, len(keys) + 1)]
    assert sorted(each.key for each in hammer.status_all()) == spelled(tuple(keys))
    for key in keys:
        hammer.reset(key, "p")
    assert list(hammer.status_all()) == []
