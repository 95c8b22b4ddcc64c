"""Escalations for the tests of actions, with hostile keys among them."""

from __future__ import annotations

import json
import math
import random
from typing import Any

from banhammer import Escalation

BAN = Escalation(
    id="7f3a", key="203.0.113.9", policy="login_failed", threshold=0, verdict="banned", strikes=1,
    at=1_700_000_000.5, until=1_700_003_600.5, limit=10, period=3600.0, cost=1, reason="over 10 per 1h",
    shadow=False, origin="hit",
)  # fmt: skip
PIECES = (
    "a", " ", "\r\n", "\n", "\r", "\0", '"', "'", "\\", "{", "}", "{0}", "%s", "%00", "\u2028", "\u2029", "\x0b",
    "\x1b[31m", "\x7f", "\ud800", "\udfff", "\U0001f600", "caf\u00e9", "e\u0301", "::ffff:1.2.3.4", "fe80::1%eth0",
    '","verdict":"lifted"', "\r\nX-Evil: 1\r\n\r\n", "$-1\r\n", "\r\nFLUSHALL\r\n", "\uff11", "<script>", "\t",
)  # fmt: skip


def escalation(**changes: Any) -> Escalation:
    """Return a ban of an hour, with changes."""
    fields = {name: getattr(BAN, name) for name in Escalation.__slots__}
    return Escalation(**{**fields, **changes})


def hostile(count: int = 500) -> list[Escalation]:
    """Return escalations of so many hostile keys, all different, one of them of 64 KiB."""
    rng = random.Random(5)
    keys = dict.fromkeys([*PIECES, "\0" * 65_536])
    while len(keys) < count:
        key = "".join(rng.choices(PIECES, k=rng.randint(2, 12)))
        if "\ud800\udfff" not in key:  # JSON reads the two halves as one character.
            keys[key] = None
    return [escalation(id=f"e{number}", key=key) for number, key in enumerate(keys)]


def plain(each: Escalation) -> dict[str, Any]:
    """Return what the JSON document of an escalation must read as."""
    fields = {name: getattr(each, name) for name in Escalation.__slots__}
    return {**fields, "until": "forever" if each.until == math.inf else each.until}


def strict(text: str) -> Any:
    """Read JSON that must hold no NaN and no infinity, which the standard library would take."""
    return json.loads(text, parse_constant=lambda word: fail(word))


def fail(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")
