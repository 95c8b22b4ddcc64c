"""Callers that hit one store at once, from processes x threads or tasks, and tell all that they were told."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from random import Random
from time import monotonic_ns
from types import TracebackType
from typing import Any, NamedTuple, Self

from banhammer import AsyncBanHammer, BanHammer, Decision, Escalation, Hit, Policy
from histories import Event, Place, event_of
from servers.waiting import until

PROCESSES = 4
PATIENCE = "10s"
"""A deadline that a busy machine keeps, so that no decision is degraded."""
SECONDS = 60.0

Call = Sequence[Hit]
"""One hit or guard by itself, or a batch."""

_start: Barrier


@dataclass(frozen=True, slots=True)
class Plan:
    """What every process does, from `width` threads or tasks.

    `each`: how often it hits every key under every policy, one unit at a time, in an order of its own. `mixed`: as many
    hits of random keys instead, with costs, guards and batches. `cache`: with the denial cache.
    """

    url: str
    awaited: bool
    width: int
    policies: tuple[Policy, ...]
    keys: tuple[str, ...]
    each: int
    mixed: bool = False
    cache: bool = False

    @property
    def places(self) -> list[Place]:
        """Every record."""
        return [(key, policy.name) for policy in self.policies for key in self.keys]

    def calls(self, number: int) -> list[Call]:
        """Return the calls of a process."""
        rng = Random(f"{self.keys}-{number}")
        if not self.mixed:
            hits = [Hit(*place) for place in self.places * self.each]
            rng.shuffle(hits)
            return [(hit,) for hit in hits]
        return list(_mixed(rng, self.places, len(self.places) * self.each))

    def settings(self, backend: object, ran: list[Escalation]) -> dict[str, Any]:
        """Return a hammer's arguments beside the policies; its actions append to `ran`."""
        return {
            "backend": self.url if backend is None else backend,
            "deadline": PATIENCE,
            "denial_cache": self.cache,
            "actions": {"note": ran.append},
        }


class History(NamedTuple):
    """What the callers of one process, or of all, were told, and its actions."""

    events: list[Event]
    escalations: list[Escalation]


class Crew:
    """Four processes of their own, not forked, that begin each piece of work at the same moment."""

    def __init__(self) -> None:
        spawning = get_context("spawn")
        self._pool = ProcessPoolExecutor(PROCESSES, spawning, _begin, (spawning.Barrier(PROCESSES),))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown()

    def do(self, work: Callable[[Any, int], Any], plan: Any) -> list[Any]:
        """Return what `work(plan, number)` returned in each process; the numbers are 0 to 3."""
        waiting = [self._pool.submit(_together, work, plan, number) for number in range(PROCESSES)]
        return [each.result(SECONDS) for each in waiting]

    def history(self, plan: Plan, store: object) -> History:
        """Carry out a plan and return what all were told; on a store of this process, by four of its threads."""
        told: list[History] = []
        if plan.url == "memory://":
            in_threads(lambda number: told.append(carry_out(plan, number, store)), PROCESSES)
        else:
            told = self.do(carry_out, plan)
        return History([event for each in told for event in each[0]], [one for each in told for one in each[1]])


def carry_out(plan: Plan, number: int, backend: object = None) -> History:
    """Do one process's part of a plan; `backend`: the store itself, where no other process sees it."""
    calls = plan.calls(number)
    shares = [calls[start :: plan.width] for start in range(plan.width)]
    if plan.awaited:
        return asyncio.run(_in_tasks(plan, shares, backend))
    return _in_threads(plan, shares, backend)


def in_threads(work: Callable[[int], None], width: int) -> None:
    """Run `work(number)` in as many threads that begin at once, and raise what any of them raised."""
    barrier = threading.Barrier(width)
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait(SECONDS)
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(width)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert not any(thread.is_alive() for thread in threads)
    if failures:
        raise failures[0]


def _begin(start: Barrier) -> None:
    global _start
    _start = start


def _together(work: Callable[[Any, int], Any], plan: Any, number: int) -> Any:
    _start.wait(SECONDS)
    return work(plan, number)


def _mixed(rng: Random, places: Sequence[Place], hits: int) -> Iterator[Call]:
    """Yield hits, guards and batches; half of the batches are single units under one policy."""
    while hits > 0:
        size = rng.randint(2, 7) if rng.random() < 0.1 else 1
        if size > 1 and rng.random() < 0.5:
            _, policy = rng.choice(places)
            keys = rng.choices([key for key, name in places if name == policy], k=size)
            yield [Hit(key, policy) for key in keys]
        else:
            yield [
                Hit(*rng.choice(places), cost=rng.choice((1, 1, 1, 1, 2, 3)), guard=rng.random() < 0.15)
                for _ in range(size)
            ]
        hits -= size


def _in_threads(plan: Plan, shares: Sequence[Sequence[Call]], backend: object) -> History:
    told: list[list[Event]] = [[] for _ in shares]
    ran: list[Escalation] = []
    with BanHammer(plan.policies, **plan.settings(backend, ran)) as hammer:

        def work(number: int) -> None:
            for call in shares[number]:
                start = monotonic_ns()
                decisions: Sequence[Decision | None]
                if len(call) > 1:
                    decisions = hammer.hit_many(call)
                else:
                    (hit,) = call
                    decisions = [(hammer.guard if hit.guard else hammer.hit)(hit.key, hit.policy, hit.cost)]
                end = monotonic_ns()
                told[number] += [event_of(*each, start, end) for each in zip(call, decisions, strict=True)]

        in_threads(work, plan.width)
        _settle(hammer, plan)
        assert hammer.drain(SECONDS)
    return History([event for each in told for event in each], ran)


async def _in_tasks(plan: Plan, shares: Sequence[Sequence[Call]], backend: object) -> History:
    told: list[Event] = []
    ran: list[Escalation] = []
    async with AsyncBanHammer(plan.policies, **plan.settings(backend, ran)) as hammer:

        async def work(share: Sequence[Call]) -> None:
            for call in share:
                start = monotonic_ns()
                decisions: Sequence[Decision | None]
                if len(call) > 1:
                    decisions = await hammer.hit_many(call)
                else:
                    (hit,) = call
                    decisions = [await (hammer.guard if hit.guard else hammer.hit)(hit.key, hit.policy, hit.cost)]
                end = monotonic_ns()
                told.extend(event_of(*each, start, end) for each in zip(call, decisions, strict=True))

        await asyncio.gather(*map(work, shares))
        if plan.cache:
            with BanHammer(plan.policies, **plan.settings(backend, [])) as other:
                await asyncio.to_thread(_settle, other, plan)
        assert await hammer.drain(SECONDS)
    return History(told, ran)


def _settle(hammer: BanHammer, plan: Plan) -> None:
    """With a denial cache, wait until every key has crossed the highest ban threshold: it tells within a second."""
    bans = {policy.name: policy.top for policy in plan.policies if policy.top >= 0}
    for key, name in plan.places if plan.cache else ():
        if name in bans:
            until(partial(_stands_at, hammer, key, name, bans[name]), f"{key} at the highest threshold of {name}")


def _stands_at(hammer: BanHammer, key: str, policy: str, level: int) -> bool:
    return hammer.status(key, policy).level == level
