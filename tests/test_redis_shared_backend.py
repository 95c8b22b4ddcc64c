"""Several shells on one backend object: each is decided by its own rules, and what one learns harms no other."""

from __future__ import annotations

import sys
import traceback
from concurrent.futures import ThreadPoolExecutor

from banhammer import BanHammer, Decision, Policy, Threshold
from banhammer.backends.redis import RedisBackend
from servers.proxy import Proxy
from servers.standalone import Standalone

CALM = Policy("p", [Threshold(1_000, "1h")])
STRICT = Policy("p", [Threshold(1_000, "1h"), Threshold(2_000, "1h"), Threshold(3_000, "1h", ban="1d")])


def test_shells_that_share_a_call_are_decided_by_their_own_rules(standalone: Standalone) -> None:
    with Proxy(standalone.port) as proxy:
        backend = RedisBackend(proxy.url, deadline="10s")
        shells = [BanHammer([rules], backend=backend) for rules in (CALM, STRICT)]
        proxy.delay = 0.02  # Long enough for the others to queue behind the first call, and share the next.

        def decide(number: int) -> tuple[int, Decision]:
            which = number % 2
            return which, shells[which].hit(f"key {number}", "p")

        with ThreadPoolExecutor(16) as pool:
            for which, decision in pool.map(decide, range(200)):
                assert not decision.degraded
                assert len(decision.fullness) == (1, 3)[which]
        assert proxy.requests["EVALSHA"] < 200
        backend.close()


def test_a_ban_by_hand_holds_while_the_store_is_away(standalone: Standalone) -> None:
    policy = Policy("login", [Threshold(10, "1h", ban="1h")], on_error="open")
    with Proxy(standalone.port) as proxy, BanHammer([policy], backend=proxy.url) as hammer:
        hammer.ban("mallory", "login", reason="by hand")
        proxy.refuse()
        decision = hammer.hit("mallory", "login")
        assert (decision.degraded, decision.verdict, decision.allowed) == (True, "banned", False)
        assert hammer.hit("alice", "login").allowed


def test_a_reset_of_the_meters_alone_keeps_the_ban_known(standalone: Standalone) -> None:
    policy = Policy("login", [Threshold(10, "1h", ban="1h")], on_error="open")
    with Proxy(standalone.port) as proxy, BanHammer([policy], backend=proxy.url) as hammer:
        hammer.ban("mallory", "login")
        hammer.reset("mallory", "login", strikes=False)
        proxy.refuse()
        assert hammer.hit("mallory", "login").verdict == "banned"


def test_a_shell_in_shadow_lets_through_what_an_enforcing_one_just_denied(standalone: Standalone) -> None:
    backend = RedisBackend(standalone.url, deadline="10s")
    policy = Policy("p", [Threshold(1, "1h")])
    enforcing, watching = (BanHammer([policy], backend=backend, mode=mode) for mode in ("enforce", "shadow"))
    assert [enforcing.hit("k", "p").allowed for _ in range(3)] == [True, False, False]
    decision = watching.hit("k", "p")
    assert (decision.allowed, decision.shadow, decision.verdict) == (True, True, "throttled")
    backend.close()


def test_an_open_breaker_collects_nothing_of_its_callers(standalone: Standalone) -> None:
    with Proxy(standalone.port) as proxy, BanHammer([Policy("p", [Threshold(9, "1h")])], backend=proxy.url) as hammer:
        proxy.refuse()
        for _ in range(5):
            hammer.hit("k", "p")
        backend = hammer._backend
        assert isinstance(backend, RedisBackend)
        (server,) = backend._topology.away()
        before = len(traceback.extract_tb(server.breaker.error.__traceback__)) if server.breaker.error else 0
        count = sys.getrefcount(server.breaker.error)
        for _ in range(200):
            assert hammer.hit("k", "p").degraded
        error = server.breaker.error
        assert error is not None
        assert len(traceback.extract_tb(error.__traceback__)) == before
        assert sys.getrefcount(error) <= count + 1
