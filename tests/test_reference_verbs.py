"""Lists, shadow mode, mistakes and the operators' verbs hold in the reference."""

from __future__ import annotations

import math
from typing import Any

import pytest

from banhammer.durations import DAY, FOREVER, HOUR, MINUTE, SECOND
from banhammer.errors import UnknownPolicyError
from banhammer.model import Hit, Policy, Threshold
from reference import ReferenceHammer

NOW = 1_700_000_000 * SECOND
KEY = "203.0.113.9"

LOGIN = Policy(
    "login",
    [Threshold(10, "1h", ban="1h", actions=["local"]), Threshold(100, "1h", ban="1d", actions=["central"])],
    track=["1m", "10m", "60m"],
    forgive_after="1d",
)
API = Policy("api", [Threshold(60, "1m", burst=5)])
HONEYPOT = Policy("honeypot", [Threshold(1, "1h", burst=0, ban=["1h", "forever"])])


def hammer_of(*thresholds: Threshold, **settings: Any) -> ReferenceHammer:
    return ReferenceHammer([Policy("p", thresholds, **settings)])


def failed_logins(hammer: ReferenceHammer, attempts: int) -> list[dict[str, Any]]:
    return [hammer.hit(KEY, "login", 1, NOW + i * SECOND // 10) for i in range(attempts)]


# Lists, shadow, mistakes.


def test_allow_beats_deny_at_whatever_level_either_stands() -> None:
    inner = Policy("inner", [Threshold(1, "1m")], allow=["a"], deny=["b", "c"])
    hammer = ReferenceHammer([inner], allow=["b"], deny=["a", "d"])
    seen = {key: hammer.hit(key, "inner", 1, NOW) for key in "abcd"}
    assert [seen[key]["listed"] for key in "abcd"] == ["allow", "allow", "deny", "deny"]
    assert [seen[key]["verdict"] for key in "abcd"] == ["allowed", "allowed", "banned", "banned"]
    assert {seen[key][field] for key in "abcd" for field in ("threshold", "limit", "remaining")} == {None}
    assert hammer.states == {}
    with pytest.raises(ValueError, match="allowlisted"):
        hammer.ban("a", "inner", "1h", now=NOW)


def test_shadow_keeps_the_state_of_enforcement_and_says_what_it_would_have_said() -> None:
    enforced, shadowed = ReferenceHammer([LOGIN]), ReferenceHammer([LOGIN], mode="shadow")
    for expected, answer in zip(failed_logins(enforced, 120), failed_logins(shadowed, 120), strict=True):
        assert answer == {**expected, "allowed": True, "shadow": True}
    assert shadowed.states == enforced.states
    shadowed.mode = "enforce"
    assert not shadowed.hit(KEY, "login", 1, NOW + MINUTE)["allowed"]


def test_a_policys_own_mode_beats_the_hammers() -> None:
    shadow = Policy("shadow", HONEYPOT.thresholds, mode="shadow")
    enforce = Policy("enforce", HONEYPOT.thresholds, mode="enforce")
    for mode in ("enforce", "shadow"):
        hammer = ReferenceHammer([shadow, enforce], mode=mode)
        assert hammer.hit(KEY, "shadow", 1, NOW)["allowed"]
        assert not hammer.hit(KEY, "enforce", 1, NOW)["allowed"]


@pytest.mark.parametrize("cost", [0, -1, True, 1.0, 1_000_001, "1"])
def test_a_cost_outside_its_bounds_is_refused_before_anything_is_touched(cost: Any) -> None:
    hammer = ReferenceHammer([API])
    with pytest.raises(ValueError, match="cost"):
        hammer.hit_many([Hit(KEY, "api"), Hit(KEY, "api", cost=cost)], False, NOW)
    assert hammer.states == {}


def test_an_unknown_policy_and_an_empty_key_are_refused() -> None:
    hammer = ReferenceHammer([API])
    with pytest.raises(UnknownPolicyError):
        hammer.hit(KEY, "apy", 1, NOW)
    with pytest.raises(ValueError, match="key"):
        hammer.hit("", "api", 1, NOW)


# Bans by hand.


def test_a_ban_by_hand_is_a_strike_on_the_first_ladder_and_runs_its_actions() -> None:
    hammer = hammer_of(Threshold(5, "1m"), Threshold(9, "1m", ban=["1h", "2h"]))
    ban = hammer.ban(KEY, "p", reason="abuse", now=NOW)
    assert (ban["threshold"], ban["strikes"], ban["until"], ban["origin"]) == (
        1,
        1,
        (NOW + HOUR) / 1e6,
        "manual",
    )
    assert (ban["reason"], ban["escalations"]) == ("abuse", [(1, "banned")])
    assert hammer.bans(NOW + HOUR - 1) == [{field: ban[field] for field in ban if field != "escalations"}]
    assert hammer.bans(NOW + HOUR) == []


def test_a_ban_in_force_is_never_shortened_and_takes_no_second_strike() -> None:
    hammer = ReferenceHammer([LOGIN])
    hammer.ban(KEY, "login", "1d", threshold=1, now=NOW)
    ban = hammer.ban(KEY, "login", "1h", threshold=0, reason="late", now=NOW + MINUTE)
    assert (ban["threshold"], ban["strikes"], ban["until"]) == (1, 1, (NOW + DAY) / 1e6)
    longer = hammer.ban(KEY, "login", "forever", now=NOW + MINUTE)
    assert (longer["until"], longer["since"], longer["strikes"]) == (math.inf, NOW / 1e6, 1)


def test_a_ban_on_a_policy_without_a_ladder_needs_a_duration_and_runs_no_action() -> None:
    hammer = ReferenceHammer([API])
    with pytest.raises(ValueError, match="duration"):
        hammer.ban(KEY, "api", now=NOW)
    ban = hammer.ban(KEY, "api", "2h", now=NOW)
    assert (ban["threshold"], ban["escalations"]) == (0, [])
    assert hammer.hit(KEY, "api", 1, NOW)["verdict"] == "banned"


def test_unban_lifts_the_ban_keeps_the_strike_and_starts_forgiving() -> None:
    hammer = ReferenceHammer([HONEYPOT])
    hammer.ban(KEY, "honeypot", "forever", now=NOW)
    lifted = hammer.unban(KEY, "honeypot", NOW + HOUR)
    assert lifted is not None
    assert (lifted["until"], lifted["escalations"]) == (math.inf, [(0, "lifted")])
    assert hammer.unban(KEY, "honeypot", NOW + HOUR) is None
    assert hammer.status(KEY, "honeypot", NOW + HOUR + DAY - 1)["strikes"] == 1
    assert hammer.status(KEY, "honeypot", NOW + HOUR + DAY)["strikes"] == 0


def test_reset_forgets_the_key_and_without_strikes_only_its_meters() -> None:
    hammer = ReferenceHammer([LOGIN])
    failed_logins(hammer, 20)
    hammer.reset(KEY, "login", strikes=False, now=NOW + MINUTE)
    status = hammer.status(KEY, "login", NOW + MINUTE)
    assert (status["remaining"], status["strikes"], status["level"]) == ((10, 100), 1, 0)
    hammer.reset(KEY, "login", now=NOW + MINUTE)
    assert hammer.hit(KEY, "login", 1, NOW + MINUTE)["remaining"] == 9
    assert hammer.status(KEY, "login", NOW + MINUTE)["strikes"] == 0


def test_the_sentinel_for_ever_stays_the_largest_integer_of_a_double() -> None:
    hammer = ReferenceHammer([HONEYPOT])
    hammer.ban(KEY, "honeypot", "forever", now=NOW)
    assert hammer.states[KEY, "honeypot"]["banned_until"] == FOREVER
