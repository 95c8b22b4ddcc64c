"""`banhammer worker` and `banhammer dead-letters`: who runs the actions that a store keeps, and what failed for good.

`dead-letters` exits as the operators' commands do: 0 when it is done, 1 when there was nothing to do, 2 when it cannot
be known. A worker exits 0 when it was asked to end, 1 when it could not finish in time.
"""

from __future__ import annotations

import json
import logging
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Annotated, Any, Final

import typer

from banhammer.desk import Desk, OperatorError, open_desk
from banhammer.durations import SECOND, parse_duration
from banhammer.errors import ConfigError
from banhammer.explain import moment, visible
from banhammer.model import LOCAL_ACTIONS, Escalation
from banhammer.operators import Json, Rules, finish, plain, print_json, print_table
from banhammer.outbox import DeadLetter, DeadLetters, Durable
from banhammer.repertoire import assemble
from banhammer.worker import Worker

LOOK: Final = 0.1
"""Seconds between two looks at whether there is anything left to do."""

Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="As dead-letters list shows them.")]
All = Annotated[bool, typer.Option("--all", help="Every one.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command("worker")(worker_command)
    letters = typer.Typer(help="Actions that failed for good: see them, deliver them anew, or forget them.")
    letters.command("list")(list_command)
    letters.command("retry")(retry_command)
    letters.command("drop")(drop_command)
    app.add_typer(letters, name="dead-letters", no_args_is_help=True)


def worker_command(
    once: Annotated[bool, typer.Option("--once", help="End when nothing waits any more.")] = False,
    drain: Annotated[
        str, typer.Option("--drain", metavar="DURATION", help="How long actions may take to end after SIGTERM.")
    ] = "10s",
    config: Rules = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, as it happens.")] = False,
) -> None:
    """Run the actions of escalations that the store keeps, until SIGTERM or Ctrl-C. Any number may run at once."""
    try:
        patience = parse_duration(drain) / SECOND
    except ConfigError as error:
        raise OperatorError(f"--drain: {error}") from error
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.WARNING)
    with open_desk(config) as desk:
        store = _store(desk)
        found = assemble({}, None, desk.settings_of(desk.config.plugged)).actions
        actions = {name: action for name, action in found.items() if name not in LOCAL_ACTIONS}
        named = {name for policy in desk.policies(None) for level in policy.thresholds for name in level.actions}
        unknown = sorted(named - LOCAL_ACTIONS - set(actions))
        report = _Report(as_json)
        worker = Worker(actions, outbox=store.outbox, told=report.ended)
        signals = _signals_to_end()
        report.began(desk.shown, sorted(named & set(actions)), unknown)
        worker.look()
        while not _came(signals):
            if once and worker.drain(LOOK) and not worker.retrying:
                break
        ended = worker.leave(patience)
        report.finished(ended)
    if not ended:
        raise typer.Exit(1)


def list_command(config: Rules = None, as_json: Json = False) -> None:
    """List the dead letters, and how many escalations wait."""
    with open_desk(config) as desk:
        letters = _store(desk).dead_letters()
        found = list(letters.letters())
        backlog = letters.backlog()
        if as_json:
            print_json({"backlog": plain(backlog), "dead_letters": plain(found)})
        else:
            if found:
                print_table(("id", "action", "key", "policy", "what", "tries", "since", "error"), map(_row, found))
            print(
                f"{len(found):,} dead, {backlog.waiting:,} waiting or under way, "
                f"{backlog.dropped:,} dropped because too many waited"
            )
        finish(bool(found))


def retry_command(ids: Ids = None, everything: All = False, config: Rules = None, as_json: Json = False) -> None:
    """Deliver dead letters anew: by a worker, with the same escalation id."""
    _each("retry", "delivered anew", ids or [], everything, config, as_json)


def drop_command(ids: Ids = None, everything: All = False, config: Rules = None, as_json: Json = False) -> None:
    """Forget dead letters."""
    _each("drop", "dropped", ids or [], everything, config, as_json)


def _each(verb: str, done: str, ids: list[str], everything: bool, config: Path | None, as_json: bool) -> None:
    if bool(ids) == everything:
        raise OperatorError(f"dead-letters {verb}: name the ids that dead-letters list shows, or --all")
    with open_desk(config) as desk:
        letters = _store(desk).dead_letters()
        found = [id for id in _chosen(letters, ids, everything) if getattr(letters, verb)(id)]
        if as_json:
            print_json({done.replace(" ", "_"): found})
        for id in () if as_json else found:
            print(f"{id}: {done}")
        for id in () if as_json else sorted(set(ids) - set(found)):
            print(f"{visible(id)}: no such dead letter")
        if everything and not found and not as_json:
            print("no dead letter")
        finish(bool(found))


def _chosen(letters: DeadLetters, ids: list[str], everything: bool) -> Iterator[str]:
    yield from [letter.id for letter in letters.letters()] if everything else ids


def _store(desk: Desk) -> Durable:
    """Return the store, if it keeps escalations."""
    if isinstance(desk.backend, Durable):
        return desk.backend
    raise OperatorError(
        f"backend: {desk.shown} keeps no escalations, so the process that bans runs their actions; use Redis"
    )


def _signals_to_end() -> SimpleQueue[int]:
    """Return where the signals come to that ask a worker to end.

    A handler runs in the middle of whatever the main thread does: only this kind of queue may be put into there. An
    event has a lock, which the main thread may hold.
    """
    signals: SimpleQueue[int] = SimpleQueue()

    def end(number: int, _: FrameType | None) -> None:
        signals.put(number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    return signals


def _came(signals: SimpleQueue[int]) -> bool:
    """Wait a moment for a signal; return whether one came."""
    try:
        signals.get(timeout=LOOK)
    except Empty:
        return False
    return True


def _row(letter: DeadLetter) -> tuple[str, ...]:
    escalation = letter.escalation
    return (
        letter.id, letter.action, visible(escalation.key), escalation.policy, escalation.verdict,
        f"{letter.attempts:,}", moment(letter.at), visible(letter.error),
    )  # fmt: skip


class _Report:
    """What a worker prints of what it does: lines for people, or JSON."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._counts: dict[str, int] = {"ran": 0, "failed": 0, "dead": 0}
        self._lock = threading.Lock()

    def began(self, store: str, known: list[str], unknown: list[str]) -> None:
        """Say what will be run, and what is left to others."""
        if self._as_json:
            self._print({"event": "began", "store": store, "actions": known, "left_to_others": unknown})
            return
        self._print(f"worker on {store}; runs {', '.join(known) or 'nothing'}")
        if unknown:
            self._print(f"left to others, as no plugin here gives them: {', '.join(unknown)}")

    def ended(self, escalation: Escalation, action: str, kind: str, error: str) -> None:
        """Say what became of one run."""
        with self._lock:
            self._counts[kind] += 1
        if self._as_json:
            what = {"event": kind, "action": action, "error": error, "escalation": plain(escalation)}
            self._print({**what, "at": time.time()})
            return
        at = datetime.now(UTC).strftime("%H:%M:%S")
        why = f": {visible(error)}" if error else ""
        who = f"{visible(escalation.key)} {escalation.verdict} under {escalation.policy}"
        self._print(f"{at} {action} {kind}, {who}{why}")

    def finished(self, ended: bool) -> None:
        """Say how much was done."""
        if self._as_json:
            self._print({"event": "ended", "in_time": ended, **self._counts})
            return
        counts = ", ".join(f"{count:,} {kind}" for kind, count in self._counts.items())
        self._print(f"ended; {counts}" + ("" if ended else "; what did not end in time is run again by another worker"))

    def _print(self, what: Any) -> None:
        with self._lock:
            print(json.dumps(what) if self._as_json else what, flush=True)
