"""What both shells are made of: the rules, the store, and the short cuts past both."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final, Self
from weakref import finalize

from banhammer import plugins
from banhammer.actions import Action
from banhammer.actions.blocked import Blocked
from banhammer.backends import adopt, open_backend
from banhammer.backends.memory import MemoryBackend
from banhammer.backends.shortcut import Shortcut, Swift
from banhammer.batch import Batch, Decisions
from banhammer.durations import Duration, parse_duration
from banhammer.errors import ConfigError
from banhammer.escalations import escalates
from banhammer.model import Clock, Hit, Mode, Policy, WorkerPlace
from banhammer.outbox import KEEPS_NOTHING, Durable
from banhammer.repertoire import Tables, assemble
from banhammer.rulebook import Rulebook
from banhammer.worker import Worker

DEADLINE: Final = "50ms"

Source = str | os.PathLike[str] | Mapping[str, Any]


class Shell:
    """What both shells are made of; see `BanHammer` for the arguments."""

    __slots__ = ("__weakref__", "_backend", "_blocked", "_clock", "_guards", "_hits", "_memory",
                 "_owns_backend", "_rules")  # fmt: skip

    def __init__(
        self,
        policies: Iterable[Policy],
        *,
        backend: object = None,
        actions: Mapping[str, Action] | None = None,
        mode: Mode | None = None,
        allow: Iterable[str] | None = None,
        deny: Iterable[str] | None = None,
        clock: Clock | None = None,
        deadline: Duration | None = None,
        denial_cache: bool | None = None,
        worker: WorkerPlace | None = None,
        action_settings: Tables | None = None,
    ) -> None:
        self._rules = Rulebook(policies, mode=mode or "enforce", allow=allow, deny=deny)
        clock = None if clock is None else _checked(clock)
        seconds = None if clock is None else partial(_seconds, clock)
        known, self._blocked = assemble(self._rules.policies, actions, action_settings, seconds)
        if worker not in (None, "internal", "external"):
            raise ConfigError(f"worker: {worker!r}; use 'internal' or 'external'")
        self._clock = clock
        given = backend
        micros = parse_duration(DEADLINE if deadline is None else deadline)
        backend = "memory://" if backend is None else backend
        if isinstance(backend, str):
            backend = open_backend(backend, deadline=micros, denial_cache=denial_cache)
        backend = adopt(backend, deadline=micros, denial_cache=denial_cache)
        self._backend = backend
        self._owns_backend = backend is not given
        self._rules.employ(self._worker(known, worker), kept=isinstance(backend, Durable))
        finalize(self, self._rules.worker.stop).atexit = False  # Workers see to their end themselves.
        self._memory = backend if type(backend) is MemoryBackend else None
        self._hits: dict[str, Shortcut] = {}
        self._guards: dict[str, Shortcut] = {}
        if isinstance(backend, Swift):
            for name, policy in self._rules.policies.items():
                hits, guards = backend.shortcuts(policy, clock, self._rules.settle)
                if hits is not None:
                    self._hits[name] = self._rules.unlisted(policy, hits)
                if guards is not None:
                    self._guards[name] = self._rules.unlisted(policy, guards)

    @classmethod
    def from_config(cls, source: Source | None = None, **overrides: Any) -> Self:
        """Build from a TOML file, or a mapping of the same shape; never connects.

        `source`: a path; `None` means the file that `BANHAMMER_CONFIG` names, else `banhammer.toml`.
        `overrides`: the constructor's keyword arguments, before the file's. Raises `ConfigError` with every
        mistake.
        """
        try:
            from banhammer.config import load  # Imported here: it loads pydantic.
        except ImportError as error:
            raise ConfigError('reading rules from a file needs: pip install "banhammer-limiter[cli]"') from error

        config = load(source, overrides.get("actions") or ())
        settings: dict[str, Any] = {
            "action_settings": config.action_settings,
            "backend": config.backend,
            "mode": config.mode,
            "allow": config.allow,
            "deny": config.deny,
            "deadline": config.deadline / 1e6,
            "denial_cache": config.denial_cache,
            "worker": config.worker,
        }
        return cls(config.policies, **{**settings, **overrides})

    @property
    def blocked(self) -> Blocked:
        """The keys that `block_local` has listed here, each with the end of its ban; `hit` never asks it."""
        return self._blocked

    @property
    def policies(self) -> Mapping[str, Policy]:
        """The policies by name, each with its mode settled."""
        return self._rules.policies

    def __repr__(self) -> str:
        return f"{type(self).__name__}({sorted(self._rules.policies)}, backend={self._backend!r})"

    def _worker(self, known: Mapping[str, Action], place: WorkerPlace | None) -> Worker:
        """Return the worker of this hammer; with an external one, it still runs what only means something here."""
        durable = self._backend if isinstance(self._backend, Durable) else None
        if place == "external" and durable is None:
            raise ConfigError(f"worker: 'external'; this store {KEEPS_NOTHING}")
        fetches = place != "external" and any(map(escalates, self._rules.policies.values()))
        outbox = durable.outbox if durable is not None and fetches else None
        return Worker(known, observers=plugins.loaded().observers(), outbox=outbox)

    def _many_at_once(self, hits: list[Hit]) -> Decisions | None:
        """Decide a batch in memory without a second look at each hit, or return `None`."""
        memory, rules = self._memory, self._rules
        try:
            policy = rules.policies.get(hits[0].policy) if hits else None
            if memory is None or policy is None or not rules.plain(policy):
                return None
            found = memory.hit_batch(hits, policy, self._clock)
        except TypeError:  # Something cannot be hashed: the mistake is named where each hit is looked at.
            return None
        if found is None:
            return None
        answers, _, keys, now = found
        if found.left:
            left = [index for index, answer in enumerate(answers) if answer is None]
            batch = Batch(rules, [hits[index] for index in left], stop=False)
            replies = memory.evaluate(batch.asked, rules.policies, now=self._clock)
            for index, decision in zip(left, batch.settled(replies), strict=True):
                answers[index] = decision
        return Decisions(answers, keys, policy, now)


def _seconds(clock: Clock) -> float:
    return clock() / 1e6


def _checked(clock: Clock) -> Clock:
    def tell() -> int:
        now = clock()
        if now.__class__ is not int:
            raise TypeError(f"clock: it returned {now!r}; it must return microseconds as an integer")
        return now

    return tell
