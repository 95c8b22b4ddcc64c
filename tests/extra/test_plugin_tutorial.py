"""The tutorial on plugins, followed to the letter in a fresh environment, with packages that were built: needs PyPI."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from banhammer.plugins import BUILT_IN
from doc_pages import DOCS, FILE_NAME, INSTALL, ROOT, Block, blocks, commands_of, comparable

PAGE = DOCS / "how-to/write-a-plugin.md"
STORE_PAGE = DOCS / "how-to/write-a-backend.md"
DONE_HERE = ("mkdir ", "python -m venv ", "twine ", 'pip install "banhammer-limiter')
"""What the environment is made of, and what would publish."""

Shell = Callable[..., str]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the built package, as the first commands of the page make it."""
    folder = tmp_path_factory.mktemp("fresh")
    subprocess.run([sys.executable, "-m", "build", "--outdir", folder, ROOT], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    pip = [folder / "venv/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, f"{wheel}[cli]", "pytest", "build"], check=True)
    return folder / "venv/bin"


@pytest.fixture
def shell(environment: Path, tmp_path: Path) -> Shell:
    """Runs a command in the fresh environment, and returns what it printed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "BANHAMMER", "PYTEST"))}
    settings = {**kept, "PATH": f"{environment}:{kept['PATH']}", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "COLUMNS": "100"}

    def run(command: str, folder: Path = tmp_path, codes: tuple[int, ...] = (0,)) -> str:
        done = subprocess.run(
            command, shell=True, cwd=folder, env=settings, capture_output=True, text=True, timeout=300
        )
        assert done.returncode in codes, f"{command}: {done.stdout}{done.stderr}"
        return comparable(done.stdout + done.stderr)

    return run


def write(block: Block, folder: Path) -> None:
    """Write the file that a block is, if it is one."""
    named = FILE_NAME.match(block.text)
    if named:
        file = folder / named[1]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text, "utf-8")


def test_the_tutorial_leads_to_a_package_that_works_where_it_is_installed(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "banhammer-blocklist"
    folder.mkdir()
    for block in blocks(PAGE):
        write(block, folder)
        for command, shown in commands_of(block) if block.language == "console" else ():
            if not command.startswith(DONE_HERE):
                told = shell(command, folder, (0, 1) if shown else (0,))
                assert not shown or told == comparable(shown), f"{command}:\n{told}"

    (wheel,) = (folder / "dist").glob("*.whl")
    (source,) = (folder / "dist").glob("*.tar.gz")
    assert "banhammer_blocklist/tally.py" in zipfile.ZipFile(wheel).namelist()
    with tarfile.open(source) as archive:
        assert [name for name in archive.getnames() if ".venv" in name or "pytest_cache" in name] == []

    shell(f"pip install -q --force-reinstall --no-deps {wheel}")
    elsewhere = tmp_path / "shop"
    elsewhere.mkdir()
    found = {each["name"]: each for each in json.loads(shell("banhammer plugins --json", elsewhere))["plugins"]}
    assert {*found} == {"blocklist", "tally", *(name.rpartition(".")[0] for name in BUILT_IN)}
    assert all(each["problem"] is None for each in found.values())
    assert found["blocklist"]["actions"] == ["blocklist"]
    assert (found["blocklist"]["distribution"], found["blocklist"]["version"]) == ("banhammer-blocklist", "0.1.0")
    for block in blocks(PAGE):
        if block.text.startswith("# demo/"):
            write(block, elsewhere)
    assert shell("python demo/login.py", elsewhere) == "['203.0.113.9 for 3600 s']\n[]"


def test_the_store_of_the_page_on_backends_is_a_plugin_where_it_is_installed(shell: Shell, tmp_path: Path) -> None:
    for block in blocks(STORE_PAGE):
        write(block, tmp_path)
    shell(INSTALL)
    elsewhere = tmp_path / "shop"
    elsewhere.mkdir()
    (tmp_path / "banhammer.toml").rename(elsewhere / "banhammer.toml")
    assert shell("banhammer ban 203.0.113.9 login_failed", elsewhere).startswith(
        "203.0.113.9 under login_failed: banned"
    )
    assert shell("banhammer unban 203.0.113.9", elsewhere).startswith("203.0.113.9 under login_failed: lifted")
    shell("pip uninstall -q -y banhammer-sqlite")
