"""The results as plain aligned text, or as one JSON object."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from benchmarks.contestants import HIT, Contestant
from benchmarks.peers import LIBRARIES
from benchmarks.results import Key, Samples, Spread, Target, costs, fastest, ratio, targets
from benchmarks.scenarios import GROUPS, SHAPES, Group, Shape


@dataclass(frozen=True, slots=True)
class Results:
    """All that one run found."""

    rounds: int
    samples: Samples
    footprints: dict[Contestant, float]
    keys: int
    """How many distinct keys the footprints were measured with."""


def as_json(results: Results) -> dict[str, Any]:
    """Return the results as one object of plain values."""
    samples = results.samples
    return {
        "machine": _machine(),
        "rounds": results.rounds,
        "rows": [
            {
                "keys": group.keys,
                "verdict": "allowed" if group.admitted else "denied",
                "thresholds": shape.thresholds,
                "threads": shape.threads,
                "contestant": str(contestant),
                "library": contestant.library,
                "cost_of_hit": asdict(_of_hit(samples, (contestant, group, shape))),
                "ns": asdict(costs(samples, (contestant, group, shape))),
            }
            for contestant, group, shape in samples
        ],
        "targets": [{**asdict(target), "group": str(target.group), "met": target.met} for target in targets(samples)],
        "bytes_per_key": {
            "keys": results.keys,
            "rows": [{"contestant": str(each), "bytes": size} for each, size in results.footprints.items()],
        },
    }


def as_text(results: Results) -> str:
    """Return the tables: the targets first, then every scenario, then memory."""
    machine = _machine()
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    lines = [f"{machine['python']}, {machine['cores']} cores, {results.rounds} rounds; {versions}", ""]
    lines += _targets(targets(results.samples))
    for group in GROUPS:
        for shape in SHAPES:
            lines += ["", *_scenario(results.samples, group, shape)]
    lines += ["", *_footprints(results)]
    return "\n".join(lines)


def _targets(found: list[Target]) -> list[str]:
    header = ["target (ratio of costs, median)", "", *(str(group) for group in GROUPS)]
    rows = [header]
    for name in dict.fromkeys(target.name for target in found):
        same = [target for target in found if target.name == name]
        bound = f"{'>=' if same[0].at_least else '<='} {same[0].bound:g}"
        verdicts = [f"{target.ratio.median:.2f} {'met' if target.met else 'not met'}" for target in same]
        rows.append([name, bound, *verdicts])
    return _aligned(rows, left=1)


def _scenario(samples: Samples, group: Group, shape: Shape) -> list[str]:
    threads = "1 thread" if shape.threads == 1 else f"{shape.threads} threads"
    title = f"{group}, {threads}, {shape.thresholds} threshold{'s' if shape.thresholds > 1 else ''}"
    baselines = {fastest(samples, library, group, shape) for library in LIBRARIES}
    rows = [["cost of hit", "min..max", "ns a call", "min..max", title]]
    for contestant, *where in samples:
        if where != [group, shape]:
            continue
        cost = _of_hit(samples, (contestant, group, shape))
        ns = costs(samples, (contestant, group, shape))
        name = f"{contestant}{' *' if contestant in baselines else ''}"
        rows.append([f"{cost.median:.2f}", _span(cost, 2), f"{ns.median:.0f}", _span(ns, 0), name])
    return _aligned(rows, right=4)


def _footprints(results: Results) -> list[str]:
    rows = [["cost of hit", "bytes a key", f"{results.keys:,} distinct keys, 1 threshold"]]
    ours = results.footprints[HIT]
    rows += [[f"{size / ours:.2f}", f"{size:.0f}", str(each)] for each, size in results.footprints.items()]
    return _aligned(rows, right=2)


def _span(values: Spread, digits: int) -> str:
    return f"{values.least:.{digits}f}..{values.most:.{digits}f}"


def _aligned(rows: list[list[str]], *, left: int = 0, right: int | None = None) -> list[str]:
    """Return the rows with equal widths a column; those from `left` to before `right` are set to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    end = len(widths) if right is None else right
    return [
        "  ".join(
            text.rjust(width) if left <= column < end else text.ljust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _machine() -> dict[str, Any]:
    names = ("banhammer-limiter", *LIBRARIES)
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.system(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in names},
    }


def _of_hit(samples: Samples, key: Key) -> Spread:
    """Return the cost compared with that of `hit` in the same shape."""
    return Spread(1.0, 1.0, 1.0) if key[0] is HIT else ratio(samples, key)
