"""The Redis backend: the verbs of `Backend` for threads, and those of `AsyncBackend` for event loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from time import monotonic
from typing import Any, TypeVar

from banhammer import core
from banhammer.backends import Now, Policies, Reading, Traits
from banhammer.backends.gather import BATCH
from banhammer.backends.keeper import Keeper
from banhammer.backends.redis.asking import When
from banhammer.backends.redis.calls import Reach, TaskCalls, ThreadCalls, told
from banhammer.backends.redis.dead_letters import RedisDeadLetters
from banhammer.backends.redis.drivers import adrive, drive
from banhammer.backends.redis.listing import Lister
from banhammer.backends.redis.outbox import RedisOutbox
from banhammer.backends.redis.settings import checked_settings, from_client, from_url
from banhammer.backends.redis.streams import Streams
from banhammer.backends.redis.talk import Speaker
from banhammer.backends.redis.topology import Answers, Asks, Topology
from banhammer.backends.redis.verbs import Cause, Operator
from banhammer.backends.redis.wire import Names
from banhammer.backends.shared import Charge, Front, Outcome
from banhammer.backends.shortcut import Listener, Shortcut
from banhammer.core import Reply
from banhammer.durations import Duration, parse_duration
from banhammer.errors import BackendError
from banhammer.forks import renew_after_fork
from banhammer.model import Ban, Clock, Hit, Policy, Record
from banhammer.outbox import DeadLetters, Outbox

Told = TypeVar("Told")
PATIENCE = 2.0
"""Seconds that a worker waits for an answer of the store: nobody waits for the worker."""


class RedisBackend:
    """A store that a fleet of processes shares.

    `target`: a URL (`redis://`, `rediss://`, `redis+unix://`, `redis+sentinel://h1,h2/service`, `redis+cluster://h1,h2`,
    `rediss+sentinel://`, `rediss+cluster://`), or a client of redis-py that the application already has, sync or
    asyncio, whose settings are read; its connections are not used. `deadline`: the longest that a call waits.
    `denial_cache`: `None` means on, and off with an injected clock. `partitions`: default 16 on a cluster, 1 elsewhere;
    changing it forgets all state. `local_share`: among how many processes `on_error = "local"` divides the limits.
    Raises `ConfigError`. `damaged` counts the records that did not parse and read as absent.
    """

    traits = Traits(shared=True, durable=True)

    def __init__(
        self,
        target: Any,
        *,
        deadline: Duration = "50ms",
        denial_cache: bool | None = None,
        partitions: int | None = None,
        local_share: int | None = None,
    ) -> None:
        settings, own = from_url(target) if isinstance(target, str) else (from_client(target), {})
        own |= checked_settings(partitions=partitions, local_share=local_share)
        self._deadline = parse_duration(deadline) / 1e6
        self._names = Names(own.get("partitions", settings.partitions))
        self._topology = Topology(settings, self._names.tags)
        self._speaker = Speaker(self._topology, self._names)
        self._operator = Operator(self._topology, self._names)
        self._lister = Lister(self._topology, self._names)
        self._reach = Reach(self._topology, self._names)
        self._calls = ThreadCalls(self._reach, self._speaker)
        self._task_calls = TaskCalls(self._reach, self._speaker, self._deadline)
        self._keeper = Keeper(self._tend)
        self._front = Front(denial_cache=denial_cache, share=own.get("local_share", 1), wake=self._keeper.wake)
        self._inherited: list[object] = []
        self.aio = AsyncRedisBackend(self)
        """The same store for asyncio."""
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin without connections: in a forked child they are the parent's, which must not hear of it."""
        for server in self._topology.servers():
            self._inherited += server.abandon()
        self._speaker.renew()
        self._calls.renew()
        self._task_calls.renew()

    @property
    def damaged(self) -> int:
        """How many records did not parse."""
        return self._topology.damaged

    def __repr__(self) -> str:
        return f"RedisBackend({self._topology}, partitions={len(self._names.tags)})"

    def shortcuts(
        self, policy: Policy, clock: Clock | None, listener: Listener
    ) -> tuple[Shortcut | None, Shortcut | None]:
        """Return the denial cache's short cut for a hit and for a guard of one unit."""
        shortcut = self._front.shortcut(policy, clock, listener)
        return shortcut, shortcut

    def evaluate(
        self, hits: Sequence[Hit], policies: Policies, *, now: Now = None, stop: bool = False, peek: bool = False
    ) -> list[Reply | None]:
        """Decide `hits` in order; see `Backend.evaluate`. Never raises for a store that is away."""
        until = monotonic() + self._deadline
        front = self._front
        if len(hits) == 1:
            charge = front.before(hits[0], policies[hits[0].policy], now, peek=peek)
            if isinstance(charge, Reply):
                return [charge]
            return [front.after(charge, self._calls.decide_one(charge, now, until), now)]
        talk = front.talk(hits, policies, now=now, stop=stop, peek=peek)
        try:
            charges = next(talk)
            while True:
                charges = talk.send(self._calls.decide(charges, now, until, stop=stop))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    def ban(
        self, key: str, policy: Policy, *, index: int, duration: int | None, reason: str, id: str, now: Now = None
    ) -> Ban:
        """Ban by hand; see `Backend.ban`."""
        change, cause = _by_hand(policy, index, duration), Cause(id, reason, index)
        ban = self._hold(self._operator.ban(key, policy, change, cause, self._when(now)))
        self._front.banned(policy, ban)
        return ban  # type: ignore[no-any-return]

    def lift(self, key: str, policy: Policy, *, now: Now = None) -> Ban | None:
        """End the ban in force; see `Backend.lift`."""
        ban = self._hold(self._operator.lift(key, policy, self._when(now)))
        self._front.forget(key, policy)
        return ban  # type: ignore[no-any-return]

    def forget(self, key: str, policy: Policy, *, strikes: bool, now: Now = None) -> None:
        """Drop the record or its meters; see `Backend.forget`."""
        self._hold(self._operator.forget(key, policy, self._when(now), strikes=strikes))
        self._front.forget(key, policy, ban=strikes)

    def read(self, key: str, policy: Policy, *, now: Now = None) -> Reading:
        """Return the record; see `Backend.read`."""
        return self._hold(self._operator.read(key, policy, self._when(now)))  # type: ignore[no-any-return]

    def records(self, policies: Policies, *, now: Now = None) -> Iterator[Reading]:
        """Stream the records, a `SCAN` step at a time; a key over 120 characters is told by its shortened spelling."""
        for server in self._hold(self._lister.places()):
            cursor = -1
            while cursor:
                cursor, found = self._hold(self._lister.records(server, max(cursor, 0), policies, self._when(now)))
                yield from found

    def bans(self, policies: Policies, *, now: Now = None) -> Iterator[Ban]:
        """Stream the bans in force from the indexes, a step at a time."""
        for partition in range(len(self._names.tags)):
            cursor = -1
            while cursor:
                verb = self._lister.bans(partition, max(cursor, 0), policies, self._when(now))
                cursor, found = self._hold(verb)
                yield from found

    def outbox(self) -> Outbox:
        """Return a new worker's view of the escalations."""
        return RedisOutbox(self._streams())

    def dead_letters(self) -> DeadLetters:
        """Return an operator's view of the escalations."""
        return RedisDeadLetters(self._streams())

    def close(self) -> None:
        """Close the connections of threads; those of an event loop are closed by `aio.close` there."""
        self._keeper.close()
        for server in self._topology.servers():
            server.close()

    def _hold(self, verb: Generator[tuple[Asks, float], Answers, Told]) -> Told:
        try:
            return drive(verb, self._until())
        finally:
            self._watch()

    def _streams(self) -> Streams:
        return Streams(self._topology, self._names, lambda talk: drive(talk, monotonic() + PATIENCE))

    def _when(self, now: Now) -> When:
        return When(told(now), self._until())

    def _until(self) -> float:
        return monotonic() + self._deadline

    def _watch(self) -> None:
        """Wake the keeper where there is something to tell the store later, or a server to ask whether it is back."""
        if self._front.pending or self._topology.away():
            self._keeper.wake()

    def _tend(self) -> bool:
        for server in self._topology.away():
            server.probe(self._topology.question(server), self._until())
            self._topology.doubt()
        by_clock: dict[Clock | None, list[Charge]] = {}
        for charge, clock in self._front.flush():
            by_clock.setdefault(clock, []).append(charge)
        for clock, charges in by_clock.items():
            for start in range(0, len(charges), BATCH):  # Not all at once: callers' hits come in between.
                part = charges[start : start + BATCH]
                outcomes = self._calls.decide(part, clock, self._until(), stop=False)
                for charge, outcome in zip(part, outcomes, strict=True):
                    self._front.flushed(charge, outcome)
        away = self._topology.away()
        for server in self._topology.servers():
            if server not in away:  # It is back, or was replaced.
                server.unask()
        return self._front.pending or bool(away)


class AsyncRedisBackend:
    """The same store for asyncio: one gatherer for each server and event loop."""

    def __init__(self, backend: RedisBackend) -> None:
        self._backend = backend
        self._calls = backend._task_calls

    async def evaluate(
        self, hits: Sequence[Hit], policies: Policies, *, now: Now = None, stop: bool = False, peek: bool = False
    ) -> list[Reply | None]:
        """Decide `hits` in order; see `Backend.evaluate`. Never raises for a store that is away."""
        backend = self._backend
        until = monotonic() + backend._deadline
        front = backend._front
        if len(hits) == 1:
            hit = hits[0]
            charge = front.before(hit, policies[hit.policy], now, peek=peek)
            if isinstance(charge, Reply):
                return [charge]
            if now is not None:
                return [front.after(charge, (await self._calls.decide((charge,), now, until, stop=False))[0], now)]
            server = backend._reach.server_of(hit.key)
            outcome: Outcome | None = backend._reach.away(server)
            if outcome is None:
                try:
                    (outcome,) = await self._calls.gatherer(server).call((charge,), until)
                except BackendError as error:
                    outcome = error
            return [front.after(charge, outcome, None)]
        talk = front.talk(hits, policies, now=now, stop=stop, peek=peek)
        try:
            charges = next(talk)
            while True:
                charges = talk.send(await self._calls.decide(charges, now, until, stop=stop))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    async def ban(
        self, key: str, policy: Policy, *, index: int, duration: int | None, reason: str, id: str, now: Now = None
    ) -> Ban:
        """Ban by hand; see `Backend.ban`."""
        backend = self._backend
        change, cause = _by_hand(policy, index, duration), Cause(id, reason, index)
        ban = await self._hold(backend._operator.ban(key, policy, change, cause, backend._when(now)))
        backend._front.banned(policy, ban)
        return ban  # type: ignore[no-any-return]

    async def lift(self, key: str, policy: Policy, *, now: Now = None) -> Ban | None:
        """End the ban in force; see `Backend.lift`."""
        backend = self._backend
        ban = await self._hold(backend._operator.lift(key, policy, backend._when(now)))
        backend._front.forget(key, policy)
        return ban  # type: ignore[no-any-return]

    async def forget(self, key: str, policy: Policy, *, strikes: bool, now: Now = None) -> None:
        """Drop the record or its meters; see `Backend.forget`."""
        backend = self._backend
        await self._hold(backend._operator.forget(key, policy, backend._when(now), strikes=strikes))
        backend._front.forget(key, policy, ban=strikes)

    async def read(self, key: str, policy: Policy, *, now: Now = None) -> Reading:
        """Return the record; see `Backend.read`."""
        backend = self._backend
        return await self._hold(backend._operator.read(key, policy, backend._when(now)))

    async def records(self, policies: Policies, *, now: Now = None) -> AsyncIterator[Reading]:
        """Stream the records; see `RedisBackend.records`."""
        lister = self._backend._lister
        for server in await self._hold(lister.places()):
            cursor = -1
            while cursor:
                cursor, found = await self._hold(
                    lister.records(server, max(cursor, 0), policies, self._backend._when(now))
                )
                for reading in found:
                    yield reading

    async def bans(self, policies: Policies, *, now: Now = None) -> AsyncIterator[Ban]:
        """Stream the bans in force; see `RedisBackend.bans`."""
        backend = self._backend
        for partition in range(len(backend._names.tags)):
            cursor = -1
            while cursor:
                verb = backend._lister.bans(partition, max(cursor, 0), policies, backend._when(now))
                cursor, found = await self._hold(verb)
                for ban in found:
                    yield ban

    async def close(self) -> None:
        """Close the connections of this event loop, and those of threads."""
        await self._calls.close()
        for server in self._backend._topology.servers():
            await server.aclose()
        await asyncio.to_thread(self._backend.close)  # The keeper may be in the middle of a round.

    async def _hold(self, verb: Generator[tuple[Asks, float], Answers, Told]) -> Told:
        try:
            return await adrive(verb, self._backend._until())
        finally:
            self._backend._watch()


def _by_hand(policy: Policy, index: int, duration: int | None) -> Any:
    def ban(record: Record, at: int) -> Record:
        return core.ban(policy, record, index, duration, at)

    return ban
