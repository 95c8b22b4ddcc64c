"""Many callers at once: threads, tasks of several event loops, and processes, on one store by its own clock."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any, Final

from banhammer.backends import Backend
from banhammer.decision import Decision
from banhammer.hammer import AsyncBanHammer, BanHammer
from banhammer.model import Escalation, Hit, Policy, Threshold
from banhammer.testing.conformance.calls import WAIT, WIDTH, in_threads
from banhammer.testing.conformance.rules import ACTION
from banhammer.testing.conformance.stage import PATIENCE, Opener

EACH: Final = 40
"""How often each of them hits each key under each policy."""
BURST: Final = 50
"""Units that fit: fewer than one in three of all."""
KEYS: Final = ("k0", "k1")


def contested() -> list[Policy]:
    """Return a throttle and a ban threshold; nothing drains while a test lasts."""
    return [
        Policy("throttle", [Threshold(BURST, "60d", actions=[ACTION])]),
        Policy("ban", [Threshold(BURST, "60d", ban="1d", actions=[ACTION])]),
    ]


@dataclass(slots=True)
class Tally:
    """What all callers were told: units admitted by (policy, key), the strikes seen, and the escalations."""

    admitted: Counter[tuple[str, str]] = field(default_factory=Counter)
    strikes: set[int] = field(default_factory=set)
    escalations: list[Escalation] = field(default_factory=list)

    def note(self, hit: Hit, decision: Decision | None) -> None:
        """Count one decision."""
        assert decision is not None  # noqa: S101  # Without stop, all are decided.
        self.admitted[hit.policy, hit.key] += hit.cost * decision.allowed
        self.strikes.add(decision.strikes)

    def add(self, other: Tally) -> None:
        """Add what others were told."""
        self.admitted += other.admitted
        self.strikes |= other.strikes
        self.escalations += other.escalations


def by_threads(backend: Backend) -> Tally:
    """Hit from threads, by single hits and by batches that name keys in opposite orders."""
    tally = Tally()
    with BanHammer(contested(), backend=backend, actions={ACTION: tally.escalations.append}) as hammer:

        def work(number: int) -> Tally:
            part = Tally()
            for turn in range(EACH):
                hits = _hits(number)
                told = hammer.hit_many(hits) if turn % 2 else [hammer.hit(hit.key, hit.policy) for hit in hits]
                for hit, decision in zip(hits, told, strict=True):
                    part.note(hit, decision)
            return part

        _gather(tally, in_threads(work))
        hammer.drain(PATIENCE)
    return tally


def by_tasks(backend: Backend, loops: int = 2) -> Tally:
    """Hit from tasks of several event loops, each in a thread of its own."""
    tally = Tally()
    done = threading.Barrier(loops)

    async def work(hammer: AsyncBanHammer, number: int, part: Tally) -> None:
        for turn in range(EACH):
            hits = _hits(number)
            told: Iterable[Any] = (
                await hammer.hit_many(hits) if turn % 2 else [await hammer.hit(hit.key, hit.policy) for hit in hits]
            )
            for hit, decision in zip(hits, told, strict=True):
                part.note(hit, decision)

    async def loop(part: Tally) -> None:
        async with AsyncBanHammer(contested(), backend=backend, actions={ACTION: part.escalations.append}) as hammer:
            await asyncio.gather(*[work(hammer, number, part) for number in range(WIDTH // loops)])
            await hammer.drain(PATIENCE)
        await asyncio.to_thread(done.wait, WAIT)  # Closing in one loop must find no other at work.
        await backend.aio.close()

    def run(_: int) -> Tally:
        part = Tally()
        asyncio.run(loop(part))
        return part

    _gather(tally, in_threads(run, loops))
    return tally


def by_both(backend: Backend) -> Tally:
    """Hit from threads and from tasks, all on one backend object."""
    tally = Tally()
    _gather(tally, in_threads(lambda number: by_tasks(backend, 1) if number else by_threads(backend), 2))
    return tally


def by_processes(opener: Opener, kind: str) -> Tally:
    """Hit from processes that were not forked, each of which opens the store itself."""
    tally = Tally()
    with ProcessPoolExecutor(WIDTH, get_context("spawn")) as pool:
        working = [pool.submit(_in_process, opener, kind) for _ in range(WIDTH)]
        _gather(tally, [each.result(WAIT) for each in working])
    return tally


def _in_process(opener: Opener, kind: str) -> Tally:
    backend = opener()
    try:
        return by_threads(backend) if kind == "sync" else by_tasks(backend, 1)
    finally:
        backend.close()


def _hits(number: int) -> list[Hit]:
    keys = KEYS if number % 2 else KEYS[::-1]
    return [Hit(key, policy) for key in keys for policy in ("throttle", "ban")]


def _gather(tally: Tally, parts: Iterable[Tally]) -> None:
    for part in parts:
        tally.add(part)
