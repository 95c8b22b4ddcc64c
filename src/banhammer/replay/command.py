"""The commands `banhammer replay` and `banhammer demo`."""

from __future__ import annotations

import contextlib
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from banhammer.config import load
from banhammer.replay.demo import HOURS, START, demo_log
from banhammer.replay.engine import STARTER, Rules
from banhammer.replay.lines import LogError, Source
from banhammer.replay.lines import Progress as Report
from banhammer.replay.live import watching
from banhammer.replay.output import keep, keep_log, reason, write
from banhammer.replay.run import replay
from banhammer.replay.summary import Summary
from banhammer.replay.terminal import show
from banhammer.starter import starter_text

LONG: Final = 16_000_000
"""Bytes from which a log is long enough for a progress bar."""
WATCHED: Final = 8.0
"""Seconds that the demo takes where somebody watches."""

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of the report.")]
Html = Annotated[Path | None, typer.Option("--html", metavar="OUT", help="Write the report as one HTML page.")]
Mask = Annotated[bool, typer.Option("--mask", help="Shorten every address: 203.0.113.x, IPv6 to its /48.")]
Config = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The rules to try; without it, the starter rules.")
]


def register(app: typer.Typer) -> None:
    """Add the commands `replay` and `demo` to the program."""
    app.command("replay")(replay_command)
    app.command("demo")(demo_command)


def replay_command(
    logs: Annotated[list[str], typer.Argument(metavar="LOG...", help="Access logs, also .gz; - reads standard input.")],
    config: Config = None,
    as_json: Json = False,
    html: Html = None,
    masked: Mask = False,
) -> None:
    """Show what a set of rules would have done to the requests in access logs.

    Reads the combined and common formats and the JSON of Caddy and Traefik, and runs every request through the
    rules at the time that the log says.
    """
    rules = _rules(config)
    with _mistakes():
        sizes = [Source(name).size() for name in logs]
        keep(html, logs, config)
        with _progress(sum(sizes)) as progress:
            summary = replay(logs, rules, masked=masked, progress=progress)
    _deliver(summary, as_json=as_json, html=html)


def demo_command(
    seed: Annotated[int, typer.Option(metavar="N", help="Another number tells another story.")] = 1,
    log: Annotated[Path, typer.Option("--log", metavar="FILE", help="Where to write the log.")] = Path(
        "banhammer-demo.log"
    ),
    config: Config = None,
    as_json: Json = False,
    html: Html = None,
    masked: Mask = False,
) -> None:
    """Write a realistic access log and replay it: people, an office, a scraper, attackers.

    In a terminal the replay takes a few seconds, so that it can be watched; elsewhere it does not wait.
    """
    rules = _rules(config)
    lines = demo_log(seed)
    with _mistakes():
        keep(html, [str(log)], config)
        keep_log(log)
    write(log, "".join(f"{line}\n" for line in lines))
    with _mistakes():
        console = Console()
        if as_json or not console.is_terminal:
            summary = replay([str(log)], rules, masked=masked)
        else:
            console.print(f"{len(lines):,} requests of one morning, in {log}")
            with watching(console, START, START + HOURS * 3600, WATCHED) as watch:
                summary = replay([str(log)], rules, masked=masked, watch=watch)
    _deliver(summary, as_json=as_json, html=html)


def _rules(config: Path | None) -> Rules:
    """Return the rules of a file, or the starter rules."""
    if config is None:
        found, origin = load(tomllib.loads(starter_text())), STARTER
    else:
        found, origin = load(config), str(config)
    return Rules(found.policies, found.routes, found.allow, found.deny, found.mode, origin)


def _deliver(summary: Summary, *, as_json: bool, html: Path | None) -> None:
    if html is not None:
        from banhammer.replay.page import render  # Imported here: only a page needs its template.

        write(html, render(summary))
    if as_json:
        print(json.dumps(summary.as_json()))
        return
    show(summary)
    if html is not None:
        print(f"The same as a page: {html}")


@contextlib.contextmanager
def _mistakes() -> Iterator[None]:
    """Turn what the system says of a file into a mistake with a remedy."""
    try:
        yield
    except OSError as error:
        if error.filename is None:  # Then it is the output.
            raise
        raise LogError(f"{error.filename}: {reason(error)}; check its name and your permissions") from error


@contextlib.contextmanager
def _progress(size: int) -> Iterator[Report]:
    """Show a bar on standard error while a long log is read; nothing where nobody looks."""
    console = Console(stderr=True)
    if size < LONG or not console.is_terminal:
        yield lambda read: None
        return
    columns = (TextColumn("replaying"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("replaying", total=size)
        yield lambda read: bar.advance(task, read)
