"""One server of the store: whether it may be asked, and its connections that nobody uses."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, Final
from weakref import WeakKeyDictionary

from banhammer.backends.breaker import Breaker
from banhammer.backends.redis.link import Answer, AsyncLink, Command, Link, is_away
from banhammer.backends.redis.settings import Address, Settings
from banhammer.errors import BackendError, BackendTimeout

ASKED_ANEW: Final = 1.0
"""Seconds after which a server that owes the answer to a probe, or to who connects, is asked on a new connection."""


class Server:
    """One server of the store: whether it may be asked, and its connections that nobody uses."""

    def __init__(self, settings: Settings, address: Address | None, *, sentinel: bool = False) -> None:
        self.address = address
        where = address or (settings.addresses[0] if settings.addresses else ("unix socket", 0))
        self.breaker = Breaker(f"{where[0]}:{where[1]}" if where[1] else where[0])
        self._settings = settings
        self._sentinel = sentinel
        self._idle: deque[Link] = deque()
        self._asked: tuple[Link, float] | None = None
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _Loop] = WeakKeyDictionary()

    def take(self) -> Link:
        """Return a connection for the caller alone."""
        home = self._idle
        try:
            link = home.pop()
        except IndexError:
            link = Link(self._settings, self.address, sentinel=self._sentinel)
        link.home = home
        return link

    def give(self, link: Link) -> None:
        """Take back a connection; one that owes an answer, or was taken before this was closed, is closed."""
        if link.owes or link.home is None:
            link.close()
            return
        home = link.home
        home.append(link)
        if home is not self._idle:  # Asked only now: nobody can close between the question and the answer.
            _close_all(home)

    def take_async(self) -> AsyncLink:
        """Return a connection of this event loop for the caller alone."""
        idle = self._of_loop().idle
        link = idle.pop() if idle else AsyncLink(self._settings, self.address, sentinel=self._sentinel)
        link.home = idle
        return link

    async def give_async(self, link: AsyncLink) -> None:
        """Take back a connection that owes no answer; where this was closed meanwhile, it is closed too."""
        found = self._loops.get(asyncio.get_running_loop())
        if found is not None and link.home is found.idle:
            found.idle.append(link)
        else:
            await link.close()

    def heard(self, answers: Sequence[Answer]) -> None:
        """Tell the breaker of answers, unless all that one says is that the server is away."""
        if not any(map(is_away, answers)):
            self.breaker.answered()

    def probe(self, question: Command, until: float) -> None:
        """Ask a server that is away whether it is back, as only an answer by `until` says; for the keeper alone.

        A question stays open over several rounds, as does a connection that was not made in time: one that hangs need
        not come back to a heap of them, and to make one takes the interpreter from the callers for a millisecond.
        """
        now = monotonic()
        if self._asked is not None and now - self._asked[1] > ASKED_ANEW:
            self.unask()
            _close_all(self._idle)  # As old as that one, and perhaps as dead.
        asked, self._asked = self._asked, None  # Out of reach meanwhile: a keeper that ends may overlap with the next.
        link = asked[0] if asked is not None else self.take()
        try:
            if asked is not None:
                if link.error is not None or link.waits(until):
                    self._asked = asked
                    return
                link.receive(1, until)  # Too late to say anything.
            link.send([question], until)
            if link.waits(until):
                self._asked = link, now
                return
            answers = link.receive(1, until)
        except BackendTimeout:
            self._asked = asked or (link, now)
            return
        except BackendError:
            return
        self.heard(answers)
        self.give(link)

    def unask(self) -> None:
        """Close the connection on which an answer to `probe` is still to come: nobody needs it any more."""
        asked, self._asked = self._asked, None
        if asked is not None:
            asked[0].close()

    def close(self) -> None:
        """Close the connections of threads that nobody uses."""
        self.unask()
        idle, self._idle = self._idle, deque()
        _close_all(idle)

    async def aclose(self) -> None:
        """Close the connections of this event loop that nobody uses."""
        found = self._loops.pop(asyncio.get_running_loop(), None)
        while found is not None and found.idle:
            await found.idle.pop().close()

    def abandon(self) -> list[object]:
        """Forget every connection without a word on the wire, and return them: in a forked child they are not ours."""
        left: list[object] = [*self._idle, self._asked, *self._loops.values()]
        self._idle = deque()
        self._asked = None
        self._loops = WeakKeyDictionary()
        return left

    def _of_loop(self) -> _Loop:
        loop = asyncio.get_running_loop()
        found = self._loops.get(loop)
        if found is None:
            forget_closed(self._loops)
            found = self._loops[loop] = _Loop(self._end_of_loop())
        return found

    async def _end_of_loop(self) -> AsyncGenerator[None, None]:
        """Close the loop's connections when it closes its generators, as `asyncio.run` does at its end."""
        try:
            yield
        finally:
            await self.aclose()


def _close_all(idle: deque[Link]) -> None:
    with suppress(IndexError):  # Two threads may close the same ones.
        while True:
            idle.pop().close()


def forget_closed(loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Any]) -> None:
    """Drop what is kept of loops that ended without a word: it would keep them, and their connections, alive."""
    for reference in loops.keyrefs():  # A copy: other threads' loops come and go meanwhile.
        loop = reference()
        if loop is not None and loop.is_closed():
            loops.pop(loop, None)


class _Loop:
    """The connections of one event loop that nobody uses, and the generator whose end is the loop's."""

    __slots__ = ("_end", "idle")

    def __init__(self, end: AsyncGenerator[None, None]) -> None:
        self.idle: deque[AsyncLink] = deque()
        self._end = end
        with suppress(StopIteration):
            end.__anext__().__await__().__next__()  # It yields at once: from now on the loop knows it.
