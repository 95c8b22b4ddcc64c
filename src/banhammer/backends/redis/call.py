"""One call to the script: charges of one partition, as they are sent, and what is made of the answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from redis.exceptions import NoScriptError, OutOfMemoryError, RedisError

from banhammer.backends.packing import Told, holds_record
from banhammer.backends.redis.link import Command
from banhammer.backends.redis.scripts import EVALUATE, EVALUATE_FULL, Script
from banhammer.backends.redis.server import Server
from banhammer.backends.redis.topology import Topology
from banhammer.backends.redis.wire import (
    ADMITTED,
    EMPTY,
    FULL,
    INJECTED,
    NUMBERS,
    PLAIN,
    REPEATS,
    STOP,
    Names,
    argument,
    pack_charge,
    unpack_reply,
)
from banhammer.backends.shared import Charge, Outcome
from banhammer.core import Reply
from banhammer.errors import BackendError
from banhammer.model import Policy

NO_DECISION: Final = "what was answered is no decision"


class Call:
    """Charges that one call decides; it is sent again only where the answer proves that nothing ran."""

    # Here, since most calls set nothing of it but `settled`.
    server: Server | None = None
    settled = False
    pause = 0.0
    reason = ""
    away: Server | None = None
    _asking = False
    _script: Script = EVALUATE
    _known = True

    def __init__(
        self,
        charges: Sequence[Charge],
        places: Sequence[int],
        names: Names,
        nonce: bytes,
        now: int | None,
        flags: int,
    ) -> None:
        """Make what is sent to decide the `charges` at `places`, all of one partition, in that order.

        `nonce`: begins the ids of their escalations. `now`: the injected time (us), `None` for the server's. `flags`:
        see `wire.STOP`.
        """
        self.places = places
        """Where each charge stands, and where its outcome goes."""
        self._charges = charges
        self._nonce = nonce
        indexes: dict[int, int] = {}
        sent: list[bytes] = []
        policies: list[bytes] = []
        hits: list[bytes] = []
        cut: dict[int, str] = {}  # By its position in the call, from 1.
        latest, index, needs, partition = None, 0, 0, 0
        name_of = names.argument
        for place in places:
            charge = charges[place]
            hit, policy = charge.hit, charge.policy
            if policy is not latest:  # By identity: two shells on one store may give a name to two of them.
                latest = policy
                index = indexes.setdefault(id(policy), len(indexes))
                if index == len(policies):
                    known = names.policy(policy)
                    policies.append(known.sent)
                    needs |= known.needs
            partition, name, member = name_of(policy.name, hit.key)
            sent.append(name)
            if member:
                cut[len(sent)] = member
            # Asked here, since most are plain, and a call for each would cost as much as all the rest of this.
            plain = charge.owed is None and hit.cost == 1 and not (hit.guard or charge.peek)
            hits.append(PLAIN[index] if plain else pack_charge(index, charge))
        if len(sent) > 1 and len(set(sent)) < len(sent):
            flags |= REPEATS
        self.partition = partition
        count, shared = names.others[partition][needs]
        count += len(sent)
        self._flags = flags if now is None else flags | INJECTED
        self._size = b"*%d\r\n" % (8 + count + len(policies))
        time = EMPTY if now is None else argument(b"%d" % now)
        self._before_flags = b"".join((NUMBERS[count], *sent, shared, argument(b"".join(hits)), time))
        members = argument(json.dumps(cut).encode()) if cut and needs else EMPTY
        self._after_flags = b"".join((argument(nonce), members, *policies))

    def commands(self) -> list[Command]:
        """Return what to send; the last answer is the call's."""
        how = self._script.by_digest if self._known else self._script.by_text
        call = b"".join((self._size, how, self._before_flags, NUMBERS[self._flags], self._after_flags))
        return [("ASKING",), call] if self._asking else [call]

    def settle(self, outcomes: list[Outcome | None], error: BackendError) -> None:
        """Give every charge of the call the same error."""
        self.settled = True
        for place in self.places:
            outcomes[place] = error

    def hear(self, answer: Any, server: Server, topology: Topology, outcomes: list[Outcome | None]) -> None:
        """Take the answer of `server`: settle the call, or choose how it is sent again."""
        if not isinstance(answer, RedisError):
            try:
                self._take(answer, server, topology, outcomes)
            except (ArithmeticError, AttributeError, IndexError, TypeError, ValueError):  # Whatever it is that answers.
                server.breaker.refused(NO_DECISION)
                self.settle(outcomes, BackendError(f"the store refused: {NO_DECISION}"))
            return
        self._asking, self.server, self.pause, self.away, self.reason = False, None, 0.0, None, str(answer)
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
        now, damaged, *replies = answer
        least = 1 if self._flags & STOP else len(self.places)
        if answer.__class__ is not list or not least <= len(replies) <= len(self.places):
            raise ValueError(answer)
        self.settled = True
        topology.damaged += damaged
        at, nonce, counted = int(now), self._nonce, self._script is EVALUATE
        told: Any  # Stands for a Reply.
        charges = self._charges
        for number, (place, packed) in enumerate(zip(self.places, replies, strict=False), 1):
            charge = charges[place]
            policy = charge.policy
            bare = packed.__class__ is int
            if not (len(policy.thresholds) == 1 if bare else _sound(packed, policy)):
                raise ValueError(packed)
            if not counted:
                outcomes[place] = _uncounted(unpack_reply(packed, at, nonce, number))
            elif not (bare or packed.startswith(ADMITTED)) or charge.hit.cost != 1 or policy.mode == "shadow":
                outcomes[place] = unpack_reply(packed, at, nonce, number)
            else:
                told = Told()
                outcomes[place] = told
                told.key = charge.hit.key
                told._policy = policy
                told._now = at
                told._told = packed
        if counted:
            server.breaker.decided()


def _sound(packed: bytes, policy: Policy) -> bool:
    """Return whether a reply can be read: what it says crossed thresholds of the policy, and its record follows."""
    begins = 3 + packed[2]
    crossed = packed[3:begins]
    return all(map(len(policy.thresholds).__gt__, crossed)) and holds_record(packed, begins, policy)


def _uncounted(reply: Reply) -> Outcome:
    """Return what a peek means for a hit that could not be stored: a denial holds, the rest `on_error` decides."""
    if reply.verdict == "allowed":
        return BackendError("the store's memory is full: raise its maxmemory")
    reply.degraded, reply.counted = True, False
    reply.tripped = reply.ids = ()
    return reply
