"""A seeded random walk over every verb, taken on several stores at one hand-moved clock, and compared at each step."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import fields, replace
from random import Random
from typing import Any

from banhammer import AsyncBanHammer, BanHammer, Decision, Hit, Policy, Threshold
from banhammer.backends.memory import MemoryBackend
from banhammer.backends.names import escape, is_cut, shorten
from banhammer.backends.redis.backend import RedisBackend
from banhammer.durations import SECOND
from banhammer.model import MAX_COST, Ban, Escalation, Status
from banhammer.testing import ManualClock
from differential_cases import DAMAGE as DAMAGE
from differential_cases import KEYS as KEYS

START = 1_750_000_000 * SECOND
NAMES = ("alpha", "beta", "gamma")
VERSIONS = 3
STEPS = (0, 0, 1, 20, 70, 700, 1_500, SECOND, SECOND + 1, 5 * SECOND, 61 * SECOND)
Noted = list[tuple[Any, ...]]


class Side:
    """One store, and the shells on it: a sync and an async one for each version of the policies."""

    def __init__(self, backend: Any, versions: Sequence[Sequence[Policy]], clock: ManualClock) -> None:
        self.backend = backend
        self.noted: Noted = []
        settings: dict[str, Any] = {"backend": backend, "actions": {"note": self.note}, "clock": clock}
        self.shells = [(BanHammer(each, **settings), AsyncBanHammer(each, **settings)) for each in versions]

    def note(self, escalation: Escalation) -> None:
        self.noted.append(tuple(getattr(escalation, field.name) for field in fields(escalation) if field.name != "id"))


class Walk:
    """The memory store beside the others. `write` puts bytes, or a list, where a side keeps a record."""

    def __init__(
        self, seed: str, backends: Sequence[RedisBackend], write: Callable[[RedisBackend, str, bytes | None], None]
    ) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.clock = ManualClock(START)
        self.runner = asyncio.Runner()
        self.versions = [[random_policy(self.rng, name) for name in NAMES] for _ in range(VERSIONS)]
        self.memory = MemoryBackend()
        self.sides = [Side(backend, self.versions, self.clock) for backend in (self.memory, *backends)]
        self.write = write
        self.version = 0
        self.boundaries = [START]
        self.step = 0

    def take(self, steps: int) -> None:
        """Take so many steps; a difference is an `AssertionError` that names the seed and the step."""
        verbs = {
            self.hit: 24, self.burst: 8, self.guard: 12, self.peek: 8, self.batch: 14, self.ban: 7, self.unban: 6,
            self.reset: 5, self.status: 6, self.listing: 4, self.damage: 3, self.change: 2,
        }  # fmt: skip
        for self.step in range(steps):
            if self.rng.random() < 0.6:
                self.move()
            (verb,) = self.rng.choices(list(verbs), list(verbs.values()))
            verb()
        self.damage()
        self.listing()

    def compare_escalations(self) -> None:
        """Compare what the actions of each side were told, in any order."""
        for side in self.sides:
            for hammer, twin in side.shells:
                assert hammer.drain(10)
                assert self.runner.run(twin.drain(10))
        expected = Counter(self.sides[0].noted)
        for side in self.sides[1:]:
            told = Counter(side.noted)
            self.same((told - expected, expected - told), (Counter(), Counter()), f"escalations on {side.backend}")

    def close(self) -> None:
        for side in self.sides:
            for hammer, twin in side.shells:
                hammer.close()
                self.runner.run(twin.close())
            self.runner.run(side.backend.aio.close())
        self.runner.close()

    def move(self) -> None:
        now, rng = self.clock.now, self.rng
        to = now + rng.choice(STEPS)
        if rng.random() < 0.3:
            to = rng.choice(self.boundaries[-6:]) + rng.choice((-1, 0, 0, 1))
        elif rng.random() < 0.1:
            to = now - rng.choice(STEPS)
        self.clock.move_to(max(to, START - 100 * SECOND))

    def change(self) -> None:
        self.version = self.rng.randrange(VERSIONS)

    def hit(self) -> None:
        self.decided("hit", self.key(), self.name(), self.cost())

    def burst(self) -> None:
        key, name = self.key(), self.name()
        for _ in range(self.rng.randint(2, 12)):
            self.decided("hit", key, name, 1)

    def guard(self) -> None:
        self.decided("guard", self.key(), self.name(), self.cost())

    def peek(self) -> None:
        key, name, cost = self.key(), self.name(), self.cost()
        peeked = self.decided("peek", key, name, cost)
        if self.rng.random() < 0.5:
            self.same(self.decided("hit", key, name, cost), peeked, "the hit after a peek")

    def batch(self) -> None:
        rng = self.rng
        size = 300 if rng.random() < 0.05 else rng.randint(0, 30)
        keys = rng.sample(KEYS, rng.randint(1, len(KEYS)))
        hits = [Hit(rng.choice(keys), self.name(), cost=self.cost(), guard=rng.random() < 0.3) for _ in range(size)]
        self.all("hit_many", hits, rng.random() < 0.5)

    def ban(self) -> None:
        duration = self.rng.choice((None, None, "7us", "90us", "3s", "5m", "forever"))
        threshold = self.rng.choice((None, None, 0, 1, 2))
        told = self.all("ban", self.key(), self.name(), duration, threshold, self.rng.choice(("", "by|hand \u00e9")))
        if isinstance(told, Ban) and told.until < math.inf:
            self.boundaries.append(round(told.until * 1e6))

    def unban(self) -> None:
        self.all("unban", self.key(), self.name())

    def reset(self) -> None:
        self.all("reset", self.key(), self.name(), self.rng.random() < 0.5)

    def status(self) -> None:
        self.all("status", self.key(), self.name())

    def listing(self) -> None:
        """Compare all bans and all records; a record's cut name is told as it is, and nothing of its ban."""
        expected = {anonymous(ban) for ban in self.sides[0].shells[self.version][0].bans()}
        known = {
            (told.key, told.policy): told for told in map(spelled, self.sides[0].shells[self.version][0].status_all())
        }
        for side in self.sides[1:]:
            hammer, twin = side.shells[self.version]
            self.same({anonymous(ban) for ban in hammer.bans()}, expected, "bans")
            self.same({anonymous(ban) for ban in self.runner.run(collected(twin.bans()))}, expected, "bans awaited")
            for found in (hammer.status_all(), self.runner.run(collected(twin.status_all()))):
                told = {(each.key, each.policy): each for each in map(spelled, found)}
                self.same(told.keys(), known.keys(), f"the names of all records on {side.backend}")
                for place, status in known.items():
                    self.same(told[place], status, f"a record on {side.backend}")

    def damage(self) -> None:
        """Write what is no record where one may be: it reads as absent, so memory forgets it."""
        key, name, wrong = self.key(), self.name(), self.rng.choice(DAMAGE)
        self.sides[0].shells[0][0].reset(key, name)
        for side in self.sides[1:]:
            _, record, _ = side.backend._names.record(name, key)
            self.write(side.backend, record, wrong)

    def decided(self, verb: str, key: str, name: str, cost: int) -> Decision:
        decision: Decision = self.all(verb, key, name, cost)
        for wait in (decision.retry_after, decision.reset_after):
            if wait < math.inf:
                self.boundaries.append(self.clock.now + round(wait * 1e6))
        return decision

    def all(self, verb: str, *arguments: Any) -> Any:
        """Call a verb on every side, sync or awaited as it comes; return what the memory store told."""
        expected = self.told(getattr(self.sides[0].shells[self.version][0], verb), *arguments)
        for side in self.sides[1:]:
            which = self.rng.randrange(2)
            told = self.told(getattr(side.shells[self.version][which], verb), *arguments)
            self.same(told, expected, f"{verb}{arguments} {'awaited' if which else ''} on {side.backend}")
        return expected

    def told(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Return what a verb returns, or the text of its `ValueError`."""
        try:
            told = call(*arguments)
            if isinstance(told, Coroutine):
                told = self.runner.run(told)
        except ValueError as error:
            return str(error)
        return anonymous(told)

    def same(self, told: object, expected: object, what: str) -> None:
        if told != expected:
            where = f"seed {self.seed}, step {self.step}, version {self.version}, at {self.clock.now}"
            raise AssertionError(f"{where}: {what}\n told     {told!r}\n expected {expected!r}")

    def key(self) -> str:
        return self.rng.choice(KEYS)

    def name(self) -> str:
        return self.rng.choice(NAMES)

    def cost(self) -> int:
        return self.rng.choice((1, 1, 1, 1, 2, 3, self.rng.randint(1, 9), MAX_COST))


def random_policy(rng: Random, name: str) -> Policy:
    levels = []
    for _ in range(rng.randint(1, 4)):
        period = rng.choice(("1ms", "1ms", "1s", "30s"))
        if rng.random() < 0.5:
            levels.append(Threshold(rng.choice((7, 37, 100)), period, burst=rng.randint(1, 6), actions=["note"]))
            continue
        rungs = rng.choices(("3us", "20us", "61us", "400us", "2s", "1m", "forever"), k=rng.randint(1, 3))
        burst = rng.choice((0, 1, 2, 3, 5, 8))
        levels.append(Threshold(rng.choice((7, 37, 100)), period, burst=burst, ban=rungs, actions=["note"]))
    return Policy(
        name,
        levels,
        track=rng.choice(((), (), ("1ms",), ("12s", "1200us"))),
        forgive_after=rng.choice(("5us", "90us", "3s", "1d")),
        mode=rng.choice((None, None, "shadow")),
    )


def anonymous(told: Any) -> Any:
    """Return what a verb told without the ids, which are every store's own."""
    if isinstance(told, Ban):
        assert told.id
        return replace(told, id="")
    if isinstance(told, Status):
        return replace(told, ban=anonymous(told.ban))
    return told


def spelled(status: Status) -> Status:
    """Return a status as a shared store lists it."""
    escaped = status.key if is_cut(status.key) else shorten(escape(status.key))
    return replace(status, key=escaped, ban=None) if is_cut(escaped) else anonymous(status)


async def collected(stream: Any) -> list[Any]:
    return [each async for each in stream]
