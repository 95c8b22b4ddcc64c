"""Over processes, threads and tasks, every key is decided as if its hits had come one at a time (G13, G14).

`HYPOTHESIS_PROFILE=long` makes 1,000,000 hits on each store, and prints what came of them.
"""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from banhammer import BanHammer, Policy, Threshold, core
from differential_stores import STORES, Store
from histories import Event, Findings, check
from histories_crew import PROCESSES, Crew, History, Plan

pytest_plugins = ("redis_store_fixtures", "memcached_fixtures")

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
HITS, EACH = (500_000, 300) if LONG else (1, 20)
"""How many hits are made on each store by threads, and by tasks; and by a process on each key, at a time."""
SHELLS = {"threads": (False, 4), "tasks": (True, 64)}
"""Whether hits are awaited, and from how many threads or tasks of each process they come."""
BUDGET = 30
MIXED = (
    Policy("budget", [Threshold(BUDGET, "60d", actions=["note"])]),
    Policy(
        "drains",
        [
            Threshold(400, "1s", burst=10, actions=["note"]),
            Threshold(30, "100ms", actions=["note"]),
            Threshold(5_000, "10s", burst=50),
        ],
    ),
    Policy(
        "bans",
        [
            Threshold(200, "1s", burst=10, ban=["10ms", "30ms"], actions=["note"]),
            Threshold(400, "1s", burst=25, ban="60ms", actions=["note"]),
        ],
        forgive_after="50ms",
    ),
    Policy(
        "both",
        [Threshold(400, "1s", burst=8, actions=["note"]), Threshold(600, "1s", burst=30, ban="20ms", actions=["note"])],
        track=["120ms"],
        forgive_after="1s",
    ),
)
"""Three of them drain, ban and forgive while they are hit."""
ONE, MANY = (1, 100, 75), (200, 1, 1)
"""How many keys, how often each process hits each of them, and the burst: the higher ban threshold is crossed too."""
CASES = {"one key": (ONE, False), "one key, caching": (ONE, True), "200 keys, caching": (MANY, True)}


@pytest.fixture(scope="session")
def crew() -> Iterator[Crew]:
    with Crew() as crew:
        yield crew


@pytest.fixture(params=["memory", "redis", "cluster", "memcached"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    store = STORES[request.param](request)
    store.emptied()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6 if store.url == "memory://" else before)  # Threads change places at every chance.
    yield store
    sys.setswitchinterval(before)
    store.backend.close()


@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_some_order_explains_all_that_was_told(
    store: Store, crew: Crew, shell: tuple[bool, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """Hits, guards, costs and batches at real time: bit for bit what `core` makes of them one at a time."""
    began = time.monotonic()
    total = Findings()
    while total.hits < HITS:
        keys = tuple(f"k{total.hits}-{number}" for number in range(8))
        plan = Plan(store.url, *shell, MIXED, keys, EACH, mixed=True)
        history = crew.history(plan, store.backend)
        findings = explained(plan, history, store)
        assert set(findings.verdicts) == {"allowed", "throttled", "banned"}
        assert units(history, "budget") == dict.fromkeys(keys, BUDGET)
        total.add(findings)
    if LONG:
        with capsys.disabled():
            print(f"\n{store.url.partition(':')[0]}: {total} in {time.monotonic() - began:.0f} s")


@pytest.mark.parametrize(("size", "cache"), CASES.values(), ids=CASES)
@pytest.mark.parametrize("shell", SHELLS.values(), ids=SHELLS)
def test_a_fleet_decides_as_one(
    store: Store, crew: Crew, shell: tuple[bool, int], size: tuple[int, int, int], cache: bool
) -> None:
    """As many units as fit, one strike, and one escalation for each crossing, also beside denial caches."""
    count, each, burst = size
    plan = Plan(store.url, *shell, nothing_drains(burst), tuple(f"k{n}" for n in range(count)), each, cache=cache)
    history = crew.history(plan, store.backend)
    decided = Counter(event.place for event in history.events if not event.degraded)
    assert store.bounded or decided == dict.fromkeys(plan.places, PROCESSES * each)
    assert {event.record[2] for event in history.events} == {0, 1}
    for policy in plan.policies:
        assert units(history, policy.name) == dict.fromkeys(plan.keys, burst)
    crossed = {(key, "throttle", 0) for key in plan.keys} | {(key, "ban", n) for key in plan.keys for n in (0, 1)}
    ids = {(one.key, one.policy, one.threshold): one.id for one in history.escalations}
    assert ids.keys() == crossed
    assert len(history.escalations) == len(set(ids.values())) == len(crossed)
    if not cache:
        explained(plan, history, store)
    with BanHammer(plan.policies, **plan.settings(store.backend, [])) as hammer:
        for place in plan.places:
            status = hammer.status(*place)
            counted = (status.rates or {})["30d"]
            assert counted <= decided[place]
            assert cache or counted == decided[place]
            assert (status.ban is not None) == (place[1] == "ban")
            if status.ban is not None:
                assert (status.strikes, status.level, status.ban.id) == (1, 1, ids[(*place, 1)])


def nothing_drains(burst: int) -> tuple[Policy, ...]:
    """Return a throttle, and a ladder of two bans whose higher threshold is twice the lower."""
    levels = [Threshold(burst * n, "60d", ban=f"{n}d", actions=["note"]) for n in (1, 2)]
    throttle = Policy("throttle", [Threshold(burst, "60d", actions=["note"])], track=["30d"])
    return throttle, Policy("ban", levels, track=["30d"])


def units(history: History, policy: str) -> Counter[str]:
    """Return the units that were admitted to each key."""
    admitted: Counter[str] = Counter()
    for event in history.events:
        if event.policy == policy and event.verdict == "allowed" and not event.guard:
            admitted[event.key] += event.cost
    return admitted


def explained(plan: Plan, history: History, store: Store) -> Findings:
    """Check a history without a denial cache, its escalations, and what it left in the store."""
    policies = {policy.name: policy for policy in plan.policies}
    findings = check(policies, history.events)
    assert (findings.too_many, findings.unexplained) == (0, [])
    assert store.bounded or not findings.degraded
    assert Counter((one.key, one.policy, one.threshold) for one in history.escalations) == findings.crossings
    assert len({one.id for one in history.escalations}) == len(history.escalations)
    for (key, name), record in findings.left.items():
        reading = store.backend.read(key, policies[name])
        assert reading.record == core.load(policies[name], record, reading.now)
    return findings


# The checker itself.


def test_a_unit_that_was_given_twice_has_no_explanation() -> None:
    findings = check({"p": CHECKED}, [*told(1, 2), told(1)[0]])
    assert len(findings.unexplained) == 1


def test_an_order_against_time_is_no_explanation() -> None:
    first, second, third = told(1, 2, 3)
    late = second._replace(start=100, end=101)
    assert len(check({"p": CHECKED}, [first, late, third]).unexplained) > 0


def test_a_unit_too_many_is_counted() -> None:
    findings = check({"p": CHECKED}, told(1, 2, 3, 4, 5, 6))
    assert (findings.too_many, len(findings.unexplained)) == (1, 1)


def test_what_was_told_at_one_instant_is_put_in_order() -> None:
    events = [event._replace(now=NOW) for event in told(1, 2, 3, 4, 5)]
    assert not check({"p": CHECKED}, events[::-1]).unexplained


CHECKED = Policy("p", [Threshold(5, "1h")])
NOW = 1_750_000_000_000_000


def told(*units: int) -> list[Event]:
    """Return hits that were all admitted at once, each told that it was so many units in all."""
    interval = CHECKED.thresholds[0].interval
    return [
        Event(0, 10, "k", "p", 1, False, NOW, "allowed", (), ((NOW + n * interval,), 0, 0, 0, 0, ()), False)
        for n in units
    ]
