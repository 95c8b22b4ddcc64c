"""Charts as SVG text, from plain numbers: no clock, no I/O; colours and fonts are the page's, by class.

Every chart has a title and a description for those who do not see it, and a tooltip on every mark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from banhammer.replay.axes import clock_ticks, count_ticks, moment, short
from banhammer.replay.markup import text
from banhammer.replay.summary import Bucket, count

WIDTH: Final = 760
_LEFT: Final = 52
_RIGHT: Final = 30
_REQUESTS: Final = (30, 180)
"""Top and bottom of the panel of all requests; below it stands that of the kept out, on its own scale."""
_KEPT_OUT: Final = (214, 274)
_LABEL_ROOM: Final = 24
"""Pixels between two numbers over the marks of bans."""


def figure(name: str, width: int, height: float, title: str, description: str, body: Sequence[str]) -> str:
    """Return one SVG element; `name` is an identifier that is used once in the page."""
    return (
        f'<svg class="chart {text(name.split("-")[0])}" role="img" viewBox="0 0 {width} {number(height)}" '
        f'aria-labelledby="{text(name)}-title" aria-describedby="{text(name)}-desc" xmlns="http://www.w3.org/2000/svg">\n'
        f'<title id="{text(name)}-title">{text(title)}</title>'
        f'<desc id="{text(name)}-desc">{text(description, 1_000)}</desc>\n' + "\n".join(body) + "\n</svg>"
    )


def number(value: float) -> str:
    """Return a coordinate, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def label(x: float, y: float, words: str, kind: str = "") -> str:
    """Return a text; `kind` are classes like `end` or `strong`."""
    classes = f' class="{kind}"' if kind else ""
    return f'<text x="{number(x)}" y="{number(y)}"{classes}>{text(words)}</text>'


def rect(x: float, y: float, width: float, height: float, kind: str, tooltip: str = "") -> str:
    """Return a rectangle, with a tooltip if there is one."""
    head = f'<rect class="{kind}" x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
    return f"{head}><title>{text(tooltip)}</title></rect>" if tooltip else f"{head}/>"


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """Return a line."""
    return f'<line class="{kind}" x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}"/>'


def clock(start: float, end: float, left: float, right: float, top: float, bottom: float) -> list[str]:
    """Return the grid and the labels of a time axis that runs from `left` to `right` below `bottom`."""
    parts = []
    scale = (right - left) / (end - start)
    for tick in clock_ticks(start, end):
        x = left + (tick.at - start) * scale
        parts.append(line(x, top, x, bottom, "grid"))
        parts.append(label(x, bottom + 17, tick.label, "middle"))
        if tick.below:
            parts.append(label(x, bottom + 32, tick.below, "middle muted"))
    return parts


def timeline(buckets: Sequence[Bucket]) -> str:
    """Return the requests over time by verdict, bans marked; there must be a bucket."""
    start, end = buckets[0].start, buckets[-1].start + buckets[-1].width
    slot = (WIDTH - _LEFT - _RIGHT) / len(buckets)
    denied = any(bucket.throttled or bucket.banned for bucket in buckets)
    bottom = _KEPT_OUT[1] if denied else _REQUESTS[1]
    parts = clock(start, end, _LEFT, WIDTH - _RIGHT, _REQUESTS[0], bottom)
    parts += _panel(buckets, _REQUESTS, "requests", ("banned", "throttled", "allowed"))
    if denied:
        parts += _panel(buckets, _KEPT_OUT, "kept out, on its own scale", ("banned", "throttled"))
    parts += _ban_marks(buckets, slot, bottom)
    for index, bucket in enumerate(buckets):
        x = _LEFT + index * slot
        parts.append(rect(x, 0, slot, bottom, "hover", _bucket_words(bucket)))
    return figure("timeline", WIDTH, bottom + 42, "Requests over time", _timeline_words(buckets), parts)


def _panel(buckets: Sequence[Bucket], room: tuple[int, int], words: str, verdicts: Sequence[str]) -> list[str]:
    """Return stacked bars between the two heights of `room`, the first verdict at the bottom."""
    top, bottom = room
    ticks = count_ticks(max(sum(getattr(bucket, verdict) for verdict in verdicts) for bucket in buckets), 3)
    scale = (bottom - top) / ticks[-1]
    parts = [label(_LEFT, top - 8, words, "muted")]
    for tick in ticks:
        y = bottom - tick * scale
        parts.append(line(_LEFT, y, WIDTH - _RIGHT, y, "grid" if tick else "base"))
        parts.append(label(_LEFT - 8, y + 4, short(tick), "end"))
    slot = (WIDTH - _LEFT - _RIGHT) / len(buckets)
    width = min(slot - min(2.0, slot / 4), 44)
    for index, bucket in enumerate(buckets):
        above: float = bottom
        x = _LEFT + index * slot + (slot - width) / 2
        for verdict in verdicts:
            height = getattr(bucket, verdict) * scale
            if height:
                above -= height
                parts.append(rect(x, above, width, max(height, 0.8), verdict))
    return parts


def _ban_marks(buckets: Sequence[Bucket], slot: float, bottom: float) -> list[str]:
    parts: list[str] = []
    free: float = 0
    for index, bucket in enumerate(buckets):
        if not bucket.bans:
            continue
        x = _LEFT + (index + 0.5) * slot
        parts.append(line(x, 20, x, bottom, "drop"))
        parts.append(f'<path class="mark" d="M{number(x - 5)} 12h10l-5 9z"/>')
        if bucket.bans > 1 and x >= free:
            parts.append(label(x, 9, short(bucket.bans), "middle strong"))
            free = x + _LABEL_ROOM
    return parts


def _bucket_words(bucket: Bucket) -> str:
    parts = [f"{moment(bucket.start)} UTC", f"{bucket.allowed:,} allowed"]
    parts += [f"{bucket.throttled:,} throttled", f"{bucket.banned:,} banned"]
    if bucket.bans:
        parts.append(f"{count(bucket.bans, 'ban')} began")
    return " \u00b7 ".join(parts)


def _timeline_words(buckets: Sequence[Bucket]) -> str:
    total = sum(bucket.allowed + bucket.throttled + bucket.banned for bucket in buckets)
    denied = sum(bucket.throttled + bucket.banned for bucket in buckets)
    bans = sum(bucket.bans for bucket in buckets)
    busiest = max(buckets, key=lambda bucket: bucket.allowed + bucket.throttled + bucket.banned)
    most = busiest.allowed + busiest.throttled + busiest.banned
    return (
        f"{count(total, 'request')} in {count(len(buckets), 'bar')} from {moment(buckets[0].start)} UTC; "
        f"{denied:,} kept out, {count(bans, 'ban')}. The busiest bar, {moment(busiest.start)}, "
        f"has {count(most, 'request')}."
    )


def headroom(name: str, threshold: str, histogram: Sequence[int], over: int, verdict: str) -> str:
    """Return how full the keys' meters got: a bar a bin, the limit as a line, and right of it those over.

    `verdict` is the class of those: `throttled` or `banned`. The heights are logarithmic, because nearly all
    keys stand on the left and the few on the right are those that matter.
    """
    width, left, right, top, bottom = 360, 40, 8, 26, 150
    slot = (width - left - right) / (len(histogram) + 3)
    limit = left + slot * len(histogram) + slot * 0.5
    highest = max(*histogram, over, 1)
    powers = [10**power for power in range(len(str(highest))) if highest >= 2 * 10**power]
    scale = (bottom - top) / math.log10(highest + 1)

    def height(keys: int) -> float:
        return math.log10(keys + 1) * scale

    parts = [label(left, 12, "keys, logarithmic", "muted"), line(left, bottom, width - right, bottom, "base")]
    for tick in (*powers[:: -(-len(powers) // 4) or 1], highest):
        y = bottom - height(tick)
        parts += [line(left, y, width - right, y, "grid"), label(left - 7, y + 4, short(tick), "end")]
    step = 100 / len(histogram)
    for index, keys in enumerate(histogram):
        if keys:
            tooltip = f"{index * step:g} to {(index + 1) * step:g} % full: {count(keys, 'key')}"
            x = left + index * slot
            parts.append(rect(x + 1, bottom - height(keys), slot - 2, height(keys), "allowed", tooltip))
    if over:
        tooltip = f"over the limit: {count(over, 'key')}"
        parts.append(rect(limit + 4, bottom - height(over), 2 * slot - 4, height(over), verdict, tooltip))
    parts += [line(limit, 18, limit, bottom + 4, "limit"), label(limit, 12, "limit", "middle strong")]
    for percent in (0, 25, 50, 75):
        parts.append(label(left + slot * len(histogram) * percent / 100, bottom + 17, f"{percent} %", "middle"))
    parts.append(label(width - right, bottom + 17, "over", "end"))
    keys = sum(histogram)
    half = sum(histogram[len(histogram) // 2 :])
    words = (
        f"Of {count(keys + over, 'key')}, {over:,} went over the limit; "
        f"of the others, {half:,} came at least half way to it."
    )
    return figure(name, width, bottom + 26, f"Headroom under {threshold}", words, parts)
