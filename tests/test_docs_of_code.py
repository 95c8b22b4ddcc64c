"""The pages that speak of the code and its tests name files that exist and hold what they say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import banhammer

ROOT: Final = Path(__file__).parent.parent
DOCS: Final = ROOT / "docs"


def test_each_invariant_is_named_in_the_files_that_the_page_gives() -> None:
    rows = re.findall(
        r"^\| (G\d+) \|.*\|([^|]*)\|$", (DOCS / "explanation/testing.md").read_text("utf-8"), re.MULTILINE
    )
    assert [name for name, _ in rows] == [f"G{number}" for number in range(1, 22)]
    for name, files in rows:
        for file in re.findall(r"`([^`]+)`", files):
            assert re.search(rf"\b{name}\b", (ROOT / "tests" / file).read_text("utf-8")), f"{name} in {file}"


def test_every_file_of_tests_that_the_page_names_exists() -> None:
    named = set(re.findall(r"`(?:tests/)?(test_\w+\.py)`", (DOCS / "explanation/testing.md").read_text("utf-8")))
    assert [name for name in sorted(named) if not (ROOT / "tests" / name).exists()] == []


def test_how_it_works_names_every_module() -> None:
    shown = (DOCS / "explanation/how-it-works.md").read_text("utf-8")
    package = Path(banhammer.__file__).parent
    files = {
        str(file.relative_to(package))
        for folder in (".", "backends", "backends/redis", "actions", "worker")
        for kind in ("*.py", "*.lua")
        for file in package.joinpath(folder).glob(kind)
    }
    unnamed = [name for name in sorted(files) if f"`{name}`" not in shown]
    assert unnamed == ["__init__.py", "__main__.py", "backends/redis/__init__.py", "worker/__init__.py"]
