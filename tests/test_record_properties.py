"""The invariants G12 to G21 of one record, searched by hypothesis; each test names the one it holds."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from banhammer import BanHammer, Hit, Policy, Threshold
from banhammer.backends.memory import MemoryBackend
from banhammer.core import FRESH, ban, evaluate, lift, load
from banhammer.durations import DAY, FOREVER, SECOND
from banhammer.kinds import decide
from banhammer.model import MAX_COST, MAX_PERIOD, MAX_RATE, MAX_STRIKES, Record
from banhammer.testing import ManualClock
from machine_rules import (
    KEY,
    START,
    any_policy,
    costs,
    decided,
    histories,
    played,
    policies,
    thresholds,
    throttling,
)

YEAR_2200 = 7_258_118_400 * SECOND


@given(any_policy, histories, costs)
def test_an_allowlist_beats_a_ban_and_a_ban_beats_throttles(policy: Policy, history: list[Any], cost: int) -> None:
    """G12."""
    clock, store = ManualClock(START), MemoryBackend()
    actions = {"note": lambda _: None}
    hammer = BanHammer([policy], backend=store, clock=clock, actions=actions)
    for gap, units, verb in history:
        clock.move_to(clock.now + gap)
        getattr(hammer, verb)(KEY, "p", units)
    hammer.ban(KEY, "p", "1h")
    assert hammer.hit(KEY, "p", cost).verdict == "banned"
    friendly = BanHammer([policy], backend=store, clock=clock, actions=actions, allow=[KEY], deny=[KEY])
    assert friendly.hit(KEY, "p", cost).verdict == "allowed"
    hammer.close()


@given(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=3), st.integers(1, 6), st.integers(1, 50))
def test_each_strike_takes_the_next_rung_and_the_last_repeats(rungs: list[int], strikes: int, forgive: int) -> None:
    """G12: and at `forgive_after` past the end the ladder begins anew."""
    policy = Policy("p", [Threshold(1, "1h", burst=0, ban=rungs)], forgive_after=forgive)
    record, now = FRESH, START
    for strike in range(1, strikes + 1):
        record = evaluate(policy, record, 1, now).record
        rung = rungs[min(strike, len(rungs)) - 1] * SECOND
        assert (record.strikes, record.banned_until) == (strike, now + rung)
        now = record.banned_until
    forgiven = record.banned_until + forgive * SECOND
    assert evaluate(policy, record, 1, forgiven - 1).record.strikes == strikes + 1
    assert evaluate(policy, record, 1, forgiven).record.strikes == 1


@given(any_policy, histories, costs)
def test_a_denied_guard_leaves_the_record_of_a_hit_and_an_allowed_one_no_trace(
    policy: Policy, history: list[Any], cost: int
) -> None:
    """G12."""
    record, now = played(policy, history)
    guard, hit = (evaluate(policy, record, cost, now, guard=guard) for guard in (True, False))
    state = load(policy, record, now)
    full = any(
        cost > each.burst or max(tat, now) + cost * each.interval - now > each.tolerance
        for each, tat in zip(policy.thresholds, state.tats, strict=True)
        if not each.ban
    )
    assert (guard.verdict == "allowed") == (now >= state.banned_until and not full)
    assert guard.counted == (guard.verdict != "allowed")
    if guard.counted:
        assert (guard.record, guard.tripped, guard.verdict) == (hit.record, hit.tripped, hit.verdict)
    else:
        assert guard.record == state


@given(any_policy, policies("p", mode=None), histories, costs)
def test_a_changed_policy_never_loses_a_ban_or_a_strike_and_bans_nobody(
    policy: Policy, changed: Policy, history: list[Any], cost: int
) -> None:
    """G16."""
    record, now = played(policy, history)
    before, after = load(policy, record, now), load(changed, record, now)
    assert len(after.tats) == len(changed.thresholds)
    if now < before.banned_until:
        assert (after.banned_until, after.strikes) == (before.banned_until, before.strikes)
    else:
        assert now >= after.banned_until
        peeked = evaluate(changed, Record((), strikes=after.strikes), 1, now)
        if peeked.verdict == "banned":
            return  # A honeypot trips on anybody's first hit.
        guarded = evaluate(changed, record, 1, now, guard=True)
        throttled = any(not threshold.ban for threshold in changed.thresholds)
        assert guarded.verdict == "allowed" or throttled
    evaluate(changed, record, cost, now)


@given(throttling, throttling, histories)
def test_a_changed_policy_costs_a_throttled_key_at_most_one_burst(
    policy: Policy, changed: Policy, history: list[Any]
) -> None:
    """G16."""
    record, now = played(policy, history)
    decision = decided(changed, record, 1, now)
    assert decision.retry_after * 1e6 <= max(threshold.tolerance for threshold in changed.thresholds)


@given(throttling, histories, st.integers(0, 10 * DAY))
def test_a_clock_that_steps_back_delays_a_throttled_key_by_at_most_one_burst(
    policy: Policy, history: list[Any], step: int
) -> None:
    """G17."""
    record, now = played(policy, history)
    decision = decided(policy, record, 1, now - step)
    assert decision.retry_after * 1e6 <= max(threshold.tolerance for threshold in policy.thresholds)


@given(any_policy, histories, st.integers(1, 10_000_000), costs)
def test_a_ban_keeps_its_end_when_the_clock_steps_back(
    policy: Policy, history: list[Any], step: int, cost: int
) -> None:
    """G17."""
    record, now = played(policy, history)
    if now >= record.banned_until:
        return
    reply = evaluate(policy, record, cost, now - step)
    assert reply.verdict == "banned"
    assert reply.record.banned_until >= record.banned_until


@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 3 * SECOND))
def test_a_ban_threshold_trips_early_only_for_steps_shorter_than_its_tolerance(
    burst: int, hits: int, step: int
) -> None:
    """G17: a longer step (by the second that a clamp allows) finds the meter empty."""
    threshold = Threshold(50, "1ms", burst=burst, ban="1h")
    policy = Policy("p", [threshold])
    record, _ = played(policy, [(0, 1, "hit")] * min(hits, burst))
    reply = evaluate(policy, record, 1, START - step)
    if step > threshold.tolerance + SECOND:
        assert reply.verdict == "allowed"
        assert reply.record.tats == (START - step + threshold.interval,)


@given(
    st.lists(st.tuples(st.text(min_size=1, max_size=4), st.sampled_from(["a", "a.b", "b"])), max_size=20),
    st.text(min_size=1, max_size=4),
)
def test_keys_and_policies_never_influence_each_other(others: list[tuple[str, str]], key: str) -> None:
    """G18."""
    rules = [Policy(name, [Threshold(2, "1h", ban="1h")]) for name in ("a", "a.b", "b")]
    hammer = BanHammer(rules, clock=ManualClock(START))
    for other, name in others:
        hammer.hit(other, name)
    mine = sum((other, name) == (key, "a") for other, name in others)
    assert hammer.status(key, "a").remaining == (max(0, 2 - mine) if mine < 3 else 2,)
    assert (hammer.status(key, "a").banned_until is not None) == (mine >= 3)


HOSTILE_KEYS = (
    "a:b", "{tag}", "}{", "a\0b", "a\0", "a\r\nb", " ", "a b", "x" * 65_536, "\ud800", "caf\u00e9", "cafe\u0301",
    "::ffff:1.2.3.4", "1.2.3.4", "fe80::1%eth0", "1.2.3.4:80", "[::1]", "\uff11.2.3.4", "%00", "a%00b", "p:a",
)  # fmt: skip


def test_hostile_keys_are_kept_apart() -> None:
    """G18."""
    hammer = BanHammer([Policy("p", [Threshold(100, "1h")])], clock=ManualClock(START))
    for number, key in enumerate(HOSTILE_KEYS, 1):
        hammer.hit(key, "p", number)
    assert [hammer.status(key, "p").remaining for key in HOSTILE_KEYS] == [
        (100 - number,) for number in range(1, len(HOSTILE_KEYS) + 1)
    ]
    assert {status.key for status in hammer.status_all()} == set(HOSTILE_KEYS)


@st.composite
def extreme(draw: st.DrawFn) -> Threshold:
    period = draw(st.one_of(st.sampled_from([1_000, MAX_PERIOD]), st.integers(1_000, MAX_PERIOD)))
    most = max(1, MAX_RATE * period // SECOND)
    limit = draw(st.one_of(st.sampled_from([1, most]), st.integers(1, most)))
    interval = -(-period // limit)
    burst = draw(st.integers(1, max(1, 10 * 365 * DAY // interval)))
    ban = draw(st.sampled_from([None, "1us", "10000000us", "3650d", "forever"]))
    return Threshold(limit, f"{period}us", burst=burst, ban=ban)


@given(
    st.lists(extreme(), min_size=1, max_size=3),
    st.integers(0, YEAR_2200),
    st.lists(st.tuples(st.integers(0, 10 * DAY), st.one_of(st.integers(1, MAX_COST), st.just(1))), max_size=8),
)
def test_every_stored_value_stays_below_two_to_the_53(
    levels: list[Threshold], now: int, hits: list[tuple[int, int]]
) -> None:
    """G19."""
    policy, record = Policy("p", levels, forgive_after="3650d", track=["1ms", "365d"]), FRESH
    for gap, cost in hits:
        now = min(now + gap, YEAR_2200)
        record = evaluate(policy, record, cost, now).record
        assert all(0 <= tat < 2**53 for tat in record.tats)
        assert 0 <= record.banned_until <= FOREVER < 2**53


def test_strikes_saturate() -> None:
    """G19."""
    policy = Policy("p", [Threshold(1, "1h", burst=0, ban="1s")])
    worn = Record((0,), strikes=MAX_STRIKES, banned_until=START, level=0)
    assert evaluate(policy, worn, 1, START).record.strikes == MAX_STRIKES
    assert ban(policy, worn, 0, None, START).strikes == MAX_STRIKES


@given(thresholds, histories)
def test_shadow_keeps_exactly_the_state_of_enforcement(levels: list[Threshold], history: list[Any]) -> None:
    """G20."""
    clock = ManualClock(START)
    stores = MemoryBackend(), MemoryBackend()
    real, shadow = (
        BanHammer([Policy("p", levels)], backend=store, clock=clock, mode=mode, actions={"note": lambda _: None})
        for store, mode in zip(stores, ("enforce", "shadow"), strict=True)
    )
    for gap, cost, verb in history:
        clock.move_to(clock.now + gap)
        said, watched = (getattr(hammer, verb)(KEY, "p", cost) for hammer in (real, shadow))
        assert watched.allowed
        assert watched.shadow
        assert said.as_dict() == {**watched.as_dict(), "allowed": said.allowed, "shadow": False}
    assert stores[0]._tables.get("p", {}) == stores[1]._tables.get("p", {})
    real.close()
    shadow.close()


records = st.builds(
    Record,
    st.lists(st.integers(0, FOREVER), max_size=4).map(tuple),
    over=st.integers(0, 15),
    strikes=st.integers(0, MAX_STRIKES),
    banned_until=st.integers(0, FOREVER),
    level=st.integers(0, 9),
)


@given(any_policy, records, costs, st.integers(0, YEAR_2200), st.booleans())
def test_no_record_within_range_is_an_exception(
    policy: Policy, record: Record, cost: int, now: int, guard: bool
) -> None:
    """G21: whatever a store hands over, as long as its fields are integers in range."""
    reply = evaluate(policy, record, cost, now, guard=guard)
    decision = decide(policy, Hit(KEY, "p", cost=cost), reply, shadow=False)
    assert decision.as_dict()["verdict"] == reply.verdict
    assert load(policy, load(policy, record, now), now) == load(policy, record, now)
    assert lift(policy, record, now).banned_until <= max(now, record.banned_until)
    assert all(level.tolerance >= tat - now for level, tat in zip(policy.thresholds, reply.record.tats, strict=True))
