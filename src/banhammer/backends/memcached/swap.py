"""The loop by which everything on Memcached changes: read, decide, and write where nothing has changed meanwhile.

One call takes many keys through it: one `gets`, then all their writes at once; only what lost is tried again. Servers
are spoken to side by side, and none waits for another. A write whose outcome is unknown is never repeated.
"""

from __future__ import annotations

import random
import selectors
from collections.abc import Callable, Sequence
from time import monotonic, sleep, time_ns
from typing import Final, Protocol, cast

from banhammer.backends import Now
from banhammer.backends.memcached.link import Link
from banhammer.backends.memcached.server import Server
from banhammer.backends.memcached.wire import LOST, MARKER, STORED, Found, gets, shown, swap
from banhammer.backends.shortcut import tell
from banhammer.errors import BackendError

TRIES: Final = 16
PAUSE: Final = 0.000_2
"""Seconds of the first pause before another try, doubled each time; a pause is a random part of it."""
LONGEST_PAUSE: Final = 0.005


class Item(Protocol):
    """One name on its way through the loop. `found`: what was read; `error`: why it was not, or cannot be known."""

    name: bytes
    server: Server
    found: Found | None
    error: BackendError | None

    def decide(self, now: int) -> bytes | None:
        """Return the command that changes what was found, or `None` to leave it."""
        ...

    def settle(self, answer: bytes) -> None:
        """Take the answer to the change: it was stored, or the server could not keep it."""
        ...

    def lose(self) -> None:
        """Take note that every try was lost: nothing was written."""
        ...


class _Mark:
    """The mark of a server's life, read along with what a call asks for."""

    __slots__ = ("_mark", "error", "found", "name", "server")

    def __init__(self, server: Server) -> None:
        self.name = MARKER
        self.server = server
        self.found: Found | None = None
        self.error: BackendError | None = None
        self._mark = b""

    def decide(self, now: int) -> bytes | None:
        mark = self.server.see(self.found and self.found.data)
        if mark is None:
            return None
        self._mark = mark
        return swap(MARKER, None, 0, 0, mark)

    def settle(self, answer: bytes) -> None:
        if answer == STORED:
            self.server.own(self._mark)

    def lose(self) -> None:
        """The next look finds another process's."""


def run(items: Sequence[Item], now: Now, until: float, *, tries: int | None = TRIES, read: bool = False) -> None:
    """Take `items` through the loop, until each is settled, has an error, or has lost every try.

    `now`: the time is told after each reading. `until`: the `time.monotonic` at which waiting ends. `tries`: `None`
    for as many as there is time for. `read`: what stands under their names was read just now.
    """
    groups: dict[Server, list[Item]] = {}
    for item in items:
        groups.setdefault(item.server, []).append(item)
    talks = [_Talk(server, group, now, until, tries) for server, group in groups.items()]
    try:
        for talk in talks:
            if read:
                talk.decide()
            else:
                talk.ask()
        while talks := [talk for talk in talks if talk.link is not None]:
            _first_answered(talks, until).hear()
    finally:
        for talk in talks:  # Interrupted: a connection that owes an answer is nobody else's.
            talk.abandon()


def fetch(items: Sequence[Item], until: float) -> list[Item]:
    """Read what stands under the names of `items`, all of one server; return those that were read, and its mark."""
    talk = _Talk(items[0].server, items, None, until, None)
    talk.ask()
    return talk.waiting if talk.link is not None and talk.take() else []


class _Talk:
    """One server's items in the loop. While `link` is there, the server owes an answer."""

    def __init__(self, server: Server, items: Sequence[Item], now: Now, until: float, tries: int | None) -> None:
        self.link: Link | None = None
        self.waiting = list(items)
        self._server = server
        self._now = now
        self._until = until
        self._tries = tries
        self._tried = 0
        self._written = False

    def ask(self) -> None:
        """Ask what stands under the names of what waits."""
        if self._server.looks():
            self.waiting.append(_Mark(self._server))
        self._say(gets([item.name for item in self.waiting]))

    def hear(self) -> None:
        """Take the answer that is owed, and say what follows from it."""
        if self._written:
            self._settle()
        elif self.take():
            self.decide()

    def take(self) -> bool:
        """Take what was read; return whether it was."""
        found: dict[bytes, Found] = {}
        error = self._heard(lambda link: link.values(found, self._until))
        if error is not None:
            self._fail(error)
            return False
        for item in self.waiting:
            item.found = found.get(item.name)
        return True

    def decide(self) -> None:
        """Decide on what was read, and write what changes."""
        self._tried += 1
        at = time_ns() // 1000 if self._now is None else tell(self._now)
        changes = [(item, change) for item in self.waiting if (change := item.decide(at)) is not None]
        self.waiting = [item for item, _ in changes]
        if changes:
            self._written = True
            self._say(b"".join([change for _, change in changes]))

    def abandon(self) -> None:
        """Close a connection whose answer nobody will hear."""
        if self.link is not None:
            self.link.close()

    def _settle(self) -> None:
        """Take the answers to the writes; what lost is tried again."""
        written = self.waiting
        told: list[bytes] = []
        error = self._heard(lambda link: link.lines(told, len(written), self._until))
        self._written = False
        self.waiting = []
        for item, answer in zip(written, told, strict=False):
            if answer in LOST:
                self.waiting.append(item)
                continue
            if answer == STORED:
                self._server.breaker.decided()
            else:
                self._server.breaker.refused(shown(answer))
            item.settle(answer)
        if error is not None:
            self.waiting += written[len(told) :]  # Whether they were written is not known.
            self._fail(error)
        elif self.waiting:
            self._try_again()

    def _try_again(self) -> None:
        if self._tried != self._tries and _pause(self._tried, self._until):
            self.ask()
            return
        for item in self.waiting:
            item.lose()

    def _say(self, data: bytes) -> None:
        """Send, unless the server's breaker is open."""
        breaker = self._server.breaker
        if breaker.error is not None:
            self._fail(breaker.error)
            return
        link = self._server.take()
        try:
            link.send(data, self._until)
        except BackendError as error:
            breaker.failed(error)
            self._fail(error)
        else:
            self.link = link

    def _heard(self, read: Callable[[Link], None]) -> BackendError | None:
        """Hear an answer with `read`; return why none came."""
        link, self.link = cast(Link, self.link), None
        try:
            read(link)
        except BackendError as error:
            self._server.breaker.failed(error)
            return error
        self._server.breaker.answered()
        self._server.give(link)
        return None

    def _fail(self, error: BackendError) -> None:
        for item in self.waiting:
            item.error = error
        self.waiting = []


def _first_answered(talks: Sequence[_Talk], until: float) -> _Talk:
    """Return the talk whose server answers first; any of them where none does in time."""
    if len(talks) == 1:
        return talks[0]
    with selectors.DefaultSelector() as selector:
        for talk in talks:
            selector.register(cast(Link, talk.link), selectors.EVENT_READ, talk)
        answered = selector.select(max(until - monotonic(), 0))
    return answered[0][0].data if answered else talks[0]


def _pause(tried: int, until: float) -> bool:
    """Wait for a random moment before another try; return whether there is time for one."""
    rest = random.uniform(0, min(PAUSE * 2**tried, LONGEST_PAUSE))  # noqa: S311  # It only spreads the tries.
    if monotonic() + rest >= until:
        return False
    sleep(rest)
    return True
