"""The chart of bans over time: a lane for each banned key, a bar for each ban."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from banhammer.replay.axes import day_time, moment, span
from banhammer.replay.charts import WIDTH, clock, figure, label, line, number, rect
from banhammer.replay.markup import plain, text
from banhammer.replay.summary import BanReport, count

LANES: Final = 16
"""Lanes at most; the keys with the longest bans are shown."""
_LEFT: Final = 196
_RIGHT: Final = 112
_LANE: Final = 38
_TOP: Final = 28
_BAR: Final = 16
_MANY: Final = 300
"""Bans from which on those that begin close together share a bar, so that the page stays small."""


@dataclass(frozen=True, slots=True)
class Lane:
    """The bans of one key under one policy, in the order in which they were made."""

    key: str
    policy: str
    bans: tuple[BanReport, ...]

    @property
    def longest(self) -> float:
        """The longest of them, in seconds."""
        return max(ban.until - ban.at for ban in self.bans)


@dataclass(frozen=True, slots=True)
class _Bar:
    left: float
    right: float
    last: BanReport
    """The ban it shows, and of several that share the bar, the last."""
    bans: int = 1


def lanes(bans: Sequence[BanReport]) -> list[Lane]:
    """Return a lane for each banned key and policy, those with the longest bans first."""
    found: dict[tuple[str, str], list[BanReport]] = {}
    for ban in bans:
        found.setdefault((ban.key, ban.policy), []).append(ban)
    every = [Lane(key, policy, tuple(made)) for (key, policy), made in found.items()]
    return sorted(every, key=lambda lane: (-lane.longest, lane.bans[0].at))


def bans_over_time(bans: Sequence[BanReport], first: float, last: float) -> str:
    """Return the bans of at most `LANES` keys, as they began, in a log from `first` to `last`; needs a ban."""
    every = lanes(bans)
    shown = sorted(every[:LANES], key=lambda lane: (lane.bans[0].at, lane.key))
    start = min(first, *(lane.bans[0].at for lane in shown))
    latest = max(ban.until for lane in shown for ban in lane.bans)
    # Most bans outlast the log: of the time behind it only so much is drawn that the log stays readable.
    end = last + min(max(latest - last, 0), max((last - start) / 5, 60))
    end = max(end, start + 1)
    right = WIDTH - _RIGHT
    scale = (right - _LEFT) / (end - start)
    bottom = _TOP + _LANE * len(shown)
    parts = clock(start, end, _LEFT, right, _TOP, bottom)
    parts.append(line(_LEFT, bottom, right, bottom, "base"))
    step = 4 if sum(len(lane.bans) for lane in shown) <= _MANY else 12
    for row, lane in enumerate(shown):
        parts += _lane(lane, _TOP + row * _LANE, start, end, scale, step)
    if latest > last:
        x = _LEFT + (last - start) * scale
        parts += [line(x, _TOP - 8, x, bottom, "drop"), label(x, _TOP - 13, "the log ends", "middle muted")]
    words = f"{count(len(bans), 'ban')} in {count(len(every), 'lane')}, of which {len(shown):,} are drawn."
    return figure("bans", WIDTH, bottom + 42, "Bans over time, a lane for each key", words, parts)


def _lane(lane: Lane, top: float, start: float, end: float, scale: float, step: float) -> list[str]:
    middle = top + _LANE / 2
    parts = [
        f"<g><title>{text(lane.key)} \u00b7 {text(lane.policy)}</title>",
        label(0, middle - 1, plain(lane.key, 25), "code"),
        label(0, middle + 13, plain(lane.policy, 30), "muted small"),
        "</g>",
        line(0, top + _LANE, WIDTH - _RIGHT, top + _LANE, "grid"),
    ]
    for bar in _bars(lane.bans, start, end, scale, step):
        width = max(bar.right - bar.left, 3)
        parts.append(rect(bar.left, middle - _BAR / 2, width, _BAR, "banned", _words(bar)))
        if width >= 16 + 7 * len(str(bar.last.strikes)):
            parts.append(label(bar.left + 6, middle + 4, str(bar.last.strikes), "inside"))
    final = max(lane.bans, key=lambda ban: ban.until)
    if final.until > end:
        x = WIDTH - _RIGHT
        parts.append(f'<path class="mark" d="M{number(x)} {number(middle - 8)}l8 8-8 8z"/>')
        until = "for ever" if math.isinf(final.until) else f"to {day_time(final.until)}"
        parts.append(label(x + 14, middle + 4, until))
    return parts


def _bars(bans: Sequence[BanReport], start: float, end: float, scale: float, step: float) -> list[_Bar]:
    """Return what is drawn: a ban that is lengthened ends where the longer one begins."""
    bars: list[_Bar] = []
    for ban in bans:
        left = _LEFT + (ban.at - start) * scale
        right = _LEFT + (min(ban.until, end) - start) * scale
        if bars and left - bars[-1].left < step:
            shared = bars[-1]
            bars[-1] = _Bar(shared.left, max(right, shared.right), ban, shared.bans + 1)
            continue
        # A shorter one does not lengthen: it is another key's that looks the same when masked.
        if bars and bars[-1].right > left - 1 and ban.until >= bars[-1].last.until:
            bars[-1] = replace(bars[-1], right=left - 1)
        bars.append(_Bar(left, right, ban))
    return bars


def _words(bar: _Bar) -> str:
    ban = bar.last
    until = "for ever" if math.isinf(ban.until) else f"until {moment(ban.until)} UTC ({span(ban.until - ban.at)})"
    first = f"{count(bar.bans, 'ban')} here, the last: " if bar.bans > 1 else ""
    return f"{first}{moment(ban.at)} UTC, {until} \u00b7 strike {ban.strikes:,} \u00b7 {ban.reason}"
