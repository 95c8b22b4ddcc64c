"""One POST over a fresh connection: to an address that was judged, within one deadline, following nothing.

The standard library's client is enough: it follows no redirects, reads no proxy settings, and speaks over the socket
that it is given, so that what is connected to is the very address that was judged.
"""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import closing
from http.client import HTTPConnection
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, cast

from banhammer.errors import GiveUp
from banhammer_webhook.settings import Settings

Resolve = Callable[[str, int], Iterable[str]]
"""What finds the addresses of a host and port, as texts."""

MAX_ANSWER: Final = 16 * 1024
"""Bytes of an answer that are read at most, give or take a buffer; of its body, none is asked for."""
_GLOBAL: Final = ip_network("2000::/3")
_NAT64: Final = ip_network("64:ff9b::/96")
_SPECIAL: Final = tuple(ip_network(text) for text in ("192.0.0.0/24", "2001::/23", "2002::/16", "3fff::/20"))
"""Protocols, tunnels and documentation, which releases of Python judge differently."""


def addresses(host: str, port: int) -> list[str]:
    """Return what the system's resolver says."""
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def is_public(text: str) -> bool:
    """Return whether an address is one of the public Internet, and so is the IPv4 address that it stands for."""
    address: IPv4Address | IPv6Address | None = ip_address(text)
    if isinstance(address, IPv6Address):
        if address in _NAT64:
            address = IPv4Address(address.packed[-4:])
        else:
            address = address.ipv4_mapped or (address if address in _GLOBAL else None)
    if address is None or any(address in network for network in _SPECIAL):
        return False
    return address.is_global and not address.is_multicast


def post(
    settings: Settings, context: ssl.SSLContext | None, resolve: Resolve, headers: Mapping[str, str], body: bytes
) -> tuple[int, str]:
    """Send `body` and return the answer's status and its Retry-After, empty without one.

    `context` is what TLS needs, `None` for plain HTTP. Raises `GiveUp` where every address is private and that is
    not allowed; `OSError`, `HTTPException` or `ValueError` (a host that cannot be a name) where no answer came,
    `TimeoutError` where none came in time.
    """
    deadline = _Deadline(settings.timeout)
    found = list(dict.fromkeys(_look_up(resolve, settings, deadline)))
    permitted = [address for address in found if settings.allow_private or is_public(address)]
    if found and not permitted:
        raise GiveUp(f"{settings.origin} is at a private address, {found[0]!r}; set allow_private = true if it may be")
    with closing(_connect(permitted, settings, deadline)) as plain:
        plain.settimeout(deadline.left())
        with context.wrap_socket(plain, server_hostname=settings.host) if context else plain as sock:
            connection = HTTPConnection(settings.host, settings.port)
            connection.default_port = 443 if context else 80  # The header Host leaves it out.
            connection.sock = cast(socket.socket, _Timed(sock, deadline))
            connection.request("POST", settings.target, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Retry-After", "")


class _Deadline:
    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class _Timed(io.RawIOBase):
    """A socket as the client of HTTP uses it, each step within what is left of the deadline."""

    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self._sock = sock
        self._deadline = deadline
        self._room = MAX_ANSWER

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # Narrower than any buffer.
        if self._room <= 0:
            raise OSError(f"the answer's headers are longer than {MAX_ANSWER} bytes")
        self._sock.settimeout(self._deadline.left())
        count = self._sock.recv_into(buffer)
        self._room -= count
        return count

    def sendall(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._sock.settimeout(self._deadline.left())
            rest = rest[self._sock.send(rest) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)


def _look_up(resolve: Resolve, settings: Settings, deadline: _Deadline) -> list[str]:
    """Ask the resolver in a thread of its own: the system's knows no timeout."""
    future: Future[list[str]] = Future()

    def work() -> None:
        try:
            future.set_result([str(ip_address(text)) for text in resolve(settings.host, settings.port)])
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=work, name="banhammer-webhook", daemon=True).start()
    return future.result(deadline.left())


def _connect(found: list[str], settings: Settings, deadline: _Deadline) -> socket.socket:
    """Connect to the first address that answers; each gets its share of the time that is left."""
    failure: OSError = OSError("the name has no address")
    for index, address in enumerate(found):
        try:
            sock = socket.create_connection((address, settings.port), deadline.left() / (len(found) - index))
        except OSError as error:
            failure = error
            continue
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # The body must not wait for the headers' receipt.
        return sock
    raise failure
