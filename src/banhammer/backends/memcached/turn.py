"""The hits of one key in one call: decided in order on what was read, and written with one swap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from banhammer import core
from banhammer.backends.details import by_hit
from banhammer.backends.memcached.server import Server
from banhammer.backends.memcached.value import Value, command, expires, pack_details, unpack_details
from banhammer.backends.memcached.wire import STORED, Found, shown
from banhammer.backends.shared import Charge, Outcome
from banhammer.core import Reply
from banhammer.errors import BackendError
from banhammer.model import Record

CONTENTION_WAIT: Final = 50_000
"""After how long a hit that lost every try may be tried again (us)."""

Read = Callable[[Found | None], Value]
"""Returns what was found as a record; what is none reads as absent."""


class Turn:
    """The charges of one key; `places` is where their outcomes go. With `stop`, what follows a denial is left out."""

    __slots__ = ("_injected", "_now", "_outcomes", "_read", "_stop", "charges", "error", "found", "name", "places",
                 "server")  # fmt: skip

    def __init__(self, name: bytes, server: Server, read: Read, *, injected: bool, stop: bool = False) -> None:
        self.name = name
        self.server = server
        self.found: Found | None = None
        self.error: BackendError | None = None
        self.charges: list[Charge] = []
        self.places: list[int] = []
        self._read = read
        self._injected = injected
        self._stop = stop
        self._now = 0
        self._outcomes: list[Outcome] = []

    def decide(self, now: int) -> bytes | None:
        """Decide the charges at `now`; return what writes the record, or `None` where it stays as it is."""
        found = self.found
        value = self._read(found)
        changed = False
        outcomes: list[Outcome] = []
        for charge in self.charges:
            hit, policy = charge.hit, charge.policy
            reply = core.evaluate(policy, value.record, hit.cost, now, guard=hit.guard, owed=charge.owed)
            outcomes.append(reply)
            if reply.counted and reply.record is not value.record and not charge.peek:
                details = value.details
                if reply.tripped:
                    details = pack_details(by_hit(policy, value.record, unpack_details(value, now), reply))
                value = Value(reply.record, details)
                changed = True
            if self._stop and _ends(charge, reply):
                break
        self._now, self._outcomes = now, outcomes
        if not changed or (found is None and not core.lapses_at(policy, value.record)):
            return None
        return command(self.name, found, value, expires(policy, value.record, now, injected=self._injected))

    def settle(self, answer: bytes) -> None:
        """Take the answer to the change; where the server could not keep it, a denial holds."""
        if answer != STORED:
            error = BackendError(f"the store refused: {shown(answer)}")
            self._outcomes = [_uncounted(outcome, error) for outcome in self._outcomes]

    def lose(self) -> None:
        """Deny what lost every try: nothing was stored, and it must not be admitted."""
        record = self._read(self.found).record
        self._outcomes = []
        for charge in self.charges:
            reply = self._denied(charge, record)
            self._outcomes.append(reply)
            if self._stop and _ends(charge, reply):
                break

    @property
    def ended(self) -> bool:
        """Whether nothing behind these charges is decided."""
        outcomes = self.outcomes()
        return _ends(self.charges[len(outcomes) - 1], outcomes[-1])

    def outcomes(self) -> Sequence[Outcome]:
        """Return what became of the charges that were decided; an error: whether they were counted is not known."""
        if self.error is None:
            return self._outcomes
        return [self.error] if self._stop else [self.error] * len(self.charges)

    def _denied(self, charge: Charge, stored: Record) -> Reply:
        record = core.load(charge.policy, stored, self._now)
        in_force = self._now < record.banned_until
        reply = Reply("banned" if in_force else "throttled", self._now, record, counted=False)
        reply.degraded = True
        reply.wait = 0 if in_force else CONTENTION_WAIT
        return reply


def _ends(charge: Charge, outcome: Outcome) -> bool:
    """Return whether the outcome ends a batch with `stop`."""
    return isinstance(outcome, BackendError) or (outcome.verdict != "allowed" and charge.policy.mode != "shadow")


def _uncounted(outcome: Outcome, error: BackendError) -> Outcome:
    """Return what is left of a decision that could not be stored."""
    if isinstance(outcome, BackendError) or outcome.verdict == "allowed":
        return error
    outcome.degraded, outcome.counted = True, False
    outcome.tripped = outcome.ids = ()
    return outcome
