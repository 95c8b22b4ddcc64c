"""On what terms an action runs: how long one run may take, how often it is tried, and how long it waits in between."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from banhammer.actions import Action
from banhammer.durations import MINUTE, SECOND, parse_duration
from banhammer.errors import ConfigError, RetryAfter
from banhammer.model import Escalation

MOST_ATTEMPTS: Final = 1000
LONGEST_DEADLINE: Final = 60 * MINUTE
LONGEST_WAIT: Final = MINUTE
"""Where the back-off ends to grow (us)."""
LONGEST_ASKED: Final = 60 * MINUTE
"""The longest wait that an action may ask for itself (us)."""
TERMS: Final = ("deadline", "attempts", "backoff")


@dataclass(frozen=True, slots=True)
class Terms:
    """`deadline`: microseconds that one run may take; `attempts`: how often it is tried in all; `backoff`: microseconds
    before the second try, doubled before each further one, at most a minute."""

    deadline: int = 10 * SECOND
    attempts: int = 10
    backoff: int = SECOND

    def wait(self, attempts: int, error: BaseException) -> float:
        """Return the seconds before the next try, after so many in vain: half of it is left to chance.

        An action that asks for a wait of its own gets it, up to an hour.
        """
        asked = getattr(error, "seconds", None) if isinstance(error, RetryAfter) else None
        if (
            isinstance(asked, int | float) and asked >= 0
        ):  # Not where it is NaN, or a subclass has made it something else.
            return min(asked, LONGEST_ASKED / 1e6)
        longest = min(self.backoff << min(attempts - 1, 32), max(LONGEST_WAIT, self.backoff))
        return longest * random.uniform(0.5, 1.0) / 1e6  # noqa: S311  # So that many do not come back at once.


class OnTerms:
    """An action with other terms than its own, as a configuration gives them."""

    def __init__(self, action: Action, settings: Mapping[str, Any]) -> None:
        terms = terms_of(action, settings)
        self._action = action
        self.deadline = terms.deadline / 1e6
        self.attempts = terms.attempts
        self.backoff = terms.backoff / 1e6

    def run(self, escalation: Escalation) -> Any:
        """Run the action."""
        return self._action(escalation) if callable(self._action) else self._action.run(escalation)

    def lift(self, escalation: Escalation) -> Any:
        """Undo it, if it can be undone."""
        lift = getattr(self._action, "lift", None)
        return None if lift is None else lift(escalation)


def terms_of(action: object, settings: Mapping[str, Any] | None = None) -> Terms:
    """Return the terms of an action: its own attributes, overridden by `settings`.

    Raises `ConfigError` with every mistake, the setting's name in front.
    """
    mistakes: list[str] = []
    found: dict[str, int] = {}
    for name in TERMS:
        value = (settings or {}).get(name, getattr(action, name, None))
        if value is None:
            continue
        try:
            found[name] = _attempts(value) if name == "attempts" else _span(name, value)
        except ConfigError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConfigError(mistakes)
    return Terms(**found)


def _attempts(value: object) -> int:
    if value.__class__ is not int or not 1 <= value <= MOST_ATTEMPTS:
        raise ConfigError(f"attempts: {value!r}; write an integer from 1 to {MOST_ATTEMPTS:,}")
    return value


def _span(name: str, value: Any) -> int:
    try:
        micros = parse_duration(value)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    if not 1000 <= micros <= LONGEST_DEADLINE:
        raise ConfigError(f"{name}: {value!r}; it must be 1ms to 1h")
    return micros
