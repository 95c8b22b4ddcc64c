"""Which job is next: a pure schedule, no threads and no clock; `now` is the seconds of any steady clock.

Jobs begin in the order in which they came. One runs at a time as long as it is quick; when it is not, others begin
beside it. The last quarter of the slots is for actions of which none runs, so that a slow action holds no other up.
Jobs of one key and one action never overlap and never overtake each other: a ban is not undone before it was made.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Iterable
from threading import Thread
from typing import Final

from banhammer.outbox import Delivery

PATIENCE: Final = 0.02
"""Seconds that a job has to itself before another begins beside it."""


class Job:
    """One action of one escalation.

    `attempts`: how often it was tried in vain; `began`: when it last began; `thread`: where it runs.
    """

    __slots__ = ("attempts", "began", "delivery", "name", "thread")

    def __init__(self, delivery: Delivery, name: str) -> None:
        self.delivery = delivery
        self.name = name
        self.attempts = delivery.attempts.get(name, 0)
        self.began = 0.0
        self.thread: Thread | None = None

    @property
    def lane(self) -> tuple[str, str, str]:
        """What no two jobs run at once for."""
        return (self.delivery.escalation.policy, self.delivery.escalation.key, self.name)


class Agenda:
    """The jobs that are ready, that run, and that wait to be tried again: `size` in all, at most `slots` at once."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._serial = itertools.count()
        self._lanes: dict[tuple[str, str, str], deque[Job]] = {}  # The first of each is ready, runs, or waits.
        self._ready: dict[str, deque[tuple[int, Job]]] = {}  # By action, in order.
        self._later: list[tuple[float, int, Job]] = []
        self._busy: Counter[str] = Counter()
        self.size = 0
        self.running: set[Job] = set()

    @property
    def quiet(self) -> bool:
        """Whether nothing is ready and nothing runs; what waits to be tried again does not count."""
        return not self.running and not self._ready

    def add(self, jobs: Iterable[Job]) -> None:
        """Put jobs behind all that are there."""
        for job in jobs:
            lane = self._lanes.setdefault(job.lane, deque())
            lane.append(job)
            self.size += 1
            if len(lane) == 1:
                self._queue(job)

    def next(self, now: float) -> Job | None:
        """Return the job that begins now, or `None`."""
        self._ripen(now)
        queue = self._first()
        if queue is None or now < self._free_at():
            return None
        _, job = queue.popleft()
        if not queue:
            del self._ready[job.name]
        job.began = now
        self.running.add(job)
        self._busy[job.name] += 1
        return job

    def over(self, job: Job) -> None:
        """Take note that a job will not run any more."""
        self._ended(job)
        lane = self._lanes[job.lane]
        lane.popleft()
        self.size -= 1
        if lane:
            self._queue(lane[0])
        else:
            del self._lanes[job.lane]

    def again(self, job: Job, due: float) -> None:
        """Take note that a job is to run again, not before `due`."""
        self._ended(job)
        heapq.heappush(self._later, (due, next(self._serial), job))

    def starved(self, now: float) -> bool:
        """Return whether a job would begin now if there were somebody to run it."""
        self._ripen(now)
        return self._first() is not None and now >= self._free_at()

    def changes_at(self) -> float | None:
        """Return when a job may begin without anything having happened, or `None`."""
        times = [self._later[0][0]] if self._later else []
        if self._first() is not None:
            times.append(self._free_at())
        return min(times, default=None)

    def waiting(self) -> list[Job]:
        """Return the jobs that do not run."""
        return [job for lane in self._lanes.values() for job in lane if job not in self.running]

    def _queue(self, job: Job) -> None:
        self._ready.setdefault(job.name, deque()).append((next(self._serial), job))

    def _ended(self, job: Job) -> None:
        self.running.discard(job)
        self._busy[job.name] -= 1

    def _ripen(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            self._queue(heapq.heappop(self._later)[2])

    def _first(self) -> deque[tuple[int, Job]] | None:
        """Return the queue of the job that came first, of those that may have a slot."""
        free = self._slots - len(self.running)
        if free <= 0:
            return None
        scarce = free <= self._slots // 4
        queues = [queue for name, queue in self._ready.items() if not (scarce and self._busy[name])]
        return min(queues, key=lambda queue: queue[0][0], default=None)

    def _free_at(self) -> float:
        """Return until when the newest job has the time to itself."""
        return max((job.began for job in self.running), default=-PATIENCE) + PATIENCE
