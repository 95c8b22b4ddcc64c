"""The threads in which jobs run, and the one that watches how long they take; all end when there is nothing to do."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from math import inf
from time import monotonic
from typing import Final

from banhammer.worker.agenda import Agenda, Job

SLOTS: Final = 8
"""Jobs that may run at once."""
RETRY: Final = 0.1
"""Seconds until a thread that could not be had is asked for again."""
GRACE: Final = 0.5
"""Seconds more than its deadline that a job has: a coroutine is told by its own loop that its time is up."""
IDLE: Final = 5.0
"""Seconds after which a thread that has nothing to do ends."""
MOST_HANGING: Final = 4
"""Runs of one action that may have outlived their deadline; while there are so many, it is not begun once more."""


class Crew:
    """Runs jobs: `perform(job)` in a thread of the crew, then `ended(job, error)`.

    `ended` returns after how many seconds to try again, or `None`: over. It must not raise, and may be slow: hits wait
    for the lock, and it is called without. `deadline(job)` is in seconds; a thread cannot be stopped, so a job that
    takes longer has failed, and its thread is left to itself.
    """

    def __init__(
        self,
        perform: Callable[[Job], object],
        deadline: Callable[[Job], float],
        ended: Callable[[Job, BaseException | None], float | None],
    ) -> None:
        self._perform = perform
        self._deadline = deadline
        self._ended = ended
        self.lock = threading.RLock()  # Re-entrant: a finalizer that hits must not lock itself out.
        self.changed = threading.Condition(self.lock)
        self._work = threading.Condition(self.lock)
        self._watch = threading.Condition(self.lock)
        self.agenda = Agenda(SLOTS)
        self._left_alone: set[threading.Thread] = set()
        self._hanging: Counter[str] = Counter()
        self._members: set[threading.Thread] = set()
        self._idle = 0
        self._watching = False
        self._looks_at = 0.0
        self._added_at = 0.0
        self._resting = False
        self._over = False

    def add(self, jobs: Iterable[Job]) -> bool:
        """Run jobs, behind all that are there; return whether it does: not once it was stopped."""
        with self.lock:
            if self._over:
                return False
            self.agenda.add(jobs)
            self._added_at = monotonic()
            begins = not self._watching
            if begins:
                self._watching = self._start(self._keep_watch, "banhammer")
            if self._idle:
                self._work.notify()
            elif begins:  # Not left to the one that watches: an interpreter that ends starts no threads.
                self._start(self._serve, "banhammer-action")
            else:
                self._watch.notify()
            return True

    def has(self, thread: threading.Thread) -> bool:
        """Return whether a thread is one of the crew's."""
        return thread in self._members

    def rest(self) -> None:
        """Begin nothing more; what runs goes on, and is watched as before."""
        with self.lock:
            self._resting = True
            self._work.notify_all()

    def stop(self) -> None:
        """Let the threads end after what they are doing; what has not begun never will."""
        with self.lock:
            self._over = True
            for condition in (self._work, self._watch, self.changed):
                condition.notify_all()

    def _start(self, target: Callable[[], None], name: str) -> bool:
        """Start a thread; return whether one could be had: a hit does not fail for want of one."""
        thread = threading.Thread(target=target, name=name, daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        self._members.add(thread)
        return True

    def _keep_watch(self) -> None:
        """See to it that there is a thread for each job that may begin, and that none takes longer than it may."""
        while True:
            for job in self._hang():
                self._finish(job, TimeoutError(f"it did not end within {self._deadline(job):g} s"))
            with self.lock:
                now = monotonic()
                wanting = False
                if not self._resting and self.agenda.starved(now):
                    if self._idle:  # It sleeps since before there was this job, and would for up to `IDLE`.
                        self._work.notify()
                    elif len(self._members) - 1 < SLOTS:
                        wanting = not self._start(self._serve, "banhammer-action")
                if self._over or (not self.agenda.size and now - self._added_at > IDLE):
                    self._watching = False
                    self._members.discard(threading.current_thread())
                    return
                next_at = now + RETRY if wanting else self._next_at()
                self._looks_at = min([now + IDLE, next_at, *map(self._late_at, self.agenda.running)])
                self._watch.wait(max(self._looks_at - now, 0.001))

    def _hang(self) -> list[Job]:
        """Return the jobs whose time is up; their threads are left alone from now on."""
        now = monotonic()
        found = []
        with self.lock:
            for job in self.agenda.running:
                if job.thread is not None and now > self._late_at(job):
                    self._left_alone.add(job.thread)
                    self._hanging[job.name] += 1
                    self._members.discard(job.thread)
                    job.thread = None
                    found.append(job)
        return found

    def _late_at(self, job: Job) -> float:
        """Return when a job has taken longer than it may, `inf` for one that was given up already."""
        return inf if job.thread is None else job.began + self._deadline(job) + GRACE

    def _next_at(self) -> float:
        """Return when a job may begin without anything having happened, `inf` for never."""
        at = None if self._resting else self.agenda.changes_at()
        return inf if at is None else at

    def _serve(self) -> None:
        """Run one job after the other."""
        me = threading.current_thread()
        while (job := self._next(me)) is not None:
            error: BaseException | None = None
            try:
                if self._hanging[job.name] >= MOST_HANGING:
                    raise TimeoutError(f"{MOST_HANGING} earlier runs of it have not ended yet")  # noqa: TRY301
                self._perform(job)
            except BaseException as failure:  # Also SystemExit: an action that exits ends itself, not the crew.
                error = failure
            with self.lock:
                if me in self._left_alone:  # Its job has been given to another thread, and may be over.
                    self._left_alone.discard(me)
                    self._hanging[job.name] -= 1
                    return
                job.thread = None  # It ended in time.
            self._finish(job, error)

    def _next(self, me: threading.Thread) -> Job | None:
        """Wait for the next job and return it, or `None`: this thread is not needed."""
        with self.lock:
            idle_since = monotonic()
            while not (self._over or self._resting):
                now = monotonic()
                job = self.agenda.next(now)
                if job is not None:
                    job.thread = me
                    if min(self._late_at(job), self._next_at()) < self._looks_at:
                        self._watch.notify()
                    return job
                if now - idle_since > IDLE:
                    break
                self._idle += 1
                self._work.wait(max(min(self._next_at() - now, IDLE), 0.001))
                self._idle -= 1
            self._watch.notify()  # It sees to what this thread was woken for.
            self._members.discard(me)
            return None

    def _finish(self, job: Job, error: BaseException | None) -> None:
        wait = self._ended(job, error)
        with self.lock:
            if wait is None:
                self.agenda.over(job)
            else:
                self.agenda.again(job, monotonic() + wait)
            self._work.notify()
            self.changed.notify_all()
