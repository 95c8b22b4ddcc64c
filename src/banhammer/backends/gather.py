"""Sharing round trips: what callers want at the same moment goes to the store in one call.

Threads: whoever finds nobody sending leads, and takes along what the others queued; one call is in flight, or one more
where that outlasts its deadline. Tasks: at most two calls are in flight, and of those who queue meanwhile half go in
the next one; no timer holds anyone back.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from banhammer.errors import BackendTimeout

BATCH: Final = 128
"""The most hits in one shared call; more, and client and server would never overlap."""
IN_FLIGHT: Final = 2
FEW: Final = 16
"""So many tasks are not parted: a smaller call costs more than the overlap saves."""
SOON: Final = 0.02
"""A share of the deadline: tasks whose time is up so soon are ended together, which spares timers."""
HASTE: Final = 0.01
"""Seconds; a leader with less left takes nobody along: they may wait longer than it can."""
GRACE: Final = 0.01
"""Seconds after its deadline at which a leader has lost the lead: it may have been interrupted before it gave it on."""

INTERRUPTED: Final = "the shared call was interrupted"

Asked = TypeVar("Asked")
Told = TypeVar("Told")

_Ride = tuple[Sequence[Asked], asyncio.Future[Sequence[Told]], float]
"""What one caller asks, where it awaits the answer, and until when (`time.monotonic`)."""


class _Turn(Generic[Asked, Told]):
    """One thread's place in the queue; its gate opens when it is told something, or is to lead."""

    __slots__ = ("asked", "done", "error", "gate", "leads", "told", "until")

    def __init__(self, asked: Sequence[Asked], until: float) -> None:
        self.asked = asked
        self.until = until
        self.told: Sequence[Told] = ()
        self.error: BaseException | None = None
        self.done = False
        self.leads = False
        self.gate = threading.Lock()
        self.gate.acquire()


class Leader(Generic[Asked, Told]):
    """Shares calls among threads: `send(asked, until)` is called by one at a time, until its deadline, for several."""

    def __init__(self, send: Callable[[Sequence[Asked], float], Sequence[Told]]) -> None:
        self._send = send
        self._mutex = threading.RLock()  # Re-entrant: a finalizer that hits must not lock itself out.
        self._waiting: deque[_Turn[Asked, Told]] = deque()
        self._led_until = 0.0  # No flag: one who is interrupted at the wrong moment would leave it up for ever.

    def call(self, asked: Sequence[Asked], until: float) -> Sequence[Told]:
        """Return what the store told about `asked`; raises what the shared call raised, or `BackendTimeout`.

        `until`: the `time.monotonic` at which waiting ends.
        """
        turn: _Turn[Asked, Told] | None = None
        with self._mutex:
            if monotonic() < self._led_until:
                turn = _Turn(asked, until)
                self._waiting.append(turn)
            else:
                self._led_until = until + GRACE
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
            self._hand_over(turn.until)

    def _lead(self, asked: Sequence[Asked], until: float) -> Sequence[Told]:
        followers: list[_Turn[Asked, Told]] = []
        told: Sequence[Told] = ()
        error: BaseException | None = None
        try:
            if self._waiting and until - monotonic() > HASTE:
                self._take_along(followers, BATCH - len(asked))
            batch = [*asked, *chain.from_iterable([turn.asked for turn in followers])] if followers else asked
            told = self._send(batch, until)
        except BaseException as failure:
            error = failure if isinstance(failure, Exception) else BackendTimeout(INTERRUPTED)
            raise
        finally:
            self._hand_over(until)
            at = len(asked)
            for turn in followers:
                turn.told = told[at : at + len(turn.asked)]
                turn.error = error
                turn.done = True
                at += len(turn.asked)
                turn.gate.release()
        return told[: len(asked)] if followers else told

    def _take_along(self, followers: list[_Turn[Asked, Told]], room: int) -> None:
        """Move those who wait first from the queue to `followers`, as far as there is room."""
        with self._mutex:
            while self._waiting and len(self._waiting[0].asked) <= room:
                turn = self._waiting.popleft()
                followers.append(turn)
                room -= len(turn.asked)

    def _hand_over(self, until: float) -> None:
        """Let the first who waits lead, or nobody; one whose time has been up for long leads no more."""
        with self._mutex:
            if self._led_until != until + GRACE:
                return
            if not self._waiting:
                self._led_until = 0.0
                return
            turn = self._waiting.popleft()
            self._led_until = turn.until + GRACE
            turn.leads = True
            turn.gate.release()


class Gatherer(Generic[Asked, Told]):
    """Shares calls among the tasks of one event loop: `send(asked, until)` is awaited for several at once.

    A caller that is cancelled, or whose time is up, takes nothing from the others.
    """

    def __init__(self, send: Callable[[Sequence[Asked], float], Awaitable[Sequence[Told]]], deadline: float) -> None:
        self._send = send
        self._deadline = deadline
        self._waiting: deque[_Ride[Asked, Told]] = deque()
        self._flying = 0
        self._flights: dict[asyncio.Task[None], list[_Ride[Asked, Told]]] = {}
        self._landed: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def call(self, asked: Sequence[Asked], until: float) -> Awaitable[Sequence[Told]]:
        """Return, awaited, what the store told about `asked`; raises what the shared call raised, or `BackendTimeout`.

        `until`: the `time.monotonic` at which waiting ends, or sooner by `SOON` of the deadline.
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
        self._waiting.append((asked, future, until))
        if self._flying < IN_FLIGHT:
            try:
                self._take_off()
            except BaseException:  # Its caller hears of that instead: it must not be sent, and counted, by another.
                future.cancel()
                raise
        if self._timer is None:
            self._set_timer(until)
        return future

    def _set_timer(self, until: float) -> None:
        """One timer for all, set for whoever came first: each may wait as long as the others."""
        self._timer = asyncio.get_running_loop().call_later(max(until - monotonic(), 0), self._expire)

    def _expire(self) -> None:
        self._timer = None  # First: whatever comes in between, the next caller sets another.
        soon = monotonic() + self._deadline * SOON
        rest = []
        for _, future, until in chain(*self._flights.values(), self._waiting):
            if future.done():
                continue
            if until <= soon:
                future.set_exception(BackendTimeout("the store did not answer in time, queueing included"))
            else:
                rest.append(until)
        if rest:
            self._set_timer(min(rest))

    async def close(self) -> None:
        """Let the calls in flight end."""
        while self._flying:
            if self._landed is None or self._landed.done():
                self._landed = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._landed)  # Shielded: whoever else closes waits for the same one.
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _take_off(self) -> None:
        self._flying += 1
        riders: list[_Ride[Asked, Told]] = []
        try:
            flight = asyncio.get_running_loop().create_task(self._fly(riders))
        except BaseException:  # No stack is left, or an eager task was interrupted in its first step.
            self._flying -= 1
            _fail(riders, BackendTimeout(INTERRUPTED))
            raise
        self._flights[flight] = riders
        flight.add_done_callback(self._ended)

    def _ended(self, flight: asyncio.Task[None]) -> None:
        """Let go of a flight, also of one that was cancelled before it began, or interrupted anywhere."""
        _fail(self._flights.pop(flight), BackendTimeout(INTERRUPTED))
        self._land()

    def _land(self) -> None:
        self._flying -= 1
        # They came beside a lone caller, or after a flight last looked, or it was cancelled. Of a loop that was closed,
        # another may be running when this is collected: what waits there is sent by nobody.
        if self._waiting and not self._waiting[0][1].get_loop().is_closed():
            self._take_off()
        if self._landed is not None and not self._landed.done():
            self._landed.set_result(None)

    async def _fly(self, riders: list[_Ride[Asked, Told]]) -> None:
        while self._waiting:
            self._board(riders)
            if riders:
                await self._carry(riders)
                riders.clear()
                await asyncio.sleep(0)  # Whoever was told goes on first, and is taken along if it asks again.

    async def _carry(self, riders: Sequence[_Ride[Asked, Told]]) -> None:
        try:
            told = await self._send([each for asked, _, _ in riders for each in asked], monotonic() + self._deadline)
        except BaseException as failure:
            _fail(riders, failure if isinstance(failure, Exception) else BackendTimeout(INTERRUPTED))
            if not isinstance(failure, Exception):
                raise
            return
        at = 0
        for asked, future, _ in riders:
            end = at + len(asked)
            if not future.done():
                future.set_result(told[at:end])
            at = end

    def _board(self, riders: list[_Ride[Asked, Told]]) -> None:
        """Take half of all who are here: while the store answers one half, the other half goes on or waits its turn.

        Where one flight took all, store and callers would wait for each other in turns.
        """
        waiting = self._waiting
        here = len(waiting) + sum(map(len, self._flights.values()))
        most = max((here + 1) // 2, FEW)
        room = BATCH
        while waiting and len(riders) < most:
            asked, future, _ = ride = waiting[0]
            if riders and len(asked) > room:
                break
            waiting.popleft()
            if not future.done():  # Cancelled or expired before it was sent: it is never counted.
                riders.append(ride)
                room -= len(asked)


def _fail(riders: Sequence[_Ride[Any, Any]], error: Exception) -> None:
    """Tell those who were not told anything yet."""
    for _, future, _ in riders:
        if not future.done():
            future.set_exception(error)
