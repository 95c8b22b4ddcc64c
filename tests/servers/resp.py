"""Where the messages of the Redis protocol end in a stream of bytes."""

from __future__ import annotations

UNFINISHED = -1
SIZED = b"$=!"
LISTS = {ord("*"): 1, ord("~"): 1, ord(">"): 1, ord("%"): 2}
"""What is followed by as many messages as its head says, times this."""


class Messages:
    """Cuts a stream, requests or replies, into whole messages; `rest` is the message that is not whole yet."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that these bytes complete."""
        data = self.rest + data
        found, start = [], 0
        while (end := end_of(data, start)) != UNFINISHED:
            found.append(data[start:end])
            start = end
        self.rest = data[start:]
        return found


def end_of(data: bytes, start: int) -> int:
    """Return where the message that begins at `start` ends, or `UNFINISHED`."""
    line_end = data.find(b"\r\n", start)
    if line_end < 0:
        return UNFINISHED
    at = line_end + 2
    kind = data[start]
    if kind in SIZED:
        size = int(data[start + 1 : line_end])
        at += size + 2 if size >= 0 else 0
        return at if at <= len(data) else UNFINISHED
    if kind not in LISTS:
        return at
    for _ in range(LISTS[kind] * int(data[start + 1 : line_end])):
        at = end_of(data, at)
        if at == UNFINISHED:
            return UNFINISHED
    return at


def command(request: bytes) -> str:
    """Return the name of a request's command, in capitals."""
    name = request.split(b"\r\n", 3)[2] if request.startswith(b"*") else request.split(None, 1)[0]
    return name.decode("ascii", "replace").upper()


def is_push(reply: bytes) -> bool:
    """Whether a message of the server answers no request."""
    return reply.startswith(b">")
