"""What the samples say: costs, ratios round by round, and whether the targets are met."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.contestants import HIT, HIT_MANY, Contestant
from benchmarks.scenarios import GROUPS, THREADS, Group, Shape

Key = tuple[Contestant, Group, Shape]
Samples = dict[Key, list[float]]
"""The nanoseconds a call of each cell, one for each round."""

ONE: Final = Shape(1, 1)
CROWD: Final = Shape(1, THREADS)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of the rounds, and the least and the most of them."""

    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a ratio in one group: at least `bound`, or at most it."""

    name: str
    group: Group
    ratio: Spread
    bound: float
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether the median keeps the bound."""
        return self.ratio.median >= self.bound if self.at_least else self.ratio.median <= self.bound


def spread(values: list[float]) -> Spread:
    """Return the median, the least and the most of the rounds."""
    return Spread(median(values), min(values), max(values))


def ratio(samples: Samples, dividend: Key, divisor: Key) -> Spread:
    """Return how the costs of two cells compare, each round for itself."""
    return spread([a / b for a, b in zip(samples[dividend], samples[divisor], strict=True)])


def fastest(samples: Samples, library: str, group: Group, shape: Shape) -> Contestant:
    """Return the contestant of `library` with the least median cost."""
    rivals = [cell[0] for cell in samples if cell[0].library == library and cell[1:] == (group, shape)]
    return min(rivals, key=lambda rival: median(samples[rival, group, shape]))


def targets(samples: Samples) -> list[Target]:
    """Return every target in every group, group by group."""
    return [target for group in GROUPS for target in _targets(samples, group)]


def _targets(samples: Samples, group: Group) -> list[Target]:
    def against(library: str, shape: Shape, bound: float) -> Target:
        rival = fastest(samples, library, group, shape)
        found = ratio(samples, (rival, group, shape), (HIT, group, shape))
        threads = "1 thread" if shape.threads == 1 else f"{shape.threads} threads"
        return Target(f"{library} / hit, {threads}", group, found, bound, at_least=True)

    hit = (HIT, group, ONE)
    three = ratio(samples, (HIT, group, Shape(3, 1)), hit)
    together = ratio(samples, hit, (HIT, group, CROWD))
    batch = ratio(samples, hit, (HIT_MANY, group, ONE))
    return [
        against("throttled-py", ONE, 8.0),
        against("limits", ONE, 6.0),
        Target("3 thresholds / 1", group, three, 1.7, at_least=False),
        Target(f"throughput of {THREADS} threads / 1", group, together, 0.8, at_least=True),
        against("throttled-py", CROWD, 12.0),
        against("limits", CROWD, 3.0),
        Target("hit / hit_many(1000), a decision", group, batch, 3.0, at_least=True),
    ]
