"""TLS: one context for the connections of a store.

redis-py makes a context for each connection, which takes tens of milliseconds of the deadline of a call.
"""

from __future__ import annotations

from collections.abc import Callable
from ssl import SSLContext
from time import monotonic
from typing import Any, Final

from redis import connection as sync

KEPT: Final = 600.0
"""Seconds after which a context is made anew: certificates are renewed while an application runs."""


class TlsConnection(sync.SSLConnection):
    """redis-py's connection for threads, with the context that it is given; without one it makes its own."""

    context: SSLContext | None = None

    def _wrap_socket_with_ssl(self, sock: Any) -> Any:
        if self.context is None:
            return super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
        return self.context.wrap_socket(sock, server_hostname=self.host)


class SharedContext:
    """The context of connections that are made alike. `make` returns a connection for asyncio, which knows how."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._renew()  # Now: the first call has no time for it.

    def _renew(self) -> None:
        self._made = monotonic()
        self._context: SSLContext | None
        try:
            self._context = self._make().ssl_context.get()
        except OSError:  # An SSLError is one too: the next connection complains of it.
            self._context = None

    def give(self, connection: Any) -> None:
        """Let a connection use the context."""
        if self._context is None or monotonic() - self._made >= KEPT:
            self._renew()
        if isinstance(connection, TlsConnection):
            connection.context = self._context
        else:
            connection.ssl_context.context = self._context
