"""The rules of guards, clocks, changed policies, rates, lists and shadow, sentence by sentence."""

from __future__ import annotations

import math

import pytest

from banhammer import BanHammer, ConfigError, Policy, Threshold
from banhammer.backends.memory import MemoryBackend
from one_policy import HOUR, KEY, SECOND, START, Bench

# Guards.


def test_an_allowed_guard_stores_nothing() -> None:
    bench = Bench(Threshold(1, "1h"), track=["1m"])
    for _ in range(5):
        decision = bench.hammer.guard(KEY, "p")
        assert (decision.verdict, decision.remaining, decision.rates) == ("allowed", 1, {"1m": 0})
    assert len(bench.store) == 0


def test_a_denied_guard_is_a_hit_that_higher_thresholds_see() -> None:
    bench = Bench(Threshold(1, "1h", ban="1h"), Threshold(4, "1h", ban="1d"), track=["1m"])
    bench.verdicts(2)
    assert bench.hammer.guard(KEY, "p").rates == {"1m": 3}
    bench.hammer.guard(KEY, "p")
    assert bench.hammer.guard(KEY, "p").tripped == (1,)


def test_a_guard_does_not_say_banned_before_the_hit_that_bans() -> None:
    bench = Bench(Threshold(10, "1h", ban="1h"))
    bench.verdicts(10)
    assert bench.hammer.peek(KEY, "p").verdict == "banned"
    assert bench.hammer.guard(KEY, "p").verdict == "allowed"
    assert bench.hit().verdict == "banned"
    assert bench.hammer.guard(KEY, "p").verdict == "banned"


def test_a_guard_asks_whether_a_throttle_has_room_for_its_cost() -> None:
    bench = Bench(Threshold(5, "1h"), Threshold(3, "1h", ban="1h"))
    assert bench.hammer.guard(KEY, "p", 5)
    denied = bench.hammer.guard(KEY, "p", 6)
    assert (denied.verdict, denied.tripped) == ("banned", (1,))


# Clocks, changed policies, rates.


def test_a_clock_that_steps_back_delays_a_throttled_key_by_one_burst_at_most() -> None:
    bench = Bench(Threshold(10, "10s"))
    bench.verdicts(10)
    bench.clock.move_to(START - HOUR)
    decision = bench.hit()
    assert (decision.verdict, decision.retry_after, decision.reset_after) == ("throttled", 1.0, 10.0)
    bench.clock.advance("1s")
    assert bench.hit()


@pytest.mark.parametrize(("step", "left"), [(1, 0), (SECOND, 0), (SECOND + 1, 10)])
def test_a_ban_meter_over_a_second_too_far_ahead_reads_as_empty(step: int, left: int) -> None:
    bench = Bench(Threshold(10, "10s", ban="1h"))
    bench.verdicts(10)
    bench.clock.move_to(START - step)
    assert bench.hammer.status(KEY, "p").remaining == (left,)


def test_a_clamp_is_stored_by_a_hit_and_not_by_a_peek() -> None:
    bench = Bench(Threshold(10, "10s"))
    bench.verdicts(10)
    bench.clock.move_to(START - 60 * SECOND)
    bench.hammer.peek(KEY, "p")
    assert bench.store._tables["p"][KEY] == START + 10 * SECOND
    assert not bench.hit()
    assert bench.hammer.status(KEY, "p").tats == ((START - 50 * SECOND) / 1e6,)
    bench.clock.move_to(START)
    assert bench.hammer.status(KEY, "p").tats == (0.0,)


def test_a_changed_policy_keeps_bans_strikes_and_meters_by_index() -> None:
    bench = Bench(Threshold(5, "1h"), Threshold(3, "1h", ban="2h"))
    bench.hit(2)
    wider = bench.other(Threshold(10, "1h"), Threshold(3, "1h", ban="1m"), Threshold(9, "1h", ban="1d"))
    status = wider.hammer.status(KEY, "p")
    assert status.remaining == (8 - 2, 1, 9)  # Two units of twelve minutes are four of six.
    bench.verdicts(2)
    assert bench.hammer.status(KEY, "p").strikes == 1
    narrow = bench.other(Threshold(100, "1h"))
    decision = narrow.hit()
    assert (decision.verdict, decision.threshold, decision.strikes) == ("banned", 0, 1)
    assert decision.banned_until == (START + 2 * HOUR) / 1e6


def test_rates_count_every_hit_whatever_its_cost_and_verdict() -> None:
    bench = Bench(Threshold(2, "1h"), track=["1m", 600, "60m"])
    bench.hit(2)
    bench.clock.advance("2m")
    bench.hit()
    assert bench.hit(9).rates == {"1m": 2, "600": 3, "60m": 3}
    bench.clock.advance("10m")
    assert bench.hammer.status(KEY, "p").rates == {"1m": 0, "600": 0, "60m": 3}


def test_a_window_is_a_ring_of_twelve_slots() -> None:
    bench = Bench(Threshold(100, "1s"), track=["12s"])
    first_slot = START - START % (12 * SECOND)
    bench.clock.move_to(first_slot)
    bench.hit()
    bench.clock.move_to(first_slot + 12 * SECOND - 1)
    assert bench.hit().rates == {"12s": 2}
    bench.clock.advance("1us")
    assert bench.hit().rates == {"12s": 2}


# Lists and shadow.


def test_allow_beats_deny_at_whatever_level_either_stands() -> None:
    policy = Policy("p", [Threshold(1, "1h", burst=0, ban="1h")], allow=["10.0.0.1"], deny=["10.0.0.2", "10.0.0.3"])
    store = MemoryBackend()
    hammer = BanHammer([policy], backend=store, allow=["10.0.0.2"], deny=["10.0.0.1", "10.0.1.0/24"])
    assert [hammer.hit(f"10.0.0.{n}", "p").listed for n in (1, 2, 3)] == ["allow", "allow", "deny"]
    assert hammer.hit("10.0.1.77", "p").listed == "deny"
    assert len(store) == 0


def test_a_listed_decision_has_no_meter_to_speak_of() -> None:
    hammer = BanHammer([Policy("p", [Threshold(1, "1h")], track=["1m"])], allow=["friend"], deny=["foe"])
    friend, foe = hammer.hit("friend", "p", 1_000_000), hammer.guard("foe", "p")
    assert (friend.allowed, friend.verdict, friend.listed) == (True, "allowed", "allow")
    assert (friend.banned_until, friend.retry_after, friend.reset_after) == (None, 0.0, 0.0)
    assert (foe.allowed, foe.verdict, foe.listed) == (False, "banned", "deny")
    assert (foe.banned_until, foe.retry_after, foe.reset_after) == (math.inf,) * 3
    for decision in (friend, foe, hammer.peek("foe", "p")):
        assert (decision.threshold, decision.limit, decision.remaining, decision.rates) == (None,) * 4


def test_shadow_allows_and_says_what_enforcement_would() -> None:
    bench = Bench(Threshold(1, "1h", ban="1h"), mode="shadow")
    bench.hit()
    decision = bench.hit()
    assert (decision.allowed, decision.shadow, decision.verdict) == (True, True, "banned")
    assert (decision.retry_after, decision.strikes, decision.tripped) == (3600.0, 1, (0,))


def test_bans_made_in_shadow_are_enforced_once_the_mode_changes() -> None:
    bench = Bench(Threshold(1, "1h", ban="1h"), mode="shadow")
    bench.verdicts(2)
    assert not bench.other(Threshold(1, "1h", ban="1h")).hit()


def test_the_policys_mode_beats_the_hammers() -> None:
    rules = [Policy("a", [Threshold(1, "1h")], mode="enforce"), Policy("b", [Threshold(1, "1h")])]
    hammer = BanHammer(rules, mode="shadow")
    assert [hammer.hit(KEY, name).shadow for name in ("a", "b")] == [False, True]
    with pytest.raises(ConfigError, match="mode: 'audit'"):
        BanHammer(rules, mode="audit")  # type: ignore[arg-type]
