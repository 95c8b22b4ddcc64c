"""All contestants on a store of their own, in one interleaved run.

A round takes one sample of every peer in every row, and right before it one of ours, so that a busy neighbour on the
machine costs both alike; each round begins with another row.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import redis_costs, redis_faults
from benchmarks.progress import Tell
from benchmarks.servers import Site
from benchmarks.shared_contestants import OURS, Contestant, Rivals
from benchmarks.shared_rows import Row
from benchmarks.shared_timing import Arena, Cell, Measure

SAMPLE_MS = 200.0
ATTACK_MS = 1_000.0
"""As long as an entry of a cache of denials may live: what asking anew costs belongs to the sample."""
QUICK_CALLS = 64

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
    libraries: Sequence[str]
    rounds: int
    pairs: dict[Key, list[Pair]]
    costs: redis_costs.Costs | None = None
    faults: redis_faults.Faults | None = None

    @property
    def rows(self) -> list[Row]:
        """What was measured."""
        return list(dict.fromkeys(row for row, _ in self.pairs))

    def peers(self, row: Row) -> list[Contestant]:
        """Return who was measured beside us in a row."""
        return [peer for at, peer in self.pairs if at == row]


def run(site: Site, rows: Sequence[Row], rivals: Rivals, rounds: int, *, quick: bool, tell: Tell) -> Found:
    """Measure `rows` on `site`. `quick` takes samples too short to mean anything, for a test."""
    peers = rivals.peers
    gc.freeze()  # What was imported is nobody's garbage: no sample pays for looking through it.
    pairs: dict[Key, list[Pair]] = {(row, peer): [] for row in rows for peer in peers}
    with Arena(site, quick=quick) as arena:
        cells = {(row, each): Cell(each, row, max(QUICK_CALLS, row.many)) for row in rows for each in (OURS, *peers)}
        for (row, contestant), cell in cells.items() if not quick else ():
            tell(f"warm-up: {row}, {contestant}")
            _warm_up(cell, arena)
        gc.collect()
        gc.freeze()  # Nor are the limiters and what they keep.
        for turn in range(rounds):
            start = turn * len(rows) // rounds
            for row in [*rows[start:], *rows[:start]]:
                tell(f"round {turn + 1} of {rounds}: {row}")
                for peer in peers:
                    ours = cells[row, OURS].sample(arena)
                    pairs[row, peer].append(Pair(ours, cells[row, peer].sample(arena)))
    return Found(site.version, rivals.libraries, rounds, pairs)


def _warm_up(cell: Cell, arena: Arena) -> None:
    """Find the calls that fill a sample, and take one that does not count."""
    cell.fit(cell.sample(arena).ns, 20.0)
    cell.fit(cell.sample(arena).ns, SAMPLE_MS if cell.row.rules != "attack" else ATTACK_MS)
    cell.fit(cell.sample(arena).ns, SAMPLE_MS if cell.row.rules != "attack" else ATTACK_MS)
