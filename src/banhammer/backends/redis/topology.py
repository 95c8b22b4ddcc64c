"""Which server holds which partition: one server, the master that Sentinels name, or a cluster's masters.

What is asked is a generator: it yields commands by server and is sent the answers, so that threads and tasks share it.
A MOVED reply repairs the one entry that it names; a failure makes the whole be asked again, of any node that answers.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any, Final, NamedTuple

from redis.exceptions import AskError, MovedError, RedisError

from banhammer.backends.redis.link import Command, is_away, word_of
from banhammer.backends.redis.server import Server
from banhammer.backends.redis.settings import Address, Settings
from banhammer.backends.redis.wire import slot_of
from banhammer.errors import BackendError

PAUSE: Final = 0.002
"""Seconds before a server that is loading, moving or electing is asked again."""
PASSING: Final = ("LOADING", "TRYAGAIN", "READONLY", "MASTERDOWN", "BUSY", "CLUSTERDOWN")
"""Answers that prove that nothing ran, and that pass."""
NOBODY: Final = "some slots are served by nobody"
AHEAD: Final = -1.0
"""In the place of a pause: more is said before the answers are heard."""
BRIEFLY: Final = -2.0
"""In the place of a pause: answers are waited for half of the time that is left, so that others can still be asked."""

Asks = dict[Server, list[Command]]
"""Commands by server."""
Answers = dict[Server, list[Any] | BackendError]
Asking = Generator[tuple[Asks, float], Answers, Any]
"""Yields what to send, and the pause (seconds) before it; is sent the answers by server.

After `AHEAD` it is sent the answers to the earliest of what it said, or none yet; asking nothing, it hears the next.
"""


class Detour(NamedTuple):
    """How to ask again what an answer proves not to have run: another server, for this once; a pause before it;
    whether the server that answered is as good as away."""

    server: Server | None = None
    pause: float = 0.0
    away: bool = False


class Topology:
    """Which server holds which partition. `damaged` counts the records that did not parse."""

    def __init__(self, settings: Settings, tags: Sequence[str]) -> None:
        self.damaged = 0
        self._settings = settings
        self._slots = [slot_of(tag) for tag in tags]
        self._tags = tags
        self._unserved: set[int] = set()
        self._servers: dict[Address | None, Server] = {}
        self._sentinels = [Server(settings, address, sentinel=True) for address in settings.addresses]
        self._holders: dict[int, Server] = {}
        self._silent: set[Server] = set()
        """Seeds that answered and did not tell who holds what, so that nothing could be decided."""
        self._alone = not (settings.cluster or settings.service)
        self._known = self._alone
        self._next = 0
        if self._alone:
            self._hold(self._slots, None)

    def __str__(self) -> str:
        return ",".join(f"{host}:{port}" for host, port in self._settings.addresses) or "unix socket"

    def at(self, address: Address | None) -> Server:
        """Return the server at an address."""
        found = self._servers.get(address)
        if found is None:
            found = self._servers.setdefault(address, Server(self._settings, address))
        return found

    def server(self, partition: int) -> Server:
        """Return the server that holds a partition."""
        return self._holders[self._slots[partition]]

    def holder(self, partition: int) -> Server | None:
        """Return the server that holds a partition as far as is known, or `None` before the first contact."""
        return self._holders.get(self._slots[partition])

    @property
    def known(self) -> bool:
        """Whether the holders need not be asked for."""
        return self._known

    def question(self, server: Server) -> Command:
        """Return what `server` is asked whether it is back: a write of nothing, which needs no right of its own.

        A cluster that is down may still be read. The slot is one that the server holds, if any, and that is served: of
        another it would be told where to go, or that nobody serves it.
        """
        if server in self._sentinels:
            return ("PING",)
        served = [at for at, slot in enumerate(self._slots) if slot not in self._unserved]
        held = [at for at in served if self._holders.get(self._slots[at]) is server]
        return ("SET", f"bh:{{{self._tags[(held or served or [0])[0]]}}}#none", "", "XX")

    def servers(self) -> list[Server]:
        """Return every server that was ever spoken to."""
        return [*self._servers.values(), *(self._sentinels if self._settings.service else ())]

    def away(self) -> list[Server]:
        """Return the servers whose breaker is open and who may be needed: not one that was replaced."""
        away = [server for server in self.servers() if server.breaker.error is not None]
        if not away:
            return away
        needed = {*self._holders.values(), *self._sentinels, *map(self._servers.get, self._settings.addresses)}
        return [server for server in away if server in needed]

    def detour(self, error: Any, server: Server) -> Detour | None:
        """Take note of what a server's error says of where things are; `None`: it is no detour but a refusal."""
        if isinstance(error, AskError):  # A MovedError is one too, that means the slot and not this call alone.
            address = (error.host or (server.address or ("", 0))[0], error.port)
            if not isinstance(error, MovedError):
                return Detour(self.at(address))
            self._hold([error.slot_id], address)
            return Detour()
        if word_of(error) not in PASSING:
            return None
        self.doubt()
        return Detour(None, PAUSE, is_away(error))

    def doubt(self) -> None:
        """Ask for the holders again before the next call: a server failed, or is no longer what it was."""
        self._known = self._alone

    def learn(self) -> Asking:
        """Ask one server after another who holds what, until one knows; keep what was known where none does.

        Those that gave no answer of late come last, and another begins each time: one that is cut off knows it wrong.
        """
        if self._known:
            return
        service = self._settings.service
        if service:
            seeds = self._sentinels
            question: Command = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service)
        else:
            seeds = list(dict.fromkeys([*self._holders.values(), *map(self.at, self._settings.addresses)]))
            question = ("CLUSTER", "SLOTS")
        start = self._next % len(seeds)
        self._next += 1
        seeds = sorted(seeds[start:] + seeds[:start], key=lambda seed: seed.breaker.doubtful)
        why: dict[Server, str | BackendError] = {}
        for at, seed in enumerate(seeds):
            better = any(not later.breaker.doubtful for later in seeds[at + 1 :])
            # Where the cluster is down, the second answer says so.
            said = [question] if service else [question, self.question(seed)]
            answers = yield {seed: said}, BRIEFLY if better else 0.0
            answer = answers[seed]
            why[seed] = answer if isinstance(answer, BackendError) else self._missing(answer[0], seed)
            if why[seed] in ("", NOBODY) and seed in self._silent:
                self._silent.discard(seed)
                seed.breaker.decided()
            self._known = not why[seed]
            if self._known:
                for server in set(self._servers.values()) - set(self._holders.values()):
                    server.breaker.replaced()
                self._silent.clear()
                return
        partly = next((seed for seed, words in why.items() if words == NOBODY), None)
        if partly is not None:
            for slot in self._slots:  # It says so again to who needs them, and the others are served.
                self._holders.setdefault(slot, partly)
        if not all(slot in self._holders for slot in self._slots):
            for seed, words in why.items():
                if not isinstance(words, BackendError):
                    seed.breaker.refused(words)
                    self._silent.add(seed)
            what = "no Sentinel tells the master" if service else "no server of the cluster tells where its slots are"
            told = "; ".join(f"{seed.breaker.name}: {words}" for seed, words in why.items())
            raise BackendError(f"{what} ({told})")

    def _missing(self, answer: Any, seed: Server) -> str:
        """Take what a seed answers of the holders; return why it is not all, or ""."""
        service = self._settings.service
        if isinstance(answer, RedisError):
            return str(answer)
        if not answer:
            return f"it knows no service {service!r}; see its SENTINEL MASTERS" if service else "it knows of no slots"
        try:
            held = self._of_sentinel(answer) if service else self._of_cluster(answer, seed)
        except (ArithmeticError, AttributeError, IndexError, TypeError, ValueError):  # Whatever it is that answers.
            return "what it answers names no servers"
        self._unserved = {slot for slot in self._slots if not any(slot in slots for slots, _ in held)}
        for slots, address in held:
            self._hold(slots, address)
        return "" if all(slot in self._holders for slot in self._slots) else NOBODY

    def _of_sentinel(self, reply: Sequence[Any]) -> list[tuple[list[int], Address]]:
        host, port = reply
        return [(self._slots, (host.decode(), int(port)))]

    def _of_cluster(self, reply: Sequence[Any], seed: Server) -> list[tuple[list[int], Address]]:
        """Return what `CLUSTER SLOTS` tells of our slots; a node without a host is the one that was asked."""
        held = []
        for first, last, master, *_ in reply:
            host = master[0].decode() if master[0] else (seed.address or ("", 0))[0]
            held.append(([slot for slot in self._slots if first <= slot <= last], (host, int(master[1]))))
        return held

    def _hold(self, slots: Sequence[int], address: Address | None) -> None:
        for slot in slots:
            self._holders[slot] = self.at(address)
