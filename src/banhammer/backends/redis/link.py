"""Connections to one server, each used by one call at a time, and what redis-py's errors mean.

A call is a pipeline on one connection. A connection that may still owe an answer is closed, so that no reply ever
reaches another caller.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from time import monotonic
from typing import Any, Final

from hiredis import pack_command
from redis.exceptions import BusyLoadingError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

from banhammer.backends.redis.settings import Address, Settings
from banhammer.errors import BackendError, BackendTimeout

Command = tuple[Any, ...]
Answer = Any
"""A reply as it came, undecoded; an error that the server answered is a `ResponseError` value."""

LEAST_WAIT: Final = 0.001
"""Seconds that a socket is given even when the time is up, since 0 would mean for ever."""
AWAY: Final = ("LOADING", "BUSY", "MASTERDOWN")
"""Answers of a server that is there and decides nothing for now, not even what a `PING` is worth."""
STALE_AFTER: Final = 0.5
"""Seconds after which an idle connection is looked at before it is used: its server may have restarted."""


class Link:
    """One connection for threads, made anew after a failure."""

    def __init__(self, settings: Settings, address: Address | None, *, sentinel: bool = False) -> None:
        self._settings = settings
        self._address = address
        self._sentinel = sentinel
        self.home: deque[Link] | None = None
        self._idle: Any = None
        self._busy: Any = None
        self._used = 0.0

    def send(self, commands: Sequence[Command], until: float) -> None:
        """Put `commands` on the wire. `until`: the `time.monotonic` at which waiting ends with `BackendTimeout`."""
        connection, self._idle = self._idle, None
        try:
            if connection is not None and monotonic() - self._used > STALE_AFTER and _stale(connection):
                connection.disconnect()
                connection = None
            if connection is None:
                connection = self._settings.connection(self._address, _left(until), aio_=False, sentinel=self._sentinel)
                connection.connect()
                if monotonic() >= until:
                    raise TimeoutError  # noqa: TRY301  # As if connecting had: nothing was sent, nothing is counted.
            connection._sock.settimeout(_left(until))
            connection.send_packed_command(_packed(commands), check_health=False)
        except BaseException as error:
            if connection is not None:
                connection.disconnect()
            raise_translated(error)
        self._busy = connection

    def receive(self, count: int, until: float) -> list[Answer]:
        """Return the replies to the `count` commands that were sent."""
        connection, self._busy = self._busy, None
        try:
            answers = [self._read(connection, until) for _ in range(count)]
        except BaseException as error:
            connection.disconnect()
            raise_translated(error)
        self._idle = connection
        self._used = monotonic()
        return answers

    def close(self) -> None:
        """Close the connection."""
        for connection in (self._idle, self._busy):
            if connection is not None:
                connection.disconnect()
        self._idle = self._busy = None

    @staticmethod
    def _read(connection: Any, until: float) -> Answer:
        try:
            return connection.read_response(disable_decoding=True, timeout=_left(until), disconnect_on_error=False)
        except (ResponseError, BusyLoadingError) as error:
            return error


class AsyncLink:
    """One connection for the tasks of one event loop, made anew after a failure."""

    def __init__(self, settings: Settings, address: Address | None, *, sentinel: bool = False) -> None:
        self._settings = settings
        self._address = address
        self._sentinel = sentinel
        self.home: deque[AsyncLink] | None = None
        self._idle: Any = None
        self._used = 0.0

    async def ask(self, commands: Sequence[Command], until: float) -> list[Answer]:
        """Send `commands` and return their replies, until the `time.monotonic` of `until`."""
        connection, self._idle = self._idle, None
        try:
            async with asyncio.timeout(_left(until)):
                if connection is not None and monotonic() - self._used > STALE_AFTER and await _is_stale(connection):
                    await _drop(connection)
                    connection = None
                if connection is None:
                    connection = self._settings.connection(
                        self._address, _left(until), aio_=True, sentinel=self._sentinel
                    )
                    await connection.connect()
                    connection.socket_timeout = None  # The time is kept here; redis-py would make a task of each send.
                await connection.send_packed_command(_packed(commands), check_health=False)
                answers = [await self._read(connection) for _ in commands]
        except BaseException as error:
            if connection is not None:
                await _drop(connection)
            raise_translated(error)
        self._idle = connection
        self._used = monotonic()
        return answers

    async def close(self) -> None:
        """Close the connection."""
        connection, self._idle = self._idle, None
        if connection is not None:
            await _drop(connection)

    @staticmethod
    async def _read(connection: Any) -> Answer:
        try:
            return await connection.read_response(disable_decoding=True, timeout=math.inf, disconnect_on_error=False)
        except (ResponseError, BusyLoadingError) as error:
            return error


def is_away(answer: Answer) -> bool:
    """Return whether an answer says that its server is as good as away."""
    return isinstance(answer, RedisError) and (answer.status_code or str(answer).partition(" ")[0]) in AWAY


def raise_translated(error: BaseException) -> None:
    """Raise the `BackendError` that `error` means; a cancellation or an interrupt goes on as it is."""
    if isinstance(error, (RedisTimeout, TimeoutError)):
        raise BackendTimeout("the store did not answer in time") from error
    if isinstance(error, Exception):  # Also what an application's source of passwords raises.
        raise BackendError(f"the store cannot be asked: {error}") from error
    raise error


def _packed(commands: Sequence[Command]) -> list[bytes]:
    return [b"".join([pack_command(command) for command in commands])]


def _stale(connection: Any) -> bool:
    """Return whether a connection was closed by its server, or has something to say that nobody asked for."""
    try:
        return bool(connection.can_read(timeout=0))
    except (RedisError, OSError):
        return True


async def _drop(connection: Any) -> None:
    """Close a connection of an event loop at once: a polite end over TLS waits 30 s for a server that is silent."""
    writer = getattr(connection, "_writer", None)
    if writer is not None:
        writer.transport.abort()
    await connection.disconnect(nowait=True)


async def _is_stale(connection: Any) -> bool:
    try:
        return bool(await connection.can_read())
    except (RedisError, OSError):
        return True


def _left(until: float) -> float:
    return max(until - monotonic(), LEAST_WAIT)
