"""Which job is next: a pure schedule, no threads and no clock; `now` is the seconds of any steady clock.

Jobs begin in the order in which they came. One runs at a time as long as it is quick; when it is not, others begin
beside it, so that a slow action holds nobody up. Jobs of one key and one action never overlap and never overtake each
other: a ban is not undone before it was made.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
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
        self._ready: deque[Job] = deque()
        self._later: list[tuple[float, int, Job]] = []
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
                self._ready.append(job)

    def next(self, now: float) -> Job | None:
        """Return the job that begins now, or `None`."""
        self._ripen(now)
        if not self._ready or len(self.running) >= self._slots or now < self._free_at():
            return None
        job = self._ready.popleft()
        job.began = now
        self.running.add(job)
        return job

    def over(self, job: Job) -> None:
        """Take note that a job will not run any more."""
        self.running.discard(job)
        lane = self._lanes[job.lane]
        lane.popleft()
        self.size -= 1
        if lane:
            self._ready.append(lane[0])
        else:
            del self._lanes[job.lane]

    def again(self, job: Job, due: float) -> None:
        """Take note that a job is to run again, not before `due`."""
        self.running.discard(job)
        heapq.heappush(self._later, (due, next(self._serial), job))

    def starved(self, now: float) -> bool:
        """Return whether a job would begin now if there were somebody to run it."""
        self._ripen(now)
        return bool(self._ready) and len(self.running) < self._slots and now >= self._free_at()

    def changes_at(self) -> float | None:
        """Return when a job may begin without anything having happened, or `None`."""
        times = [self._later[0][0]] if self._later else []
        if self._ready and len(self.running) < self._slots:
            times.append(self._free_at())
        return min(times, default=None)

    def waiting(self) -> list[Job]:
        """Return the jobs that do not run."""
        return [job for lane in self._lanes.values() for job in lane if job not in self.running]

    def _ripen(self, now: float) -> None:
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[2])

    def _free_at(self) -> float:
        """Return until when the newest job has the time to itself."""
        return max((job.began for job in self.running), default=-PATIENCE) + PATIENCE
