"""A seeded random walk over every verb, on the store under test and the ideal one, compared at each step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

from banhammer.durations import SECOND
from banhammer.model import MAX_COST, Ban, Hit, Policy, Threshold
from banhammer.testing.conformance.rules import ACTION, START
from banhammer.testing.conformance.stage import Pair

KEYS: Final = (
    "203.0.113.9",
    "2001:db8:1:2::/64",
    "acct:7",
    "a|b c%",
    "}{0}",
    "\r\n\0",
    "\ud800",
    "caf\u00e9",
    "long" * 50,
)
NAMES: Final = ("alpha", "beta", "gamma")
STEPS: Final = (0, 0, 1, 20, 70, 700, 1_500, SECOND, SECOND + 1, 5 * SECOND, 61 * SECOND)

Damage = Callable[[str, Policy], None]
"""Puts what is no record where that of a key under a policy is kept."""


class Walk:
    """One walk on two stores; `damage` is `None` for a store that keeps no bytes."""

    def __init__(self, rng: Random, pair: Pair, versions: Sequence[Sequence[Policy]], damage: Damage | None) -> None:
        self._rng = rng
        self._pair = pair
        self._versions = versions
        self._damage = damage
        self._edges = [START]

    def take(self, steps: int) -> None:
        """Take so many steps; a difference is an `AssertionError`."""
        verbs = {
            self._hit: 24, self._burst: 8, self._guard: 12, self._peek: 8, self._batch: 12, self._ban: 7,
            self._unban: 6, self._reset: 5, self._status: 4, self._list: 3, self._change: 3, self._spoil: 3,
        }  # fmt: skip
        about = self._pair.about
        for step in range(steps):
            self._pair.about = f"{about}, step {step}"
            if self._rng.random() < 0.6:
                self._move()
            (verb,) = self._rng.choices(list(verbs), list(verbs.values()))
            verb()
        self._list()
        self._pair.settle()

    def _move(self) -> None:
        now, rng = self._pair.clock.now, self._rng
        to = now + rng.choice(STEPS)
        if rng.random() < 0.3:
            to = rng.choice(self._edges[-6:]) + rng.choice((-1, 0, 0, 1))
        elif rng.random() < 0.1:
            to = now - rng.choice(STEPS)
        self._pair.clock.move_to(max(to, START - 100 * SECOND))

    def _hit(self) -> None:
        self._decided("hit", *self._subject(), self._cost())

    def _burst(self) -> None:
        subject = self._subject()
        for _ in range(self._rng.randint(2, 12)):
            self._decided("hit", *subject, 1)

    def _guard(self) -> None:
        self._decided("guard", *self._subject(), self._cost())

    def _peek(self) -> None:
        self._decided("peek", *self._subject(), self._cost())

    def _batch(self) -> None:
        rng = self._rng
        keys = rng.sample(KEYS, rng.randint(1, len(KEYS)))
        hits = [
            Hit(rng.choice(keys), rng.choice(NAMES), cost=self._cost(), guard=rng.random() < 0.3)
            for _ in range(rng.randint(0, 20))
        ]
        self._pair.ask("hit_many", hits, rng.random() < 0.5)

    def _ban(self) -> None:
        duration = self._rng.choice((None, None, "7us", "90us", "3s", "5m", "forever"))
        threshold = self._rng.choice((None, None, 0, 1, 2))
        ban = self._pair.ask("ban", *self._subject(), duration, threshold, self._rng.choice(("", "by|hand \u00e9")))
        if isinstance(ban, Ban) and ban.until < math.inf:
            self._edges.append(round(ban.until * 1e6))

    def _unban(self) -> None:
        self._pair.ask("unban", *self._subject())

    def _reset(self) -> None:
        self._pair.ask("reset", *self._subject(), self._rng.random() < 0.5)

    def _status(self) -> None:
        self._pair.ask("status", *self._subject())

    def _list(self) -> None:
        self._pair.listing()

    def _change(self) -> None:
        self._pair.version = self._rng.randrange(len(self._versions))

    def _spoil(self) -> None:
        """Damage a record: it reads as absent from then on, so the ideal store forgets it."""
        if self._damage is None:
            return
        key, name = self._subject()
        policy = next(each for each in self._versions[self._pair.version] if each.name == name)
        self._damage(key, policy)
        self._pair.forget(key, name)

    def _decided(self, verb: str, *arguments: Any) -> None:
        decision = self._pair.ask(verb, *arguments)
        for wait in (decision.retry_after, decision.reset_after):
            if wait < math.inf:
                self._edges.append(self._pair.clock.now + round(wait * 1e6))

    def _subject(self) -> tuple[str, str]:
        return self._rng.choice(KEYS), self._rng.choice(NAMES)

    def _cost(self) -> int:
        return self._rng.choice((1, 1, 1, 1, 2, 3, self._rng.randint(1, 9), MAX_COST))


def random_rules(rng: Random) -> list[Policy]:
    """Return a policy of each name, with thresholds that short walks cross."""
    return [_random_policy(rng, name) for name in NAMES]


def _random_policy(rng: Random, name: str) -> Policy:
    levels = []
    for _ in range(rng.randint(1, 4)):
        limit, period = rng.choice((7, 37, 100)), rng.choice(("1ms", "1ms", "1s", "30s"))
        if rng.random() < 0.5:
            levels.append(Threshold(limit, period, burst=rng.randint(1, 6), actions=[ACTION]))
            continue
        rungs = rng.choices(("3us", "20us", "61us", "400us", "2s", "1m", "forever"), k=rng.randint(1, 3))
        levels.append(Threshold(limit, period, burst=rng.choice((0, 1, 2, 3, 5, 8)), ban=rungs, actions=[ACTION]))
    return Policy(
        name,
        levels,
        track=rng.choice(((), (), ("1ms",), ("12s", "1200us"))),
        forgive_after=rng.choice(("5us", "90us", "3s", "1d")),
        mode=rng.choice((None, None, "shadow")),
    )
