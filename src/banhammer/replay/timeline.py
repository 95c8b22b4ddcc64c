"""The timeline: requests by time, in bars that widen as the log goes on, so that there are never many."""

from __future__ import annotations

from typing import Final

from banhammer.replay.summary import Bucket

MOST: Final = 72
"""Bars at most."""
_WIDTHS: Final = (1, 5, 15, 60, 300, 900, 3600, 10_800, 21_600, 43_200, 86_400, 604_800)
"""Seconds; each divides the next, so that bars can be joined."""


class Timeline:
    """Counts requests and bans by time."""

    __slots__ = ("_bars", "_current", "_end", "_start", "_width")

    def __init__(self) -> None:
        self._bars: dict[int, Bucket] = {}
        self._width = _WIDTHS[0]
        self._current = Bucket(0, 0)
        self._start = self._end = 0

    def at(self, seconds: int) -> Bucket:
        """Return the bar of a moment; valid until the next call."""
        if self._start <= seconds < self._end:
            return self._current
        start = seconds - seconds % self._width
        bar = self._bars.get(start)
        if bar is None:
            bar = self._bars[start] = Bucket(start, self._width)
            if len(self._bars) > 4 * MOST:
                self._widen(_wider(self._width))
                return self.at(seconds)
        self._current, self._start, self._end = bar, start, start + self._width
        return bar

    def bars(self) -> list[Bucket]:
        """Return the bars from the first to the last without gaps, at most `MOST`."""
        if not self._bars:
            return []
        while (max(self._bars) - min(self._bars)) // self._width >= MOST:
            self._widen(_wider(self._width))
        starts = range(min(self._bars), max(self._bars) + 1, self._width)
        return [self._bars.get(start) or Bucket(start, self._width) for start in starts]

    def _widen(self, width: int) -> None:
        bars: dict[int, Bucket] = {}
        for old in self._bars.values():
            start = old.start - old.start % width
            bar = bars.setdefault(start, Bucket(start, width))
            bar.allowed += old.allowed
            bar.throttled += old.throttled
            bar.banned += old.banned
            bar.bans += old.bans
        self._bars, self._width, self._end = bars, width, self._start


def _wider(width: int) -> int:
    return next((wider for wider in _WIDTHS if wider > width), 2 * width)
