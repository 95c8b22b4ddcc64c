"""What is said to Redis to decide hits, and what is made of the answers; no I/O, so threads and tasks share it.

A call is repeated only where the answer proves that nothing ran: never after an unknown outcome, since it may have been
counted.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from time import monotonic
from typing import Final

from banhammer.backends.gather import BATCH
from banhammer.backends.redis.asking import not_yet
from banhammer.backends.redis.call import Call
from banhammer.backends.redis.link import Command
from banhammer.backends.redis.server import Server
from banhammer.backends.redis.topology import AHEAD, Answers, Asks, Topology
from banhammer.backends.redis.wire import STOP, Names
from banhammer.backends.shared import Charge, Outcome
from banhammer.errors import BackendError

AT_ONCE: Final = 128
"""How many charges are said before the next are made ready, so that the server has something to do meanwhile: with
fewer, the second call costs more than that saves."""
PARTITIONS_AT_ONCE: Final = 4
"""How many times as many where the keys are dealt to more than one partition, so that a call does not hold too few."""

Deciding = Generator[tuple[Asks, float], Answers, list[Outcome]]
Said = list[tuple[Server, Call, int]]
"""Calls, the server of each, and the place of its answer among the server's."""


class Speaker:
    """Says charges to the servers of a topology."""

    def __init__(self, topology: Topology, names: Names) -> None:
        self._topology = topology
        self._names = names
        self._at_once = AT_ONCE * min(len(names.tags), PARTITIONS_AT_ONCE)
        self._serial = itertools.count()
        self.renew()

    def renew(self) -> None:
        """Begin another series of escalation ids: a forked child must not repeat its parent's."""
        self._origin = os.urandom(8).hex().encode()

    def decide(
        self, charges: Sequence[Charge], *, until: float, now: int | None, stop: bool = False, ahead: bool = False
    ) -> Deciding:
        """Decide `charges` in order, grouped by partition; an error for each whose outcome is not known.

        `until`: the `time.monotonic` after which nothing is tried again. With `stop`, what follows the first denial,
        or the first error, is missing at the end. `ahead`: a long batch is said in parts, and the first
        is answered while the next is made ready.
        """
        if stop:
            return self._decide_until_denied(charges, until, now)
        return self._decide(charges, until, now, parts=-(-len(charges) // self._at_once) if ahead else 1)

    def _decide_until_denied(self, charges: Sequence[Charge], until: float, now: int | None) -> Deciding:
        outcomes: list[Outcome] = []
        for run in self._runs(charges):
            try:
                outcomes += yield from self._decide(run, until, now, flags=STOP)
            except BackendError as error:  # What went before was decided, and must not be asked again.
                outcomes.append(error)
            last = outcomes[-1]
            if isinstance(last, BackendError):
                break
            if last.verdict != "allowed" and charges[len(outcomes) - 1].policy.mode != "shadow":
                break
        return outcomes

    def _decide(
        self, charges: Sequence[Charge], until: float, now: int | None, *, parts: int = 1, flags: int = 0
    ) -> Deciding:
        if not self._topology.known:
            yield from self._topology.learn()
        outcomes: list[Outcome | None] = [None] * len(charges)
        rounds: deque[Said] = deque()
        waiting: list[Call] = []
        size = -(-len(charges) // parts)
        for start in range(0, len(charges), size):
            asks, said = self._say(self._calls(charges, range(start, min(start + size, len(charges))), now, flags))
            rounds.append(said)
            answers = yield asks, AHEAD if start + size < len(charges) else 0.0
            if answers:
                waiting += self.hear(rounds.popleft(), answers, outcomes)
        while rounds:
            answers = yield {}, 0.0
            waiting += self.hear(rounds.popleft(), answers, outcomes)
        if waiting:
            yield from self.rest(waiting, outcomes, until)
        return [outcome for outcome in outcomes if outcome is not None]

    def prompt(self, charges: Sequence[Charge]) -> tuple[Server, list[Command], Said] | None:
        """Return the one server that decides the charges, and what to say, for `hear`; `None`: `decide` must.

        What most hits need, without a talk of generators.
        """
        if len(charges) > self._at_once or not self._topology.known:
            return None
        asks, said = self._say(self._calls(charges, range(len(charges)), None, 0))
        if len(asks) > 1:
            return None
        ((server, commands),) = asks.items()
        return server, commands, said

    def rest(self, waiting: list[Call], outcomes: list[Outcome | None], until: float) -> Deciding:
        """Ask what was not decided yet, and again as long as there is time."""
        while waiting:
            pause = max([call.pause for call in waiting])
            if monotonic() + pause >= until:
                for call in waiting:
                    call.settle(outcomes, not_yet(call.reason))
                for server, reason in {call.away: call.reason for call in waiting if call.away}.items():
                    server.breaker.failed(not_yet(reason))
                break
            yield from self._topology.learn()
            asks, said = self._say(waiting)
            answers = yield asks, pause
            waiting = self.hear(said, answers, outcomes)
        return []

    def _say(self, calls: Sequence[Call]) -> tuple[Asks, Said]:
        asks: Asks = {}
        said: Said = []
        for call in calls:
            server = call.server or self._topology.server(call.partition)
            commands = asks.setdefault(server, [])
            commands += call.commands()
            said.append((server, call, len(commands) - 1))
        return asks, said

    def hear(self, said: Said, answers: Answers, outcomes: list[Outcome | None]) -> list[Call]:
        """Settle the calls that were answered, and return those that are to be asked again."""
        topology = self._topology
        for server, call, at in said:
            answer = answers[server]
            if not isinstance(answer, BackendError):
                call.hear(answer[at], server, topology, outcomes)
                continue
            if answer is not server.breaker.error:  # While it is open, the keeper asks who has taken over.
                topology.doubt()
            call.settle(outcomes, answer)
        return [call for _, call, _ in said if not call.settled]

    def _runs(self, charges: Sequence[Charge]) -> Iterator[list[Charge]]:
        """Yield the charges in order, each run of one partition, and of no more than one call may hold."""
        for _, group in itertools.groupby(charges, key=lambda charge: self._names.partition(charge.hit.key)):
            run = list(group)
            for start in range(0, len(run), BATCH):
                yield run[start : start + BATCH]

    def _calls(self, charges: Sequence[Charge], places: range, now: int | None, flags: int) -> list[Call]:
        """Return the calls that decide the charges: those of a partition together, as far as a call may hold."""
        calls: list[Call] = []
        for dealt in self._dealt(charges, places):
            for start in range(0, len(dealt), BATCH):
                nonce = b"%b-%d" % (self._origin, next(self._serial))
                calls.append(Call(charges, dealt[start : start + BATCH], self._names, nonce, now, flags))
        return calls

    def _dealt(self, charges: Sequence[Charge], places: range) -> Iterable[Sequence[int]]:
        """Return the places of the charges of each partition."""
        if len(self._names.tags) == 1:
            return (places,)
        dealt: dict[int, list[int]] = {}
        name_of = self._names.argument
        for place in places:
            charge = charges[place]
            dealt.setdefault(name_of(charge.policy.name, charge.hit.key)[0], []).append(place)
        return dealt.values()
