"""The demo's picture of a replay that is under way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from banhammer.durations import SECOND, format_duration
from banhammer.replay.run import Watch
from banhammer.replay.summary import BanReport, Summary

FRAMES: Final = 12
"""Pictures a second."""
BANS: Final = 6
WIDTH: Final = 60


@contextmanager
def watching(
    console: Console,
    first: float,
    last: float,
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Watch]:
    """Give a `Watch` that shows a replay from `first` to `last` (Unix seconds) in about so many seconds."""
    began = clock()
    shown = 0.0
    with Live(console=console, auto_refresh=False, transient=True) as live:

        def watch(summary: Summary, now: int) -> None:
            nonlocal shown
            share = (now / SECOND - first) / max(last - first, 1)
            if share * seconds < shown + 1 / FRAMES:
                return
            shown = share * seconds
            sleep(max(began + shown - clock(), 0))
            live.update(_picture(summary, now, share), refresh=True)

        yield watch


def _picture(summary: Summary, now: int, share: float) -> RenderableType:
    requests = summary.requests
    numbers = Table(box=None, pad_edge=False)
    for name, style in (("time", "dim"), ("allowed", "green"), ("throttled", "yellow"), ("banned", "red")):
        numbers.add_column(name, header_style=style, justify="right", min_width=10)
    moment = f"{datetime.fromtimestamp(now / SECOND, UTC):%H:%M:%S}"
    numbers.add_row(moment, f"{requests.allowed:,}", f"{requests.throttled:,}", f"{requests.banned:,}")
    bans = [_ban(ban) for ban in summary.bans[-BANS:]]
    done = round(min(share, 1.0) * WIDTH)
    bar = Text.assemble(("━" * done, "cyan"), ("━" * (WIDTH - done), "dim"))
    return Group(numbers, bar, *bans)


def _ban(ban: BanReport) -> Text:
    span = "for ever" if ban.until > 1e15 else f"for {format_duration(round(ban.until - ban.at) * SECOND)}"
    moment = f"{datetime.fromtimestamp(ban.at, UTC):%H:%M:%S}"
    return Text(f"{moment}  {ban.key} banned by {ban.policy} {span}: {ban.reason}", style="red")
