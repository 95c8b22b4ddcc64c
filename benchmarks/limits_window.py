"""The fixed window of limits, its cheapest strategy, as it is asked on every store; one limit after another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from limits import RateLimitItem, RateLimitItemPerDay
from limits.aio.strategies import FixedWindowRateLimiter as AsyncFixedWindow
from limits.strategies import FixedWindowRateLimiter

from benchmarks.shared_contestants import ATTACK_LIMIT, ROOM, Answer, AsyncSubject, Rules, Subject

NAME: Final = "fixed window"


def subject(storage: Any, rules: Rules) -> Subject:
    """Return the limiter for threads on a storage of limits."""
    limiter = FixedWindowRateLimiter(storage)
    items = _items(rules)
    first = items[0]

    def walk(keys: Sequence[str]) -> list[Answer]:
        hit = limiter.hit
        return [hit(first, key) for key in keys]

    def walk_all(keys: Sequence[str]) -> list[Answer]:
        hit = limiter.hit
        return [all(hit(item, key) for item in items) for key in keys]

    return Subject(walk if len(items) == 1 else walk_all, bool)


def async_subject(storage: Any, rules: Rules, close: Callable[[], Awaitable[None]]) -> AsyncSubject:
    """Return the limiter for tasks on a storage of limits."""
    limiter = AsyncFixedWindow(storage)
    items = _items(rules)
    first = items[0]

    async def walk(keys: Sequence[str]) -> list[Answer]:
        hit = limiter.hit
        return [await hit(first, key) for key in keys]

    async def hit_all(key: str) -> bool:
        return all([await limiter.hit(item, key) for item in items])

    one = (lambda key: limiter.hit(first, key)) if len(items) == 1 else hit_all
    return AsyncSubject(one, walk if len(items) == 1 else each(hit_all), bool, close)


def each(one: Callable[[str], Awaitable[Answer]]) -> Callable[[Sequence[str]], Awaitable[list[Answer]]]:
    """Return what asks for one key after another by `one`."""

    async def walk(keys: Sequence[str]) -> list[Answer]:
        return [await one(key) for key in keys]

    return walk


def _items(rules: Rules) -> list[RateLimitItem]:
    if rules == "attack":
        return [RateLimitItemPerDay(ATTACK_LIMIT)]
    return [RateLimitItemPerDay(ROOM, days) for days in ((1,) if rules == "one" else (1, 2, 3))]
