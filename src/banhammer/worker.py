"""The worker: runs the actions of escalations in order, off the path of requests."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import wait
from queue import Empty, Full, Queue
from typing import Any, Final

from banhammer.actions import Action
from banhammer.forks import renew_after_fork
from banhammer.model import Escalation

log = logging.getLogger("banhammer")

QUEUE_SIZE: Final = 10_000
"""Escalations that may wait; beyond that they are dropped, counted and logged."""

LOOP_CHECK: Final = 0.1
"""Seconds between two looks at whether the loop that runs an action still runs."""

_Job = tuple[Escalation, tuple[str, ...]]


class Worker:
    """Runs actions one after another in a thread of its own, which starts with the first escalation.

    An action that raises is logged and counted in `failures`; the next one runs all the same. Escalations of
    a policy in shadow are counted in `shadowed` and logged instead of run. What is still queued when the
    process dies is lost.
    """

    def __init__(self, actions: Mapping[str, Action]) -> None:
        self._actions = actions
        self._loop: asyncio.AbstractEventLoop | None = None
        self._jobs: Queue[_Job | None]
        self._thread: threading.Thread | None
        self.failures = 0
        self.dropped = 0
        self.shadowed = 0
        self.renew()
        renew_after_fork(self)

    def submit(self, escalation: Escalation, names: tuple[str, ...]) -> None:
        """Queue the actions `names` for `escalation`; never waits."""
        if not names:
            return
        with self._starting:
            if not self._enqueue((escalation, names)):
                self.dropped += 1
                log.warning("escalation %s dropped: %d are waiting", escalation.id, QUEUE_SIZE)
            elif self._thread is None:
                self._thread = threading.Thread(target=self._run, args=(self._jobs,), name="banhammer", daemon=True)
                self._thread.start()

    def use_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run coroutine actions on `loop` from now on, where the application lives."""
        self._loop = loop

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until all that was queued has run, at most `timeout` seconds; return whether it has.

        An action that asks is answered at once: it cannot wait for itself.
        """
        jobs = self._jobs
        if threading.current_thread() is self._thread:
            return False
        with jobs.all_tasks_done:
            return jobs.all_tasks_done.wait_for(lambda: not jobs.unfinished_tasks, timeout)

    def close(self, timeout: float) -> None:
        """Drain within `timeout` seconds and let the thread end after the action that it is running."""
        if not self.drain(timeout):
            log.warning("closed with %d escalations still waiting", self._jobs.unfinished_tasks)
        with self._starting:
            jobs, thread = self._jobs, self._thread
            self._jobs, self._thread = Queue(QUEUE_SIZE), None
        if thread is not None:
            _discard(jobs)
            jobs.put(None)

    def _enqueue(self, job: _Job) -> bool:
        try:
            self._jobs.put_nowait(job)
        except Full:
            return False
        return True

    def renew(self) -> None:
        """Begin anew: what a parent queued is the parent's to run, and its thread does not exist here."""
        self._jobs = Queue(QUEUE_SIZE)
        self._thread = None
        self._starting = threading.RLock()  # Re-entrant: a finalizer that hits must not lock itself out.

    def _run(self, jobs: Queue[_Job | None]) -> None:
        while (job := jobs.get()) is not None:
            escalation, names = job
            for name in names:
                self._run_one(name, escalation)
            jobs.task_done()
        jobs.task_done()

    def _run_one(self, name: str, escalation: Escalation) -> None:
        if escalation.shadow:
            self.shadowed += 1
            log.info("shadow: would run %s for key %r of policy %r", name, escalation.key, escalation.policy)
            return
        act = _verb(self._actions[name], escalation)
        if act is None:
            return
        try:
            self._call(act, escalation)
        except BaseException:  # Also SystemExit: an action that exits ends itself, not the worker.
            self.failures += 1
            log.exception("action %s failed for key %r of policy %r", name, escalation.key, escalation.policy)

    def _call(self, act: Callable[[Escalation], Any], escalation: Escalation) -> None:
        result = act(escalation)
        if inspect.iscoroutine(result):
            _finish(result, self._loop)


def _finish(coroutine: Coroutine[Any, Any, Any], loop: asyncio.AbstractEventLoop | None) -> None:
    """Run a coroutine to its end on the application's loop, or on one of its own where that does not run.

    Raises what it raised, and `RuntimeError` where the loop stopped in the middle of it.
    """
    started = threading.Event()

    async def run() -> None:
        started.set()
        await coroutine

    if loop is None or not loop.is_running():
        asyncio.run(run())
        return
    outer = run()
    try:
        future = asyncio.run_coroutine_threadsafe(outer, loop)
    except RuntimeError:  # It was closed just now.
        outer.close()
        asyncio.run(run())
        return
    while not future.done() and loop.is_running():
        wait([future], LOOP_CHECK)
    if future.done() and not future.cancelled():
        future.result()
        return
    future.cancel()
    if started.is_set():
        raise RuntimeError("the event loop stopped in the middle of the action")
    outer.close()
    asyncio.run(run())


def _discard(jobs: Queue[_Job | None]) -> None:
    with contextlib.suppress(Empty):
        while True:
            jobs.get_nowait()
            jobs.task_done()


def _verb(action: Action, escalation: Escalation) -> Callable[[Escalation], Any] | None:
    """Return what to call: a lifted ban is told only to what can undo."""
    if escalation.verdict == "lifted":
        return getattr(action, "lift", None)
    return action if callable(action) else action.run
