"""What a run on a shared store found, as plain aligned text or as one JSON object; ratios first."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from benchmarks.redis_costs import Costs
from benchmarks.redis_faults import AFTER_MS, OPEN_MS, Faults
from benchmarks.results import Spread, spread
from benchmarks.shared_bench import Found, Pair
from benchmarks.shared_contestants import Contestant
from benchmarks.shared_rows import Row

SERVER_BOUND = 12.0


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a ratio: at least `bound`, or at most it."""

    name: str
    rival: str
    ratio: Spread
    bound: float
    at_least: bool

    @property
    def met(self) -> bool:
        """Whether the median keeps the bound."""
        return self.ratio.median >= self.bound if self.at_least else self.ratio.median <= self.bound


def targets(found: Found) -> list[Target]:
    """Return every target on a ratio, each against the best peer in its row."""
    told: list[Target] = []
    for row in found.rows:
        best = _best(found, row)
        if row.bound is not None:
            told.append(Target(f"{row}", str(best), _ratio(found, row, best), row.bound, at_least=True))
        if row.p99_bound is not None:
            rival = min(found.peers(row), key=lambda peer: _spread(found, row, peer, _peer_p99).median)
            told.append(
                Target(f"{row}, p99", str(rival), _spread(found, row, rival, _p99_ratio), row.p99_bound, at_least=False)
            )
    if found.costs is not None:
        name = "server's time a decision, 3 thresholds, 64 in a call"
        told.append(Target(name, "return 1", found.costs.ratio, SERVER_BOUND, at_least=False))
    return told


def as_json(found: Found) -> dict[str, Any]:
    """Return the results as one object of plain values."""
    return {
        "machine": _machine(found),
        "rounds": found.rounds,
        "rows": [
            {
                "row": str(row),
                "peer": str(peer),
                "ratio": asdict(_ratio(found, row, peer)),
                "ours_ns": asdict(_spread(found, row, peer, lambda pair: pair.ours.ns)),
                "peer_ns": asdict(_spread(found, row, peer, lambda pair: pair.peer.ns)),
            }
            for row, peer in found.pairs
        ],
        "targets": [{**asdict(target), "met": target.met} for target in targets(found)],
        "costs": None if found.costs is None else _costs_object(found.costs),
        "faults": None if found.faults is None else _faults_object(found.faults),
    }


def as_text(found: Found) -> str:
    """Return the tables: the targets first, then every row, then what it costs and what fails."""
    machine = _machine(found)
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = [f"{machine['python']}, {machine['cores']} cores, {found.server}, {found.rounds} rounds; {versions}", ""]
    lines += _target_table(found)
    lines += ["", *_row_table(found)]
    if found.costs is not None:
        lines += ["", *_costs_table(found.costs)]
    if found.faults is not None:
        lines += ["", *_faults_table(found.faults)]
    return "\n".join(lines)


def _target_table(found: Found) -> list[str]:
    rows = [["ratio", "min..max", "target", "", "row", "against"]]
    for target in targets(found):
        bound = f"{'>=' if target.at_least else '<='} {target.bound:g}"
        verdict = "met" if target.met else "not met"
        rows.append(
            [f"{target.ratio.median:.2f}", _span(target.ratio, 2), bound, verdict, target.name, f"{target.rival}"]
        )
    return _aligned(rows, right=3)


def _row_table(found: Found) -> list[str]:
    rows = [["peer / ours", "min..max", "ours, us", "peer, us", "row", "peer (* best)"]]
    for row, peer in found.pairs:
        best = " *" if peer is _best(found, row) else ""
        ours = _spread(found, row, peer, lambda pair: pair.ours.ns / 1e3)
        its = _spread(found, row, peer, lambda pair: pair.peer.ns / 1e3)
        ratio = _ratio(found, row, peer)
        costs = [f"{ours.median:.1f}", f"{its.median:.1f}"]
        rows.append([f"{ratio.median:.2f}", _span(ratio, 2), *costs, str(row), f"{peer}{best}"])
    return _aligned(rows, right=4)


def _costs_table(costs: Costs) -> list[str]:
    rows = [["bytes, MEMORY USAGE", "by used_memory", "target", "", f"a key, of {costs.keys:,}"]]
    for size in costs.sizes:
        bound = "" if size.bound is None else f"<= {size.bound:g}"
        verdict = {None: "", True: "met", False: "not met"}[size.met]
        rows.append([f"{size.usage:.0f}", f"{size.used:.0f}", bound, verdict, f"{size.contestant}, {size.what}"])
    table = _aligned(rows, right=3)
    times = f"{costs.decision.median:.2f} us a decision, {costs.trivial.median:.2f} us a script that returns 1"
    table.append(f"the server's time: {times}")
    return table


def _faults_table(faults: Faults) -> list[str]:
    rows = [["failed", "without the store", "of calls", "tasks", "contestant"]]
    rows += [
        [*map(str, (each.failed, each.unasked, each.calls, each.tasks)), f"{each.contestant}, {each.setting}"]
        for each in faults.crowds
    ]
    table = _aligned(rows, right=4)
    table.append(f"no failure of ours by our defaults: {'met' if faults.none_failed else 'not met'}")
    bounds = f"a store that is stopped: each call in {OPEN_MS:g} ms until open, {AFTER_MS:g} ms after"
    dead = [
        ["until open", "min..max", "after", "min..max", "slower", "counts", "min..max", "slower", "of each", "", bounds]
    ]
    for each in faults.dead:
        row = [f"{each.until_open.median:.1f}", _span(each.until_open, 1)]
        row += [f"{each.after.median:.2f}", _span(each.after, 2), f"{each.slow}"]
        row += [f"{each.counting.median:.2f}", _span(each.counting, 2), f"{each.paused}", f"{each.calls}"]
        dead.append([*row, "met" if each.met else "not met", each.who])
    return [*table, "", *_aligned(dead, right=9)]


def _costs_object(costs: Costs) -> dict[str, Any]:
    return {
        "keys": costs.keys,
        "sizes": [{**asdict(size), "met": size.met} for size in costs.sizes],
        "us_decision": asdict(costs.decision),
        "us_trivial": asdict(costs.trivial),
        "ratio": asdict(costs.ratio),
    }


def _faults_object(faults: Faults) -> dict[str, Any]:
    return {
        "crowds": [asdict(crowd) for crowd in faults.crowds],
        "none_failed": faults.none_failed,
        "dead": [{**asdict(each), "met": each.met} for each in faults.dead],
    }


def _best(found: Found, row: Row) -> Contestant:
    """Return the peer with the least cost in a row."""
    return min(found.peers(row), key=lambda peer: _ratio(found, row, peer).median)


def _ratio(found: Found, row: Row, peer: Contestant) -> Spread:
    return _spread(found, row, peer, lambda pair: pair.peer.ns / pair.ours.ns)


def _peer_p99(pair: Pair) -> float:
    return pair.peer.p99 or 0.0


def _p99_ratio(pair: Pair) -> float:
    return (pair.ours.p99 or 0.0) / (pair.peer.p99 or 1.0)


def _spread(found: Found, row: Row, peer: Contestant, value: Callable[[Pair], float]) -> Spread:
    return spread([value(pair) for pair in found.pairs[row, peer]])


def _span(values: Spread, digits: int) -> str:
    return f"{values.least:.{digits}f}..{values.most:.{digits}f}"


def _aligned(rows: list[list[str]], *, right: int) -> list[str]:
    """Return the rows with equal widths a column, the first `right` of them set to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            text.rjust(width) if column < right else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _machine(found: Found) -> dict[str, Any]:
    names = ("banhammer-limiter", *found.libraries)
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.system(),
        "cores": os.cpu_count(),
        "server": found.server,
        "versions": {name: version(name) for name in names},
    }
