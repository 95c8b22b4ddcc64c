"""Plain calls: one test body for threads and for an event loop."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final, TypeVar

WIDTH: Final = 4
"""Threads, tasks or processes that call at once."""
WAIT: Final = 60.0
"""Seconds after which a caller counts as stuck."""

Told = TypeVar("Told")


class Calls:
    """The verbs of a hammer or a store, awaited on `runner` where they must be; streams come as lists."""

    def __init__(self, subject: Any, runner: asyncio.Runner) -> None:
        self._subject = subject
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self._subject, name)

        def call(*arguments: Any, **named: Any) -> Any:
            told = verb(*arguments, **named)
            if inspect.isawaitable(told):
                return self._runner.run(_awaited(told))
            if isinstance(told, AsyncIterator):
                return self._runner.run(_collected(told))
            return list(told) if isinstance(told, Iterator) else told

        return call

    def at_once(self, verb: str, *arguments: Any) -> list[Any]:
        """Return what several threads, or tasks, were told that call a verb at once."""
        call = getattr(self._subject, verb)
        if not inspect.iscoroutinefunction(call):
            return in_threads(lambda _: call(*arguments))
        return self._runner.run(_gathered([call(*arguments) for _ in range(WIDTH)]))


def in_threads(work: Callable[[int], Told], width: int = WIDTH) -> list[Told]:
    """Return what `work(number)` returned in as many threads that begin at once; raise what any of them raised."""
    barrier = threading.Barrier(width)
    told: dict[int, Told] = {}
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait(WAIT)
            told[number] = work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in range(width)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    if failures:
        raise failures[0]
    if len(told) < width:
        raise AssertionError(f"threads that use one store at once get their answers: some wait for {WAIT:g} s")
    return [told[number] for number in range(width)]


async def _gathered(told: list[Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*told)


async def _awaited(told: Any) -> Any:
    return await told


async def _collected(stream: AsyncIterator[Any]) -> list[Any]:
    return [each async for each in stream]
