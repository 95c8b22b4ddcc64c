"""Which record leaves a full store: the one that is least missed, found without scanning the store."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

from banhammer import core
from banhammer.durations import FOREVER, MINUTE
from banhammer.model import Policy, Record

_Entry = tuple[int, str, str]
"""When the record is due, its policy's name and its key."""

LEFTOVERS: Final = 0
"""Nothing that decides is left but strikes and rates; due when they lapse."""
DEBTS: Final = 1
"""A meter is still draining; due when it is empty."""
BANS: Final = 2
"""A ban is in force; due at its end."""

_Place = tuple[int, int, str, str]
"""Kind, due time, policy's name and key."""

SETTLE: Final = 64
"""How many stale entries an eviction puts right before it takes the best of those."""
SWEEP: Final = 2
"""How many lapsed records an insertion may take along: more than one, so that they always run out."""


class Leaving:
    """The order of leaving: lapsed; strikes only; debt by least `reset_after`; bans by their end.

    Three heaps of due times, one for each kind. Hits do not touch them: a record's entry may be stale, and
    is put right when it comes to the top, so that the work is paid once for each change, not for each hit.
    Called under the store's lock.
    """

    def __init__(
        self,
        max_keys: int,
        peruse: Callable[[str, str], tuple[Policy, Record] | None],
        remove: Callable[[str, str], None],
    ) -> None:
        self.max_keys = max_keys
        self.size = 0
        self.evicted_bans = 0
        self._peruse = peruse
        self._remove = remove
        self._heaps: tuple[list[_Entry], list[_Entry], list[_Entry]] = ([], [], [])
        self._orphans = 0
        self._next_sweep = FOREVER

    def has_room(self, now: int, *, real_time: bool) -> bool:
        """Return whether a record may come without one having to leave, or being due to."""
        return self.size < self.max_keys and (now < self._next_sweep or not real_time)

    def indebted(self, name: str, key: str, drained: int) -> None:
        """Take note of a new record of nothing but debt."""
        heappush(self._heaps[DEBTS], (drained, name, key))
        if drained + MINUTE < self._next_sweep:
            self._next_sweep = drained + MINUTE
        self.size += 1

    def added(self, policy: Policy, key: str, record: Record, now: int, *, again: bool = False) -> None:
        """Take note of a new record, as loaded at `now`, or of one whose due time came nearer (`again`)."""
        kind, due = _place(policy, record, now)
        heappush(self._heaps[kind], (due, policy.name, key))
        self._next_sweep = min(self._next_sweep, due + MINUTE)
        if again:
            self._orphaned()
        else:
            self.size += 1

    def removed(self) -> None:
        """Take note that the store dropped a record itself."""
        self.size -= 1
        self._orphaned()

    def make_room(self, now: int, *, real_time: bool) -> None:
        """Let one record leave if the store is full; with a real clock, also a few that have lapsed for long."""
        if self.size >= self.max_keys:
            self._evict(now)
        elif real_time and now >= self._next_sweep:
            for heap in self._heaps:
                for _ in range(SWEEP):
                    if heap and heap[0][0] + MINUTE <= now:
                        self._settle(heap, now)
            self._next_sweep = min((heap[0][0] + MINUTE for heap in self._heaps if heap), default=FOREVER)

    def _evict(self, now: int) -> None:
        """Let one record leave. Exact, unless so many entries are stale that the lock would be held for long."""
        size = self.size
        settled: list[_Place] = []
        for heap in self._heaps:
            while heap and heap[0][0] <= now and len(settled) < SETTLE:
                settled.append(self._settle(heap, now))
                if self.size < size:
                    return
        kind = LEFTOVERS
        while kind <= BANS:
            heap = self._heaps[kind]
            if not heap:
                kind += 1
                continue
            if len(settled) >= SETTLE and min(settled)[0] < BANS:
                _, _, name, key = min(settled)
                self._leave(name, key)
                self._orphaned()
                return
            due, name, key = heap[0]
            if self._find(name, key, now) == (kind, due):
                heappop(heap)
                self._leave(name, key)
                self.evicted_bans += kind == BANS
                return
            settled.append(self._settle(heap, now))
            kind = min(kind, settled[-1][0])  # A meter that a trip cleared belongs further down.
            if self.size < size:
                return

    def _settle(self, heap: list[_Entry], now: int) -> _Place:
        """Put the top entry where it belongs at `now` and return its place; a record that has lapsed leaves."""
        due, name, key = heappop(heap)
        found = self._find(name, key, now)
        if found is None:
            self._orphans -= 1
            return BANS, due, name, key
        kind, due = found
        if due <= now:
            self._leave(name, key)
        else:
            heappush(self._heaps[kind], (due, name, key))
        return kind, due, name, key

    def _find(self, name: str, key: str, now: int) -> tuple[int, int] | None:
        found = self._peruse(name, key)
        if found is None:
            return None
        policy, record = found
        return _place(policy, core.load(policy, record, now), now)

    def _leave(self, name: str, key: str) -> None:
        self._remove(name, key)
        self.size -= 1

    def _orphaned(self) -> None:
        """Count an entry without a record of its own; when they are many, drop them all."""
        self._orphans += 1
        if self._orphans <= max(self.size, 1000):
            return
        soonest: dict[tuple[str, str], tuple[int, int]] = {}
        for kind, heap in enumerate(self._heaps):
            for due, name, key in heap:
                # The least of both: an entry may come to the top too early, never too late.
                known_due, known_kind = soonest.get((name, key), (due, kind))
                soonest[name, key] = (min(due, known_due), min(kind, known_kind))
            heap.clear()
        for (name, key), (due, kind) in soonest.items():
            if self._peruse(name, key) is not None:
                self._heaps[kind].append((due, name, key))
        for heap in self._heaps:
            heapify(heap)
        self._orphans = 0


def _place(policy: Policy, record: Record, now: int) -> tuple[int, int]:
    """Return the kind of a record, as loaded at `now`, and when it is due (us)."""
    if now < record.banned_until:
        return BANS, record.banned_until
    drained = max(record.tats, default=0)
    if drained > now:
        return DEBTS, drained
    return LEFTOVERS, core.lapses_at(policy, record)
