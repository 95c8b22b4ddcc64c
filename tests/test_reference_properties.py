"""Properties of the reference, searched microsecond by microsecond where the rules promise exactness."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banhammer.durations import SECOND
from banhammer.model import Policy, Threshold
from reference import ReferenceHammer

NOW = 1_700_000_000 * SECOND
KEY = "203.0.113.9"

# Intervals of a few microseconds keep a search by the microsecond short.
rung = st.sampled_from(["3us", "20us", "61us"])
throttles = st.builds(
    lambda limit, burst: Threshold(limit, "1ms", burst=burst), st.integers(50, 100), st.integers(1, 4)
)
ban_thresholds = st.builds(
    lambda limit, burst, ban: Threshold(limit, "1ms", burst=burst, ban=ban),
    st.integers(50, 100),
    st.integers(0, 5),
    st.lists(rung, min_size=1, max_size=3),
)
small_policies = st.builds(
    lambda thresholds: Policy("p", thresholds, forgive_after="90us"),
    st.lists(st.one_of(throttles, ban_thresholds), min_size=1, max_size=3),
)
gaps = st.one_of(st.just(0), st.integers(0, 60))
histories = st.lists(st.tuples(gaps, st.integers(1, 4), st.booleans()), max_size=12)
MOST = 250


def least_wait(hammer: ReferenceHammer, key: str, policy: str, cost: int, now: int, most: int) -> float:
    """Return, by trying every microsecond on a copy, the least wait after which the same hit is allowed."""
    for wait in range(most + 1):
        if hammer.copy().hit(key, policy, cost, now + wait)["verdict"] == "allowed":
            return wait
    return math.inf


def played(policy: Policy, history: list[tuple[int, int, bool]]) -> tuple[ReferenceHammer, int]:
    hammer, now = ReferenceHammer([policy]), NOW
    for gap, cost, guarded in history:
        now += gap
        verb: Callable[..., Any] = hammer.guard if guarded else hammer.hit
        verb(KEY, "p", cost, now)
    return hammer, now


@given(small_policies, histories, st.integers(1, 5))
def test_retry_after_is_the_least_wait_that_a_search_finds(
    policy: Policy, history: list[tuple[int, int, bool]], cost: int
) -> None:
    hammer, now = played(policy, history)
    answer = hammer.hit(KEY, "p", cost, now)
    if answer["verdict"] == "allowed":
        assert answer["retry_after"] == 0.0
        return
    assert answer["retry_after"] * 1e6 == pytest.approx(least_wait(hammer, KEY, "p", cost, now, MOST))


@given(small_policies, histories)
def test_exactly_remaining_more_units_fit_now(policy: Policy, history: list[tuple[int, int, bool]]) -> None:
    hammer, now = played(policy, history)
    remaining = hammer.guard(KEY, "p", 1, now)["remaining"]
    seen = [hammer.hit(KEY, "p", 1, now)["verdict"] for _ in range(remaining + 1)]
    assert seen[:remaining] == ["allowed"] * remaining
    assert seen[remaining] != "allowed"


@given(small_policies, histories, st.integers(1, 5))
def test_at_reset_after_the_key_decides_like_a_fresh_one(
    policy: Policy, history: list[tuple[int, int, bool]], cost: int
) -> None:
    hammer, now = played(policy, history)
    later = now + round(hammer.status(KEY, "p", now)["reset_after"] * 1e6)
    fresh = ReferenceHammer([policy]).hit(KEY, "p", cost, later)
    answer = hammer.hit(KEY, "p", cost, later)
    told = ("verdict", "remaining", "threshold", "escalations")
    assert [answer[field] for field in told] == [fresh[field] for field in told]


@given(small_policies, histories, st.integers(1, 5))
def test_peek_tells_what_hit_would_and_changes_nothing(
    policy: Policy, history: list[tuple[int, int, bool]], cost: int
) -> None:
    hammer, now = played(policy, history)
    before = dict(hammer.states)
    peeked = hammer.peek(KEY, "p", cost, now)
    assert hammer.states == before
    assert peeked == {**hammer.hit(KEY, "p", cost, now), "escalations": []}


@given(small_policies, st.lists(st.tuples(st.integers(-300, 300), st.integers(1, 4)), max_size=12))
def test_a_clock_that_steps_back_is_decided_and_never_unbans(policy: Policy, steps: list[tuple[int, int]]) -> None:
    hammer, now, end = ReferenceHammer([policy]), NOW, 0.0
    for step, cost in steps:
        now += step
        answer = hammer.hit(KEY, "p", cost, now)
        if now / 1e6 < end:
            assert answer["banned_until"] is not None
            assert answer["banned_until"] >= end
        end = answer["banned_until"] or 0.0


@given(st.integers(1, 4), st.integers(0, 120), st.lists(st.integers(0, 30), max_size=30))
def test_a_window_admits_at_most_its_burst_and_what_drains(burst: int, width: int, gaps: list[int]) -> None:
    hammer, now, admitted = ReferenceHammer([Policy("p", [Threshold(100, "1ms", burst=burst)])]), NOW, []
    for gap in gaps:
        now += gap
        if hammer.hit(KEY, "p", 1, now)["allowed"]:
            admitted.append(now)
    for first in admitted:
        assert sum(first <= each <= first + width for each in admitted) <= burst + width // 10
