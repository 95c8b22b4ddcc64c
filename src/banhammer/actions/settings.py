"""The settings of one action, read so that every mistake in them is told at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from banhammer.errors import ConfigError, did_you_mean
from banhammer.urls import redact_name, shown

_SIZE: Final = re.compile(r"(\d{1,15})\s*(B|KB|MB|GB)?", re.ASCII | re.IGNORECASE)
_TEXT: Final = re.compile("[^\0\ud800-\udfff]+")
_BYTES: Final = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


class Table:
    """A table of settings; what is wrong with those that are read joins `mistakes`, as `NAME: value; remedy`.

    A setting that is not there has its default.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = settings
        self._known: list[str] = []
        self.mistakes: list[str] = []

    def text(self, name: str, default: str, remedy: str) -> str:
        """Return a text that is not empty, as UTF-8 can say it."""
        value = self._get(name, default)
        if not self.given(name):
            return default
        if isinstance(value, str) and _TEXT.fullmatch(value):
            return value
        self.mistakes.append(f"{name}: {shown(value)}; {remedy}")
        return default

    def whole(self, name: str, default: int, most: int) -> int:
        """Return a whole number from 1 to `most`."""
        value = self._get(name, default)
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
            return value
        self.mistakes.append(f"{name}: {shown(value)}; write a whole number from 1 to {most:,}")
        return default

    def size(self, name: str, default: int, most: int) -> int:
        """Return a number of bytes, written as one or as text like `10MB` (a million is one MB)."""
        value = self._get(name, default)
        found = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
        size = int(found[1]) * _BYTES[(found[2] or "B").upper()] if found else value
        if isinstance(size, int) and not isinstance(size, bool) and 1 <= size <= most:
            return size
        self.mistakes.append(f"{name}: {shown(value)}; write a size from 1 to {most:,} bytes, like '10MB'")
        return default

    def given(self, name: str) -> bool:
        """Return whether the setting is there."""
        return name in self._settings

    def unknown(self) -> Iterator[str]:
        """Yield a mistake for each setting that nobody has read."""
        for name in self._settings:
            if name not in self._known:
                hint = did_you_mean(str(name), self._known) or f"; known: {', '.join(self._known)}"
                yield f"{redact_name(str(name))}: unknown setting{hint}"

    def _get(self, name: str, default: object) -> Any:
        self._known.append(name)
        return self._settings.get(name, default)


@contextmanager
def table(settings: Mapping[str, Any]) -> Iterator[Table]:
    """Read settings inside the block; at its end `ConfigError` is raised with all that is wrong."""
    read = Table(settings)
    yield read
    mistakes = [*read.mistakes, *read.unknown()]
    if mistakes:
        raise ConfigError(mistakes)
