"""How operators ask Redis: again where an answer proves that nothing ran, until the deadline.

No I/O here: what is asked is a generator, as in `talk`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from time import monotonic
from typing import Any, NamedTuple

from redis.exceptions import AskError, NoScriptError, RedisError

from banhammer.backends.packing import sound_record
from banhammer.backends.redis.server import Server
from banhammer.backends.redis.topology import Answers, Asks, Topology
from banhammer.errors import BackendError, BackendTimeout
from banhammer.model import Record

Verb = Generator[tuple[Asks, float], Answers, Any]
Command = tuple[Any, ...]
Saying = Generator[tuple[Asks, float], Answers, list[Any]]


class When(NamedTuple):
    """The injected time (us, `None`: the server's), and the `time.monotonic` after which nothing is tried again."""

    now: int | None
    until: float


class NoScript(Exception):  # noqa: N818  # A signal to whoever asked, never seen outside.
    """The server does not know the script by its digest."""


class Asker:
    """Asks the servers of a topology."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology

    def ask(self, partition: int, commands: Sequence[Command], until: float, *, lenient: bool = False) -> Saying:
        """Ask the partition's server, wherever it is; with `lenient`, a wrong type is an answer like any other.

        What was refused is asked again, alone: while a slot moves, one key may be here and the next one there.
        """
        wrong = _is_refusal if lenient else _is_error
        told: list[Any] = [None] * len(commands)
        waiting = list(range(len(commands)))
        pause, aside = 0.0, None
        while True:
            yield from self._topology.learn()
            server = aside or self._topology.server(partition)
            prefix: list[Command] = [("ASKING",)] if aside else []
            answers = yield {server: [each for index in waiting for each in (*prefix, commands[index])]}, pause
            answer = answers[server]
            if isinstance(answer, BackendError):
                self._topology.doubt()
                raise _again(answer)
            for index, each in zip(waiting, answer[len(prefix) :: len(prefix) + 1], strict=True):
                told[index] = each
            waiting = [index for index in waiting if wrong(told[index])]
            if not waiting:
                return told
            error = told[waiting[0]]
            if isinstance(error, NoScriptError):
                raise NoScript
            detour = self._topology.detour(error, server)
            if detour is None:
                raise BackendError(f"the store refused: {error}")
            aside, pause = detour.server, detour.pause
            if monotonic() + pause >= until:
                raise not_yet(error)

    def say(self, server: Server, commands: Sequence[Command], *, lenient: bool = False) -> Saying:
        """Ask this very server; what it does not hold (any more) is an answer like any other with `lenient`."""
        answers = yield {server: list(commands)}, 0.0
        answer = answers[server]
        if isinstance(answer, BackendError):
            raise _again(answer)
        error = None if lenient else next(filter(_is_error, answer), None)
        if error is not None:
            raise BackendError(f"the store refused: {error}")
        return answer

    def parsed(self, raw: object) -> Record | None:
        """Return the record, or `None`; what is there and is no record is counted."""
        if isinstance(raw, RedisError) and not isinstance(raw, AskError) and _is_refusal(raw):
            raise BackendError(f"the store refused: {raw}")
        record = sound_record(raw) if isinstance(raw, bytes) else None
        if record is None and (isinstance(raw, bytes) or str(raw).startswith("WRONGTYPE")):
            self._topology.damaged += 1
        return record


def time_of(time: Iterable[bytes] | RedisError, now: int | None) -> int:
    """Return the injected `now`, or what the server answered to `TIME`, in microseconds."""
    if isinstance(time, RedisError):
        raise BackendError(f"the store refused: {time}")
    if now is not None:
        return now
    seconds, micros = time
    return int(seconds) * 1_000_000 + int(micros)


def not_yet(reason: object) -> BackendTimeout:
    """Return the error of a call that proved not to have run, until the deadline."""
    return BackendTimeout(f"the store was moving or loading until the deadline: {reason}")


def _again(error: BackendError) -> BackendError:
    """Return the error as one of this call's own: an open breaker gives the same one to every caller."""
    return type(error)(str(error))


def _is_error(answer: object) -> bool:
    return isinstance(answer, RedisError)


def _is_refusal(answer: object) -> bool:
    return isinstance(answer, RedisError) and not str(answer).startswith("WRONGTYPE")
