"""The page of a replay: one self-contained HTML file, light and dark, without a script or anything to load."""

from __future__ import annotations

from importlib.resources import files
from string import Template
from typing import Final

from banhammer.replay import sections, threshold_sections
from banhammer.replay.markup import code, plain, text
from banhammer.replay.summary import Summary, count, dates

_SOURCES: Final = 6
"""Logs that are named in the head of the page."""
_SECTIONS: Final = (
    sections.figures,
    sections.timeline,
    sections.served,
    sections.bans,
    threshold_sections.policies,
    threshold_sections.headrooms,
    sections.worst,
    sections.rules,
    sections.doubts,
    sections.next_step,
)
_UNREADABLE: Final = (
    sections.figures,
    sections.timeline,
    sections.doubts,
    sections.rules,
    sections.next_step,
)
"""What is left of them when there is no request: first why."""


def render(summary: Summary) -> str:
    """Return the whole page. It has no lone surrogate, so that it can be written as UTF-8."""
    here = files("banhammer.replay")
    return Template((here / "page.html").read_text(encoding="utf-8")).substitute(
        title=text(_title(summary)),
        style=(here / "page.css").read_text(encoding="utf-8"),
        sentence=text(summary.sentence, 1_000).replace(" %", "\u00a0%"),
        meta=_meta(summary),
        main="\n".join(section(summary) for section in (_SECTIONS if summary.requests.total else _UNREADABLE)),
    )


def _title(summary: Summary) -> str:
    if not summary.requests.total:
        return "Banhammer replay: no requests"
    denied = count(summary.requests.denied, "request")
    return (
        f"Banhammer replay, {dates(summary.first, summary.last)}: {denied} kept out, {count(len(summary.bans), 'ban')}"
    )


def _meta(summary: Summary) -> str:
    """Return what was replayed by which rules, and the way to the doubts."""
    named = ", ".join(code("standard input" if name == "-" else name, 120) for name in summary.sources[:_SOURCES])
    more = len(summary.sources) - _SOURCES
    parts = [f"{named} and {more:,} more" if more > 0 else named, f"by {text(plain(summary.rules, 120))}"]
    number = len(summary.doubts) + bool(summary.skipped and not summary.doubts)
    if number:
        parts.append(f'<a href="#doubts">{count(number, "doubt")}</a> about these numbers')
    return " \u00b7 ".join(filter(None, parts))
