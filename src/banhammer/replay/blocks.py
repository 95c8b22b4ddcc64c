"""The parts of which the sections of the page are made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from banhammer.replay.markup import text
from banhammer.replay.summary import count, percent

ROWS: Final = 100
"""Rows at most, of the tables and lists that grow with the rules or with the bans."""


def section(title: str, *parts: str, anchor: str = "") -> str:
    """Return a section of the page; the parts are markup, and empty ones are left out."""
    identity = f' id="{anchor}"' if anchor else ""
    return f"<section{identity}><h2>{title}</h2>\n" + "\n".join(filter(None, parts)) + "\n</section>"


def intro(words: str) -> str:
    """Return the plain text that introduces a section."""
    return f'<p class="lead">{text(words, 1_000)}</p>'


def nothing(words: str) -> str:
    """Return what a section says that has nothing to show."""
    return f'<p class="none">{text(words)}</p>'


def left_out(number: int, noun: str, plural: str = "") -> str:
    """Return how many rows or drawings more there are, nothing for none."""
    if number <= 0:
        return ""
    words = f"{number:,} {plural}" if plural and number > 1 else count(number, noun)
    return f"<p>{words} more: left out here.</p>"


def wide(label: str, chart: str) -> str:
    """Return a chart that scrolls by itself where the screen is narrow."""
    return f'<div class="scroll" role="region" aria-label="{text(label)}" tabindex="0">{chart}</div>'


def details(title: str, *parts: str) -> str:
    """Return what is shown on demand."""
    return f"<details><summary>{title}</summary>{''.join(parts)}</details>"


def share(part: int, total: int) -> str:
    """Return a share that no line break splits, a dash of nothing."""
    return percent(part, total).replace(" ", "\u00a0") if total else "\u2013"


def quantity(value: int) -> str:
    """Return a number for a table, 0 in a fainter colour."""
    return f"{value:,}" if value else '<span class="zero">0</span>'


def table(label: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, words: Sequence[int] = (0,)) -> str:
    """Return a table that scrolls by itself; cells are markup, and the columns in `words` are not numbers."""
    kinds = ["words" if column in words else "number" for column in range(len(head))]
    titles = "".join(f'<th scope="col" class="{kind}">{title}</th>' for kind, title in zip(kinds, head, strict=True))
    body = "".join(
        "<tr>" + "".join(f'<td class="{kind}">{cell}</td>' for kind, cell in zip(kinds, row, strict=True)) + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="scroll" role="region" aria-label="{text(label)}" tabindex="0">'
        f"<table><thead><tr>{titles}</tr></thead>\n<tbody>{body}</tbody></table></div>"
    )


def items(lines: Sequence[str]) -> str:
    """Return a list of at most `ROWS` lines of plain text."""
    if not lines:
        return ""
    shown = "".join(f"<li>{text(line, 1_000)}</li>" for line in lines[:ROWS])
    return f"<ul>{shown}</ul>{left_out(len(lines) - ROWS, 'line')}"
