"""A server that is away, silent, full or forgetful costs no caller more than the deadline, and no exception."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import pytest

from banhammer import BackendError, Hit, Policy, Threshold
from banhammer.backends.memcached import swap
from banhammer.errors import ContentionError
from banhammer.testing import ManualClock
from memcached_sides import MemcachedSide, until_normal, url_of
from servers.memcached import Memcached, MemcachedProxy
from servers.waiting import until
from sides import Side

pytest_plugins = ("memcached_fixtures",)

DEADLINE = 0.1
SLACK = 1.0
"""What a busy machine may add; the exact bound is measured where nothing else runs."""
HUGE = 1_000_000
LOST = 60
NAME = b"bh:closed:key"
RULES = [
    Policy("local", [Threshold(3, "1h")]),
    Policy("open", [Threshold(3, "1h")], on_error="open"),
    Policy("closed", [Threshold(3, "1h")], on_error="closed"),
    Policy("bans", [Threshold(1, "1h", ban="1h")], on_error="open"),
    Policy("counted", [Threshold(HUGE, "365d")], on_error="open"),
]
WAYS: dict[str, tuple[Callable[[Memcached, MemcachedProxy], None], Callable[[Memcached, MemcachedProxy], None]]] = {
    "killed": (lambda server, proxy: server.kill(), lambda server, proxy: server.start()),
    "stopped": (lambda server, proxy: server.stop(), lambda server, proxy: server.cont()),
    "refused": (lambda server, proxy: proxy.refuse(), lambda server, proxy: proxy.resume()),
    "black hole": (lambda server, proxy: proxy.black_hole(), lambda server, proxy: proxy.resume()),
}
ALLOWED, THROTTLED, BANNED = (True, "allowed"), (False, "throttled"), (False, "banned")


def timed(side: Side, key: str, policy: str, count: int) -> list[tuple[bool, str]]:
    """Return what so many hits are told, each within the deadline and degraded."""
    told: list[tuple[bool, str]] = []
    for _ in range(count):
        begun = time.monotonic()
        decision = side.hit(key, policy)
        assert time.monotonic() - begun < DEADLINE + SLACK
        assert decision.degraded
        told.append((decision.allowed, decision.verdict))
    return told


@pytest.mark.parametrize("way", WAYS)
def test_while_the_server_is_away_each_policy_decides_in_time(
    memcached: Memcached, proxy: MemcachedProxy, kind: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    go, come_back = WAYS[way]
    caplog.set_level(logging.INFO, "banhammer")
    with MemcachedSide(kind, proxy.url, RULES, deadline=f"{DEADLINE}s") as side:
        until_normal(side, "other", "open")
        until(lambda: side.hit("bad", "bans").verdict == "banned" and not side.hit("o", "open").degraded, "banned")
        caplog.clear()
        go(memcached, proxy)
        assert timed(side, "bad", "bans", 1) == [BANNED]
        assert timed(side, "key", "local", 4) == [ALLOWED] * 3 + [THROTTLED]
        assert timed(side, "key", "open", 4) == [ALLOWED] * 4
        assert timed(side, "key", "closed", 2) == [THROTTLED] * 2
        begun = time.monotonic()
        assert timed(side, "bad", "bans", 50) == [BANNED] * 50
        assert time.monotonic() - begun < 25 * DEADLINE, "an open breaker answers at once"
        come_back(memcached, proxy)
        until_normal(side, "other", "open")
        logged = [text for text in caplog.messages if "begin anew" not in text]
        assert len(logged) == 2
        assert "is away" in logged[0]
        assert "is back" in logged[1]


@pytest.mark.parametrize("lost", ["CAS", "ADD", "GETS"])
def test_a_reply_lost_behind_the_write_is_counted_once_or_not_at_all(
    memcached: Memcached, proxy: MemcachedProxy, kind: str, lost: str
) -> None:
    with MemcachedSide(kind, proxy.url, RULES) as side:
        answered = 0
        for number in range(LOST):
            key = "key" if lost == "CAS" else f"key{number}"
            proxy.lose_replies(1, of=lost)
            answered += not side.hit(key, "counted").degraded
        counted = HUGE * (1 if lost == "CAS" else LOST)
        keys = ["key"] if lost == "CAS" else [f"key{number}" for number in range(LOST)]
        proxy.resume()
        until_normal(side, "other", "open")
        used = sum(HUGE - side.call("status", key, "counted").remaining[0] for key in keys)
        assert answered <= used <= LOST <= counted
        assert proxy.lost > 0


def test_of_three_servers_one_away_only_its_keys_are_degraded(three: list[Memcached], kind: str) -> None:
    keys = [f"key{number}" for number in range(60)]
    with MemcachedSide(kind, url_of(three), RULES, deadline="500ms") as side:
        side.call("hit_many", [Hit(key, "counted") for key in keys])
        gone = f":{three[1].port}"
        lost = [side.backend._store.place("counted", key).server.name.endswith(gone) for key in keys]
        assert 0 < sum(lost) < len(keys)
        three[1].stop()
        told = side.call("hit_many", [Hit(key, "counted") for key in keys])
        assert [each.degraded for each in told] == lost
        assert [each.remaining for each, away in zip(told, lost, strict=True) if not away] == [HUGE - 2] * lost.count(
            False
        )
        three[1].cont()
        until_normal(side, keys[lost.index(True)], "counted")
        told = side.call("hit_many", [Hit(key, "counted") for key in keys])
        assert not any(each.degraded for each in told)


def test_the_keys_of_a_server_that_is_away_are_given_to_no_other(three: list[Memcached]) -> None:
    """A ban there is in force again when the server is."""
    with MemcachedSide("sync", url_of(three), RULES, deadline="500ms") as side:
        side.call("ban", "key", "bans", "1h")
        home = next(server for server in three if server.value(b"bh:bans:key"))
        home.stop()
        for _ in range(5):
            side.hit("key", "bans")
        assert [server.value(b"bh:bans:key") for server in three if server is not home] == [None, None]
        home.cont()
        until_normal(side, "key", "bans")
        assert side.hit("key", "bans").verdict == "banned"


@pytest.fixture
def rival(memcached: Memcached, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Somebody who writes the same value again between each reading and the write behind it; counts the readings."""
    take = swap._Talk.take
    readings: list[int] = []

    def taken(talk: swap._Talk) -> bool:
        told = take(talk)
        readings.append(len(talk.waiting))
        memcached.put(NAME, memcached.value(NAME) or b"")
        return told

    monkeypatch.setattr(swap._Talk, "take", taken)
    return readings


def test_a_hit_that_loses_every_try_is_denied_and_not_counted(
    memcached: Memcached, kind: str, rival: list[int]
) -> None:
    clock = ManualClock()
    with MemcachedSide(kind, memcached.url, RULES, clock=clock) as side:
        decision = side.hit("key", "closed")
        assert (decision.allowed, decision.verdict, decision.degraded) == (False, "throttled", True)
        assert decision.retry_after == 0.05
        assert len(rival) == swap.TRIES
        batch = side.call("hit_many", [Hit("key", "closed"), Hit("other", "closed")])
        assert [(each.verdict, each.degraded) for each in batch] == [("throttled", True), ("allowed", False)]
        ended = side.call("hit_many", [Hit("third", "closed"), Hit("key", "closed"), Hit("fourth", "closed")], True)
        assert [None if each is None else each.verdict for each in ended] == ["allowed", "throttled", None]
        assert memcached.value(b"bh:closed:fourth") is None
        assert memcached.value(NAME) == b""


def test_an_operator_tries_until_the_deadline_and_is_told(memcached: Memcached, kind: str, rival: list[int]) -> None:
    with MemcachedSide(kind, memcached.url, RULES, deadline="300ms") as side:
        with pytest.raises(ContentionError, match="try again"):
            side.call("ban", "key", "closed", "1h")
        assert len(rival) > swap.TRIES


def test_a_lost_try_is_tried_again_and_counted_once(memcached: Memcached, kind: str, rival: list[int]) -> None:
    with MemcachedSide(kind, memcached.url, RULES, clock=ManualClock()) as side:
        decision = side.hit("other", "closed")
        assert (decision.remaining, decision.degraded, len(rival)) == (2, False, 1)


def test_when_the_servers_memory_is_full_bans_hold_and_the_rest_is_on_error(caplog: pytest.LogCaptureFixture) -> None:
    rules = [Policy("p", [Threshold(3, "1h", ban="1h"), Threshold(50, "1h", ban="2h")], on_error="open")]
    with Memcached(extra=["-M", "-m", "2"]) as server, MemcachedSide("sync", server.url, rules) as side:
        side.call("ban", "bad", "p", "1h")
        fill = b"".join(b"set fill%06d 0 0 40 noreply\r\n%b\r\n" % (n, b"x" * 40) for n in range(40_000))
        banned = b"".join(b"set fall%06d 0 0 120 noreply\r\n%b\r\n" % (n, b"x" * 120) for n in range(40_000))
        assert server.ask(fill + banned + b"get none\r\n").endswith(b"END\r\n")
        denied, open_ = side.hit("bad", "p"), side.hit("new", "p")
        assert (denied.verdict, denied.degraded) == ("banned", True)
        assert (open_.verdict, open_.degraded) == ("allowed", True)
        with pytest.raises(BackendError, match="memory"):
            side.call("ban", "other", "p", "1h")
        assert [text for text in caplog.messages if "refuses" in text] != []
        server.flush()
        assert not side.hit("new", "p").degraded
        assert "decides again" in caplog.messages[-1]


def test_an_operators_verb_on_a_server_that_is_away_is_an_error(memcached: Memcached, kind: str) -> None:
    with MemcachedSide(kind, memcached.url, RULES, deadline="100ms") as side:
        memcached.kill()
        for verb in ("ban", "unban", "reset", "status"):
            with pytest.raises(BackendError, match=r"the store|is away"):
                side.call(verb, "key", "bans")
