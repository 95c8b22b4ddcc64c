"""One connection to one server, used by one call at a time, and what its errors mean.

A connection that may still owe an answer is closed, so that no reply ever reaches another caller. On a plain socket the
system ends a wait: Python's own timeout asks it twice for each, and lets other threads in between every time.
"""

from __future__ import annotations

import socket
import ssl
import struct
import sys
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, NoReturn

from banhammer.backends.memcached.settings import Address, Settings
from banhammer.backends.memcached.wire import Broken, Found, read_lines, read_values
from banhammer.errors import BackendError, BackendTimeout

CHUNK: Final = 1 << 16
LEAST_WAIT: Final = 0.001
"""Seconds that a socket is given even when the time is up, since 0 would mean not to wait at all."""
STALE_AFTER: Final = 0.5
"""Seconds after which an idle connection is looked at before it is used: its server may have restarted."""


class Link:
    """One connection, made anew after a failure. `until`: the `time.monotonic` at which waiting ends."""

    def __init__(self, settings: Settings, address: Address) -> None:
        self._settings = settings
        self._address = address
        self.home: deque[Link] | None = None
        self._client: Any = None
        self._used = 0.0

    def send(self, data: bytes, until: float) -> None:
        """Put commands on the wire. Raises `BackendError`."""
        try:
            client = self._client
            if client is not None and monotonic() - self._used > STALE_AFTER and _stale(client.sock):
                self.close()
                client = None
            if client is None:
                client = self._client = self._settings.client(self._address, max(until - monotonic(), LEAST_WAIT))
                client._connect()
                if monotonic() >= until:
                    raise TimeoutError  # noqa: TRY301  # As if connecting had: nothing was sent, nothing is counted.
                if _is_plain(client.sock):
                    client.sock.settimeout(None)
            _limit(client.sock, socket.SO_SNDTIMEO, until)
            client.sock.sendall(data)
        except BaseException as error:
            self._fail(error)

    def values(self, found: dict[bytes, Found], until: float) -> None:
        """Put into `found` what stands under the names that were asked for. Raises `BackendError`."""
        self._hear(lambda buffer: read_values(buffer, found), until)

    def lines(self, told: list[bytes], count: int, until: float) -> None:
        """Put the answers to `count` commands into `told`, each as soon as it is known. Raises `BackendError`."""
        self._hear(lambda buffer: read_lines(buffer, told, count), until)

    def fileno(self) -> int:
        """Return the file descriptor, by which the system tells that an answer has come."""
        return int(self._client.sock.fileno())

    def close(self) -> None:
        """Close the connection."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def _hear(self, take: Callable[[bytes], tuple[int, bool]], until: float) -> None:
        """Hear a whole answer: `take` tells what it has taken of what came, and whether that was all."""
        buffer = b""
        try:
            while True:
                buffer += self._receive(until)
                taken, whole = take(buffer)
                buffer = buffer[taken:]
                if whole:
                    break
                if monotonic() >= until:  # A server that never ends what it says holds nobody longer.
                    raise TimeoutError  # noqa: TRY301
            if buffer:
                raise Broken(f"{len(buffer)} bytes more than was asked for")  # noqa: TRY301
        except BaseException as error:
            self._fail(error)
        self._used = monotonic()

    def _receive(self, until: float) -> bytes:
        sock = self._client.sock
        _limit(sock, socket.SO_RCVTIMEO, until)
        data: bytes = sock.recv(CHUNK)
        if not data:
            raise ConnectionError("the server closed the connection")
        return data

    def _fail(self, error: BaseException) -> NoReturn:
        """Close the connection and raise the `BackendError` that `error` means; an interrupt goes on as it is."""
        self.close()
        if isinstance(error, (TimeoutError, BlockingIOError)):  # The latter is what the system's own limit raises.
            raise BackendTimeout("the store did not answer in time") from error
        if isinstance(error, Broken):
            raise BackendError(f"the store refused: {error}") from error
        if isinstance(error, Exception):
            raise BackendError(f"the store cannot be asked: {error}") from error
        raise error


def _stale(sock: Any) -> bool:
    """Return whether a connection was closed by its server, or has something to say that nobody asked for."""
    sock.settimeout(0)
    try:
        sock.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        sock.settimeout(None)
        return False
    except OSError:
        pass
    return True


def _is_plain(sock: Any) -> bool:
    """Return whether the system itself can limit how long a socket waits: not one with TLS, or of another library."""
    return type(sock) is socket.socket and sys.platform != "win32"


def _limit(sock: Any, option: int, until: float) -> None:
    """Have a socket wait no longer than `until`; `option` is the system's limit for sending or for receiving."""
    left = max(until - monotonic(), LEAST_WAIT)
    if _is_plain(sock):
        sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(left), int(left % 1 * 1e6)))
    else:
        sock.settimeout(left)
