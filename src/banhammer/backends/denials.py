"""The denial cache: answers for a moment what a shared store just denied, and counts what it swallows.

An entry lives for as long as the verdict stands, at most a second, so no entry outlives an `unban` elsewhere by more.
A ban answers any cost, a throttle's denial costs at least as large. What was swallowed is told to the store by the
key's next call, or by a flush within a second; a hit that may trip a higher threshold, by all that is known here, is
not swallowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from time import monotonic_ns
from typing import Any, Final

from banhammer.backends.shortcut import ANCHOR, Shortcut, tell
from banhammer.core import Owed, Reply
from banhammer.decision import Decision, rooms
from banhammer.durations import FOREVER, SECOND
from banhammer.forks import renew_after_fork
from banhammer.kinds import Banned, Throttled, decide
from banhammer.model import Clock, Hit, Policy

LIFE: Final = SECOND
"""The longest life of an entry (us)."""
FLUSH_AFTER: Final = SECOND // 2
"""How long what was swallowed may wait before the store is told (us)."""
MAX_ENTRIES: Final = 10_000
"""Entries for each policy; beyond it the oldest leaves, and what it counted is not told."""


class Denial:
    """One key's denial: answered until `end` on the local clock; `ahead` is what the store's clock adds.

    `late`: units swallowed since `since`. `spare`: while `late` is at most this, two more units cannot trip a threshold
    that is awake, whenever they come. `policy`: by which the store denied.
    """

    __slots__ = (
        "ahead", "cost", "end", "end_ns", "key", "kind", "late", "policy", "record", "since", "spare", "verdict"
    )  # fmt: skip

    def __init__(self, key: str, policy: Policy, reply: Reply, *, cost: int, end: int, ahead: int) -> None:
        self.key = key
        self.policy = policy
        self.verdict = reply.verdict
        self.kind: type[CachedBan | CachedThrottle] = CachedBan if reply.verdict == "banned" else CachedThrottle
        self.record = reply.record
        self.cost = cost
        self.ahead = ahead
        self.spare = _room(policy, reply) - 2
        self.late = 0
        self.since = 0
        self.end_at(end)

    def end_at(self, end: int) -> None:
        """Answer until `end` (us); `end_ns` is the same for one unit, by `monotonic_ns`."""
        self.end = end
        self.end_ns = (end - ANCHOR) * 1000 if self.cost <= 1 else 0

    def is_of(self, policy: Policy) -> bool:
        """Return whether the store denied by the same thresholds: another policy may have the name."""
        return self.policy.thresholds == policy.thresholds

    @property
    def level(self) -> int:
        """The level of the ban that denies, -1 for a throttle."""
        return self.record.level if self.verdict == "banned" else -1


def _key_of(decision: Any) -> Any:
    return decision._entry.key


def _policy_of(decision: Any) -> Any:
    return decision._entry.policy


def _now_of(decision: Any) -> Any:
    return decision._at // 1000 + ANCHOR + decision._entry.ahead


def _record_of(decision: Any) -> Any:
    return decision._entry.record


class CachedBan(Banned):
    """A ban's denial of one unit by an entry, `_at` some `monotonic_ns`; what it tells is looked up when it is read."""

    __slots__ = ("_at", "_entry")

    _at: int
    _entry: Denial
    key = property(_key_of)
    _policy = property(_policy_of)
    _now = property(_now_of)
    _record = property(_record_of)


class CachedThrottle(Throttled):
    """The same of a throttle's denial."""

    __slots__ = ("_at", "_entry")

    _at: int
    _entry: Denial
    key = property(_key_of)
    _policy = property(_policy_of)
    _now = property(_now_of)
    _record = property(_record_of)


class DenialCache:
    """Denials by policy and key. Safe under threads: what two count at once may be counted once."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[str, Denial]] = {}
        self.tables: Final = self._tables.values()
        """The entries of each policy by key; a view, which shows them as they are at any time."""
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin empty: in a forked child, what was swallowed is the parent's to tell, and told twice it could ban."""
        for table in self._tables.values():
            table.clear()

    def shortcut(self, policy: Policy, clock: Clock | None) -> Shortcut:
        """Return the short cut for a hit or guard of one unit under `policy`."""
        table = self._table(policy)
        get = table.get

        def deny(key: str) -> Decision | None:
            if key.__class__ is not str:
                return None
            entry = get(key)
            if entry is None:
                return None
            at = monotonic_ns()
            late = entry.late
            if at >= entry.end_ns or late > entry.spare or not (entry.policy is policy or entry.is_of(policy)):
                return None
            if not late:
                entry.since = at // 1000 + ANCHOR
            entry.late = late + 1
            decision = entry.kind()
            decision._entry = entry
            decision._at = at
            return decision

        def deny_by_clock(key: str) -> Decision | None:
            if key.__class__ is not str:
                return None
            hit = Hit(key, policy.name)
            reply = self.answer(hit, policy, tell(clock))
            return None if reply is None else decide(policy, hit, reply, shadow=False)

        return deny if clock is None else deny_by_clock

    def answers(self, hit: Hit, policy: Policy, now: int) -> bool:
        """Return whether an entry denies `hit` at the local `now`."""
        entry = self._table(policy).get(hit.key)
        if entry is None or policy.mode == "shadow" or now >= entry.end or hit.cost < entry.cost:
            return False
        if not entry.is_of(policy):
            return False
        if entry.late + 2 * (hit.cost - 1) > entry.spare:  # Also for the same again, which its `retry_after` promises.
            return False
        return all(hit.cost <= threshold.burst for threshold in policy.thresholds)

    def answer(self, hit: Hit, policy: Policy, now: int) -> Reply | None:
        """Return the cached denial of `hit`, which counts as swallowed, or `None`: ask the store."""
        entry = self._table(policy).get(hit.key)
        if entry is None or not self.answers(hit, policy, now):
            return None
        if not entry.late:
            entry.since = now
        entry.late += hit.cost
        return Reply(entry.verdict, now + entry.ahead, entry.record)

    def owed(self, key: str, policy: Policy, now: int) -> Owed | None:
        """Return what the key's entry has swallowed, which is from now on the caller's to tell."""
        entry = self._table(policy).get(key)
        if entry is None or not entry.late:
            return None
        late, entry.late = entry.late, 0
        entry.spare -= late
        return Owed(late, max(now - entry.since, 0), entry.level)

    def untold(self, key: str, policy: Policy, owed: Owed, at: int) -> None:
        """Take back what was taken `at` and the store was not told: the call stored nothing."""
        entry = self._table(policy).get(key)
        if entry is None or entry.level != owed.level:  # Under another ban, others slept: rather too few than too many.
            return
        since = at - owed.span
        entry.since = min(entry.since, since) if entry.late else since
        entry.late += owed.late
        entry.spare += owed.late

    def learn(self, hit: Hit, policy: Policy, reply: Reply, at: int, ahead: int) -> None:
        """Keep the store's denial of `hit`, asked for `at`; drop what it has overtaken."""
        table = self._table(policy)
        if reply.verdict == "allowed" or policy.mode == "shadow":
            if reply.counted:
                self._overtake(table, hit.key)
            return
        if any(hit.cost > threshold.burst for threshold in policy.thresholds):
            self._passed(table, hit, reply)
            return
        if len(table) >= MAX_ENTRIES and hit.key not in table:
            drop_oldest(table)
        cost = 1 if reply.verdict == "banned" else max(hit.cost, 1)
        # Counted from before the call, whose journey took time that the store's own denial does not have.
        end = at + min(_stands(hit, policy, reply), LIFE)
        entry = Denial(hit.key, policy, reply, cost=cost, end=end, ahead=ahead)
        before = table.get(hit.key)
        if before is not None and before.level <= entry.level:  # Of a call in flight beside this one.
            entry.late, entry.since, before.late = before.late, before.since, 0  # Moved: it is told once.
        table[hit.key] = entry

    @staticmethod
    def _overtake(table: dict[str, Denial], key: str) -> None:
        """Let an entry deny no more; what it swallowed while the admission was under way is still to be told."""
        entry = table.get(key)
        if entry is None:
            return
        if entry.late:
            entry.end_at(0)
        else:
            table.pop(key, None)

    @staticmethod
    def _passed(table: dict[str, Denial], hit: Hit, reply: Reply) -> None:
        """Take note of a denial that is not cached: the entry beside which it passed knows less now."""
        entry = table.get(hit.key)
        if entry is None:
            return
        if reply.tripped:
            table.pop(hit.key, None)
        entry.spare -= hit.cost

    def forget(self, key: str, policy: Policy) -> None:
        """Drop the key's entry: it was lifted or reset here."""
        self._table(policy).pop(key, None)

    def due(self, policy: Policy, now: int) -> Iterator[tuple[str, Owed]]:
        """Take what was swallowed under `policy` and has waited long enough; forget the entries that ended."""
        table = self._table(policy)
        for key, entry in list(table.items()):
            if entry.late and now >= entry.since + FLUSH_AFTER:
                owed = self.owed(key, policy, now)
                if owed is not None and self._wakes(policy, owed):
                    yield key, owed
            elif not entry.late and now >= entry.end:
                table.pop(key, None)

    def holds(self, policy: Policy) -> bool:
        """Return whether anything is cached that may have to be told, or forgotten."""
        return bool(self._tables.get(policy.name))

    def knows(self, key: str, policy: Policy) -> bool:
        """Return whether there is an entry of the key, be it over or not."""
        return key in self._tables.get(policy.name, ())

    @staticmethod
    def _wakes(policy: Policy, owed: Owed) -> bool:
        """Return whether a threshold counts what was swallowed: a ban threshold above the ban in force."""
        return policy.top > owed.level

    def _table(self, policy: Policy) -> dict[str, Denial]:
        try:
            return self._tables[policy.name]
        except KeyError:
            return self._tables.setdefault(policy.name, {})


def drop_oldest(table: dict[Any, Any]) -> None:
    """Make room for one more entry."""
    with suppress(StopIteration, RuntimeError):  # Another thread came in between: it made room, or will.
        table.pop(next(iter(table)), None)


def _stands(hit: Hit, policy: Policy, reply: Reply) -> int:
    """Return how long the denial stands as it is (us): the ban's rest, or the longest wait for a throttle's room.

    A ban threshold's own wait is longer at times; it denies no guard, and trips on a hit, so it is the store's to say.
    So it is when strikes are forgotten.
    """
    record, now = reply.record, reply.now
    if reply.verdict == "banned":
        return record.banned_until - now
    wait = max(
        max(tat - now, 0) + hit.cost * threshold.interval - threshold.tolerance
        for threshold, tat in zip(policy.thresholds, record.tats, strict=True)
        if not threshold.ban
    )
    return min(wait, record.banned_until + policy.forgive_after - now) if record.banned_until else wait


def _room(policy: Policy, reply: Reply) -> int:
    """Return how many units fit every ban threshold that is awake, whenever they come."""
    asleep = reply.record.level if reply.verdict == "banned" else -1
    fit = rooms(policy, reply.record, reply.now)
    return min((fit[index] for index in range(asleep + 1, len(fit)) if policy.thresholds[index].ban), default=FOREVER)
