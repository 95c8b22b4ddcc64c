"""Helpers for tests: a clock moved by hand, and the switch for all limits; `conformance` is for authors of stores."""

from banhammer.testing.clock import ManualClock
from banhammer.testing.switch import limits_off, limits_on

__all__ = ["ManualClock", "limits_off", "limits_on"]
