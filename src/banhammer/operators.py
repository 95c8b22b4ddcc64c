"""The operators' commands: what a shared store knows of a key, and a hand on it.

They exit 0 when it is done, 1 when there was nothing to do, 2 when it cannot be known.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from banhammer.desk import OperatorError, open_desk
from banhammer.explain import Explanation, lasting, moment, sentences, until, visible
from banhammer.model import Ban, Status

PAGE: Final = 500
"""Rows that a table takes: a stream is shown in pages."""
WIDE: Final = 10_000
"""Columns where there is no terminal: nothing is folded or cut."""

Key = Annotated[str, typer.Argument(help="An address in any spelling, or a key as it stands.")]
OnePolicy = Annotated[str, typer.Argument(help="The policy.")]
AnyPolicy = Annotated[str | None, typer.Argument(help="Default: every policy.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Rules = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Default: BANHAMMER_CONFIG, or banhammer.toml."),
]


def register(app: typer.Typer) -> None:
    """Add the operators' commands to the program."""
    app.command("ban")(ban_command)
    app.command("unban")(unban_command)
    app.command("bans")(bans_command)
    app.command("status")(status_command)
    app.command("reset")(reset_command)
    app.command("explain")(explain_command)


def ban_command(
    key: Key,
    policy: OnePolicy,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="DURATION", help="Like 2h or forever; default: the ladder's rung.")
    ] = None,
    threshold: Annotated[
        int | None, typer.Option("--threshold", metavar="N", help="Whose ladder; default: the first that has one.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Kept with the ban.")] = "",
    config: Rules = None,
    as_json: Json = False,
) -> None:
    """Ban KEY now. A ban in force is never shortened."""
    with open_desk(config, key) as desk:
        try:
            ban = desk.hammer.ban(desk.meant(key, policy), policy, duration, threshold, reason)
        except ValueError as error:
            raise OperatorError(str(error)) from error
        absent = desk.absent()
        if as_json:
            print_json({"ban": plain(ban), "actions_not_run": absent})
            return
        stands = (ban.origin, ban.reason) != ("manual", reason)
        kept = "; it was in force and is never shortened" if stands else ""
        print(f"{_who(ban)}: banned {until(ban.until)}, strike {ban.strikes:,}{kept}")
        _tell_absent(absent)


def unban_command(key: Key, policy: AnyPolicy = None, config: Rules = None, as_json: Json = False) -> None:
    """End the bans of KEY now. Strikes stay, and forgiving starts now."""
    with open_desk(config, key) as desk:
        lifted = []
        for rule, spelling in desk.reached(key, policy):
            ban = desk.hammer.unban(spelling, rule.name)
            if ban is None:
                continue
            lifted.append(ban)
            if not as_json:
                print(f"{_who(ban)}: lifted, was banned {until(ban.until)}")
        absent = desk.absent()
        if as_json:
            print_json({"lifted": plain(lifted), "actions_not_run": absent})
        elif not lifted:
            print(f"{visible(key)}: no ban in force")
        else:
            _tell_absent(absent)
        finish(bool(lifted))


def bans_command(
    policy: Annotated[str | None, typer.Option("--policy", metavar="POLICY", help="Default: every policy.")] = None,
    config: Rules = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, as they come.")] = False,
) -> None:
    """List the bans in force, as the store gives them."""
    with open_desk(config) as desk:
        if not desk.backend.traits.lists_bans:
            raise OperatorError(f"backend: {desk.shown} cannot list its bans; ask for a key with banhammer status")
        rules = {rule.name: rule for rule in desk.policies(policy)}
        bans = desk.backend.bans(rules)
        first = next(bans, None)
        if first is None:
            if not as_json:
                print("no ban in force")
            raise typer.Exit(1)
        found = chain([first], bans)
        if as_json:
            for ban in found:
                print_json(plain(ban))
            return
        _show_bans(found)


def status_command(key: Key, policy: AnyPolicy = None, config: Rules = None, as_json: Json = False) -> None:
    """Show the records of KEY in numbers."""
    with open_desk(config, key) as desk:
        asked = (desk.hammer.status(spelling, rule.name) for rule, spelling in desk.reached(key, policy))
        known = [status for status in asked if _is_known(status)]
        if as_json:
            print_json({"key": key, "records": plain(known)})
        elif known:
            _show_statuses(known)
        else:
            print(f"{visible(key)}: nothing is known, as if never seen")
        finish(bool(known))


def reset_command(
    key: Key,
    policy: AnyPolicy = None,
    keep_strikes: Annotated[
        bool, typer.Option("--keep-strikes", help="Only empty the meters: bans and strikes stay.")
    ] = False,
    config: Rules = None,
    as_json: Json = False,
) -> None:
    """Make KEY as if never seen. Actions are not told: to undo what a ban set off, unban first."""
    with open_desk(config, key) as desk:
        done = []
        for rule, spelling in desk.reached(key, policy):
            status = desk.hammer.status(spelling, rule.name)
            desk.hammer.reset(spelling, rule.name, strikes=not keep_strikes)
            if any(status.tats) if keep_strikes else _is_known(status):
                done.append({"key": spelling, "policy": rule.name})
        if as_json:
            print_json({"reset": done})
        for each in () if as_json else done:
            what = "meters emptied" if keep_strikes else "as if never seen"
            print(f"{visible(each['key'])} under {each['policy']}: {what}")
        if not (done or as_json):
            print(f"{visible(key)}: nothing to forget")
        finish(bool(done))


def explain_command(key: Key, policy: AnyPolicy = None, config: Rules = None, as_json: Json = False) -> None:
    """Say for every policy why KEY is where it is, since when, by what, until when, and what would come next."""
    with open_desk(config, key) as desk:
        found = list(desk.explained(key, policy))
        if as_json:
            print_json({"key": key, "policies": plain(found)})
        else:
            _show_explanations(found)
        finish(any(each.state != "unknown" for each in found))


# What is printed.


def plain(value: Any) -> Any:
    """Return a value of the model as JSON holds it: objects by field, and `null` for what never ends."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    return None if value == math.inf else value


def print_json(value: object) -> None:
    """Print a value as one line of JSON."""
    print(json.dumps(value))


def print_table(names: Iterable[str], rows: Iterable[tuple[str, ...]]) -> None:
    """Print rows below the names of their columns, each cell whole."""
    _table(_console(), names, rows)


def finish(done: bool) -> None:
    """Exit with 1 where there was nothing to do."""
    if not done:
        raise typer.Exit(1)


def _who(ban: Ban) -> str:
    return f"{visible(ban.key)} under {ban.policy}"


def _tell_absent(names: list[str]) -> None:
    if names:
        print(f"not run here, as only the application has them: {', '.join(names)}")


def _is_known(status: Status) -> bool:
    counted = any((status.rates or {}).values())
    return bool(status.strikes or status.banned_until is not None or any(status.tats) or counted)


def _console() -> Console:
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    return console


def _table(console: Console, names: Iterable[str], rows: Iterable[tuple[str, ...]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in names:
        table.add_column(name, overflow="fold")  # Whole: a key is there to be copied.
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _show_bans(bans: Iterator[Ban]) -> None:
    console = _console()
    names = ("key", "policy", "since", "until", "strikes", "by", "reason")
    while page := list(islice(bans, PAGE)):
        _table(console, names, map(_ban_row, page))


def _ban_row(ban: Ban) -> tuple[str, ...]:
    end = "for ever" if ban.until == math.inf else moment(ban.until)
    by = "hand" if ban.origin == "manual" else "hit"
    return (visible(ban.key), ban.policy, moment(ban.since), end, f"{ban.strikes:,}", by, visible(ban.reason))


def _show_statuses(known: list[Status]) -> None:
    names = ("key", "policy", "strikes", "banned until", "room", "hits", "as new in")
    print_table(names, map(_status_row, known))


def _status_row(status: Status) -> tuple[str, ...]:
    end = status.banned_until
    return (
        visible(status.key),
        status.policy,
        f"{status.strikes:,}",
        "-" if end is None else "for ever" if end == math.inf else moment(end),
        ", ".join(f"{room:,}" for room in status.remaining),
        ", ".join(f"{count:,} in {window}" for window, count in (status.rates or {}).items()) or "-",
        "never" if status.reset_after == math.inf else lasting(status.reset_after),
    )


def _show_explanations(found: list[Explanation]) -> None:
    console = _console()
    for each in found:
        first, *rest = sentences(each)
        style = {"banned": "bold red", "denylisted": "bold red", "throttled": "bold yellow"}.get(each.state, "bold")
        console.print(Text(first, style=style), soft_wrap=True)
        for line in rest:
            console.print(Text(line), soft_wrap=True)
