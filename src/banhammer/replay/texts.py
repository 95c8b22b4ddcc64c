"""The texts of a summary: safe to print whatever a log held, and without whole addresses where asked."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Final

from banhammer.replay.summary import Summary

_IPV4: Final = re.compile(r"(?<![\w.])((?:\d{1,3}\.){3})\d{1,3}(?![\w]|\.\d)(/\d\d)?", re.ASCII)
_IPV6: Final = re.compile(r"(?<![\w:])(?=[0-9A-Fa-f]*:[0-9A-Fa-f]*:)([0-9A-Fa-f:]{3,39}+)(?:/\d{1,3})?", re.ASCII)


def mask(text: str) -> str:
    """Return the text with every address shortened: `203.0.113.x`, and IPv6 to its /48."""
    return _IPV6.sub(_short_v6, _IPV4.sub(_short_v4, text))


def printable(text: str) -> str:
    """Return the text with what could disturb a terminal or a page (control characters, bad bytes) escaped."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


def masked(text: str) -> str:
    """Return the text printable and with every address shortened."""
    return mask(printable(text))


def clean(summary: Summary, text: Callable[[str], str]) -> None:
    """Make every text of a finished summary fit to be shown: `text` is `printable` or `masked`."""
    for ban in summary.bans:
        ban.key = text(ban.key)
    for served in summary.served:
        served.key, served.user_agent = text(served.key), text(served.user_agent)
    for worst in summary.worst:
        worst.key, worst.user_agent = text(worst.key), text(worst.user_agent)
    for threshold in summary.thresholds:
        if threshold.headroom.nearest_key:
            threshold.headroom.nearest_key = text(threshold.headroom.nearest_key)
    summary.samples = [text(sample) for sample in summary.samples]
    summary.doubts = [text(doubt) for doubt in summary.doubts]
    summary.sources = [printable(source) for source in summary.sources]
    summary.rules = printable(summary.rules)
    summary.next_step = text(summary.next_step)


def _short_v4(found: re.Match[str]) -> str:
    network = found[2]
    if network and int(network[1:]) <= 24:
        return found[0]
    return f"{found[1]}x"


def _short_v6(found: re.Match[str]) -> str:
    try:
        return str(ipaddress.ip_network((found[1], 48), strict=False))
    except ValueError:
        return found[0]
