"""What a denial cache swallowed and the store is told later: no ban before its time, and no throttle charged."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banhammer import Hit, Policy, Threshold
from banhammer.backends.redis.wire import pack_charge
from banhammer.backends.shared import Charge
from banhammer.core import Owed, Reply, count_at, evaluate, load
from banhammer.model import MAX_COST, Record
from machine_rules import KEY, START, any_policy, ban_thresholds, gaps, histories, played, thresholds, throttles
from reference import ReferenceHammer

lates = st.one_of(st.integers(1, 12), st.integers(1, 400), st.sampled_from([2**32 - 1, 2**31]))
spans = st.one_of(st.just(0), st.integers(0, 300), st.sampled_from([1_000_000, 999_999, 2**32 - 1]))
debts = st.tuples(lates, spans, st.integers(-1, 3))
costs = st.one_of(st.just(0), st.just(1), st.integers(1, 9), st.just(MAX_COST))
arrivals = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 3)), min_size=1, max_size=30)
laddered = st.builds(
    lambda levels, ban: Policy("p", [*levels, ban]), st.lists(st.one_of(throttles, ban_thresholds), max_size=2),
    ban_thresholds,
)  # fmt: skip


def level_of(record: Record, now: int) -> int:
    return record.level if now < record.banned_until else -1


@given(any_policy, histories, gaps, st.lists(st.tuples(gaps, costs, debts), min_size=1, max_size=6))
def test_what_is_owed_is_charged_by_the_formula(
    policy: Policy, history: list[Any], gap: int, hits: list[tuple[int, int, tuple[int, int, int]]]
) -> None:
    """As the reference reads it, which multiplies without a bound."""
    record, now = played(policy, history)
    reference, at = ReferenceHammer([policy]), START
    for wait, units, verb in history:
        at += wait
        getattr(reference, verb)(KEY, "p", units, at)
    now += gap
    for wait, cost, debt in hits:
        now += wait
        reply = evaluate(policy, record, cost, now, owed=Owed(*debt))
        answer = reference.hit(KEY, "p", cost, now, debt) if cost else reference.flush(KEY, "p", now, debt)
        assert (reply.verdict, list(reply.tripped)) == (answer["verdict"], [each[0] for each in answer["escalations"]])
        record = reply.record
        state = reference.states[KEY, "p"]
        assert (record.strikes, record.banned_until) == (state["strikes"], state["banned_until"])
        told = [max(tat - now, 0) for tat in record.tats]
        assert told == [max(meter["tat"] - now, 0) for meter in state["meters"].values()]


def one_by_one(
    policy: Policy, record: Record, since: int, hits: list[tuple[int, int]]
) -> tuple[list[int], Record, int]:
    """Charge hits at their own times: return the ban thresholds that tripped, the record, and the last time."""
    tripped: list[int] = []
    now = since
    for gap, cost in hits:
        now += gap
        reply = evaluate(policy, record, cost, now)
        record = reply.record
        if reply.verdict == "banned":
            tripped += reply.tripped
    return tripped, record, now


def told_later(policy: Policy, record: Record, since: int, hits: list[tuple[int, int]], cost: int) -> Reply:
    """Charge hits at the end, all but the last as owed since the first."""
    now = since + sum(gap for gap, _ in hits)
    late = sum(units for _, units in hits) - cost
    owed = Owed(late, now - since, level_of(load(policy, record, since), since)) if late else None
    return evaluate(policy, record, cost, now, owed=owed)


@given(laddered, histories, gaps, arrivals, st.booleans())
def test_nobody_is_banned_who_would_not_be_by_the_same_hits_at_their_times(
    policy: Policy, history: list[Any], gap: int, hits: list[tuple[int, int]], flush: bool
) -> None:
    """Nor under a higher threshold, nor for longer."""
    record, now = played(policy, history)
    since = now + gap
    hits = [(0, hits[0][1]), *hits[1:]]  # The first that is swallowed begins the span.
    seen, exact, _ = one_by_one(policy, record, since, hits)
    reply = told_later(policy, record, since, hits, 0 if flush else hits[-1][1])
    if reply.verdict == "banned" and reply.tripped:
        assert seen
        assert max(seen) >= reply.tripped[-1]
        assert reply.record.strikes <= exact.strikes


@given(st.lists(ban_thresholds, min_size=1, max_size=3), arrivals, st.integers(0, 3))
def test_while_no_meter_runs_empty_nothing_is_lost(
    levels: list[Threshold], hits: list[tuple[int, int]], filled: int
) -> None:
    """So a threshold is reached no later than the store is told."""
    policy = Policy("p", levels)
    record = Record(tuple(START + filled * level.interval for level in levels))
    hits = [(0, hits[0][1]), *hits[1:]]
    now, exact = START, record
    for gap, cost in hits:
        now += gap
        if any(tat < now for tat in exact.tats):
            return
        reply = evaluate(policy, exact, cost, now)
        if reply.verdict == "banned":
            return
        exact = reply.record
    assert told_later(policy, record, START, hits, hits[-1][1]).record == exact
    assert told_later(policy, record, START, hits, 0).record.tats == tuple(max(tat, now) for tat in exact.tats)


@given(laddered, histories, gaps, spans, st.integers(-1, 2))
def test_what_is_owed_in_excess_is_as_good_as_what_trips(
    policy: Policy, history: list[Any], gap: int, span: int, level: int
) -> None:
    record, now = played(policy, history)
    now += gap
    most = max(each.burst + span // each.interval + 2 for each in policy.thresholds if each.ban)
    replies = [evaluate(policy, record, 1, now, owed=Owed(late, span, level)) for late in (most, most + 1, 2**32 - 1)]
    assert len({(reply.verdict, reply.tripped, reply.record) for reply in replies}) == 1
    awake = [
        index for index, each in enumerate(policy.thresholds)
        if each.ban and index > max(level, level_of(load(policy, record, now - span), now - span))
    ]  # fmt: skip
    assert set(awake) <= set(replies[0].tripped)


@given(any_policy, histories, gaps, debts, st.lists(st.tuples(gaps, st.integers(1, 5)), min_size=1, max_size=4))
def test_a_flush_changes_no_throttle_and_no_rate(
    policy: Policy, history: list[Any], gap: int, debt: tuple[int, int, int], later: list[tuple[int, int]]
) -> None:
    record, now = played(policy, history)
    now += gap
    before = load(policy, record, now)
    reply = evaluate(policy, record, 0, now, owed=Owed(*debt))
    after = reply.record
    assert reply.counted
    assert reply.verdict != "throttled"
    assert (after.over, after.rings) == (before.over, before.rings)
    assert [count_at(ring, now) for ring in after.rings] == [count_at(ring, now) for ring in before.rings]
    plain = [index for index, each in enumerate(policy.thresholds) if not each.ban]
    assert [max(after.tats[index], now) for index in plain] == [max(before.tats[index], now) for index in plain]
    if not plain:
        return
    throttling = Policy("p", [policy.thresholds[index] for index in plain])
    one, two = (Record(tuple(each.tats[index] for index in plain)) for each in (before, after))
    for wait, cost in later:
        now += wait
        first, second = evaluate(throttling, one, cost, now), evaluate(throttling, two, cost, now)
        assert (first.verdict, first.tripped) == (second.verdict, second.tripped)
        one, two = first.record, second.record


@given(thresholds, histories, gaps, st.integers(1, 9), debts)
def test_an_allowed_guard_tells_of_the_record_as_it_stands(
    levels: list[Threshold], history: list[Any], gap: int, cost: int, debt: tuple[int, int, int]
) -> None:
    """What it brought along is not stored, so it is still owed."""
    policy = Policy("p", levels)
    record, now = played(policy, history)
    now += gap
    plain, owing = (evaluate(policy, record, cost, now, guard=True, owed=owed) for owed in (None, Owed(*debt)))
    assert plain.verdict == owing.verdict or "banned" in (plain.verdict, owing.verdict)
    if owing.verdict == "allowed":
        assert not owing.counted
        assert owing.record == plain.record


@given(ban_thresholds, debts, st.integers(0, 300))
def test_a_ban_that_began_or_ended_meanwhile_sleeps_through_what_is_owed(
    threshold: Threshold, debt: tuple[int, int, int], ended: int
) -> None:
    """Its own threshold counted nothing then, so it is not charged."""
    late, span, _ = debt
    policy, now = Policy("p", [threshold]), START
    banned_until = now - min(ended, max(span - 1, 0))
    record = Record((0,), strikes=1, banned_until=banned_until)
    paid = evaluate(policy, record, 0, now, owed=Owed(late, span, -1)).record
    assert paid.strikes == load(policy, record, now).strikes or now - span >= banned_until
    if now - span < banned_until:
        assert max(paid.tats[0], now) == now


@pytest.mark.parametrize(
    ("late", "span", "sent"),
    [(5, 2**32 - 1, (5, 2**32 - 1, 1)), (2**40, 7, (2**32 - 1, 7, 1)), (5, 2**32, (0, 0, 0))],
)
def test_what_the_wire_cannot_hold_is_cut_towards_no_ban(late: int, span: int, sent: tuple[int, int, int]) -> None:
    """A span of more than an hour is not told: cut, it would charge a meter too much."""
    charge = Charge(Hit(KEY, "p"), Policy("p", [Threshold(5, "1h", ban="1h")]), owed=Owed(late, span, 0))
    assert struct.unpack(">BBIIIB", pack_charge(0, charge))[3:] == sent
