"""The command `banhammer replay` with the starter rules, beside `apachelogs` that only parses the same lines.

Each runs in a process of its own and on one core, in turns, so that a busy neighbour on the machine costs both alike.
Of ours everything counts, from the start of the interpreter to the last line of JSON; of theirs only the loop.
"""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from benchmarks.progress import Tell
from benchmarks.results import Spread, spread

LINES: Final = 200_000
PARSED: Final = 20_000
"""Lines that apachelogs parses in a round: its speed does not depend on their number."""
QUICK_LINES: Final = 1_000
LEAST_SPEED: Final = 50_000.0
LEAST_RATIO: Final = 8.0
FIRST_YEAR: Final = 1972
LEAP: Final = 4
"""Years from one repetition of a log to the next, so that a 29th of February stays one."""
END: Final = 2200

_YEAR: Final = re.compile(rb"(?<=\[\d\d/[A-Za-z]{3}/)\d{4}(?=:)")
_PEER: Final = """
import sys, time
from itertools import islice
from apachelogs import COMBINED, InvalidEntryError, LogParser
with open(sys.argv[1], encoding="utf-8") as log:
    lines = list(islice(log, int(sys.argv[2])))
parse = LogParser(COMBINED).parse
wall, cpu = time.perf_counter(), time.process_time()
for line in lines:
    try:
        parse(line)
    except InvalidEntryError:  # A torn line, which a replay still reads.
        continue
print(time.perf_counter() - wall, time.process_time() - cpu, len(lines))
"""


@dataclass(frozen=True, slots=True)
class Speed:
    """Lines a second of one sample: of processor time (user and system), and of time on the wall."""

    cpu: float
    wall: float


@dataclass(frozen=True, slots=True)
class Results:
    """What all rounds found."""

    lines: int
    ours: list[Speed]
    theirs: list[Speed]

    @property
    def ratio(self) -> Spread:
        """How many lines we replay while apachelogs parses one, each round for itself."""
        return spread([our.cpu / their.cpu for our, their in zip(self.ours, self.theirs, strict=True)])

    @property
    def met(self) -> bool:
        """Whether one of the two targets is."""
        return self.ratio.median >= LEAST_RATIO or spread([one.cpu for one in self.ours]).median >= LEAST_SPEED


def run(log: Path | None, rounds: int, *, quick: bool, tell: Tell) -> Results:
    """Measure in `rounds` rounds; without `log` on the log of the demo. `quick` is too short to mean anything."""
    import_module("apachelogs")  # Missed here, before anything is measured.

    lines, parsed = (QUICK_LINES, QUICK_LINES) if quick else (LINES, PARSED)
    with tempfile.TemporaryDirectory() as folder:
        long = Path(folder) / "access.log"
        with long.open("wb") as file:
            file.writelines(repeated(_demo() if log is None else log.read_bytes().splitlines(), lines))
        ours, theirs = [], []
        for turn in range(rounds):
            tell(f"round {turn + 1} of {rounds}")
            ours.append(_replay(long, lines))
            theirs.append(_parse(long, parsed))
    return Results(lines, ours, theirs)


def repeated(lines: list[bytes], number: int) -> Iterator[bytes]:
    """Yield so many lines, the given ones again and again, every time four years later, so that time goes on."""
    found = _YEAR.search(b"\n".join(lines))
    if found is None or number * LEAP > len(lines) * (END - FIRST_YEAR - LEAP):
        raise ValueError(f"a log of {len(lines):,} lines is no combined log, or too short; name another")
    shift = (FIRST_YEAR - int(found[0])) // LEAP * LEAP + LEAP
    for index in range(number):
        turn, place = divmod(index, len(lines))
        yield _YEAR.sub(partial(_later, shift + turn * LEAP), lines[place]) + b"\n"


def _later(years: int, year: re.Match[bytes]) -> bytes:
    return b"%d" % (int(year[0]) + years)


def as_json(results: Results) -> dict[str, Any]:
    """Return the results as one object of plain values."""
    return {
        "machine": _machine(),
        "lines": results.lines,
        "rounds": len(results.ours),
        "ratio": asdict(results.ratio),
        "replay": _speeds(results.ours),
        "apachelogs": _speeds(results.theirs),
        "targets": {"ratio": LEAST_RATIO, "lines_a_second": LEAST_SPEED, "met": results.met},
    }


def as_text(results: Results) -> str:
    """Return the ratio, then lines a second of both."""
    machine, ratio = _machine(), results.ratio
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    rows = [("", "lines/s of CPU", "min..max", "lines/s of wall", "min..max")]
    for name, samples in (("banhammer replay", results.ours), ("apachelogs, parsing", results.theirs)):
        cpu, wall = spread([one.cpu for one in samples]), spread([one.wall for one in samples])
        rows.append((name, f"{cpu.median:,.0f}", _span(cpu), f"{wall.median:,.0f}", _span(wall)))
    return "\n".join(
        [
            f"{machine['python']}, {machine['cores']} cores, {len(results.ours)} rounds of {results.lines:,} lines; "
            f"{versions}",
            "",
            f"replay / apachelogs  {ratio.median:.2f}  ({ratio.least:.2f}..{ratio.most:.2f})",
            f"target: {LEAST_SPEED:,.0f} lines/s, or {LEAST_RATIO:g} times apachelogs: "
            f"{'met' if results.met else 'not met'}",
            "",
            *(f"{row[0]:<20}" + "".join(f"{cell:>18}" for cell in row[1:]) for row in rows),
        ]
    )


def _replay(log: Path, lines: int) -> Speed:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BANHAMMER_")}
    command = [sys.executable, "-m", "banhammer", "replay", str(log), "--json"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = _run(command, environment)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    found = json.loads(done.stdout)
    if (found["lines"], found["skipped"]) != (lines, 0):
        raise ValueError(f"{found['skipped']:,} lines of {found['lines']:,} could not be read; name another log")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Speed(lines / cpu, lines / wall)


def _parse(log: Path, lines: int) -> Speed:
    command = [sys.executable, "-c", _PEER, str(log), str(lines)]
    done = _run(command)
    wall, cpu, number = map(float, done.stdout.split())
    return Speed(number / cpu, number / wall)


def _run(command: list[str], environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise ValueError(f"{command[1]} {command[2].strip()} failed: {done.stderr}")
    return done


def _demo() -> list[bytes]:
    from banhammer.replay.demo import demo_log

    return [line.encode() for line in demo_log(1)]


def _speeds(samples: list[Speed]) -> dict[str, Any]:
    return {
        "lines_a_cpu_second": asdict(spread([one.cpu for one in samples])),
        "lines_a_second": asdict(spread([one.wall for one in samples])),
    }


def _span(values: Spread) -> str:
    return f"{values.least:,.0f}..{values.most:,.0f}"


def _machine() -> dict[str, Any]:
    # Not that of `benchmarks.report`, which imports the peers of the memory benchmark.
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": platform.system(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in ("banhammer-limiter", "apachelogs")},
    }
