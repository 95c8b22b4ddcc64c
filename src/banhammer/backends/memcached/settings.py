"""Where a Memcached store is and how a connection to it is made, read from its URL or from an application's client.

pymemcache connects; its clients' own rules for servers that are away are not used: they would give a server's keys to
another one, which knows nothing of their bans.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from pymemcache.client.base import Client, PooledClient
from pymemcache.client.hash import HashClient
from pymemcache.client.retrying import RetryingClient

from banhammer.backends import query
from banhammer.errors import ConfigError

Address = tuple[str, int] | str
"""A host and a port, or the path of a unix socket."""

DEFAULT_PORT: Final = 11211
MOST_SHARES: Final = 1_000_000
_TAKEN: Final = ("socket_module", "socket_keepalive", "tls_context")
"""What connections take from an application's client; waiting is decided here."""


class Settings:
    """A store's servers and what its connections are made with; nothing connects before it is asked."""

    def __init__(self, addresses: Sequence[Address], options: dict[str, Any] | None = None) -> None:
        self.addresses = tuple(dict.fromkeys(addresses))
        self._options = options or {}

    def client(self, address: Address, timeout: float) -> Any:
        """Return a client that is not connected yet; `timeout` in seconds."""
        return Client(address, connect_timeout=timeout, timeout=timeout, no_delay=True, **self._options)


def name_of(address: Address) -> str:
    """Return an address as `HashClient` names it, so that both choose the same server for a key."""
    return address if isinstance(address, str) else f"{address[0]}:{address[1]}"


def from_url(url: str) -> tuple[Settings, dict[str, Any]]:
    """Return what a URL says of the store, and the backend's own settings in its query. Raises `ConfigError`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigError("backend: the URL cannot be read; write memcached://host:port,host:port") from None
    if "@" in parts.netloc:
        raise ConfigError("backend: memcached:// takes no user and no password; write memcached://host:port")
    if parts.path.strip("/") or parts.fragment:
        raise ConfigError("backend: memcached:// takes hosts only; write memcached://host:port,host:port")
    addresses = [_address(text) for text in parts.netloc.split(",") if text]
    if not addresses:
        raise ConfigError(f"backend: memcached:// names no host; write memcached://host:{DEFAULT_PORT}")
    return Settings(addresses), query(f"?{parts.query}", _OWN)


def from_client(client: Any) -> Settings:
    """Return how an application's own client reaches its servers. Raises `ConfigError`."""
    if isinstance(client, RetryingClient):
        client = client._client
    if isinstance(client, HashClient):
        one = list(client.clients.values())
        if not one:
            raise ConfigError("backend: the HashClient has no server; give it one")
        return Settings([each.server for each in one], _taken(client.default_kwargs))
    if isinstance(client, PooledClient):
        client = client._create_client()  # Its settings are in there; it does not connect.
    return Settings([client.server], _taken(vars(client)))


def checked_share(share: int | None) -> int:
    """Return the `local_share` that was given in code, 1 by default. Raises `ConfigError`."""
    if share is None:
        return 1
    if share.__class__ is not int or not 1 <= share <= MOST_SHARES:
        raise ConfigError(f"backend: local_share={share!r}; it must be an integer from 1 to {MOST_SHARES:,}")
    return share


def _taken(options: dict[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in _TAKEN if options.get(name) is not None}


def _address(text: str) -> Address:
    try:
        found = urlsplit(f"//{text}")
        host, port = found.hostname, found.port
    except ValueError:
        host = port = None
    if not host:
        raise ConfigError(f"backend: a host is no host:port; write host:{DEFAULT_PORT}")
    host = text.removeprefix("[")[: len(host)]  # In its own case: `HashClient` takes it as it was written.
    return host, DEFAULT_PORT if port is None else port


def _whole(text: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= most:
        raise ValueError(f"write a whole number from 1 to {most:,}")
    return int(text)


_OWN: Final = {"local_share": partial(_whole, most=MOST_SHARES)}
