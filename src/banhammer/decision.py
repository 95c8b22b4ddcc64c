"""The decision: a store's raw facts, and what follows from them, derived once for all stores.

Everything but those facts is computed when it is read, so that a hit pays only for what the application looks at.
"""

from __future__ import annotations

import math
from typing import Final, Literal

from banhammer.core import count_at, drained_at
from banhammer.durations import seconds_until, to_seconds
from banhammer.model import Policy, Record, Verdict


class Context:
    """What is seldom other than plain about a decision; shared, so that a plain one costs nothing."""

    __slots__ = ("degraded", "listed", "shadow", "tripped", "wait")

    def __init__(
        self,
        *,
        shadow: bool = False,
        listed: Literal["allow", "deny"] | None = None,
        degraded: bool = False,
        tripped: tuple[int, ...] = (),
        wait: int = 0,
    ) -> None:
        self.shadow = shadow
        self.listed = listed
        self.degraded = degraded
        self.tripped = tripped
        self.wait = wait


PLAIN: Final = Context()
SHADOW: Final = Context(shadow=True)

Calm = int | tuple[int, ...]
"""A record of nothing but TATs, as the memory store keeps it: bare for one threshold, a tuple for several."""


class Decision:
    """The answer to one hit: truthy when allowed. It tells of the state after the hit.

    `allowed`: whether to let it through. `verdict`: `"allowed"`, `"throttled"` or `"banned"` (in shadow mode,
    what enforcement would have said). `key`: who was counted. Decisions are compared by all that they say.
    """

    __slots__ = ()  # Each kind has only the slots that it needs: they are quicker to make and to free.

    allowed: bool = False  # These three have values, so that a test double made from the class has them too.
    verdict: Verdict = "throttled"
    key: str = ""
    _policy: Policy
    _cost: int
    _now: int
    _record: Record | Calm
    _context: Context

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def policy(self) -> str:
        """The policy's name."""
        return self._policy.name

    @property
    def shadow(self) -> bool:
        """Whether the policy only watches: the hit is allowed, whatever `verdict` says."""
        return self._context.shadow

    @property
    def listed(self) -> Literal["allow", "deny"] | None:
        """The list that the key is on, if any; then the store was not asked."""
        return self._context.listed

    @property
    def degraded(self) -> bool:
        """Whether the store could not be asked, so that the policy's `on_error` decided."""
        return self._context.degraded

    @property
    def tripped(self) -> tuple[int, ...]:
        """The thresholds that this very hit crossed, by index: the ones that escalate."""
        return self._context.tripped

    @property
    def strikes(self) -> int:
        """How many bans of this key under this policy are not forgiven yet."""
        record = self._record
        return record.strikes if isinstance(record, Record) else 0

    @property
    def banned_until(self) -> float | None:
        """The ban's end in Unix seconds, `inf` for ever, `None` when not banned."""
        record = self._record
        if not isinstance(record, Record):
            return None
        if self.listed == "deny":
            return math.inf
        return to_seconds(record.banned_until) if self._now < record.banned_until else None

    @property
    def remaining(self) -> int | None:
        """How many units would still fit now, over all thresholds; 0 while banned; `None` for a listed key."""
        record = self._record
        if isinstance(record, int):
            only = self._policy.thresholds[0]
            return (only.tolerance - max(record - self._now, 0)) // only.interval
        if self.listed:
            return None
        return 0 if self._banned or self._context.wait else min(self._rooms())

    @property
    def threshold(self) -> int | None:
        """The index of the threshold that denies, else of the one with the least room; `None` when listed."""
        if isinstance(self._record, int):
            return 0
        if self.listed:
            return None
        if self._banned:
            return min(self._full.level, len(self._policy.thresholds) - 1)
        if self.verdict == "throttled":
            waits = self._waits(throttles_only=True) or self._waits()  # The store was away: no threshold denied it.
            return max(waits, key=lambda index: (waits[index], -index))
        rooms = self._rooms()
        return rooms.index(min(rooms))

    @property
    def limit(self) -> int | None:
        """The limit of `threshold`."""
        index = self.threshold
        return None if index is None else self._policy.thresholds[index].limit

    @property
    def retry_after(self) -> float:
        """The least wait, in seconds, after which the same hit would be allowed; 0.0 when allowed, or `inf`.

        Exact: one microsecond earlier it is denied, at it it is allowed, if nothing else happens.
        """
        if self.verdict == "allowed":
            return 0.0
        if self.listed:
            return math.inf
        if self._context.wait:
            return self._context.wait / 1e6
        wait = max(self._waits().values()) / 1e6
        return max(wait, seconds_until(self._full.banned_until, self._now))

    @property
    def reset_after(self) -> float:
        """The seconds until the key is as good as new, strikes aside; `inf` for a ban for ever."""
        record = self._record
        if isinstance(record, int):
            return max(record - self._now, 0) / 1e6
        if self.listed:
            return 0.0 if self.listed == "allow" else math.inf
        return seconds_until(drained_at(self._full), self._now)

    @property
    def rates(self) -> dict[str, int] | None:
        """Hits seen in each tracked window, by the policy's spelling, denied ones too; `None` if not tracked."""
        return None if self.listed else rates(self._policy, self._full, self._now)

    @property
    def fullness(self) -> tuple[float, ...]:
        """How full each threshold's meter is, 0.0 to 1.0; empty for a listed key."""
        if self.listed:
            return ()
        return tuple(
            max(tat - self._now, 0) / threshold.tolerance if threshold.tolerance else 0.0
            for threshold, tat in zip(self._policy.thresholds, self._full.tats, strict=True)
        )

    def as_dict(self) -> dict[str, object]:
        """Return every public field by name, for logs and scripts."""
        return {name: getattr(self, name) for name in _FIELDS}

    @property
    def _full(self) -> Record:
        record = self._record
        if isinstance(record, Record):
            return record
        return Record(record if isinstance(record, tuple) else (record,))

    @property
    def _banned(self) -> bool:
        return self._now < self._full.banned_until

    def _rooms(self) -> list[int]:
        return rooms(self._policy, self._full, self._now)

    def _waits(self, *, throttles_only: bool = False) -> dict[int, float]:
        now, cost = self._now, self._cost
        return {
            index: math.inf
            if cost > threshold.burst
            else max(tat, now) + cost * threshold.interval - threshold.tolerance - now
            for index, (threshold, tat) in enumerate(zip(self._policy.thresholds, self._full.tats, strict=True))
            if not (throttles_only and threshold.ban)
        }

    def __eq__(self, other: object) -> bool:
        return self.as_dict() == other.as_dict() if isinstance(other, Decision) else NotImplemented

    def __hash__(self) -> int:
        return hash((self.key, self.policy, self.verdict))

    def __reduce__(self) -> tuple[object, ...]:
        return _remade, tuple([getattr(self, name) for name in FullDecision.__slots__])

    def __repr__(self) -> str:
        return "Decision(" + ", ".join(f"{name}={value!r}" for name, value in self.as_dict().items()) + ")"


class FullDecision(Decision):
    """Any decision: it keeps all that a decision may say."""

    __slots__ = ("_context", "_cost", "_now", "_policy", "_record", "allowed", "key", "verdict")


def _remade(*values: object) -> FullDecision:
    """Return the copy of a decision of any kind."""
    decision = FullDecision()
    for name, value in zip(FullDecision.__slots__, values, strict=True):
        setattr(decision, name, value)
    return decision


_FIELDS: Final = (
    "allowed", "verdict", "key", "policy", "strikes", "banned_until", "remaining", "threshold", "limit",
    "retry_after", "reset_after", "rates", "listed", "shadow", "degraded", "tripped",
)  # fmt: skip


def rooms(policy: Policy, record: Record, now: int) -> list[int]:
    """Return how many units still fit each threshold at `now`; `record` as loaded then."""
    return [
        (threshold.tolerance - max(tat - now, 0)) // threshold.interval
        for threshold, tat in zip(policy.thresholds, record.tats, strict=True)
    ]


def rates(policy: Policy, record: Record, now: int) -> dict[str, int] | None:
    """Return the hits in each window that the policy tracks at `now`, or `None` if it tracks none."""
    if not policy.windows:
        return None
    counts = {ring[0]: count_at(ring, now) for ring in record.rings}
    return {name: counts.get(window, 0) for name, window in zip(policy.track, policy.windows, strict=True)}
