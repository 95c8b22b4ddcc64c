"""What is measured on a shared store: who asks, how many at once, which keys, and what is demanded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from random import Random
from typing import Final, Literal

from benchmarks.shared_contestants import Rules

Who = Literal["threads", "tasks"]
Keys = Literal["seen", "hot", "mixed", "banned"]
"""2,000 keys that were seen before; one of them; nine in ten calls from 100 banned keys, the others from new ones; only
those."""

SEEN: Final = 2_000
BANNED: Final = 100

_serial = count()


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. `batch`: how many hits banhammer takes in one call, beside the peer's loop.

    `bound`: how many times the best peer's cost a decision at least takes there; `None` where nothing is demanded.
    `p99_bound`: how much of the peer's 99th percentile ours takes at most.
    """

    name: str
    who: Who
    many: int
    bound: float | None = None
    rules: Rules = "one"
    batch: int = 1
    keys: Keys = "seen"
    p99_bound: float | None = None

    def __str__(self) -> str:
        return self.name


REDIS: Final = (
    Row("asyncio, 64 tasks", "tasks", 64, 6.0, p99_bound=0.25),
    Row("asyncio, 256 tasks", "tasks", 256, 8.0),
    Row("asyncio, one task", "tasks", 1, 0.9),
    Row("sync, one thread", "threads", 1, 0.9),
    Row("sync, 8 threads", "threads", 8, 1.3),
    Row("sync, 32 threads", "threads", 32, 2.0),
    Row("three thresholds, sync, one thread", "threads", 1, 2.5, rules="three"),
    Row("three thresholds, asyncio, one task", "tasks", 1, 2.5, rules="three"),
    Row("hit_many(100), sync", "threads", 1, 25.0, batch=100),
    Row("hit_many(1000), sync", "threads", 1, 35.0, batch=1_000),
    Row("90 % banned, sync, one thread", "threads", 1, 8.0, rules="attack", keys="mixed"),
    Row("90 % banned, asyncio, 64 tasks", "tasks", 64, 8.0, rules="attack", keys="mixed"),
    Row("only banned, sync, one thread", "threads", 1, 300.0, rules="attack", keys="banned"),
    Row("only banned, asyncio, one task", "tasks", 1, 300.0, rules="attack", keys="banned"),
    Row("only banned, asyncio, 64 tasks", "tasks", 64, 300.0, rules="attack", keys="banned"),
)

CLUSTER: Final = (
    Row("hit_many(100), sync", "threads", 1, 8.0, batch=100),
    Row("hit_many(1000), sync", "threads", 1, 15.0, batch=1_000),
    Row("asyncio, 64 tasks", "tasks", 64),
    Row("asyncio, 256 tasks", "tasks", 256),
    Row("asyncio, one task", "tasks", 1),
    Row("sync, one thread", "threads", 1),
    Row("sync, 8 threads", "threads", 8),
    Row("three thresholds, sync, one thread", "threads", 1, rules="three"),
)

MEMCACHED: Final = (
    Row("sync, 8 threads, distinct keys", "threads", 8, 0.9),
    Row("sync, 8 threads, one hot key", "threads", 8, 0.6, keys="hot"),
    Row("sync, one thread", "threads", 1),
    Row("asyncio, one task", "tasks", 1),
    Row("asyncio, 64 tasks", "tasks", 64),
    Row("asyncio, 64 tasks, one hot key", "tasks", 64, keys="hot"),
    Row("three thresholds, sync, one thread", "threads", 1, rules="three"),
    Row("hit_many(100), sync", "threads", 1, batch=100),
    Row("90 % banned, sync, one thread", "threads", 1, rules="attack", keys="mixed"),
    Row("only banned, sync, one thread", "threads", 1, rules="attack", keys="banned"),
)


def seen_keys() -> list[str]:
    """Return the keys that everyone has seen."""
    return [f"10.1.{index >> 8}.{index & 255}" for index in range(SEEN)]


def banned_keys() -> list[str]:
    """Return the keys that are over their limit."""
    return [f"203.0.113.{index}" for index in range(BANNED)]


def keys_of(row: Row, calls: int) -> list[str]:
    """Return `calls` keys for one sample, in the order of the calls."""
    if row.keys == "seen":
        return _repeated(seen_keys(), calls)
    if row.keys == "hot":
        return seen_keys()[:1] * calls
    if row.keys == "banned":
        return _repeated(banned_keys(), calls)
    serial = next(_serial)
    draw = Random(serial)
    banned = banned_keys()
    return [f"2001:db8:{serial:x}:{index:x}::/64" if index % 10 == 0 else draw.choice(banned) for index in range(calls)]


def _repeated(keys: Sequence[str], calls: int) -> list[str]:
    return [keys[index % len(keys)] for index in range(calls)]
