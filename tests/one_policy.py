"""A bench with one policy and one key on a manual clock."""

from __future__ import annotations

from typing import Any

from banhammer import BanHammer, Decision, Policy, Threshold
from banhammer.backends.memory import MemoryBackend
from banhammer.testing import ManualClock

KEY = "203.0.113.9"
START = 1_750_000_000_000_000
SECOND = 1_000_000
HOUR = 3600 * SECOND


class Bench:
    """One policy, `p`, on a manual clock."""

    def __init__(self, *levels: Threshold, **settings: Any) -> None:
        self.clock = ManualClock(START)
        self.store = MemoryBackend()
        self.hammer = BanHammer([Policy("p", levels, **settings)], backend=self.store, clock=self.clock)

    def hit(self, cost: int = 1) -> Decision:
        return self.hammer.hit(KEY, "p", cost)

    def verdicts(self, times: int, cost: int = 1) -> list[str]:
        return [self.hit(cost).verdict for _ in range(times)]

    def other(self, *levels: Threshold, **settings: Any) -> Bench:
        """Return the same store and clock under a changed policy."""
        bench = Bench(*levels, **settings)
        bench.clock, bench.store = self.clock, self.store
        bench.hammer = BanHammer([Policy("p", levels, **settings)], backend=self.store, clock=self.clock)
        return bench
