"""The memory store's short cuts: the common answers, without a batch, a reply or a lock.

A short cut answers what needs no second look (a known key whose unit simply fits, or is denied and changes
nothing) exactly as `core.evaluate` would, and returns `None` for everything else, having changed nothing.

A new TAT is put where the old one still stands. Between comparing and storing nothing is called and nothing
loops, so under the GIL no other thread can come in between; a build without a GIL takes the store's lock.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from time import monotonic_ns, time_ns
from typing import Any, Final

from banhammer import core
from banhammer.decision import PLAIN, Calm, Decision, admitted, denied
from banhammer.model import Hit, Policy, Record

ONE: Final = 1

Clock = Callable[[], int]
Table = dict[str, Any]
"""Each key's record: a calm one bare (see `pack`), anything more as a `Record`."""
Shortcut = Callable[[str], Decision | None]

HAS_GIL: Final[bool] = getattr(sys, "_is_gil_enabled", lambda: True)()
_ANCHOR: Final = time_ns() // 1000 - monotonic_ns() // 1000
"""What turns the monotonic clock into Unix microseconds: wall time, immune to its later steps."""


def wall_clock() -> int:
    """Return Unix microseconds that never step: the monotonic clock, anchored when the process began."""
    return monotonic_ns() // 1000 + _ANCHOR


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


def hits(policy: Policy, clock: Clock | None, table: Table, lock: AbstractContextManager[Any]) -> Shortcut:
    """Return the short cut for a hit of one unit."""
    if policy.windows or not all(threshold.burst for threshold in policy.thresholds):
        return _decline
    build = _hits_one if len(policy.thresholds) == 1 else _hits_all
    hit = build(policy, clock, table)
    return hit if HAS_GIL else _locked(hit, lock)


def guards(policy: Policy, clock: Clock | None, table: Table) -> Shortcut:
    """Return the short cut for a guard of one unit: where it is allowed, it stores nothing."""
    get = table.get
    count = len(policy.thresholds)
    blank = 0 if count == 1 else (0,) * count
    throttles = [(index, level) for index, level in enumerate(policy.thresholds) if not level.ban]

    def guard(key: str) -> Decision | None:
        stored = get(key)
        now = wall_clock() if clock is None else clock()
        if stored is None:
            fresh = key.__class__ is str and key and all(level.burst for _, level in throttles)
            return admitted(policy, key, now, blank) if fresh else None
        record = core.load(policy, unpack(stored), now)
        if now < record.banned_until:
            return _standing(policy, key, stored, now)
        tats = record.tats
        for index, level in throttles:
            if tats[index] > now and tats[index] + level.interval - now > level.tolerance:
                return None
        return admitted(policy, key, now, record)

    return guard


def hit_batch(
    batch: Sequence[Hit], policy: Policy, clock: Clock | None, table: Table
) -> tuple[list[Decision | Calm | None], int] | None:
    """Return what each hit left of its key's calm record, `None` for those still to be decided, and `now`.

    For single units by known keys under one policy with one threshold; `None` for any other batch.
    """
    threshold = policy.thresholds[0]
    if policy.windows or len(policy.thresholds) > 1 or not threshold.burst or not HAS_GIL:
        return None
    name = policy.name
    get = table.get
    stored = [get(hit.key) for hit in batch if hit.policy == name and hit.cost is ONE and not hit.guard]
    if len(stored) < len(batch) or None in stored:
        return None
    now = wall_clock() if clock is None else clock()
    interval = threshold.interval
    fresh = now + interval
    ceiling = now + threshold.tolerance
    after: list[Decision | Calm | None] = []
    append = after.append
    for hit, tat in zip(batch, stored, strict=True):
        if tat.__class__ is int:
            new = tat + interval if tat > now else fresh
            if new <= ceiling:
                key = hit.key
                if key in table and table[key] is tat:
                    table[key] = new
                    append(new)
                    continue
        append(None)
    return after, now


def _hits_one(policy: Policy, clock: Clock | None, table: Table) -> Shortcut:
    """One threshold: a calm record is a bare TAT."""
    interval, tolerance = policy.thresholds[0].interval, policy.thresholds[0].tolerance
    get = table.get
    anchor = _ANCHOR

    def hit(key: str) -> Decision | None:
        tat = get(key)
        now = monotonic_ns() // 1000 + anchor if clock is None else clock()
        if tat.__class__ is not int:
            return _standing(policy, key, tat, now)
        if tat > now:
            new = tat + interval
            if new - now > tolerance:
                return None
        else:
            new = now + interval
        if table[key] is not tat:
            return None
        table[key] = new
        decision = Decision()  # As decision.admitted does; a call would cost as much as all of it.
        decision.allowed = True
        decision.verdict = "allowed"
        decision.key = key
        decision._policy = policy
        decision._cost = 1
        decision._now = now
        decision._record = new
        decision._context = PLAIN
        return decision

    return hit


def _hits_all(policy: Policy, clock: Clock | None, table: Table) -> Shortcut:
    """Several thresholds: a calm record is a tuple of TATs."""
    meters = [(threshold.interval, threshold.tolerance) for threshold in policy.thresholds]
    count = len(meters)
    get = table.get
    anchor = _ANCHOR

    def hit(key: str) -> Decision | None:
        tats = get(key)
        now = monotonic_ns() // 1000 + anchor if clock is None else clock()
        if tats.__class__ is not tuple or len(tats) != count:
            return _standing(policy, key, tats, now)
        after = []
        for tat, (interval, tolerance) in zip(tats, meters):  # noqa: B905  # Their lengths were just compared.
            new = (tat if tat > now else now) + interval
            if new - now > tolerance:
                return None
            after.append(new)
        record = tuple(after)
        if table[key] is not tats:
            return None
        table[key] = record
        return admitted(policy, key, now, record)

    return hit


def _standing(policy: Policy, key: str, stored: Calm | Record | None, now: int) -> Decision | None:
    """Return the denial of one unit that changes nothing, so that an attacker costs no more than a client."""
    if not isinstance(stored, Record):
        return None
    verdict = core.stands(policy, stored, now)
    return None if verdict is None else denied(policy, key, now, stored, verdict)


def _locked(shortcut: Shortcut, lock: AbstractContextManager[Any]) -> Shortcut:
    def under_lock(key: str) -> Decision | None:
        with lock:
            return shortcut(key)

    return under_lock


def _decline(key: str) -> None:
    """Answer no key: the policy counts more than its meters, or admits nobody."""
