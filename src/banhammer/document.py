"""A configuration as it was written, from a file or a mapping, and where its mistakes stand."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Final, cast

from banhammer.errors import ConfigError
from banhammer.toml_lines import Path, find_lines, line_of

_BARE: Final = re.compile(r"[\w-]+", re.ASCII)
_PLACE: Final = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")
_WORD: Final = 2**63
"""TOML's integers have 64 bits; a larger one says nothing more, and would be slow to write out."""


@dataclass(frozen=True, slots=True)
class Document:
    """The settings as plain values, and the file and lines they came from, if it was a file."""

    data: dict[str, Any]
    source: str | None = None
    lines: dict[Path, int] = field(default_factory=dict)


class Mistakes:
    """The mistakes found in a document; `left_out` holds the settings that were taken out because of one."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.found: list[tuple[Path, str]] = []
        self.outside: list[str] = []
        """Mistakes that stand in no document, but in the environment."""
        self.left_out: set[Path] = set()

    def __bool__(self) -> bool:
        return bool(self.found or self.outside)

    def add(self, path: Path, mistake: str) -> None:
        """Keep a mistake, unless it only follows from a setting that was left out."""
        if not any(path[:length] in self.left_out for length in range(1, len(path) + 1)):
            self.found.append((path, mistake))

    def add_all(self, path: Path, mistakes: Iterable[str]) -> None:
        """Keep mistakes of the form `setting.0: what is wrong`, where the settings are those of `path`."""
        for mistake in mistakes:
            name, _, what = mistake.partition(": ")
            inner = tuple(int(part) if part.isdecimal() else part for part in name.split("."))
            self.add((*path, *inner), what)

    def error(self) -> ConfigError:
        """Return them all, each as `FILE:LINE: path.of.setting: mistake`, in the order of the file."""
        document = self.document
        placed = [(line_of(document.lines, path), f"{spell(path)}: {mistake}") for path, mistake in self.found]
        if document.source is None:
            return ConfigError([*(text for _, text in placed), *self.outside])
        placed.sort(key=lambda pair: pair[0])
        return ConfigError([*(f"{document.source}:{line}: {text}" for line, text in placed), *self.outside])


def spell(path: Path) -> str:
    """Return the path with dots, names with other characters quoted as TOML does: `policies."a.b".mode`."""
    parts = (str(part) for part in path)
    return ".".join(part if _BARE.fullmatch(part) else json.dumps(part, ensure_ascii=False) for part in parts)


def read_mapping(settings: Mapping[str, Any]) -> Document:
    """Return the document of settings given in code; raise `ConfigError` when they never end."""
    try:
        return Document(_plain(settings))
    except RecursionError as error:
        raise ConfigError("the settings are nested too deeply") from error


def read_file(file: str | os.PathLike[str]) -> Document:
    """Return the document of a TOML file; raise `ConfigError` when it cannot be read or is no TOML."""
    name = os.fspath(file)
    text = _text(name)
    try:
        return Document(_plain(tomllib.loads(text)), name, find_lines(text))
    except RecursionError as error:
        raise ConfigError(f"{name}: the settings are nested too deeply") from error
    except ValueError as error:  # Also what int() says of thousands of digits.
        raise ConfigError(_broken(name, text, str(error))) from error


def _text(name: str) -> str:
    try:
        content = FilePath(name).read_bytes()
    except FileNotFoundError as error:
        raise ConfigError(f"{name}: no such file; name another, or write one with banhammer init") from error
    except IsADirectoryError as error:
        raise ConfigError(f"{name}: is a directory; name the file in it") from error
    except OSError as error:
        raise ConfigError(f"{name}: cannot be read ({error.strerror}); let this user read it") from error
    except ValueError as error:
        raise ConfigError(f"{name!r}: is not the name of a file; {error}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise ConfigError(f"{name}:{line}: byte 0x{byte:02x} is not UTF-8; save the file as UTF-8") from error


def _broken(name: str, text: str, problem: str) -> str:
    place = _PLACE.search(problem)
    if not place:
        return f"{name}:1: not TOML: {problem}"
    what = problem[: place.start()]
    line, column = place.groups()
    if line is None:
        line, column = str(text.rstrip().count("\n") + 1), str(len(text.rstrip().rpartition("\n")[2]) + 1)
    twice = "twice" in what or "overwrite" in what
    remedy = "give it once, under one name" if twice else "write it as TOML: texts in quotes, lists in brackets"
    return f"{name}:{line}: not TOML: {what}, at column {column}; {remedy}"


def _plain(value: Any) -> Any:
    """Return dicts and lists of our own; `None` means the default, so it is left out."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, int) and abs(value) > _WORD:
        return _WORD if value > 0 else -_WORD
    return value


def leave_out(data: Any, path: Path) -> Path:
    """Take the setting around a mistake out of the data, or empty the table; return its path."""
    *around, last = path
    for length, part in enumerate(around):
        inner = data[cast(int, part)] if isinstance(data, list) else data.get(part)
        if not isinstance(inner, (dict, list)) or (isinstance(inner, list) and not _tables(path[: length + 1])):
            data.pop(part, None)
            return path[: length + 1]
        data = inner
    if isinstance(data, list) or path[:-1] == ("policies",):
        data[last] = {}
    else:
        data.pop(last, None)
    return path


def _tables(path: Path) -> bool:
    """Tell whether this setting is a list of tables, which are checked one by one."""
    return path == ("routes",) or (path[0] == "policies" and path[2:] == ("thresholds",))
