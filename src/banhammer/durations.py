"""Times at the edges: durations as text or seconds in, integer microseconds inside, text or seconds out."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Final

from banhammer.errors import ConfigError

Duration = int | float | str
"""A number of seconds, or `500ms`, `10s`, `5m`, `1h30m`, `1d`, `2w`; for bans also `forever`."""

SECOND: Final = 1_000_000
MINUTE: Final = 60 * SECOND
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
FOREVER: Final = 2**53 - 1
"""The sentinel for a ban without an end: the largest integer that a double holds exactly."""

_UNITS: Final = {"w": 7 * DAY, "d": DAY, "h": HOUR, "m": MINUTE, "s": SECOND, "ms": 1000, "us": 1}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(us|ms|[wdhms])", re.ASCII)
_WHOLE: Final = re.compile(r"(?:\d+(?:\.\d+)?(?:us|ms|[wdhms]))+", re.ASCII)
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?", re.ASCII)
_HINT: Final = "a number of seconds, or like 500ms, 10s, 5m, 1h30m, 1d, 2w"


def parse_duration(value: object, *, forever: bool = False) -> int:
    """Return the microseconds that `value` means; `forever` (where allowed) is `FOREVER`.

    Raises `ConfigError` for anything that is not a positive finite duration.
    """
    hint = f"{_HINT} or forever" if forever else _HINT
    if isinstance(value, str):
        text = value.strip().lower()
        if forever and text == "forever":
            return FOREVER
        if not _WHOLE.fullmatch(text) and not _NUMBER.fullmatch(text):
            raise ConfigError(f"{value!r} is not a duration; write {hint}")
        if _NUMBER.fullmatch(text):
            micros = _exact(text, SECOND)
        else:
            micros = sum((_exact(number, _UNITS[unit]) for number, unit in _PART.findall(text)), Decimal(0))
    elif isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ConfigError(f"{value!r} is not a duration; write {hint}")
    elif isinstance(value, float) and not math.isfinite(value):
        if forever and value == math.inf:
            return FOREVER
        raise ConfigError(f"{value!r} is not a duration; write {hint}")
    else:
        micros = _exact(repr(value), SECOND)
    result = int(micros.to_integral_value()) if micros < FOREVER else FOREVER
    if result <= 0:
        raise ConfigError(f"{value!r} is not a duration; it must be longer than nothing")
    if result >= FOREVER:
        raise ConfigError(f"{value!r} is too long a duration; write {hint}")
    return result


def _exact(number: str, unit: int) -> Decimal:
    try:
        return Decimal(number) * unit
    except ArithmeticError as error:  # Millions of digits overflow even a Decimal.
        raise ConfigError(f"{number[:40]!r} is not a duration; write {_HINT}") from error


def format_duration(micros: int) -> str:
    """Return the shortest text that `parse_duration` reads back as `micros`, like `1h30m`."""
    if micros >= FOREVER:
        return "forever"
    if micros <= 0:
        return "0s"
    parts = []
    for unit in ("d", "h", "m", "s", "ms", "us"):
        count, micros = divmod(micros, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)


def to_seconds(micros: int) -> float:
    """Return Unix seconds; `inf` for `FOREVER`."""
    return math.inf if micros >= FOREVER else micros / 1e6


def seconds_until(then: int, now: int) -> float:
    """Return the seconds from `now` to `then`, never negative; `inf` where `then` is `FOREVER`."""
    return math.inf if then >= FOREVER else max(then - now, 0) / 1e6
