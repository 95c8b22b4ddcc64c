"""One document into a capped stream of Redis, which other systems read."""

from __future__ import annotations

from typing import Any, Final

from banhammer.errors import BanhammerError, ConfigError
from banhammer.urls import redact, redact_message

SCHEMES: Final = ("redis", "rediss", "redis+unix")
TIMEOUT: Final = 2.0
"""Seconds that connecting and the answer may take."""
FIELD: Final = b"escalation"


class Stream:
    """The stream `name` at `url`, which keeps about `max_len` entries: the newest. It connects when it sends.

    Raises `ConfigError` where the URL cannot be read, or redis-py is not installed.
    """

    def __init__(self, url: str, name: str, max_len: int) -> None:
        self._url = url
        self._shown = redact(url)
        self._name = name
        self._max_len = max_len
        self._client = self._opened()

    def __repr__(self) -> str:
        return f"Stream({self._shown!r}, name={self._name!r}, max_len={self._max_len})"

    def send(self, document: str, id_: str) -> None:
        """Append `document`, which holds its own id, in the field `escalation`. Raises `BanhammerError`."""
        from redis.exceptions import RedisError

        try:
            self._client.xadd(self._name, {FIELD: document}, maxlen=self._max_len, approximate=True)
        except (RedisError, OSError) as error:
            raise BanhammerError(f"{self._shown}: {redact_message(str(error), self._url)}") from error

    def _opened(self) -> Any:
        scheme = self._url.partition("://")[0].lower()
        if scheme not in SCHEMES:
            raise ConfigError(f"stream: {self._shown!r}; write redis://host:6379/0, rediss:// or redis+unix://")
        try:
            import redis
        except ImportError as error:
            raise ConfigError(
                f'stream: {self._shown!r} needs a package; pip install "banhammer-limiter[redis]"'
            ) from error
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        place = f"{scheme.replace('redis+', '')}{self._url[len(scheme) :]}"
        try:
            pool = redis.ConnectionPool.from_url(place)
            # Whatever the URL says: an action waits briefly, and it is the worker that tries again.
            pool.connection_kwargs |= {
                "socket_timeout": TIMEOUT,
                "socket_connect_timeout": TIMEOUT,
                "retry": Retry(NoBackoff(), 0),
                "driver_info": None,
                "protocol": 2,
            }
            pool.connection_class(**pool.connection_kwargs)  # It connects later, and says now what it does not know.
        except (ValueError, TypeError):
            # Not the reason: it may quote a part of a password.
            raise ConfigError(f"stream: {self._shown!r} cannot be read; write redis://host:6379/0") from None
        return redis.Redis(connection_pool=pool)
