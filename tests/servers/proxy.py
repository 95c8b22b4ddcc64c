"""A TCP proxy before one server that loses replies, swallows, refuses or delays on demand."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from servers.ports import HOST, free_port
from servers.resp import Messages, command, is_push

CHUNK = 1 << 16
SECONDS = 10.0
"""How long a switch may take; the longest that this waits for its own loop."""


@dataclass(slots=True)
class Tape:
    """The bytes that went to the server, and those that reached the clients."""

    requests: bytearray = field(default_factory=bytearray)
    replies: bytearray = field(default_factory=bytearray)


class Proxy:
    """Listens on `port` and passes on to `target`, a port of 127.0.0.1; `url` is for a server without a login.

    `delay`: seconds that each reply is held, settable at any time. Counted: `connections`, `requests` by command (in
    capitals; only what was passed on), and `lost` replies.
    """

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.delay = 0.0
        self.connections = 0
        self.requests: Counter[str] = Counter()
        self.lost = 0
        self._target = target
        self._losing = 0
        self._losing_of: str | None = None
        self._swallows = False
        self._tape: Tape | None = None
        self._listener: asyncio.Server | None = None
        self._pairs: dict[asyncio.Task[None], list[asyncio.StreamWriter]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._run(self._listen())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The URL of the server behind, through this proxy."""
        return f"redis://{HOST}:{self.port}"

    def lose_replies(self, count: int, of: str | None = None) -> None:
        """Pass on requests, but close the connection instead of giving the reply, for the `count` next replies.

        Only replies to the command `of` are lost where it is named. Replies before it in the same pipeline arrive.
        """
        self._losing_of = of and of.upper()
        self._losing = count

    def black_hole(self) -> None:
        """Accept connections and swallow what comes, also on those that are open; nothing reaches the server."""
        self._swallows = True

    def refuse(self) -> None:
        """Close the listener and every connection: new ones are refused."""
        self._run(self._refuse())

    def resume(self) -> None:
        """Be a plain proxy again; connections in a black hole are closed, for their streams have gaps."""
        self._losing = 0
        self.delay = 0.0
        self._run(self._resume())

    def cut(self) -> None:
        """Close every connection, and go on listening."""
        self._run(self._cut())

    @contextmanager
    def record(self) -> Iterator[Tape]:
        """Record the bytes that go through."""
        tape = self._tape = Tape()
        try:
            yield tape
        finally:
            self._tape = None

    def close(self) -> None:
        """Close everything and end the thread."""
        if self._loop.is_closed():
            return
        self._run(self._refuse())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(SECONDS)

    async def _listen(self) -> None:
        if self._listener is None:
            self._listener = await asyncio.start_server(self._serve, HOST, self.port, backlog=1_024)

    async def _refuse(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self._cut()

    async def _resume(self) -> None:
        if self._swallows:
            self._swallows = False
            await self._cut()
        await self._listen()

    async def _cut(self) -> None:
        for writers in self._pairs.values():
            _abort(writers)
        if self._pairs:
            await asyncio.wait(list(self._pairs))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        writers = self._pairs[task] = [writer]
        self.connections += 1
        try:
            server_reader, server_writer = await asyncio.open_connection(HOST, self._target)
            writers.append(server_writer)
            names: deque[str] = deque()
            ways = [
                asyncio.create_task(self._forward(reader, server_writer, names)),
                asyncio.create_task(self._answer(server_reader, writer, names)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)
        except OSError:
            pass  # The server is away: the client's connection ends too.
        finally:
            del self._pairs[task]
            await _end(writers)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, names: deque[str]) -> None:
        """Pass requests on, and note their names in the order in which they will be answered."""
        messages = Messages()
        while data := await _read(reader):
            if self._swallows:
                continue
            for request in messages.feed(data):
                name = command(request)
                names.append(name)
                self.requests[name] += 1
                if self._tape is not None:
                    self._tape.requests += request
                writer.write(request)
            await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, names: deque[str]) -> None:
        """Pass replies on, until one is to be lost."""
        messages = Messages()
        while data := await _read(reader):
            if self.delay:
                await asyncio.sleep(self.delay)
            if self._swallows:
                continue
            for reply in messages.feed(data):
                if not is_push(reply) and self._loses(names.popleft() if names else ""):
                    return
                if self._tape is not None:
                    self._tape.replies += reply
                writer.write(reply)
            await writer.drain()

    def _loses(self, name: str) -> bool:
        if not self._losing or self._losing_of not in (None, name):
            return False
        self._losing -= 1
        self.lost += 1
        return True


async def _read(reader: asyncio.StreamReader) -> bytes:
    """Return what has come; nothing where the connection is at its end, in peace or not."""
    try:
        return await reader.read(CHUNK)
    except OSError:
        return b""


def _abort(writers: list[asyncio.StreamWriter]) -> None:
    for writer in writers:
        writer.transport.abort()


async def _end(writers: list[asyncio.StreamWriter]) -> None:
    """Close, so that what was written still arrives."""
    for writer in writers:
        writer.close()
    for writer in writers:
        with suppress(OSError):
            await writer.wait_closed()
