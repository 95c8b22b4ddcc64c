"""The scenes: each shows one promise by its edge. The ideal store says what must be told at each step.

A step is a verb and its arguments, or a direction: `at` (microseconds since the
start), `rules` (the version of the policies) and `list` (all bans).
"""

from __future__ import annotations

from typing import Any, Final

from banhammer.model import MAX_COST, Hit
from banhammer.testing.conformance.rules import KEY, START
from banhammer.testing.conformance.stage import Pair

Step = tuple[Any, ...]

SECOND, HOUR, DAY = 1_000_000, 3_600_000_000, 86_400_000_000


def hit(policy: str, cost: int = 1, times: int = 1) -> list[Step]:
    """Return the steps of so many hits by one key."""
    return [("hit", KEY, policy, cost)] * times


def peek(policy: str, cost: int = 1) -> list[Step]:
    """Return the step of a peek by that key."""
    return [("peek", KEY, policy, cost)]


def guard(policy: str, cost: int = 1, times: int = 1) -> list[Step]:
    """Return the steps of so many guards by that key."""
    return [("guard", KEY, policy, cost)] * times


def at(microseconds: int) -> list[Step]:
    """Return the direction to go to a time, counted from the start."""
    return [("at", microseconds)]


SCENES: Final[dict[str, list[Step]]] = {
    "a hit is denied until retry_after, and allowed at that microsecond": [
        *hit("api", 2, 2), *at(SECOND - 1), *hit("api", 2), *at(SECOND), *hit("api", 2),
    ],
    "a denial charges no throttle": [*hit("api", 2), *hit("api", 2, 3), *hit("api")],
    "throttles are all or nothing": [
        *hit("both", 3), *hit("both", 1, 2), *at(20 * SECOND), *hit("both", 1, 4), *at(HOUR), *hit("both", 3),
        *hit("both", 3),
    ],
    "a cost of n fits where n hits would": [
        *hit("both", 2), *hit("both", 1), *hit("both", 1), *at(HOUR), *hit("both", 3),
    ],
    "a cost above the burst is denied for ever, and escalates no throttle": [
        *hit("api", 4, 2), *hit("api", MAX_COST), *peek("api", 4), *hit("api", 3), *hit("api"),
    ],
    "a cost above the burst trips a ban threshold": [*hit("login", MAX_COST), *hit("login", MAX_COST)],
    "a throttle escalates on the hit that first goes over it, and again after its meter was empty": [
        *hit("api", 3), *hit("api", 1, 2), *at(SECOND), *hit("api", 2), *at(4 * SECOND), *hit("api", 3), *hit("api"),
    ],
    "an allowed guard stores nothing, a denied one is a hit": [
        *guard("api", 3, 3), *hit("api", 3), *guard("api", 1, 2), *hit("login", 10), *guard("login", 1, 2),
        *hit("login"), *guard("login", 60, 2),
    ],
    "a peek tells what a hit would": [
        *peek("api"), *hit("api"), *peek("api", 2), *hit("api", 2), *peek("api"), *hit("api"), *peek("trap"),
        *hit("trap"),
    ],
    "a ladder is climbed a rung a strike, its last rung repeats, and strikes are forgiven": [
        *hit("login", 11), *at(HOUR - 1), *hit("login"), *at(HOUR), *hit("login", 11), *at(7 * HOUR), *hit("login", 11),
        *at(13 * HOUR + 2 * DAY - 1), *peek("login"), *at(13 * HOUR + 2 * DAY), *peek("login"), *hit("login", 11),
    ],
    "a higher threshold lengthens the ban in force, which hits alone never prolong": [
        *hit("login", 11), *at(SECOND), *hit("login", 10, 10), ("list",), *hit("login", 100, 2),
    ],
    "a honeypot bans on the first hit": [
        *peek("trap"), *guard("trap"), *at(SECOND - 1), *hit("trap"), *at(SECOND), *hit("trap"), *at(2 * HOUR),
        *hit("trap"), *at(400 * DAY), *hit("trap"), ("list",),
    ],
    "tracked windows count every hit once, whatever its cost, denied ones too": [
        *hit("seen", 2), *hit("seen"), *guard("seen"), *peek("seen"), *at(60 * SECOND), *guard("seen"), *hit("seen"),
        *at(120 * SECOND), *hit("seen"), *at(13 * 60 * SECOND), *peek("seen"), *at(0), *hit("seen"),
    ],
    "shadow keeps the state of enforcement, and denies nobody": [
        *hit("watched", 1, 4), ("rules", 1), *hit("watched"), ("list",),
    ],
    "a ban by hand takes a ladder or a duration, and is never shortened": [
        ("ban", KEY, "login", None, None, "spam \u00e9|"), *hit("login"), ("ban", KEY, "login", "1m", 1, "shorter"),
        ("list",), ("ban", KEY, "login", "3h", 2, "longer"), ("list",), *at(HOUR),
        ("ban", KEY, "login", "3h", 0, "longer again"), ("list",), *at(4 * HOUR), ("ban", KEY, "login", None, 2),
        ("ban", KEY, "login", "forever"), ("ban", KEY, "login", "1s"), ("ban", KEY, "api", "2h"), ("ban", KEY, "both"),
        ("ban", KEY, "seen", 0.5), ("list",),
    ],
    "unban ends the ban now, forgiving starts now, and strikes stay": [
        ("unban", KEY, "login"), *hit("login", 11), *at(SECOND), ("unban", KEY, "login"), ("unban", KEY, "login"),
        ("list",), *hit("login"), *at(SECOND + 2 * DAY - 1), *peek("login"), *at(SECOND + 2 * DAY), *peek("login"),
    ],
    "reset makes a key as if never seen, or empties its meters only": [
        ("reset", KEY, "login"), ("reset", KEY, "login", False), *hit("login", 11), ("reset", KEY, "login", False),
        ("list",), *hit("login", 5), ("reset", KEY, "login"), ("list",), *hit("login", 5), *hit("login"),
        *hit("seen", 2), ("reset", KEY, "seen", False), *hit("seen"), ("reset", KEY, "seen"), *hit("seen"),
    ],
    "a changed policy keeps bans, strikes and meters by index, and bans nobody by itself": [
        *hit("login", 11), *hit("api", 3), *hit("both", 3), *hit("seen"), *hit("trap"), ("rules", 1), ("list",),
        *peek("api"), *hit("login"), *hit("api"), *hit("both"), *hit("seen"), *hit("trap"), *at(HOUR), *hit("login"),
        *hit("api", 2), ("rules", 0), *hit("login"), *hit("api"), *hit("both"), *hit("seen"), *hit("trap"), ("list",),
    ],
    "a clock that steps back finds what was there": [
        *at(10 * DAY), *hit("api", 3), *hit("login", 11), *hit("seen"), *at(0), *hit("api"), *hit("login"),
        *hit("seen"), *hit("both"), *at(-DAY), *hit("both"), *at(10 * DAY + HOUR - 1), *hit("login"), *at(10 * DAY),
        *hit("login"), ("list",),
    ],
    "what has lapsed reads as absent, but is there for a clock that steps back": [
        *hit("login", 11), *hit("api", 3), *hit("seen", 2), *at(40 * DAY), *peek("login"), *peek("api"), ("list",),
        *at(SECOND), *peek("login"), *peek("api"), *peek("seen"), ("list",), *at(40 * DAY), *hit("login", 5),
        *hit("api", 3),
    ],
    "a store decides at the injected time, however far from today": [
        *at(DAY - START), *hit("login", 11), *hit("api", 3), *hit("seen"), *hit("login"), *hit("api"), ("list",),
        *at(174 * 365 * DAY), *hit("login", 11), *hit("api", 3), *hit("seen"), *hit("login"), *hit("api"), ("list",),
    ],
    "a batch is decided in order, a key that comes twice too": [
        ("hit_many", [Hit(KEY, "api"), Hit("b", "api", cost=3), Hit(KEY, "api", cost=2), *[Hit("b", "api")] * 2]),
        ("hit_many", []),
        ("hit_many", [Hit(KEY, "trap", guard=True), Hit(KEY, "login", cost=6), Hit(KEY, "login", guard=True)] * 3),
        ("status", KEY, "login"), ("status", KEY, "api"), ("status", "b", "api"), ("list",),
    ],
    "with stop, what follows the first denial is neither decided nor charged": [
        *hit("api", 3),
        ("hit_many", [Hit("b", "api"), Hit("c", "api"), Hit(KEY, "api"), Hit("b", "api"), Hit("d", "trap")], True),
        *[("status", key, "api") for key in "bcd"], ("status", "d", "trap"), ("list",),
    ],
    "a policy in shadow stops no batch": [
        *hit("watched", 3),
        ("hit_many", [Hit(KEY, "watched"), Hit("b", "api"), Hit("b", "api", cost=4), Hit("b", "api")], True),
        ("status", "b", "api"),
    ],
    "a batch of many keys is told in its order": [
        ("hit_many", [Hit(f"k{number * 7 % 90}", "api", cost=1 + number % 3) for number in range(300)]),
        ("hit_many", [Hit(f"k{number}", "seen") for number in range(120)], True),
        *[("status", f"k{n}", "api") for n in range(90)],
    ],
}  # fmt: skip


def play(pair: Pair, steps: list[Step]) -> None:
    """Take the steps on both stores, and compare what they tell at each one."""
    __tracebackhide__ = True
    for verb, *arguments in steps:
        if verb == "at":
            pair.clock.move_to(START + arguments[0])
        elif verb == "rules":
            pair.version = arguments[0]
        elif verb == "list":
            pair.listing()
        else:
            pair.ask(verb, *arguments)
    pair.settle()
