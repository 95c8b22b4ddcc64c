"""The contestants on a shared store: each asks by its public method in a plain loop and keeps every answer.

The answers are looked at after the clock stops: one that was not asked of the store, or says otherwise than the
scenario demands, makes the sample worthless.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from banhammer import AsyncBanHammer, BanHammer, Decision, Hit, Policy, Threshold
from benchmarks.servers import Site

Rules = Literal["one", "three", "attack", "windows"]
"""One threshold that lets all through; three of them; ten hits a day and then a ban; three with tracked windows."""

Answer = Any

ROOM: Final = 10**9
ATTACK_LIMIT: Final = 10
PATIENT: Final = "5s"
"""As long as the peers' clients wait: on a busy machine, no answer may come from elsewhere than the store."""


class NotAskedError(AssertionError):
    """An answer that did not come from the store, so that its speed means nothing."""


@dataclass(slots=True)
class Subject:
    """A limiter for threads: `walk` asks for one key after another."""

    walk: Callable[[Sequence[str]], Sequence[Answer]]
    admitted: Callable[[Answer], bool]
    close: Callable[[], None] = lambda: None


@dataclass(slots=True)
class AsyncSubject:
    """A limiter for tasks: `walk` asks for one key after another, `one` for a single one."""

    one: Callable[[str], Awaitable[Answer]]
    walk: Callable[[Sequence[str]], Awaitable[Sequence[Answer]]]
    admitted: Callable[[Answer], bool]
    close: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Contestant:
    """One library. The builders take the site, the rules, and what is particular: see `ours` and the peers."""

    library: str
    name: str
    build: Callable[[Site, Rules, int], Subject]
    """`build(site, rules, batch)`: how many hits go in one call, where the library has such calls; else 1."""
    build_async: Callable[[Site, Rules, bool], AsyncSubject]
    """`build_async(site, rules, tuned)`: with its settings chosen for many tasks, or its defaults."""

    def __str__(self) -> str:
        return f"{self.library} {self.name}".strip()


@dataclass(frozen=True, slots=True)
class Rivals:
    """The peers on one kind of store, and the packages whose versions matter."""

    peers: Sequence[Contestant]
    libraries: Sequence[str]


def policy(rules: Rules) -> Policy:
    """Return our rules; in an attack a higher threshold stays awake, so that what is swallowed must be told."""
    if rules == "attack":
        levels = [Threshold(ATTACK_LIMIT, "1d", ban="1d"), Threshold(100_000, "1s", burst=ROOM, ban="2d")]
        return Policy(rules, levels)
    limits = [(100_000, "1s"), (200_000, "3s"), (300_000, "9s")]
    levels = [Threshold(limit, period, burst=ROOM) for limit, period in limits[: 1 if rules == "one" else 3]]
    return Policy(rules, levels, track=["1m", "10m", "60m"] if rules == "windows" else ())


def _hammer(site: Site, rules: Rules, batch: int) -> Subject:
    ours = BanHammer([policy(rules)], backend=site.url, deadline=PATIENT)

    def one_by_one(keys: Sequence[str]) -> list[Decision]:
        hit = ours.hit
        return [hit(key, rules) for key in keys]

    def together(keys: Sequence[str]) -> list[Decision | None]:
        decisions: list[Decision | None] = []
        for start in range(0, len(keys), batch):
            decisions += ours.hit_many([Hit(key, rules) for key in keys[start : start + batch]])
        return decisions

    return Subject(one_by_one if batch == 1 else together, admitted, ours.close)


def _async_hammer(site: Site, rules: Rules, tuned: bool) -> AsyncSubject:
    ours = AsyncBanHammer([policy(rules)], backend=site.url, deadline=PATIENT if tuned else None)

    async def walk(keys: Sequence[str]) -> list[Decision]:
        hit = ours.hit
        return [await hit(key, rules) for key in keys]

    return AsyncSubject(lambda key: ours.hit(key, rules), walk, admitted, ours.close)


def admitted(decision: Decision) -> bool:
    """Return whether a decision of the store lets through. Raises `NotAskedError` for one made without it."""
    if decision.degraded:
        raise NotAskedError("the store did not answer in time, so banhammer decided without it")
    return decision.allowed


OURS: Final = Contestant("banhammer", "", _hammer, _async_hammer)
