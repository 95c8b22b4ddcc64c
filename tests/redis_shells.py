"""Both shells behind one set of verbs, so that a test is written once."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Any

from banhammer import AsyncBanHammer, BanHammer


class Awaiting:
    """An `AsyncBanHammer` with the verbs of `BanHammer`: each is awaited on one event loop of its own."""

    def __init__(self, hammer: AsyncBanHammer) -> None:
        self.hammer = hammer
        self._runner = asyncio.Runner()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.hammer, name)
        return self._awaited(found) if callable(found) else found

    def end(self) -> None:
        """Close the hammer and the loop."""
        self._runner.run(self.hammer.close())
        self._runner.close()

    def _awaited(self, verb: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            told = verb(*arguments, **named)
            return self._runner.run(_collected(told) if inspect.isasyncgen(told) else told)

        return call


class Plain:
    """A `BanHammer` as it is."""

    def __init__(self, hammer: BanHammer) -> None:
        self.hammer = hammer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.hammer, name)

    def end(self) -> None:
        """Close the hammer."""
        self.hammer.close()


Shell = Plain | Awaiting
Make = Callable[..., Shell]
"""Makes a hammer: of other rules where they are given, and of settings."""


def shell(kind: str, *arguments: Any, **named: Any) -> Shell:
    """Return a new hammer of a kind, `"sync"` or `"async"`, made of these arguments."""
    if kind == "sync":
        return Plain(BanHammer(*arguments, **named))
    return Awaiting(AsyncBanHammer(*arguments, **named))


async def _collected(stream: AsyncIterator[Any]) -> list[Any]:
    return [each async for each in stream]
