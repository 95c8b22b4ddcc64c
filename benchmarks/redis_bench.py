"""All contestants on a store of their own, in one interleaved run.

A round takes one sample of every peer in every row, and right before it one of ours, so that a busy neighbour on the
machine costs both alike; each round begins with another row.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks import redis_costs, redis_faults
from benchmarks.redis_contestants import OURS, Contestant
from benchmarks.redis_peers import PEERS
from benchmarks.redis_rows import CLUSTER, REDIS, Row
from benchmarks.redis_timing import Arena, Cell, Measure
from benchmarks.servers import Site, cluster, standalone, version_of

SAMPLE_MS = 200.0
ATTACK_MS = 1_000.0
"""As long as an entry of a cache of denials may live: what asking anew costs belongs to the sample."""
QUICK_CALLS = 64

Tell = Callable[[str], None]
Key = tuple[Row, Contestant]


@dataclass(frozen=True, slots=True)
class Pair:
    """A peer's sample and ours, taken right before it."""

    ours: Measure
    peer: Measure


@dataclass(slots=True)
class Found:
    """All that one run found."""

    server: str
    rounds: int
    pairs: dict[Key, list[Pair]]
    costs: redis_costs.Costs | None = None
    faults: redis_faults.Faults | None = None
    rows: Sequence[Row] = field(default=REDIS)


def run_standalone(program: str, rounds: int, *, quick: bool, tell: Tell) -> Found:
    """Measure everything on one server of `program`. `quick` takes samples too short to mean anything, for a test."""
    with standalone(program) as site:
        found = _run(site, REDIS, rounds, quick=quick, tell=tell)
        tell("what it costs the server")
        found.costs = redis_costs.measure(site, 1 if quick else rounds, quick=quick)
        tell("what happens when it fails")
        found.faults = redis_faults.measure(site, quick=quick)
        return found


def run_cluster(program: str, rounds: int, *, quick: bool, tell: Tell) -> Found:
    """Measure what a cluster of three masters is asked for."""
    with cluster(program) as site:
        return _run(site, CLUSTER, rounds, quick=quick, tell=tell)


def _run(site: Site, rows: Sequence[Row], rounds: int, *, quick: bool, tell: Tell) -> Found:
    gc.freeze()  # What was imported is nobody's garbage: no sample pays for looking through it.
    pairs: dict[Key, list[Pair]] = {(row, peer): [] for row in rows for peer in PEERS}
    with Arena(site, quick=quick) as arena:
        cells = {(row, each): Cell(each, row, max(QUICK_CALLS, row.many)) for row in rows for each in (OURS, *PEERS)}
        for (row, contestant), cell in cells.items() if not quick else ():
            tell(f"warm-up: {row}, {contestant}")
            _warm_up(cell, arena)
        for turn in range(rounds):
            start = turn * len(rows) // rounds
            for row in [*rows[start:], *rows[:start]]:
                tell(f"round {turn + 1} of {rounds}: {row}")
                for peer in PEERS:
                    ours = cells[row, OURS].sample(arena)
                    pairs[row, peer].append(Pair(ours, cells[row, peer].sample(arena)))
    return Found(version_of(site), rounds, pairs, rows=rows)


def _warm_up(cell: Cell, arena: Arena) -> None:
    """Find the calls that fill a sample, and take one that does not count."""
    cell.fit(cell.sample(arena).ns, 20.0)
    cell.fit(cell.sample(arena).ns, SAMPLE_MS if cell.row.keys == "seen" else ATTACK_MS)
    cell.fit(cell.sample(arena).ns, SAMPLE_MS if cell.row.keys == "seen" else ATTACK_MS)
