"""The courier: a thread that fetches escalations from a durable store, and writes back what became of them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Final, Literal

from banhammer.errors import BackendError
from banhammer.outbox import Delivery, Note, Outbox
from banhammer.worker.agenda import Job
from banhammer.worker.terms import Terms

log = logging.getLogger("banhammer")

HOLD: Final = 32
"""Escalations in hand at once; they are kept, so that waiting for their turn makes nobody else claim them."""
EVERY: Final = 0.1
"""Seconds between two looks into the store; with nothing there it becomes `SELDOM`."""
SELDOM: Final = 0.5
GAP: Final = 0.005
"""Seconds between two looks when there is always more."""
CLAIM_EVERY: Final = 3.0
"""Seconds between two looks for what other workers left behind."""


class Courier:
    """Carries escalations between an outbox and the crew: `begin(jobs)` runs them, `changed()` tells that it may rest.

    `known`: the actions of this worker, and their terms. What a dead worker left is claimed after twice the longest
    deadline of an action, and a second.
    """

    def __init__(
        self,
        outbox: Outbox,
        known: Mapping[str, Terms],
        begin: Callable[[Iterable[Job]], object],
        changed: Callable[[], object],
    ) -> None:
        self._outbox = outbox
        self._known = frozenset(known)
        self._begin = begin
        self._changed = changed
        longest = max((terms.deadline for terms in known.values()), default=Terms().deadline)
        self._idle = 2 * longest / 1e6 + 1
        self._condition = threading.Condition(threading.RLock())
        self._open: dict[Delivery, set[str]] = {}  # What is in hand, and which of its actions have not ended.
        self._behind: list[Job] = []  # What must wait for earlier escalations of the same key.
        self._notes: list[Note] = []
        self._busy = False
        self._wanted = True
        self._over = False
        self._away = False
        self._pause = EVERY
        self._claim_at = self._keep_at = 0.0
        self._kept_at = 0.0
        self._thread = threading.Thread(target=self._run, name="banhammer-courier", daemon=True)
        self._thread.start()

    def look(self) -> None:
        """Look into the store at once."""
        with self._condition:
            self._wanted = True
            self._condition.notify_all()

    @property
    def rests(self) -> bool:
        """Whether the store had nothing more at the last look, and all that ended is written down."""
        with self._condition:
            return not (self._wanted or self._notes or self._busy or self._behind)

    def holds(self, delivery: Delivery) -> bool:
        """Return whether a delivery is surely still this worker's: after a long sleep another may have claimed it."""
        return monotonic() - self._kept_at < self._idle * 0.9 and delivery in self._open

    def ended(self, job: Job, kind: Literal["ran", "failed", "dead", "lost"], error: str = "") -> None:
        """Take note that a job `ran`, `failed` and is tried again, is `dead`, or was `lost` to another worker."""
        delivery = job.delivery
        with self._condition:
            left = self._open.get(delivery)
            if left is None:
                return
            if kind in ("failed", "dead"):
                self._notes.append(Note(kind, delivery, job.name, job.attempts, error))
            if kind != "failed":
                left.discard(job.name)
                self._end(delivery, job, left, lost=kind == "lost")
            self._condition.notify_all()

    def _end(self, delivery: Delivery, job: Job, left: set[str], *, lost: bool) -> None:
        """Note that one of a delivery's actions has ended, and with the last of them the delivery."""
        strange = not self._known.issuperset(delivery.names)
        if not left:
            del self._open[delivery]
        if lost:
            return
        if left or strange:
            self._notes.append(Note("ran", delivery, job.name))
        if not left:
            self._notes.append(Note("left" if strange else "done", delivery))

    def close(self, timeout: float) -> None:
        """Write down what ended, hand back what did not, and end, within `timeout` seconds."""
        self.stop()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def stop(self) -> None:
        """Do as `close`, without waiting."""
        with self._condition:
            self._over = True
            self._condition.notify_all()

    def _run(self) -> None:
        while True:
            began = monotonic()
            self._round(began)
            with self._condition:
                if self._over:
                    break
                pause = self._pause
                if (self._wanted or self._notes) and not self._away:
                    pause = max(began + GAP - monotonic(), 0)
                if pause:
                    self._condition.wait(pause)
        self._hand_back()

    def _round(self, now: float) -> None:
        with self._condition:
            wanted, self._wanted, self._busy = self._wanted, False, True
        again = False
        try:
            self._write()
            again = self._fetch(now)  # Where there was something, there may be more.
        except BackendError as error:
            again = wanted
            self._tell(error)
            self._pause = SELDOM
        else:
            self._tell(None)
            self._pause = EVERY if again or wanted or self._behind else min(self._pause * 2, SELDOM)
        with self._condition:
            self._wanted = self._wanted or again
            self._busy = False
        self._changed()

    def _fetch(self, now: float) -> bool:
        """Take what is new, claim what was left behind, keep what is in hand; return whether anything came."""
        came = 0
        if len(self._open) < HOLD:
            came += self._open_all(self._outbox.take(HOLD - len(self._open)))
        if now >= self._claim_at and len(self._open) < HOLD:
            self._claim_at = now + CLAIM_EVERY
            came += self._open_all(self._outbox.claim(HOLD - len(self._open), self._idle))
        if now >= self._keep_at and self._open:
            self._outbox.keep(list(self._open))
        if now >= self._keep_at or not self._open:
            self._keep_at = now + self._idle / 4
            self._kept_at = now
        self._start()
        return came > 0

    def _open_all(self, deliveries: Sequence[Delivery]) -> int:
        """Take deliveries in hand and return how many; one of which this worker knows no action is left to others."""
        for delivery in deliveries:
            names = [name for name in delivery.names if name in self._known]
            with self._condition:
                if names:
                    self._open[delivery] = set(names)
                else:
                    self._notes.append(Note("left", delivery))
            self._behind += [Job(delivery, name) for name in names]
        return len(deliveries)

    def _start(self) -> None:
        """Begin what need not wait for earlier escalations of the same key."""
        jobs = self._behind
        if jobs:
            ready = self._outbox.ready([(job.delivery, job.name) for job in jobs])
            self._behind = [job for job, may in zip(jobs, ready, strict=True) if not may]
            self._begin([job for job, may in zip(jobs, ready, strict=True) if may])

    def _write(self) -> None:
        with self._condition:
            notes, self._notes = self._notes, []
        if notes:
            unwritten = self._outbox.write(notes)
            with self._condition:
                self._notes = unwritten + self._notes
            if unwritten:
                raise BackendError("what became of some escalations could not be written down yet")

    def _hand_back(self) -> None:
        with self._condition:
            self._notes += [Note("left", delivery) for delivery in self._open]
            self._open.clear()
        try:
            self._write()
            self._outbox.leave()
        except BackendError as error:
            log.warning("escalations in hand could not be handed back; another worker claims them: %s", error)
        self._changed()

    def _tell(self, error: BackendError | None) -> None:
        """Log once that the store is away, and once that it is back."""
        if (error is not None) == self._away:
            return
        self._away = error is not None
        if error is None:
            log.warning("escalations are delivered again")
        else:
            log.warning("escalations wait in the store, which cannot be asked: %s", error)
