"""A package that a page makes: installed as `pip install -e .` would, without the network and the tools of building."""

from __future__ import annotations

import os
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

from banhammer import plugins

PROJECT: Final = "pyproject.toml"


class Project:
    """The package in `folder`, for this process and for those that it starts."""

    def __init__(self, folder: Path, environment: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._environment = environment
        self._site = folder / ".venv/site"
        environment.syspath_prepend(folder)  # As for whoever starts Python there.

    def install(self) -> None:
        """Make the package importable, and what it declares visible, as its metadata would be."""
        project = tomllib.loads((self._folder / PROJECT).read_text("utf-8"))["project"]
        facts = self._site / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
        facts.mkdir(parents=True, exist_ok=True)
        (facts / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", "utf-8"
        )
        groups = project["entry-points"].items()
        lines = [
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in each.items()) for group, each in groups
        ]
        (facts / "entry_points.txt").write_text("\n".join(lines), "utf-8")
        source = self._folder / "src"
        paths = [str(self._site), str(source if source.is_dir() else self._folder)]
        for path in paths:
            if path not in sys.path:
                self._environment.syspath_prepend(path)
        self._environment.setenv("PYTHONPATH", os.pathsep.join(filter(None, [*paths, os.environ.get("PYTHONPATH")])))
        self._environment.setenv(plugins.LOAD, project["name"])  # What else is installed here is not the page's.
        plugins._loaded.cache_clear()

    def forget(self) -> None:
        """Forget the modules of the folder, and the plugins in it."""
        here = f"{self._folder}{os.sep}"
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(here):
                del sys.modules[name]
        plugins._loaded.cache_clear()
