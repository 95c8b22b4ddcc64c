"""One server of the store: its breaker, its connections that nobody uses, and the mark by which its life is known."""

from __future__ import annotations

import logging
from collections import deque
from contextlib import suppress
from time import monotonic
from typing import Final, cast
from uuid import uuid4

from banhammer.backends.breaker import Breaker
from banhammer.backends.memcached.link import Link
from banhammer.backends.memcached.settings import Address, Settings, name_of
from banhammer.errors import BackendError

log = logging.getLogger("banhammer")

LOOK_EVERY: Final = 1.0
"""Seconds between two looks at a server's mark."""


class Server:
    """One server of the store."""

    def __init__(self, settings: Settings, address: Address) -> None:
        self.name = name_of(address)
        self.breaker = Breaker(self.name)
        self._settings = settings
        self._address = address
        self._idle: deque[Link] = deque()
        self._mark: bytes | None = None
        self._looked = 0.0

    def take(self) -> Link:
        """Return a connection for the caller alone."""
        home = self._idle
        try:
            link = home.pop()
        except IndexError:
            link = Link(self._settings, self._address)
        link.home = home
        return link

    def give(self, link: Link) -> None:
        """Take back a connection that owes no answer; where this was closed meanwhile, it is closed too."""
        home = cast("deque[Link]", link.home)
        home.append(link)
        if home is not self._idle:  # Asked only now: nobody can close between the question and the answer.
            _close_all(home)

    def close(self) -> None:
        """Close the connections that nobody uses."""
        idle, self._idle = self._idle, deque()
        _close_all(idle)

    def tell(self, command: bytes, until: float) -> None:
        """Say what is answered with one line, whatever it says. Raises `BackendError`."""
        link = self.take()
        try:
            link.send(command, until)
            link.lines([], 1, until)
        except BackendError as error:
            self.breaker.failed(error)
            raise
        self.breaker.answered()
        self.give(link)

    def looks(self) -> bool:
        """Return whether it is time to look at the server's mark again."""
        now = monotonic()
        if now - self._looked < LOOK_EVERY:
            return False
        self._looked = now
        return True

    def see(self, mark: bytes | None) -> bytes | None:
        """Take the mark that was found; return one to put where none is. A mark that is gone is reported once."""
        known, self._mark = self._mark, mark
        if known is not None and known != mark:
            log.warning("store %s has lost what it held (restarted, flushed or full): limits begin anew", self.name)
        if mark is not None:
            return None
        return uuid4().hex.encode()

    def own(self, mark: bytes) -> None:
        """Take note that the mark was put there by this process."""
        self._mark = mark


def _close_all(idle: deque[Link]) -> None:
    with suppress(IndexError):  # Two threads may close the same ones.
        while True:
            idle.pop().close()
