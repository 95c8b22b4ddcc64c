"""A Memcached server, with what a test may want of it, and a proxy that understands its protocol."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from servers.ports import HOST, free_port
from servers.process import Process
from servers.programs import tool
from servers.proxy import Proxy, _read
from servers.waiting import until

SECONDS = 5.0
WITH_DATA = (b"set", b"add", b"cas")
UNFINISHED = -1


class Memcached:
    """A running server on a port of 127.0.0.1; `url` is what banhammer takes. `extra`: more arguments."""

    def __init__(self, *, port: int | None = None, extra: Sequence[str] = ()) -> None:
        program = tool("memcached", "apt-get install memcached")
        self.port = port or free_port()
        self.url = f"memcached://{HOST}:{self.port}"
        self._process = Process()
        self._command = [program, "-l", HOST, "-p", str(self.port), "-U", "0", *extra]
        if os.geteuid() == 0:
            self._command += ["-u", "root"]  # It refuses to run as root unless it is told so.
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"<memcached on port {self.port}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def running(self) -> bool:
        """Whether the process exists; a stopped one does."""
        return self._process.running

    def ask(self, command: bytes) -> bytes:
        """Return the answer to one command, asked on a connection of its own."""
        with socket.create_connection((HOST, self.port), SECONDS) as connection:
            connection.sendall(command)
            data = b""
            while end_of_reply(data, 0) == UNFINISHED:
                chunk = connection.recv(1 << 16)
                if not chunk:
                    raise ConnectionError("the server closed the connection")
                data += chunk
            return data

    def put(self, name: bytes, value: bytes, flags: int = 0) -> None:
        """Write a value."""
        assert self.ask(b"set %b %d 0 %d\r\n%b\r\n" % (name, flags, len(value), value)) == b"STORED\r\n"

    def value(self, name: bytes) -> bytes | None:
        """Return a value, or `None`."""
        answer = self.ask(b"get %b\r\n" % name)
        if answer == b"END\r\n":
            return None
        head, _, rest = answer.partition(b"\r\n")
        return rest[: int(head.split()[3])]

    def lifetime(self, name: bytes) -> int | None:
        """Return how many seconds a value has left, -1 for ever, `None` where there is none."""
        answer = self.ask(b"mg %b t\r\n" % name)
        return None if answer == b"EN\r\n" else int(answer.split()[1][1:])

    def start(self) -> None:
        """Start the server, again on the same port, and wait until it answers."""
        self._process.start(self._command)
        until(self._answers, f"answering on port {self.port}")

    def stop(self) -> None:
        """Stop the process (SIGSTOP): connections are accepted by the system, and nothing answers."""
        self._process.stop()

    def cont(self) -> None:
        """Let a stopped process go on."""
        self._process.send(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process (SIGKILL) and wait until it is gone."""
        self._process.kill()

    def restart(self) -> None:
        """Kill the server and start it again: what it held is gone."""
        self.kill()
        self.start()

    def heal(self) -> None:
        """Make it run and answer, whatever a test did to it."""
        if not self.running:
            self.start()
            return
        self.cont()
        until(self._answers, f"answering on port {self.port}")

    def flush(self) -> None:
        """Delete every value."""
        assert self.ask(b"flush_all\r\n") == b"OK\r\n"

    def close(self) -> None:
        """End the server and delete its folder."""
        self._process.close()

    def _answers(self) -> bool:
        if not self.running:
            raise RuntimeError(f"{self._command[0]} ended:\n{self._process.log()}")
        try:
            return self.ask(b"version\r\n").startswith(b"VERSION")
        except OSError:
            return False


class MemcachedProxy(Proxy):
    """`Proxy` before a Memcached server; `requests` counts its commands in capitals."""

    @property
    def url(self) -> str:
        return f"memcached://{HOST}:{self.port}"

    async def _forward(self, reader: Any, writer: Any, names: deque[str]) -> None:
        rest = b""
        while data := await _read(reader):
            if self._swallows:
                continue
            rest += data
            while (end := end_of_request(rest)) != UNFINISHED:
                request, rest = rest[:end], rest[end:]
                name = request.split(None, 1)[0].decode("ascii", "replace").upper()
                names.append(name)
                self.requests[name] += 1
                if self._tape is not None:
                    self._tape.requests += request
                writer.write(request)
            await writer.drain()

    async def _answer(self, reader: Any, writer: Any, names: deque[str]) -> None:
        rest = b""
        while data := await _read(reader):
            if self.delay:
                await asyncio.sleep(self.delay)
            if self._swallows:
                continue
            rest += data
            while (end := end_of_reply(rest, 0)) != UNFINISHED:
                reply, rest = rest[:end], rest[end:]
                if self._loses(names.popleft() if names else ""):
                    return
                if self._tape is not None:
                    self._tape.replies += reply
                writer.write(reply)
            await writer.drain()


def end_of_request(data: bytes) -> int:
    """Return where the first request ends, or `UNFINISHED`."""
    line_end = data.find(b"\r\n")
    if line_end < 0:
        return UNFINISHED
    words = data[:line_end].split()
    end = line_end + 2 + (int(words[4]) + 2 if words and words[0] in WITH_DATA else 0)
    return end if end <= len(data) else UNFINISHED


def end_of_reply(data: bytes, at: int) -> int:
    """Return where the reply that begins at `at` ends, with all its values, or `UNFINISHED`."""
    while True:
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return UNFINISHED
        if not data.startswith(b"VALUE ", at):
            return line_end + 2
        at = line_end + 2 + int(data[at:line_end].split()[3]) + 2
