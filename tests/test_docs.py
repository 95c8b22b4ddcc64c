"""The documentation is true: its code runs and prints what it says, its rules load, its links lead somewhere.

Blocks of one page share a folder and a namespace, in order. A block whose first line is `# name.ext` also
writes that file, and `mistake.toml` must be one. A `text` block is what the block before it prints; so is
the comment behind a `print(...)`.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
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
import typer.main

import banhammer
import banhammer.classic
import banhammer.testing
from banhammer.cli import build_app
from banhammer.config import json_schema, load
from banhammer.errors import ConfigError

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]

RUN = ("banhammer ", "python ")
SET_UP = ("git ", "cd ", "python -m venv ", "python3 -m venv ", ". .venv/", "pip ", "python -m benchmarks ")
"""Commands that are not run here: they set up a machine, or take minutes."""
LANGUAGES = {"python", "toml", "console", "sh", "text", "ini", "json"}

FENCE = re.compile(r"^(`{3,}|~{3,})([^\n`]*)\n(.*?)^\1[ \t]*$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([\w./-]+\.\w+)\n")
LINK = re.compile(r"(?<!!)\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)|(?:src|href)=\"([^\"]+)\"")
HEADING = re.compile(r"^#{1,6} +(.+?)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(found[2].strip(), found[3], text.count("\n", 0, found.start(3)) + 1)
        for found in FENCE.finditer(text)
        if not found[2].startswith("{")
    ]


def relative(page: Path) -> str:
    return str(page.relative_to(ROOT))


class Page:
    """Runs the blocks of one page in `folder`."""

    def __init__(self, page: Path, folder: Path) -> None:
        self.page = page
        self.folder = folder
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        binaries = folder / ".bin"
        binaries.mkdir()
        for name, call in (("banhammer", "-m banhammer "), ("python", "")):
            shim = binaries / name
            shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" {call}"$@"\n')
            shim.chmod(0o755)
        self.environment = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "COLUMNS": "100"}

    def run(self) -> None:
        if self.page == README:  # It shows the code before the rules that the code reads.
            rules = next(block.text for block in blocks(self.page) if block.language == "toml")
            (self.folder / "banhammer.toml").write_text(rules, "utf-8")
        for block, following in pairwise([*blocks(self.page), Block("", "", 0)]):
            where = f"{relative(self.page)}:{block.line}"
            self.keep(block)
            if block.language == "python":
                printed = self.python(block, where)
            elif block.language in ("console", "sh"):
                printed = self.commands(block, where)
            else:
                if block.language == "toml":
                    self.rules(block, where)
                continue
            if following.language == "text" and printed is not None:
                assert without_trailing_spaces(printed) == without_trailing_spaces(following.text), where

    def keep(self, block: Block) -> None:
        named = FILE_NAME.match(block.text)
        if named:
            (self.folder / named[1]).write_text(block.text, "utf-8")

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
            assert command.startswith((*RUN, *SET_UP)), f"{where}: {command!r} is neither run nor excepted"
            if command.startswith(SET_UP):
                run_all = False
                continue
            done = subprocess.run(
                command, shell=True, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60
            )
            told = without_trailing_spaces(done.stdout + done.stderr)
            assert done.returncode in (0, 1), f"{where}: {command}: {told}"
            assert done.returncode == 0 or shown, f"{where}: {command}: {told}"
            if shown:
                assert told == without_trailing_spaces(shown), f"{where}: {command}"
            printed.append(told)
        return "".join(printed) if run_all else None


def without_trailing_spaces(text: str) -> str:
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


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_block_of_a_page_runs_and_prints_what_the_page_says(page: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("BANHAMMER_CONFIG", "BANHAMMER_BACKEND", "BANHAMMER_MODE"):
        monkeypatch.delenv(name, raising=False)
    Page(page, tmp_path).run()


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_block_names_a_language_that_is_checked_or_plainly_not_ours(page: Path) -> None:
    assert [f"{block.line}: {block.language}" for block in blocks(page) if block.language not in LANGUAGES] == []


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_internal_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    text = FENCE.sub("", page.read_text("utf-8"))
    broken = []
    for link in (next(filter(None, found.groups())) for found in LINK.finditer(text)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub and MyST make them."""
    headings = HEADING.findall(FENCE.sub("", page.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_stands_in_a_table_of_contents() -> None:
    listed = {
        (page.parent / entry).resolve()
        for page in PAGES
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
        for entry in tree.splitlines()
        if entry and not entry.startswith(":")
    }
    pages = {page.with_suffix("") for page in DOCS.rglob("*.md") if "_build" not in page.parts}
    assert listed == pages - {DOCS / "index"}


# The reference.


def test_the_api_page_shows_every_public_name() -> None:
    text = (DOCS / "reference/api.md").read_text("utf-8")
    shown = set(re.findall(r"^\.\. auto\w+:: ([\w.]+)", text, re.MULTILINE))
    wanted = {f"banhammer.{name}" for name in banhammer.__all__}
    wanted |= {"banhammer.classic.BanHammer", "banhammer.testing.ManualClock", "banhammer.backends.Backend"}
    assert wanted - shown == set()


def sections(page: Path) -> dict[str, str]:
    """Return the text below each heading of the second level."""
    parts = re.split(r"^## (.+)\n", page.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def subcommands() -> dict[str, Any]:
    group = typer.main.get_command(build_app())
    return {f"`banhammer {name}`": command for name, command in group.commands.items()}  # type: ignore[attr-defined]


def test_the_cli_page_has_a_section_for_every_command_and_no_other() -> None:
    found = {heading for heading in sections(DOCS / "reference/cli.md") if heading.startswith("`")}
    assert found == set(subcommands())


@pytest.mark.parametrize("heading", sorted(subcommands()))
def test_the_cli_page_names_every_option_of_a_command_and_no_other(heading: str) -> None:
    command = subcommands()[heading]
    text = sections(DOCS / "reference/cli.md")[heading]
    table = re.search(r"^\| Argument or option .*?(?=\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    rows = set(re.findall(r"^\| `(-{0,2}[\w-]+)", table[0] if table else "", re.MULTILINE))
    options = {name for one in command.params if one.param_type_name == "option" for name in one.opts}
    arguments = {one.name.rstrip("_") for one in command.params if one.param_type_name == "argument"}
    assert rows == (options | arguments) - {"--help"}


def tables() -> dict[str, dict[str, Any]]:
    """Return the settings of each table of a file, as `banhammer schema` gives them."""
    schema = json_schema()
    inner = {definition["title"]: definition for definition in schema["$defs"].values()}
    return {
        "The file": schema["properties"],
        "A policy": inner["policy"]["properties"],
        "A threshold": inner["threshold"]["properties"],
        "A route": inner["route"]["properties"],
    }


def rows_of(heading: str) -> dict[str, list[str]]:
    """Return type, range and default of each setting that the page shows."""
    text = sections(DOCS / "reference/settings.md")[heading]
    cells = [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in re.findall(r"^\| `.*$", text, re.M)]
    return {row[0].strip("`"): row[1:4] for row in cells}


@pytest.mark.parametrize("heading", sorted(tables()))
def test_the_settings_page_shows_every_setting_of_the_schema_and_no_other(heading: str) -> None:
    assert set(rows_of(heading)) == set(tables()[heading])


TYPES = {"integer": "integer", "boolean": "boolean", "string": "string", "array": "list", "object": "tables"}


@pytest.mark.parametrize("heading", sorted(tables()))
def test_the_settings_page_gives_the_types_and_defaults_of_the_schema(heading: str) -> None:
    rows = rows_of(heading)
    for name, setting in tables()[heading].items():
        kind, _, default = rows[name]
        if "type" in setting:
            assert TYPES[setting["type"]] in kind, name
        if setting.get("default") is not None and setting["default"] not in ({}, []):
            shown = setting["default"]
            assert default == f"`{json.dumps(shown)}`", name


THRESHOLD = {"limit": 10, "period": "1h", "ban": "1h"}
BOUNDED = {
    ("A policy", "forgive_after"): lambda value: policy(forgive_after=value),
    ("A threshold", "period"): lambda value: policy({"limit": 1, "period": value, "burst": 1}),
    ("A threshold", "limit"): lambda value: policy({"limit": value, "period": "365d", "burst": 1}),
    ("A threshold", "ban"): lambda value: policy({**THRESHOLD, "ban": value}),
    ("A route", "cost"): lambda value: {**policy(), "routes": [{"policy": "p", "cost": value}]},
}


def policy(threshold: dict[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    return {"policies": {"p": {"thresholds": [threshold or THRESHOLD], **settings}}}


@pytest.mark.parametrize("place", BOUNDED, ids=lambda place: ".".join(place))
def test_the_settings_page_gives_the_very_bounds_that_are_enforced(place: tuple[str, str]) -> None:
    heading, name = place
    span = rows_of(heading)[name][1]
    low, high = re.findall(r"`([^`]+)`", span)[:2]
    build = BOUNDED[place]
    for text in (low, high):
        load(build(value_of(text)))
    for text in (below(low), above(high)):
        with pytest.raises(ConfigError):
            load(build(text))


def value_of(text: str) -> int | str:
    digits = text.replace(",", "")
    return int(digits) if digits.isdecimal() else text


def below(text: str) -> int | str:
    value = value_of(text)
    return value - 1 if isinstance(value, int) else "0.1us" if text == "1us" else "999us"


def above(text: str) -> int | str:
    value = value_of(text)
    return value + 1 if isinstance(value, int) else f"{value}1us"
