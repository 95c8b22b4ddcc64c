"""The denial cache by properties: any schedule of hits, beside the same schedule without the cache."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from banhammer import Decision, Policy, Threshold
from banhammer.backends.denials import LIFE
from banhammer.core import evaluate
from banhammer.kinds import decide
from banhammer.model import Hit, Record
from fronted import KEY, SECOND, Fronted, World

SEARCHED = 3 * settings().max_examples
"""More than elsewhere: a schedule has many moments, and few of them matter."""
KEYS = ["a", "b"]
SLOW = ["1s", "2s", "1m", "1h"]
"""Periods of one unit that outlast the time until the store is told: no meter is empty before what it is owed."""

throttles = st.builds(
    lambda limit, burst: Threshold(limit, "1s", burst=burst), st.sampled_from([1, 2, 7, 50]), st.integers(1, 4)
)
rungs = st.lists(st.sampled_from(["300ms", "900ms", "1s", "4s", "forever"]), min_size=1, max_size=3)


def ban_thresholds(*periods: str) -> st.SearchStrategy[Threshold]:
    return st.builds(
        lambda period, burst, ban: Threshold(1, period, burst=burst, ban=ban),
        st.sampled_from(periods),
        st.sampled_from([4, 1, 2, 9, 14, 0]),
        rungs,
    )


def policies(*periods: str) -> st.SearchStrategy[Policy]:
    """Draw policies that mostly have what the cache is for: a throttle below ban thresholds."""
    more = st.lists(st.one_of(ban_thresholds(*periods), throttles), max_size=3)
    return st.builds(
        lambda first, levels, forgive_after: Policy("p", [first, *levels], forgive_after=forgive_after),
        st.one_of(throttles, throttles, ban_thresholds(*periods)),
        more,
        st.sampled_from(["2s", "1d"]),
    )


gaps = st.one_of(st.just(0), st.sampled_from([1, 5_000, 100_000, 400_000, 900_000, SECOND]), st.integers(0, 2 * SECOND))
costs = st.sampled_from([1, 1, 1, 1, 2, 3, 13])
times = st.sampled_from([1, 1, 2, 4, 9])


def repeated(*event: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Draw schedules of events, each some times over."""
    rounds = st.lists(st.tuples(times, gaps, *event), min_size=1, max_size=20)
    return rounds.map(lambda found: [rest for count, *rest in found for _ in range(count)])


schedules = repeated(st.sampled_from([*KEYS, KEYS[0]]), costs, st.booleans())
fast_or_slow = policies("5ms", "100ms", "500ms", *SLOW)
FIELDS = ("allowed", "verdict", "strikes", "banned_until", "remaining", "threshold", "limit", "retry_after", "shadow")


def told(decision: Decision) -> dict[str, Any]:
    """Return what a cached decision says as the store's own would: all but what only a store counts."""
    return {name: getattr(decision, name) for name in FIELDS}


def would_be(world: World, key: str, cost: int, guard: bool) -> Decision:
    """Return the store's own decision now, stored nowhere."""
    policy = world.policy
    reply = evaluate(policy, world.store.record(key, policy), cost, world.clock.now, guard=guard)
    return decide(policy, Hit(key, "p", cost=cost), reply, shadow=False)


@settings(max_examples=SEARCHED)
@given(policy=fast_or_slow, schedule=schedules)
def test_a_cached_decision_says_what_the_store_would(policy: Policy, schedule: list[Any]) -> None:
    world = World(policy)
    for gap, key, cost, guard in schedule:
        world.wait(gap)
        expected, calls = would_be(world, key, cost, guard), world.calls
        decision = world.hit(cost, key=key, guard=guard)
        if world.calls == calls:
            assert not decision
            assert told(decision) == told(expected)


elsewhere = st.sampled_from(["here", "here", "here", "hit elsewhere", "unban elsewhere", "reset elsewhere"])


@settings(max_examples=SEARCHED)
@given(policy=fast_or_slow, schedule=repeated(costs, st.booleans(), elsewhere))
def test_what_differs_from_the_store_is_a_denial_no_older_than_a_second(policy: Policy, schedule: list[Any]) -> None:
    here = World(policy)
    there = Fronted(denial_cache=False, store=here.store)
    heard = 0
    for gap, cost, guard, what in schedule:
        here.wait(gap)
        now = here.clock.now
        if what == "hit elsewhere":
            there.evaluate([Hit(KEY, "p", cost=cost)], {"p": policy}, now=now)
        elif what == "unban elsewhere":
            there.lift(KEY, policy, now=now)
        elif what == "reset elsewhere":
            there.forget(KEY, policy, strikes=True, now=now)
        else:
            calls = here.calls
            decision = here.hit(cost, guard=guard)
            if here.calls > calls:
                heard = now
            else:
                assert not decision
                assert now - heard < LIFE


@settings(max_examples=SEARCHED)
@given(policy=fast_or_slow, schedule=schedules)
def test_the_cache_bans_nobody_who_would_not_be_banned_without_it(policy: Policy, schedule: list[Any]) -> None:
    with_cache, without = World(policy), World(policy, cache=False)
    highest = dict.fromkeys(KEYS, -1)
    for gap, key, cost, guard in [*schedule, (SECOND, KEYS[0], 1, True)]:
        for world in (with_cache, without):
            world.wait(gap)
            world.hit(cost, key=key, guard=guard)
        for each in KEYS:
            highest[each] = max(highest[each], level(without.record(each), without.clock.now))
            assert level(with_cache.record(each), with_cache.clock.now) <= highest[each]


@settings(max_examples=SEARCHED)
@given(policy=policies(*SLOW), schedule=schedules)
def test_the_cache_changes_no_decision_where_meters_drain_slower_than_the_store_is_told(
    policy: Policy, schedule: list[Any]
) -> None:
    with_cache, without = World(policy), World(policy, cache=False)
    for gap, key, cost, guard in schedule:
        with_cache.wait(gap)
        without.wait(gap)
        assert told(with_cache.hit(cost, key=key, guard=guard)) == told(without.hit(cost, key=key, guard=guard))


@given(
    rate=st.sampled_from([3, 7, 20, 50, 200]),
    share=st.floats(0.2, 0.95),
    bursts=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    processes=st.integers(1, 3),
)
def test_a_lasting_attack_reaches_each_threshold_at_most_a_second_later(
    rate: int, share: float, bursts: list[int], processes: int
) -> None:
    limit = max(int(rate * share), 1)
    levels = [Threshold(limit, "1s", burst=sum(bursts[: n + 1]), ban="1h") for n in range(len(bursts))]
    policy = Policy("p", [Threshold(1, "1s", burst=1), *levels])
    with_cache, without = World(policy, processes=processes), World(policy, cache=False)
    for number in range(rate * 6):
        for world in (with_cache, without):
            world.hit(process=number % len(world.hammers))
            world.wait(SECOND // rate)
        if number == rate * 5:
            reached = level(without.record(), without.clock.now)
    assert level(with_cache.record(), with_cache.clock.now) >= reached


def level(record: Record, now: int) -> int:
    """Return the level of the ban in force, -1 for none."""
    return record.level if now < record.banned_until else -1
