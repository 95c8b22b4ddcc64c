"""Both shells behind one set of plain calls, so that one test body holds for threads and for an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, ClassVar, Self

from banhammer import AsyncBanHammer, BanHammer, Decision, Policy
from banhammer.backends.redis.backend import RedisBackend
from banhammer.model import Clock

KINDS = ("sync", "async")
SECONDS = 60.0


class Side:
    """A hammer of one kind on a store of its own; the event loop of an async one runs in a thread, as in a server.

    `target`: as `opened` takes it. `deadline`: long by default, for a busy machine is no fault of the store.
    """

    opened: ClassVar[Any] = RedisBackend

    def __init__(
        self,
        kind: str,
        target: Any,
        policies: list[Policy],
        *,
        deadline: str = "10s",
        denial_cache: bool = False,
        clock: Clock | None = None,
        **settings: Any,
    ) -> None:
        self.kind = kind
        self.backend: Any = self.opened(target, deadline=deadline, denial_cache=denial_cache, **settings)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        shell = BanHammer if kind == "sync" else AsyncBanHammer
        self.hammer: Any = shell(policies, backend=self.backend, clock=clock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def hit(self, key: str, policy: str, cost: int = 1) -> Decision:
        decision: Decision = self.call("hit", key, policy, cost)
        return decision

    def call(self, verb: str, *arguments: Any) -> Any:
        """Return what a verb returns; a stream as a list."""
        told = getattr(self.hammer, verb)(*arguments)
        if isinstance(told, Coroutine):
            return self.run(told)
        if isinstance(told, AsyncIterator):
            return self.run(_collected(told))
        return list(told) if verb in ("bans", "status_all") else told

    def hit_at_once(self, workers: int, each: int, policy: str, keys: list[str]) -> list[Decision]:
        """Return the decisions of so many threads or tasks, each of which hits `each` times, key after key."""
        if self.kind == "async":
            told: list[Decision] = self.run(self._tasks(workers, each, policy, keys))
            return told

        def work(worker: int) -> list[Decision]:
            return [self.hammer.hit(keys[(worker + turn) % len(keys)], policy) for turn in range(each)]

        with ThreadPoolExecutor(workers) as pool:
            return [decision for found in pool.map(work, range(workers)) for decision in found]

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Return what a coroutine returns on the loop of this side."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(SECONDS)

    def close(self) -> None:
        if self._loop.is_closed():
            return
        self.call("close")
        if self.kind == "sync":
            self.backend.close()
        else:
            self.run(self.backend.aio.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()

    async def _tasks(self, workers: int, each: int, policy: str, keys: list[str]) -> list[Decision]:
        async def work(worker: int) -> list[Decision]:
            return [await self.hammer.hit(keys[(worker + turn) % len(keys)], policy) for turn in range(each)]

        found = await asyncio.gather(*[work(worker) for worker in range(workers)])
        return [decision for each_found in found for decision in each_found]


async def _collected(stream: AsyncIterator[Any]) -> list[Any]:
    return [each async for each in stream]
