"""What policies and routes do, in words: from their settings alone."""

from __future__ import annotations

from typing import Final

from banhammer.durations import DAY, FOREVER, HOUR, MINUTE, SECOND, format_duration
from banhammer.model import Policy, Threshold
from banhammer.routes import Route

_TELLING: Final = 1_000
"""Rounding is told of when it changes a rate by more than one part in so many."""
_STEPS: Final = ((DAY, HOUR), (HOUR, MINUTE), (MINUTE, SECOND), (10_000, 1_000))


def describe(policy: Policy) -> list[str]:
    """Return one line a threshold, like `10 at once, then 1 every 6m, at most 20 in any 1h; the 11th ...`."""
    return [describe_threshold(threshold) for threshold in policy.thresholds]


def describe_threshold(threshold: Threshold) -> str:
    """Return how much one threshold lets through, and what follows when a key goes over it."""
    actions = f"; runs {', '.join(threshold.actions)}" if threshold.actions else ""
    if not threshold.burst:
        return f"none at all; the first hit {ladder(threshold)}{actions}"
    period = format_duration(threshold.period)
    # Of a steady flow so much fits into a closed window (G1 of the invariants): burst + floor(period / T).
    most = threshold.burst + threshold.period // threshold.interval
    flow = f"{threshold.burst:,} at once, then {_every(threshold)}, at most {most:,} in any {period}"
    over = f"the {ordinal(threshold.burst + 1)} at once"
    follows = ladder(threshold) if threshold.ban else "is denied until there is room again"
    return f"{flow}; {over} {follows}{actions}{_rounding(threshold)}"


def ladder(threshold: Threshold) -> str:
    """Return the rungs, like `bans for 1h, then 6h, then 1d`."""
    rungs = ["ever" if rung >= FOREVER else format_duration(rung) for rung in threshold.ban]
    return f"bans for {', then '.join(rungs)}".replace("then ever", "then for ever")


def rate(threshold: Threshold) -> str:
    """Return the two numbers that make a meter, like `10 at once, then 1 every 6m`."""
    return f"{threshold.burst:,} at once, then {_every(threshold)}"


def ordinal(number: int) -> str:
    """Return `1st`, `2nd`, `11th`."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{ending}"


def _every(threshold: Threshold) -> str:
    span = format_duration(threshold.interval)
    rounded = _leading(threshold.interval)
    return f"1 every {span}" if rounded == span else f"about 1 every {rounded}"


def _leading(micros: int) -> str:
    """Return the duration to its two largest units: nobody reads `8m34s285ms715us`."""
    step = next((step for least, step in _STEPS if micros >= least), 1)
    return format_duration((micros + step // 2) // step * step)


def _rounding(threshold: Threshold) -> str:
    """Return the effective rate where rounding the emission interval up to whole microseconds changes it."""
    exact, kept = threshold.period, threshold.interval * threshold.limit
    if (kept - exact) * _TELLING <= kept:
        return ""
    period = format_duration(threshold.period)
    effective = threshold.period / threshold.interval
    less = 100 * (kept - exact) / kept
    return (
        f" (in effect {effective:,.1f} per {period}, {less:.1f} % less than {threshold.limit:,}: "
        "1 unit takes whole microseconds)"
    )


def describe_route(route: Route) -> str:
    """Return which requests a route takes and what it makes of them."""
    methods = f"{', '.join(sorted(route.methods))} " if route.methods else ""
    paths = "every path" if "*" in route.path else ", ".join(route.path)
    beside = f" except {', '.join(route.excluded)}" if route.excluded else ""
    who = f"{methods}{paths}{beside}"
    if route.skip:
        return f"{who}: no hit, and no route behind is asked"
    cost = f" of cost {route.cost:,}" if route.cost > 1 else ""
    if not route.status:
        return f"{who}: a hit{cost} on {route.policy} before the response, by {route.key.text}"
    codes = " or ".join(route.status)
    return f"{who}: asks {route.policy} before, a hit{cost} after a response of {codes}, by {route.key.text}"
