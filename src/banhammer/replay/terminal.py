"""The report in the terminal: one screen that says what the rules did, and whom they would have hurt."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from banhammer.durations import format_duration
from banhammer.replay.summary import Bucket, Summary, ThresholdReport, WorstKey, count, percent

WORST: Final = 5
PAGE: Final = 100
SAMPLES: Final = 3
_BARS: Final = " ▁▂▃▄▅▆▇█"
_AGENT: Final = 60
_MINUTE: Final = 60
_KEY: Final = 44


def show(summary: Summary) -> None:
    """Print the report on standard output, as wide as the terminal, or as a page where there is none."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, PAGE)
    console.print(report(summary))


def report(summary: Summary) -> RenderableType:
    """Return the report, ready to be printed by rich."""
    return Group(*_parts(summary))


def _parts(summary: Summary) -> Iterator[RenderableType]:
    yield Text(summary.sentence, style="bold")
    if summary.requests.total and summary.shadow:
        yield Text(summary.shadow, style="yellow")
    if summary.requests.total:
        yield from _served(summary)
        yield from _timeline(summary.timeline)
        yield from _rules(summary)
        yield from _worst(summary.worst[:WORST])
    yield from _doubts(summary)
    yield _title("Next")
    yield Text(summary.next_step)


def _served(summary: Summary) -> Iterator[RenderableType]:
    share = percent(summary.denied_served, summary.requests.total)
    yield _title("Denied although served")
    if not summary.requests.denied:
        yield Text("None: nothing was kept out.")
        return
    if not summary.denied_served:
        yield Text("None: every request that was kept out had failed anyway.", style="green")
        return
    yield Text(
        f"{count(summary.denied_served, 'request')} ({share}) would have been kept out, but the log says 2xx or 3xx:"
    )
    table = _table("key", "requests", "user agent", numbers=(1,))
    for served in summary.served:
        table.add_row(*_cells(_cut(served.key, _KEY), f"{served.count:,}", _cut(served.user_agent, _AGENT) or "-"))
    yield table


def _timeline(bars: list[Bucket]) -> Iterator[RenderableType]:
    width = format_duration(bars[0].width * 1_000_000)
    yield _title(f"Requests by time, a bar each {width}, red where some were kept out")
    most = max(bar.allowed + bar.throttled + bar.banned for bar in bars)
    yield Text.assemble(*((_bar(bar, most), "red" if bar.throttled + bar.banned else "cyan") for bar in bars))
    if any(bar.bans for bar in bars):
        marks = "".join(_mark(bar.bans) for bar in bars)
        yield Text.assemble((marks.rstrip(), "bold red"), ("  bans", "dim"))
    exact = bars[0].width < _MINUTE
    start, end = _moment(bars[0].start, exact), _moment(bars[-1].start + bars[-1].width, exact)
    gap = " " * max(len(bars) - len(start) - len(end), 2)
    yield Text(f"{start}{gap}{end}", style="dim")


def _rules(summary: Summary) -> Iterator[RenderableType]:
    yield _title("Rules")
    names = ("rule", "hits", "throttled", "banned", "bans", "keys denied")
    table = _table(*names, numbers=range(1, len(names)))
    for threshold in summary.thresholds:
        table.add_row(*_cells(threshold.name, *(f"{number:,}" for number in _deeds(threshold))))
    yield table
    for idle in summary.idle:
        yield Text(f"Never fired: {idle}", style="dim")
    for route in summary.not_replayable:
        yield Text(f"Not replayable, the log does not hold its key: {route}", style="yellow")
    yield from _headroom([threshold for threshold in summary.thresholds if threshold.headroom.keys])


def _deeds(threshold: ThresholdReport) -> tuple[int, ...]:
    return (threshold.hits, threshold.throttled, threshold.banned, threshold.bans, threshold.keys)


def _headroom(thresholds: list[ThresholdReport]) -> Iterator[RenderableType]:
    if not thresholds:
        return
    yield _title("Headroom: how full the meters got, and what each alone would deny with another limit")
    names = ("rule", "median", "p99", "nearest", "half", "as it is", "double", "x4")
    table = _table(*names, numbers=range(1, len(names)))
    for threshold in thresholds:
        headroom, what_if = threshold.headroom, threshold.what_if
        shares = (_share(share) for share in (headroom.median, headroom.p99, headroom.nearest))
        numbers = (what_if.half, what_if.unchanged, what_if.double, what_if.quadruple)
        table.add_row(*_cells(threshold.name, *shares, *(f"{number:,}" for number in numbers)))
    yield table


def _worst(keys: list[WorstKey]) -> Iterator[RenderableType]:
    if not keys:
        return
    yield _title("Worst keys")
    names = ("key", "kept out", "of", "first ban", "after", "longest", "strikes")
    table = _table(*names, numbers=(1, 2, 4, 5, 6))
    for worst in keys:
        table.add_row(
            *_cells(
                _cut(worst.key, _KEY),
                f"{worst.kept_out:,}",
                f"{worst.requests:,}",
                "-" if worst.first_ban is None else _moment(worst.first_ban),
                "-" if worst.before is None else f"{worst.before:,}",
                _longest(worst.longest),
                str(worst.strikes),
            )
        )
    yield table


def _doubts(summary: Summary) -> Iterator[RenderableType]:
    yield _title("Doubts")
    if not summary.doubts:
        yield Text("None." if summary.lines else "There was nothing to read.")
    for doubt in summary.doubts:
        yield Text(f"- {doubt}")
    for sample in summary.samples[:SAMPLES]:
        yield Text(f"    {_cut(sample, 100)}", style="dim")


def _title(text: str) -> RenderableType:
    return Rule(Text(text, style="bold"), align="left", style="dim")


def _table(*names: str, numbers: Iterable[int]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    right = frozenset(numbers)
    for index, name in enumerate(names):
        table.add_column(name, justify="right" if index in right else "left", no_wrap=True, overflow="ellipsis")
    return table


def _cells(*texts: str) -> Iterator[Text]:
    # Never as markup: a user agent may hold anything.
    return (Text(text) for text in texts)


def _bar(bar: Bucket, most: int) -> str:
    total = bar.allowed + bar.throttled + bar.banned
    return _BARS[-(-total * (len(_BARS) - 1) // most)] if total else " "


def _mark(bans: int) -> str:
    if not bans:
        return " "
    return str(bans) if bans < 10 else "+"


def _moment(seconds: float, exact: bool = True) -> str:
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%d %b %H:%M:%S}" if exact else f"{moment:%d %b %H:%M}"


def _share(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _longest(seconds: float) -> str:
    if not seconds:
        return "-"
    return "forever" if seconds == math.inf else format_duration(round(seconds) * 1_000_000)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
