"""A shared store without a server: the core over a dictionary behind the `Front` of all shared stores."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from banhammer import BanHammer, Decision, Policy, core
from banhammer.backends import Immediate, Now, Policies, Reading, Traits
from banhammer.backends.shared import Charge, Front, Outcome
from banhammer.backends.shortcut import Listener, Shortcut, tell
from banhammer.core import FRESH
from banhammer.errors import BackendError
from banhammer.model import Ban, Clock, Hit, Record
from banhammer.testing import ManualClock

SECOND = 1_000_000
FLUSH_EVERY = SECOND // 5
START = 1_750_000_000_000_000
KEY = "203.0.113.9"


@dataclass
class Shared:
    """A store as every process sees it: how often it was asked, and the charges, in order."""

    records: dict[tuple[str, str], Record] = field(default_factory=dict)
    calls: int = 0
    told: list[Charge] = field(default_factory=list)
    counted: list[Charge] = field(default_factory=list)
    ahead: int = 0
    """How far the store's own clock runs before that of its processes."""
    away: Callable[[Charge], bool] = lambda charge: False
    journey: Callable[[], object] = lambda: None
    """What happens between the decision and the moment when its caller hears of it."""

    def ask(self, charges: Sequence[Charge], now: Now, *, stop: bool = False) -> list[Outcome]:
        """Decide a batch as a server would; with `stop`, up to the first denial or error."""
        self.calls += 1
        outcomes: list[Outcome] = []
        for charge in charges:
            outcome = BackendError("away") if self.away(charge) else self._decide(charge, self._time(now))
            outcomes.append(outcome)
            if stop and ends(charge.policy, outcome):
                break
        self.journey()
        return outcomes

    def _time(self, now: Now) -> int:
        return tell(now) + (self.ahead if now is None else 0)

    def record(self, key: str, policy: Policy) -> Record:
        return self.records.get((policy.name, key), FRESH)

    def put(self, key: str, policy: Policy, record: Record) -> None:
        self.records[policy.name, key] = record

    def _decide(self, charge: Charge, at: int) -> core.Reply:
        self.told.append(charge)
        hit, policy = charge.hit, charge.policy
        reply = core.evaluate(policy, self.record(hit.key, policy), hit.cost, at, guard=hit.guard, owed=charge.owed)
        if not charge.peek and reply.counted:
            self.counted.append(charge)
            self.put(hit.key, policy, reply.record)
            reply.ids = tuple(f"{len(self.told)}-{index}" for index in reply.tripped)
        return reply


class Fronted:
    """The backend of one process on a `Shared` store; `tend` is a round of its keeper."""

    traits = Traits(shared=True)

    def __init__(self, *, denial_cache: bool | None = True, share: int = 1, store: Shared | None = None) -> None:
        self.store = store or Shared()
        self.front = Front(denial_cache=denial_cache, share=share)

    @property
    def aio(self) -> Immediate:
        return Immediate(self)

    def shortcuts(
        self, policy: Policy, clock: Clock | None, listener: Listener
    ) -> tuple[Shortcut | None, Shortcut | None]:
        shortcut = self.front.shortcut(policy, clock, listener)
        return shortcut, shortcut

    def evaluate(
        self, hits: Sequence[Hit], policies: Policies, *, now: Now = None, stop: bool = False, peek: bool = False
    ) -> list[core.Reply | None]:
        talk = self.front.talk(hits, policies, now=now, stop=stop, peek=peek)
        try:
            charges = next(talk)
            while True:
                charges = talk.send(self.store.ask(charges, now, stop=stop))
        except StopIteration as done:
            return done.value

    def tend(self) -> None:
        for charge, clock in list(self.front.flush()):
            (outcome,) = self.store.ask([charge], clock)
            self.front.flushed(charge, outcome)

    def ban(self, key: str, policy: Policy, *, index: int, duration: int | None, reason: str, id: str,
            now: Now = None) -> Ban:  # fmt: skip
        at = tell(now)
        record = core.ban(policy, self.store.record(key, policy), index, duration, at)
        self.store.put(key, policy, record)
        self.front.forget(key, policy)
        return Ban(key, policy.name, index, record.strikes, at / 1e6, record.banned_until / 1e6, "manual", reason, id)

    def lift(self, key: str, policy: Policy, *, now: Now = None) -> Ban | None:
        record = core.lift(policy, self.store.record(key, policy), tell(now))
        self.store.put(key, policy, record)
        self.front.forget(key, policy)
        return None

    def forget(self, key: str, policy: Policy, *, strikes: bool, now: Now = None) -> None:
        self.store.put(key, policy, FRESH if strikes else core.clear_meters(self.store.record(key, policy)))
        self.front.forget(key, policy)

    def read(self, key: str, policy: Policy, *, now: Now = None) -> Reading:
        at = tell(now)
        return Reading(key, policy.name, at, core.load(policy, self.store.record(key, policy), at), None)

    def records(self, policies: Policies, *, now: Now = None) -> Iterator[Reading]:
        return iter(())

    def bans(self, policies: Policies, *, now: Now = None) -> Iterator[Ban]:
        return iter(())

    def close(self) -> None:
        pass


class World:
    """Hammers of one or more processes on one store and one manual clock, with keepers that flush every 0.2 s."""

    def __init__(self, *policies: Policy, cache: bool = True, processes: int = 1, **settings: Any) -> None:
        self.clock = ManualClock(START)
        self.store = Shared()
        self.backends = [Fronted(denial_cache=cache, store=self.store) for _ in range(processes)]
        self.hammers = [BanHammer(policies, backend=backend, clock=self.clock, **settings) for backend in self.backends]
        self.hammer = self.hammers[0]
        self.policy = next(iter(self.hammer.policies.values()))

    @property
    def calls(self) -> int:
        return self.store.calls

    def wait(self, micros: int) -> None:
        """Let time pass, round after round of the keepers."""
        end = self.clock.now + micros
        while (tick := self.clock.now - self.clock.now % FLUSH_EVERY + FLUSH_EVERY) <= end:
            self.clock.move_to(tick)
            for backend in self.backends:
                backend.tend()
        self.clock.move_to(end)

    def hit(self, cost: int = 1, *, key: str = KEY, guard: bool = False, process: int = 0) -> Decision:
        hammer = self.hammers[process]
        return hammer.guard(key, self.policy.name, cost) if guard else hammer.hit(key, self.policy.name, cost)

    def record(self, key: str = KEY) -> Record:
        return core.load(self.policy, self.store.record(key, self.policy), self.clock.now)


def ends(policy: Policy, outcome: Outcome) -> bool:
    return isinstance(outcome, BackendError) or (outcome.verdict != "allowed" and policy.mode != "shadow")


def together(work: Callable[[int], object], *, threads: int) -> None:
    """Run `work` in threads that begin at once and are switched at every chance, and raise what any of them raised."""
    barrier = threading.Barrier(threads)
    failures: list[BaseException] = []

    def run(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    if failures:
        raise failures[0]
