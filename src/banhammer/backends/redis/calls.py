"""How charges reach the servers: threads share the calls of a leader, tasks those of a gatherer, side by side.

What cannot share (an injected time, a stop, several servers) has a call of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary, ref

from banhammer.backends import Now
from banhammer.backends.gather import Gatherer, Leader
from banhammer.backends.redis.drivers import aask, adrive, ask, drive
from banhammer.backends.redis.server import Server, forget_closed
from banhammer.backends.redis.talk import Speaker
from banhammer.backends.redis.topology import Topology
from banhammer.backends.redis.wire import Names
from banhammer.backends.shared import Charge, Outcome
from banhammer.backends.shortcut import tell
from banhammer.errors import BackendError

Gatherers = dict["Server | None", Gatherer[Charge, Outcome]]
"""The gatherers of one event loop, by server."""


class Reach:
    """Which server decides what, as far as is known, and whether it may be asked."""

    def __init__(self, topology: Topology, names: Names) -> None:
        self._topology = topology
        self._names = names
        self.only_one = len(names.tags) == 1

    def server_of(self, key: str) -> Server | None:
        """Return the server of a key, `None` where that has to be learned first."""
        return self._topology.holder(0 if self.only_one else self._names.partition(key))

    def away(self, server: Server | None) -> BackendError | None:
        """Return at once what an open breaker says, unless another server may have taken over."""
        error = None if server is None else server.breaker.error
        return error if error is not None and self._topology.known else None

    def by_server(self, charges: Sequence[Charge]) -> dict[Server | None, list[int]]:
        """Return the places of the charges by server: those of a silent one ride alone."""
        if self.only_one:
            return {self._topology.holder(0): list(range(len(charges)))}
        groups: dict[Server | None, list[int]] = {}
        for index, charge in enumerate(charges):
            groups.setdefault(self.server_of(charge.hit.key), []).append(index)
        return groups


class ThreadCalls:
    """The calls of threads."""

    def __init__(self, reach: Reach, speaker: Speaker) -> None:
        self._reach = reach
        self._speaker = speaker
        self.renew()

    def renew(self) -> None:
        """Begin without leaders: in a forked child theirs are the parent's threads."""
        self._leader: Leader[Charge, Outcome] = Leader(self._send)
        self._leaders: dict[Server | None, Leader[Charge, Outcome]] = {}

    def decide_one(self, charge: Charge, now: Now, until: float) -> Outcome:
        """Return what became of one charge."""
        if now is not None:
            return self.decide((charge,), now, until, stop=False)[0]
        server = self._reach.server_of(charge.hit.key)
        try:
            return self._reach.away(server) or self._leader_of(server).call((charge,), until)[0]
        except BackendError as error:
            return error

    def decide(self, charges: Sequence[Charge], now: Now, until: float, *, stop: bool) -> Sequence[Outcome]:
        """Return what became of each charge."""
        try:
            if stop or now is not None or len(groups := self._reach.by_server(charges)) > 1:
                talk = self._speaker.decide(charges, until=until, now=told(now), stop=stop, ahead=True)
                return drive(talk, until)
            (server,) = groups
            away = self._reach.away(server)
            return [away] * len(charges) if away else self._leader_of(server).call(charges, until)
        except BackendError as error:
            return [error] if stop else [error] * len(charges)

    def _leader_of(self, server: Server | None) -> Leader[Charge, Outcome]:
        if self._reach.only_one:
            return self._leader
        return self._leaders.get(server) or self._leaders.setdefault(server, Leader(self._send))

    def _send(self, charges: Sequence[Charge], until: float) -> Sequence[Outcome]:
        speaker = self._speaker
        prompt = speaker.prompt(charges)
        if prompt is None:
            return drive(speaker.decide(charges, until=until, now=None, ahead=True), until)
        server, commands, said = prompt
        outcomes: list[Any] = [None] * len(charges)
        waiting = speaker.hear(said, {server: ask(server, commands, until)}, outcomes)
        if waiting:
            drive(speaker.rest(waiting, outcomes, until), until)
        return outcomes


class TaskCalls:
    """The calls of tasks; `deadline` is in seconds."""

    def __init__(self, reach: Reach, speaker: Speaker, deadline: float) -> None:
        self._reach = reach
        self._speaker = speaker
        self._deadline = deadline
        self.renew()

    def renew(self) -> None:
        """Begin without gatherers: in a forked child their event loops are the parent's."""
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Gatherers] = WeakKeyDictionary()
        self._latest: tuple[ref[asyncio.AbstractEventLoop] | None, Gatherers] = (None, {})

    async def decide(self, charges: Sequence[Charge], now: Now, until: float, *, stop: bool) -> Sequence[Outcome]:
        """Return what became of each charge."""
        try:
            if stop or now is not None:
                return await adrive(self._speaker.decide(charges, until=until, now=told(now), stop=stop), until)
            groups = self._reach.by_server(charges)
            if len(groups) == 1:
                (server,) = groups
                return await self._group(server, charges, until)
        except BackendError as error:
            return [error] if stop else [error] * len(charges)
        found = await asyncio.gather(
            *[self._group(server, [charges[at] for at in places], until) for server, places in groups.items()]
        )
        outcomes: dict[int, Outcome] = {}
        for places, part in zip(groups.values(), found, strict=True):
            outcomes.update(zip(places, part, strict=True))
        return [outcomes[index] for index in range(len(charges))]

    def gatherer(self, server: Server | None) -> Gatherer[Charge, Outcome]:
        """Return what shares the calls to a server among the tasks of this event loop."""
        loop = asyncio.get_running_loop()
        latest, of_loop = self._latest
        if latest is None or latest() is not loop:
            of_loop = self._of_loop(loop)
        found = of_loop.get(server)
        if found is None:
            found = of_loop[server] = Gatherer(self._send, self._deadline)
        return found

    async def close(self) -> None:
        """Let the calls of this event loop end."""
        self._latest = (None, {})
        for gatherer in self._loops.pop(asyncio.get_running_loop(), {}).values():
            await gatherer.close()

    async def _group(self, server: Server | None, charges: Sequence[Charge], until: float) -> Sequence[Outcome]:
        away = self._reach.away(server)
        if away:
            return [away] * len(charges)
        try:
            return await self.gatherer(server).call(charges, until)
        except BackendError as error:
            return [error] * len(charges)

    def _of_loop(self, loop: asyncio.AbstractEventLoop) -> Gatherers:
        found = self._loops.get(loop)
        if found is None:
            forget_closed(self._loops)
            found = self._loops[loop] = {}
        self._latest = (ref(loop), found)
        return found

    async def _send(self, charges: Sequence[Charge], until: float) -> Sequence[Outcome]:
        speaker = self._speaker
        prompt = speaker.prompt(charges)
        if prompt is None:
            return await adrive(speaker.decide(charges, until=until, now=None), until)
        server, commands, said = prompt
        outcomes: list[Any] = [None] * len(charges)
        waiting = speaker.hear(said, {server: await aask(server, commands, until)}, outcomes)
        if waiting:
            await adrive(speaker.rest(waiting, outcomes, until), until)
        return outcomes


def told(now: Now) -> int | None:
    """Return the injected time, if there is one."""
    return None if now is None else tell(now)
