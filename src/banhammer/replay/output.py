"""The files that a replay writes: none of them takes the place of what it reads, or of a log of somebody's own."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from banhammer.replay.demo import is_demo_line
from banhammer.replay.lines import STDIN, LogError


def keep(page: Path | None, logs: Iterable[str], config: Path | None) -> None:
    """Raise `LogError` where the page would be written over a log or the rules, by whatever path."""
    if page is None:
        return
    for name in logs:
        if _is_stdin(page) if name == STDIN else _same(page, Path(name)):
            raise LogError(f"{page}: is the log that is replayed; name another file for the page")
    if config is not None and _same(page, config):
        raise LogError(f"{page}: holds the rules; name another file for the page")


def keep_log(log: Path) -> None:
    """Raise `LogError` where the demo's log would be written over a file that is no former log of the demo."""
    if not log.is_file():
        return
    with log.open(encoding="utf-8", errors="replace") as file:
        if not all(is_demo_line(line) for line in file):
            raise LogError(f"{log}: stands already, and is no log of the demo; name another file with --log")


def write(path: Path, text: str) -> None:
    """Write a file; raise `LogError` with its name and the remedy where that cannot be."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "make room, or name another file" if full else "check its name and your permissions"
        raise LogError(f"{path}: {reason(error)}; {remedy}") from error


def reason(error: OSError) -> str:
    """Return what the system says, fit to stand within a sentence."""
    what = error.strerror or str(error)
    return f"{what[:1].lower()}{what[1:]}"


def _same(one: Path, other: Path) -> bool:
    if one.exists() and other.exists():
        return one.samefile(other)
    return os.path.realpath(one) == os.path.realpath(other)


def _is_stdin(page: Path) -> bool:
    if sys.stdin is None or not page.is_file():
        return False
    return os.path.samestat(page.stat(), os.fstat(sys.stdin.fileno()))
