"""What a test of the kit stands on: the store under test, hammers on it, and beside it the ideal store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from typing import Any, Final

from banhammer.backends import Backend
from banhammer.hammer import AsyncBanHammer, BanHammer
from banhammer.model import Clock, Escalation, Policy
from banhammer.testing.clock import ManualClock
from banhammer.testing.conformance.calls import Calls
from banhammer.testing.conformance.ideal import Ideal
from banhammer.testing.conformance.promises import anonymous, promise, same
from banhammer.testing.conformance.rules import ACTION, START, rules

Opener = Callable[[], Backend]
PATIENCE: Final = 10.0
"""Seconds for what takes milliseconds on a machine that is not busy."""


class Stage:
    """One store for one test, and all that was opened on it; `kind` is `"sync"` or `"async"`."""

    def __init__(self, opener: Opener, kind: str) -> None:
        self.opener = opener
        self.kind = kind
        self.clock = ManualClock(START)
        self._runner = asyncio.Runner()
        self._opened: list[Backend] = []
        self._hammers: list[Calls] = []
        self.backend = self.open()

    def open(self) -> Backend:
        """Open the store once more."""
        backend = self.opener()
        promise(isinstance(backend, Backend), f"{backend!r} is no store: it lacks a verb of banhammer.backends.Backend")
        self._opened.append(backend)
        return backend

    def let_go(self) -> None:
        """Close the first backend object, as a process does at its end."""
        Calls(self.backend if self.kind == "sync" else self.backend.aio, self._runner).close()

    def verbs(self) -> Any:
        """Return the verbs of the store itself."""
        return Calls(self.backend if self.kind == "sync" else self.backend.aio, self._runner)

    def hammer(self, policies: Iterable[Policy], *, clock: Clock | None = None, **settings: Any) -> Any:
        """Return a hammer of this kind on the store, or on another `backend`."""
        shell = BanHammer if self.kind == "sync" else AsyncBanHammer
        settings = {"backend": self.backend, "actions": {ACTION: Note()}, "clock": clock, **settings}
        hammer = Calls(shell(policies, **settings), self._runner)
        self._hammers.append(hammer)
        return hammer

    def pair(self, *versions: Sequence[Policy]) -> Pair:
        """Return hammers on the store beside hammers on the ideal one, a pair for each version of the policies."""
        return Pair(self, versions or (rules(), rules(changed=True)))

    def close(self) -> None:
        """Close the hammers, and the stores in both ways: whoever closes twice is no error."""
        for hammer in self._hammers:
            hammer.close()
        for backend in self._opened:
            self._runner.run(backend.aio.close())
            backend.close()
        self._runner.close()


class Note:
    """An action that notes what it is told, lifted bans too."""

    def __init__(self) -> None:
        self.seen: list[Escalation] = []

    def run(self, escalation: Escalation) -> None:
        """Note what happened."""
        self.seen.append(escalation)

    def lift(self, escalation: Escalation) -> None:
        """Note what is to be undone."""
        self.seen.append(escalation)


class Pair:
    """The store under test and the ideal one, asked the same at one clock; a difference is an `AssertionError`.

    `about`: the promise that is tried, for its message.
    """

    def __init__(self, stage: Stage, versions: Sequence[Sequence[Policy]]) -> None:
        self.clock = stage.clock
        self.backend = stage.backend
        self.version = 0
        self.about = "every store decides alike"
        self._seen = (Note(), Note())
        ideal = Ideal()
        self._sides = [
            tuple(
                stage.hammer(policies, backend=backend, clock=stage.clock, actions={ACTION: seen})
                for backend, seen in zip((stage.backend, ideal), self._seen, strict=True)
            )
            for policies in versions
        ]

    def ask(self, verb: str, *arguments: Any) -> Any:
        """Return what a verb told on both sides; after a verb about one key, compare its status too."""
        told = self._ask(verb, *arguments)
        if verb not in ("hit_many", "status"):
            self._ask("status", *arguments[:2])
        return told

    def forget(self, key: str, name: str) -> None:
        """Let the ideal store forget a key whose record was damaged in the other."""
        self._sides[self.version][1].reset(key, name)

    def listing(self) -> None:
        """Compare all bans that are in force, where the store lists them."""
        if not self.backend.traits.lists_bans:
            return
        store, ideal = self._sides[self.version]
        told, expected = ({anonymous(ban) for ban in side.bans()} for side in (store, ideal))
        same(told, expected, f"{self.about}: bans lists every ban in force, and no other")

    def settle(self) -> None:
        """Wait for the actions and compare what they were told, in any order."""
        for side in (hammer for sides in self._sides for hammer in sides):
            promise(side.drain(PATIENCE), "escalations are handed to their actions")
        told, expected = (Counter(map(_facts, note.seen)) for note in self._seen)
        text = f"{self.about}: each crossing escalates once, and says what happened"
        same((told - expected, expected - told), (Counter(), Counter()), text)
        crossings = [each.id for each in self._seen[0].seen if each.verdict != "lifted"]
        same(len(set(crossings)), len(crossings), "every escalation has an id of its own")

    def _ask(self, verb: str, *arguments: Any) -> Any:
        __tracebackhide__ = True
        told, expected = (_outcome(getattr(side, verb), arguments) for side in self._sides[self.version])
        at = (self.clock.now - START) / 1e6
        call = f"{verb}({', '.join(_short(argument) for argument in arguments)})"
        same(told, expected, f"{self.about}\n  asked:    {call} at {at:+.6f} s")
        return told


def _outcome(verb: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    """Return what a verb told, or the text of the mistake that it found."""
    try:
        return anonymous(verb(*arguments))
    except ValueError as error:
        return str(error)


def _short(argument: object) -> str:
    text = repr(argument)
    return text if len(text) <= 200 else f"{text[:200]}..."


def _facts(escalation: Escalation) -> tuple[Any, ...]:
    return tuple(getattr(escalation, field.name) for field in fields(escalation) if field.name != "id")
