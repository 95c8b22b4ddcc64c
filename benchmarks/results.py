"""What the samples say: costs, ratios round by round, and whether the targets are met."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Final

from benchmarks.contestants import HIT, HIT_MANY, Contestant
from benchmarks.scenarios import GROUPS, THREADS, Group, Shape

Key = tuple[Contestant, Group, Shape]
Samples = dict[Key, list["Sample"]]
"""What each cell took, one for each round."""

ONE: Final = Shape(1, 1)
CROWD: Final = Shape(1, THREADS)


@dataclass(frozen=True, slots=True)
class Sample:
    """The nanoseconds a call, and those of the cell that it is compared with, taken right before."""

    ns: float
    reference: float

    @property
    def ratio(self) -> float:
        """How the two compare."""
        return self.ns / self.reference


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


def reference(contestant: Contestant, shape: Shape) -> tuple[Contestant, Shape]:
    """Return what a cell is compared with: `hit` in the same shape, and `hit` itself with its plainest shape."""
    return HIT, ONE if contestant is HIT else shape


def costs(samples: Samples, key: Key) -> Spread:
    """Return the nanoseconds a call."""
    return spread([sample.ns for sample in samples[key]])


def ratio(samples: Samples, key: Key) -> Spread:
    """Return how the costs of a cell and of its reference compare, each round for itself."""
    return spread([sample.ratio for sample in samples[key]])


def fastest(samples: Samples, library: str, group: Group, shape: Shape) -> Contestant:
    """Return the contestant of `library` with the least median cost."""
    rivals = [cell[0] for cell in samples if cell[0].library == library and cell[1:] == (group, shape)]
    return min(rivals, key=lambda rival: ratio(samples, (rival, group, shape)).median)


def targets(samples: Samples) -> list[Target]:
    """Return every target in every group, group by group."""
    return [target for group in GROUPS for target in _targets(samples, group)]


def _targets(samples: Samples, group: Group) -> list[Target]:
    def against(library: str, shape: Shape, bound: float) -> Target:
        rival = fastest(samples, library, group, shape)
        threads = "1 thread" if shape.threads == 1 else f"{shape.threads} threads"
        found = ratio(samples, (rival, group, shape))
        return Target(f"{library} / hit, {threads}", group, found, bound, at_least=True)

    three = ratio(samples, (HIT, group, Shape(3, 1)))
    together = _inverse(samples, (HIT, group, CROWD))
    batch = _inverse(samples, (HIT_MANY, group, ONE))
    return [
        against("throttled-py", ONE, 8.0),
        against("limits", ONE, 6.0),
        Target("3 thresholds / 1", group, three, 1.7, at_least=False),
        Target(f"throughput of {THREADS} threads / 1", group, together, 0.8, at_least=True),
        against("throttled-py", CROWD, 12.0),
        against("limits", CROWD, 3.0),
        Target("hit / hit_many(1000), a decision", group, batch, 3.0, at_least=True),
    ]


def _inverse(samples: Samples, key: Key) -> Spread:
    return spread([1 / sample.ratio for sample in samples[key]])
