"""What must begin anew in the child of a fork: locks that a vanished thread held, queues that are the parent's."""

from __future__ import annotations

import os
from typing import Protocol
from weakref import WeakSet


class Renewable(Protocol):
    """Whatever a forked child must begin anew."""

    def renew(self) -> None:
        """Begin anew, in the child."""
        ...


_alive: WeakSet[Renewable] = WeakSet()


def renew_after_fork(subject: Renewable) -> None:
    """Have `subject.renew()` called in every forked child for as long as `subject` lives."""
    _alive.add(subject)


def _renew_all() -> None:
    for subject in list(_alive):
        subject.renew()


os.register_at_fork(after_in_child=_renew_all)
