"""A clock for tests: it moves only when it is told to."""

from __future__ import annotations

from banhammer.durations import Duration, parse_duration


class ManualClock:
    """A clock for `clock=`: a callable that returns Unix microseconds and moves only by hand.

    `start`: where it begins, in microseconds.
    """

    def __init__(self, start: int = 1_750_000_000_000_000) -> None:
        self.now = start

    def __call__(self) -> int:
        """Return the time."""
        return self.now

    def advance(self, duration: Duration) -> None:
        """Move forward by a duration as in the configuration: seconds, or like `1h30m`."""
        self.now += parse_duration(duration)

    def move_to(self, microseconds: int) -> None:
        """Set the time, in either direction."""
        self.now = microseconds
