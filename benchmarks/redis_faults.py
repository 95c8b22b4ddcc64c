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
from benchmarks.redis_peers import PEERS
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
    """The longest call (ms) until the breaker opened, and after."""

    who: str
    until_open: float
    after: float
    slow: int
    """How many of the calls after took longer than they may."""
    paused: int
    """How often counting to a thousand, right after such a call, took longer than a call may: other threads had the
    interpreter, the keeper that asks whether the store is back among them, or the machine was busy."""

    @property
    def met(self) -> bool:
        """Whether both keep their bounds."""
        return self.until_open <= OPEN_MS and self.after <= AFTER_MS


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


def measure(site: Site, *, quick: bool) -> Faults:
    """Return what callers of `site` see."""
    crowds = [
        asyncio.run(_crowd(site, contestant, tasks, tuned))
        for contestant in (OURS, *PEERS)
        for tuned in (False, True)
        for tasks in (CROWDS[:1] if quick else CROWDS)
    ]
    calls = 100 if quick else CALLS_AFTER
    gc.collect()
    with _quiet():
        dead = [
            _dead_threads(site, 1, calls),
            _dead_threads(site, 8, calls),
            asyncio.run(_dead_tasks(site, 1, calls)),
            asyncio.run(_dead_tasks(site, 64, calls)),
        ]
    return Faults(crowds, dead)


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
    """Calls by whether the breaker was open when they began; banhammer logs a line when it opens.

    After each call that began while it was open, the same caller counts to a thousand, which takes about as long.
    """

    def __init__(self) -> None:
        self.opened = False
        self.until_open = 0
        self.after = 0
        self.slow = 0
        self.paused = 0
        self.left = 0
        self._lock = Lock()

    def took(self, opened_before: bool, ns: int) -> None:
        counting = _counting_ns() if opened_before else 0
        with self._lock:
            if opened_before:
                self.after = max(self.after, ns)
                self.slow += ns > AFTER_MS * 1e6
                self.paused += counting > AFTER_MS * 1e6
                self.left -= 1
            else:
                self.until_open = max(self.until_open, ns)

    def told(self, who: str) -> Dead:
        return Dead(who, self.until_open / 1e6, self.after / 1e6, self.slow, self.paused)


def _counting_ns() -> int:
    """Return the nanoseconds that it takes to count to a thousand."""
    began = perf_counter_ns()
    sum(range(1_000))
    return perf_counter_ns() - began


@contextmanager
def _watched(calls: int) -> Iterator[_Watch]:
    watch = _Watch()
    watch.left = calls
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


def _dead_threads(site: Site, many: int, calls: int) -> Dead:
    with BanHammer([policy("three")], backend=site.url) as ours, _watched(calls) as watch:
        ours.hit("10.4.0.0", "three")

        def body(number: int) -> None:
            while watch.left > 0:
                opened, began = watch.opened, perf_counter_ns()
                ours.hit(f"10.4.0.{number}", "three")
                watch.took(opened, perf_counter_ns() - began)
                if many > 1:
                    sleep(PAUSE)

        with site.servers[0].stopped():
            _together(many, body)
        return watch.told(f"sync, {many} thread{'s' * (many > 1)}")


async def _dead_tasks(site: Site, many: int, calls: int) -> Dead:
    async with AsyncBanHammer([policy("three")], backend=site.url) as ours:
        with _watched(calls) as watch:
            await ours.hit("10.4.0.0", "three")

            async def body(number: int) -> None:
                while watch.left > 0:
                    opened, began = watch.opened, perf_counter_ns()
                    await ours.hit(f"10.4.0.{number}", "three")
                    watch.took(opened, perf_counter_ns() - began)
                    if many > 1:
                        await asyncio.sleep(PAUSE)

            with site.servers[0].stopped():
                await asyncio.gather(*[body(number) for number in range(many)])
        return watch.told(f"asyncio, {many} task{'s' * (many > 1)}")


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
