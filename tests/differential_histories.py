"""Histories that the machine takes again each time: what differed once, or what a store could easily get wrong.

A step is a rule of the machine and its arguments, as a failure prints them; `RULES` are the three versions' policies.
"""

from __future__ import annotations

from typing import Any

from banhammer import Policy, Threshold
from banhammer.durations import DAY

Step = tuple[str, dict[str, Any]]

LEVELS = {
    "3s": [
        Threshold(100, "1ms", burst=3, actions=["note"]),
        Threshold(37, "1s", burst=5, ban=["2s", "1m"], actions=["note"]),
    ],
    "1d": [Threshold(100, "1ms", burst=1, actions=["note"])],
    "5us": [Threshold(7, "30s", burst=2, ban="forever", actions=["note"])],
}
"""By what forgiving takes."""
RULES: tuple[list[Policy], ...] = tuple(
    [Policy(name, levels, forgive_after=forgiving, track=["12s"]) for forgiving, levels in LEVELS.items()]
    for name in ("alpha", "beta")
)
HERE: dict[str, Any] = {"key": 0, "name": "alpha"}
BURST: Step = ("a_burst_of_hits", {**HERE, "times": 9})
LIST: Step = ("everything_is_listed", {})


def ban(duration: str | None = None, reason: str = "") -> Step:
    return "ban", {**HERE, "duration": duration, "threshold": None, "reason": reason}


def wait(step: int) -> Step:
    return "time_passes", {"step": step}


def large_batch(*, stop: bool) -> Step:
    batch = [(0, "alpha", 1, False), (1, "alpha", 2, True), (0, "beta", 1, False)]
    return "hit_many", {"batch": batch, "times": 130, "stop": stop}


HISTORIES: dict[str, list[Step]] = {
    "a ban after a damaged one is a new one": [
        ban("5m", "by|hand \u00e9"), ("a_record_is_damaged", {**HERE, "wrong": b"\1"}), wait(7), BURST, LIST,
    ],
    "a ban after one of another kind is a new one": [
        ban("5m"), ("a_record_is_damaged", {**HERE, "wrong": None}), wait(7), ban("3s", "again"), LIST,
    ],
    "a ban that has ended is in force again once the clock has stepped back": [
        BURST, LIST, wait(2_000_000), LIST, ("the_clock_steps_back", {"step": -1}), LIST,
    ],
    "a lifted ban is in force again once the clock has stepped back behind that, and can be lifted again": [
        BURST, wait(70), ("unban", HERE), LIST, ("the_clock_steps_back", {"step": -50}), LIST, ("unban", HERE), LIST,
    ],
    "a ban of a threshold that is gone stays": [
        BURST, ("the_policies_change", {"version": 1}), LIST, BURST, ("unban", HERE), LIST,
    ],
    "what a store let go of is as new": [
        BURST, ("a_store_lets_go_of_what_has_lapsed", {**HERE, "jump": True}), BURST, LIST,
    ],
    "a ban for ever outlives its policies and every year": [
        ban("forever"), wait(365 * DAY), ("the_policies_change", {"version": 2}), BURST, LIST, ("unban", HERE), BURST,
    ],
    "meters alone are reset under a ban": [
        BURST, ("reset", {**HERE, "strikes": False}), BURST, wait(2_000_000), BURST, LIST,
    ],
    "what a reset left is seen": [
        ("hit", {**HERE, "cost": 2}), ("reset", {**HERE, "strikes": False}), ("hit", {**HERE, "cost": 2}),
        ("reset", {**HERE, "strikes": True}), ("hit", {**HERE, "cost": 2}),
    ],
    "a large batch is charged in order": [large_batch(stop=True), large_batch(stop=False), LIST],
}  # fmt: skip
