"""Sharing round trips: what callers want at the same moment goes to the store in one call.

Threads: whoever finds nobody sending leads, and takes along what the others queued; one call is in flight. Tasks: at
most two calls are in flight, and what queues meanwhile makes the next one; no timer holds anyone back.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Final, Generic, TypeVar

from banhammer.errors import BackendTimeout

BATCH: Final = 128
"""The most hits in one shared call; more, and client and server would never overlap."""
IN_FLIGHT: Final = 2
HASTE: Final = 0.01
"""Seconds; a leader with less left takes nobody along: they may wait longer than it can."""

Asked = TypeVar("Asked")
Told = TypeVar("Told")


class _Turn(Generic[Asked, Told]):
    """One thread's place in the queue; its gate opens when it is told something, or is to lead."""

    __slots__ = ("asked", "done", "error", "gate", "leads", "told")

    def __init__(self, asked: Sequence[Asked]) -> None:
        self.asked = asked
        self.told: Sequence[Told] = ()
        self.error: BaseException | None = None
        self.done = False
        self.leads = False
        self.gate = threading.Lock()
        self.gate.acquire()


class Leader(Generic[Asked, Told]):
    """Shares calls among threads: `send(asked, until)` is called by one at a time, for several."""

    def __init__(self, send: Callable[[Sequence[Asked], float], Sequence[Told]]) -> None:
        self._send = send
        self._mutex = threading.RLock()  # Re-entrant: a finalizer that hits must not lock itself out.
        self._waiting: deque[_Turn[Asked, Told]] = deque()
        self._busy = False

    def call(self, asked: Sequence[Asked], until: float) -> Sequence[Told]:
        """Return what the store told about `asked`; raises what the shared call raised, or `BackendTimeout`.

        `until`: the `time.monotonic` at which waiting ends.
        """
        turn: _Turn[Asked, Told] | None = None
        with self._mutex:
            if self._busy:
                turn = _Turn(asked)
                self._waiting.append(turn)
            self._busy = True
        if turn is None:
            return self._lead(asked, until)
        try:
            turn.gate.acquire(timeout=max(until - monotonic(), 0))
        except BaseException:
            self._leave(turn)
            raise
        if turn.done:
            if turn.error is not None:
                raise turn.error
            return turn.told
        if turn.leads and monotonic() < until:
            return self._lead(asked, until)
        self._leave(turn)
        raise BackendTimeout("the store did not answer in time, queueing included")

    def _leave(self, turn: _Turn[Asked, Told]) -> None:
        """Give up a place in the queue, and the lead with it."""
        with self._mutex:
            if turn in self._waiting:
                self._waiting.remove(turn)
        if turn.leads:
            self._hand_over()

    def _lead(self, asked: Sequence[Asked], until: float) -> Sequence[Told]:
        followers: list[_Turn[Asked, Told]] = []
        told: Sequence[Told] = ()
        error: BaseException | None = None
        try:
            batch = list(asked)
            room = BATCH if until - monotonic() > HASTE else 0
            with self._mutex:
                while self._waiting and len(batch) + len(self._waiting[0].asked) <= room:
                    turn = self._waiting.popleft()
                    followers.append(turn)
                    batch.extend(turn.asked)
            told = self._send(batch, until)
        except BaseException as failure:
            error = failure if isinstance(failure, Exception) else BackendTimeout("the shared call was interrupted")
            raise
        finally:
            self._hand_over()
            at = len(asked)
            for turn in followers:
                turn.told = told[at : at + len(turn.asked)]
                turn.error = error
                turn.done = True
                at += len(turn.asked)
                turn.gate.release()
        return told[: len(asked)]

    def _hand_over(self) -> None:
        with self._mutex:
            if not self._waiting:
                self._busy = False
                return
            turn = self._waiting.popleft()
            turn.leads = True
            turn.gate.release()


class Gatherer(Generic[Asked, Told]):
    """Shares calls among the tasks of one event loop: `send(asked, until)` is awaited for several at once.

    A caller that is cancelled, or whose time is up, takes nothing from the others.
    """

    def __init__(self, send: Callable[[Sequence[Asked], float], Awaitable[Sequence[Told]]], deadline: float) -> None:
        self._send = send
        self._deadline = deadline
        self._waiting: deque[tuple[Sequence[Asked], asyncio.Future[Sequence[Told]]]] = deque()
        self._flying = 0
        self._flights: set[asyncio.Task[None]] = set()
        self._landed: asyncio.Future[None] | None = None
        self._ends: deque[tuple[float, asyncio.Future[Sequence[Told]]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def call(self, asked: Sequence[Asked], until: float) -> Awaitable[Sequence[Told]]:
        """Return, awaited, what the store told about `asked`; raises what the shared call raised, or `BackendTimeout`.

        `until`: the `time.monotonic` at which waiting ends.
        """
        return self._join(asked, until) if self._flying else self._alone(asked, until)

    async def _alone(self, asked: Sequence[Asked], until: float) -> Sequence[Told]:
        self._flying += 1
        try:
            return await self._send(asked, until)
        finally:
            self._land()

    def _join(self, asked: Sequence[Asked], until: float) -> asyncio.Future[Sequence[Told]]:
        """Queue what is asked for the next flight."""
        future: asyncio.Future[Sequence[Told]] = asyncio.get_running_loop().create_future()
        self._waiting.append((asked, future))
        if self._flying < IN_FLIGHT:
            self._take_off()
        ends = self._ends
        while ends and ends[0][1].done():
            ends.popleft()
        ends.append((until, future))
        if self._timer is None:
            self._set_timer()
        return future

    def _set_timer(self) -> None:
        """One timer for all: calls end in the order in which they came, as each may wait as long as the others."""
        rest = max(self._ends[0][0] - monotonic(), 0)
        self._timer = asyncio.get_running_loop().call_later(rest, self._expire)

    def _expire(self) -> None:
        now = monotonic()
        while self._ends and (self._ends[0][1].done() or self._ends[0][0] <= now):
            _, future = self._ends.popleft()
            if not future.done():
                future.set_exception(BackendTimeout("the store did not answer in time, queueing included"))
        self._timer = None
        if self._ends:
            self._set_timer()

    async def close(self) -> None:
        """Let the calls in flight end."""
        while self._flying:
            if self._landed is None or self._landed.done():
                self._landed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._landed)  # Shielded: whoever else closes waits for the same one.

    def _take_off(self) -> None:
        self._flying += 1
        flight = asyncio.get_running_loop().create_task(self._fly())
        self._flights.add(flight)
        flight.add_done_callback(self._flights.discard)

    def _land(self) -> None:
        self._flying -= 1
        if self._waiting:  # The caller sent itself alone, or its flight was cancelled: another takes them.
            self._take_off()
        if self._landed is not None and not self._landed.done():
            self._landed.set_result(None)

    async def _fly(self) -> None:
        try:
            while self._waiting:
                riders, batch = self._board()
                if batch:
                    await self._carry(riders, batch)
        finally:
            self._land()

    async def _carry(
        self, riders: list[tuple[Sequence[Asked], asyncio.Future[Sequence[Told]]]], batch: list[Asked]
    ) -> None:
        try:
            told = await self._send(batch, monotonic() + self._deadline)
        except BaseException as failure:
            interrupted = BackendTimeout("the shared call was interrupted")
            for _, future in riders:
                if not future.done():
                    future.set_exception(failure if isinstance(failure, Exception) else interrupted)
            if not isinstance(failure, Exception):
                raise
            return
        at = 0
        for asked, future in riders:
            if not future.done():
                future.set_result(told[at : at + len(asked)])
            at += len(asked)

    def _board(self) -> tuple[list[tuple[Sequence[Asked], asyncio.Future[Sequence[Told]]]], list[Asked]]:
        riders: list[tuple[Sequence[Asked], asyncio.Future[Sequence[Told]]]] = []
        batch: list[Asked] = []
        while self._waiting and (not batch or len(batch) + len(self._waiting[0][0]) <= BATCH):
            asked, future = self._waiting.popleft()
            if not future.done():  # Cancelled or expired before it was sent: it is never counted.
                riders.append((asked, future))
                batch.extend(asked)
        return riders, batch
