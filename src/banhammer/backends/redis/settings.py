"""Where a Redis store is and how a connection to it is made, read from its URL or from an application's client.

redis-py's connections are used without its clients: their retries could count a hit twice, and their pools fail at a
few hundred tasks.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

import redis.asyncio.connection as aio
from redis import connection as sync
from redis.asyncio.retry import Retry as AioRetry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from banhammer.backends import query as own_settings
from banhammer.backends.redis.tls import SharedContext, TlsConnection
from banhammer.errors import ConfigError

Address = tuple[str, int]

DEFAULT_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
CLUSTER_PARTITIONS: Final = 16
CERTIFICATES: Final = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile")
SIGNS: Final = "write the signs / # ? @ of a password as %2F %23 %3F %40, and settings as ?name=value"
SENTINEL_LOGIN: Final = ("sentinel_username", "sentinel_password")

_TWINS: Final[dict[type, tuple[Any, Any]]] = {
    sync.Connection: (aio.Connection, sync.Connection),
    sync.SSLConnection: (aio.SSLConnection, TlsConnection),
    sync.UnixDomainSocketConnection: (aio.UnixDomainSocketConnection, sync.UnixDomainSocketConnection),
}
"""The connection for event loops and that for threads."""
_OURS: Final = (
    "connection_class", "decode_responses", "driver_info", "event_dispatcher", "health_check_interval",
    "himport_registry", "host", "legacy_responses", "lib_name", "lib_version", "maint_notifications_config",
    "maint_notifications_pool_handler", "oss_cluster_maint_notifications_handler", "parser_class", "port", "protocol",
    "redis_connect_func", "response_callbacks", "retry", "retry_on_error", "retry_on_timeout", "socket_connect_timeout",
    "socket_timeout", "valkey_connect_func",
)  # fmt: skip
"""What is never taken from elsewhere: waiting, trying again and decoding are decided here."""


class Settings:
    """A store's addresses and what its connections are made with; nothing connects before it is asked.

    `cluster`: its slots are asked of any node. `service`: the name under which Sentinels know the master.
    """

    def __init__(
        self,
        addresses: list[Address],
        options: Mapping[str, Any],
        *,
        kind: type = sync.Connection,
        cluster: bool = False,
        service: str = "",
        sentinel_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.addresses = addresses
        self.cluster = cluster
        self.service = service
        self._kind = kind
        self._options = {name: value for name, value in options.items() if name not in _OURS}
        self._sentinel_options = {name: value for name, value in (sentinel_options or {}).items() if name not in _OURS}
        self._contexts: dict[bool, SharedContext] = {}
        try:
            self.connection(None, 1.0, aio_=False, sentinel=bool(service))
            self.connection(None, 1.0, aio_=True, sentinel=False)
        except TypeError as error:
            raise ConfigError(f"backend: {_unknown(error, kind)}") from None
        except (RedisError, ValueError) as error:
            raise ConfigError(f"backend: {error}") from None
        if kind is sync.SSLConnection:
            for sentinel in {False, bool(service)}:
                self._contexts[sentinel] = SharedContext(partial(self._made, None, 1.0, aio_=True, sentinel=sentinel))

    @property
    def partitions(self) -> int:
        """How many partitions the keys are dealt to unless the URL says."""
        return CLUSTER_PARTITIONS if self.cluster else 1

    def connection(self, address: Address | None, timeout: float, *, aio_: bool, sentinel: bool) -> Any:
        """Return a connection that is not connected yet, to `address`, by default the first; `timeout` in seconds."""
        made = self._made(address, timeout, aio_=aio_, sentinel=sentinel)
        if sentinel in self._contexts:
            self._contexts[sentinel].give(made)
        return made

    def _made(self, address: Address | None, timeout: float, *, aio_: bool, sentinel: bool) -> Any:
        options = dict(self._sentinel_options if sentinel else self._options)
        if self.addresses:
            options["host"], options["port"] = address or self.addresses[0]
        asyncs, threads = _TWINS[self._kind]
        kind = asyncs if aio_ else threads
        made = kind(**options, socket_timeout=timeout, socket_connect_timeout=timeout, driver_info=None, protocol=2)
        made.retry = (AioRetry if aio_ else Retry)(NoBackoff(), 0)  # Given to it, it is copied: most of the time.
        return made


def from_url(url: str) -> tuple[Settings, dict[str, Any]]:
    """Return what a URL says of the store, and the backend's own settings in its query. Raises `ConfigError`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigError("backend: the URL cannot be read; write scheme://user:password@host:port") from None
    wordless = any(piece and "=" not in piece for piece in parts.query.split("&"))
    if parts.fragment or wordless or (":" in parts.netloc and "@" in parts.path):
        raise ConfigError(f"backend: the URL cannot be read; {SIGNS}")
    try:
        return _read_url(parts)
    except ConfigError:
        if "@" in parts.query:  # What is said of may be a part of a password.
            raise ConfigError(f"backend: the URL cannot be read; {SIGNS}") from None
        raise


def _read_url(parts: SplitResult) -> tuple[Settings, dict[str, Any]]:
    scheme = parts.scheme.lower()
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    own = own_settings("?" + urlencode([pair for pair in pairs if pair[0] in _OWN]), _OWN)
    sentinel = {name.partition("_")[2]: value for name, value in pairs if name in SENTINEL_LOGIN}
    rest = urlencode([pair for pair in pairs if pair[0] not in _OWN and pair[0] not in SENTINEL_LOGIN])
    login, at, hosts = parts.netloc.rpartition("@")
    path = parts.path
    service = ""
    if scheme.endswith("+sentinel"):
        service, path = unquote(path.strip("/")), ""
        if not service:
            raise ConfigError(f"backend: {scheme}:// names no service; write {scheme}://host:{SENTINEL_PORT}/mymaster")
    port = SENTINEL_PORT if service else DEFAULT_PORT
    unix = scheme == "redis+unix"
    if unix and not path:
        raise ConfigError("backend: redis+unix:// names no socket; write redis+unix:///run/redis.sock")
    addresses = [] if unix else [_address(text, port) for text in hosts.split(",") if text]
    if not (unix or addresses):
        raise ConfigError(f"backend: {scheme}:// names no host; write {scheme}://host:{port}")
    place = "unix://" if unix else "rediss://" if scheme.startswith("rediss") else "redis://"
    try:
        options = sync.parse_url(  # type: ignore[no-untyped-call]
            f"{place}{login}{at}{'' if unix else 'localhost'}{path}?{rest}"
        )
    except ValueError as error:
        raise ConfigError(f"backend: {error}") from None
    _check_options("" if unix else path, options)
    kind = options.pop("connection_class", sync.Connection)
    cluster = scheme.endswith("+cluster")
    if cluster and options.get("db"):
        raise ConfigError(f"backend: database {options['db']}: a cluster has database 0 only; leave it out")
    if service:
        shared = {name: value for name, value in options.items() if name.startswith("ssl")}
        sentinel = {**shared, **sentinel}
    settings = Settings(addresses, options, kind=kind, cluster=cluster, service=service, sentinel_options=sentinel)
    return settings, own


def from_client(client: Any) -> Settings:
    """Return how an application's own client (sync or asyncio; single, cluster or Sentinel) reaches its store."""
    nodes = getattr(client, "nodes_manager", None)
    if nodes is not None:
        options = getattr(client, "connection_kwargs", None) or nodes.connection_kwargs
        kind = sync.SSLConnection if _is_tls(options) else sync.Connection
        found = nodes.startup_nodes
        addresses = [(node.host, node.port) for node in (found.values() if isinstance(found, Mapping) else found)]
        return Settings(addresses, _plain(options, kind), kind=kind, cluster=True)
    pool = client.connection_pool
    options = pool.connection_kwargs
    manager = getattr(pool, "sentinel_manager", None)
    if manager is not None:
        first = [each.connection_pool for each in manager.sentinels]
        addresses = [(each.connection_kwargs["host"], each.connection_kwargs["port"]) for each in first]
        kind = sync.SSLConnection if "SSL" in pool.connection_class.__name__ else sync.Connection
        return Settings(
            addresses,
            _plain(options, kind),
            kind=kind,
            service=pool.service_name,
            sentinel_options=_plain(first[0].connection_kwargs, kind),
        )
    if "path" in options:
        socket = sync.UnixDomainSocketConnection
        return Settings([], _plain(options, socket), kind=socket)
    kind = sync.SSLConnection if "SSL" in pool.connection_class.__name__ else sync.Connection
    address = (options.get("host", "localhost"), options.get("port", DEFAULT_PORT))
    return Settings([address], _plain(options, kind), kind=kind)


def checked_settings(**given: int | None) -> dict[str, int]:
    """Return the backend's own settings that were given in code. Raises `ConfigError`."""
    for name, value in given.items():
        if value is not None and (value.__class__ is not int or not 1 <= value <= _MOST[name]):
            raise ConfigError(f"backend: {name}={value!r}; it must be an integer from 1 to {_MOST[name]:,}")
    return {name: value for name, value in given.items() if value is not None}


def _whole(text: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= most:
        raise ValueError(f"write a whole number from 1 to {most:,}")
    return int(text)


_MOST: Final = {"partitions": 1024, "local_share": 1_000_000}
_OWN: Final = {name: partial(_whole, most=most) for name, most in _MOST.items()}


def _address(text: str, port: int) -> Address:
    try:
        found = urlsplit(f"//{text}")
        return found.hostname or "localhost", found.port or port
    except ValueError:
        raise ConfigError(
            f"backend: a host is no host:port with a port up to 65535; write host:{port}, and {SIGNS}"
        ) from None


def _is_tls(options: Mapping[str, Any]) -> bool:
    return bool(options.get("ssl")) or options.get("connection_class") in (sync.SSLConnection, aio.SSLConnection)


def _plain(options: Mapping[str, Any], kind: type) -> dict[str, Any]:
    """Return what a connection of redis-py is made with; the rest is its pool's, or the application's own.

    What only the connection for threads has, and is off there, is left out: it is not known to the other.
    """
    known, awaited = _parameters(kind), _parameters(_TWINS[kind][0])
    return {name: value for name, value in options.items() if name in known and (value or name in awaited)}


def _parameters(kind: type) -> set[str]:
    return {name for base in kind.__mro__ for name in signature(base).parameters}


def _unknown(error: TypeError, kind: type) -> str:
    """Return what to do about a setting that a connection does not take."""
    name = str(error).partition("argument ")[2] or str(error)
    plain = kind is not sync.SSLConnection
    remedy = "write rediss:// for TLS" if plain and name.startswith("'ssl_") else "leave it out"
    return f"{name} is no setting of a connection; {remedy}"


def _check_options(path: str, options: Mapping[str, Any]) -> None:
    """Raise `ConfigError` for a database that is no number, and a certificate that is not there: both are typos."""
    name = path.strip("/")
    if name and not (name.isascii() and name.isdecimal()):
        raise ConfigError(f"backend: database {name!r}; write its number, as in redis://host/0")
    for setting in CERTIFICATES if options.get("connection_class") is sync.SSLConnection else ():
        file = options.get(setting)
        if file is None:
            continue
        kind, there = ("directory", Path.is_dir) if setting == "ssl_ca_path" else ("file", Path.is_file)
        if not there(Path(file)) or not os.access(file, os.R_OK):
            raise ConfigError(f"backend: {setting}={file!r} is no {kind} that can be read; write the path of one")
