"""A front of a real server that answers some requests itself, with the words that a test gives it."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from select import select
from types import TracebackType
from typing import NoReturn, Self

from servers.ports import HOST
from servers.resp import Messages, command
from servers.waiting import until

CHUNK = 1 << 16


class Answering:
    """Listens on `port`; the next `times` requests of the command `of` are answered with `words` and not passed on."""

    def __init__(self, target: int) -> None:
        self.words = ""
        self.times = 0
        self.of = "EVALSHA"
        self._target = target
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        self._at_work = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _end(self._listener)
        self._listener.close()
        for each in list(self._open):
            _end(each)
        for thread in self._threads:
            thread.join(10)

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self.port}"

    def say(self, words: str, times: int = 1_000_000, of: str = "EVALSHA") -> None:
        """Answer with `words`, as they are sent but for the line's end, whatever is sent from now on.

        What was sent before is answered first, as was said then, also where nobody waits for it any more.
        """
        until(lambda: self._say(words, times, of), "answering what was sent before", seconds=5)

    def _say(self, words: str, times: int, of: str) -> bool:
        with self._at_work:
            if select([self._listener, *self._open], [], [], 0)[0]:
                return False
            self.words, self.of, self.times = words, of, times
            return True

    def _accept(self) -> None:
        while True:
            try:
                select([self._listener], [], [])
                with self._at_work:
                    client, _ = self._listener.accept()
                    self._open.append(client)
            except (OSError, ValueError):  # It was closed, before the accept or before the wait.
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        requests, replies = Messages(), Messages()
        try:
            with socket.create_connection((HOST, self._target)) as server:
                while client in self._open:
                    select([client], [], [])
                    with self._at_work:
                        data = _read(client)
                        for request in requests.feed(data):
                            with suppress(OSError):  # Whoever asked has given up, or the server has.
                                client.sendall(self._answer(request, server, replies))
                        if not data:
                            self._open.remove(client)
        finally:
            with self._at_work, client:
                self._open = [each for each in self._open if each is not client]

    def _answer(self, request: bytes, server: socket.socket, replies: Messages) -> bytes:
        if self.times and command(request) == self.of:
            self.times -= 1
            return f"{self.words}\r\n".encode()
        server.sendall(request)
        found: list[bytes] = []
        while not found:
            found = replies.feed(_read(server) or _gone())
        return found[0]


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _gone() -> NoReturn:
    raise ConnectionError("the server is gone")


def _read(connection: socket.socket) -> bytes:
    try:
        return connection.recv(CHUNK)
    except OSError:
        return b""
