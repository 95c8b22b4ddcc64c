"""block_local: what is banned, as this process saw it, for the application to read. No decision consults it."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from heapq import heapify, heappop, heappush
from typing import Any, Final, Self

from banhammer.actions.settings import table
from banhammer.forks import renew_after_fork
from banhammer.model import Escalation

MAX_KEYS: Final = 100_000
MOST_KEYS: Final = 10_000_000
SEEN: Final = 10_000
"""Ids of escalations that are remembered, so that one that comes again after its lift lists nothing."""

SLACK: Final = 1_000
"""Stale entries of the order that are left alone, however short the list is."""


class Blocked(Mapping[str, float]):
    """The keys that are banned now, each with the end of its ban: Unix seconds, `inf` for ever. Read-only.

    A key whose end is reached is not there any more. Reading never waits for a lock. `copy()` is one moment's
    keys as a dict; a loop over the mapping runs over such a copy.
    """

    def __init__(self, ends: dict[str, float], clock: Callable[[], float]) -> None:
        self._ends = ends
        self._clock = clock

    def __getitem__(self, key: str) -> float:
        end = self._ends[key]
        if end <= self._clock():
            raise KeyError(key)
        return end

    def __contains__(self, key: object) -> bool:
        end = self._ends.get(key) if isinstance(key, str) else None
        return end is not None and self._clock() < end

    def __iter__(self) -> Iterator[str]:
        return iter(self.copy())

    def __len__(self) -> int:
        return len(self.copy())

    def __repr__(self) -> str:
        return f"<Blocked: {len(self)} keys>"

    # The views of a mapping ask for each key again, and it may have lapsed meanwhile.

    def keys(self) -> KeysView[str]:
        """Return the keys of this moment."""
        return self.copy().keys()

    def values(self) -> ValuesView[float]:
        """Return the ends of this moment."""
        return self.copy().values()

    def items(self) -> ItemsView[str, float]:
        """Return the keys and ends of this moment."""
        return self.copy().items()

    def copy(self) -> dict[str, float]:
        """Return what is blocked now, as a dict."""
        now = self._clock()
        return {key: end for key, end in self._ends.copy().items() if now < end}


class BlockLocal:
    """Lists a banned key in `blocked` until its ban ends or is lifted, then tells the application.

    `on_block`: an action of the application, called with every escalation after the listing: a callable, which
    is told of lifts too (verdict `lifted`), or an object with `run` and `lift`. `max_keys`: how many keys are
    listed at most; when one more comes, the one whose ban ends first leaves, and is counted in `dropped`.
    `clock`: returns Unix seconds. Where several policies ban a key, the latest end counts, and a lift under one
    of them leaves the others. A throttle lists nothing.
    """

    def __init__(
        self,
        on_block: Any = None,
        *,
        max_keys: int = MAX_KEYS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._on_block = on_block
        self._max_keys = max_keys
        self._clock = clock
        self._ends: dict[str, float] = {}
        self._bans: dict[str, dict[str, float]] = {}  # By key and policy.
        self._order: list[tuple[float, str]] = []  # A heap; what no longer agrees with `_ends` is stale.
        self._seen: OrderedDict[str, None] = OrderedDict()
        self.blocked: Final = Blocked(self._ends, clock)
        self.dropped = 0
        self.renew()
        renew_after_fork(self)

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Return the action that a table of settings means. Raises `ConfigError`."""
        with table(settings) as read:
            max_keys = read.whole("max_keys", MAX_KEYS, MOST_KEYS)
        return cls(max_keys=max_keys)

    def bound_to(self, on_block: Any, clock: Callable[[], float] | None = None) -> Self:
        """Return an empty list with the same settings that tells `on_block` and reads `clock`."""
        return type(self)(on_block, max_keys=self._max_keys, clock=clock or self._clock)

    def __repr__(self) -> str:
        return f"BlockLocal(max_keys={self._max_keys})"

    def run(self, escalation: Escalation) -> Any:
        """List the key of a ban, and tell the application."""
        if escalation.verdict == "banned" and escalation.until is not None:
            self._list(escalation.id, escalation.key, escalation.policy, escalation.until)
        on = self._on_block
        return _told(on if callable(on) else getattr(on, "run", None), escalation)

    def lift(self, escalation: Escalation) -> Any:
        """Take away what this policy listed, and tell the application."""
        with self._lock:
            bans = self._bans.get(escalation.key, {})
            if bans.pop(escalation.policy, None) is not None:
                self._settle(escalation.key, bans)
        return _told(getattr(self._on_block, "lift", self._on_block), escalation)

    def renew(self) -> None:
        """Begin with a fresh lock: a forked child keeps what its parent had listed."""
        self._lock = threading.Lock()

    def _list(self, id_: str, key: str, policy: str, end: float) -> None:
        now = self._clock()
        with self._lock:
            if id_ in self._seen:
                return
            self._seen[id_] = None
            if len(self._seen) > SEEN:
                self._seen.popitem(last=False)
            bans = self._bans.setdefault(key, {})
            bans[policy] = max(end, bans.get(policy, end))  # A ban only ever gets longer.
            self._settle(key, bans)
            self._make_room(now)

    def _settle(self, key: str, bans: dict[str, float]) -> None:
        """Let the latest end of all policies count."""
        if not bans:
            self._ends.pop(key, None)
            self._bans.pop(key, None)
            return
        end = max(bans.values())
        if self._ends.get(key) != end:
            self._ends[key] = end
            heappush(self._order, (end, key))

    def _make_room(self, now: float) -> None:
        while self._order:
            end, key = self._order[0]
            if self._ends.get(key) == end:
                if now < end and len(self._ends) <= self._max_keys:
                    break
                if now < end:
                    self.dropped += 1
                self._ends.pop(key, None)
                self._bans.pop(key, None)
            heappop(self._order)
        if len(self._order) > 2 * len(self._ends) + SLACK:  # Mostly stale: keys that were lifted or lengthened.
            self._order[:] = [(end, key) for key, end in self._ends.items()]
            heapify(self._order)


def _told(tell: Any, escalation: Escalation) -> Any:
    return tell(escalation) if callable(tell) else None
