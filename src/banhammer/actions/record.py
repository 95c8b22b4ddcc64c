"""record_local: every escalation as a line of JSON in a file of this host, which is rotated.

The file is opened, locked and closed for each line, so nothing is held between two: threads, processes and forks may
share it, and whoever moves or deletes it gets a new one.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, Self

from banhammer.actions.line import as_json
from banhammer.actions.settings import table
from banhammer.model import Escalation

PATH: Final = "banhammer-escalations.jsonl"
MAX_BYTES: Final = 10_000_000
MOST_BYTES: Final = 10**12
KEEP: Final = 5
MOST_KEPT: Final = 1000
PATIENCE: Final = 5.0
"""Seconds to wait while others write."""
PAUSE: Final = 0.001


class RecordLocal:
    """Appends one line of JSON an escalation, lifts too, to the file `path`; nothing is opened before the first.

    Before the file would grow beyond `max_bytes` it becomes `path.1`, that `path.2`, up to `path.KEEP`; the oldest
    is deleted. Several processes may write one file. It is made readable for its owner only. An escalation that is
    delivered again stands there again, with the same id. Raises `OSError` that names the path.
    """

    def __init__(self, path: str = PATH, *, max_bytes: int = MAX_BYTES, keep: int = KEEP) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Return the action that a table of settings means. Raises `ConfigError`."""
        with table(settings) as read:
            path = read.text("path", PATH, "write the name of a file")
            max_bytes = read.size("max_bytes", MAX_BYTES, MOST_BYTES)
            keep = read.whole("keep", KEEP, MOST_KEPT)
        return cls(path, max_bytes=max_bytes, keep=keep)

    def __repr__(self) -> str:
        return f"RecordLocal({self._path!r}, max_bytes={self._max_bytes}, keep={self._keep})"

    def run(self, escalation: Escalation) -> None:
        """Append the escalation's line."""
        line = f"{as_json(escalation)}\n".encode("ascii")
        try:
            file = self._opened(len(line))
            try:
                _append(file, line)
            finally:
                os.close(file)  # Which also lets go of the lock.
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._path) from error

    def lift(self, escalation: Escalation) -> None:
        """Append the line of a lift: the ban's id, verdict `lifted`."""
        self.run(escalation)

    def _opened(self, room: int) -> int:
        """Return the file, locked, with room for so many bytes."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            file = _open(self._path)
            try:
                if not _lock(file):
                    time.sleep(PAUSE)
                elif self._is_current(file):
                    size = os.fstat(file).st_size
                    if not size or size + room <= self._max_bytes:
                        return file
                    self._rotate()
            except BaseException:
                os.close(file)
                raise
            os.close(file)
        raise TimeoutError(errno.ETIMEDOUT, "Another process holds its lock")

    def _is_current(self, file: int) -> bool:
        """Return whether the file still has its name: others may have rotated it before it was locked."""
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(file), os.stat(self._path))
        return False

    def _rotate(self) -> None:
        """Give each file the next number; the one that is locked comes last, so nobody else rotates meanwhile."""
        free = (number for number in range(1, self._keep) if not os.path.lexists(f"{self._path}.{number}"))
        for number in range(next(free, self._keep), 1, -1):
            with suppress(FileNotFoundError):
                os.replace(f"{self._path}.{number - 1}", f"{self._path}.{number}")
        os.replace(self._path, f"{self._path}.1")


def _open(path: str) -> int:
    # O_NONBLOCK: a pipe must not hang. Reading is for the last byte of a torn line.
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    if stat.S_ISREG(os.fstat(file).st_mode):
        return file
    os.close(file)
    raise OSError(errno.EINVAL, "It is no regular file")


def _lock(file: int) -> bool:
    import fcntl  # Imported here: only POSIX systems have it.

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _append(file: int, line: bytes) -> None:
    """Write all of a line or nothing of it."""
    size = os.fstat(file).st_size
    if size and os.pread(file, 1, size - 1) != b"\n":
        line = b"\n" + line  # A process was killed in the middle of its line.
    if os.write(file, line) < len(line):
        os.ftruncate(file, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
