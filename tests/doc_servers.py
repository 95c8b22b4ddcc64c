"""The servers that a page starts: on ports that are free on this machine, and ended with the page.

A page names its ports in a comment, `<!-- ports: 6400, 6401 -->`. Its commands are run as they stand, except that
each of these numbers is replaced, in what the page says is printed too.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from pathlib import Path

from servers import programs
from servers.ports import HOST, free_port
from servers.waiting import until

NAMED = re.compile(r"<!-- ports: ([\d, ]+) -->")


class Servers:
    """The servers of one page; `binaries` is the folder that its commands find first."""

    def __init__(self, page: str, binaries: Path) -> None:
        named = NAMED.search(page)
        self._ports = {port: str(free_port()) for port in re.findall(r"\d+", named[1] if named else "")}
        self._binaries, self._folder = binaries, binaries.parent.parent
        self._notes = binaries / "pids"
        if self._ports:
            self._notes.mkdir()
            if "redis-server " in page:
                self._put("redis-server", f'"{programs.redis().path}" "$@" --pidfile "{self._notes}/$$"')
            if "memcached -p " in page:  # It goes to the background by itself, so the command says where its pid is.
                program = programs.tool("memcached", "apt-get install memcached")
                self._put("memcached", f'"{program}" -u "$(id -un)" "$@"')

    def _put(self, name: str, command: str) -> None:
        shim = self._binaries / name
        shim.write_text(f"#!/bin/sh\nexec {command}\n")
        shim.chmod(0o755)

    def placed(self, text: str) -> str:
        """Return the text with the ports of this machine."""
        return re.sub(r"\b\d{4,5}\b", lambda found: self._ports.get(found[0], found[0]), text)

    def wait(self, command: str) -> None:
        """Wait until what a command started accepts connections: it goes to the background before it does."""
        if "redis-server" not in command and not command.startswith("memcached "):
            return
        for port in re.findall(r"\b\d{5}\b", command):
            until(lambda port=int(port): _accepts(port), f"a server on port {port}")  # type: ignore[misc]

    def close(self) -> None:
        """End every server that still runs."""
        for note in [*self._notes.glob("*"), *self._folder.glob("*.pid")]:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # It just ended by itself.
                os.kill(int(note.read_text()), signal.SIGKILL)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
