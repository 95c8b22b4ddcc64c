"""A replay from logs and rules to a `Summary`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from banhammer.replay.doubts import Evidence, conclude
from banhammer.replay.engine import Engine, Rules
from banhammer.replay.entry import Entry
from banhammer.replay.formats import Parser, missing
from banhammer.replay.lines import Progress, Source
from banhammer.replay.order import Lateness, in_order
from banhammer.replay.summary import Summary
from banhammer.replay.tally import Tally
from banhammer.replay.texts import clean, printable
from banhammer.replay.texts import masked as shortened

SAMPLES: Final = 5
_SAMPLE_LENGTH: Final = 120

Watch = Callable[[Summary, int], None]
"""Called after each request with what is counted so far and the time (us) of its decision."""


def replay(
    names: Sequence[str],
    rules: Rules,
    *,
    masked: bool = False,
    progress: Progress = lambda size: None,
    watch: Watch | None = None,
) -> Summary:
    """Run the named logs through the rules; `masked` shortens the addresses in what is watched and returned.

    Raises `OSError` for a log that cannot be read.
    """
    sources = [Source(name) for name in names]
    reading = _Reading(rules)
    text = shortened if masked else printable
    tally = Tally(rules, text)
    lateness = Lateness()
    engine = Engine(rules)
    decide, add = engine.decide, tally.add
    try:
        for now, entry in in_order([reading.entries(source, progress) for source in sources], lateness):
            asked, denial = decide(entry, now)
            add(entry, now, asked, denial)
            if watch is not None:
                watch(tally.summary, now)
    finally:
        engine.close()
    summary = tally.finish()
    summary.sources = list(names)
    summary.rules = rules.origin
    summary.lines, summary.skipped, summary.samples = reading.lines, reading.skipped, reading.samples
    evidence = Evidence(
        rules=rules,
        held=frozenset(reading.held),
        whole_seconds=reading.whole_seconds,
        late=lateness.late,
        crowded=lateness.crowded,
        busiest=tally.busiest,
        estimated=tally.estimated,
        damage=[doubt for source in sources for doubt in source.doubts],
    )
    conclude(summary, evidence)
    clean(summary, text)
    return summary


@dataclass(slots=True)
class _Reading:
    """Turns lines into entries, and notes what the lines were like."""

    rules: Rules
    lines: int = 0
    skipped: int = 0
    samples: list[str] = field(default_factory=list)
    held: set[str] = field(default_factory=set)
    whole_seconds: bool = True

    def entries(self, source: Source, progress: Progress) -> Iterator[Entry]:
        """Yield the requests of one log."""
        parse = Parser().parse
        wanted = {need for route in self.rules.routes if not route.skip for need in route.key.needs} - {"ip"}
        self.held.add("ip")
        for number, line in enumerate(source.lines(progress), 1):
            self.lines += 1
            entry = parse(line)
            if entry is None:
                self._skip(source.name, number, line)
                continue
            if wanted:
                self.held.update(need for need in wanted if entry.holds(need))
                wanted -= self.held
            if self.whole_seconds and entry.time % 1_000_000:
                self.whole_seconds = False
            yield entry

    def _skip(self, name: str, number: int, line: str) -> None:
        self.skipped += 1
        if len(self.samples) < SAMPLES:
            beginning = printable(line[:_SAMPLE_LENGTH])[:_SAMPLE_LENGTH]
            self.samples.append(f"{name}:{number}: {missing(line)}: {beginning}")
