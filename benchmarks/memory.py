"""All contestants in one interleaved run.

A round takes one sample of every cell, and right before it one of the cell that it is compared with, so that a
busy neighbour on the machine costs both alike; each round begins with another cell.
"""

from __future__ import annotations

import gc

from benchmarks import footprint
from benchmarks.contestants import OURS
from benchmarks.peers import PEERS
from benchmarks.progress import Tell
from benchmarks.report import Results
from benchmarks.results import Sample, Samples, reference
from benchmarks.scenarios import GROUPS, SHAPES, Group
from benchmarks.timing import Cell

SAMPLE_MS = 40.0
CROWD_MS = 100.0
"""Longer where threads take turns: the interpreter switches every 5 ms."""
FOOTPRINT_KEYS = 100_000

QUICK_CALLS = 64
QUICK_FOOTPRINT_KEYS = 500


def run(rounds: int, *, quick: bool, tell: Tell) -> Results:
    """Measure everything in `rounds` rounds. `quick` takes samples too short to mean anything, for a test."""
    gc.freeze()  # What was imported is nobody's garbage: no sample pays for looking through it.
    cells = {group: _cells_of(group) for group in GROUPS}
    samples: Samples = {(cell.contestant, cell.group, cell.shape): [] for row in cells.values() for cell in row}
    for row in cells.values():
        for cell in row:
            if quick:
                cell.calls = QUICK_CALLS
            else:
                tell(f"warm-up: {cell.group}, {cell.contestant}")
                _warm_up(cell)
    for turn in range(rounds):
        for group, row in cells.items():
            tell(f"round {turn + 1} of {rounds}: {group}")
            start = turn * len(row) // rounds
            known = {(cell.contestant, cell.shape): cell for cell in row}
            for cell in row[start:] + row[:start]:
                before = known[reference(cell.contestant, cell.shape)].sample()
                ns = cell.sample()
                samples[cell.contestant, cell.group, cell.shape].append(Sample(ns, before))
                if not quick and ns * cell.calls < _length(cell) * 0.7e6:
                    cell.fit(ns, _length(cell))
    keys = QUICK_FOOTPRINT_KEYS if quick else FOOTPRINT_KEYS
    footprints = {}
    for contestant in footprint.CONTESTANTS:
        tell(f"memory: {contestant}")
        footprints[contestant] = footprint.measure(contestant, keys)
    return Results(rounds, samples, footprints, keys)


def _cells_of(group: Group) -> list[Cell]:
    return [
        Cell(contestant, group, shape)
        for shape in SHAPES
        for contestant in (*OURS, *PEERS)
        if contestant.threaded or shape.threads == 1
    ]


def _warm_up(cell: Cell) -> None:
    """Find the calls that fill a sample, and take one that does not count."""
    cell.fit(cell.sample(), 5.0)
    cell.fit(cell.sample(), _length(cell))
    cell.sample()


def _length(cell: Cell) -> float:
    return SAMPLE_MS if cell.shape.threads == 1 else CROWD_MS
