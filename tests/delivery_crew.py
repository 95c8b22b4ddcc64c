"""Producers and workers that are killed: real processes on one store, which write down all that they do."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any, Final

from banhammer import BanHammer, Escalation
from banhammer.backends.redis import RedisBackend
from banhammer.worker import Worker
from delivery import SLOW, trap

PRODUCERS: Final = 2
WORKERS: Final = 3


class Writes:
    """An action that writes `TIME ID KEY` into a file, in one step, so that a kill leaves a whole line or none."""

    def __init__(self, path: Path, deadline: str | None, least: float, longest: float) -> None:
        if deadline is not None:
            self.deadline = deadline
        self._path = path
        self._pause = (least, longest)

    def __call__(self, escalation: Escalation) -> None:
        sleep(random.uniform(*self._pause))
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, f"{time():.3f} {escalation.id} {escalation.key}\n".encode())
        finally:
            os.close(file)


@dataclass
class Crew:
    """The processes on a store; each producer bans `rate` a second.

    `deadline` of the action, `None`: the default; it takes `least` to `longest` seconds.
    """

    url: str
    log: Path
    deadline: str | None = "100ms"
    least: float = 0.0
    longest: float = 0.004
    rate: float = 20.0
    kills: int = 0
    _living: dict[str, int] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Fork the process of a name, unless it lives."""
        if name not in self._living:
            self._living[name] = _forked(self._produce if name.startswith("producer") else self._work)

    def kill(self, name: str) -> None:
        """Kill the process of a name, at whatever it is."""
        if (pid := self._living.pop(name, None)) is not None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self.kills += 1

    def end(self) -> None:
        """Kill all that live."""
        for name in list(self._living):
            self.kill(name)

    def ran(self) -> list[tuple[float, str, str]]:
        """Return when each action ran, with the escalation's id and its key."""
        if not self.log.exists():
            return []
        rows = [line.split() for line in self.log.read_text("utf-8").splitlines()]
        return [(float(at), id, key) for at, id, key in rows]

    def in_force(self) -> dict[str, str]:
        """Return what the store knows: the escalation's id of every ban, by key."""
        with self.hammer() as hammer:
            return {ban.key: ban.id for ban in hammer.bans()}

    def hammer(self) -> BanHammer:
        """Return a hammer that leaves its actions to workers."""
        return BanHammer(
            [trap("note")], backend=self.url, deadline=SLOW, actions={"note": self.action()}, worker="external"
        )

    def waiting(self) -> int:
        """Return how many escalations are not off yet."""
        backend = RedisBackend(self.url)
        with suppress(Exception):
            return backend.dead_letters().backlog().waiting
        return -1

    def action(self) -> Any:
        return Writes(self.log, self.deadline, self.least, self.longest)

    def _produce(self, alive: Callable[[], bool]) -> None:
        """Ban a new key now and again; the actions are for whoever takes them first, this process among them."""
        with BanHammer([trap("note")], backend=self.url, deadline=SLOW, actions={"note": self.action()}) as hammer:
            origin, number = os.urandom(6).hex(), 0
            while alive():
                hammer.hit(f"{origin}-{number}", "trap")
                number += 1
                sleep(random.uniform(0, 2 / self.rate))

    def _work(self, alive: Callable[[], bool]) -> None:
        worker = Worker({"note": self.action()}, outbox=RedisBackend(self.url).outbox)
        worker.look()
        while alive():
            sleep(0.05)


def _forked(work: Callable[[Callable[[], bool]], None]) -> int:
    parent = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        random.seed(os.urandom(8))
        work(lambda: os.getppid() == parent)
    finally:
        os._exit(0)  # What its parent is in the middle of is not the child's.


def names() -> list[str]:
    return [f"producer {n}" for n in range(PRODUCERS)] + [f"worker {n}" for n in range(WORKERS)]


def ended(condition: Callable[[], bool], seconds: float) -> float:
    """Return how long a condition took to hold. Raises `TimeoutError` after `seconds`."""
    began = monotonic()
    while not condition():
        if monotonic() - began > seconds:
            raise TimeoutError(f"not within {seconds:g} s")
        sleep(0.05)
    return monotonic() - began
