"""The invariants G1 to G11 of one record, searched by hypothesis; each test names the one it holds."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banhammer import BanHammer, Hit, Policy, Threshold
from banhammer.backends.memory import MemoryBackend
from banhammer.core import FRESH, evaluate, lapses_at, load
from banhammer.durations import FOREVER
from banhammer.kinds import decide
from banhammer.model import MAX_COST, Record
from banhammer.testing import ManualClock
from machine_rules import (
    KEY,
    START,
    any_policy,
    costs,
    decided,
    gaps,
    histories,
    played,
    throttles,
    throttling,
)


@given(throttles, st.integers(0, 400), st.lists(st.tuples(st.integers(0, 40), st.integers(1, 3)), max_size=40))
def test_a_window_admits_at_most_its_burst_and_what_drains_in_it(
    threshold: Threshold, width: int, hits: list[tuple[int, int]]
) -> None:
    """G1."""
    policy, record, now = Policy("p", [threshold]), FRESH, START
    admitted: list[tuple[int, int]] = []
    for gap, cost in hits:
        now += gap
        reply = evaluate(policy, record, cost, now)
        record = reply.record
        if reply.verdict == "allowed":
            admitted.append((now, cost))
    for first, _ in admitted:
        units = sum(cost for at, cost in admitted if first <= at <= first + width)
        assert units <= threshold.burst + width // threshold.interval


@given(throttling, histories)
def test_after_the_tolerance_of_silence_a_full_burst_fits(policy: Policy, history: list[Any]) -> None:
    """G2."""
    record, now = played(policy, history)
    later = now + max(threshold.tolerance for threshold in policy.thresholds)
    least = min(threshold.burst for threshold in policy.thresholds)
    assert evaluate(policy, record, least, later).verdict == "allowed"


@given(throttles, st.integers(1, 80))
def test_a_client_that_sends_one_unit_every_interval_is_never_throttled(threshold: Threshold, hits: int) -> None:
    """G2."""
    policy, record = Policy("p", [threshold]), FRESH
    for number in range(hits):
        reply = evaluate(policy, record, 1, START + number * threshold.interval)
        record = reply.record
        assert reply.verdict == "allowed"


@given(any_policy, histories, costs, st.booleans())
def test_a_meter_never_goes_back_but_by_a_trip(policy: Policy, history: list[Any], cost: int, guard: bool) -> None:
    """G3."""
    record, now = played(policy, history)
    before = load(policy, record, now)
    reply = evaluate(policy, record, cost, now, guard=guard)
    for index, (old, new) in enumerate(zip(before.tats, load(policy, reply.record, now).tats, strict=True)):
        assert new >= old or (new == 0 and index in reply.tripped and reply.verdict == "banned")


@given(any_policy, histories, costs)
def test_a_denial_charges_no_throttle(policy: Policy, history: list[Any], cost: int) -> None:
    """G4, G11: neither a throttled hit nor one during a ban, whatever the order of the thresholds."""
    record, now = played(policy, history)
    before = load(policy, record, now)
    reply = evaluate(policy, record, cost, now)
    after = load(policy, reply.record, now)
    if reply.verdict == "allowed":
        return
    for index, threshold in enumerate(policy.thresholds):
        asleep = now < before.banned_until and index <= before.level
        if not threshold.ban or asleep:
            assert after.tats[index] == before.tats[index]


@given(any_policy, histories, costs)
def test_a_hit_during_a_ban_changes_only_what_is_awake(policy: Policy, history: list[Any], cost: int) -> None:
    """G4, G12: a ban only gets longer, by a higher threshold, and is still one strike."""
    record, now = played(policy, history)
    before = load(policy, record, now)
    if now >= before.banned_until:
        return
    reply = evaluate(policy, record, cost, now)
    assert reply.verdict == "banned"
    assert reply.record.strikes == before.strikes
    assert reply.record.over == before.over
    assert all(index > before.level for index in reply.tripped)
    if reply.tripped:
        assert reply.record.banned_until >= before.banned_until
        assert reply.record.level == reply.tripped[-1]
    else:
        assert (reply.record.banned_until, reply.record.level) == (before.banned_until, before.level)


@given(any_policy, histories, costs)
def test_peek_tells_what_hit_would_and_changes_no_byte(policy: Policy, history: list[Any], cost: int) -> None:
    """G5."""
    clock = ManualClock(START)
    store = MemoryBackend()
    hammer = BanHammer([policy], backend=store, clock=clock, actions={"note": lambda _: None})
    for gap, units, verb in history:
        clock.move_to(clock.now + gap)
        getattr(hammer, verb)(KEY, "p", units)
    before = dict(store._tables.get("p", {})), len(store), [list(heap) for heap in store._leaving._heaps]
    peeked = hammer.peek(KEY, "p", cost)
    assert before == (dict(store._tables["p"]), len(store), [list(heap) for heap in store._leaving._heaps])
    assert peeked.as_dict() == hammer.hit(KEY, "p", cost).as_dict()
    hammer.close()


@given(throttles, histories, st.integers(1, 9))
def test_a_cost_of_n_fits_exactly_where_n_units_would(threshold: Threshold, history: list[Any], cost: int) -> None:
    """G6."""
    policy = Policy("p", [threshold])
    record, now = played(policy, history)
    one = evaluate(policy, record, cost, now)
    single, verdicts = record, []
    for _ in range(cost):
        reply = evaluate(policy, single, 1, now)
        single = reply.record
        verdicts.append(reply.verdict)
    assert (one.verdict == "allowed") == all(verdict == "allowed" for verdict in verdicts)
    if one.verdict == "allowed":
        assert one.record.tats == single.tats


@given(throttling, histories, st.sampled_from([6, 1000, MAX_COST]))
def test_a_cost_above_the_burst_is_denied_for_ever_and_escalates_nothing(
    policy: Policy, history: list[Any], cost: int
) -> None:
    """G7."""
    record, now = played(policy, history)
    decision = decided(policy, record, cost, now)
    assert (decision.verdict, decision.retry_after, decision.tripped) == ("throttled", math.inf, ())


@given(any_policy, st.sampled_from([0, -1, True, False, 1.0, MAX_COST + 1, "1", None]))
def test_a_cost_that_is_none_is_refused_before_anything_is_touched(policy: Policy, cost: Any) -> None:
    """G7."""
    store = MemoryBackend()
    hammer = BanHammer([policy], backend=store, clock=ManualClock(START), actions={"note": lambda _: None})
    for verb in (hammer.hit, hammer.guard, hammer.peek):
        with pytest.raises(ValueError, match="cost: "):
            verb(KEY, "p", cost)
    with pytest.raises(ValueError, match="cost: "):
        hammer.hit_many([Hit(KEY, "p"), Hit(KEY, "p", cost=cost)])
    assert len(store) == 0


@given(any_policy, histories, costs)
def test_a_key_is_denied_a_microsecond_before_retry_after_and_allowed_at_it(
    policy: Policy, history: list[Any], cost: int
) -> None:
    """G8: from the state that the denied hit left."""
    record, now = played(policy, history)
    reply = evaluate(policy, record, cost, now)
    decision = decide(policy, Hit(KEY, "p", cost=cost), reply, shadow=False)
    if decision.retry_after == 0.0:
        assert reply.verdict == "allowed"
    elif decision.retry_after == math.inf:
        forever = reply.record.banned_until >= FOREVER
        assert forever or any(cost > threshold.burst for threshold in policy.thresholds)
    else:
        at = now + round(decision.retry_after * 1e6)
        assert evaluate(policy, reply.record, cost, at - 1).verdict != "allowed"
        assert evaluate(policy, reply.record, cost, at).verdict == "allowed"


@given(any_policy, histories, costs)
def test_exactly_remaining_more_units_fit_now(policy: Policy, history: list[Any], cost: int) -> None:
    """G9."""
    record, now = played(policy, history)
    reply = evaluate(policy, record, cost, now)
    remaining = decide(policy, Hit(KEY, "p", cost=cost), reply, shadow=False).remaining
    assert remaining is not None
    if remaining:
        assert evaluate(policy, reply.record, remaining, now).verdict == "allowed"
    assert evaluate(policy, reply.record, remaining + 1, now).verdict != "allowed"


@given(any_policy, histories, costs, costs)
def test_at_reset_after_a_key_decides_like_a_fresh_one(
    policy: Policy, history: list[Any], cost: int, next_cost: int
) -> None:
    """G9, G10: strikes aside, so the fresh one gets as many."""
    record, now = played(policy, history)
    reply = evaluate(policy, record, cost, now)
    wait = decide(policy, Hit(KEY, "p", cost=cost), reply, shadow=False).reset_after
    if wait == math.inf:
        return
    later = now + round(wait * 1e6)
    strikes = load(policy, reply.record, later).strikes
    old, new = (evaluate(policy, each, next_cost, later) for each in (reply.record, Record((), strikes=strikes)))
    assert (old.verdict, old.tripped, old.record.strikes) == (new.verdict, new.tripped, new.record.strikes)
    if new.verdict == "banned":
        assert old.record.banned_until == new.record.banned_until


@given(any_policy, histories, costs)
def test_what_has_lapsed_reads_as_absent(policy: Policy, history: list[Any], cost: int) -> None:
    """G10: a store may drop a lapsed record at any time and nobody can tell."""
    record, now = played(policy, history)
    at = max(now, lapses_at(policy, record))
    if at >= FOREVER:
        assert record.banned_until >= FOREVER
        return
    for when in (at, at + 1, at + 5_000_000):
        assert decided(policy, record, cost, when) == decided(policy, FRESH, cost, when)


@given(st.lists(throttles, min_size=2, max_size=3), st.lists(st.tuples(gaps, costs), max_size=12), st.randoms())
def test_throttles_decide_alike_in_any_order(
    levels: list[Threshold], history: list[tuple[int, int]], random: Any
) -> None:
    """G11."""
    order = list(range(len(levels)))
    random.shuffle(order)
    plain, mixed = Policy("p", levels), Policy("p", [levels[index] for index in order])
    one, two, now = FRESH, FRESH, START
    for gap, cost in history:
        now += gap
        first, second = evaluate(plain, one, cost, now), evaluate(mixed, two, cost, now)
        one, two = first.record, second.record
        assert first.verdict == second.verdict
        assert [one.tats[index] for index in order] == list(two.tats)
