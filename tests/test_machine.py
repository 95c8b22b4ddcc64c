"""A machine that plays every verb on every store, both shells, and the model, and compares all that they say (G15).

`HYPOTHESIS_PROFILE=long` takes at least 50,000 steps, and prints how many.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from banhammer import Decision, Hit, Policy
from banhammer.core import lapses_at
from banhammer.durations import DAY, FOREVER, SECOND
from banhammer.model import MAX_COST, Ban
from banhammer.testing import ManualClock
from differential import Fleet, Sides, in_store, place_of
from differential_cases import DAMAGE, KEYS
from differential_histories import HISTORIES, RULES, Step
from differential_model import Witness
from differential_stores import STORES
from machine_rules import START, costs, policies, steps, steps_back, thresholds, wide_thresholds

pytest_plugins = ("redis_store_fixtures", "memcached_fixtures")

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
EXAMPLES, STEPS = (1_300, 50) if LONG else (30, 40)
ALLOWED, DENIED, BOTH = "friend", "foe", "both"
LISTS: dict[str, dict[str, Any]] = {"alpha": {"allow": [ALLOWED]}, "beta": {"deny": [DENIED]}}
NAMES = tuple(LISTS)
VERSIONS = 3

several = st.one_of(thresholds, st.lists(wide_thresholds, min_size=1, max_size=4))
versions = st.tuples(
    *(st.lists(policies(name, several, **lists), min_size=VERSIONS, max_size=VERSIONS) for name, lists in LISTS.items())
)
keys = st.integers(0, 7)
"""Which of a history's few keys, or of the listed ones."""
names = st.sampled_from(NAMES)
batches = st.lists(st.tuples(keys, names, costs, st.booleans()), max_size=6)
plain_batches = st.builds(
    lambda name, keys: [(key, name, 1, False) for key in keys], names, st.lists(st.integers(0, 1), max_size=8)
)
durations = st.sampled_from([None, None, "7us", "90us", "3s", "5m", "forever"])
strides = st.one_of(steps, steps, st.sampled_from([5 * SECOND, 61 * SECOND, DAY]))


class Machine(RuleBasedStateMachine):
    """Every store of a fleet and the model, at one hand-moved clock; memory is what the others are compared with."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self.fleet = fleet
        self.clock = ManualClock(START)
        self.began = False

    @initialize(
        versions=versions,
        keys=st.lists(st.sampled_from(KEYS), min_size=2, max_size=4, unique=True),
        listed=st.booleans(),
        seed=st.integers(0, 2**16),
    )
    def begin(self, versions: tuple[list[Policy], ...], keys: list[str], listed: bool, seed: int) -> None:
        lists: dict[str, Any] = {"allow": [BOTH], "deny": [DENIED, BOTH]} if listed else {}
        self.versions = list(zip(*versions, strict=True))
        self.witness = Witness(self.versions[0], self.clock, **lists)
        self.model = self.witness.model
        self.sides = Sides(self.fleet, self.versions, self.clock, seed, **lists)
        self.keys = (*keys, ALLOWED, DENIED, BOTH)
        self.places = [(key, name) for key in self.keys for name in NAMES]
        self.most = dict.fromkeys(NAMES, math.inf)
        self.floor = START - 100 * SECOND
        self.fleet.steps -= 1  # This one is none.
        self.began = True

    # Time.

    @rule(step=strides)
    def time_passes(self, step: int) -> None:
        self.move_to(self.clock.now + step)

    @rule(step=steps_back)
    def the_clock_steps_back(self, step: int) -> None:
        self.move_to(self.clock.now + step)

    @precondition(lambda self: self.witness.boundaries)
    @rule(data=st.data(), near=st.sampled_from([-1, 0, 0, 1]))
    def time_comes_to_where_something_ends(self, data: st.DataObject, near: int) -> None:
        self.move_to(data.draw(st.sampled_from(self.witness.boundaries[-4:])) + near)

    @rule(key=keys, name=names, jump=st.booleans())
    def a_store_lets_go_of_what_has_lapsed(self, key: int, name: str, jump: bool) -> None:
        """G10: it cannot be observed, under whatever version, unless the clock steps back behind it."""
        stored = self.sides.first._backend._stored(self.key(key), self.witness.policies[name])  # type: ignore[attr-defined]
        end = max(lapses_at(policy, stored) for each in self.versions for policy in each if policy.name == name)
        if jump and end < FOREVER:
            self.move_to(max(end, self.clock.now))
        if end > self.clock.now:
            return
        self.floor = self.clock.now
        for side in self.sides.all:
            side.store.expire(name, self.key(key))

    @rule(version=st.integers(0, VERSIONS - 1))
    def the_policies_change(self, version: int) -> None:
        """G16: other hammers on the same stores, with other thresholds; no ban is lost, and nobody is banned.

        No policy grows again after it shrank: what becomes of the level of a ban whose threshold was dropped and came
        back, the rules leave open.
        """
        changed = {policy.name: policy for policy in self.versions[version]}
        if any(len(policy.thresholds) > self.most[name] for name, policy in changed.items()):
            return
        for name, policy in changed.items():
            if len(policy.thresholds) < len(self.witness.policies[name].thresholds):
                self.most[name] = len(policy.thresholds)
        before = [self.sides.first.status(*place).banned_until for place in self.places]
        self.sides.version = version
        self.witness.changes(self.versions[version])
        assert [self.sides.first.status(*place).banned_until for place in self.places] == before

    # Hits.

    @rule(key=keys, name=names, cost=costs)
    def hit(self, key: int, name: str, cost: int) -> None:
        self.decided("hit", self.key(key), name, cost)

    @rule(key=keys, name=names, times=st.integers(2, 12))
    def a_burst_of_hits(self, key: int, name: str, times: int) -> None:
        for _ in range(times):
            self.decided("hit", self.key(key), name, 1)

    @rule(key=keys, name=names, cost=costs)
    def guard(self, key: int, name: str, cost: int) -> None:
        before = self.sides.held(name, self.key(key))
        decision = self.decided("guard", self.key(key), name, cost)
        if decision.verdict == "allowed":
            assert self.sides.held(name, self.key(key)) == before

    @rule(key=keys, name=names, cost=costs)
    def a_peek_tells_what_the_hit_would_and_changes_nothing(self, key: int, name: str, cost: int) -> None:
        """G5."""
        before = self.sides.held(name, self.key(key))
        peeked = self.peeked(self.key(key), name, cost)
        assert self.sides.held(name, self.key(key)) == before
        assert self.decided("hit", self.key(key), name, cost) == peeked

    @rule(key=keys, name=names, cost=costs)
    def a_decision_keeps_its_word(self, key: int, name: str, cost: int) -> None:
        """G8, G9: of `retry_after`, `remaining` and `reset_after`."""
        place = (self.key(key), name)
        decision = self.decided("hit", *place, cost)
        if decision.remaining is None:
            return
        if 0 < decision.retry_after < math.inf:
            wait = round(decision.retry_after * 1e6)
            with self.after(wait - 1):
                assert self.peeked(*place, cost).verdict != "allowed"
            with self.after(wait):
                assert self.peeked(*place, cost).verdict == "allowed"
        if decision.remaining:
            assert self.peeked(*place, min(decision.remaining, MAX_COST)).verdict == "allowed"
        if decision.remaining < MAX_COST:
            assert self.peeked(*place, decision.remaining + 1).verdict != "allowed"
        if decision.reset_after < math.inf:
            with self.after(round(decision.reset_after * 1e6)):
                peeked, fresh = self.peeked(*place, 1), self.peeked("never seen", name, 1)
                assert (peeked.verdict, peeked.remaining) == (fresh.verdict, fresh.remaining)

    @rule(batch=st.one_of(batches, plain_batches), times=st.sampled_from([1, 1, 1, 1, 1, 50]), stop=st.booleans())
    def hit_many(self, batch: list[tuple[int, str, int, bool]], times: int, stop: bool) -> None:
        """Up to three calls of the script, when its 128 hits are passed."""
        hits = [Hit(self.key(key), name, cost=cost, guard=guard) for key, name, cost, guard in batch] * times
        decisions = self.sides.call("hit_many", hits, stop)
        answers = self.model.hit_many(hits, stop, self.clock.now)
        assert len(decisions) == len(answers)
        for decision, answer in zip(decisions, answers, strict=True):
            assert (decision is None) == (answer is None)
            if decision is not None:
                self.witness.decided(decision, answer)

    @rule(key=keys, name=names, cost=st.sampled_from([0, -1, True, 1.0, 1_000_001]))
    def what_is_no_hit_is_refused(self, key: int, name: str, cost: Any) -> None:
        """G7: before anything is touched."""
        before = self.sides.held(name, self.key(key))
        for verb in ("hit", "guard", "peek"):
            self.sides.refuse(verb, self.key(key), name, cost)
        self.sides.refuse("hit_many", [Hit(self.key(key), name), Hit(self.key(key), name, cost=cost)])
        self.sides.refuse("hit_many", [Hit(self.key(key), name), Hit(self.key(key), "gamma")])
        assert self.sides.held(name, self.key(key)) == before

    # Operators.

    @rule(
        key=keys,
        name=names,
        duration=durations,
        threshold=st.sampled_from([None, None, 0, 1, 2]),
        reason=st.sampled_from(["", "by|hand \u00e9"]),
    )
    def ban(self, key: int, name: str, duration: str | None, threshold: int | None, reason: str) -> None:
        arguments = (self.key(key), name, duration, threshold, reason)
        try:
            wanted = self.model.ban(*arguments, now=self.clock.now)
        except ValueError:
            self.sides.refuse("ban", *arguments)
            return
        self.witness.banned(self.sides.call("ban", *arguments), wanted)
        self.stored(key, name)

    @rule(key=keys, name=names)
    def unban(self, key: int, name: str) -> None:
        wanted = self.model.unban(self.key(key), name, self.clock.now)
        lifted: Ban | None = self.sides.call("unban", self.key(key), name)
        assert (lifted is None) == (wanted is None)
        self.witness.freed(self.key(key), name)
        if lifted is not None and wanted is not None:
            self.witness.banned(lifted, wanted)
        self.stored(key, name)

    @rule(key=keys, name=names, strikes=st.booleans())
    def reset(self, key: int, name: str, strikes: bool) -> None:
        self.sides.call("reset", self.key(key), name, strikes)
        self.forgotten(key, name, strikes=strikes)
        self.stored(key, name)

    @rule(key=keys, name=names, wrong=st.sampled_from(DAMAGE))
    def a_record_is_damaged(self, key: int, name: str, wrong: bytes | None) -> None:
        """G21: it reads as absent, and is counted."""
        for side in self.sides.all:
            side.store.damage(name, self.key(key), wrong)
        self.forgotten(key, name)
        counted = [getattr(side.store.backend, "damaged", 0) for side in self.sides.all]
        self.stored(key, name)
        for side, before in zip(self.sides.all[1:], counted[1:], strict=True):
            assert side.store.backend.damaged > before, side.name

    @rule()
    def everything_is_listed(self) -> None:
        records, bans = self.sides.lists()
        self.witness.listed(bans)
        for place in self.places:
            status = self.sides.first.status(*place)
            known = status.strikes or status.banned_until or any(status.tats) or any((status.rates or {}).values())
            if known or not self.witness.loose_rates:
                assert (place_of(status) in records) == bool(known)
            assert records.get(place_of(status), in_store(status)) == in_store(status)

    @invariant()
    def every_record_is_as_the_model_has_it(self) -> None:
        """G12, G17: so a ban that was told of stands until its end, whatever the clock does."""
        if self.began:
            self.fleet.steps += 1
            for place in self.places:
                self.witness.stands(self.sides.first.status(*place))

    def teardown(self) -> None:
        if self.began:
            self.everything_is_listed()
            for place in self.places:
                self.sides.call("status", *place)
            self.sides.close()
            self.witness.told(self.sides.all[0].note.seen)

    # What the rules share.

    def key(self, index: int) -> str:
        return self.keys[index % len(self.keys)]

    def move_to(self, at: int) -> None:
        at = max(at, self.floor)
        self.witness.loose_rates |= at < self.clock.now
        self.clock.move_to(at)

    @contextmanager
    def after(self, wait: int) -> Iterator[None]:
        """Look at what will be, without having been there."""
        now = self.clock.now
        self.clock.move_to(now + wait)
        yield
        self.clock.move_to(now)

    def decided(self, verb: str, key: str, name: str, cost: int) -> Decision:
        decision: Decision = self.sides.call(verb, key, name, cost)
        self.witness.decided(decision, getattr(self.model, verb)(key, name, cost, self.clock.now))
        return decision

    def peeked(self, key: str, name: str, cost: int) -> Decision:
        decision: Decision = self.sides.call("peek", key, name, cost)
        self.witness.decided(decision, self.model.copy().hit(key, name, cost, self.clock.now), counted=False)
        return decision

    def stored(self, key: int, name: str) -> None:
        """Compare the record that an operator's verb left, which tells nothing of it."""
        self.sides.call("status", self.key(key), name)

    def forgotten(self, key: int, name: str, *, strikes: bool = True) -> None:
        self.model.reset(self.key(key), name, strikes, now=self.clock.now)
        self.witness.freed(self.key(key), name)


@pytest.fixture
def fleet(request: pytest.FixtureRequest) -> Iterator[Fleet]:
    fleet = Fleet({name: opened(request) for name, opened in STORES.items()})
    yield fleet
    fleet.close()


@pytest.mark.parametrize("history", HISTORIES.values(), ids=HISTORIES)
def test_what_could_easily_differ_does_not(fleet: Fleet, history: list[Step]) -> None:
    """The key is one whose name is cut."""
    machine = Machine(fleet)
    machine.begin(versions=RULES, keys=[KEYS[-1], KEYS[0]], listed=False, seed=0)
    for name, arguments in history:
        getattr(machine, name)(**arguments)
        machine.every_record_is_as_the_model_has_it()
    machine.teardown()


def test_every_store_decides_as_the_model(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    run_state_machine_as_test(
        lambda: Machine(fleet), settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS)
    )
    if LONG:
        with capsys.disabled():
            print(f"\n{fleet.steps:,} steps, {fleet.calls:,} calls, on {', '.join(fleet.stores)}")
        assert fleet.steps >= 50_000
