"""Connections to one server, each used by one caller at a time, and what redis-py's errors mean.

redis-py makes a connection: it resolves, logs in and speaks TLS. From then on the bytes are read here, which costs half
as much. A connection that may still owe an answer is closed, so that no reply ever reaches another caller, or kept for
that answer alone, as `Server.probe` does. What is said unasked, as no Redis does, ends the connection where it comes
along with an answer, and for tasks at any time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from math import inf
from time import monotonic
from typing import Any, Final, NoReturn

from hiredis import Reader, pack_command
from redis.exceptions import BusyLoadingError, ClusterDownError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from banhammer.backends.redis.settings import Address, Settings
from banhammer.errors import BackendError, BackendTimeout

Command = tuple[Any, ...] | bytes
"""The arguments of a command, or the command as it is sent."""
Answer = Any
"""A reply as it came, undecoded; an error that the server answered is a `RedisError` value."""

LEAST_WAIT: Final = 0.001
"""Seconds that a socket is given even when the time is up, since 0 would mean for ever."""
AWAY: Final = ("LOADING", "BUSY", "MASTERDOWN")
"""Answers of a server that is there and decides nothing for now, not even what a `PING` is worth."""
STALE_AFTER: Final = 0.5
"""Seconds after which an idle connection is looked at before it is used: its server may have restarted."""

_CHUNK: Final = 65_536
_NOTHING: Final = object()


class Link:
    """One connection for threads, from the first `send` until a failure, which is its `error` from then on."""

    def __init__(self, settings: Settings, address: Address | None, *, sentinel: bool = False) -> None:
        self._settings = settings
        self._address = address
        self._sentinel = sentinel
        self.home: deque[Link] | None = None
        self.error: BackendError | None = None
        self._connection: Any = None
        self._socket: Any = None
        self._replies: Any = None
        self._owed = 0
        self._used = 0.0
        self._timeout = inf

    @property
    def owes(self) -> bool:
        """Whether answers are still to come, or never will."""
        return self._owed > 0 or self.error is not None

    def send(self, commands: Sequence[Command], until: float) -> None:
        """Put `commands` on the wire. `until`: the `time.monotonic` at which waiting ends with `BackendTimeout`."""
        try:
            if self._socket is None or (not self._owed and monotonic() - self._used > STALE_AFTER and self._stale()):
                self._connect(until)
            self._owed += len(commands)
            self._allow(until)
            self._socket.sendall(_packed(commands))
        except BaseException as error:
            self._fail(error)

    def receive(self, count: int, until: float) -> list[Answer]:
        """Return the next `count` replies to what was sent."""
        answers: list[Answer] = []
        replies, socket = self._replies, self._socket
        late = False
        try:
            while len(answers) < count:
                answer = replies.gets(False)
                if answer is not _NOTHING:
                    answers.append(_checked(answer))
                    continue
                if late:  # What comes in drops would stretch the deadline for as long as it drips.
                    _give_up()
                late = self._allow(until)
                replies.feed(socket.recv(_CHUNK) or _closed())
        except BaseException as error:
            self._fail(error)
        self._owed -= count
        if not self._owed and replies.has_data():
            self.close()
            self.error = BackendError("the server said something that nobody asked for")
        self._used = monotonic()
        return answers

    def waits(self, until: float) -> bool:
        """Return whether no answer has begun to come by then; unlike after `receive`, it may come later."""
        try:
            self._allow(until)
            self._replies.feed(self._socket.recv(_CHUNK) or _closed())
        except TimeoutError:
            return True
        except BaseException as error:
            self._fail(error)
        return False

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.disconnect()
        self._connection = self._socket = self._replies = None
        self._owed = 0

    def _connect(self, until: float) -> None:
        self.close()
        self._connection = self._settings.connection(self._address, _left(until), aio_=False, sentinel=self._sentinel)
        self._connection.connect()
        self._socket, self._replies = self._connection._sock, _reader(self._connection)
        self._timeout = inf
        if monotonic() >= until:
            raise TimeoutError  # As if connecting had taken too long: nothing was sent, nothing is counted.

    def _allow(self, until: float) -> bool:
        """Let the socket wait until then, to the millisecond: to tell it costs a call of the system.

        Return whether the time is up: then it waits for a moment, for what may have come meanwhile.
        """
        left = until - monotonic()
        if abs(left - self._timeout) > LEAST_WAIT:
            self._timeout = max(left, LEAST_WAIT)
            self._socket.settimeout(self._timeout)
        return left <= 0

    def _fail(self, error: BaseException) -> NoReturn:
        self.close()
        self.error = BackendTimeout("the call was interrupted")
        try:
            _raise_translated(error)
        except BackendError as translated:
            self.error = translated
            raise

    def _stale(self) -> bool:
        """Return whether the connection was closed by its server, or has something to say that nobody asked for."""
        try:
            self._timeout = inf  # Of what redis-py leaves it at, nothing is known.
            return bool(self._connection.can_read(timeout=0))
        except (RedisError, OSError):
            return True


class AsyncLink:
    """One connection for the tasks of one event loop, made anew after a failure."""

    def __init__(self, settings: Settings, address: Address | None, *, sentinel: bool = False) -> None:
        self._settings = settings
        self._address = address
        self._sentinel = sentinel
        self.home: deque[AsyncLink] | None = None
        self._connection: Any = None
        self._inbox: _Inbox | None = None

    async def ask(self, commands: Sequence[Command], until: float) -> list[Answer]:
        """Send `commands` and return their replies, until the `time.monotonic` of `until`."""
        try:
            inbox = self._inbox
            if inbox is None or inbox.spoilt:
                inbox = await self._connect(until)
            return await inbox.ask(_packed(commands), len(commands), until)
        except BaseException as error:
            await self.close()
            _raise_translated(error)

    async def close(self) -> None:
        """Close the connection at once: a polite end over TLS waits 30 s for a server that is silent."""
        connection, self._connection, self._inbox = self._connection, None, None
        if connection is None:
            return
        if connection._writer is not None:
            connection._writer.transport.abort()
        await connection.disconnect(nowait=True)

    async def _connect(self, until: float) -> _Inbox:
        await self.close()
        connection = self._settings.connection(self._address, _left(until), aio_=True, sentinel=self._sentinel)
        self._connection = connection
        async with asyncio.timeout(_left(until)):
            await connection.connect()
        self._inbox = _Inbox(connection._writer.transport, _reader(connection))
        return self._inbox


class _Inbox(asyncio.Protocol):
    """What comes in on a connection of an event loop, for one caller at a time."""

    def __init__(self, transport: Any, replies: Any) -> None:
        self._transport = transport
        self._replies = replies
        self._answers: list[Answer] = []
        self._count = 0
        self._waiter: asyncio.Future[None] | None = None
        self._lost = False
        transport.set_protocol(self)

    @property
    def spoilt(self) -> bool:
        """Whether the connection was closed by its server, or said something that nobody asked for."""
        return self._lost or self._replies.has_data() or self._transport.is_closing()

    async def ask(self, data: bytes, count: int, until: float) -> list[Answer]:
        """Send `data` and return `count` replies."""
        loop = asyncio.get_running_loop()
        self._count = count
        self._waiter = loop.create_future()
        timer = loop.call_later(_left(until), self._fail, TimeoutError())
        self._transport.write(data)
        try:
            await self._waiter
        finally:
            self._waiter = None
            self._count = 0
            timer.cancel()
        answers, self._answers = self._answers, []
        return list(map(_checked, answers))

    def data_received(self, data: bytes) -> None:
        """Take what came; the caller goes on when its last reply is there."""
        replies, answers = self._replies, self._answers
        try:
            replies.feed(data)
            # No more than was asked for: of a reply that was parsed in part, `has_data` tells nothing.
            while len(answers) < self._count and (answer := replies.gets(False)) is not _NOTHING:
                answers.append(answer)
        except Exception as error:  # What is no Redis: the connection is of no more use.
            self._fail(error)
            self._transport.abort()
            return
        if len(answers) >= self._count and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:
        """Let the caller know that nothing more comes."""
        self._lost = True
        self._fail(error or ConnectionError("the server closed the connection"))

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)


def word_of(answer: RedisError) -> str:
    """Return the word that an error of the server begins with, such as `LOADING`."""
    return answer.status_code or str(answer).partition(" ")[0]


def is_away(answer: Answer) -> bool:
    """Return whether an answer says that its server is as good as away.

    A cluster that is down is, to each of its servers; a slot that nobody serves concerns its own partition only.
    """
    if not isinstance(answer, RedisError):
        return False
    return word_of(answer) in AWAY or (isinstance(answer, ClusterDownError) and "cluster is down" in str(answer))


def _reader(connection: Any) -> Any:
    return Reader(replyError=connection._parser.parse_error, notEnoughData=_NOTHING)


def _checked(answer: Answer) -> Answer:
    """Return an answer; raise one that tells of the connection itself, such as that there are too many."""
    if isinstance(answer, RedisConnectionError) and not isinstance(answer, BusyLoadingError):
        raise answer
    return answer


def _closed() -> NoReturn:
    raise ConnectionError("the server closed the connection")


def _give_up() -> NoReturn:
    raise TimeoutError


def _raise_translated(error: BaseException) -> NoReturn:
    """Raise the `BackendError` that `error` means; a cancellation or an interrupt goes on as it is."""
    if isinstance(error, (RedisTimeout, TimeoutError)):
        raise BackendTimeout("the store did not answer in time") from error
    if isinstance(error, Exception):  # Also what an application's source of passwords raises.
        raise BackendError(f"the store cannot be asked: {error}") from error
    raise error


def _packed(commands: Sequence[Command]) -> bytes:
    if len(commands) == 1 and isinstance(commands[0], bytes):  # What most hits need.
        return commands[0]
    return b"".join([command if isinstance(command, bytes) else pack_command(command) for command in commands])


def _left(until: float) -> float:
    return max(until - monotonic(), LEAST_WAIT)
