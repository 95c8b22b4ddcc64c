"""The memory store's short cuts: the common answers, without a batch, a reply or a lock.

A short cut answers what needs no second look (a known key whose unit simply fits, or is denied and changes
nothing) exactly as `core.evaluate` would, and returns `None` for everything else, having changed nothing.

Between loading a record (or comparing it again) and storing the new one nothing is called and nothing loops, so
under the GIL no other thread can come in between; a build without a GIL takes the store's lock. Only exact
strings are looked up: another class could run code of its own in the middle.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from threading import RLock
from time import monotonic_ns, time_ns
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

from banhammer import core
from banhammer.decision import PLAIN, SHADOW, Calm, Decision
from banhammer.durations import FOREVER
from banhammer.kinds import Admission, admitted, denied
from banhammer.model import Clock, Hit, Policy, Record

ONE: Final = 1

Table = dict[str, Any]
"""Each key's record: a calm one bare (see `pack`), anything more as a `Record`."""
Shortcut = Callable[[str], Decision | None]

HAS_GIL: Final[bool] = getattr(sys, "_is_gil_enabled", lambda: True)()
ANCHOR: Final = time_ns() // 1000 - monotonic_ns() // 1000
"""What turns the monotonic clock into Unix microseconds: wall time, immune to its later steps."""


Listener = Callable[[Hit, Policy, core.Reply], object]
"""Is told of an answer that no caller waits for, and that may escalate."""


@runtime_checkable
class Swift(Protocol):
    """A backend that answers some hits without being asked in full."""

    def shortcuts(
        self, policy: Policy, clock: Clock | None, listener: Listener
    ) -> tuple[Shortcut | None, Shortcut | None]:
        """Return the short cuts for a hit and for a guard of one unit under `policy`, or `None` for none."""
        ...


class Store(Protocol):
    """What a short cut needs of the memory store beside the table."""

    lock: RLock

    def insert(self, policy: Policy, key: str, calm: Calm, now: int, real_time: bool) -> bool:
        """Store a new key's calm record; return whether it did."""
        ...


class BatchAnswers(NamedTuple):
    """What each hit of a batch left of its key's calm record; `None` for the `left` ones still to be decided."""

    after: list[Decision | Calm | None]
    left: int
    keys: list[str]
    now: int


def wall_clock() -> int:
    """Return Unix microseconds that never step: the monotonic clock, anchored when the process began."""
    return monotonic_ns() // 1000 + ANCHOR


def tell(now: int | Clock | None) -> int:
    """Return the time that is given, or told, or that of this process."""
    if now is None:
        return wall_clock()
    return now if isinstance(now, int) else now()


def pack(record: Record) -> Calm | Record:
    """Return the record as the table keeps it: bare TATs where there is nothing else to know."""
    if record.strikes or record.banned_until or record.over or record.rings:
        return record
    return record.tats[0] if len(record.tats) == 1 else record.tats


def unpack(stored: Calm | Record) -> Record:
    """Return the record that `pack` was given."""
    if isinstance(stored, Record):
        return stored
    return Record((stored,) if isinstance(stored, int) else stored)


def hits(policy: Policy, clock: Clock | None, table: Table, store: Store) -> Shortcut:
    """Return the short cut for a hit of one unit."""
    if policy.windows or not all(threshold.burst for threshold in policy.thresholds):
        return _decline
    build = {1: _hits_one, 3: _hits_three}.get(len(policy.thresholds), _hits_all)
    hit = build(policy, clock, table, store)
    return hit if HAS_GIL else _locked(hit, store)


def guards(policy: Policy, clock: Clock | None, table: Table) -> Shortcut:
    """Return the short cut for a guard of one unit: where it is allowed, it stores nothing."""
    get = table.get
    count = len(policy.thresholds)
    blank = 0 if count == 1 else (0,) * count
    context = SHADOW if policy.mode == "shadow" else PLAIN
    throttles = [(index, level) for index, level in enumerate(policy.thresholds) if not level.ban]
    only = policy.thresholds[0]
    room = only.tolerance - (0 if only.ban else only.interval)

    def guard(key: str) -> Decision | None:
        if key.__class__ is not str:
            return None
        now = wall_clock() if clock is None else clock()
        stored = get(key)
        if stored is None:
            fresh = key and all(level.burst for _, level in throttles)
            return admitted(policy, key, now, blank, context) if fresh else None
        if stored.__class__ is int and count == 1:
            return admitted(policy, key, now, stored, context) if stored - now <= room else None
        record = core.load(policy, unpack(stored), now)
        if now < record.banned_until:
            return None
        tats = record.tats
        for index, level in throttles:
            if tats[index] > now and tats[index] + level.interval - now > level.tolerance:
                return None
        return admitted(policy, key, now, record, context)

    return guard


def hit_batch(batch: Sequence[Hit], policy: Policy, clock: Clock | None, table: Table) -> BatchAnswers | None:
    """Return the answers to single units under one policy with one threshold; `None` for any other batch.

    What is no such batch is found before anything is charged.
    """
    threshold = policy.thresholds[0]
    if policy.windows or len(policy.thresholds) > 1 or not threshold.burst or not HAS_GIL:
        return None
    name = policy.name
    keys = [hit.key for hit in batch if hit.cost is ONE and hit.policy == name and not hit.guard]
    if len(keys) < len(batch) or not all(keys) or not {*map(type, keys)} <= {str}:
        return None
    interval = threshold.interval
    if keys[0] == keys[-1] and keys.count(keys[0]) == len(keys):
        return _one_key_batch(keys, interval, threshold.tolerance, clock, table)
    now = wall_clock() if clock is None else clock()
    fresh = now + interval
    latest = now + threshold.tolerance - interval
    after: list[Decision | Calm | None] = []
    left = 0
    for key in keys:
        try:
            tat = table[key]
            if tat <= now:
                table[key] = new = fresh
            elif tat <= latest:
                table[key] = new = tat + interval
            else:
                new = None
                left += 1
        except (KeyError, TypeError):  # A new key, or one whose record is more than calm.
            new = None
            left += 1
        after.append(new)
    return BatchAnswers(after, left, keys, now)


def _one_key_batch(keys: list[str], interval: int, tolerance: int, clock: Clock | None, table: Table) -> BatchAnswers:
    """Charge as many units of one key as fit, in one step."""
    size, key = len(keys), keys[0]
    now = wall_clock() if clock is None else clock()
    first = tat = now
    fitting = 0
    try:
        tat = table[key]
        first = tat if tat > now else now
        fitting = (tolerance - first + now) // interval
        fitting = size if fitting > size else fitting
        if fitting > 0:
            table[key] = first + fitting * interval
    except (KeyError, TypeError):  # A new key, or one whose record is more than calm.
        fitting = 0
    fitting = max(fitting, 0)
    after: list[Decision | Calm | None] = [*range(first + interval, first + (fitting + 1) * interval, interval)]
    return BatchAnswers(after + [None] * (size - fitting), size - fitting, keys, now)


def _hits_one(policy: Policy, clock: Clock | None, table: Table, store: Store) -> Shortcut:
    """One threshold: a calm record is a bare TAT."""
    only = policy.thresholds[0]
    interval, tolerance, bans = only.interval, only.tolerance, bool(only.ban)
    shadow = policy.mode == "shadow"
    context = SHADOW if shadow else PLAIN
    real_time = clock is None
    anchor = ANCHOR

    def hit(key: str) -> Decision | None:
        if key.__class__ is not str:
            return None
        now = monotonic_ns() // 1000 + anchor if clock is None else clock()
        new: Any
        try:
            record = table[key]
        except KeyError:
            new = now + interval
            return admitted(policy, key, now, new, context) if store.insert(policy, key, new, now, real_time) else None
        if record.__class__ is int:
            if record > now:
                new = record + interval
                if new - now > tolerance:
                    return None
            else:
                new = now + interval
            table[key] = new
            if shadow:
                return admitted(policy, key, now, new, context)
            decision = Admission()  # As decision.admitted does; a call would cost as much as all of it.
            decision.key = key
            decision._policy = policy
            decision._now = now
            decision._record = new
            return decision
        if record.__class__ is not Record:
            return None  # A tuple: the policy had another number of thresholds.
        tat = record.tats[0] if len(record.tats) == 1 else FOREVER
        if tat - now > tolerance or (record.over and tat <= now) or record.rings:
            return None  # A clamp, a lapsed flag, a ring tracked no more: changes, which evaluate writes down.
        if now < record.banned_until:
            return denied(policy, key, now, record, "banned")
        if record.over == 1 and tat - now > tolerance - interval and not (bans or record.strikes):
            return denied(policy, key, now, record, "throttled")
        return None

    return hit


def _hits_three(policy: Policy, clock: Clock | None, table: Table, store: Store) -> Shortcut:
    """Three thresholds, the common set of rules, without a loop."""
    (t1, room1), (t2, room2), (t3, room3) = [(level.interval, level.tolerance) for level in policy.thresholds]
    shadow = policy.mode == "shadow"
    context = SHADOW if shadow else PLAIN
    real_time = clock is None
    anchor = ANCHOR

    def hit(key: str) -> Decision | None:
        if key.__class__ is not str:
            return None
        now = monotonic_ns() // 1000 + anchor if clock is None else clock()
        try:
            record = table[key]
        except KeyError:
            new = (now + t1, now + t2, now + t3)
            return admitted(policy, key, now, new, context) if store.insert(policy, key, new, now, real_time) else None
        if record.__class__ is not tuple:
            return _standing(policy, key, record, now)
        try:
            first, second, third = record
        except ValueError:
            return None  # The policy had another number of thresholds.
        first = (first if first > now else now) + t1
        second = (second if second > now else now) + t2
        third = (third if third > now else now) + t3
        if first - now > room1 or second - now > room2 or third - now > room3:
            return None
        new = (first, second, third)  # Building it may collect garbage and so run code: look again.
        try:
            if table[key] is not record:
                return None
        except KeyError:
            return None
        table[key] = new
        if shadow:
            return admitted(policy, key, now, new, context)
        decision = Admission()
        decision.key = key
        decision._policy = policy
        decision._now = now
        decision._record = new
        return decision

    return hit


def _hits_all(policy: Policy, clock: Clock | None, table: Table, store: Store) -> Shortcut:
    """Any number of thresholds: a calm record is a tuple of TATs; the loop makes a second look necessary."""
    meters = [(threshold.interval, threshold.tolerance) for threshold in policy.thresholds]
    count = len(meters)
    get = table.get
    context = SHADOW if policy.mode == "shadow" else PLAIN
    real_time = clock is None

    def hit(key: str) -> Decision | None:
        if key.__class__ is not str:
            return None
        now = wall_clock() if clock is None else clock()
        tats = get(key)
        if tats is None:
            new = tuple([now + interval for interval, _ in meters])
            return admitted(policy, key, now, new, context) if store.insert(policy, key, new, now, real_time) else None
        if tats.__class__ is not tuple or len(tats) != count:
            return _standing(policy, key, tats, now)
        after = []
        for tat, (interval, tolerance) in zip(tats, meters):  # noqa: B905  # Their lengths were just compared.
            new_tat = (tat if tat > now else now) + interval
            if new_tat - now > tolerance:
                return None
            after.append(new_tat)
        record = tuple(after)
        if key not in table or table[key] is not tats:
            return None
        table[key] = record
        return admitted(policy, key, now, record, context)

    return hit


def _standing(policy: Policy, key: str, stored: Calm | Record, now: int) -> Decision | None:
    """Return the denial of one unit that changes nothing, so that an attacker costs no more than a client."""
    if not isinstance(stored, Record):
        return None
    verdict = core.stands(policy, stored, now)
    return None if verdict is None else denied(policy, key, now, stored, verdict)


def _locked(shortcut: Shortcut, store: Store) -> Shortcut:
    def under_lock(key: str) -> Decision | None:
        with store.lock:
            return shortcut(key)

    return under_lock


def _decline(key: str) -> None:
    """Answer no key: the policy counts more than its meters, or admits nobody."""
