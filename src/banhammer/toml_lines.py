"""Where each setting of a TOML document stands: tomllib tells values only, a mistake needs the line."""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from typing import Final

Path = tuple[str | int, ...]
"""The names and indices that lead to a setting, like `("routes", 2, "policy")`."""

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_KEY: Final = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_TEXT: Final = re.compile(
    r'''"""(?:[^"\\]|\\.|"(?!""))*"{3,5}|\'\'\'(?:[^']|'(?!''))*'{3,5}|"(?:[^"\\\n]|\\.)*"|'[^'\n]*\'''',
    re.DOTALL,
)
_BARE: Final = re.compile(r"[^,\]}#\r\n]*")


def find_lines(document: str) -> dict[Path, int]:
    """Return the line (from 1) of every table, setting and list item of a document that tomllib accepts."""
    return _Scanner(document).scan()


def line_of(lines: dict[Path, int], path: Path) -> int:
    """Return the line of the setting, or of the nearest one around it; 1 when there is none."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


class _Scanner:
    """Reads a document once, front to back; `at` is the next character."""

    def __init__(self, document: str) -> None:
        self.document = document
        self.at = 0
        self.starts = [0, *(match.end() for match in re.finditer("\n", document))]
        self.lines: dict[Path, int] = {}
        self.tables: dict[Path, int] = {}
        """How many tables each array of tables has so far."""

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        self.skip(_BLANK)
        while self.at < len(self.document):
            if self.document[self.at] == "[":
                table = self.header()
            else:
                self.setting(table)
            self.skip(_BLANK)
        return self.lines

    def header(self) -> Path:
        start = self.at
        many = self.document.startswith("[[", start)
        self.at += 2 if many else 1
        *around, last = self.name()
        self.at += 2 if many else 1
        path: Path = ()
        for part in around:
            path = self.inside((*path, part))
            self.mark(path, start)
        path = (*path, last)
        if many:
            self.mark(path, start)
            self.tables[path] = self.tables.get(path, 0) + 1
        path = self.inside(path)
        self.lines[path] = self.line(start)
        return path

    def inside(self, path: Path) -> Path:
        return (*path, self.tables[path] - 1) if path in self.tables else path

    def name(self) -> list[str]:
        parts = []
        while True:
            self.skip(_SPACE)
            part = self.skip(_KEY)
            if not part:
                raise ValueError(f"no name at line {self.line(self.at)}")
            parts.append(tomllib.loads(f"x = {part}")["x"] if part[0] in "\"'" else part)
            self.skip(_SPACE)
            if self.document[self.at : self.at + 1] != ".":
                return parts
            self.at += 1

    def setting(self, table: Path) -> None:
        start = self.at
        path = table
        for part in self.name():
            path = (*path, part)
            self.mark(path, start)
        self.at += 1  # The equals sign.
        self.skip(_SPACE)
        self.value(path)

    def value(self, path: Path) -> None:
        opening = self.document[self.at : self.at + 1]
        if opening == "[":
            self.items(path)
        elif opening == "{":
            self.inline(path)
        elif opening and opening in "\"'":
            self.skip(_TEXT)
        else:
            self.skip(_BARE)

    def items(self, path: Path) -> None:
        index = 0
        self.step()
        while self.another("]"):
            self.mark((*path, index), self.at)
            self.value((*path, index))
            index += 1

    def inline(self, path: Path) -> None:
        self.step()
        while self.another("}"):
            self.setting(path)

    def another(self, closing: str) -> bool:
        """Tell whether an item follows; step over the comma before it, or over the end."""
        self.skip(_BLANK)
        if self.document[self.at : self.at + 1] == ",":
            self.step()
        if self.document[self.at : self.at + 1] not in (closing, ""):
            return True
        self.step()
        return False

    def step(self) -> None:
        self.at += 1
        self.skip(_BLANK)

    def skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.document, self.at)
        if match is None:
            return ""
        self.at = match.end()
        return match.group()

    def mark(self, path: Path, at: int) -> None:
        self.lines.setdefault(path, self.line(at))

    def line(self, at: int) -> int:
        return bisect_right(self.starts, at)
