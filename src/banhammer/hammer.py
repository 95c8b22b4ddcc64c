"""The two shells: validate, one call to the store, decide. Sync and async stand side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Final, Self, cast
from uuid import uuid4

from banhammer.backends.shortcut import ONE
from banhammer.batch import Batch, Decisions
from banhammer.core import Reply
from banhammer.decision import Decision
from banhammer.durations import Duration
from banhammer.kinds import listed
from banhammer.model import Ban, Hit, Status
from banhammer.rulebook import manual_ban, status_of
from banhammer.shell import Shell

CLOSE_TIMEOUT: Final = 5.0
"""Seconds that `close` gives to escalations that still wait."""


class BanHammer(Shell):
    """Decides hits by policies over a store; thread-safe; a context manager.

    `policies`: unique names. `backend`: a URL or a `Backend`. `actions`: names to callables of one
    `Escalation` (or objects with `run` and `lift`), beside the built-in ones. `mode`: `enforce` or `shadow`.
    `allow`, `deny`: keys and networks; allow beats deny. `clock`: returns Unix microseconds; then every store
    decides at that time. `deadline`: the longest that a call waits for a shared store. `denial_cache`: `None`
    lets the store choose. `worker`: `"external"` leaves the actions that a durable store keeps to other processes.
    `action_settings`: the settings of actions by name, as in the tables `[actions.NAME]` of a file.
    Raises `ConfigError`.
    """

    __slots__ = ()

    def hit(self, key: str, policy: str, cost: int = 1) -> Decision:
        """Count `cost` units (1 to 1,000,000) by `key` and return the decision.

        Raises `UnknownPolicyError`; `ValueError` for a key that is empty or no string, or a cost out of range.
        """
        if cost is not ONE:
            return self._one(Hit(key, policy, cost=cost))
        try:
            shortcut = self._hits[policy]
        except (KeyError, TypeError):
            pass  # No short cut, or a mistake: looked at in full below.
        else:
            decision = shortcut(key)
            if decision is not None:
                return decision
        return self._one(Hit(key, policy))

    def guard(self, key: str, policy: str, cost: int = 1) -> Decision:
        """Ask before the outcome is known: denied, it is a hit; allowed, it stores nothing. Raises as `hit`."""
        if cost is not ONE:
            return self._one(Hit(key, policy, cost=cost, guard=True))
        try:
            shortcut = self._guards[policy]
        except (KeyError, TypeError):
            pass  # No short cut, or a mistake: looked at in full below.
        else:
            decision = shortcut(key)
            if decision is not None:
                return decision
        return self._one(Hit(key, policy, guard=True))

    def peek(self, key: str, policy: str, cost: int = 1) -> Decision:
        """Return the decision that `hit` would return now, and change nothing. Raises as `hit`."""
        return self._one(Hit(key, policy, cost=cost), peek=True)

    def hit_many(self, hits: Iterable[Hit], stop: bool = False) -> Decisions:
        """Decide hits in order; with `stop`, up to the first denial: `None` for what follows, uncharged.

        Raises as `hit`, before any of them is charged.
        """
        self._rules.worker.begin()
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
        `UnknownPolicyError`; `ValueError` for a bad key or reason, an allowlisted key, or no duration to take.
        """
        rule = self._rules.bannable(key, policy, reason)
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
        rules.worker.begin()
        policy = rules.checked(hit)
        if rules.lists and (which := rules.listed(policy, hit.key)):
            return listed(policy, hit.key, which, shadow=policy.mode == "shadow")
        (reply,) = self._backend.evaluate((hit,), rules.policies, now=self._clock, peek=peek)
        return reply if isinstance(reply, Decision) else rules.settle(hit, policy, cast(Reply, reply))


class AsyncBanHammer(Shell):
    """`BanHammer` for asyncio: the same arguments and verbs, awaited; an asynchronous context manager."""

    __slots__ = ()

    async def hit(self, key: str, policy: str, cost: int = 1) -> Decision:
        """Count `cost` units by `key` and return the decision; see `BanHammer.hit`."""
        if cost is not ONE:
            return await self._one(Hit(key, policy, cost=cost))
        try:
            shortcut = self._hits[policy]
        except (KeyError, TypeError):
            pass  # No short cut, or a mistake: looked at in full below.
        else:
            decision = shortcut(key)
            if decision is not None:
                return decision
        return await self._one(Hit(key, policy))

    async def guard(self, key: str, policy: str, cost: int = 1) -> Decision:
        """Ask before the outcome is known; see `BanHammer.guard`."""
        if cost is not ONE:
            return await self._one(Hit(key, policy, cost=cost, guard=True))
        try:
            shortcut = self._guards[policy]
        except (KeyError, TypeError):
            pass  # No short cut, or a mistake: looked at in full below.
        else:
            decision = shortcut(key)
            if decision is not None:
                return decision
        return await self._one(Hit(key, policy, guard=True))

    async def peek(self, key: str, policy: str, cost: int = 1) -> Decision:
        """Return what `hit` would return now, and change nothing; see `BanHammer.peek`."""
        return await self._one(Hit(key, policy, cost=cost), peek=True)

    async def hit_many(self, hits: Iterable[Hit], stop: bool = False) -> Decisions:
        """Decide hits in order; see `BanHammer.hit_many`."""
        self._rules.worker.begin(asyncio.get_running_loop())
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
        self._rules.worker.begin(asyncio.get_running_loop())
        rule = self._rules.bannable(key, policy, reason)
        index, micros = manual_ban(rule, duration, threshold)
        ban_id = uuid4().hex
        ban = await self._backend.aio.ban(
            key, rule, index=index, duration=micros, reason=reason, id=ban_id, now=self._clock
        )
        self._rules.banned_by_hand(rule, index, replace(ban, id=ban_id, reason=reason), self._clock)
        return ban

    async def unban(self, key: str, policy: str) -> Ban | None:
        """End the ban in force; see `BanHammer.unban`."""
        self._rules.worker.begin(asyncio.get_running_loop())
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
        rules = self._rules
        rules.worker.begin(asyncio.get_running_loop())
        policy = rules.checked(hit)
        if rules.lists and (which := rules.listed(policy, hit.key)):
            return listed(policy, hit.key, which, shadow=policy.mode == "shadow")
        (reply,) = await self._backend.aio.evaluate((hit,), rules.policies, now=self._clock, peek=peek)
        return reply if isinstance(reply, Decision) else rules.settle(hit, policy, cast(Reply, reply))
