"""What callers see at the limits: a thousand tasks at once, and a store that does not answer."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock, Thread
from time import perf_counter_ns, sleep
from typing import Final

from banhammer import AsyncBanHammer, BanHammer
from benchmarks.progress import Tell
from benchmarks.redis_peers import PEERS
from benchmarks.results import Spread, spread
from benchmarks.servers import Site
from benchmarks.shared_contestants import OURS, Contestant, NotAskedError, policy

CROWDS: Final = (256, 1_024)
CALLS_EACH: Final = 4
OPEN_MS: Final = 60.0
AFTER_MS: Final = 1.0
CALLS_AFTER: Final = 2_000
PAUSE: Final = 0.001
"""Seconds that each of several threads or tasks waits between its calls: else the others would wait for the
interpreter's lock, or for one whose calls are answered at once and never give way."""
COUNTED: Final = 1_000
"""How far a caller counts, to take about as long as a call."""
COUNTED_COLD: Final = 3_000
"""The same after a pause, when a call takes longer."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many of the calls of `tasks` tasks raised, and how many were decided without the store."""

    contestant: str
    setting: str
    tasks: int
    calls: int
    failed: int
    unasked: int


@dataclass(frozen=True, slots=True)
class Dead:
    """The longest call (ms) of each round until the breaker opened, and after."""

    who: str
    until_open: Spread
    after: Spread
    counting: Spread
    """The longest (ms) that the same callers, by turns, counted for about as long as a call takes: what more it took,
    the machine or the interpreter's lock made them wait."""
    calls: int
    """How many calls of all rounds began while it was open, each beside a count."""
    slow: int
    """How many of them took longer than they may."""
    paused: int
    """How many of the counts did."""

    @property
    def met(self) -> bool:
        """Whether every call of every round kept its bound, until the breaker opened and after."""
        return self.until_open.most <= OPEN_MS and self.after.most <= AFTER_MS


@dataclass(frozen=True, slots=True)
class Faults:
    """All of it."""

    crowds: list[Crowd]
    dead: list[Dead]

    @property
    def none_failed(self) -> bool:
        """Whether none of ours failed or went without the store among 1,024 tasks, by our defaults."""
        ours = [crowd for crowd in self.crowds if crowd.contestant == str(OURS) and crowd.setting == "defaults"]
        return not any(crowd.failed or crowd.unasked for crowd in ours)


def measure(site: Site, rounds: int, *, quick: bool, tell: Tell) -> Faults:
    """Return what callers of `site` see."""
    crowds = [
        asyncio.run(_crowd(site, contestant, tasks, tuned))
        for contestant in (OURS, *PEERS)
        for tuned in (False, True)
        for tasks in (CROWDS[:1] if quick else CROWDS)
    ]
    calls = 100 if quick else CALLS_AFTER
    cases: dict[str, Callable[[], _Watch]] = {
        "sync, 1 thread": lambda: _dead_threads(site, 1, calls),
        "sync, 8 threads": lambda: _dead_threads(site, 8, calls),
        "asyncio, 1 task": lambda: asyncio.run(_dead_tasks(site, 1, calls)),
        "asyncio, 64 tasks": lambda: asyncio.run(_dead_tasks(site, 64, calls)),
    }
    found: dict[str, list[_Watch]] = {who: [] for who in cases}
    gc.collect()
    gc.freeze()  # No call pays for looking through what the crowds left.
    with _quiet():
        for turn in range(rounds):
            tell(f"a store that is stopped, round {turn + 1} of {rounds}")
            for who, case in cases.items():
                found[who].append(case())
    return Faults(crowds, [_dead(who, watches) for who, watches in found.items()])


def _dead(who: str, rounds: list[_Watch]) -> Dead:
    return Dead(
        who,
        spread([watch.until_open / 1e6 for watch in rounds]),
        spread([watch.after / 1e6 for watch in rounds]),
        spread([watch.counting / 1e6 for watch in rounds]),
        sum(watch.calls for watch in rounds),
        sum(watch.slow for watch in rounds),
        sum(watch.paused for watch in rounds),
    )


async def _crowd(site: Site, contestant: Contestant, tasks: int, tuned: bool) -> Crowd:
    subject = contestant.build_async(site, "one", tuned)
    failed = unasked = 0

    async def body(number: int) -> None:
        nonlocal failed, unasked
        for index in range(CALLS_EACH):
            try:
                subject.admitted(await subject.one(f"10.3.{number}.{index}"))
            except NotAskedError:
                unasked += 1
            except Exception:  # Whatever it raises: the question is how many calls do.
                failed += 1

    await asyncio.gather(*[body(number) for number in range(tasks)])
    await subject.close()
    setting = "best settings" if tuned else "defaults"
    return Crowd(str(contestant), setting, tasks, tasks * CALLS_EACH, failed, unasked)


class _Watch:
    """What callers took, by whether the breaker was open when they began; banhammer logs a line when it opens."""

    def __init__(self, wanted: int) -> None:
        self.opened = False
        self.until_open = 0
        self.after = 0
        self.counting = 0
        self.calls = 0
        self.slow = 0
        self.paused = 0
        self._wanted = wanted
        self._lock = Lock()

    @property
    def ended(self) -> bool:
        """Whether enough calls began while the breaker was open."""
        return self.calls >= self._wanted

    def called(self, opened_before: bool, ns: int) -> None:
        """Take note of a call."""
        with self._lock:
            if opened_before:
                self.after = max(self.after, ns)
                self.slow += ns > AFTER_MS * 1e6
                self.calls += 1
            else:
                self.until_open = max(self.until_open, ns)

    def count(self, opened_before: bool, pause: float) -> None:
        """Count for about as long as a call takes after `pause`, and take note of it beside one that counts."""
        began = perf_counter_ns()
        sum(range(COUNTED_COLD if pause else COUNTED))
        ns = perf_counter_ns() - began
        with self._lock:
            if opened_before:
                self.counting = max(self.counting, ns)
                self.paused += ns > AFTER_MS * 1e6


@contextmanager
def _watched(calls: int) -> Iterator[_Watch]:
    watch = _Watch(calls)
    handler = logging.Handler()

    def emit(record: logging.LogRecord) -> None:
        watch.opened = watch.opened or "is away" in record.msg

    handler.emit = emit  # type: ignore[method-assign]
    log = logging.getLogger("banhammer")
    log.addHandler(handler)
    try:
        yield watch
    finally:
        log.removeHandler(handler)


def _dead_threads(site: Site, many: int, calls: int) -> _Watch:
    with BanHammer([policy("three")], backend=site.url) as ours, _watched(calls) as watch:
        pause = PAUSE if many > 1 else 0
        ours.hit("10.4.0.0", "three")

        def body(number: int) -> None:
            while not watch.ended:
                opened, began = watch.opened, perf_counter_ns()
                ours.hit(f"10.4.0.{number}", "three")
                watch.called(opened, perf_counter_ns() - began)
                sleep(pause)
                watch.count(opened, pause)
                sleep(pause)

        with site.servers[0].stopped():
            _together(many, body)
        return watch


async def _dead_tasks(site: Site, many: int, calls: int) -> _Watch:
    async with AsyncBanHammer([policy("three")], backend=site.url) as ours:
        with _watched(calls) as watch:
            pause = PAUSE if many > 1 else 0
            await ours.hit("10.4.0.0", "three")

            async def body(number: int) -> None:
                while not watch.ended:
                    opened, began = watch.opened, perf_counter_ns()
                    await ours.hit(f"10.4.0.{number}", "three")
                    watch.called(opened, perf_counter_ns() - began)
                    await asyncio.sleep(pause)
                    watch.count(opened, pause)
                    await asyncio.sleep(pause)

            with site.servers[0].stopped():
                await asyncio.gather(*[body(number) for number in range(many)])
        return watch


def _together(many: int, body: Callable[[int], None]) -> None:
    threads = [Thread(target=body, args=(number,)) for number in range(many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the expected lines about a store that is away off the terminal, and let the watch have them."""
    log = logging.getLogger("banhammer")
    before, log.propagate = log.propagate, False
    try:
        yield
    finally:
        log.propagate = before
