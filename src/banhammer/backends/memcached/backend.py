"""The Memcached backend: the verbs of `Backend` for threads, and those of `AsyncBackend` for event loops."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from time import monotonic
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from banhammer.backends import Now, Policies, Reading, Traits
from banhammer.backends.gather import BATCH, Gatherer, Leader
from banhammer.backends.keeper import Keeper
from banhammer.backends.memcached.edit import Change, banning, clearing, lifting, looking
from banhammer.backends.memcached.server import Server
from banhammer.backends.memcached.settings import checked_share, from_client, from_url
from banhammer.backends.memcached.store import Store
from banhammer.backends.memcached.wire import VERSION
from banhammer.backends.shared import Charge, Front, Outcome
from banhammer.backends.shortcut import Listener, Shortcut
from banhammer.core import Reply
from banhammer.durations import Duration, parse_duration
from banhammer.errors import BackendError, BackendTimeout
from banhammer.forks import renew_after_fork
from banhammer.model import Ban, Clock, Hit, Policy

THREADS: Final = 8
"""The most threads that hold calls of event loops; a loop has two in flight to each server."""
GRACE: Final = 0.2
"""Seconds that an event loop gives a thread beyond the deadline: it keeps it itself, but for the name of a host."""
UNLISTED: Final = "Memcached cannot list what it holds; ask for one key, or keep what must be listed in Redis"

Told = TypeVar("Told")


class MemcachedBackend:
    """A store that a fleet of processes shares, and that forgets what it has no room for.

    `target`: a URL (`memcached://host:port,host:port`), or a client of pymemcache that the application already has,
    whose servers and way of connecting are read; its connections are not used. `deadline`: the longest that a call
    waits. `denial_cache`: `None` means on, and off with an injected clock. `local_share`: among how many processes
    `on_error = "local"` divides the limits. Raises `ConfigError`. `damaged` counts the values that were no record and
    read as absent. The time is this host's.
    """

    traits = Traits(shared=True, lists_bans=False, evicts=True)

    def __init__(
        self,
        target: Any,
        *,
        deadline: Duration = "50ms",
        denial_cache: bool | None = None,
        local_share: int | None = None,
    ) -> None:
        settings, own = from_url(target) if isinstance(target, str) else (from_client(target), {})
        share = checked_share(own.get("local_share") if local_share is None else local_share)
        self._deadline = parse_duration(deadline) / 1e6
        self._store = Store(settings)
        self._keeper = Keeper(self._tend)
        self._front = Front(denial_cache=denial_cache, share=share, wake=self._keeper.wake)
        self.aio = AsyncMemcachedBackend(self)
        """The same store for asyncio."""
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin without connections: in a forked child they are the parent's, which does not hear of it."""
        for server in self._store.servers:
            server.close()
        self._leaders: dict[Server, Leader[Charge, Outcome]] = {
            server: Leader(self._send) for server in self._store.servers
        }
        self.aio.renew()

    @property
    def damaged(self) -> int:
        """How many values were no record."""
        return self._store.damaged

    def __repr__(self) -> str:
        return f"MemcachedBackend({self._store})"

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
        until = self._until()
        front = self._front
        if len(hits) == 1:
            charge = front.before(hits[0], policies[hits[0].policy], now, peek=peek)
            if isinstance(charge, Reply):
                return [charge]
            return [front.after(charge, self._decide((charge,), now, until, stop=False)[0], now)]
        talk = front.talk(hits, policies, now=now, stop=stop, peek=peek)
        try:
            charges = next(talk)
            while True:
                charges = talk.send(self._decide(charges, now, until, stop=stop))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    def ban(
        self, key: str, policy: Policy, *, index: int, duration: int | None, reason: str, id: str, now: Now = None
    ) -> Ban:
        """Ban by hand; see `Backend.ban`."""
        ban = self._edit(key, policy, banning(key, policy, index, duration, (id, reason)), now, self._until())
        self._front.banned(policy, ban)
        return ban

    def lift(self, key: str, policy: Policy, *, now: Now = None) -> Ban | None:
        """End the ban in force; see `Backend.lift`."""
        ban = self._edit(key, policy, lifting(key, policy), now, self._until())
        self._front.forget(key, policy)
        return ban

    def forget(self, key: str, policy: Policy, *, strikes: bool, now: Now = None) -> None:
        """Drop the record or its meters; see `Backend.forget`."""
        self._forget(key, policy, now, self._until(), strikes=strikes)
        self._front.forget(key, policy, ban=strikes)

    def read(self, key: str, policy: Policy, *, now: Now = None) -> Reading:
        """Return the record; see `Backend.read`."""
        return self._edit(key, policy, looking(key, policy), now, self._until())

    def records(self, policies: Policies, *, now: Now = None) -> Iterator[Reading]:
        """Raise `BackendError`: Memcached cannot list."""
        raise BackendError(UNLISTED)

    def bans(self, policies: Policies, *, now: Now = None) -> Iterator[Ban]:
        """Raise `BackendError`: Memcached cannot list."""
        raise BackendError(UNLISTED)

    def close(self) -> None:
        """Close the connections, and end the threads that served event loops."""
        self._keeper.close()
        self.aio.end_threads()
        for server in self._store.servers:
            server.close()

    def _decide(self, charges: Sequence[Charge], now: Now, until: float, *, stop: bool) -> Sequence[Outcome]:
        """Return what became of each charge; a call of its own where others cannot share its time, stop or server."""
        server = None if stop or now is not None else self._server(charges)
        if server is None:
            return self._alone(charges, now, until, stop=stop)
        error = server.breaker.error
        if error is not None:
            return [error] * len(charges)
        try:
            return self._leaders[server].call(charges, until)
        except BackendError as failure:
            return [failure] * len(charges)

    def _alone(self, charges: Sequence[Charge], now: Now, until: float, *, stop: bool) -> Sequence[Outcome]:
        if stop:
            return self._store.decide_until_denied(charges, now, until)
        return self._store.decide(charges, now, until)

    def _send(self, charges: Sequence[Charge], until: float) -> Sequence[Outcome]:
        return self._store.decide(charges, None, until)

    def _server(self, charges: Sequence[Charge]) -> Server | None:
        """Return the server that has the records of all charges, or `None` where there is more than one."""
        servers, place = self._store.servers, self._store.place
        if len(servers) == 1:
            return servers[0]
        found = {place(charge.policy.name, charge.hit.key).server for charge in charges}
        return found.pop() if len(found) == 1 else None

    def _edit(self, key: str, policy: Policy, change: Change[Told], now: Now, until: float) -> Told:
        try:
            return self._store.edit(key, policy, change, now, until)
        finally:
            self._watch()

    def _forget(self, key: str, policy: Policy, now: Now, until: float, *, strikes: bool) -> None:
        if not strikes:
            self._edit(key, policy, clearing, now, until)
            return
        try:
            self._store.drop(key, policy, until)
        finally:
            self._watch()

    def _until(self) -> float:
        return monotonic() + self._deadline

    def _watch(self) -> None:
        """Wake the keeper where there is something to tell the store later, or a server to ask whether it is back."""
        if self._front.pending or self._store.away():
            self._keeper.wake()

    def _tend(self) -> bool:
        for server in self._store.away():
            with suppress(BackendError):  # Still away.
                server.tell(VERSION, self._until())
        by_clock: dict[Clock | None, list[Charge]] = {}
        for charge, clock in self._front.flush():
            by_clock.setdefault(clock, []).append(charge)
        for clock, charges in by_clock.items():
            for start in range(0, len(charges), BATCH):  # Not all at once: callers' hits come in between.
                part = charges[start : start + BATCH]
                outcomes = self._decide(part, clock, self._until(), stop=False)
                for charge, outcome in zip(part, outcomes, strict=True):
                    self._front.flushed(charge, outcome)
        return self._front.pending or bool(self._store.away())


class AsyncMemcachedBackend:
    """The same store for asyncio: one gatherer for each server and event loop, whose calls are held by few threads."""

    def __init__(self, backend: MemcachedBackend) -> None:
        self._backend = backend
        self.renew()

    def renew(self) -> None:
        """Begin without gatherers and threads: in a forked child they are the parent's."""
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Server, Gatherer[Charge, Outcome]]] = (
            WeakKeyDictionary()
        )
        self._lock = threading.RLock()  # Re-entrant: a finalizer that hits must not lock itself out.
        self._threads: ThreadPoolExecutor | None = None

    async def evaluate(
        self, hits: Sequence[Hit], policies: Policies, *, now: Now = None, stop: bool = False, peek: bool = False
    ) -> list[Reply | None]:
        """Decide `hits` in order; see `Backend.evaluate`. Never raises for a store that is away."""
        until = self._backend._until()
        front = self._backend._front
        if len(hits) == 1:
            charge = front.before(hits[0], policies[hits[0].policy], now, peek=peek)
            if isinstance(charge, Reply):
                return [charge]
            return [front.after(charge, (await self._decide((charge,), now, until, stop=False))[0], now)]
        talk = front.talk(hits, policies, now=now, stop=stop, peek=peek)
        try:
            charges = next(talk)
            while True:
                charges = talk.send(await self._decide(charges, now, until, stop=stop))
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]

    async def ban(
        self, key: str, policy: Policy, *, index: int, duration: int | None, reason: str, id: str, now: Now = None
    ) -> Ban:
        """Ban by hand; see `Backend.ban`."""
        ban = await self._edit(key, policy, banning(key, policy, index, duration, (id, reason)), now)
        self._backend._front.banned(policy, ban)
        return ban

    async def lift(self, key: str, policy: Policy, *, now: Now = None) -> Ban | None:
        """End the ban in force; see `Backend.lift`."""
        ban = await self._edit(key, policy, lifting(key, policy), now)
        self._backend._front.forget(key, policy)
        return ban

    async def forget(self, key: str, policy: Policy, *, strikes: bool, now: Now = None) -> None:
        """Drop the record or its meters; see `Backend.forget`."""
        until = self._backend._until()
        await self._hold(lambda: self._backend._forget(key, policy, now, until, strikes=strikes), until)
        self._backend._front.forget(key, policy, ban=strikes)

    async def read(self, key: str, policy: Policy, *, now: Now = None) -> Reading:
        """Return the record; see `Backend.read`."""
        return await self._edit(key, policy, looking(key, policy), now)

    def records(self, policies: Policies, *, now: Now = None) -> AsyncIterator[Reading]:
        """Raise `BackendError`: Memcached cannot list."""
        raise BackendError(UNLISTED)

    def bans(self, policies: Policies, *, now: Now = None) -> AsyncIterator[Ban]:
        """Raise `BackendError`: Memcached cannot list."""
        raise BackendError(UNLISTED)

    async def close(self) -> None:
        """Let this event loop's calls end, then close as `MemcachedBackend.close` does."""
        for gatherer in self._loops.pop(asyncio.get_running_loop(), {}).values():
            await gatherer.close()
        await asyncio.to_thread(self._backend.close)  # The keeper may be in the middle of a round.

    def end_threads(self) -> None:
        """End the threads when their calls are done; a later call has new ones."""
        with self._lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown()

    async def _decide(self, charges: Sequence[Charge], now: Now, until: float, *, stop: bool) -> Sequence[Outcome]:
        backend = self._backend
        server = None if stop or now is not None else backend._server(charges)
        try:
            if server is None:
                return await self._hold(lambda: backend._alone(charges, now, until, stop=stop), until)
            error = server.breaker.error
            return [error] * len(charges) if error else await self._gatherer(server).call(charges, until)
        except BackendError as failure:
            return [failure] if stop else [failure] * len(charges)

    async def _send(self, charges: Sequence[Charge], until: float) -> Sequence[Outcome]:
        return await self._hold(lambda: self._backend._send(charges, until), until)

    async def _edit(self, key: str, policy: Policy, change: Change[Told], now: Now) -> Told:
        until = self._backend._until()
        return await self._hold(lambda: self._backend._edit(key, policy, change, now, until), until)

    async def _hold(self, work: Callable[[], Told], until: float) -> Told:
        """Return what `work` returns in one of the threads; cancelled before one is free, it is never begun."""
        try:
            async with asyncio.timeout(max(until - monotonic(), 0) + GRACE):
                return await asyncio.wrap_future(self._submit(work))
        except TimeoutError as error:
            raise BackendTimeout("the store did not answer in time, queueing included") from error

    def _submit(self, work: Callable[[], Told]) -> Future[Told]:
        with self._lock:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(THREADS, "banhammer-memcached")
            try:
                return self._threads.submit(work)
            except RuntimeError as error:
                raise BackendError(f"the store cannot be asked: {error}") from error

    def _gatherer(self, server: Server) -> Gatherer[Charge, Outcome]:
        loop = asyncio.get_running_loop()
        of_loop = self._loops.get(loop)
        if of_loop is None:
            for reference in self._loops.keyrefs():  # A copy: other threads' loops come and go meanwhile.
                other = reference()
                if other is not None and other.is_closed():
                    self._loops.pop(other, None)
            of_loop = self._loops[loop] = {}
        found = of_loop.get(server)
        if found is None:
            found = of_loop[server] = Gatherer(self._send, self._backend._deadline)
        return found
