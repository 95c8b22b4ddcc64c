"""One call to the script: charges of one partition, as they are sent, and what is made of the answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError

from banhammer.backends.redis.scripts import EVALUATE, EVALUATE_FULL, Script
from banhammer.backends.redis.server import Server
from banhammer.backends.redis.topology import Topology
from banhammer.backends.redis.wire import FULL, INJECTED, pack_charge, unpack_reply
from banhammer.backends.shared import Charge, Outcome
from banhammer.core import Reply
from banhammer.errors import BackendError
from banhammer.escalations import escalates
from banhammer.model import Policy


class Call:
    """Charges that one call decides; it is sent again only where the answer proves that nothing ran."""

    __slots__ = (
        "_arguments", "_asking", "_cut", "_flags", "_keys", "_known", "_nonce", "_now", "_packed", "_policies",
        "_script", "away", "partition", "pause", "places", "server", "settled",
    )  # fmt: skip

    def __init__(self, partition: int, nonce: str, now: int | None, flags: int) -> None:
        self.partition = partition
        self.places: list[int] = []
        self.server: Server | None = None
        self.settled = False
        self.pause = 0.0
        self.away: Server | None = None
        self._nonce = nonce
        self._now = now
        self._flags = flags if now is None else flags + INJECTED
        self._asking = False
        self._script: Script = EVALUATE
        self._known = True
        self._policies: list[Policy] = []
        self._keys: list[str] = []
        self._packed: list[bytes] = []
        self._cut: dict[int, str] = {}

    def add(self, index: int, charge: Charge, key: str, member: str) -> None:
        """Take one more charge, whose outcome goes to place `index`."""
        policies, policy = self._policies, charge.policy
        at = 0
        for known in policies:
            if known is policy:  # Not by name: two shells on one store may differ in their rules.
                break
            at += 1
        else:
            policies.append(policy)
        self.places.append(index)
        self._keys.append(key)
        self._packed.append(pack_charge(at, charge))
        if member:
            self._cut[len(self._keys)] = member

    def seal(self, bans: tuple[str, ...], escalations: tuple[str, ...], packed: Sequence[bytes]) -> None:
        """Make what is sent, now that nothing is added any more.

        `bans`, `escalations`: the partition's names for these, told where a policy needs them.
        """
        names: tuple[str, ...] = bans if any(policy.top >= 0 for policy in self._policies) else ()
        if any(map(escalates, self._policies)):
            names += escalations
        cut = json.dumps(self._cut) if self._cut else ""
        now = "" if self._now is None else self._now
        self._arguments = (
            (len(self._keys) + len(names), *self._keys, *names, b"".join(self._packed), now),
            (self._nonce, cut, *packed),
        )

    @property
    def policies(self) -> list[Policy]:
        """The policies of the charges, in the order in which the script is told of them."""
        return self._policies

    def commands(self) -> list[tuple[Any, ...]]:
        """Return what to send; the last answer is the call's."""
        before, behind = self._arguments
        how = ("EVALSHA", self._script.sha) if self._known else ("EVAL", self._script.text)
        call = (*how, *before, self._flags, *behind)
        return [("ASKING",), call] if self._asking else [call]

    def settle(self, outcomes: list[Outcome | None], error: BackendError) -> None:
        """Give every charge of the call the same error."""
        self.settled = True
        for index in self.places:
            outcomes[index] = error

    def hear(self, answer: Any, server: Server, topology: Topology, outcomes: list[Outcome | None]) -> None:
        """Take the answer of `server`: settle the call, or choose how it is sent again."""
        if not isinstance(answer, RedisError):
            self._take(answer, server, topology, outcomes)
            return
        self._asking, self.server, self.pause, self.away = False, None, 0.0, None
        if isinstance(answer, NoScriptError):
            self._known = False
            return
        if isinstance(answer, OutOfMemoryError) and self._script is EVALUATE:
            self._script, self._known = EVALUATE_FULL, True
            self._flags += FULL
            server.breaker.refused(answer)
            return
        detour = topology.detour(answer, server)
        if detour is None:
            server.breaker.refused(answer)
            self.settle(outcomes, BackendError(f"the store refused: {answer}"))
            return
        self.server, self.pause = detour.server, detour.pause
        self.away = server if detour.away else None
        self._asking = self.server is not None

    def _take(self, answer: Any, server: Server, topology: Topology, outcomes: list[Outcome | None]) -> None:
        self.settled = True
        if not isinstance(answer, list) or len(answer) < 3:
            self.settle(outcomes, BackendError("the store answered what is no decision"))
            return
        now, damaged, *replies = answer
        topology.damaged += damaged
        at, nonce = int(now), self._nonce
        if self._script is EVALUATE:
            server.breaker.decided()
            for number, (index, packed) in enumerate(zip(self.places, replies, strict=False), 1):
                outcomes[index] = unpack_reply(packed, at, nonce, number)
            return
        for number, (index, packed) in enumerate(zip(self.places, replies, strict=False), 1):
            outcomes[index] = _uncounted(unpack_reply(packed, at, nonce, number))


def _uncounted(reply: Reply) -> Outcome:
    """Return what a peek means for a hit that could not be stored: a denial holds, the rest `on_error` decides."""
    if reply.verdict == "allowed":
        return BackendError("the store's memory is full: raise its maxmemory")
    reply.degraded, reply.counted = True, False
    reply.tripped = reply.ids = ()
    return reply
