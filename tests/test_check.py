from __future__ import annotations

import itertools
import tomllib
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from banhammer.advice import notes, warnings
from banhammer.check import examine
from banhammer.config import load
from banhammer.core import FRESH, evaluate
from banhammer.model import Policy, Threshold
from banhammer.starter import starter_text
from banhammer.words import describe, ordinal


def config(*thresholds: dict[str, Any], **settings: Any) -> Any:
    policy = settings.pop("policy", {})
    return load({"policies": {"p": {"thresholds": list(thresholds), **policy}}, **settings})


def said(*thresholds: dict[str, Any], **settings: Any) -> list[str]:
    return warnings(config(*thresholds, **settings))


# Words


@pytest.mark.parametrize(
    ("threshold", "words"),
    [
        (
            Threshold(10, "1h", ban=["1h", "6h", "1d"]),
            "10 at once, then 1 every 6m, at most 20 in any 1h; the 11th at once bans for 1h, then 6h, then 1d",
        ),
        (
            Threshold(600, "1m", burst=50),
            "50 at once, then 1 every 100ms, at most 650 in any 1m; "
            "the 51st at once is denied until there is room again",
        ),
        (
            Threshold(1, "1d", ban=["1h", "forever"], actions=["a", "b"]),
            "1 at once, then 1 every 1d, at most 2 in any 1d; the 2nd at once bans for 1h, then for ever; runs a, b",
        ),
        (Threshold(1, "1h", burst=0, ban="forever"), "none at all; the first hit bans for ever"),
        (
            Threshold(7, "1h"),
            "7 at once, then about 1 every 8m34s, at most 13 in any 1h; "
            "the 8th at once is denied until there is room again",
        ),
        (
            Threshold(70_000, 1, burst=1),
            "1 at once, then 1 every 15us, at most 66,667 in any 1s; "
            "the 2nd at once is denied until there is room again "
            "(in effect 66,666.7 per 1s, 4.8 % less than 70,000: 1 unit takes whole microseconds)",
        ),
    ],
)
def test_a_threshold_is_told_in_words(threshold: Threshold, words: str) -> None:
    assert describe(Policy("p", [threshold])) == [words]


@given(st.integers(1, 100_000), st.integers(1, 100))
def test_the_effective_rate_is_told_exactly_when_rounding_changes_it_by_more_than_a_thousandth(
    limit: int, seconds: int
) -> None:
    threshold = Threshold(limit, seconds, burst=1)
    period = seconds * 1_000_000
    exact, effective = limit / period, 1 / threshold.interval
    assume(abs(1 - effective / exact - 0.001) > 1e-9)
    assert ("in effect" in describe(Policy("p", [threshold]))[0]) == (1 - effective / exact > 0.001)


@settings(max_examples=60)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 50), st.lists(st.integers(0, 30), max_size=60))
def test_no_window_admits_more_than_the_words_say(limit: int, period: int, burst: int, gaps: list[int]) -> None:
    policy = Policy("p", [Threshold(limit, f"{period}ms", burst=burst)])
    most = int(describe(policy)[0].partition("at most ")[2].partition(" in any")[0].replace(",", ""))
    record, admitted = FRESH, []
    for now in itertools.accumulate(gaps, lambda at, gap: at + gap * 100, initial=10**15):
        for _ in range(3):
            reply = evaluate(policy, record, 1, now)
            record = reply.record
            admitted += [now] * (reply.verdict == "allowed")
    busiest = max(sum(start <= at <= start + period * 1_000 for at in admitted) for start in admitted)
    assert busiest <= most


def test_an_ordinal_ends_as_it_is_spoken() -> None:
    assert [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 111, 1_022)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "111th", "1,022nd",
    ]  # fmt: skip


# Warnings


def test_the_starter_rules_and_an_empty_file_have_no_warning() -> None:
    starter = load(tomllib.loads(starter_text()))
    assert (warnings(starter), notes(starter)) == ([], [])
    assert (warnings(load({})), notes(load({}))) == ([], ["policies: there is none, so nothing is ever denied"])


def test_a_throttle_behind_a_stricter_one_can_never_trip() -> None:
    assert said({"limit": 10, "period": "1m"}, {"limit": 20, "period": "1m"}) == [
        "policies.p.thresholds.1: can never trip on hits of a cost up to 10: "
        "thresholds.0 (10 at once, then 1 every 6s) is stricter, and denies all that it would"
    ]
    assert not said({"limit": 10, "period": "1m"}, {"limit": 20, "period": "1h"})
    assert not said({"limit": 10, "period": "1s", "burst": 20}, {"limit": 1200, "period": "1m", "burst": 10})


def test_of_two_equal_throttles_one_is_idle_unless_it_runs_an_action() -> None:
    same = {"limit": 10, "period": "1m"}
    assert len(said(same, same)) == 1
    assert not said(same, {**same, "actions": ["tell"]})


def test_a_throttle_behind_a_ban_threshold_that_trips_earlier_can_never_trip() -> None:
    throttle = {"limit": 100, "period": "1m"}
    assert said(throttle, {"limit": 10, "period": "1m", "ban": "1h"}) == [
        "policies.p.thresholds.0: can never trip: thresholds.1 (10 at once, then 1 every 6s) bans first"
    ]
    assert not said(throttle, {"limit": 100, "period": "1m", "burst": 101, "ban": "1h"})


def test_a_throttle_may_trip_where_it_stays_full_over_a_short_ban() -> None:
    assert not [
        each
        for each in said({"limit": 10, "period": "1m"}, {"limit": 10, "period": "1m", "ban": ["1s", "1h"]})
        if "can never trip" in each
    ]


def test_a_ban_threshold_behind_one_that_bans_for_ever_only_runs_its_actions() -> None:
    first, second = {"limit": 10, "period": "1h", "ban": "forever"}, {"limit": 20, "period": "1h", "ban": "forever"}
    assert said(first, second) == [
        "policies.p.thresholds.1: never makes a difference: "
        "thresholds.0 (10 at once, then 1 every 6m) has banned for ever before"
    ]
    assert not said(first, {**second, "actions": ["report_central"]})


def test_of_two_ban_thresholds_with_one_meter_the_shorter_ladder_is_idle() -> None:
    first, second = {"limit": 10, "period": "1h", "ban": "1h"}, {"limit": 10, "period": "1h", "ban": "1d"}
    assert said(first, second)[0].startswith("policies.p.thresholds.0: never makes a difference: thresholds.1 ")
    assert not said({**first, "ban": ["1h", "2d"]}, second)


def test_a_last_rung_shorter_than_the_meter_drains_lets_more_than_the_limit_through() -> None:
    short = {"limit": 10, "period": "1h", "ban": "1m"}
    assert said(short) == [
        "policies.p.thresholds.0: its longest ban, 1m, is shorter than the 1h that its meter needs to drain: "
        "a key that always comes back gets 10 per 1m; ban for 1h or longer in the end"
    ]
    assert not said({**short, "ban": ["1m", "1h"]})
    assert not said(short, {"limit": 100, "period": "1h", "ban": "1d"})
    assert not said({"limit": 10, "period": "1h", "burst": 5}, short)


def test_a_cost_above_a_burst_is_told_of() -> None:
    route = {"policy": "p", "cost": 11}
    assert said({"limit": 10, "period": "1m"}, routes=[route])[0].startswith(
        "routes.0.cost: 11 is above the burst of 10 of policies.p.thresholds.0, so every hit is denied"
    )
    assert "so every hit bans" in said({"limit": 10, "period": "1m", "ban": "1h"}, routes=[route])[0]
    assert not said({"limit": 10, "period": "1m", "burst": 0, "ban": "1h"}, routes=[route])


def test_a_window_below_a_second_is_told_of() -> None:
    found = said({"limit": 10, "period": "1m"}, policy={"track": ["1m", "500ms"]})
    assert found == ["policies.p.track.1: 500ms is too short to be read; track windows of 1s or longer"]


def test_a_list_entry_narrower_than_the_keys_is_told_of() -> None:
    throttle = {"limit": 10, "period": "1m"}
    found = said(throttle, allow=["10.0.0.1", "2001:db8::1", "user:7", "2001:db8::/32"])
    assert found == [
        "allow.1: '2001:db8::1' is narrower than the keys of ip/32/64 and matches none of them; write '2001:db8::/64'"
    ]
    routes = [{"policy": "p", "key": "ip/24/48|user"}]
    found = said(throttle, policy={"deny": ["203.0.113.7"]}, routes=routes)
    assert found == [
        "policies.p.deny.0: '203.0.113.7' is narrower than the keys of ip/24/48 and matches none of them; "
        "write '203.0.113.0/24'"
    ]
    assert not said(throttle, allow=["2001:db8::1"], routes=[{"policy": "p", "key": "user"}])


def test_a_throttle_in_shadow_never_ends_the_list_so_its_place_is_no_mistake() -> None:
    throttle, ban = {"limit": 10, "period": "1m"}, {"limit": 10, "period": "1m", "ban": "1h"}

    def order(slow: dict[str, Any], out: dict[str, Any], **settings: Any) -> list[str]:
        policies = {"slow": {"thresholds": [throttle], **slow}, "out": {"thresholds": [ban], **out}}
        return warnings(load({"policies": policies, "routes": [{"policy": "slow"}, {"policy": "out"}], **settings}))

    assert not order({"mode": "shadow"}, {})
    assert not order({}, {}, mode="shadow")
    assert order({"mode": "enforce"}, {}, mode="shadow")
    assert order({}, {"mode": "shadow"})


def test_an_action_that_is_not_built_in_is_a_note() -> None:
    def noted(*names: str) -> list[str]:
        return notes(config({"limit": 10, "period": "1h", "actions": list(names)}))

    assert noted("block_local", "record_local", "report_central") == []
    assert noted("block_local", "tell") == [
        "policies.p.thresholds.0.actions.1: 'tell' is of no installed plugin, so the application has to give it"
    ]
    assert noted("block_locl")[0].endswith("; did you mean 'block_local'?")


def test_a_throttling_route_before_a_banning_one_is_told_of_and_an_unused_policy_is_a_note() -> None:
    found = load(
        {
            "policies": {
                "slow": {"thresholds": [{"limit": 10, "period": "1m"}]},
                "out": {"thresholds": [{"limit": 10, "period": "1m", "ban": "1h"}]},
                "idle": {"thresholds": [{"limit": 10, "period": "1m"}]},
            },
            "routes": [{"policy": "slow"}, {"policy": "out"}],
        }
    )
    assert [each.partition(":")[0] for each in warnings(found)] == ["routes.0"]
    assert notes(found) == ["policies.idle: no route uses it; only the application's own calls can"]


def test_the_findings_hold_a_line_for_each_threshold_and_route() -> None:
    findings = examine(load(tomllib.loads(starter_text())))
    assert {name: len(lines) for name, lines in findings.policies.items()} == {
        "login_failed": 2,
        "scanning": 1,
        "hammering": 2,
    }
    assert findings.routes[1:] == [
        "POST */login*, */signin*, */wp-login.php, */xmlrpc.php: "
        "asks login_failed before, a hit after a response of 401 or 403, by ip",
        "every path: asks scanning before, a hit after a response of 404 or 410, by ip",
        "every path: a hit on hammering before the response, by ip",
    ]


def test_a_route_is_told_with_its_exceptions_cost_and_key() -> None:
    route = {"policy": "p", "path": ["/a", "/b*"], "except": "/bc", "methods": ["PUT", "POST"], "cost": 2000}
    found = examine(config({"limit": 9000, "period": "1m"}, routes=[{**route, "key": "user|ip"}]))
    assert found.routes == ["POST, PUT /a, /b* except /bc: a hit of cost 2,000 on p before the response, by user|ip"]


_units = st.integers(1, 4)
_gaps = st.sampled_from([0, 0, 0, 1, 900, 2_000, 10_000, 40_000])
_ladders = st.sampled_from([None, "1ms", "3ms", "10ms", "40ms", ["2ms", "40ms"], "forever"])


@settings(max_examples=150, deadline=None)
@given(_units, _units, st.integers(0, 3), st.integers(0, 3), _ladders, st.lists(st.tuples(_gaps, _units), min_size=15))
def test_what_is_said_never_to_trip_never_trips(
    limit: int, burst: int, faster: int, wider: int, ladder: Any, hits: list[tuple[int, int]]
) -> None:
    stricter = {"limit": limit, "period": "10ms", "burst": burst, "ban": ladder}
    throttle = {"limit": limit + faster, "period": "10ms", "burst": burst + wider}
    settings = config(throttle, stricter)
    (policy,) = settings.policies
    assume(any("thresholds.0: can never trip" in each for each in warnings(settings)))
    dearest = 4 if ladder else wider
    record, now = FRESH, 10**15
    for gap, cost in hits:
        now += gap
        reply = evaluate(policy, record, min(cost, dearest), now)
        record = reply.record
        assert 0 not in reply.tripped


@settings(max_examples=150, deadline=None)
@given(_units, _units, st.integers(0, 3), st.integers(0, 3), st.lists(st.tuples(_gaps, _units), min_size=15))
def test_what_is_said_to_make_no_difference_denies_nothing_more(
    limit: int, burst: int, faster: int, wider: int, hits: list[tuple[int, int]]
) -> None:
    stricter = {"limit": limit, "period": "10ms", "burst": burst}
    throttle = {"limit": limit + faster, "period": "10ms", "burst": burst + wider}
    settings = config(stricter, throttle)
    assert [each.partition(":")[0] for each in warnings(settings)] == ["policies.p.thresholds.1"]
    (both,) = settings.policies
    alone = Policy("p", both.thresholds[:1])
    one, two, now = FRESH, FRESH, 10**15
    for gap, cost in hits:
        now += gap
        left, right = evaluate(alone, one, cost, now), evaluate(both, two, cost, now)
        one, two = left.record, right.record
        assert left.verdict == right.verdict
