"""The conformance kit fails each store that breaks a promise, and says which; a sound one passes."""

from __future__ import annotations

import threading
import time
import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest

from banhammer import BackendError, Policy, core
from banhammer.backends import Now, Policies, Reading, Traits
from banhammer.backends.details import by_hit, reading
from banhammer.core import Reply
from banhammer.model import Ban, Hit, Record
from banhammer.testing.conformance import Conformance
from banhammer.testing.conformance.ideal import Ideal
from banhammer.testing.conformance.stage import Opener

pytest_plugins = ("pytester",)


class Sound(Ideal):
    """The ideal store under a lock; what is stored can be damaged."""

    def __init__(self) -> None:
        super().__init__()
        self.lock: Any = threading.RLock()
        self.damaged = 0

    def evaluate(self, *arguments: Any, **named: Any) -> list[Reply | None]:
        with self.lock:
            return super().evaluate(*arguments, **named)

    def ban(self, *arguments: Any, **named: Any) -> Ban:
        with self.lock:
            return super().ban(*arguments, **named)

    def lift(self, *arguments: Any, **named: Any) -> Ban | None:
        with self.lock:
            return super().lift(*arguments, **named)

    def forget(self, key: str, policy: Policy, **named: Any) -> None:
        self._found(key, policy)
        super().forget(key, policy, **named)

    def _found(self, key: str, policy: Policy) -> Any:
        found = super()._found(key, policy)
        if isinstance(found, bytes):
            self.damaged += 1
            del self._kept[policy.name, key]
            return super()._found(key, policy)
        return found


class TestSound(Conformance):
    @pytest.fixture
    def opener(self) -> Opener:
        return Sound

    def damage(self, backend: Any, key: str, policy: Policy, junk: bytes) -> None:
        backend._kept[policy.name, key] = junk


# What is broken.


class WritesAtPeeks(Sound):
    def evaluate(self, hits: Any, policies: Any, *, peek: bool = False, **named: Any) -> list[Reply | None]:
        return super().evaluate(hits, policies, **named)


class CountsAllowedGuards(Sound):
    def evaluate(self, hits: Any, policies: Any, **named: Any) -> list[Reply | None]:
        return super().evaluate([Hit(hit.key, hit.policy, cost=hit.cost) for hit in hits], policies, **named)


class Races(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Semaphore(99)

    def _decide(self, hit: Hit, policy: Policy, now: Now, *, peek: bool) -> Reply:
        stored, known = self._found(hit.key, policy)
        time.sleep(1e-3)  # Long enough for another to come in between, on any machine.
        reply = core.evaluate(policy, stored, hit.cost, _tell(now), guard=hit.guard)
        if not peek and reply.counted:
            self._kept[policy.name, hit.key] = reply.record, by_hit(policy, stored, known, reply)
        return reply


class RepeatsIds(Sound):
    def evaluate(self, *arguments: Any, **named: Any) -> list[Reply | None]:
        replies = super().evaluate(*arguments, **named)
        for reply in replies:
            if reply is not None:
                reply.ids = ("7",) * len(reply.ids)
        return replies


class EscalatesAtEachDenial(Sound):
    def evaluate(self, *arguments: Any, **named: Any) -> list[Reply | None]:
        replies = super().evaluate(*arguments, **named)
        for reply in replies:
            if reply is not None and reply.verdict == "throttled":
                reply.tripped, reply.ids = (0,), (str(time.monotonic_ns()),)
        return replies


class DecidesBehindAStop(Sound):
    def evaluate(self, hits: Any, policies: Any, *, stop: bool = False, **named: Any) -> list[Reply | None]:
        return super().evaluate(hits, policies, **named)


class StopsAtShadow(Sound):
    def evaluate(self, hits: Any, policies: Any, *, stop: bool = False, **named: Any) -> list[Reply | None]:
        replies: list[Reply | None] = []
        for hit in hits:
            replies += super().evaluate([hit], policies, **named)
            if stop and replies[-1] is not None and replies[-1].verdict != "allowed":
                break
        return replies + [None] * (len(hits) - len(replies))


class DecidesBackwards(Sound):
    def evaluate(self, hits: Any, policies: Any, *, stop: bool = False, **named: Any) -> list[Reply | None]:
        if stop:
            return super().evaluate(hits, policies, stop=stop, **named)
        return super().evaluate(hits[::-1], policies, **named)[::-1]


class Spells(Sound):
    def _found(self, key: str, policy: Policy) -> Any:
        return super()._found(self.spelled(key), policy)

    def _decide(self, hit: Hit, policy: Policy, now: Now, *, peek: bool) -> Reply:
        return super()._decide(
            Hit(self.spelled(hit.key), hit.policy, cost=hit.cost, guard=hit.guard), policy, now, peek=peek
        )

    def spelled(self, key: str) -> str:
        raise NotImplementedError


class FoldsCase(Spells):
    def spelled(self, key: str) -> str:
        return key.lower()


class Normalizes(Spells):
    def spelled(self, key: str) -> str:
        return unicodedata.normalize("NFC", key)


class CutsLongKeys(Spells):
    def spelled(self, key: str) -> str:
        return key[:250]


class Strips(Spells):
    def spelled(self, key: str) -> str:
        return key.strip()


class ForgetsByInjectedTime(Sound):
    def _found(self, key: str, policy: Policy) -> Any:
        found = super()._found(key, policy)
        return found if core.lapses_at(policy, found[0]) > time.time_ns() // 1000 else (core.FRESH, None)


class TellsSeconds(Sound):
    def evaluate(self, *arguments: Any, now: Now = None, **named: Any) -> list[Reply | None]:
        return super().evaluate(*arguments, now=int(time.time()) if now is None else now, **named)


class IgnoresTheInjectedTime(Sound):
    def evaluate(self, *arguments: Any, now: Now = None, **named: Any) -> list[Reply | None]:
        return super().evaluate(*arguments, **named)


class ShortensBans(Sound):
    def ban(self, key: str, policy: Policy, **named: Any) -> Ban:
        self.lift(key, policy, now=named["now"])
        return super().ban(key, policy, **named)


class TakesADayForThirtyOne(Sound):
    def _decide(self, hit: Hit, policy: Policy, now: Now, *, peek: bool) -> Reply:
        reply = super()._decide(hit, policy, now, peek=peek)
        record = reply.record
        if record.banned_until - reply.now > 30 * 86_400_000_000:
            cut = Record(
                record.tats, record.over, record.strikes, reply.now + 86_400_000_000, record.level, record.rings
            )
            self._kept[policy.name, hit.key] = cut, self._kept[policy.name, hit.key][1]
        return reply


class DropsBansWithMeters(Sound):
    def forget(self, key: str, policy: Policy, **named: Any) -> None:
        super().forget(key, policy, strikes=True)


class ListsWhatEnded(Sound):
    def bans(self, policies: Policies, *, now: Now = None) -> Iterator[Ban]:
        for (name, key), (stored, known) in list(self._kept.items()):
            ban = reading(key, policies[name], stored, known, 0).ban if name in policies else None
            if ban is not None:
                yield ban


class ListsTwice(Sound):
    def records(self, policies: Policies, *, now: Now = None) -> Iterator[Reading]:
        for found in super().records(policies, now=now):
            yield from (found, found)


class SaysThatItIsShared(Sound):
    traits = Traits(shared=True)


class SaysThatItListsNothing(Sound):
    traits = Traits(lists_bans=False)


class SaysThatItIsDurable(Sound):
    traits = Traits(durable=True)


class FailsOnDamage(Sound):
    def _found(self, key: str, policy: Policy) -> Any:
        if isinstance(self._kept.get((policy.name, key)), bytes):
            raise BackendError("what is this?")
        return super()._found(key, policy)


class HidesDamage(Sound):
    def _found(self, key: str, policy: Policy) -> Any:
        found = super()._found(key, policy)
        self.damaged = 0
        return found


BROKEN: dict[type[Sound], tuple[str, str]] = {
    WritesAtPeeks: ("a_peek_changes", "a peek changes nothing"),
    CountsAllowedGuards: ("scene and guard", "an allowed guard stores nothing, a denied one is a hit"),
    Races: ("threads_or_tasks and sync", "exactly its burst is admitted"),
    RepeatsIds: ("scene and climbed", "every escalation has an id of its own"),
    EscalatesAtEachDenial: ("scene and escalates and first", "a throttle escalates on the hit that first goes over it"),
    DecidesBehindAStop: ("scene and stop and follows", "neither decided nor charged"),
    StopsAtShadow: ("scene and shadow and stops", "a policy in shadow stops no batch"),
    DecidesBackwards: ("scene and order and twice", "a batch is decided in order"),
    FoldsCase: ("influence", "is a key of its own"),
    Normalizes: ("influence", "is a key of its own"),
    CutsLongKeys: ("influence", "is a key of its own"),
    Strips: ("influence", "is a key of its own"),
    ForgetsByInjectedTime: ("nothing_leaves", "a record outlives 2,000 others"),
    TellsSeconds: ("own_clock_decides", "Reply.now is in Unix microseconds"),
    IgnoresTheInjectedTime: ("scene and far", "a store decides at the injected time"),
    ShortensBans: ("a_ban_tells", "a ban in force is never shortened"),
    TakesADayForThirtyOne: ("exactly and 31d", "a ban of 31d lasts 86400.0 s"),
    DropsBansWithMeters: (
        "scene and meters and reset",
        "reset makes a key as if never seen, or empties its meters only",
    ),
    ListsWhatEnded: ("listed_where", "bans lists no ban that has ended"),
    ListsTwice: ("listed_where", "lists each ban once"),
    SaysThatItIsShared: ("processes_share and sync", "exactly its burst is admitted"),
    SaysThatItListsNothing: ("listed_where", "DID NOT RAISE"),
    SaysThatItIsDurable: ("durable_exactly", "traits.durable says whether there are outbox and dead_letters"),
    FailsOnDamage: ("damaged_record_reads", "what is this?"),
    HidesDamage: ("damaged_record_reads", "a damaged record is counted in the store's `damaged`"),
}


@pytest.mark.parametrize("store", BROKEN, ids=lambda store: store.__name__)
def test_a_broken_promise_is_named(pytester: pytest.Pytester, store: type[Sound]) -> None:
    tests, message = BROKEN[store]
    told = run(
        pytester,
        f"class TestIt(TestSound):\n    @pytest.fixture\n    def opener(self): return kit.{store.__name__}\n",
        tests,
    )
    assert message in told


def test_a_store_of_bytes_must_say_how_it_is_damaged(pytester: pytest.Pytester) -> None:
    told = run(
        pytester,
        "class TestIt(Conformance):\n    @pytest.fixture\n    def opener(self): return kit.Sound\n",
        "damaged_record_reads",
    )
    assert "TestIt: give damage(backend, key, policy, junk), which puts junk in the place of a record; or say" in told


def test_a_store_that_counts_damage_keeps_bytes(pytester: pytest.Pytester) -> None:
    told = run(pytester, "class TestIt(TestSound):\n    keeps_bytes = False\n", "damaged_record_reads")
    assert "a store that counts damaged records keeps bytes" in told


def test_without_an_opener_each_test_says_what_it_needs(pytester: pytest.Pytester) -> None:
    assert "TestIt: give a fixture `opener` that returns what opens your store" in run(
        pytester, "class TestIt(Conformance): pass\n", "peek_changes", outcome="errors"
    )


def test_an_object_that_lacks_a_verb_is_no_store(pytester: pytest.Pytester) -> None:
    body = "class TestIt(Conformance):\n    @pytest.fixture\n    def opener(self): return object\n"
    assert "is no store: it lacks a verb of banhammer.backends.Backend" in run(
        pytester, body, "peek_changes", outcome="errors"
    )


def run(pytester: pytest.Pytester, body: str, tests: str, *, outcome: str = "failed") -> str:
    """Run some of the kit's tests on a class, and return what the failures say: there is nothing but failures."""
    head = "import pytest\nimport test_conformance_catches as kit\nfrom test_conformance_catches import Conformance\n"
    pytester.makepyfile(head + body.replace("TestSound", "kit.TestSound"))
    done = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", "-k", f"TestIt and {tests}")
    counts = done.parseoutcomes()
    counts.pop("deselected", None)
    assert counts.keys() == {outcome}, done.stdout.str()
    return done.stdout.str()


def _tell(now: Now) -> int:
    if now is None:
        return time.time_ns() // 1000
    return now if isinstance(now, int) else now()
