from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banhammer.checks import MAX_SPAN
from banhammer.durations import DAY, FOREVER, HOUR, SECOND
from banhammer.errors import ConfigError
from banhammer.model import MAX_RATE, Policy, Threshold


def mistakes(kind: Any, *args: Any, **settings: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        kind(*args, **settings)
    return caught.value.mistakes


def test_a_threshold_keeps_its_durations_in_microseconds() -> None:
    threshold = Threshold(10, "1h", ban=["1h", 7200, "forever"], actions=["report"])
    assert (threshold.limit, threshold.period, threshold.burst) == (10, HOUR, 10)
    assert threshold.ban == (HOUR, 2 * HOUR, FOREVER)
    assert threshold.actions == ("report",)
    assert (threshold.interval, threshold.tolerance) == (360 * SECOND, HOUR)


@given(st.integers(1, 10**6), st.integers(1_000, 365 * DAY))
def test_the_emission_interval_is_rounded_up_so_the_limit_is_never_exceeded(limit: int, period: int) -> None:
    if limit * SECOND > MAX_RATE * period:
        return
    threshold = Threshold(limit, f"{period}us", burst=1)
    assert threshold.interval * limit >= period > (threshold.interval - 1) * limit


def test_the_nth_strike_takes_the_nth_rung_and_the_last_one_repeats() -> None:
    threshold = Threshold(1, "1h", ban=["1m", "1h", "1d"])
    rungs = [threshold.duration(strikes) for strikes in (0, 1, 2, 3, 4, 10**9)]
    assert rungs == [60 * SECOND, 60 * SECOND, HOUR, DAY, DAY, DAY]


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        ({"limit": 0}, "limit: 0; it must be an integer of at least 1"),
        ({"limit": True}, "limit: True; it must be an integer"),
        ({"limit": 1.5}, "limit: 1.5; it must be an integer"),
        ({"limit": "10"}, "limit: '10'; it must be an integer"),
        ({"limit": 100_001, "period": 1}, "limit: 100001 per 1s; at most 100,000 a second"),
        ({"period": "999us"}, "period: '999us'; it must be 1ms to 365d"),
        ({"period": "366d"}, "period: '366d'; it must be 1ms to 365d"),
        ({"period": "forever"}, "period: 'forever' is not a duration"),
        ({"burst": 0}, "burst: 0; a throttle needs an integer of at least 1"),
        ({"burst": -1, "ban": "1h"}, "burst: -1; a ban threshold needs an integer of at least 0"),
        ({"burst": True}, "burst: True; a throttle needs"),
        ({"burst": 10**9}, "burst: 1000000000; 1000000000 units drain in more than ten years"),
        ({"ban": []}, "ban: []; a ladder needs at least one rung"),
        ({"ban": "3651d"}, "ban: '3651d'; it must be"),
        ({"ban": ["1h", "soon"]}, "ban.1: 'soon' is not a duration"),
        ({"ban": {"a": 1}}, "ban.0: 'a' is not a duration"),
        ({"actions": "block_local"}, "actions: 'block_local'; write a list of names"),
        ({"actions": [1]}, "actions: [1]; write a list of names"),
    ],
)
def test_a_threshold_outside_its_bounds_is_a_mistake_with_value_and_remedy(
    settings: dict[str, Any], start: str
) -> None:
    found = mistakes(Threshold, **{"limit": 10, "period": "1h", **settings})
    assert len(found) == 1
    assert found[0].startswith(start)


@pytest.mark.parametrize(
    ("limit", "period", "settings"),
    [
        (100_000, 1, {}),
        (100, "1ms", {}),
        (1, "365d", {"burst": 10}),
        (1, "1d", {"burst": MAX_SPAN // DAY}),
        (1, "1h", {"burst": 0, "ban": "3650d"}),
    ],
)
def test_the_bounds_themselves_are_allowed(limit: int, period: Any, settings: dict[str, Any]) -> None:
    assert Threshold(limit, period, **settings).tolerance <= MAX_SPAN


def test_every_mistake_of_a_threshold_is_told_at_once() -> None:
    found = mistakes(Threshold, 0, "soon", burst=-1, ban="never", actions="x")
    assert [mistake.partition(":")[0] for mistake in found] == ["period", "ban", "limit", "burst", "actions"]


@pytest.mark.parametrize("name", ["login", "a", "0", "a.b-c_d", "x" * 64])
def test_a_policy_name_may_hold_letters_digits_and_three_signs(name: str) -> None:
    assert Policy(name, [Threshold(1, 1)]).name == name


@pytest.mark.parametrize("name", ["", "Login", "_a", ".a", "a b", "é", "x" * 65, "a\n", None, 7])
def test_another_policy_name_is_a_mistake(name: Any) -> None:
    assert mistakes(Policy, name, [Threshold(1, 1)]) == (
        f"policies.{name}.name: {name!r}; use up to 64 of a-z, 0-9, '_', '.', '-', a letter or digit first",
    )


def test_windows_keep_their_spelling_and_their_length() -> None:
    policy = Policy("p", [Threshold(1, 1)], track=["1m", "60m", 30])
    assert policy.track == ("1m", "60m", "30")
    assert policy.windows == (60 * SECOND, HOUR, 30 * SECOND)


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        ({"track": ["1m", "60s"]}, "track: ['1m', '60s'] names a window twice"),
        ({"track": ["1m", "1x"]}, "track.1: '1x' is not a duration"),
        ({"forgive_after": "3651d"}, "forgive_after: '3651d'; it must be"),
        ({"mode": "off"}, "mode: 'off'; use 'enforce' or 'shadow'"),
        ({"on_error": "deny"}, "on_error: 'deny'; use 'local', 'open' or 'closed'"),
        ({"allow": "10.0.0.1"}, "allow: '10.0.0.1'; write a list"),
        ({"deny": [""]}, "deny: ['']; write a list"),
        ({"thresholds": []}, "thresholds: []; a policy needs a list of at least one Threshold"),
    ],
)
def test_each_wrong_setting_of_a_policy_is_a_mistake(settings: dict[str, Any], start: str) -> None:
    found = mistakes(Policy, "p", **{"thresholds": [Threshold(1, 1)], **settings})
    assert len(found) == 1
    assert found[0].startswith(f"policies.p.{start}")
