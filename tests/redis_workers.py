"""Processes that hit one store at once, each from several threads or tasks, and tell all that they were told."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.synchronize import Barrier
from random import Random
from types import TracebackType
from typing import Any, Self

from banhammer import AsyncBanHammer, BanHammer, Decision, Escalation, Hit, Policy, Threshold
from servers.waiting import until

PROCESSES = 4
PATIENCE = "10s"
"""A deadline that a busy machine keeps, so that no decision is degraded."""
SECONDS = 60.0

_start: Barrier


@dataclass(frozen=True, slots=True)
class Plan:
    """What every process does: each key is hit `each` times under every policy, in an order of the process's own."""

    url: str
    awaited: bool
    width: int
    keys: int
    each: int
    burst: int
    cache: bool = False
    seed: int = 0

    @property
    def names(self) -> list[str]:
        return [f"k{number}" for number in range(self.keys)]

    @property
    def hits(self) -> int:
        """How often each key is hit under each policy, by all processes."""
        return PROCESSES * self.each

    @property
    def every(self) -> list[tuple[str, str]]:
        """Every policy with every key."""
        return [(policy.name, key) for policy in self.policies() for key in self.names]

    def policies(self) -> list[Policy]:
        """Return a throttle, and a ladder of two bans whose higher threshold is twice the lower; nothing drains."""
        levels = [Threshold(self.burst * n, "60d", ban=f"{n}d", actions=["note"]) for n in (1, 2)]
        return [
            Policy("throttle", [Threshold(self.burst, "60d", actions=["note"])], track=["30d"]),
            Policy("ban", levels, track=["30d"]),
        ]

    def settings(self, ran: list[Escalation]) -> dict[str, Any]:
        """Return a hammer's arguments beside the policies; its actions append to `ran`."""
        settings = {"backend": self.url, "deadline": PATIENCE, "denial_cache": self.cache}
        return {**settings, "actions": {"note": ran.append}}


@dataclass(slots=True)
class Tally:
    """What the callers of one process, or of all, were told; crossings are (policy, key, threshold)."""

    verdicts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    crossings: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    strikes: set[int] = field(default_factory=set)
    degraded: int = 0
    mistaken: int = 0
    escalations: list[Escalation] = field(default_factory=list)

    def note(self, key: str, policy: str, decision: Decision) -> None:
        """Count a decision that was told to whoever hit `key` under `policy`."""
        self.verdicts[policy, key, decision.verdict] += 1
        self.crossings.update((policy, key, index) for index in decision.tripped)
        self.strikes.add(decision.strikes)
        self.degraded += decision.degraded
        self.mistaken += (decision.key, decision.policy) != (key, policy)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.verdicts + other.verdicts,
            self.crossings + other.crossings,
            self.strikes | other.strikes,
            self.degraded + other.degraded,
            self.mistaken + other.mistaken,
            self.escalations + other.escalations,
        )


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

    def tally(self, plan: Plan) -> Tally:
        """Carry out a plan and return what all processes were told."""
        return sum(self.do(carry_out, plan), Tally())


def carry_out(plan: Plan, number: int) -> Tally:
    """Do one process's part of a plan."""
    hits = plan.every * plan.each
    Random(f"{plan.seed}-{number}").shuffle(hits)
    shares = [hits[start :: plan.width] for start in range(plan.width)]
    return asyncio.run(_in_tasks(plan, shares)) if plan.awaited else _in_threads(plan, shares)


def until_told(hammer: BanHammer, plan: Plan) -> None:
    """Wait until every key has crossed the higher ban threshold: what a cache swallowed is told within a second."""
    until(lambda: sum(ban.threshold for ban in hammer.bans()) == plan.keys, "the higher ban on every key")


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


def _in_threads(plan: Plan, shares: Sequence[Sequence[tuple[str, str]]]) -> Tally:
    tallies = [Tally() for _ in shares]
    ran: list[Escalation] = []
    with BanHammer(plan.policies(), **plan.settings(ran)) as hammer:

        def work(number: int) -> None:
            for policy, key in shares[number]:
                tallies[number].note(key, policy, hammer.hit(key, policy))

        in_threads(work, plan.width)
        until_told(hammer, plan)
        assert hammer.drain(SECONDS)
    return sum(tallies, Tally(escalations=ran))


async def _in_tasks(plan: Plan, shares: Sequence[Sequence[tuple[str, str]]]) -> Tally:
    ran: list[Escalation] = []
    tally = Tally(escalations=ran)
    async with AsyncBanHammer(plan.policies(), **plan.settings(ran)) as hammer:

        async def work(share: Sequence[tuple[str, str]]) -> None:
            for policy, key in share:
                tally.note(key, policy, await hammer.hit(key, policy))

        await asyncio.gather(*map(work, shares))
        with BanHammer(plan.policies(), **plan.settings([])) as other:
            await asyncio.to_thread(until_told, other, plan)
        assert await hammer.drain(SECONDS)
    return tally


def carry_out_batches(plan: Plan, number: int) -> tuple[Counter[str], int]:
    """Hit in batches that name keys twice, and with costs; return the units admitted to each key, and degradations."""
    units: Counter[str] = Counter()
    degraded = 0
    adding = threading.Lock()
    with BanHammer(plan.policies(), **plan.settings([])) as hammer:

        def work(thread: int) -> None:
            nonlocal degraded
            random = Random(f"{plan.seed}-{number}-{thread}")
            for turn in range(plan.each):
                most = 3 if turn * 2 < plan.each else 1  # Single units at the end: they fill what is left.
                hits = [Hit(random.choice(plan.names), "throttle", cost=random.randint(1, most)) for _ in range(7)]
                told = (
                    hammer.hit_many(hits)
                    if turn % 2
                    else [hammer.hit(each.key, each.policy, each.cost) for each in hits]
                )
                with adding:
                    for hit, decision in zip(hits, told, strict=True):
                        assert decision is not None
                        assert decision.key == hit.key
                        degraded += decision.degraded
                        units[hit.key] += hit.cost * decision.allowed

        in_threads(work, plan.width)
    return units, degraded
