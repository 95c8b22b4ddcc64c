"""How a benchmark tells what it measures now: a line that is written over, where somebody looks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

WIDTH: Final = 78

Tell = Callable[[str], None]
"""Takes what is measured next; an empty text clears the line."""


def on_terminal(what: str) -> None:
    """Write over the line on the terminal; where standard error is none, say nothing."""
    if sys.stderr.isatty():
        print(f"\r{what[:WIDTH]:<{WIDTH}}", end="" if what else "\r", file=sys.stderr, flush=True)
