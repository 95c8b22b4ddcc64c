"""What is measured: which keys hit, whether they are let through, how many thresholds and threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final, Literal

Keys = Literal["hot", "distinct", "new"]
"""One key; many keys that were all seen before; keys that were never seen."""

DISTINCT: Final = 2_000
HOT: Final = 1_000
THREADS: Final = 8

_serial = count()


@dataclass(frozen=True, slots=True)
class Group:
    """Which keys hit and what they are told: what every contestant has in common."""

    keys: Keys
    admitted: bool

    def __str__(self) -> str:
        return f"{self.keys} {'allowed' if self.admitted else 'denied'}"

    def population(self, calls: int) -> tuple[list[str], int]:
        """Return keys made for this sample alone and how often to walk through them, for about `calls` calls."""
        serial = next(_serial)
        if self.keys == "new":
            return [_address(serial, index) for index in range(calls)], 1
        if self.keys == "hot":
            size = min(HOT, calls)
            return [_address(serial, 0)] * size, max(round(calls / size), 1)
        size = min(DISTINCT, calls)
        return [_address(serial, index) for index in range(size)], max(round(calls / size), 1)


GROUPS: Final = (
    Group("hot", True),
    Group("distinct", True),
    Group("new", True),  # A key that was never seen cannot be over a limit, so there is no such denial.
    Group("hot", False),
    Group("distinct", False),
)


@dataclass(frozen=True, slots=True)
class Shape:
    """How a contestant is asked."""

    thresholds: int
    threads: int


SHAPES: Final = tuple(Shape(thresholds, threads) for thresholds in (1, 3) for threads in (1, THREADS))


def split(keys: Sequence[str], threads: int) -> list[Sequence[str]]:
    """Return the keys dealt out to the threads."""
    return [keys[index::threads] for index in range(threads)]


def _address(serial: int, index: int) -> str:
    return f"2001:db8:{serial & 0xFFFF:x}:{index >> 16:x}:{index & 0xFFFF:x}::/64"
