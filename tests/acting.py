"""Actions for tests, on terms short enough to wait for, and escalations to run them on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, Literal

from banhammer import Escalation
from banhammer.worker import Worker

PATIENCE = 10.0
"""Seconds that a busy machine may take for what takes milliseconds."""


class Act:
    """An action that notes each call, does what the next of `script` says, and in the end what `then` does.

    A step of the script is an error to raise, or something to call with the escalation.
    """

    def __init__(
        self,
        script: Iterable[BaseException | Callable[[Escalation], Any] | None] = (),
        then: BaseException | Callable[[Escalation], Any] | None = None,
        *,
        deadline: Any = "10s",
        attempts: int = 10,
        backoff: Any = "1ms",
    ) -> None:
        self.deadline, self.attempts, self.backoff = deadline, attempts, backoff
        self.calls: list[Escalation] = []
        self.ran: list[Escalation] = []
        self._script = list(script)
        self._then = then
        self._lock = threading.Lock()

    def run(self, escalation: Escalation) -> Any:
        with self._lock:
            self.calls.append(escalation)
            step = self._script.pop(0) if self._script else self._then
        if isinstance(step, BaseException):
            raise step.with_traceback(None)  # Else it would grow with each raise.
        result = step(escalation) if step is not None else None
        self.ran.append(escalation)
        return result

    lift = run


def escalation(
    key: str = "k", *, id: str = "e", verdict: Literal["banned", "lifted"] = "banned", shadow: bool = False
) -> Escalation:
    return Escalation(
        id=id, key=key, policy="p", threshold=0, verdict=verdict, strikes=1, at=0.0, until=None,
        limit=1, period=1.0, cost=1, reason="", shadow=shadow, origin="hit",
    )  # fmt: skip


def settled(worker: Worker, seconds: float = PATIENCE) -> bool:
    """Wait until nothing is under way, nor waits to be tried again; return whether that came about."""
    crew = worker._crew
    with crew.lock:
        return crew.changed.wait_for(lambda: crew.agenda.size == 0, seconds)
