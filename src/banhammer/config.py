"""Configuration: a TOML file or a mapping in, a checked `Config` out, or every mistake at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, Literal, cast

from pydantic import ValidationError

from banhammer import plugins
from banhammer.actions import nobody_gives
from banhammer.document import Document, Mistakes, leave_out, read_file, read_mapping
from banhammer.durations import format_duration, parse_duration
from banhammer.errors import ConfigError, did_you_mean
from banhammer.model import Mode, Policy, Threshold, WorkerPlace
from banhammer.outbox import KEEPS_NOTHING
from banhammer.repertoire import Tables, make
from banhammer.routes import Route
from banhammer.schema import FileSettings, PolicySettings, RouteSettings, ThresholdSettings, explain
from banhammer.toml_lines import Path
from banhammer.urls import redact, redact_message, redact_quoted, shown, wrong_url

DEFAULT_FILE: Final = "banhammer.toml"


@dataclass(frozen=True, slots=True)
class Config:
    """A configuration without mistakes; `deadline` is in microseconds, `source` the file, if it was one."""

    backend: str = field(repr=False)  # It may hold a password.
    mode: Mode
    allow: tuple[str, ...]
    deny: tuple[str, ...]
    deadline: int
    denial_cache: bool | None
    worker: WorkerPlace
    action_settings: Tables = field(repr=False)
    """The tables of actions, which may hold secrets."""
    plugged: frozenset[str]
    """The names of the actions that plugins give."""
    policies: tuple[Policy, ...]
    routes: tuple[Route, ...]
    source: str | None


def load(
    source: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    actions: Collection[str] | None = None,
    *,
    opener: Callable[[str], bool] | None = None,
) -> Config:
    """Return the configuration of a file or a mapping; raise `ConfigError` with every mistake in it.

    `source`: `None` means the file that `BANHAMMER_CONFIG` names, else `banhammer.toml`. `BANHAMMER_BACKEND`
    and `BANHAMMER_MODE` override what it says. `actions`: the names that the application gives beside those of plugins;
    `None`: whatever else is named, it may give.
    `opener`: called with the backend's URL, returns whether that store keeps escalations; the `ConfigError` that it
    raises is a mistake too.
    """
    file = source or os.environ.get("BANHAMMER_CONFIG") or DEFAULT_FILE
    try:
        document = read_mapping(source) if isinstance(source, Mapping) else read_file(cast(str, file))
        return _Reader(document, actions, opener).config()
    except ConfigError as error:  # What went before it may repeat a secret.
        raise ConfigError(redact_quoted(mistake) for mistake in error.mistakes) from None


class _Reader:
    """Turns one document into a `Config`, and gathers its mistakes."""

    def __init__(
        self, document: Document, actions: Collection[str] | None, opener: Callable[[str], bool] | None
    ) -> None:
        self.document = document
        self.given = actions
        self.opener = opener
        self.mistakes = Mistakes(document)
        self.plugged: frozenset[str] = frozenset()
        self.told: frozenset[str] = frozenset()

    def config(self) -> Config:
        file = self.settings()
        made = make(file.actions, self.given)
        self.plugged = frozenset(made.actions)
        self.told = frozenset({**made.mistakes, **made.unread})
        for name, mistakes in made.mistakes.items():
            self.mistakes.add_all(("actions", name), mistakes)
        for name, mistake in made.unread.items():
            self.mistakes.add(("actions", name), mistake)
        policies = [self.policy(name, settings) for name, settings in file.policies.items()]
        routes = [self.route(index, settings, file.policies) for index, settings in enumerate(file.routes)]
        backend = self.backend(file)
        mode = self.mode(file)
        deadline = self.deadline(file)
        if self.mistakes:
            raise self.mistakes.error()
        return Config(
            backend=backend,
            mode=mode,
            allow=tuple(file.allow),
            deny=tuple(file.deny),
            deadline=deadline,
            denial_cache=file.denial_cache,
            worker=file.worker,
            action_settings=file.actions,
            plugged=self.plugged,
            policies=tuple(policy for policy in policies if policy),
            routes=tuple(route for route in routes if route),
            source=self.document.source,
        )

    def settings(self) -> FileSettings:
        """Return the settings; those of unknown names or wrong shapes are mistakes, and left out."""
        try:
            return FileSettings.model_validate(self.document.data)
        except ValidationError as error:
            problems = error.errors(include_url=False, include_context=False)
        for problem in problems:
            path = tuple(part for part in problem["loc"] if part != "[key]")
            self.mistakes.add(path, explain(path, problem["type"], problem["input"]))
        for problem in problems:
            self.mistakes.left_out.add(leave_out(self.document.data, problem["loc"]))
        try:
            return FileSettings.model_validate(self.document.data)
        except ValidationError:  # Its text holds values, and so secrets.
            raise self.mistakes.error() from None

    def policy(self, name: str, settings: PolicySettings) -> Policy | None:
        path: Path = ("policies", name)
        found = [
            self.threshold((*path, "thresholds", index), threshold)
            for index, threshold in enumerate(settings.thresholds)
        ]
        self.order((*path, "thresholds"), found)
        # A stand-in for each threshold that is a mistake, so that the rest of the policy is checked too.
        levels = [threshold or Threshold(1, "1d") for threshold in found]
        try:
            return Policy(name, **{**settings.given(), "thresholds": levels})
        except ConfigError as error:
            self.mistakes.add_all(path, (mistake.removeprefix(f"policies.{name}.") for mistake in error.mistakes))
        return None

    def threshold(self, path: Path, settings: ThresholdSettings) -> Threshold | None:
        self.known((*path, "actions"), settings.actions)
        given = {"limit": None, "period": None, **settings.given()}
        missing = {"limit": "write an integer of at least 1", "period": "write a duration, like '1h'"}
        try:
            return Threshold(**given)
        except ConfigError as error:
            for mistake in error.mistakes:
                name = mistake.partition(":")[0]
                lacks = name in missing and given[name] is None
                self.mistakes.add_all(path, [f"{name}: missing; {missing[name]}" if lacks else mistake])
        return None

    def known(self, path: Path, names: list[str]) -> None:
        """Check that somebody gives the actions of these names, where that can be told."""
        if self.given is None:
            return
        known = {*self.plugged, *self.given}
        for index, name in enumerate(names):
            if name and name not in known and name not in self.told:  # Once is enough: at its table.
                self.mistakes.add((*path, index), f"unknown action {name!r}, {nobody_gives(name, known)}")

    def order(self, path: Path, thresholds: list[Threshold | None]) -> None:
        """Check that ban thresholds stand in the order of their consequences."""
        bans = [(index, threshold) for index, threshold in enumerate(thresholds) if threshold and threshold.ban]
        for (before, lower), (index, higher) in pairwise(bans):
            than = f"less than that of thresholds.{before}, so it could never trip; put the milder one first"
            if higher.limit * lower.period < lower.limit * higher.period:
                rate = f"{higher.limit} per {format_duration(higher.period)}"
                self.mistakes.add((*path, index, "limit"), f"{rate}; the rate is {than}")
            if higher.burst < lower.burst:
                self.mistakes.add((*path, index, "burst"), f"{higher.burst}; it is {than}")
            if higher.ban[0] < lower.ban[0]:
                rung = f"{format_duration(higher.ban[0])}; it is shorter than that of thresholds.{before}"
                self.mistakes.add((*path, index, "ban"), f"{rung}; put the milder consequence first")

    def route(self, index: int, settings: RouteSettings, policies: Mapping[str, object]) -> Route | None:
        path: Path = ("routes", index)
        name = settings.policy
        if name and name not in policies:
            hint = did_you_mean(name, policies) or f"; known: {', '.join(sorted(policies)) or 'none'}"
            self.mistakes.add((*path, "policy"), f"unknown policy {name!r}{hint}")
        try:
            return Route(**settings.given())
        except ConfigError as error:
            unclear = (*path, "skip") in self.mistakes.left_out
            self.mistakes.add_all(
                path, (text for text in error.mistakes if not (unclear and text.startswith("policy:")))
            )
        return None

    def backend(self, file: FileSettings) -> str:
        chosen = os.environ.get("BANHAMMER_BACKEND")
        # What is overridden is not opened: it may name a store that only exists elsewhere.
        keeps, wrong = _tried(file.backend, None if chosen else self.opener)
        for mistake in wrong:
            self.mistakes.add(("backend",), mistake)
        if chosen:
            keeps, wrong = _tried(chosen, self.opener)
            self.mistakes.outside += (f"BANHAMMER_BACKEND: {text}" for text in wrong)
        if file.worker == "external" and not keeps:
            self.mistakes.add(("worker",), f"'external'; {redact(chosen or file.backend)} {KEEPS_NOTHING}")
        return chosen or file.backend

    def mode(self, file: FileSettings) -> Mode:
        chosen = os.environ.get("BANHAMMER_MODE")
        if not chosen:
            return file.mode
        if chosen not in ("enforce", "shadow"):
            hint = did_you_mean(chosen, ("enforce", "shadow"))
            self.mistakes.outside.append(f"BANHAMMER_MODE: {shown(chosen)}; write 'enforce' or 'shadow'{hint}")
        return cast(Literal["enforce", "shadow"], chosen)

    def deadline(self, file: FileSettings) -> int:
        try:
            return parse_duration(file.deadline)
        except ConfigError as error:
            self.mistakes.add(("deadline",), str(error))
        return 0


def _tried(url: str, opener: Callable[[str], bool] | None) -> tuple[bool, list[str]]:
    """Return whether a store keeps escalations, or may, and what is wrong with its URL, never its secret."""
    wrong = wrong_url(url, plugins.loaded().openers())
    if wrong or opener is None:
        return True, [wrong] if wrong else []
    try:
        return opener(url), []
    except ConfigError as error:
        return True, [redact_message(mistake.removeprefix("backend: "), url) for mistake in error.mistakes]
