"""What the tests of plugins share: a plugin, and what is known of those that were found."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from banhammer import Policy, Threshold, plugins

Install = Callable[..., Path]
others: set[str] = set()
"""The plugins that are installed beside a test's own, and their actions."""
HEAD = "from banhammer import hookimpl\nseen = []\n"
GIVES = """
    @hookimpl
    def banhammer_actions():
        return {"ping": seen.append}
"""


def forget() -> None:
    plugins._loaded.cache_clear()
    plugins._report.cache_clear()


def found(name: str) -> plugins.Plugin:
    return next(plugin for plugin in plugins.loaded().all if plugin.name == name)


def ran(name: str) -> list[Any]:
    """Return what the plugin of a name has seen."""
    seen: list[Any] = sys.modules[f"plug_{name}"].seen  # type: ignore[attr-defined]
    return seen


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def trap(*actions: str) -> Policy:
    return Policy("trap", [Threshold(1, "1h", burst=0, ban="1h", actions=actions)])
