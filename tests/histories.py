"""What concurrent callers were told, and whether some one-at-a-time order explains it, bit for bit (G13, G14).

A decision keeps when the store decided and the record that it left, so an order is not searched for: from the record
of a fresh key on, `core` replays every event at its own time, and what it makes must be what was told. Only where two
could be next does it matter which one is tried first; one that changes nothing never stands in another's way.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from banhammer import Decision, Hit, Policy, core
from banhammer.core import FRESH
from banhammer.model import Record

Place = tuple[str, str]
"""A key, and the name of a policy."""


class Event(NamedTuple):
    """One hit as its caller saw it: from `start` to `end` (ns, on the one clock of all processes), decided at `now`."""

    start: int
    end: int
    key: str
    policy: str
    cost: int
    guard: bool
    now: int
    verdict: str
    tripped: tuple[int, ...]
    record: tuple[Any, ...]
    degraded: bool

    @property
    def place(self) -> Place:
        """Which record it is about."""
        return self.key, self.policy


def event_of(hit: Hit, decision: Decision | None, start: int, end: int) -> Event:
    """Return what the caller of a hit was told. Raises `AssertionError` where that is about another hit."""
    assert decision is not None
    assert (decision.key, decision.policy) == (hit.key, hit.policy)
    return Event(
        start, end, hit.key, hit.policy, hit.cost, hit.guard, decision._now, decision.verdict, decision.tripped,
        decision._full.astuple(), decision.degraded,
    )  # fmt: skip


@dataclass(slots=True)
class Findings:
    """What a checked history holds.

    `crossings` counts (key, policy, threshold); `degraded` counts denials that asked no store, which need no
    explanation; `left` is the last record of each key under each policy.
    """

    hits: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    crossings: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    too_many: int = 0
    unexplained: list[Event] = field(default_factory=list)
    degraded: int = 0
    left: dict[Place, Record] = field(default_factory=dict)

    def __str__(self) -> str:
        told = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(self.verdicts.items()))
        return (
            f"{self.hits:,} hits ({told}; {sum(self.crossings.values()):,} crossings), {self.too_many} units too many, "
            f"{len(self.unexplained)} unexplained, {self.degraded} degraded"
        )

    def add(self, other: Findings) -> None:
        """Count another history's findings too."""
        self.hits += other.hits
        self.verdicts += other.verdicts
        self.crossings += other.crossings
        self.too_many += other.too_many
        self.unexplained += other.unexplained
        self.degraded += other.degraded


def check(policies: Mapping[str, Policy], events: Iterable[Event]) -> Findings:
    """Return what was found in a history of keys that nobody had hit before."""
    findings = Findings()
    for place, found in by_place(events).items():
        policy = policies[place[1]]
        findings.hits += len(found)
        findings.verdicts.update(event.verdict for event in found)
        findings.crossings.update((*place, index) for event in found for index in event.tripped)
        findings.degraded += sum(event.degraded and event.verdict != "allowed" for event in found)
        findings.too_many += too_many(policy, found)
        chain = Chain(policy, [event for event in found if not event.degraded or event.verdict == "allowed"])
        findings.unexplained += chain.follow()
        findings.left[place] = chain.record
    return findings


def by_place(events: Iterable[Event]) -> dict[Place, list[Event]]:
    """Return the events of each record."""
    places: defaultdict[Place, list[Event]] = defaultdict(list)
    for event in events:
        places[event.place].append(event)
    return dict(places)


def too_many(policy: Policy, events: Sequence[Event]) -> int:
    """Return the units admitted beyond `burst` and one each T of the time that it all took (G1): 0, counted outside."""
    admitted = [event for event in events if event.verdict == "allowed" and not event.guard]
    if not admitted:
        return 0
    units = sum(event.cost for event in admitted)
    window = (max(event.end for event in admitted) - min(event.start for event in admitted)) // 1_000 + 1
    throttles = [level for level in policy.thresholds if not level.ban]
    return max([0, *(units - level.burst - window // level.interval for level in throttles)])


class Chain:
    """The events of one record, put in an order in which each makes of the record what its caller was told."""

    def __init__(self, policy: Policy, events: Sequence[Event]) -> None:
        self.record = FRESH
        self._policy = policy
        self._events = sorted(events, key=_likely)
        self._placed = [False] * len(events)
        self._by_end = sorted(range(len(events)), key=lambda index: self._events[index].end)
        self._first = self._first_to_end = 0
        self._guards: list[int] = []
        self._leaving: defaultdict[tuple[Any, ...], list[int]] = defaultdict(list)
        for index, event in enumerate(self._events):
            idle = self._guards if event.guard and event.verdict == "allowed" else self._leaving[event.record]
            idle.append(index)

    def follow(self) -> list[Event]:
        """Place every event; return those that no order explains, each taken at its word so that the rest can be."""
        unexplained = []
        while (first := self._next_unplaced()) is not None:
            for index in self._candidates():
                after = self._after(index)
                if after is not None:
                    break
            else:
                index, after = first, Record(*self._events[first].record)
                unexplained.append(self._events[first])
            if after != self.record:
                self._place_the_idle()
            self._placed[index] = True
            self.record = after
        return unexplained

    def _next_unplaced(self) -> int | None:
        while self._first < len(self._events) and self._placed[self._first]:
            self._first += 1
        return self._first if self._first < len(self._events) else None

    def _candidates(self) -> Iterator[int]:
        """Yield what may come next, the likeliest first: what began before anything that is left had ended."""
        latest = self._latest_start()
        for index in range(self._first, len(self._events)):
            if not self._placed[index] and self._events[index].start <= latest:
                yield index

    def _latest_start(self) -> int:
        while self._placed[self._by_end[self._first_to_end]]:
            self._first_to_end += 1
        return self._events[self._by_end[self._first_to_end]].end

    def _after(self, index: int) -> Record | None:
        """Return the record after an event, were it the next one, or `None` where it was told something else."""
        event = self._events[index]
        reply = core.evaluate(self._policy, self.record, event.cost, event.now, guard=event.guard)
        told = (event.verdict, event.tripped, event.record)
        if (reply.verdict, reply.tripped, reply.record.astuple()) != told:
            return None
        return reply.record if reply.counted else self.record

    def _place_the_idle(self) -> None:
        """Place what saw the record as it stands now, before it changes, and left it alone."""
        self._guards = [index for index in self._guards if not self._placed[index]]
        idle = {*self._leaving[self.record.astuple()], *self._guards}
        for index in sorted(idle, key=lambda index: self._events[index].end):  # Each may make way for the next.
            begun = self._events[index].start <= self._latest_start()
            if not self._placed[index] and begun and self._after(index) == self.record:
                self._placed[index] = True


def _likely(event: Event) -> tuple[Any, ...]:
    """Return the place in time; of what was decided at one instant, first what left the smaller record."""
    tats, over, strikes, banned_until, _, rings = event.record
    return event.now, strikes, banned_until, sum(tats), over, rings, event.start
