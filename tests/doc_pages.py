"""The pages of the documentation, and how their blocks of code are run."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from banhammer.config import load
from banhammer.errors import ConfigError
from doc_projects import PROJECT, Project
from doc_servers import Servers

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
SERVED = "<!-- ports: "
"""What a page says where its commands start servers, which only tests/extra does."""
PAGES = [README, *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]

RUN = (
    "banhammer ", "python ", ".venv/bin/banhammer ", ".venv/bin/python ", "redis-server ", "redis-cli ", "for ",
    "openssl ", "echo ", "memcached ", "kill ",
)  # fmt: skip
SET_UP = (
    "git ", "mkdir ", "cd ", "python -m venv ", "python3 -m venv ", ". .venv/", "pip ", ".venv/bin/pip ",
    "python -m benchmarks ", "python -m build", "twine ", "apt-get ", "unset ", "systemctl ",
)  # fmt: skip
"""Commands that are not run here: they set up a machine, or take minutes."""
INSTALL = "pip install -e ."
"""The one of them that is done here, in a way of its own: it makes a plugin of what the page wrote."""
EXPORT = re.compile(r"export (\w+)=(\S+)")
LANGUAGES = {"python", "toml", "console", "sh", "text", "ini", "json"}

FENCE = re.compile(r"^(`{3,}|~{3,})([^\n`]*)\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([\w./-]+\.\w+)\n")
LINK = re.compile(r"(?<!!)\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.MULTILINE)
MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC|\b\d\d:\d\d:\d\d\b")
ENTRY = re.compile(r"\b\d{13}-\d+\b")
"""The id of an entry in a stream of Redis: a moment too."""
PLACE = re.compile(r"\(/\S*/([\w.]+:\d+)\)")
"""Where an error was raised: a page's folder is somewhere else each time."""


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    return blocks_of(page.read_text("utf-8"))


def blocks_of(text: str) -> list[Block]:
    return [
        Block(found[2].strip(), found[3], text.count("\n", 0, found.start(3)) + 1)
        for found in FENCE.finditer(text)
        if not found[2].startswith("{")
    ]


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


class Page:
    """Runs the blocks of one page in `folder`."""

    def __init__(self, page: Path, folder: Path, environment: pytest.MonkeyPatch, *, servers: bool = False) -> None:
        self.page = page
        self.folder = folder
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        binaries = folder / ".venv/bin"
        binaries.mkdir(parents=True)
        for name, call in (("banhammer", "-m banhammer "), ("python", "")):
            shim = binaries / name
            shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" {call}"$@"\n')
            shim.chmod(0o755)
        environment.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
        environment.setenv("COLUMNS", "100")
        environment.delenv("PYTEST_ADDOPTS", raising=False)  # It is said to this run, not to those of the page.
        self.environment = environment
        self.project = Project(folder, environment)
        text = page.read_text("utf-8")
        if not servers:
            text = text.partition(SERVED)[0]
        self.servers = Servers(text, binaries)
        self.blocks = blocks_of(self.servers.placed(text))

    def run(self) -> None:
        try:
            self._run()
        finally:
            self.servers.close()
            self.project.forget()

    def _run(self) -> None:
        if self.page == README:  # It shows the code before the rules that the code reads.
            rules = next(block.text for block in self.blocks if block.language == "toml")
            (self.folder / "banhammer.toml").write_text(rules, "utf-8")
        for block, following in pairwise([*self.blocks, Block("", "", 0)]):
            where = f"{relative(self.page)}:{block.line}"
            self.keep(block)
            if block.language == "python":
                if self.is_of_the_project(block):
                    continue
                printed = self.python(block, where)
            elif block.language in ("console", "sh"):
                printed = self.commands(block, where)
            else:
                if block.language == "toml" and not self.is_of_the_project(block):
                    self.rules(block, where)
                continue
            if following.language == "text" and printed is not None:
                assert comparable(printed) == comparable(following.text), f"{where}:\n{printed}"

    def keep(self, block: Block) -> None:
        named = FILE_NAME.match(block.text)
        if named:
            file = self.folder / named[1]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, "utf-8")

    @staticmethod
    def is_of_the_project(block: Block) -> bool:
        """Return whether a block is a file in a folder, which commands run, or says what a project is."""
        named = FILE_NAME.match(block.text)
        return named is not None and (named[1] == PROJECT or (block.language == "python" and "/" in named[1]))

    def python(self, block: Block, where: str) -> str:
        """Run one statement after another, and compare what each prints with the comment behind it."""
        lines = block.text.splitlines()
        printed = []
        for statement in ast.parse(block.text, where).body:
            out = io.StringIO()
            code = compile(ast.Module([statement], []), where, "exec")
            with contextlib.redirect_stdout(out):
                exec(code, self.namespace)
            printed.append(out.getvalue())
            claim = lines[(statement.end_lineno or 1) - 1].encode()[statement.end_col_offset or 0 :].decode().strip()
            if claim and ast.unparse(statement).startswith("print("):
                assert f"# {out.getvalue().rstrip()}" == claim, f"{where}: line {statement.lineno} of the block"
        return "".join(printed)

    def rules(self, block: Block, where: str) -> None:
        file = self.folder / "block.toml"
        file.write_text(block.text, "utf-8")
        if block.text.startswith("# mistake.toml\n"):
            with pytest.raises(ConfigError):
                load(file)
            return
        try:
            load(file)
        except ConfigError as error:
            pytest.fail(f"{where}: {error}")

    def commands(self, block: Block, where: str) -> str | None:
        """Run the commands, and return what they print; in a console block it is compared line by line."""
        printed: list[str] = []
        run_all = True
        for command, shown in commands_of(block):
            if exported := EXPORT.fullmatch(command):
                self.environment.setenv(exported[1], exported[2])
                continue
            assert command.startswith((*RUN, *SET_UP)), f"{where}: {command!r} is neither run nor excepted"
            if command == INSTALL:
                self.project.install()
            if command.startswith(SET_UP):
                run_all = False
                continue
            done = subprocess.run(command, shell=True, cwd=self.folder, capture_output=True, text=True, timeout=60)
            self.servers.wait(command)
            told = comparable(done.stdout + done.stderr)
            assert done.returncode in (0, 1), f"{where}: {command}: {told}"
            assert done.returncode == 0 or shown, f"{where}: {command}: {told}"
            if shown:
                assert told == comparable(shown), f"{where}: {command}:\n{told}"
            printed.append(told)
        return "".join(printed) if run_all else None


def comparable(text: str) -> str:
    """Return a text without trailing spaces, moments and folders: a page shows those of the day it was written."""
    text = PLACE.sub(r"(\1)", ENTRY.sub("ENTRY", MOMENT.sub("MOMENT", text)))
    return "\n".join(line.rstrip() for line in text.rstrip().splitlines())


def commands_of(block: Block) -> Iterator[tuple[str, str]]:
    """Yield each command with the output that stands below it."""
    if block.language == "sh":
        lines = block.text.replace("\\\n", "").splitlines()
        yield from ((line.strip(), "") for line in lines if line.strip() and not line.startswith("#"))
        return
    for part in re.split(r"^\$ ", block.text.replace("\\\n", ""), flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command.strip(), shown
