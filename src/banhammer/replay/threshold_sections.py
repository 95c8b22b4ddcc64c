"""The sections of the page about thresholds: what each did, how near the keys came, what other limits would do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from banhammer.replay import charts
from banhammer.replay.axes import span
from banhammer.replay.blocks import ROWS, intro, left_out, nothing, quantity, section, share, table
from banhammer.replay.markup import code, text
from banhammer.replay.summary import Summary, ThresholdReport, count

HISTOGRAMS: Final = 16
"""Headroom histograms at most; thresholds that denied something go first."""


def policies(summary: Summary) -> str:
    """Return what every threshold did."""
    title = "Policies and thresholds"
    if not summary.thresholds:
        return section(title, nothing("The rules hold no policy."))
    shadows = {policy.name for policy in summary.policies if policy.shadow}
    rows = [_threshold(one, shadow=one.policy in shadows) for one in summary.thresholds[:ROWS]]
    head = ("threshold", "hits", "throttled", "banned", "bans", "keys", "median", "p99", "nearest")
    lead = (
        "Every hit of a policy is measured by each of its thresholds. Median, p99 and nearest say how full the keys' "
        "meters got; nearest is the fullest that was never denied."
    )
    return section(
        title,
        intro(lead),
        table(title, head, rows),
        left_out(len(summary.thresholds) - len(rows), "threshold"),
    )


def headrooms(summary: Summary) -> str:
    """Return, for each threshold that saw a key, how near the keys came and what other limits would have done."""
    used = sorted((one for one in summary.thresholds if one.headroom.keys), key=lambda one: -one.denied)
    names = {one.name for one in used[:HISTOGRAMS]}
    shown = [one for one in summary.thresholds if one.name in names]
    title = "Headroom"
    if not shown:
        return section(title, nothing("No request reached a policy, so no meter was ever filled."))
    lead = (
        "How full each key's meter got, at its fullest. Much room between the crowd and the limit means that the rule "
        "hurts no person; a crowd at the limit means that it will. Below, how many of the same hits each threshold "
        "alone would have denied, with its limit and burst as they are and with others."
    )
    drawn = "".join(_headroom(index, one) for index, one in enumerate(shown))
    return section(
        title, intro(lead), f'<div class="grid">{drawn}</div>', left_out(len(used) - len(shown), "threshold")
    )


def _rate(one: ThresholdReport) -> str:
    burst = "" if one.burst == one.limit else f", {one.burst:,} at once"
    return f"{one.limit:,} per {span(one.period)}{burst}, {'bans' if one.bans_keys else 'throttles'}"


def _threshold(one: ThresholdReport, *, shadow: bool) -> Sequence[str]:
    room = one.headroom
    badge = '<span class="badge">shadow</span>' if shadow else ""
    nearest = "\u2013"
    if room.nearest is not None:
        who = f"<small>{code(room.nearest_key, 40)}</small>" if room.nearest_key else ""
        nearest = f"{_full(room.nearest)}{who}"
    numbers = (one.hits, one.throttled, one.banned, one.bans, one.keys)
    fullness = (_full(room.median), _full(room.p99)) if room.keys else ("\u2013", "\u2013")
    return [f"{code(one.name)}{badge}<small>{_rate(one)}</small>", *map(quantity, numbers), *fullness, nearest]


def _full(share: float) -> str:
    return f"{share:.0%}".replace("%", "\u00a0%")


def _headroom(index: int, one: ThresholdReport) -> str:
    room = one.headroom
    verdict = "banned" if one.bans_keys else "throttled"
    chart = charts.headroom(f"headroom-{index}", one.name, room.histogram, room.over, verdict)
    facts = f"{_rate(one)}; {count(room.keys, 'key')}, {room.over:,} over the limit"
    caption = f"<figcaption><h3>{code(one.name)}</h3><p>{text(facts)}</p></figcaption>"
    return f"<figure>{caption}{chart}{_what_if(one)}</figure>"


def _what_if(one: ThresholdReport) -> str:
    limits = (("half", 0.5), ("as it is", 1.0), ("double", 2.0), ("4 times", 4.0))
    asked = one.what_if
    denied = (asked.half, asked.unchanged, asked.double, asked.quadruple)
    kinds = ("", " now", "", "")
    head = "".join(
        f'<th scope="col" class="number{kind}">{words}<br>{_limit(one.limit * factor)}</th>'
        for (words, factor), kind in zip(limits, kinds, strict=True)
    )
    cells = "".join(
        f'<td class="number{kind}">{number:,}<small>{share(number, one.hits)}</small></td>'
        for number, kind in zip(denied, kinds, strict=True)
    )
    return (
        '<table class="whatif"><caption>Hits denied, had the limit been</caption>'
        f"<thead><tr>{head}</tr></thead><tbody><tr>{cells}</tr></tbody></table>"
    )


def _limit(value: float) -> str:
    return f"{value:,.1f}".removesuffix(".0")
