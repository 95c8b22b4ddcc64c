"""The streams in which Redis keeps escalations, one for each partition; each node is asked in one pipeline."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from redis.exceptions import RedisError

from banhammer.backends.redis.topology import Answers, Asks, Topology
from banhammer.backends.redis.wire import Names
from banhammer.errors import BackendError

Command = tuple[Any, ...]
Told = dict[int, "list[Any] | BackendError"]
"""The answers by partition, or why there are none."""
Asking = Generator[tuple[Asks, float], Answers, Told]


class Streams:
    """Asks partitions, without trying again: whoever asks comes back anyway. `hold` holds a talk with the servers."""

    def __init__(self, topology: Topology, names: Names, hold: Callable[[Asking], Told]) -> None:
        self._topology = topology
        self._hold = hold
        self.names = names
        self.count = len(names.tags)

    def ask(self, commands: Mapping[int, Sequence[Command]]) -> Told:
        """Send each partition its commands and return the answers; an error of the server is an answer."""
        return self._hold(self._talk(commands)) if commands else {}

    def ask_all(self, command: Callable[[int], Sequence[Command]]) -> Told:
        """Send every partition the commands that are made for it."""
        return self.ask({partition: command(partition) for partition in range(self.count)})

    def ask_one(self, partition: int, command: Command) -> Any:
        """Return a partition's answer to one command. Raises `BackendError`."""
        return sound(self.ask({partition: [command]})[partition])[0]

    def damaged(self) -> None:
        """Count an entry that does not parse."""
        self._topology.damaged += 1

    def _talk(self, commands: Mapping[int, Sequence[Command]]) -> Asking:
        topology = self._topology
        yield from topology.learn()
        asks: Asks = {}
        said = []
        for partition, each in commands.items():
            server = topology.server(partition)
            before = asks.setdefault(server, [])
            said.append((partition, server, len(before), len(each)))
            before += each
        answers = yield asks, 0.0
        told: Told = {}
        for partition, server, start, count in said:
            answer = answers[server]
            if isinstance(answer, BackendError):
                topology.doubt()
                told[partition] = BackendError(str(answer))  # One of this call's own: a breaker gives all the same.
                continue
            part = answer[start : start + count]
            moving = [each for each in part if isinstance(each, RedisError) and topology.detour(each, server)]
            told[partition] = BackendError(f"the store is moving or loading: {moving[0]}") if moving else part
        return told


def parted(told: Told) -> tuple[dict[int, list[Any]], list[BackendError]]:
    """Return the answers of the partitions that gave no error, and the errors of the others: one keeps none waiting."""
    answered: dict[int, list[Any]] = {}
    errors: list[BackendError] = []
    for partition, answers in told.items():
        try:
            answered[partition] = sound(answers)
        except BackendError as error:
            errors.append(error)
    return answered, errors


def sound(answers: list[Any] | BackendError) -> list[Any]:
    """Return answers without an error among them. Raises `BackendError`."""
    if isinstance(answers, BackendError):
        raise answers
    for answer in answers:
        if isinstance(answer, RedisError):
            raise BackendError(f"the store refused: {answer}")
    return answers
