"""The servers of a store and what is asked of them: hits to decide, and the operators' verbs; no asyncio here."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from time import monotonic
from typing import Final, NamedTuple, TypeVar, cast

from pymemcache.client.rendezvous import RendezvousHash

from banhammer.backends import Now
from banhammer.backends.memcached.edit import Change, Edit
from banhammer.backends.memcached.server import Server
from banhammer.backends.memcached.settings import Settings
from banhammer.backends.memcached.swap import Item, fetch, run
from banhammer.backends.memcached.turn import Turn
from banhammer.backends.memcached.value import ABSENT, Value, unpack
from banhammer.backends.memcached.wire import Found, delete, name_record
from banhammer.backends.shared import Charge, Outcome
from banhammer.errors import BackendError, BackendTimeout
from banhammer.model import Policy

MOST: Final = 256
"""Keys that go through the loop at once: with more, both sides could wait to be read."""
_KNOWN_NAMES: Final = 16_384
_UNASKED: Final = BackendError("it was not asked for")

Told = TypeVar("Told")


class Place(NamedTuple):
    """Where a record is: its name, and the server that has it, whether or not that is there."""

    name: bytes
    server: Server


class Store:
    """The servers of a store. `damaged` counts the values that were no record and read as absent."""

    def __init__(self, settings: Settings) -> None:
        self.damaged = 0
        self.servers = [Server(settings, address) for address in settings.addresses]
        self._by_name = {server.name: server for server in self.servers}
        self._hash = RendezvousHash(list(self._by_name))
        self.place = lru_cache(maxsize=_KNOWN_NAMES)(self._place)

    def __str__(self) -> str:
        return ",".join(self._by_name)

    def decide(self, charges: Sequence[Charge], now: Now, until: float) -> Sequence[Outcome]:
        """Decide `charges`, those of one key in order and in one swap; an error for each whose outcome is not known."""
        turns: dict[bytes, Turn] = {}
        for index, charge in enumerate(charges):
            name, server = self.place(charge.policy.name, charge.hit.key)
            turn = turns.get(name)
            if turn is None:
                turn = turns[name] = Turn(name, server, self._read, injected=now is not None)
            turn.charges.append(charge)
            turn.places.append(index)
        waiting = list(turns.values())
        for start in range(0, len(waiting), MOST):
            part = waiting[start : start + MOST]
            if not start or monotonic() < until:
                run(part, now, until)
                continue
            for turn in part:
                turn.error = BackendTimeout("the time was up before it was asked for")
        outcomes: list[Outcome] = [_UNASKED] * len(charges)
        for turn in waiting:
            for index, outcome in zip(turn.places, turn.outcomes(), strict=True):
                outcomes[index] = outcome
        return outcomes

    def decide_until_denied(self, charges: Sequence[Charge], now: Now, until: float) -> Sequence[Outcome]:
        """Decide `charges` in order, neighbours of one key in one swap, up to the first denial or error.

        All keys are read at once, and written one after another; a key that comes again is read again.
        """
        turns: list[Turn] = []
        for charge in charges:
            name, server = self.place(charge.policy.name, charge.hit.key)
            if not turns or turns[-1].name != name:
                turns.append(Turn(name, server, self._read, injected=now is not None, stop=True))
            turns[-1].charges.append(charge)
        first: dict[bytes, Turn] = {}
        for turn in turns:
            first.setdefault(turn.name, turn)
        read: set[Item] = set()
        asked: set[Server] = set()
        outcomes: list[Outcome] = []
        for turn in turns:
            if turn.server not in asked:
                asked.add(turn.server)
                here = [each for each in first.values() if each.server is turn.server]
                found = fetch(here[:MOST], until)
                run([item for item in found if not isinstance(item, Turn)], now, until, read=True)
                read.update(found)
            if turn.error is None:
                run([turn], now, until, read=turn in read)
            outcomes += turn.outcomes()
            if turn.ended:
                break
        return outcomes

    def edit(self, key: str, policy: Policy, change: Change[Told], now: Now, until: float) -> Told:
        """Change one record, as often as it takes, and return what the change tells. Raises `BackendError`."""
        edit = Edit(*self.place(policy.name, key), self._read, policy, change, injected=now is not None)
        run([edit], now, until, tries=None)
        if edit.error is not None:
            raise _again(edit.error)
        return cast(Told, edit.told)

    def drop(self, key: str, policy: Policy, until: float) -> None:
        """Drop a record. Raises `BackendError`."""
        name, server = self.place(policy.name, key)
        if server.breaker.error is not None:
            raise _again(server.breaker.error)
        server.tell(delete(name), until)

    def away(self) -> list[Server]:
        """Return the servers whose breaker is open."""
        return [server for server in self.servers if server.breaker.error is not None]

    def _place(self, policy: str, key: str) -> Place:
        name = name_record(policy, key)
        server = self.servers[0] if len(self.servers) == 1 else self._by_name[self._hash.get_node(name.decode())]
        return Place(name, server)

    def _read(self, found: Found | None) -> Value:
        if found is None:
            return ABSENT
        value = unpack(found)
        if value is None:
            self.damaged += 1
            return ABSENT
        return value


def _again(error: BackendError) -> BackendError:
    """Return the error as one of this call's own: an open breaker gives the same one to every caller."""
    return type(error)(str(error))
