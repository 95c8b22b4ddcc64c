"""Ports of 127.0.0.1 for servers that are started, killed, and started again."""

from __future__ import annotations

import random
import socket

HOST = "127.0.0.1"
_FIRST, _LAST = 20_000, 32_000
"""Below the ports that systems give to outgoing connections: one of those could hold a dead server's port, or meet
itself on it."""


def free_port() -> int:
    """Return a port on which nothing listens; a random one, for other test runs look for theirs too."""
    while True:
        port = random.randint(_FIRST, _LAST)
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
