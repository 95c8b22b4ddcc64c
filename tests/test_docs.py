"""The documentation is true: its code runs and prints what it says, its rules load, its links lead somewhere.

Blocks of one page share a folder and a namespace, in order. A block whose first line is `# name.ext` also
writes that file, and `mistake.toml` must be one. A `text` block is what the block before it prints; so is
the comment behind a `print(...)`. What follows a page's `<!-- ports: -->` needs servers, and is run by tests/extra.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

import banhammer
import banhammer.classic
import banhammer.testing
from banhammer.cli import build_app
from banhammer.config import load
from banhammer.errors import ConfigError
from banhammer.schema import json_schema
from doc_pages import DOCS, FENCE, HEADING, LANGUAGES, LINK, PAGES, Page, blocks, relative


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_block_of_a_page_runs_and_prints_what_the_page_says(page: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("BANHAMMER_CONFIG", "BANHAMMER_BACKEND", "BANHAMMER_MODE"):
        monkeypatch.delenv(name, raising=False)
    Page(page, tmp_path, monkeypatch).run()


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
    params = [one for each in (command, *getattr(command, "commands", {}).values()) for one in each.params]
    options = {name for one in params if one.param_type_name == "option" for name in one.opts}
    arguments = {one.name.rstrip("_") for one in params if one.param_type_name == "argument"}
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
