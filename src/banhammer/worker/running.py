"""Running one action: on the thread that calls, or on the application's event loop if it is a coroutine."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import wait
from time import monotonic
from typing import Any, Final

from banhammer.actions import Action
from banhammer.model import Escalation

LOOP_CHECK: Final = 0.1
"""Seconds between two looks at whether the loop that runs an action still runs."""


def run(
    action: Action, escalation: Escalation, loop: Callable[[], asyncio.AbstractEventLoop | None], deadline: float
) -> None:
    """Run an action on an escalation; raises what it raises, and `TimeoutError` for a coroutine after `deadline` s.

    A lifted ban is told only to what can undo.
    """
    if escalation.verdict == "lifted":
        act = getattr(action, "lift", None)
    else:
        act = action if callable(action) else action.run
    result = act(escalation) if act is not None else None
    if inspect.isawaitable(result):
        _finish(result, loop(), deadline)


def _finish(awaited: Awaitable[Any], loop: asyncio.AbstractEventLoop | None, deadline: float) -> None:
    """Run a coroutine to its end on the application's loop, or on one of its own where that does not run.

    Raises `RuntimeError` where the loop stopped in the middle of it.
    """
    started = threading.Event()

    async def within() -> None:
        started.set()
        async with asyncio.timeout(deadline):
            await awaited

    outer = within()
    if loop is None or not loop.is_running():
        asyncio.run(outer)
        return
    try:
        future = asyncio.run_coroutine_threadsafe(outer, loop)
    except RuntimeError:  # It was closed just now.
        asyncio.run(outer)
        return
    ends = monotonic() + deadline + LOOP_CHECK  # A loop that is blocked does not see that time is up.
    while not future.done() and loop.is_running() and monotonic() < ends:
        wait([future], LOOP_CHECK)
    if future.done() and not future.cancelled():
        future.result()
        return
    future.cancel()
    if started.is_set():
        raise RuntimeError("the event loop stopped in the middle of the action")
    if monotonic() >= ends:
        raise TimeoutError("the event loop is blocked")
    outer.close()
    asyncio.run(within())
