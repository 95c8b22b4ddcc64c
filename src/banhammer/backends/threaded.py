"""A store's verbs for asyncio where they wait: each runs in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

from banhammer.backends import Backend, Now, Policies, Reading
from banhammer.core import Reply
from banhammer.model import Ban, Hit, Policy

PIECE: Final = 100
"""How many records or bans of a stream one thread reads before it hands them on."""

Told = TypeVar("Told")


class Threaded:
    """`AsyncBackend` over a store whose verbs wait; `pool`: where they run, by default the event loop's own threads.

    A caller that is cancelled leaves its call to its end.
    """

    def __init__(self, backend: Backend, pool: Executor | None = None) -> None:
        self._backend = backend
        self._pool = pool

    async def evaluate(
        self,
        hits: Sequence[Hit],
        policies: Policies,
        *,
        now: Now = None,
        stop: bool = False,
        peek: bool = False,
    ) -> list[Reply | None]:
        """Decide a batch; see `Backend.evaluate`."""
        return await self._run(self._backend.evaluate, hits, policies, now=now, stop=stop, peek=peek)

    async def ban(
        self,
        key: str,
        policy: Policy,
        *,
        index: int,
        duration: int | None,
        reason: str,
        id: str,
        now: Now = None,
    ) -> Ban:
        """Ban by hand; see `Backend.ban`."""
        return await self._run(
            self._backend.ban, key, policy, index=index, duration=duration, reason=reason, id=id, now=now
        )

    async def lift(self, key: str, policy: Policy, *, now: Now = None) -> Ban | None:
        """End the ban in force; see `Backend.lift`."""
        return await self._run(self._backend.lift, key, policy, now=now)

    async def forget(self, key: str, policy: Policy, *, strikes: bool, now: Now = None) -> None:
        """Drop the record or its meters; see `Backend.forget`."""
        await self._run(self._backend.forget, key, policy, strikes=strikes, now=now)

    async def read(self, key: str, policy: Policy, *, now: Now = None) -> Reading:
        """Return the record; see `Backend.read`."""
        return await self._run(self._backend.read, key, policy, now=now)

    async def records(self, policies: Policies, *, now: Now = None) -> AsyncIterator[Reading]:
        """Stream the records; see `Backend.records`."""
        async for reading in self._stream(await self._run(self._backend.records, policies, now=now)):
            yield reading

    async def bans(self, policies: Policies, *, now: Now = None) -> AsyncIterator[Ban]:
        """Stream the bans; see `Backend.bans`."""
        async for ban in self._stream(await self._run(self._backend.bans, policies, now=now)):
            yield ban

    async def close(self) -> None:
        """Let go of connections; see `Backend.close`."""
        await self._run(self._backend.close)

    async def _run(self, verb: Callable[..., Told], *arguments: Any, **named: Any) -> Told:
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(verb, *arguments, **named))

    async def _stream(self, stream: Iterator[Told]) -> AsyncIterator[Told]:
        while piece := await self._run(_taken, stream):
            for each in piece:
                yield each


def _taken(stream: Iterator[Told]) -> list[Told]:
    return list(islice(stream, PIECE))
