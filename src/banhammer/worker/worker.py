"""The worker: runs the actions of escalations, tries again what failed, and sets aside what fails for good."""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic, time
from typing import Any, Final, Literal
from weakref import WeakSet

from banhammer.actions import Action
from banhammer.errors import ConfigError, GiveUp, one_line
from banhammer.forks import renew_after_fork
from banhammer.model import LOCAL_ACTIONS, Escalation
from banhammer.outbox import DeadLetter, Delivery, Outbox
from banhammer.worker.agenda import Job
from banhammer.worker.courier import Courier
from banhammer.worker.crew import Crew
from banhammer.worker.running import run
from banhammer.worker.saying import described, say
from banhammer.worker.terms import Terms, terms_of

log = logging.getLogger("banhammer")

QUEUE_SIZE: Final = 10_000
"""Actions of this process that may wait; beyond that their escalations are dropped, counted and logged."""
LEAST_LOST: Final = 3
"""Workers that an escalation may have been lost with, however few attempts its action has."""
DEAD_LETTERS: Final = 1_000
"""Dead letters of this process that are kept, for whoever asks."""

AT_EXIT: Final = 2.0
"""Seconds that all workers together may take to end what is under way when the interpreter ends."""
_alive: WeakSet[Worker] = WeakSet()


class Worker:
    """Runs actions off the path of requests, in order, so that nothing waits long for an action that is slow.

    `actions` by name; `observers`: what watches every escalation; `outbox`: opens the view of a durable store's
    escalations. `failures` counts runs that failed, `dropped` escalations that found no room, `shadowed` actions of
    policies in shadow, which are logged instead of run; `dead` holds what failed for good and no store keeps. `told` is
    called at each end of a run, with the escalation, the action's name, `ran`, `failed` or `dead`, and the error.
    """

    def __init__(
        self,
        actions: Mapping[str, Action],
        *,
        observers: Mapping[str, Callable[[Escalation], Any]] | None = None,
        outbox: Callable[[], Outbox] | None = None,
        told: Callable[[Escalation, str, str, str], object] | None = None,
    ) -> None:
        watching = {f"plugin {name}": _Watching(observer) for name, observer in (observers or {}).items()}
        self._observers = tuple(watching)
        self._actions: dict[str, Action] = {**actions, **watching}
        own = {name: _terms(name, action) for name, action in actions.items()}
        self._deliverable = {name: terms for name, terms in own.items() if name not in LOCAL_ACTIONS}
        self._terms = {**own, **dict.fromkeys(watching, Terms(attempts=1))}
        self._open_outbox = outbox
        self._told = told
        self._loop: asyncio.AbstractEventLoop | None = None
        self._courier: Courier | None = None
        self.failures = 0
        self.dropped = 0
        self.shadowed = 0
        self.dead: deque[DeadLetter] = deque(maxlen=DEAD_LETTERS)
        self.renew()
        renew_after_fork(self)
        _alive.add(self)

    def renew(self) -> None:
        """Begin anew, in a forked child: what a parent queued is the parent's, its threads and its loop do not run."""
        self._loop = None
        self._empty()

    def _empty(self) -> None:
        """Begin with nothing in hand."""
        self._count = threading.Lock()
        self._crew = Crew(self._perform, self._deadline, self._ended)
        self._courier = None
        self._waits = self._open_outbox is not None

    def submit(self, escalation: Escalation, names: tuple[str, ...], *, kept: bool = False) -> None:
        """Run the actions `names` on an escalation; never waits. `kept`: a durable store has written it down."""
        if escalation.shadow:
            self._shadow(escalation, names)
            names = ()
        here = tuple([name for name in names if name in LOCAL_ACTIONS]) if kept else names
        if here or self._observers:
            self._queue(Delivery(escalation, here + self._observers))
        if kept and len(here) < len(names):
            self.look()

    def look(self) -> None:
        """Look at once for what a durable store keeps."""
        if self._open_outbox is None:
            return
        self._waits = False
        courier = self._courier
        while courier is None:
            crew = self._crew
            with crew.lock:
                if crew is self._crew:  # Else it was stopped just now, and would run nothing that is brought to it.
                    wake = partial(_wake, crew)
                    courier = self._courier or Courier(self._open_outbox(), self._deliverable, crew.add, wake)
                    self._courier = courier
        courier.look()

    def begin(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Begin to run what a durable store keeps, if that is this worker's; coroutines on `loop`, if one is given."""
        if loop is not None:
            self._loop = loop
        if self._waits:
            self.look()

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until all that came has been run, at most `timeout` seconds; return whether it has.

        What failed and waits to be tried again is not waited for. An action that asks is answered at once: it cannot
        wait for itself.
        """
        crew, courier = self._crew, self._courier
        if crew.has(threading.current_thread()):
            return False
        if courier is not None:
            courier.look()
        with crew.lock:
            return crew.changed.wait_for(lambda: crew.agenda.quiet and (courier is None or courier.rests), timeout)

    @property
    def busy(self) -> bool:
        """Whether anything has not ended yet, or a durable store is asked."""
        return self._courier is not None or self._crew.agenda.size > 0

    @property
    def retrying(self) -> bool:
        """Whether anything failed and waits to be tried again."""
        return self._crew.agenda.size > 0

    def close(self, timeout: float) -> bool:
        """Drain within `timeout` seconds, hand back to the store what is left, and let the threads end.

        Returns whether nothing was under way any more.
        """
        ends = monotonic() + timeout
        drained = self.drain(timeout)
        crew, courier = self._crew, self._courier
        with crew.lock:  # What does not end in time goes on meanwhile.
            lost = sum(job.delivery.place is None for job in crew.agenda.waiting())
        if lost:
            log.warning("closed with actions still waiting: %d", lost)
        self.stop()
        if courier is not None:
            courier.close(max(ends - monotonic(), 1.0))
        return drained

    def leave(self, timeout: float) -> bool:
        """Begin nothing more, give what runs `timeout` seconds to end, and hand back to the store what is left.

        Returns whether nothing was under way any more.
        """
        ends = monotonic() + timeout
        crew, courier = self._crew, self._courier
        if courier is not None:
            courier.rest()
        crew.rest()
        with crew.lock:
            ended = crew.changed.wait_for(lambda: not crew.agenda.running, timeout)
        self.stop()
        if courier is not None:
            courier.close(max(ends - monotonic(), 1.0))
        return ended

    def stop(self) -> None:
        """Let the threads end after what they are doing, without waiting; an escalation after it begins anew."""
        crew = self._crew
        with crew.lock:
            courier = self._courier
            self._empty()
            self._waits = False
            crew.stop()
        if courier is not None:
            courier.stop()

    def _shadow(self, escalation: Escalation, names: tuple[str, ...]) -> None:
        for name in names:
            self.shadowed += 1
            log.info("shadow: would run %s for key %s of policy %r", name, _shown(escalation.key), escalation.policy)

    def _queue(self, delivery: Delivery) -> None:
        if self._crew.agenda.size >= QUEUE_SIZE:
            self.dropped += 1
            log.warning("escalation %s dropped: %d actions are waiting", delivery.escalation.id, QUEUE_SIZE)
            return
        while not self._crew.add([Job(delivery, name) for name in delivery.names]):
            pass  # It was stopped just now, and another has taken its place.

    def _deadline(self, job: Job) -> float:
        return self._terms[job.name].deadline / 1e6

    def _perform(self, job: Job) -> None:
        courier = self._courier
        if job.delivery.place is not None and (courier is None or not courier.begins(job)):
            raise _Lost
        if job.attempts >= max(self._terms[job.name].attempts, LEAST_LOST):
            raise GiveUp(f"{job.attempts} tries, also of workers that began it and were heard of no more")
        run(self._actions[job.name], job.delivery.escalation, lambda: self._loop, self._deadline(job))

    def _ended(self, job: Job, error: BaseException | None) -> float | None:
        """Return after how many seconds a job is tried again, or `None`."""
        if error is None or isinstance(error, _Lost):
            self._tell(job, "ran" if error is None else "lost")
            return None
        terms, escalation = self._terms[job.name], job.delivery.escalation
        with self._count:
            self.failures += 1
        job.attempts += 1
        what = described(error)
        if isinstance(error, GiveUp) or job.attempts >= terms.attempts:
            say(
                logging.ERROR,
                "action %s failed for key %s of policy %r, for good at attempt %d: %s",
                job.name, _shown(escalation.key), escalation.policy, job.attempts, what,
            )  # fmt: skip
            if job.delivery.place is None:
                letter = DeadLetter(f"{escalation.id}/{job.name}", escalation, job.name, job.attempts, what, time())
                self.dead.append(letter)
            self._tell(job, "dead", what)
            return None
        wait = terms.wait(job.attempts, error)
        say(
            logging.ERROR,
            "action %s failed for key %s of policy %r, again in %.1f s: %s",
            job.name, _shown(escalation.key), escalation.policy, wait, what,
        )  # fmt: skip
        self._tell(job, "failed", what)
        return wait

    def _tell(self, job: Job, kind: Literal["ran", "failed", "dead", "lost"], error: str = "") -> None:
        if job.delivery.place is not None and self._courier is not None:
            self._courier.ended(job, kind, error)
        if self._told is not None and kind != "lost":
            try:
                self._told(job.delivery.escalation, job.name, kind, error)
            except Exception as failure:
                say(logging.WARNING, "what became of action %s could not be told: %s", job.name, described(failure))


@atexit.register
def _end_all() -> None:
    """Drain what an application that ends has not closed."""
    ends = monotonic() + AT_EXIT
    for worker in list(_alive):
        if worker.busy:
            worker.close(max(ends - monotonic(), 0.0))


class _Watching:
    """What watches every escalation, lifted bans too."""

    def __init__(self, observer: Callable[[Escalation], Any]) -> None:
        self.run = self.lift = observer


class _Lost(Exception):  # noqa: N818  # A signal between two functions here, never seen outside.
    """The worker was closed, or asleep so long that another one may have the job."""


def _terms(name: str, action: Action) -> Terms:
    try:
        return terms_of(action)
    except ConfigError as error:
        raise ConfigError(f"actions.{name}.{mistake}" for mistake in error.mistakes) from None


def _wake(crew: Crew) -> None:
    with crew.lock:
        crew.changed.notify_all()


def _shown(key: str) -> str:
    """Return a key as a line of the log shows it."""
    return one_line(repr(key))
