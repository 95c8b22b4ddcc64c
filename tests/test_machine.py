"""A machine that plays every verb on both shells and on the reference, and compares all that they say."""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import Coroutine
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from banhammer import AsyncBanHammer, BanHammer, Decision, Hit, Policy, UnknownPolicyError
from banhammer.backends.memory import MemoryBackend
from banhammer.model import Ban, Escalation, Status
from banhammer.testing import ManualClock
from machine_rules import START, costs, policies, steps, steps_back
from reference import ReferenceHammer

KEYS = ("203.0.113.9", "acct:7")
ALLOWED, DENIED, BOTH = "friend", "foe", "both"
EVERY_VARIANT: dict[str, dict[str, Any]] = {
    "alpha": {"allow": [ALLOWED], "track": (), "forgive_after": "90us", "mode": None},
    "beta": {"deny": [DENIED], "track": ("12s", "1200us"), "forgive_after": "3s"},
}
FIELDS = (
    "allowed", "verdict", "key", "policy", "strikes", "banned_until", "remaining", "threshold", "limit",
    "retry_after", "reset_after", "listed", "shadow", "degraded",
)  # fmt: skip
BAN_FIELDS = ("key", "policy", "threshold", "strikes", "since", "until")

keys = st.sampled_from([*KEYS, *KEYS, *KEYS, ALLOWED, DENIED, BOTH])
NAMES = tuple(EVERY_VARIANT)
names = st.sampled_from(NAMES)
batches = st.lists(
    st.builds(lambda key, name, cost, guard: Hit(key, name, cost=cost, guard=guard), keys, names, costs, st.booleans()),
    max_size=6,
)
plain_batches = st.builds(
    lambda name, keys: [Hit(key, name) for key in keys], names, st.lists(st.sampled_from(KEYS), max_size=8)
)


class Note:
    """An action that writes down what it is called with."""

    def __init__(self, ran: list[tuple[str, str, int, str]]) -> None:
        self.ran = ran

    def run(self, escalation: Escalation) -> None:
        self.ran.append((escalation.key, escalation.policy, escalation.threshold, escalation.verdict))

    lift = run


class Machine(RuleBasedStateMachine):
    """Two shells with a store each, and the reference, at one hand-moved clock."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(START)
        self.runner = asyncio.Runner()
        self.stores = (MemoryBackend(), MemoryBackend())
        self.ran: list[list[tuple[str, str, int, str]]] = [[], []]
        self.expected: list[tuple[str, str, int, str]] = []
        self.hammers: list[tuple[BanHammer, AsyncBanHammer]] = []
        self.stepped_back = False
        self.version = 0
        self.boundaries: list[int] = []

    @initialize(
        variants=st.tuples(
            *(
                st.tuples(policies(name, **every), policies(name, **every), policies(name, **every))
                for name, every in EVERY_VARIANT.items()
            )
        ),
        listed=st.booleans(),
    )
    def begin(self, variants: tuple[tuple[Policy, ...], ...], listed: bool) -> None:
        self.rules = list(zip(*map(longest_second, variants), strict=True))
        self.lists: dict[str, Any] = {"allow": [BOTH], "deny": [DENIED, BOTH]} if listed else {}
        for each in self.rules:
            self.hammers.append(
                (
                    BanHammer(
                        each,
                        backend=self.stores[0],
                        actions={"note": Note(self.ran[0])},
                        clock=self.clock,
                        **self.lists,
                    ),
                    AsyncBanHammer(
                        each,
                        backend=self.stores[1],
                        actions={"note": Note(self.ran[1])},
                        clock=self.clock,
                        **self.lists,
                    ),
                )
            )
        self.hammer, self.twin = self.hammers[0]
        self.reference = ReferenceHammer(self.rules[0], **self.lists)

    def awaited(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(coroutine)

    @rule(step=steps)
    def time_passes(self, step: int) -> None:
        self.clock.move_to(self.clock.now + step)

    @rule(step=steps_back)
    def the_clock_steps_back(self, step: int) -> None:
        self.stepped_back = True
        self.clock.move_to(self.clock.now + step)

    @precondition(lambda self: self.boundaries)
    @rule(data=st.data(), near=st.sampled_from([-1, 0, 0, 1]))
    def time_comes_to_where_something_ends(self, data: st.DataObject, near: int) -> None:
        at = data.draw(st.sampled_from(self.boundaries[-4:])) + near
        self.stepped_back = self.stepped_back or at < self.clock.now
        self.clock.move_to(at)

    @precondition(lambda self: self.version < 2)
    @rule()
    def the_policies_change(self) -> None:
        """G16: another hammer on the same store, with other thresholds."""
        self.version += 1
        self.hammer, self.twin = self.hammers[self.version]
        self.reference.policies = {policy.name: policy for policy in self.rules[self.version]}

    @rule(key=keys, name=names, cost=costs)
    def hit(self, key: str, name: str, cost: int) -> None:
        peeked = self.peeked(key, name, cost)
        decision = self.hammer.hit(key, name, cost)
        assert decision == self.awaited(self.twin.hit(key, name, cost))
        assert decision == peeked
        self.compare(decision, self.reference.hit(key, name, cost, self.clock.now))

    @rule(key=keys, name=names)
    def a_burst_of_hits(self, key: str, name: str) -> None:
        for _ in range(6):
            self.hit(key, name, 1)

    @rule(key=keys, name=names, cost=costs)
    def guard(self, key: str, name: str, cost: int) -> None:
        before = self.stored()
        decision = self.hammer.guard(key, name, cost)
        assert decision == self.awaited(self.twin.guard(key, name, cost))
        self.compare(decision, self.reference.guard(key, name, cost, self.clock.now))
        if decision.verdict == "allowed":
            assert self.stored() == before

    @rule(key=keys, name=names, cost=costs)
    def peek(self, key: str, name: str, cost: int) -> None:
        decision = self.peeked(key, name, cost)
        assert decision == self.awaited(self.twin.peek(key, name, cost))
        self.compare(decision, self.reference.copy().hit(key, name, cost, self.clock.now), counted=False)

    @rule(hits=st.one_of(batches, plain_batches), stop=st.booleans())
    def hit_many(self, hits: list[Hit], stop: bool) -> None:
        decisions = self.hammer.hit_many(hits, stop)
        assert decisions == self.awaited(self.twin.hit_many(hits, stop))
        answers = self.reference.hit_many(hits, stop, self.clock.now)
        assert len(decisions) == len(answers)
        for decision, answer in zip(decisions, answers, strict=True):
            assert (decision is None) == (answer is None)
            if decision is not None:
                self.compare(decision, answer)

    @rule(
        key=keys,
        name=names,
        duration=st.sampled_from([None, None, "7us", "90us", "3s", "forever"]),
        threshold=st.sampled_from([None, None, 0, 1, 2]),
    )
    def ban(self, key: str, name: str, duration: str | None, threshold: int | None) -> None:
        arguments = (key, name, duration, threshold, "by hand")
        try:
            wanted = self.reference.ban(*arguments, now=self.clock.now)
        except ValueError:
            with pytest.raises(ValueError):
                self.hammer.ban(*arguments)
            with pytest.raises(ValueError):
                self.awaited(self.twin.ban(*arguments))
            return
        self.compare_bans(self.hammer.ban(*arguments), self.awaited(self.twin.ban(*arguments)), wanted)
        self.expect(key, name, wanted["escalations"], by_hand=True)

    @rule(key=keys, name=names)
    def unban(self, key: str, name: str) -> None:
        wanted = self.reference.unban(key, name, self.clock.now)
        lifted, also = self.hammer.unban(key, name), self.awaited(self.twin.unban(key, name))
        assert (lifted is None, also is None) == (wanted is None, wanted is None)
        if wanted is not None:
            self.compare_bans(lifted, also, wanted)
            self.expect(key, name, wanted["escalations"], by_hand=True)

    @rule(key=keys, name=names, strikes=st.booleans())
    def reset(self, key: str, name: str, strikes: bool) -> None:
        self.hammer.reset(key, name, strikes)
        self.awaited(self.twin.reset(key, name, strikes))
        self.reference.reset(key, name, strikes, now=self.clock.now)

    @rule(key=keys, name=names, cost=st.sampled_from([0, -1, True, 1.0, 1_000_001]))
    def a_cost_out_of_range_is_refused(self, key: str, name: str, cost: Any) -> None:
        before = self.stored()
        for call in (self.hammer.hit, self.hammer.guard, self.hammer.peek):
            with pytest.raises(ValueError):
                call(key, name, cost)
        with pytest.raises(ValueError):
            self.hammer.hit_many([Hit(key, name), Hit(key, name, cost=cost)])
        with pytest.raises(UnknownPolicyError):
            self.hammer.hit_many([Hit(key, name), Hit(key, "gamma")])
        assert self.stored() == before

    @invariant()
    def every_status_is_the_same(self) -> None:
        if not self.hammers:
            return
        shown = {(each.key, each.policy): each for each in self.hammer.status_all()}
        for name in NAMES:
            for key in (*KEYS, ALLOWED, DENIED, BOTH):
                status = self.hammer.status(key, name)
                wanted = self.reference.status(key, name, self.clock.now)
                self.compare_statuses(status, wanted)
                known = status.strikes or status.banned_until or any(status.tats) or any((status.rates or {}).values())
                if known or not self.stepped_back:
                    assert ((key, name) in shown) == bool(known)
                assert shown.get((key, name), status) == status
        wanted_bans = [tuple(ban[each] for each in BAN_FIELDS) for ban in self.reference.bans(self.clock.now)]
        assert sorted(map(described, self.hammer.bans())) == sorted(wanted_bans)

    def teardown(self) -> None:
        for hammer, twin in self.hammers:
            assert hammer.drain(5)
            assert self.awaited(twin.drain(5))
            hammer.close()
            self.awaited(twin.close())
        self.runner.close()
        for ran in self.ran:
            assert sorted(ran) == sorted(self.expected)

    def stored(self) -> tuple[Any, ...]:
        return tuple(
            (
                copy.deepcopy({name: table for name, table in store._tables.items() if table}),
                list(store._details),
                copy.deepcopy(store._leaving._heaps),
                len(store),
            )
            for store in self.stores
        )

    def peeked(self, key: str, name: str, cost: int) -> Decision:
        before = self.stored()
        decision = self.hammer.peek(key, name, cost)
        assert self.stored() == before
        return decision

    def compare(self, decision: Decision, answer: dict[str, Any] | None, *, counted: bool = True) -> None:
        assert answer is not None
        assert {name: getattr(decision, name) for name in FIELDS} == {name: answer[name] for name in FIELDS}
        assert decision.tripped == tuple(index for index, _ in answer["escalations"])
        assert bool(decision) is decision.allowed
        self.compare_rates(decision.rates, answer["rates"])
        if counted:
            self.expect(decision.key, decision.policy, answer["escalations"])
        now = self.clock.now
        for wait in (decision.retry_after, decision.reset_after):
            if wait < math.inf:
                self.boundaries.append(now + round(wait * 1e6))

    def compare_rates(self, rates: dict[str, int] | None, wanted: dict[str, int] | None) -> None:
        if not self.stepped_back or not rates:
            assert rates == wanted
            return
        assert wanted is not None
        assert list(rates) == list(wanted)
        assert all(0 <= rates[window] <= wanted[window] for window in rates)

    def compare_bans(self, ban: Ban, twin: Ban, wanted: dict[str, Any]) -> None:
        assert described(ban) == described(twin) == tuple(wanted[name] for name in BAN_FIELDS)
        if ban.until < math.inf:
            self.boundaries.append(round(ban.until * 1e6))
            self.boundaries.append(round(ban.until * 1e6) + self.hammer.policies[ban.policy].forgive_after)

    def compare_statuses(self, status: Status, wanted: dict[str, Any]) -> None:
        for name in ("key", "policy", "strikes", "banned_until", "level", "tats", "over", "remaining", "reset_after"):
            assert getattr(status, name) == wanted[name], name
        self.compare_rates(status.rates, wanted["rates"])
        assert (status.ban is None) == (wanted["ban"] is None)
        if status.ban is not None:
            assert described(status.ban) == tuple(wanted["ban"][name] for name in BAN_FIELDS)

    def expect(self, key: str, name: str, escalations: list[tuple[int, str]], *, by_hand: bool = False) -> None:
        policy = self.hammer.policies[name]
        if policy.mode != "shadow" and not (by_hand and policy.top < 0):  # By hand, without a ladder, no action runs.
            self.expected.extend((key, name, index, verdict) for index, verdict in escalations)


def longest_second(variants: tuple[Policy, ...]) -> tuple[Policy, ...]:
    """Order versions of a policy so that none grows again after it shrank.

    What becomes of the level of a ban whose threshold was dropped and came back, the rules leave open.
    """
    longest = max(variants, key=lambda each: len(each.thresholds))
    first, last = (each for each in variants if each is not longest)
    return (first, longest, last)


def described(ban: Ban) -> tuple[Any, ...]:
    return tuple(getattr(ban, name) for name in BAN_FIELDS)


TestMachine = Machine.TestCase
