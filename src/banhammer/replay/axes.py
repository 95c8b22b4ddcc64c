"""Axes: round numbers to count by, round times on the clock (UTC), and short words for both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from banhammer.durations import DAY, HOUR, MINUTE, SECOND, format_duration

_MINUTE: Final = MINUTE // SECOND
_HOUR: Final = HOUR // SECOND
_DAY: Final = DAY // SECOND
_STEPS: Final = (
    *(1, 2, 5, 10, 15, 30),
    *(minutes * _MINUTE for minutes in (1, 2, 5, 10, 15, 30)),
    *(hours * _HOUR for hours in (1, 2, 3, 6, 12)),
    *(days * _DAY for days in (1, 2, 7, 14, 28, 91, 182, 365, 3650, 36500)),
)


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on a time axis: where, what stands there, and below it the day, where that is news."""

    at: int
    label: str
    below: str = ""


def clock_ticks(start: float, end: float, most: int = 7) -> list[Tick]:
    """Return at most `most + 1` round times in UTC from `start` to `end` (Unix seconds)."""
    step = next((step for step in _STEPS if end - start <= step * most), _STEPS[-1])
    ticks: list[Tick] = []
    known = ""
    for at in range(math.ceil(start / step) * step, math.floor(end) + 1, step):
        when = datetime.fromtimestamp(at, UTC)
        day = f"{when.day} {when:%b}"
        label, below = (day, f"{when:%Y}") if step >= _DAY else (f"{when:%H:%M}", day)
        if step < _MINUTE:
            label = f"{when:%H:%M:%S}"
        ticks.append(Tick(at, label, "" if below == known else below))
        known = below
    return ticks


def count_ticks(highest: int, most: int = 4) -> list[int]:
    """Return 0 and at most `most` round numbers above it; the last one is not below `highest`."""
    step = 1
    while step * most < highest:
        # 1, 2, 5, 10, 20, 50: a 2 grows by two and a half, the others double.
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    return list(range(0, max(highest, 1) + step, step))[: max(-(-highest // step), 1) + 1]


def short(number: int) -> str:
    """Return a number for an axis, like `950`, `1.5k`, `20k`, `3M`."""
    for size, letter in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if number >= size:
            return f"{number / size:.1f}".removesuffix(".0") + letter
    return str(number)


def moment(seconds: float) -> str:
    """Return a time in UTC to the second, like `17 May 2015, 10:05:03`."""
    when = datetime.fromtimestamp(math.floor(seconds), UTC)
    return f"{when.day} {when:%b %Y, %H:%M:%S}"


def day_time(seconds: float) -> str:
    """Return a time in UTC for a narrow place, like `17 May 10:05`."""
    when = datetime.fromtimestamp(math.floor(seconds), UTC)
    return f"{when.day} {when:%b %H:%M}"


def span(seconds: float) -> str:
    """Return how long in a duration's spelling, like `1h30m`, to the millisecond; `for ever` for infinity."""
    if math.isinf(seconds):
        return "for ever"
    return format_duration(round(seconds * 1_000) * 1_000)
