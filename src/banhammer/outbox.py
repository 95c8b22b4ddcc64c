"""Where a durable store keeps escalations until their actions have run: what a worker takes and writes back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, runtime_checkable

from banhammer.model import Escalation

KEEPS_NOTHING: Final = "keeps no escalations, so no other process can run them; use Redis, or leave worker out"
"""What is said of a store without an outbox where `worker` is external."""


class Delivery:
    """One escalation on its way to its actions.

    `names`: the actions that have not run yet; `attempts`: how often each was tried in vain; `place`: where the store
    keeps it, `None` where no store does.
    """

    __slots__ = ("attempts", "escalation", "names", "place")

    def __init__(
        self,
        escalation: Escalation,
        names: Sequence[str],
        *,
        attempts: dict[str, int] | None = None,
        place: object = None,
    ) -> None:
        self.escalation = escalation
        self.names = tuple(names)
        self.attempts = attempts or {}
        self.place = place


@dataclass(frozen=True, slots=True)
class Note:
    """What a worker has to say of a delivery.

    `done`: all of it, the store may forget it; `ran`: the action `name`; `failed`: that action, `attempts` times by
    now; `dead`: that action will not be tried again, because of `error`; `left`: what remains is for another worker.
    """

    kind: Literal["done", "ran", "failed", "dead", "left"]
    delivery: Delivery
    name: str = ""
    attempts: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An action that failed for good: `id` names it to the store; `at` is when it was set aside (Unix seconds)."""

    id: str
    escalation: Escalation
    action: str
    attempts: int
    error: str
    at: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """How many escalations wait or are under way, how many dead letters there are, and how many escalations were
    dropped because too many waited."""

    waiting: int
    dead: int
    dropped: int


class Outbox(Protocol):
    """The escalations of a durable store. Each is handed to one worker at a time; errors are `BackendError`."""

    def take(self, room: int) -> list[Delivery]:
        """Return at most about `room` escalations that no worker has taken yet."""
        ...

    def claim(self, room: int, idle: float) -> list[Delivery]:
        """Return what another worker has not touched for `idle` seconds, without the actions that ran."""
        ...

    def ready(self, jobs: Sequence[tuple[Delivery, str]]) -> list[bool]:
        """Return for each whether it may run: not before the same action of that key's earlier escalations.

        So a ban is never undone before it was made, whichever workers do it.
        """
        ...

    def keep(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Say that these are still being worked on, so that nobody claims them; return those that surely are.

        What another worker has claimed meanwhile stays that one's.
        """
        ...

    def write(self, notes: Sequence[Note]) -> list[Note]:
        """Write notes down; return those that could not be written, to be tried again. Never raises `BackendError`."""
        ...

    def leave(self) -> None:
        """Take this worker off the store's list of workers: it holds nothing any more."""
        ...


class DeadLetters(Protocol):
    """What an operator may see and do of a durable store's escalations; errors are `BackendError`."""

    def backlog(self) -> Backlog:
        """Return how much there is."""
        ...

    def letters(self) -> Iterator[DeadLetter]:
        """Stream the dead letters, the oldest of each part first."""
        ...

    def retry(self, id: str) -> bool:
        """Deliver a dead letter anew; return whether there was one."""
        ...

    def drop(self, id: str) -> bool:
        """Forget a dead letter; return whether there was one."""
        ...


@runtime_checkable
class Durable(Protocol):
    """A store that keeps escalations: the step that bans also writes them down, both or neither."""

    def outbox(self) -> Outbox:
        """Return the view of a new worker."""
        ...

    def dead_letters(self) -> DeadLetters:
        """Return the view of an operator."""
        ...
