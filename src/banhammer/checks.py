"""What a value may be: each check returns what was meant, and a mistake joins the list of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from banhammer.durations import DAY, FOREVER, format_duration, parse_duration
from banhammer.errors import ConfigError

MAX_SPAN: Final = 3650 * DAY
"""The longest tolerance, rung and `forgive_after`: ten years."""


def name_list(mistakes: list[str], label: str, value: object, what: str) -> tuple[str, ...]:
    """Return a list of non-empty strings as a tuple, `None` as an empty one; what is wrong joins `mistakes`."""
    if value is None:
        return ()
    names = tuple(value) if isinstance(value, Iterable) and not isinstance(value, str) else None
    if names is None or not all(isinstance(name, str) and name for name in names):
        mistakes.append(f"{label}: {value!r}; write a list of {what}")
        return ()
    return names


def is_int(value: object) -> bool:
    """Return whether a value is an integer; `True` is none."""
    return isinstance(value, int) and not isinstance(value, bool)


def micros_of(mistakes: list[str], label: str, value: object, low: int, high: int, *, forever: bool = False) -> int:
    """Return the microseconds of a duration from `low` to `high`, or 0."""
    try:
        micros = parse_duration(value, forever=forever)
    except ConfigError as error:
        mistakes.append(f"{label}: {error}")
        return 0
    if not low <= micros <= high and not (forever and micros == FOREVER):
        span = f"{format_duration(low)} to {format_duration(high)}"
        mistakes.append(f"{label}: {value!r}; it must be {span}")
        return 0
    return micros


def ladder(mistakes: list[str], ban: object) -> tuple[int, ...]:
    """Return the rungs of a ladder, of which a lone duration is one."""
    if ban is None:
        return ()
    if isinstance(ban, (str, int, float)) or not isinstance(ban, Iterable):
        return (micros_of(mistakes, "ban", ban, 1, MAX_SPAN, forever=True),)
    rungs = list(ban)
    if not rungs:
        mistakes.append("ban: []; a ladder needs at least one rung")
    return tuple(micros_of(mistakes, f"ban.{i}", rung, 1, MAX_SPAN, forever=True) for i, rung in enumerate(rungs))
