"""Reading logs: plain or gzip, whole or cut short, a file or stdin, in memory that does not grow."""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, cast

from banhammer.errors import BanhammerError

STDIN: Final = "-"
BLOCK: Final = 1 << 18
LONGEST: Final = 1 << 20
"""Characters of one line that are looked at; what follows them, up to the line's end, is dropped."""
_GZIP: Final = b"\x1f\x8b"

Progress = Callable[[int], None]
"""Called with the bytes just read from the file itself, as stored."""


class LogError(BanhammerError):
    """A log cannot be read, or a report of it cannot be written."""


class Source:
    """One log by its name; `doubts` says what was wrong with it, once it was read."""

    __slots__ = ("doubts", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.doubts: list[str] = []

    def size(self) -> int:
        """Return the bytes to read, 0 where unknown. Raises `LogError`, or `OSError` for a missing file."""
        if self.name == STDIN:
            return 0
        path = Path(self.name)
        if path.is_dir():
            raise LogError(f"{self.name}: is a directory; name the logs in it, like {self.name}/*.log")
        return path.stat().st_size if path.is_file() else 0

    def lines(self, progress: Progress) -> Iterator[str]:
        """Yield every line without its end; bytes that are no UTF-8 are escaped, never an error."""
        if self.name == STDIN:
            if sys.stdin is None:  # So it is when the process was started with it closed.
                raise LogError("standard input: is closed; name a log, or send one: banhammer replay - < access.log")
            yield from split(self._blocks(cast(io.BufferedReader, sys.stdin.buffer), progress))
            return
        with Path(self.name).open("rb") as file:
            yield from split(self._blocks(file, progress))

    def _blocks(self, file: io.BufferedReader, progress: Progress) -> Iterator[bytes]:
        def raw() -> Iterator[bytes]:
            while block := self._read(file):
                progress(len(block))
                yield block

        blocks = raw()
        first = next(blocks, b"")
        while len(first) < len(_GZIP) and (more := next(blocks, b"")):
            first += more
        if not first.startswith(_GZIP):
            yield first
            yield from blocks
            return
        yield from self._inflate(first, blocks)

    def _read(self, file: io.BufferedReader) -> bytes:
        try:
            return file.read1(BLOCK)
        except OSError as error:  # The system does not say of which file.
            name = "standard input" if self.name == STDIN else self.name
            raise LogError(f"{name}: cannot be read ({error.strerror}); name another log") from error

    def _inflate(self, first: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield what gzip blocks hold, as far as they can be read."""
        engine = zlib.decompressobj(wbits=31)
        pending = first
        while True:
            try:
                inflated = engine.decompress(pending, BLOCK)
            except zlib.error:
                self.doubts.append(f"{self.name} is damaged; only what comes before the damage was read")
                return
            yield inflated
            pending = engine.unconsumed_tail
            if engine.eof:
                pending = engine.unused_data.lstrip(b"\0") or next(blocks, b"").lstrip(b"\0")
                if not pending:
                    return
                engine = zlib.decompressobj(wbits=31)
            elif not pending and len(inflated) < BLOCK and not (pending := next(blocks, b"")):
                self.doubts.append(f"{self.name} is cut short; its end is missing")
                return


def split(blocks: Iterator[bytes]) -> Iterator[str]:
    """Yield the lines of blocks of bytes; a block may end anywhere, and a last line may lack its end."""
    parts: list[bytes] = []
    length = 0
    for block in blocks:
        head, newline, tail = block.partition(b"\n")
        if length < LONGEST:
            parts.append(head)
            length += len(head)
        if not newline:
            continue
        yield _text(b"".join(parts))
        whole, ended, rest = tail.rpartition(b"\n")
        if ended:
            yield from map(_trim, whole.decode("utf-8", "surrogateescape").split("\n"))
        parts, length = [rest], len(rest)
    if length:
        yield _text(b"".join(parts))


def _text(line: bytes) -> str:
    return _trim(line.decode("utf-8", "surrogateescape"))


def _trim(line: str) -> str:
    return line[:LONGEST].removesuffix("\r")
