"""What Memcached keeps, and for how long: bans hold to the microsecond, and expiry is only housekeeping."""

from __future__ import annotations

import logging
import math

import pytest

from banhammer import BanHammer, Policy, Threshold
from banhammer.backends.memcached import MemcachedBackend, server
from banhammer.durations import DAY, SECOND, parse_duration
from banhammer.testing import ManualClock
from memcached_sides import PATIENCE, MemcachedSide, until_normal
from servers.memcached import Memcached, MemcachedProxy

pytest_plugins = ("memcached_fixtures",)

SLACK = 5
"""Seconds between a write and a look at it on a busy machine, and by which the server's own clock is late."""
NAME = b"bh:p:key"


def trap(ban: str, forgive_after: str = "1d") -> list[Policy]:
    return [Policy("p", [Threshold(1, "1h", burst=0, ban=ban)], forgive_after=forgive_after)]


@pytest.mark.parametrize("ban", ["1s", "30d", "31d", "365d", "forever"])
def test_a_ban_holds_to_the_microsecond_and_is_kept_long_enough(memcached: Memcached, kind: str, ban: str) -> None:
    clock = ManualClock()
    with MemcachedSide(kind, memcached.url, trap(ban), clock=clock) as side:
        assert side.hit("key", "p").verdict == "banned"
        lifetime = memcached.lifetime(NAME)
        assert lifetime is not None
        if ban == "forever":
            assert lifetime == -1
            clock.advance("3650d")
            assert side.call("guard", "key", "p").banned_until == math.inf
            return
        kept = (
            parse_duration(ban) + DAY + DAY
        ) // SECOND + 60  # The ban, its strike, and a day for the injected clock.
        assert abs(lifetime - kept) <= SLACK
        clock.move_to(clock.now + parse_duration(ban) - 1)
        assert side.call("guard", "key", "p").verdict == "banned"
        clock.move_to(clock.now + 1)
        assert side.call("guard", "key", "p").verdict == "allowed"


@pytest.mark.parametrize(("ban", "days"), [("1s", 0), ("29d", 29), ("30d", 30), ("31d", 31), ("365d", 365)])
def test_by_the_hosts_clock_a_value_ends_a_minute_after_its_strike(memcached: Memcached, ban: str, days: int) -> None:
    with MemcachedSide("sync", memcached.url, trap(ban, "1s")) as side:
        assert side.hit("key", "p").verdict == "banned"
    lifetime = memcached.lifetime(NAME)
    kept = days * 86_400 + (2 if days == 0 else 1) + 60
    assert lifetime is not None
    assert abs(lifetime - kept) <= SLACK


def test_what_ends_after_the_last_second_that_a_server_knows_never_expires(memcached: Memcached) -> None:
    with MemcachedSide("sync", memcached.url, trap("3650d", "3650d")) as side:
        assert side.hit("key", "p").verdict == "banned"
        assert memcached.lifetime(NAME) == -1
        assert side.hit("key", "p").verdict == "banned"


def test_every_expiry_is_a_unix_time(memcached: Memcached, proxy: MemcachedProxy) -> None:
    """A number of seconds over 30 days would be read as a time in 1970, and be gone at once."""
    rules = [Policy("p", [Threshold(1, "1s"), Threshold(3, "1h", ban=["1s", "60d"])], track=["1m"])]
    with proxy.record() as tape, MemcachedSide("sync", proxy.url, rules) as side:
        for key in ("key", "other"):
            for _ in range(9):
                side.hit(key, "p")
    lines = [
        line.split() for line in bytes(tape.requests).split(b"\r\n") if line.startswith((b"cas bh:p", b"add bh:p"))
    ]
    assert len(lines) >= 4
    assert all(int(words[3]) > 1_700_000_000 for words in lines)


def test_a_peek_and_an_allowed_guard_write_nothing(memcached: Memcached, proxy: MemcachedProxy, kind: str) -> None:
    rules = [Policy("p", [Threshold(2, "1h"), Threshold(9, "1h", ban="1h")])]
    with MemcachedSide(kind, proxy.url, rules) as side:
        assert side.hit("key", "p").remaining == 1
        before = memcached.ask(b"gets %b\r\n" % NAME)
        assert side.call("peek", "key", "p").remaining == 0
        assert side.call("guard", "key", "p").remaining == 1
        assert memcached.ask(b"gets %b\r\n" % NAME) == before


def test_a_denial_that_changes_nothing_is_not_written(memcached: Memcached, proxy: MemcachedProxy) -> None:
    with MemcachedSide("sync", proxy.url, [Policy("p", [Threshold(1, "1h")])]) as side:
        assert [side.hit("key", "p").verdict for _ in range(2)] == ["allowed", "throttled"]
        written = proxy.requests["CAS"]
        assert [side.hit("key", "p").verdict for _ in range(5)] == ["throttled"] * 5
        assert proxy.requests["CAS"] == written


def test_a_clamp_is_a_change_and_is_written(memcached: Memcached) -> None:
    clock = ManualClock()
    rules = [Policy("p", [Threshold(10, "10s")])]
    with MemcachedSide("sync", memcached.url, rules, clock=clock) as side:
        for _ in range(10):
            side.hit("key", "p")
        before = memcached.value(NAME)
        clock.move_to(clock.now - 60 * SECOND)
        assert side.hit("key", "p").verdict == "throttled"
        assert memcached.value(NAME) != before


@pytest.fixture
def always_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LOOK_EVERY", 0.0)


@pytest.mark.usefixtures("always_looking")
@pytest.mark.parametrize("way", ["flush", "restart"])
def test_a_restart_or_flush_resets_limits_and_every_process_reports_it_once(
    memcached: Memcached, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "banhammer")
    rules = [Policy("p", [Threshold(2, "1h")], on_error="open")]
    sides = [MemcachedSide("sync", memcached.url, rules) for _ in range(2)]
    try:
        assert [side.hit("key", "p").verdict for side in (*sides, *sides)] == ["allowed"] * 2 + ["throttled"] * 2
        getattr(memcached, way)()
        for number, side in enumerate(sides):
            until_normal(side, f"other{number}", "p")
        assert [side.hit("key", "p").verdict for side in (*sides, *sides)] == ["allowed"] * 2 + ["throttled"] * 2
        assert len([text for text in caplog.messages if "limits begin anew" in text]) == 2
    finally:
        for side in sides:
            side.close()


def test_the_mark_is_looked_at_once_a_second(memcached: Memcached, proxy: MemcachedProxy) -> None:
    with proxy.record() as tape, MemcachedSide("sync", proxy.url, [Policy("p", [Threshold(900, "1h")])]) as side:
        for number in range(50):
            side.hit(f"key{number}", "p")
    looks = bytes(tape.requests).count(b"bh:life")
    assert 2 <= looks <= 6


def test_a_damaged_value_reads_as_absent_is_counted_and_heals(memcached: Memcached, kind: str) -> None:
    backend = MemcachedBackend(memcached.url, deadline=PATIENCE)
    with BanHammer([Policy("p", [Threshold(3, "1h")])], backend=backend, clock=ManualClock()) as hammer:
        for number, (value, flags) in enumerate(
            [(b"", 0), (b"\1", 0), (b"x" * 26, 0), (b"abc", 9), (bytes(40), 26)], 1
        ):
            memcached.put(NAME, value, flags)
            assert hammer.hit("key", "p").remaining == 2
            assert backend.damaged == number
            assert hammer.hit("key", "p").remaining == 1
            assert backend.damaged == number
    backend.close()
