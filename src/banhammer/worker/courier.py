"""The courier: a thread that fetches escalations from a durable store, and writes back what became of them."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterable, Mapping
from time import monotonic, sleep
from typing import Final, Literal

from banhammer.errors import BackendError
from banhammer.outbox import Delivery, Note, Outbox
from banhammer.worker.agenda import Job
from banhammer.worker.saying import described, say
from banhammer.worker.terms import Terms

HOLD: Final = 32
"""Escalations in hand at once; they are kept, so that waiting for their turn makes nobody else claim them."""
MOST: Final = 1_000
"""In hand at once with those of which all that is left has failed, and waits to be tried again."""
EVERY: Final = 0.1
"""Seconds between two looks into the store; with nothing there it becomes `SELDOM`."""
SELDOM: Final = 0.5
GAP: Final = 0.005
"""Seconds between two looks when there is always more."""
CALM: Final = 5.0
"""Seconds without an error after which escalations count as delivered again: one part may be away, and others not."""
CLAIM_EVERY: Final = 3.0
"""Seconds between two looks for what other workers left behind."""


class _Hand:
    """A delivery in hand: which actions have not ended, which of them wait to be tried again, and when it was last
    surely this worker's."""

    __slots__ = ("kept_at", "left", "waiting")

    def __init__(self, names: Iterable[str], kept_at: float) -> None:
        self.left = set(names)
        self.waiting: set[str] = set()
        self.kept_at = kept_at


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
        self._open: dict[Delivery, _Hand] = {}
        self._behind: list[Job] = []  # What has not begun, and may have to wait for earlier escalations of its key.
        self._notes: list[Note] = []
        self._busy = False
        self._wanted = True
        self._sated = False
        self._over = False
        self._away = False
        self._failed_at: float | None = None
        self._pause = EVERY
        self._claim_at = self._keep_at = 0.0
        self._thread: threading.Thread | None = None

    def look(self) -> None:
        """Look into the store at once; a hit does not fail because no thread can be had for it."""
        with self._condition:
            self._wanted = True
            if self._thread is None and not self._over:
                thread = threading.Thread(target=self._run, name="banhammer-courier", daemon=True)
                try:
                    thread.start()
                except RuntimeError:
                    return
                self._thread = thread
            self._condition.notify_all()

    @property
    def rests(self) -> bool:
        """Whether the store had nothing more at the last look, and all that ended is written down."""
        with self._condition:
            return not (self._wanted or self._notes or self._busy or self._behind)

    def begins(self, job: Job) -> bool:
        """Take note that a job begins; return whether it is surely still this worker's.

        After a long sleep another worker may have claimed it.
        """
        with self._condition:
            hand = self._open.get(job.delivery)
            if hand is None or monotonic() - hand.kept_at > self._idle * 0.9:
                return False
            hand.waiting.discard(job.name)
            return True

    def ended(self, job: Job, kind: Literal["ran", "failed", "dead", "lost"], error: str = "") -> None:
        """Take note that a job `ran`, `failed` and is tried again, is `dead`, or was `lost` to another worker."""
        delivery = job.delivery
        with self._condition:
            hand = self._open.get(delivery)
            if hand is None:
                return
            if kind in ("failed", "dead"):
                self._notes.append(Note(kind, delivery, job.name, job.attempts, error))
            if kind == "failed":
                hand.waiting.add(job.name)
            else:
                hand.left.discard(job.name)
                self._end(delivery, job, hand.left, lost=kind == "lost")
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

    def rest(self) -> None:
        """Take nothing more in hand; what is there is kept, and what becomes of it is written down."""
        with self._condition:
            self._sated = True

    def close(self, timeout: float) -> None:
        """Write down what ended, hand back what did not, and end, within `timeout` seconds."""
        self.stop()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def stop(self) -> None:
        """Do as `close`, without waiting."""
        with self._condition:
            self._over = True
            self._condition.notify_all()

    def _run(self) -> None:
        while not self._over:
            began = monotonic()
            self._round()
            with self._condition:
                self._condition.wait_for(self._is_called, self._pause)
            sleep(max(began + GAP - monotonic(), 0))
        self._hand_back()

    def _is_called(self) -> bool:
        """Return whether there is something to do before the pause is over."""
        return self._over or (bool(self._wanted or self._notes) and not self._away)

    def _round(self) -> None:
        """Write, keep, claim and take; what one of them cannot do keeps none of the others."""
        with self._condition:
            wanted, self._wanted, self._busy = self._wanted, False, True
        found, error = False, None
        for step in (self._write, self._keep, self._claim, self._take, self._start):
            try:
                found = step(monotonic()) or found  # Where there was something, there may be more.
            except BackendError as failure:
                error = failure
            except Exception as failure:
                say(logging.ERROR, "a mistake in the delivery of escalations", trace=True)
                error = BackendError(described(failure))
        self._tell(error)
        if found:
            self._pause = 0.0
        elif error is not None:
            self._pause = SELDOM
        else:
            self._pause = EVERY if wanted or self._behind else min(max(self._pause, EVERY / 2) * 2, SELDOM)
        with self._condition:
            self._wanted = self._wanted or found or (wanted and error is not None)
            self._busy = False
        self._changed()

    def _write(self, now: float = 0.0) -> bool:
        """Write down what ended."""
        with self._condition:
            notes, self._notes = self._notes, []
        if not notes:
            return False
        unwritten = self._outbox.write(notes)
        if unwritten:
            with self._condition:
                self._notes = unwritten + self._notes
            raise BackendError("what became of some escalations could not be written down yet")
        return False

    def _keep(self, now: float) -> bool:
        """Keep what is in hand, so that nobody claims it."""
        if now < self._keep_at:
            return False
        with self._condition:
            mine = list(self._open)
        kept = self._outbox.keep(mine) if mine else []
        with self._condition:
            for delivery in kept:
                if delivery in self._open:
                    self._open[delivery].kept_at = now
        self._keep_at = now + self._idle / 4
        return False

    def _claim(self, now: float) -> bool:
        """Claim what other workers left behind, before what is new: it is older."""
        room = self._room()
        if now < self._claim_at or room <= 0:
            return False
        self._claim_at = now + CLAIM_EVERY
        found = self._outbox.claim(room, self._idle)
        random.shuffle(found)  # If one of them kills its worker, others must have been before it some time.
        if found:
            self._claim_at = now
        return self._in_hand(found, now)

    def _take(self, now: float) -> bool:
        """Take what is new."""
        room = self._room()
        return room > 0 and self._in_hand(self._outbox.take(room), now)

    def _room(self) -> int:
        with self._condition:
            busy = sum(hand.left > hand.waiting for hand in self._open.values())
            return 0 if self._sated else min(HOLD - busy, MOST - len(self._open))

    def _in_hand(self, found: list[Delivery], now: float) -> bool:
        """Take in hand what was found; return whether anything was."""
        for delivery in found:
            names = [name for name in delivery.names if name in self._known]
            with self._condition:
                if names:
                    self._open[delivery] = _Hand(names, now)
                else:
                    self._notes.append(Note("left", delivery))
            self._behind += [Job(delivery, name) for name in names]
        return bool(found)

    def _start(self, _: float) -> bool:
        """Begin what need not wait for earlier escalations of the same key."""
        jobs = self._behind
        if not jobs:
            return False
        ready = self._outbox.ready([(job.delivery, job.name) for job in jobs])
        self._behind = [job for job, may in zip(jobs, ready, strict=True) if not may]
        with self._condition:
            for job, may in zip(jobs, ready, strict=True):
                if job.delivery in self._open:
                    waiting = self._open[job.delivery].waiting
                    (waiting.discard if may else waiting.add)(job.name)
        self._begin([job for job, may in zip(jobs, ready, strict=True) if may])
        return False

    def _hand_back(self) -> None:
        with self._condition:
            self._notes += [Note("left", delivery) for delivery in self._open]
            self._open.clear()
        try:
            self._write()
            self._outbox.leave()
        except BackendError as error:
            say(logging.WARNING, "escalations in hand could not be handed back; another worker claims them: %s", error)
        self._changed()

    def _tell(self, error: BackendError | None) -> None:
        """Log once that a part of the store is away, and once that all of it has been back for a while."""
        self._away = error is not None
        now = monotonic()
        if error is not None:
            if self._failed_at is None:
                say(logging.WARNING, "escalations wait: %s", error)
            self._failed_at = now
        elif self._failed_at is not None and now - self._failed_at > CALM:
            self._failed_at = None
            say(logging.WARNING, "escalations are delivered again")
