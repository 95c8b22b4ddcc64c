"""A fixture: distributions that nothing but a test finds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from banhammer import plugins
from plugged import HEAD, Install, forget, others


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a distribution that nothing but this test finds: a module of code, and its metadata."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    for variable in (plugins.LOAD, plugins.DISABLE):
        monkeypatch.delenv(variable, raising=False)
    before = set(sys.modules)
    forget()
    others.update({plugin.name for plugin in plugins.loaded().all}, plugins.loaded().make({})[0])
    forget()

    def install(name: str, code: str, *, entry: str | None = None, head: str = HEAD) -> Path:
        module = f"plug_{name.replace('-', '_')}"
        (site / f"{module}.py").write_text(head + dedent(code), "utf-8")
        about = site / f"{name.replace('-', '_')}-1.2.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n", "utf-8")
        (about / "entry_points.txt").write_text(f"[banhammer]\n{entry or name} = {module}\n", "utf-8")
        return site

    yield install
    for name in set(sys.modules) - before:
        if name.startswith("plug_"):
            del sys.modules[name]
    forget()
    others.clear()
