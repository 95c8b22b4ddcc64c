"""The two shells: validate, one call to the store, decide. Sync and async stand side by side."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Self, cast
from uuid import uuid4

from banhammer.actions import BUILT_IN, Action
from banhammer.backends import Backend, open_backend
from banhammer.backends.memory import MemoryBackend
from banhammer.backends.shortcut import ONE, Shortcut
from banhammer.core import Reply
from banhammer.decision import Decision, Decisions, listed
from banhammer.durations import Duration, parse_duration
from banhammer.errors import ConfigError
from banhammer.model import Ban, Clock, Hit, Mode, Policy, Status
from banhammer.rulebook import Batch, Rulebook, manual_ban, status_of

DEADLINE: Final = "50ms"
CLOSE_TIMEOUT: Final = 5.0
"""Seconds that `close` gives to escalations that still wait."""

Source = str | os.PathLike[str] | Mapping[str, Any]


class _Shell:
    """What both shells are made of; see `BanHammer` for the arguments."""

    __slots__ = ("__weakref__", "_backend", "_clock", "_guards", "_hits", "_memory",
                 "_owns_backend", "_rules")  # fmt: skip

    def __init__(
        self,
        policies: Iterable[Policy],
        *,
        backend: str | Backend | None = None,
        actions: Mapping[str, Action] | None = None,
        mode: Mode | None = None,
        allow: Iterable[str] | None = None,
        deny: Iterable[str] | None = None,
        clock: Clock | None = None,
        deadline: Duration | None = None,
        denial_cache: bool | None = None,
    ) -> None:
        self._rules = Rulebook(policies, actions=actions, mode=mode or "enforce", allow=allow, deny=deny)
        clock = None if clock is None else _checked(clock)
        self._clock = clock
        self._owns_backend = backend is None or isinstance(backend, str)
        if backend is None or isinstance(backend, str):
            backend = open_backend(
                "memory://" if backend is None else backend,
                deadline=parse_duration(DEADLINE if deadline is None else deadline),
                denial_cache=clock is None if denial_cache is None else denial_cache,
            )
        if not isinstance(backend, Backend):
            raise ConfigError(f"backend: {backend!r}; give a URL, or an object with the verbs of Backend")
        self._backend = backend
        self._memory = backend if type(backend) is MemoryBackend else None
        self._hits: dict[str, Shortcut] = {}
        self._guards: dict[str, Shortcut] = {}
        if self._memory is not None:
            for name, policy in self._rules.policies.items():
                hits, guards = self._memory.shortcuts(policy, clock)
                self._hits[name] = self._rules.unlisted(policy, hits)
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

        config = load(source, {*BUILT_IN, *(overrides.get("actions") or ())})
        settings: dict[str, Any] = {
            "backend": config.backend,
            "mode": config.mode,
            "allow": config.allow,
            "deny": config.deny,
            "deadline": config.deadline / 1e6,
            "denial_cache": config.denial_cache,
        }
        return cls(config.policies, **{**settings, **overrides})

    @property
    def policies(self) -> Mapping[str, Policy]:
        """The policies by name, each with its mode settled."""
        return self._rules.policies

    def __repr__(self) -> str:
        return f"{type(self).__name__}({sorted(self._rules.policies)}, backend={self._backend!r})"

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


def _checked(clock: Clock) -> Clock:
    def tell() -> int:
        now = clock()
        if now.__class__ is not int:
            raise TypeError(f"clock: it returned {now!r}; it must return microseconds as an integer")
        return now

    return tell


class BanHammer(_Shell):
    """Decides hits by policies over a store; thread-safe; a context manager.

    `policies`: unique names. `backend`: a URL or a `Backend`. `actions`: names to callables of one
    `Escalation` (or objects with `run` and `lift`), beside the built-in ones. `mode`: `enforce` or `shadow`.
    `allow`, `deny`: keys and networks; allow beats deny. `clock`: returns Unix microseconds; then every store
    decides at that time. `deadline`: the longest that a call waits for a shared store. `denial_cache`: `None`
    lets the store choose. Raises `ConfigError`.
    """

    __slots__ = ()

    def hit(self, key: str, policy: str, cost: int = 1) -> Decision:
        """Count `cost` units (1 to 1,000,000) by `key` and return the decision.

        Raises `UnknownPolicyError`; `ValueError` for a key that is empty or no string, or a cost out of range.
        """
        if cost is ONE:
            try:
                shortcut = self._hits[policy]
            except (KeyError, TypeError):
                pass  # No short cut, or a mistake: looked at in full below.
            else:
                decision = shortcut(key)
                if decision is not None:
                    return decision
        return self._one(Hit(key, policy, cost=cost))

    def guard(self, key: str, policy: str, cost: int = 1) -> Decision:
        """Ask before the outcome is known: denied, it is a hit; allowed, it stores nothing. Raises as `hit`."""
        if cost is ONE:
            try:
                shortcut = self._guards[policy]
            except (KeyError, TypeError):
                pass  # No short cut, or a mistake: looked at in full below.
            else:
                decision = shortcut(key)
                if decision is not None:
                    return decision
        return self._one(Hit(key, policy, cost=cost, guard=True))

    def peek(self, key: str, policy: str, cost: int = 1) -> Decision:
        """Return the decision that `hit` would return now, and change nothing. Raises as `hit`."""
        return self._one(Hit(key, policy, cost=cost), peek=True)

    def hit_many(self, hits: Iterable[Hit], stop: bool = False) -> Decisions:
        """Decide hits in order; with `stop`, up to the first denial: `None` for what follows, uncharged.

        Raises as `hit`, before any of them is charged.
        """
        hits = list(hits)
        if not stop and (decisions := self._many_at_once(hits)) is not None:
            return decisions
        batch = Batch(self._rules, hits, stop=stop)
        replies = self._backend.evaluate(batch.asked, self._rules.policies, now=self._clock, stop=stop)
        return Decisions(batch.settled(replies))

    def ban(
        self,
        key: str,
        policy: str,
        duration: Duration | None = None,
        threshold: int | None = None,
        reason: str = "",
    ) -> Ban:
        """Ban `key` now and return the ban in force; one in force is never shortened.

        `duration`: `None` takes the ladder of `threshold`, by default the first that has one. Raises
        `UnknownPolicyError`; `ValueError` for a bad key, an allowlisted key, or no duration to take.
        """
        rule = self._rules.bannable(key, policy)
        index, micros = manual_ban(rule, duration, threshold)
        ban_id = uuid4().hex
        ban = self._backend.ban(key, rule, index=index, duration=micros, reason=reason, id=ban_id, now=self._clock)
        self._rules.banned_by_hand(rule, index, replace(ban, id=ban_id, reason=reason), self._clock)
        return ban

    def unban(self, key: str, policy: str) -> Ban | None:
        """End the ban in force and return it, or `None`; strikes stay, and forgiving starts now."""
        rule = self._rules.subject(key, policy)
        ban = self._backend.lift(key, rule, now=self._clock)
        if ban is not None:
            self._rules.lifted_by_hand(rule, ban, self._clock)
        return ban

    def reset(self, key: str, policy: str, strikes: bool = True) -> None:
        """Make `key` under `policy` as if never seen; with `strikes=False`, only empty its meters."""
        rule = self._rules.subject(key, policy)
        self._backend.forget(key, rule, strikes=strikes, now=self._clock)

    def status(self, key: str, policy: str) -> Status:
        """Return the current record of `key` under `policy` in full."""
        rule = self._rules.subject(key, policy)
        return status_of(rule, self._backend.read(key, rule, now=self._clock))

    def status_all(self) -> Iterator[Status]:
        """Stream every tracked record."""
        rules = self._rules.policies
        return (status_of(rules[found.policy], found) for found in self._backend.records(rules, now=self._clock))

    def bans(self) -> Iterator[Ban]:
        """Stream every ban in force."""
        return self._backend.bans(self._rules.policies, now=self._clock)

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until the escalations raised here have run, at most `timeout` seconds; return whether they have."""
        return self._rules.worker.drain(timeout)

    def close(self) -> None:
        """Drain for a moment, then let go of threads, and of the store if it was opened here."""
        self._rules.worker.close(CLOSE_TIMEOUT)
        if self._owns_backend:
            self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _one(self, hit: Hit, *, peek: bool = False) -> Decision:
        rules = self._rules
        policy = rules.checked(hit)
        which = rules.listed(policy, hit.key)
        if which is not None:
            return listed(policy, hit.key, which, shadow=policy.mode == "shadow")
        (reply,) = self._backend.evaluate((hit,), rules.policies, now=self._clock, peek=peek)
        return rules.settle(hit, policy, cast(Reply, reply))


class AsyncBanHammer(_Shell):
    """`BanHammer` for asyncio: the same arguments and verbs, awaited; an asynchronous context manager."""

    __slots__ = ()

    async def hit(self, key: str, policy: str, cost: int = 1) -> Decision:
        """Count `cost` units by `key` and return the decision; see `BanHammer.hit`."""
        if cost is ONE:
            try:
                shortcut = self._hits[policy]
            except (KeyError, TypeError):
                pass  # No short cut, or a mistake: looked at in full below.
            else:
                decision = shortcut(key)
                if decision is not None:
                    return decision
        return await self._one(Hit(key, policy, cost=cost))

    async def guard(self, key: str, policy: str, cost: int = 1) -> Decision:
        """Ask before the outcome is known; see `BanHammer.guard`."""
        if cost is ONE:
            try:
                shortcut = self._guards[policy]
            except (KeyError, TypeError):
                pass  # No short cut, or a mistake: looked at in full below.
            else:
                decision = shortcut(key)
                if decision is not None:
                    return decision
        return await self._one(Hit(key, policy, cost=cost, guard=True))

    async def peek(self, key: str, policy: str, cost: int = 1) -> Decision:
        """Return what `hit` would return now, and change nothing; see `BanHammer.peek`."""
        return await self._one(Hit(key, policy, cost=cost), peek=True)

    async def hit_many(self, hits: Iterable[Hit], stop: bool = False) -> Decisions:
        """Decide hits in order; see `BanHammer.hit_many`."""
        self._rules.worker.use_loop(asyncio.get_running_loop())
        hits = list(hits)
        if not stop and (decisions := self._many_at_once(hits)) is not None:
            return decisions
        batch = Batch(self._rules, hits, stop=stop)
        replies = await self._backend.aio.evaluate(batch.asked, self._rules.policies, now=self._clock, stop=stop)
        return Decisions(batch.settled(replies))

    async def ban(
        self,
        key: str,
        policy: str,
        duration: Duration | None = None,
        threshold: int | None = None,
        reason: str = "",
    ) -> Ban:
        """Ban `key` now and return the ban in force; see `BanHammer.ban`."""
        self._rules.worker.use_loop(asyncio.get_running_loop())
        rule = self._rules.bannable(key, policy)
        index, micros = manual_ban(rule, duration, threshold)
        ban_id = uuid4().hex
        ban = await self._backend.aio.ban(
            key, rule, index=index, duration=micros, reason=reason, id=ban_id, now=self._clock
        )
        self._rules.banned_by_hand(rule, index, replace(ban, id=ban_id, reason=reason), self._clock)
        return ban

    async def unban(self, key: str, policy: str) -> Ban | None:
        """End the ban in force; see `BanHammer.unban`."""
        self._rules.worker.use_loop(asyncio.get_running_loop())
        rule = self._rules.subject(key, policy)
        ban = await self._backend.aio.lift(key, rule, now=self._clock)
        if ban is not None:
            self._rules.lifted_by_hand(rule, ban, self._clock)
        return ban

    async def reset(self, key: str, policy: str, strikes: bool = True) -> None:
        """Make `key` under `policy` as if never seen; see `BanHammer.reset`."""
        rule = self._rules.subject(key, policy)
        await self._backend.aio.forget(key, rule, strikes=strikes, now=self._clock)

    async def status(self, key: str, policy: str) -> Status:
        """Return the current record in full; see `BanHammer.status`."""
        rule = self._rules.subject(key, policy)
        return status_of(rule, await self._backend.aio.read(key, rule, now=self._clock))

    async def status_all(self) -> AsyncIterator[Status]:
        """Stream every tracked record."""
        rules = self._rules.policies
        async for found in self._backend.aio.records(rules, now=self._clock):
            yield status_of(rules[found.policy], found)

    async def bans(self) -> AsyncIterator[Ban]:
        """Stream every ban in force."""
        async for ban in self._backend.aio.bans(self._rules.policies, now=self._clock):
            yield ban

    async def drain(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109  # The contract's name.
        """Wait until the escalations raised here have run; see `BanHammer.drain`."""
        return await asyncio.to_thread(self._rules.worker.drain, timeout)

    async def close(self) -> None:
        """Drain for a moment, then let go; see `BanHammer.close`."""
        await asyncio.to_thread(self._rules.worker.close, CLOSE_TIMEOUT)
        if self._owns_backend:
            await self._backend.aio.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _one(self, hit: Hit, *, peek: bool = False) -> Decision:
        self._rules.worker.use_loop(asyncio.get_running_loop())
        rules = self._rules
        policy = rules.checked(hit)
        which = rules.listed(policy, hit.key)
        if which is not None:
            return listed(policy, hit.key, which, shadow=policy.mode == "shadow")
        (reply,) = await self._backend.aio.evaluate((hit,), rules.policies, now=self._clock, peek=peek)
        return rules.settle(hit, policy, cast(Reply, reply))
