"""The contestant's side: one public method in a loop, the same shape for everyone.

Each loop binds the method to a local name, calls it once for every key and drops the result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from banhammer import BanHammer, Hit, Policy, Threshold

CAPACITY: Final = 200_000
"""The room given to every store that is bounded, so that none of them evicts."""
BATCH: Final = 1_000

Work = Any
"""What `prepare` made of the keys, outside of the timed loop."""


@dataclass(slots=True)
class Subject:
    """A limiter that was just built for one sample."""

    admits: Callable[[str], bool]
    run: Callable[[Work], None]
    prepare: Callable[[Sequence[str]], Work] = lambda keys: keys
    settle: Callable[[], None] = lambda: None
    """Waits until whatever an earlier call left to a background thread is done."""
    close: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to ask one library. `build(admitted, thresholds)` returns it with its limits set."""

    library: str
    name: str
    build: Callable[[bool, int], Subject]
    threaded: bool = True

    def __str__(self) -> str:
        return f"{self.library} {self.name}"


def hammer(admitted: bool, thresholds: int) -> BanHammer:
    """Return our limiter: with room for a billion hits, or for a single one a day."""
    burst = 10**9 if admitted else 1
    limits = [(100_000, "1s", burst), (200_000, "3s", 10**9), (300_000, "9s", 10**9)]
    if not admitted:
        limits[0] = (1, "1d", 1)
    levels = [Threshold(limit, period, burst=room) for limit, period, room in limits[:thresholds]]
    return BanHammer([Policy("api", levels)], backend=f"memory://?max_keys={CAPACITY}")


def _hit(admitted: bool, thresholds: int) -> Subject:
    ours = hammer(admitted, thresholds)

    def run(keys: Sequence[str]) -> None:
        hit = ours.hit
        for key in keys:
            hit(key, "api")

    return _ours(ours, run)


def _hit_and_read(admitted: bool, thresholds: int) -> Subject:
    ours = hammer(admitted, thresholds)

    def run(keys: Sequence[str]) -> None:
        hit = ours.hit
        for key in keys:
            decision = hit(key, "api")
            _ = decision.remaining, decision.retry_after, decision.reset_after

    return _ours(ours, run)


def _hit_many(admitted: bool, thresholds: int) -> Subject:
    ours = hammer(admitted, thresholds)

    def run(batches: Sequence[list[Hit]]) -> None:
        hit_many = ours.hit_many
        for batch in batches:
            hit_many(batch)

    return _ours(ours, run, lambda keys: [[Hit(key, "api") for key in part] for part in _batches(keys)])


def _hit_many_and_read(admitted: bool, thresholds: int) -> Subject:
    ours = hammer(admitted, thresholds)

    def run(batches: Sequence[Sequence[str]]) -> None:
        hit_many = ours.hit_many
        for batch in batches:
            for decision in hit_many([Hit(key, "api") for key in batch]):
                _ = decision and decision.allowed

    return _ours(ours, run, _batches)


def _ours(
    ours: BanHammer, run: Callable[[Work], None], prepare: Callable[[Sequence[str]], Work] = lambda keys: keys
) -> Subject:
    return Subject(lambda key: ours.hit(key, "api").allowed, run, prepare, close=ours.close)


def _batches(keys: Sequence[str]) -> list[Sequence[str]]:
    return [keys[start : start + BATCH] for start in range(0, len(keys), BATCH)]


HIT: Final = Contestant("banhammer", "hit", _hit)
HIT_MANY: Final = Contestant("banhammer", f"hit_many({BATCH})", _hit_many, threaded=False)
OURS: Final = (
    HIT,
    Contestant("banhammer", "hit, three fields read", _hit_and_read, threaded=False),
    HIT_MANY,
    Contestant("banhammer", f"hit_many({BATCH}), hits made and answers read", _hit_many_and_read, threaded=False),
)
