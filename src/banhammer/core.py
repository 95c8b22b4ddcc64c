"""The decision core: pure functions over integers; no clock, no I/O, no randomness.

GCRA (the generic cell rate algorithm, ITU-T I.371) keeps one number a meter: the theoretical arrival time
(TAT), up to which the units already taken keep the meter busy. A store loads a `Record`, calls `evaluate`
and keeps `Reply.record`; everything else that a caller may know is derived from the reply in `decision.py`.
"""

from __future__ import annotations

from typing import Final

from banhammer.durations import FOREVER, SECOND
from banhammer.model import MAX_STRIKES, RING, Policy, Record, Ring, Threshold, Verdict


class Reply:
    """What a store answers for one hit: the raw facts. `record` is the state after the hit, loaded at `now`.

    `tripped`: indexes of the thresholds that this hit escalates; `ids`: their escalations' ids, given by the
    store; `counted`: whether the hit was stored (an allowed guard is not); `degraded`: the store could not be
    asked, and the policy's `on_error` answered; `wait`: after how many microseconds such a denial may be tried again.
    """

    __slots__ = ("counted", "degraded", "ids", "now", "record", "tripped", "verdict", "wait")

    def __init__(
        self, verdict: Verdict, now: int, record: Record, tripped: tuple[int, ...] = (), counted: bool = True
    ) -> None:
        self.verdict = verdict
        self.now = now
        self.record = record
        self.tripped = tripped
        self.counted = counted
        self.ids: tuple[str, ...] = ()
        self.degraded = False
        self.wait = 0


class Owed:
    """What a denial cache swallowed of a key since the store was last asked.

    `late`: units; `span`: microseconds since the first of them; `level`: that of the ban in force then, -1 for
    none: what slept does not count them.
    """

    __slots__ = ("late", "level", "span")

    def __init__(self, late: int, span: int, level: int) -> None:
        self.late = late
        self.span = span
        self.level = level


FRESH: Final = Record(())
"""The record of a key that was never seen; `load` gives it the policy's meters."""

_NONE: Final = (0,) * RING


def load(policy: Policy, record: Record, now: int) -> Record:
    """Return `record` as it reads at `now` (us): what has lapsed is absent, what cannot be is clamped.

    A TAT past `now + tolerance` cannot come from this policy and this clock (the policy or the clock was
    changed): it is cut to that, and on a ban threshold more than a second past it reads as 0, so that a
    change bans nobody. The same object is returned when nothing had to change.
    """
    thresholds = policy.thresholds
    tats = record.tats
    if len(tats) != len(thresholds):
        tats = (tats + (0,) * len(thresholds))[: len(thresholds)]
    for threshold, tat in zip(thresholds, tats):  # noqa: B905  # As many as there are thresholds.
        if tat - now > threshold.tolerance:
            tats = tuple(_clamp(level, value, now) for level, value in zip(thresholds, tats, strict=True))
            break
    over = record.over
    if over:
        over = sum(1 << index for index, tat in enumerate(tats) if over >> index & 1 and tat > now)
    strikes, banned_until, level = record.strikes, record.banned_until, record.level
    if banned_until and now >= banned_until + policy.forgive_after:
        strikes = banned_until = level = 0
    if tats is record.tats and over == record.over and banned_until == record.banned_until:
        return record
    return Record(tats, over, strikes, banned_until, level, record.rings)


def evaluate(
    policy: Policy, stored: Record, cost: int, now: int, *, guard: bool = False, owed: Owed | None = None
) -> Reply:
    """Charge `cost` units at `now` (us) and return what the store must keep and what the caller may know.

    With `guard` the charge is only made where it is denied. `owed` is charged first, to ban thresholds only; a
    cost of 0 charges nothing else. `Reply.record` is `stored` itself when nothing changed, so that a store can
    skip the write.
    """
    state = loaded = load(policy, stored, now)
    if owed is not None:
        state = _paid(policy, state, owed, now)
    in_force = now < state.banned_until
    after: list[int] = []  # Each meter's TAT with the cost on it; -1: it does not fit.
    fits = admits = not in_force
    for threshold, tat in zip(policy.thresholds, state.tats):  # noqa: B905  # As loaded: one for each.
        if cost > threshold.burst:  # Compared, never multiplied: the product could pass 2^53 in the script.
            new = -1
        else:
            new = (tat if tat > now else now) + cost * threshold.interval
            if new - now > threshold.tolerance:
                new = -1
        if new < 0:
            fits = False
            admits = admits and bool(threshold.ban)
        after.append(new)
    if guard and admits:
        return Reply("allowed", now, loaded, counted=False)  # What it brought along is still owed.
    rings = state.rings
    if cost:
        rings = count(policy.windows, rings, now) if policy.windows else ()
    if not fits:
        return _deny(policy, stored, state, after, rings, cost, now)
    return Reply(
        "allowed",
        now,
        Record(tuple(after), state.over, state.strikes, state.banned_until, state.level, rings),
    )


def _paid(policy: Policy, state: Record, owed: Owed, now: int) -> Record:
    """Return the record with what is owed on the ban thresholds that were awake meanwhile.

    All of it counts as if it came with the first: a meter may read too low, so nobody is banned who would not
    have been.
    """
    since = now - owed.span
    asleep = max(owed.level, state.level) if since < state.banned_until else owed.level
    tats = list(state.tats)
    for index, threshold in enumerate(policy.thresholds):
        if threshold.ban and index > asleep:
            # No more than what trips for sure: the product could pass 2^53 in the script.
            late = min(owed.late, threshold.burst + owed.span // threshold.interval + 2)
            tats[index] = max(tats[index], since) + late * threshold.interval
    return Record(tuple(tats), state.over, state.strikes, state.banned_until, state.level, state.rings)


def _deny(
    policy: Policy,
    stored: Record,
    state: Record,
    after: list[int],
    rings: tuple[Ring, ...],
    cost: int,
    now: int,
) -> Reply:
    """Return the reply to a hit that does not fit: ban thresholds count it, a throttle that is over notes it."""
    thresholds = policy.thresholds
    in_force = now < state.banned_until
    first_awake = state.level + 1 if in_force else 0
    tats = list(state.tats)
    tripped: list[int] = []
    excess: list[int] = []
    for index, threshold in enumerate(thresholds):
        if not threshold.ban:
            if after[index] < 0:
                excess.append(index)
        elif index >= first_awake:
            tats[index] = max(after[index], 0)
            if after[index] < 0:
                tripped.append(index)

    over, strikes, banned_until, level = state.over, state.strikes, state.banned_until, state.level
    verdict: Verdict = "banned"
    if tripped:
        if not in_force:
            strikes = min(strikes + 1, MAX_STRIKES)
            level = 0
        for index in tripped:
            banned_until = max(banned_until, min(now + thresholds[index].duration(strikes), FOREVER))
        level = max(level, tripped[-1])
    elif not in_force:
        verdict = "throttled"
        for index in excess:
            if cost <= thresholds[index].burst and not over >> index & 1:
                over |= 1 << index
                tripped.append(index)
    record = Record(tuple(tats), over, strikes, banned_until, level, rings)
    return Reply(verdict, now, stored if record == stored else record, tuple(tripped))


def stands(policy: Policy, record: Record, now: int) -> Verdict | None:
    """Return the verdict on one unit where it is denied and changes nothing; `None`: ask `evaluate`."""
    thresholds, tats = policy.thresholds, record.tats
    if policy.windows or record.rings or len(tats) != len(thresholds):
        return None
    unmarked = denied = False
    over = record.over
    for threshold, tat in zip(thresholds, tats, strict=True):
        if tat - now > threshold.tolerance:
            return None
        if tat <= now:
            if over & 1:  # Its flag has lapsed, which evaluate writes down.
                return None
        elif tat + threshold.interval - now > threshold.tolerance:
            denied = True
            unmarked = unmarked or not over & 1
        over >>= 1
    if now < record.banned_until:
        return "banned" if record.level >= policy.top else None
    return "throttled" if denied and not (unmarked or record.strikes or policy.top >= 0) else None


def _clamp(threshold: Threshold, tat: int, now: int) -> int:
    ceiling = now + threshold.tolerance
    if tat <= ceiling:
        return tat
    return 0 if threshold.ban and tat - ceiling > SECOND else ceiling


def ban(policy: Policy, stored: Record, index: int, duration: int | None, now: int) -> Record:
    """Return the record of a key that is banned by hand at `now`, under threshold `index`.

    `duration` (us, `FOREVER`; `None`: the threshold's ladder) never shortens a ban in force.
    """
    state = load(policy, stored, now)
    in_force = now < state.banned_until
    strikes = state.strikes if in_force else min(state.strikes + 1, MAX_STRIKES)
    rest = policy.thresholds[index].duration(strikes) if duration is None else duration
    return Record(
        state.tats,
        state.over,
        strikes,
        max(state.banned_until, min(now + rest, FOREVER)),
        max(index, state.level) if in_force else index,
        state.rings,
    )


def lift(policy: Policy, stored: Record, now: int) -> Record:
    """Return the record with the ban in force ended at `now`; forgiving starts now, strikes stay."""
    state = load(policy, stored, now)
    if now >= state.banned_until:
        return state
    return Record(state.tats, state.over, state.strikes, now, 0, state.rings)


def clear_meters(stored: Record) -> Record:
    """Return the record with every meter empty; the ban, the strikes and the rates stay."""
    return Record((0,) * len(stored.tats), 0, stored.strikes, stored.banned_until, stored.level, stored.rings)


def drained_at(record: Record) -> int:
    """Return when the key is as good as new, strikes and rates aside (us)."""
    return max(record.banned_until, max(record.tats, default=0))


def lapses_at(policy: Policy, record: Record) -> int:
    """Return when nothing of the record is left to know (us); `FOREVER` for a ban without an end."""
    forgiven = min(record.banned_until + policy.forgive_after, FOREVER) if record.banned_until else 0
    counted = max(((newest + RING) * (window // RING) for window, newest, _ in record.rings), default=0)
    return max(forgiven, counted, max(record.tats, default=0))


def count(windows: tuple[int, ...], rings: tuple[Ring, ...], now: int) -> tuple[Ring, ...]:
    """Return the rings of `windows` with one more hit at `now`; a ring of another length is dropped."""
    if len(rings) != len(windows):
        rings = _aligned(windows, rings)
    counted = []
    for window, ring in zip(windows, rings):  # noqa: B905  # As many rings as windows.
        if ring[0] != window:
            return count(windows, _aligned(windows, rings), now)
        slot = now // (window // RING)
        if ring[1] != slot:
            counted.append(_turned(ring, slot))
            continue
        counts = list(ring[2])
        counts[slot % RING] += 1
        counted.append((window, slot, tuple(counts)))
    return tuple(counted)


def _aligned(windows: tuple[int, ...], rings: tuple[Ring, ...]) -> tuple[Ring, ...]:
    known = {ring[0]: ring for ring in rings}
    return tuple([known.get(window, (window, -RING, _NONE)) for window in windows])


def _turned(ring: Ring, slot: int) -> Ring:
    """Return the ring with one more hit in a slot that is not its newest."""
    window, newest, kept = ring
    counts = list(kept if abs(slot - newest) < RING else _NONE)  # Else all too old, or from a clock far ahead.
    for stale in range(newest + 1, slot + 1)[-RING:]:
        counts[stale % RING] = 0
    counts[slot % RING] += 1
    if abs(slot - newest) < RING:
        slot = max(newest, slot)
    return (window, slot, tuple(counts))


def count_at(ring: Ring, now: int) -> int:
    """Return the hits of slots `current - 11 .. current`: never more than the truth in the window."""
    window, newest, counts = ring
    current = now // (window // RING)
    return sum(counts[slot % RING] for slot in range(max(current, newest) - RING + 1, min(current, newest) + 1))
