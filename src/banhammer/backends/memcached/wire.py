"""What goes over the wire to Memcached and what comes back: the text protocol's `gets`, `cas` and `add`, as bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from banhammer.backends.names import escape, shorten

MARKER: Final = b"bh:life"
"""The name under which a server keeps a mark of its life; no record is named so."""
STORED: Final = b"STORED"
LOST: Final = (b"EXISTS", b"NOT_FOUND", b"NOT_STORED")
"""Answers that prove that nothing was written: somebody else was faster."""
VERSION: Final = b"version\r\n"
_ANSWERS: Final = (STORED, *LOST, b"DELETED", b"VERSION", b"SERVER_ERROR")
"""What an answer of one line begins with; behind any other the stream cannot be trusted."""
_VALUE: Final = re.compile(rb"VALUE (\S+) (\d+) (\d{1,10}) (\d+)")
_END: Final = b"\r\n"


class Found(NamedTuple):
    """A value as it stands on a server; `token` is what `cas` asks for."""

    flags: int
    data: bytes
    token: bytes


class Broken(ValueError):  # noqa: N818  # A signal inside this package: the stream cannot be trusted any more.
    """A server said what is no answer to what was asked."""


def name_record(policy: str, key: str) -> bytes:
    """Return the name of a record: at most 188 bytes of `[A-Za-z0-9_.:~%-]`."""
    return f"bh:{policy}:{shorten(escape(key))}".encode("ascii")


def gets(names: Iterable[bytes]) -> bytes:
    """Return the command that asks for values with their tokens."""
    return b"gets %b\r\n" % b" ".join(names)


def swap(name: bytes, token: bytes | None, flags: int, expiry: int, data: bytes) -> bytes:
    """Return the command that writes where `token` still stands (`None`: where nothing is)."""
    if token is None:
        return b"add %b %d %d %d\r\n%b\r\n" % (name, flags, expiry, len(data), data)
    return b"cas %b %d %d %d %b\r\n%b\r\n" % (name, flags, expiry, len(data), token, data)


def delete(name: bytes) -> bytes:
    """Return the command that drops what stands under a name."""
    return b"delete %b\r\n" % name


def read_values(buffer: bytes, found: dict[bytes, Found]) -> tuple[int, bool]:
    """Take the whole values that `buffer` holds; return where they end, and whether that was all. Raises `Broken`."""
    at = 0
    while True:
        end = buffer.find(_END, at)
        if end < 0:
            return at, False
        if buffer.startswith(b"END", at) and end == at + 3:
            return end + 2, True
        value = _VALUE.fullmatch(buffer, at, end)
        if value is None:
            raise Broken(shown(buffer[at:end]))
        start = end + 2
        stop = start + int(value[3])
        if len(buffer) < stop + 2:
            return at, False
        if not buffer.startswith(_END, stop):
            raise Broken(shown(buffer[stop:]))
        found[value[1]] = Found(int(value[2]), buffer[start:stop], value[4])
        at = stop + 2


def read_lines(buffer: bytes, told: list[bytes], count: int) -> tuple[int, bool]:
    """Take whole answers that stand in `buffer` until `told` has `count`; return where they end, and whether it has.

    Raises `Broken`.
    """
    at = 0
    while len(told) < count:
        end = buffer.find(_END, at)
        if end < 0:
            return at, False
        line = buffer[at:end]
        if not line.startswith(_ANSWERS):
            raise Broken(shown(line))
        told.append(line)
        at = end + 2
    return at, True


def shown(words: bytes) -> str:
    """Return the beginning of what a server said, on one line, for messages."""
    return words[:80].decode("latin-1").encode("unicode_escape").decode("ascii")
