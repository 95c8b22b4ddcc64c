"""What a replay cannot say by itself: why its numbers may mislead, which rules were idle, and what to do next."""

from __future__ import annotations

import ipaddress
import shlex
from dataclasses import dataclass
from typing import Final

from banhammer.durations import format_duration
from banhammer.replay.bounded import MOST_KEYS
from banhammer.replay.engine import STARTER, Rules
from banhammer.replay.order import MOST_WAITING
from banhammer.replay.summary import Summary, ThresholdReport, count, percent

_INNER: Final = tuple(
    map(
        ipaddress.ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "127.0.0.0/8", "fc00::/7", "::1/128"),
    )
)
"""Where proxies live; not the ranges for documentation, which `is_private` counts too."""

_HURT: Final = 0.001
"""The share of requests denied although served from which the rules look too strict."""
_UNREADABLE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the numbers of a summary do not tell."""

    rules: Rules
    held: frozenset[str]
    """The fields that the log holds, spelled as in `Selector.needs`."""
    whole_seconds: bool
    late: int
    crowded: int
    busiest: tuple[str, int] | None
    estimated: bool
    damage: list[str]


def conclude(summary: Summary, evidence: Evidence) -> None:
    """Fill in `not_replayable`, `idle`, `doubts` and `next_step`."""
    summary.not_replayable = [
        f"routes.{index}: {route.policy} by {route.key.text}"
        for index, route in enumerate(evidence.rules.routes)
        if not route.skip and not route.key.held_by(evidence.held)
    ]
    summary.idle = _idle(summary, evidence)
    summary.doubts = _doubts(summary, evidence)
    summary.next_step = _next_step(summary, evidence)


def _idle(summary: Summary, evidence: Evidence) -> list[str]:
    idle = []
    for policy in summary.policies:
        if not policy.hits.total:
            routed = any(route.policy == policy.name for route in evidence.rules.routes)
            idle.append(f"{policy.name}: {'no request came here' if routed else 'no route leads to it'}")
            continue
        idle += [_calm(threshold) for threshold in policy.thresholds if not threshold.denied]
    return idle


def _calm(threshold: ThresholdReport) -> str:
    nearest = threshold.headroom.nearest
    if nearest is None:
        return f"{threshold.name}: never crossed"
    return f"{threshold.name}: never crossed; the nearest key filled {100 * nearest:.0f} %"


def _doubts(summary: Summary, evidence: Evidence) -> list[str]:
    doubts = list(evidence.damage)
    total = summary.requests.total
    if summary.skipped:
        share = percent(summary.skipped, summary.lines)
        doubts.append(f"{count(summary.skipped, 'line')} ({share}) could not be read: left out.")
    if not total:
        return doubts
    doubts += _proxy(total, evidence)
    if evidence.whole_seconds:
        doubts.append(
            "All times are whole seconds: what came within one second counts as at once, so meters look fuller."
        )
    for index, route in enumerate(evidence.rules.routes):
        first = route.key.alternatives[0]
        if not route.skip and not first <= evidence.held and route.key.held_by(evidence.held):
            lacking = ", ".join(sorted(first - evidence.held))
            doubts.append(f"routes.{index} counts by {route.key.text}, but the log does not hold {lacking}.")
    doubts += _short(summary, evidence)
    if evidence.late:
        late = count(evidence.late, "line")
        doubts.append(
            f"{late} came more than 60 s late, decided at the time of the one decided before; where they are many, "
            "look for a line from the future."
        )
    if evidence.crowded:
        doubts.append(f"Over {MOST_WAITING:,} lines fell within 60 s, so late ones among them may be out of order.")
    if evidence.estimated:
        doubts.append(
            f"There were more than {MOST_KEYS:,} keys: their number is an estimate, and of each policy the so many "
            "that matter most were kept in mind."
        )
    shadow = [policy.name for policy in summary.policies if policy.shadow]
    if shadow:
        doubts.append(f"In shadow mode, so nothing was denied by it: {', '.join(shadow)}.")
    return doubts


def _proxy(total: int, evidence: Evidence) -> list[str]:
    if evidence.busiest is None:
        return []
    key, number = evidence.busiest
    if 2 * number <= total or not _is_private(key):
        return []
    return [
        f"{percent(number, total)} of the requests come from one private address, {key}: the log holds your "
        "proxy, not your clients. Log the address that the proxy forwards."
    ]


def _is_private(key: str) -> bool:
    try:
        network = ipaddress.ip_network(key, strict=False)
    except ValueError:
        return False
    return any(network.version == inner.version and network.subnet_of(inner) for inner in _INNER)  # type: ignore[arg-type]


def _short(summary: Summary, evidence: Evidence) -> list[str]:
    """Doubt a log that is shorter than what the rules look at."""
    if summary.first is None or summary.last is None:
        return []
    span = round((summary.last - summary.first) * 1e6)
    longest = max((level.period for policy in evidence.rules.policies for level in policy.thresholds), default=0)
    if span >= longest:
        return []
    return [
        f"The log spans {format_duration(span)}, less than the longest period of the rules "
        f"({format_duration(longest)}): slow attackers cannot show."
    ]


def _next_step(summary: Summary, evidence: Evidence) -> str:
    logs = " ".join(shlex.quote(name) for name in summary.sources)
    starter = evidence.rules.origin == STARTER
    file = "banhammer.toml" if starter else shlex.quote(evidence.rules.origin)
    again = f"banhammer replay {logs} --config {file}"
    total = summary.requests.total
    if summary.skipped > _UNREADABLE * max(summary.lines, 1) or not total:
        return f"Give a log in combined, common, Caddy or Traefik JSON format: banhammer replay {logs}"
    if evidence.busiest and _proxy(total, evidence):
        return f"Log the real addresses of your clients, then replay that log: banhammer replay {logs}"
    if summary.denied_served > _HURT * total:
        worst = summary.served[0].key
        begin = "banhammer init, " if starter else ""
        return (
            f"Find out who {worst} is. If they are welcome, allow them or raise the limit that denied them: "
            f"{begin}edit {file}, then {again}"
        )
    if starter:
        return f"Make the rules yours: banhammer init, edit {file}, then {again}"
    return f'Try them live without denying anybody: set mode = "shadow" in {file}, then banhammer check {file}'
