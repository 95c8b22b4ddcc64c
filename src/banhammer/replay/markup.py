"""Text on its way into HTML or SVG: whatever an attacker wrote into a log, it stays text, and it is visible."""

from __future__ import annotations

import html
from typing import Final

from banhammer.replay.texts import printable

LONGEST: Final = 240
"""Characters of one value that are shown; what is longer is cut."""


def text(value: object, most: int = LONGEST) -> str:
    """Return the value escaped for HTML and XML, in an element or a quoted attribute, cut to `most` characters."""
    return html.escape(plain(value, most))


def plain(value: object, most: int = LONGEST) -> str:
    """Return the value cut to `most` characters, with everything in it visible.

    What does not print (control and bidirectional marks, lone surrogates) is written out, like `\\u202e`, so
    that nothing in a log can hide or reorder what stands beside it.
    """
    shown = printable(str(value)[: most + 1])
    return shown if len(shown) <= most else shown[: most - 1] + "\u2026"


def code(value: object, most: int = LONGEST) -> str:
    """Return the value as an element for keys, names and log lines, whose direction is its own."""
    return f'<bdi class="code">{text(value, most)}</bdi>'
