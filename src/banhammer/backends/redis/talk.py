"""What is said to Redis to decide hits, and what is made of the answers; no I/O, so threads and tasks share it.

A call is repeated only where the answer proves that nothing ran: never after an unknown outcome, since it may have been
counted.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Generator, Iterator, Sequence
from time import monotonic
from typing import Any, Final

from redis.exceptions import AskError, MovedError, NoScriptError, OutOfMemoryError, RedisError

from banhammer.backends.gather import BATCH
from banhammer.backends.redis.link import is_away
from banhammer.backends.redis.scripts import EVALUATE, EVALUATE_FULL, Script
from banhammer.backends.redis.server import Server
from banhammer.backends.redis.topology import Answers, Asks, Topology
from banhammer.backends.redis.wire import FULL, INJECTED, STOP, Names, pack_charge, pack_policy, unpack_reply
from banhammer.backends.shared import Charge, Outcome
from banhammer.core import Reply
from banhammer.errors import BackendError, BackendTimeout
from banhammer.model import Policy

PAUSE: Final = 0.002
"""Seconds before a server that is loading, moving or electing is asked again."""
PASSING: Final = ("LOADING", "TRYAGAIN", "READONLY", "MASTERDOWN", "BUSY", "CLUSTERDOWN")
"""Answers that prove that nothing ran, and that pass."""

Deciding = Generator[tuple[Asks, float], Answers, list[Outcome]]


class Speaker:
    """Says charges to the servers of a topology."""

    def __init__(self, topology: Topology, names: Names) -> None:
        self._topology = topology
        self._names = names
        self._policies: dict[str, tuple[Policy, str]] = {}
        self._indexes = [(names.bans(partition), names.details(partition)) for partition in range(len(names.tags))]
        self._serial = itertools.count()
        self.renew()

    def renew(self) -> None:
        """Begin another series of escalation ids: a forked child must not repeat its parent's."""
        self._origin = os.urandom(8).hex()

    def indexes(self, partition: int) -> tuple[str, str]:
        """Return the names of a partition's index of bans and of their details."""
        return self._indexes[partition]

    def decide(self, charges: Sequence[Charge], *, until: float, now: int | None, stop: bool = False) -> Deciding:
        """Decide `charges` in order, grouped by partition; an error for each whose outcome is not known.

        `until`: the `time.monotonic` after which nothing is tried again. With `stop`, what follows the first denial,
        or the first error, is missing at the end.
        """
        if stop:
            return self._decide_until_denied(charges, until, now)
        return self._decide(charges, until, now, 0)

    def packed(self, policy: Policy) -> str:
        """Return a policy as the script reads it."""
        known = self._policies.get(policy.name)
        if known is None or known[0] is not policy:
            known = self._policies[policy.name] = (policy, pack_policy(policy))
        return known[1]

    def _decide_until_denied(self, charges: Sequence[Charge], until: float, now: int | None) -> Deciding:
        outcomes: list[Outcome] = []
        for run in self._runs(charges):
            try:
                outcomes += yield from self._decide(run, until, now, STOP)
            except BackendError as error:  # What went before was decided, and must not be asked again.
                outcomes.append(error)
            last = outcomes[-1]
            if isinstance(last, BackendError):
                break
            if last.verdict != "allowed" and charges[len(outcomes) - 1].policy.mode != "shadow":
                break
        return outcomes

    def _decide(self, charges: Sequence[Charge], until: float, now: int | None, flags: int) -> Deciding:
        topology = self._topology
        if not topology.known:
            yield from topology.learn()
        outcomes: list[Outcome | None] = [None] * len(charges)
        waiting = self._calls(charges, now, flags)
        pause = 0.0
        while True:
            asks: Asks = {}
            sent: list[tuple[Server, Call, int]] = []
            for call in waiting:
                server = call.server or topology.server(call.partition)
                commands = asks.setdefault(server, [])
                commands += call.commands()
                sent.append((server, call, len(commands) - 1))
            answers = yield asks, pause
            for server, call, at in sent:
                answer = answers[server]
                if isinstance(answer, BackendError):
                    if answer is not server.breaker.error:  # While it is open, the keeper asks who has taken over.
                        topology.doubt()
                    call.settle(outcomes, answer)
                else:
                    call.hear(answer[at], server, topology, outcomes)
            waiting = [call for call in waiting if not call.settled]
            if not waiting:
                break
            pause = max([call.pause for call in waiting])
            if monotonic() + pause >= until:
                error = BackendTimeout("the store was moving or loading until the deadline")
                for call in waiting:
                    call.settle(outcomes, error)
                for server in {server for server, call, _ in sent if call.away}:
                    server.breaker.failed(error)
                break
            yield from topology.learn()
        return [outcome for outcome in outcomes if outcome is not None]

    def _runs(self, charges: Sequence[Charge]) -> Iterator[list[Charge]]:
        """Yield the charges in order, each run of one partition, and of no more than one call may hold."""
        for _, group in itertools.groupby(charges, key=lambda charge: self._names.partition(charge.hit.key)):
            run = list(group)
            for start in range(0, len(run), BATCH):
                yield run[start : start + BATCH]

    def _calls(self, charges: Sequence[Charge], now: int | None, flags: int) -> list[Call]:
        """Return the calls that decide the charges: those of a partition together, as far as a call may hold."""
        calls: list[Call] = []
        open_calls: dict[int, Call] = {}
        record = self._names.record
        for index, charge in enumerate(charges):
            partition, key, member = record(charge.policy.name, charge.hit.key)
            call = open_calls.get(partition)
            if call is None or len(call.places) >= BATCH:
                call = open_calls[partition] = Call(partition, f"{self._origin}-{next(self._serial)}", now, flags)
                calls.append(call)
            call.add(index, charge, key, member)
        for call in calls:
            call.seal(self)
        return calls


class Call:
    """One call to the script: charges of one partition."""

    __slots__ = (
        "_asking",
        "_before",
        "_behind",
        "_cut",
        "_flags",
        "_keys",
        "_known",
        "_nonce",
        "_now",
        "_packed",
        "_policies",
        "_script",
        "away",
        "partition",
        "pause",
        "places",
        "server",
        "settled",
    )  # fmt: skip

    def __init__(self, partition: int, nonce: str, now: int | None, flags: int) -> None:
        self.partition = partition
        self.places: list[int] = []
        self.server: Server | None = None
        self.settled = False
        self.pause = 0.0
        self.away = False
        self._nonce = nonce
        self._now = now
        self._flags = flags if now is None else flags + INJECTED
        self._asking = False
        self._script: Script = EVALUATE
        self._known = True
        self._policies: dict[int, tuple[int, Policy]] = {}
        self._keys: list[str] = []
        self._packed: list[bytes] = []
        self._cut: dict[int, str] = {}

    def add(self, index: int, charge: Charge, key: str, member: str) -> None:
        """Take one more charge, whose outcome goes to place `index`."""
        policy = charge.policy
        place = self._policies.get(id(policy))  # Not by name: two shells on one store may differ in their rules.
        if place is None:
            place = self._policies[id(policy)] = (len(self._policies), policy)
        self.places.append(index)
        self._keys.append(key)
        self._packed.append(pack_charge(place[0], charge))
        if member:
            self._cut[len(self._keys)] = member

    def seal(self, speaker: Speaker) -> None:
        """Make what is sent, now that nothing is added any more."""
        texts = [speaker.packed(policy) for _, policy in self._policies.values()]
        self._before = (
            2 + len(self._keys), *speaker.indexes(self.partition), *self._keys,
            f"[{','.join(texts)}]", b"".join(self._packed), "" if self._now is None else self._now,
        )  # fmt: skip
        self._behind = (self._nonce, json.dumps(self._cut) if self._cut else "")

    def commands(self) -> list[tuple[Any, ...]]:
        """Return what to send; the last answer is the call's."""
        how = ("EVALSHA", self._script.sha) if self._known else ("EVAL", self._script.text)
        call = (*how, *self._before, self._flags, *self._behind)
        return [("ASKING",), call] if self._asking else [call]

    def settle(self, outcomes: list[Outcome | None], error: BackendError) -> None:
        """Give every charge of the call the same error."""
        self.settled = True
        for index in self.places:
            outcomes[index] = error

    def hear(self, answer: Any, server: Server, topology: Topology, outcomes: list[Outcome | None]) -> None:
        """Take the answer of `server`: settle the call, or choose how it is sent again."""
        self._asking, self.server, self.pause, self.away = False, None, 0.0, False
        if not isinstance(answer, RedisError):
            self._take(answer, server, topology, outcomes)
        elif isinstance(answer, NoScriptError):
            self._known = False
        elif isinstance(answer, AskError):  # A MovedError is one too, that means the slot and not this call alone.
            address = (answer.host or (server.address or ("", 0))[0], answer.port)
            if isinstance(answer, MovedError):
                topology.moved(answer.slot_id, address)
            else:
                self.server, self._asking = topology.at(address), True
        elif isinstance(answer, OutOfMemoryError) and self._script is EVALUATE:
            self._script, self._known = EVALUATE_FULL, True
            self._flags += FULL
            server.breaker.refused(answer)
        elif (answer.status_code or str(answer).partition(" ")[0]) in PASSING:
            topology.doubt()
            self.pause = PAUSE
            self.away = is_away(answer)
        else:
            server.breaker.refused(answer)
            self.settle(outcomes, BackendError(f"the store refused: {answer}"))

    def _take(self, answer: Any, server: Server, topology: Topology, outcomes: list[Outcome | None]) -> None:
        self.settled = True
        if not isinstance(answer, list) or len(answer) < 3:
            self.settle(outcomes, BackendError("the store answered what is no decision"))
            return
        now, damaged, *replies = answer
        topology.damaged += damaged
        if self._script is EVALUATE:
            server.breaker.decided()
        at = int(now)
        for number, (index, packed) in enumerate(zip(self.places, replies, strict=False), 1):
            reply = unpack_reply(packed, at, self._nonce, number)
            outcomes[index] = reply if self._script is EVALUATE else _uncounted(reply)


def _uncounted(reply: Reply) -> Outcome:
    """Return what a peek means for a hit that could not be stored: a denial holds, the rest `on_error` decides."""
    if reply.verdict == "allowed":
        return BackendError("the store's memory is full: raise its maxmemory")
    reply.degraded, reply.counted = True, False
    reply.tripped = reply.ids = ()
    return reply
