"""The denial cache: what it answers, for how long, and what the store is told of what it swallowed."""

from __future__ import annotations

import math
import os
import warnings

import pytest

from banhammer import BanHammer, Policy, Threshold
from banhammer.backends import denials
from banhammer.core import Reply
from banhammer.model import Hit, Record
from fronted import KEY, SECOND, START, Fronted, World, together

THROTTLE = Threshold(1, "1s")
AWAKE = Threshold(1, "1h", burst=10_000, ban="1h")
"""A threshold that no test reaches."""


def test_two_hundred_attempts_a_second_cost_a_call_or_two_a_second_and_no_threshold_comes_late() -> None:
    levels = [Threshold(10, "1m"), Threshold(100, "1h", ban="1h"), Threshold(1_000, "1h", ban="1d")]
    with_cache, without = World(Policy("p", levels)), World(Policy("p", levels), cache=False)
    reached: dict[World, dict[int | None, int]] = {with_cache: {}, without: {}}
    for attempt in range(1, 4_001):
        for world, found in reached.items():
            decision = world.hit()
            if decision.verdict == "banned":
                found.setdefault(decision.threshold, attempt)
            world.wait(SECOND // 200)
    assert reached[with_cache] == reached[without] == {1: 101, 2: 1_002}
    assert without.calls == 4_000
    assert with_cache.calls <= 45


def test_what_the_store_is_told_is_every_unit_once() -> None:
    world = World(Policy("p", [Threshold(1, "1s", burst=3), AWAKE]))
    made = 0
    for step, cost in enumerate([1, 1, 3, 1, 2] * 60):
        world.wait(step * 7_919 % 170_000)
        decision = world.hit(cost, guard=step % 3 == 0)
        made += 0 if decision and step % 3 == 0 else cost
    world.wait(2 * SECOND)
    heard = sum(charge.hit.cost + (charge.owed.late if charge.owed else 0) for charge in world.store.counted)
    assert heard == made
    assert world.calls < 150  # Of 300 attempts: the costs vary, so that many pass the cache by.


def test_an_allowed_guard_keeps_what_is_owed_and_since_when() -> None:
    world = World(Policy("p", [THROTTLE, AWAKE]))
    for _ in range(5):
        world.hit()
    world.clock.advance("1s")
    assert world.hit(guard=True)
    world.clock.advance("200ms")
    assert world.hit()
    last = world.store.told[-1].owed
    assert last is not None
    assert (last.late, last.span, last.level) == (3, 1_200_000, -1)


def test_what_is_owed_drains_since_its_first_unit_came() -> None:
    world = World(Policy("p", [Threshold(1, "2s"), Threshold(10, "1s", burst=12, ban="1h")]))
    for _ in range(9):
        world.hit()
    world.wait(900_000)
    assert [world.hit().verdict for _ in range(9)] == ["throttled"] * 9
    world.wait(SECOND)
    assert not world.record().strikes


def test_a_guard_that_the_store_allows_is_not_held_up_by_a_full_ban_threshold() -> None:
    world = World(Policy("p", [Threshold(10, "1s", burst=1), Threshold(1, "1h", burst=2, ban="1h")]))
    assert [world.hit().verdict, world.hit().verdict] == ["allowed", "throttled"]
    world.wait(100_000)
    assert world.hit(guard=True)


def test_a_throttles_denial_answers_only_costs_at_least_as_large() -> None:
    world = World(Policy("p", [Threshold(5, "1s", burst=5)]))
    assert world.hit(3)
    assert [world.hit(3).verdict, world.hit(4).verdict] == ["throttled", "throttled"]
    assert world.calls == 2
    assert world.hit(2)
    assert world.calls == 3


def test_a_ban_answers_any_cost() -> None:
    world = World(Policy("p", [Threshold(1, "1h", burst=5, ban="1h")]))
    assert world.hit(5)
    assert [world.hit(cost).verdict for cost in (3, 1, 5)] == ["banned"] * 3
    assert world.calls == 2


def test_a_cost_above_the_burst_is_never_cached_and_passes_the_cache_by() -> None:
    world = World(Policy("p", [Threshold(1, "1s", burst=2)]))
    assert [world.hit(3).retry_after for _ in range(3)] == [math.inf] * 3
    assert world.calls == 3
    assert world.hit(2)
    assert not world.hit()
    assert not world.hit()
    assert world.calls == 5
    assert world.hit(3).retry_after == math.inf
    assert world.calls == 6
    world = World(Policy("p", [Threshold(1, "1s", burst=2, ban="1h")]))
    assert [world.hit(3).verdict, world.hit().verdict] == ["banned", "banned"]
    assert world.calls == 2


def test_decisions_that_shadow_mode_or_a_list_makes_are_never_cached() -> None:
    levels = [Threshold(1, "1h", ban="1h")]
    world = World(Policy("p", levels, mode="shadow"))
    assert [world.hit().verdict for _ in range(4)] == ["allowed", "banned", "banned", "banned"]
    assert world.calls == 4
    world = World(Policy("p", levels), deny=[KEY])
    assert [world.hit().listed for _ in range(4)] == ["deny"] * 4
    assert not world.backends[0].front.pending


def test_a_denial_is_answered_here_for_a_second_or_until_it_ends() -> None:
    for limit, life in ((1, SECOND), (4, SECOND // 4), (1000, 1_000)):
        world = World(Policy("p", [Threshold(limit, "1s", burst=1)]))
        world.hit()
        world.hit()
        world.wait(life - 1)
        assert world.hit().retry_after == 1e-6
        assert world.calls == 2
        world.wait(1)
        assert world.hit()
    world = World(Policy("p", [Threshold(1, "1h", ban="1h")]))
    for calls, pause in ((1, 0), (2, 0), (2, SECOND - 1), (3, 1), (3, SECOND - 1)):
        world.wait(pause)
        world.hit()
        assert world.calls == calls


def test_the_journey_of_an_answer_does_not_lengthen_the_life_of_a_denial() -> None:
    world = World(Policy("p", [Threshold(1, "1h", ban="1h")]))
    world.hit()
    world.store.journey = lambda: world.clock.advance("40ms")
    world.hit()
    asked = world.clock.now - 40_000
    world.clock.move_to(asked + SECOND - 1)
    assert world.hit().retry_after == 3_599.000001
    assert world.calls == 2
    world.clock.move_to(asked + SECOND)
    world.hit()
    assert world.calls == 3


def test_a_denial_is_asked_again_when_strikes_are_forgotten() -> None:
    world = World(Policy("p", [Threshold(1, "1m"), AWAKE], forgive_after="300ms"))
    world.hammer.ban(KEY, "p", duration="1s")
    world.clock.advance("1s")
    assert [world.hit().strikes for _ in range(3)] == [1, 1, 1]
    world.clock.advance("300ms")
    assert world.hit().strikes == 0


@pytest.mark.parametrize("verb", ["unban", "reset"])
def test_lifting_and_resetting_here_clear_at_once(verb: str) -> None:
    world = World(Policy("p", [Threshold(1, "1h", burst=2, ban="1h")]))
    for _ in range(5):
        world.hit()
    getattr(world.hammer, verb)(KEY, "p")
    assert world.hit()


def test_a_peek_neither_reads_the_cache_nor_counts_in_it() -> None:
    world = World(Policy("p", [THROTTLE, AWAKE]))
    world.hit()
    world.hit()
    for _ in range(3):
        assert world.hammer.peek(KEY, "p").verdict == "throttled"
    assert world.calls == 5
    assert not any(charge.owed for charge in world.store.told)
    Fronted(store=world.store).forget(KEY, world.policy, strikes=True)
    assert world.hammer.peek(KEY, "p")
    assert not world.hit()


def test_a_denial_under_other_rules_of_that_name_is_asked_again() -> None:
    world = World(Policy("p", [Threshold(1, "1h")]))
    world.hit()
    world.hit()
    changed = BanHammer([Policy("p", [Threshold(1, "1h"), AWAKE])], backend=world.backends[0], clock=world.clock)
    for decision in (changed.hit(KEY, "p"), changed.hit_many([Hit(KEY, "p")])[0]):
        assert decision is not None
        assert (decision.verdict, decision.retry_after) == ("throttled", 3_600.0)
    assert world.calls == 3
    assert world.hit().retry_after == 3_600.0
    assert world.calls == 4


def test_a_forked_child_leaves_to_its_parent_what_the_parent_swallowed() -> None:
    world = World(Policy("p", [THROTTLE, AWAKE]))
    for _ in range(9):
        world.hit()
    with warnings.catch_warnings(action="ignore"):  # Python 3.12 warns of any fork beside threads.
        child = os.fork()
    if not child:
        try:
            world.hit()
            world.wait(SECOND)
            world.hit()
            os._exit(any(charge.owed for charge in world.store.told) or world.calls != 4)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    world.wait(SECOND)
    assert [charge.owed.late for charge in world.store.told if charge.owed] == [7]


def test_the_cache_is_bounded_and_the_oldest_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denials, "MAX_ENTRIES", 10)
    world = World(Policy("p", [Threshold(1, "1h", ban="1h")]))
    for number in range(25):
        world.hit(key=f"k{number}")
        world.hit(key=f"k{number}")
    for number in (24, 15, 14, 0):
        calls = world.calls
        world.hit(key=f"k{number}")
        assert (world.calls == calls) is (number >= 15)


def test_threads_that_crowd_a_full_cache_raise_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(denials, "MAX_ENTRIES", 2)
    cache, policy = denials.DenialCache(), Policy("p", [THROTTLE])
    reply = Reply("throttled", START, Record((START + SECOND,)))

    def crowd(number: int) -> None:
        for turn in range(3_000):
            cache.learn(Hit(f"{number}-{turn}", "p"), policy, reply, START, 0)

    together(crowd, threads=4)
    assert cache.holds(policy)
