"""The rules of decision, sentence by sentence, through the public API."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest

from banhammer import ConfigError, Policy, Threshold
from one_policy import HOUR, KEY, SECOND, START, Bench


def strikes_of(bench: Bench, advances: Iterable[str]) -> list[tuple[int, float]]:
    """Trip once after each wait and return the strikes and the lengths of the bans, in seconds."""
    found = []
    for wait in advances:
        bench.clock.advance(wait)
        decision = bench.hit()
        found.append((decision.strikes, decision.reset_after))
    return found


# Throttles and what a decision says.


def test_a_threshold_lets_its_burst_through_at_once_and_then_its_limit_a_period() -> None:
    bench = Bench(Threshold(10, "10s", burst=3))
    assert bench.verdicts(4) == ["allowed"] * 3 + ["throttled"]
    bench.clock.advance("999999us")
    assert bench.verdicts(1) == ["throttled"]
    bench.clock.advance("1us")
    assert bench.verdicts(2) == ["allowed", "throttled"]


def test_an_interval_is_rounded_up_so_that_the_limit_is_never_exceeded() -> None:
    bench = Bench(Threshold(3, "1s", burst=1))
    bench.hit()
    bench.clock.move_to(START + 333_333)
    assert not bench.hit()
    bench.clock.move_to(START + 333_334)
    assert bench.hit()


def test_remaining_and_reset_after_follow_the_meter() -> None:
    bench = Bench(Threshold(10, "10s"))
    decision = bench.hit(4)
    assert (decision.remaining, decision.reset_after, decision.limit, decision.threshold) == (6, 4.0, 10, 0)
    bench.clock.advance("1500ms")
    status = bench.hammer.status(KEY, "p")
    assert (status.remaining, status.reset_after) == ((7,), 2.5)


def test_a_denied_hit_names_the_over_throttle_with_the_longest_wait() -> None:
    bench = Bench(Threshold(2, "1s"), Threshold(3, "1h"), Threshold(5, "1m"))
    bench.hit(2)
    bench.clock.advance("1s")
    assert bench.hit().threshold == 1
    decision = bench.hit(2)
    assert (decision.verdict, decision.threshold, decision.limit) == ("throttled", 1, 3)
    assert decision.retry_after == 2 * 1200.0 - 1.0


def test_equal_waits_name_the_lowest_threshold() -> None:
    bench = Bench(Threshold(2, "1s"), Threshold(2, "1s"))
    assert bench.hit().threshold == 0
    assert bench.hit(2).threshold == 0
    assert bench.hit(3).threshold == 0
    assert Bench(Threshold(9, "1s"), Threshold(2, "1s"), Threshold(2, "1s")).hit(5).threshold == 1


def test_a_cost_above_the_burst_waits_for_ever_and_touches_no_flag() -> None:
    bench = Bench(Threshold(5, "5s", actions=["record_local"]))
    decision = bench.hit(6)
    assert (decision.verdict, decision.retry_after, decision.tripped) == ("throttled", math.inf, ())
    assert bench.hammer.status(KEY, "p").over == (False,)
    assert bench.hit().remaining == 4


def test_throttles_are_charged_all_or_nothing() -> None:
    bench = Bench(Threshold(5, "1s"), Threshold(2, "1h"))
    assert bench.verdicts(3) == ["allowed", "allowed", "throttled"]
    assert bench.hammer.status(KEY, "p").remaining == (3, 0)


def test_an_over_flag_turns_on_once_and_is_armed_again_when_the_meter_is_empty() -> None:
    bench = Bench(Threshold(1, "1s"))
    bench.hit()
    assert [bench.hit().tripped for _ in range(3)] == [(0,), (), ()]
    assert bench.hammer.status(KEY, "p").over == (True,)
    bench.clock.move_to(START + SECOND - 1)
    assert bench.hammer.status(KEY, "p").over == (True,)
    bench.clock.advance("1us")
    assert bench.hammer.status(KEY, "p").over == (False,)
    bench.hit()
    assert bench.hit().tripped == (0,)


def test_a_flag_stays_on_while_the_meter_is_kept_busy() -> None:
    bench = Bench(Threshold(2, "2s"))
    bench.hit(2)
    assert bench.hit().tripped == (0,)
    for _ in range(5):
        bench.clock.advance("1s")
        assert bench.hit()
        assert bench.hit().tripped == ()


def test_a_decision_is_truthy_when_allowed_and_says_who_and_what() -> None:
    bench = Bench(Threshold(1, "1s"))
    decision = bench.hit()
    assert decision
    assert (decision.allowed, decision.key, decision.policy, decision.verdict) == (True, KEY, "p", "allowed")
    assert (decision.strikes, decision.banned_until, decision.retry_after, decision.rates) == (0, None, 0.0, None)
    assert (decision.listed, decision.shadow, decision.degraded) == (None, False, False)
    assert not bench.hit()


# Ban thresholds, the ladder and forgiving.


def test_a_ban_threshold_trips_at_burst_plus_one_at_once() -> None:
    bench = Bench(Threshold(3, "1h", ban="10m"))
    assert bench.verdicts(4) == ["allowed"] * 3 + ["banned"]
    decision = bench.hit()
    assert (decision.banned_until, decision.retry_after) == ((START + 600 * SECOND) / 1e6, 600.0)
    assert (decision.threshold, decision.limit, decision.remaining, decision.strikes) == (0, 3, 0, 1)


def test_a_ban_threshold_never_trips_at_or_below_its_rate() -> None:
    bench = Bench(Threshold(10, "10s", burst=1, ban="10m"))
    for _ in range(50):
        assert bench.hit()
        bench.clock.advance("1s")


def test_a_ban_threshold_trips_when_the_surplus_reaches_its_burst() -> None:
    bench = Bench(Threshold(1, "1s", burst=5, ban="10m"))
    allowed = 0
    while bench.hit():
        allowed += 1
        bench.clock.advance("500ms")
    assert allowed == 9  # The meter gains half a unit with each: the tenth would be the first above five.


def test_a_ban_ends_at_banned_until_that_microsecond_included() -> None:
    bench = Bench(Threshold(1, "1h", burst=0, ban="10s"), Threshold(1, "1s"))
    bench.hit()
    bench.clock.move_to(START + 10 * SECOND - 1)
    assert bench.hammer.guard(KEY, "p").verdict == "banned"
    bench.clock.move_to(START + 10 * SECOND)
    assert bench.hammer.guard(KEY, "p").verdict == "allowed"


def test_a_trip_clears_the_meter_so_that_the_key_begins_anew_after_its_ban() -> None:
    bench = Bench(Threshold(3, "1h", ban="1m"))
    bench.verdicts(4)
    bench.clock.advance("1m")
    assert bench.verdicts(4) == ["allowed"] * 3 + ["banned"]


def test_each_strike_takes_the_next_rung_and_the_last_rung_repeats() -> None:
    bench = Bench(Threshold(1, "1h", burst=0, ban=["1m", "1h", "2h"]))
    assert strikes_of(bench, ["1s", "1m", "1h", "2h", "2h"]) == [
        (1, 60.0), (2, 3600.0), (3, 7200.0), (4, 7200.0), (5, 7200.0),
    ]  # fmt: skip


def test_a_ladder_may_end_in_a_ban_for_ever() -> None:
    bench = Bench(Threshold(1, "1h", burst=0, ban=["1m", "forever"]))
    assert strikes_of(bench, ["1s", "1m"]) == [(1, 60.0), (2, math.inf)]
    decision = bench.hit()
    assert (decision.banned_until, decision.retry_after) == (math.inf, math.inf)
    bench.clock.advance("36500d")
    assert bench.hit().verdict == "banned"


def test_a_strike_is_forgotten_forgive_after_the_bans_end_to_the_microsecond() -> None:
    for late, strikes in ((-1, 2), (0, 1)):
        bench = Bench(Threshold(1, "1h", burst=0, ban=["1m", "1h"]), forgive_after="1d")
        bench.hit()
        bench.clock.move_to(START + 60 * SECOND + 24 * HOUR + late)
        assert bench.hammer.status(KEY, "p").strikes == strikes - 1
        assert bench.hit().strikes == strikes


def test_forgiving_takes_a_day_by_default() -> None:
    assert Policy("p", [Threshold(1, 1)]).forgive_after == 24 * HOUR


def test_attempts_during_a_ban_count_for_higher_thresholds_and_never_prolong_it() -> None:
    bench = Bench(Threshold(2, "1h", ban="1h"), Threshold(5, "1h", ban="1d"))
    bench.verdicts(3)
    bench.clock.advance("1m")
    first = bench.hit()
    assert (first.banned_until, first.threshold) == ((START + HOUR) / 1e6, 0)
    bench.hit()
    crossed = bench.hit()
    assert crossed.tripped == (1,)
    assert crossed.banned_until == (START + 60 * SECOND + 24 * HOUR) / 1e6
    assert (crossed.strikes, crossed.threshold, crossed.limit) == (1, 1, 5)
    bench.clock.advance("1m")
    assert [bench.hit().banned_until for _ in range(9)] == [crossed.banned_until] * 9


def test_a_higher_threshold_with_a_shorter_rung_never_shortens_the_ban() -> None:
    bench = Bench(Threshold(1, "1h", ban="1d"), Threshold(2, "1h", ban="1m"))
    bench.verdicts(2)
    decision = bench.hit()
    assert decision.tripped == (1,)
    assert (decision.threshold, decision.banned_until) == (1, (START + 24 * HOUR) / 1e6)


def test_ban_thresholds_count_throttled_attempts_too() -> None:
    bench = Bench(Threshold(1, "1h"), Threshold(3, "1h", ban="1h"))
    assert bench.verdicts(4) == ["allowed", "throttled", "throttled", "banned"]


def test_a_honeypot_bans_the_first_hit() -> None:
    bench = Bench(Threshold(1, "1h", burst=0, ban="forever"))
    assert bench.hammer.guard(KEY, "p")
    assert bench.hammer.peek(KEY, "p").verdict == "banned"
    assert bench.hit().verdict == "banned"
    assert not bench.hammer.guard(KEY, "p")
    with pytest.raises(ConfigError, match="burst: 0"):
        Threshold(1, "1h", burst=0)


def test_retry_after_is_the_longest_of_the_ban_and_every_meter() -> None:
    bench = Bench(Threshold(1, "1h"), Threshold(3, "1m", ban="10s"))
    bench.verdicts(3)
    decision = bench.hit()
    assert (decision.verdict, decision.retry_after) == ("banned", 3600.0)
    assert decision.reset_after == 3600.0
    assert bench.hit(2).retry_after == math.inf
