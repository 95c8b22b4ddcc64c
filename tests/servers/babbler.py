"""A server that is none: whatever it is asked, it says the same."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from servers.ports import HOST


class Babbler:
    """Answers all that arrives at once with `words`; with `endless`, says them for as long as anybody listens."""

    def __init__(self, words: bytes, *, endless: bool = False) -> None:
        self._words = words
        self._endless = endless
        self._listener = socket.create_server((HOST, 0))
        self.port = int(self._listener.getsockname()[1])
        self._clients: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join(10)
        self._listener.close()
        for client in self._clients:
            with suppress(OSError):  # Its client closed it.
                client.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._clients.append(client)
                thread = threading.Thread(target=self._serve, args=(client,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            while client.recv(1 << 16):
                client.sendall(self._words)
                while self._endless:
                    client.sendall(self._words)
