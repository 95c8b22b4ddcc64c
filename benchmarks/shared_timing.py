"""One sample on a shared store: keys are made, every answer is kept, and only the calls are timed."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Barrier, Thread
from time import perf_counter_ns
from typing import Any, Final, Self

from benchmarks.servers import Site
from benchmarks.shared_contestants import ATTACK_LIMIT, Answer, AsyncSubject, Contestant, Rules, Subject
from benchmarks.shared_rows import Row, banned_keys, keys_of, seen_keys

STRETCH: Final = 500
"""Calls of a lone thread, or of each task, between two looks at the answers, while the clock stands. Few: what is kept
makes each garbage collection slower, and an application lets go of an answer once it has acted on it."""
MOST_CALLS: Final = 2_000_000


class WrongVerdictError(AssertionError):
    """A contestant that decided otherwise than the row says, so that its speed means nothing."""


@dataclass(frozen=True, slots=True)
class Measure:
    """The nanoseconds a decision, over all callers together; the 99th percentile of a task's waits, where taken."""

    ns: float
    p99: float | None = None


class Arena:
    """A site with the limiters that play on it: each is built once, with its keys seen or banned beforehand."""

    def __init__(self, site: Site, *, quick: bool = False) -> None:
        self.site = site
        self._known = seen_keys()[: 64 if quick else None]
        self.runner = asyncio.Runner()
        self._subjects: dict[tuple[Contestant, Rules, int], Subject] = {}
        self._async: dict[tuple[Contestant, Rules], AsyncSubject] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for subject in self._subjects.values():
            subject.close()
        for each in self._async.values():
            self.runner.run(_closed(each))
        self.runner.close()

    def subject(self, contestant: Contestant, rules: Rules, batch: int = 1) -> Subject:
        """Return the limiter for threads."""
        at = (contestant, rules, batch)
        if at not in self._subjects:
            found = self._subjects[at] = contestant.build(self.site, rules, batch)
            for keys in self._before(rules):
                found.walk(keys)
        return self._subjects[at]

    def async_subject(self, contestant: Contestant, rules: Rules) -> AsyncSubject:
        """Return the limiter for tasks, at its best settings."""
        at = (contestant, rules)
        if at not in self._async:
            self._async[at] = self.runner.run(self._built(contestant, rules))
        return self._async[at]

    async def _built(self, contestant: Contestant, rules: Rules) -> AsyncSubject:
        subject = contestant.build_async(self.site, rules, True)
        for keys in self._before(rules):
            await subject.walk(keys)
        return subject

    def _before(self, rules: Rules) -> list[list[str]]:
        return [banned_keys()] * (ATTACK_LIMIT + 1) if rules == "attack" else [self._known]


@dataclass(slots=True)
class Cell:
    """One contestant in one row, with the number of calls that makes its sample long enough."""

    contestant: Contestant
    row: Row
    calls: int

    def sample(self, arena: Arena) -> Measure:
        """Return what one decision took."""
        row = self.row
        keys = keys_of(row, self.calls)
        if row.who == "tasks":
            subject = arena.async_subject(self.contestant, row.rules)
            gc.collect()
            return arena.runner.run(_tasks(subject, keys, row))
        batch = row.batch if self.contestant.library == "banhammer" else 1
        found = arena.subject(self.contestant, row.rules, batch)
        gc.collect()
        elapsed = _alone(found, keys, row) if row.many == 1 else _threads(found, keys, row)
        return Measure(elapsed / len(keys))

    def fit(self, ns: float, sample_ms: float) -> None:
        """Choose the calls of the next sample so that it lasts `sample_ms`, if one takes `ns`."""
        self.calls = min(max(round(sample_ms * 1e6 / ns), 4 * self.row.many, self.row.batch), MOST_CALLS)


def check(admitted: Callable[[Answer], bool], keys: Sequence[str], answers: Sequence[Answer]) -> None:
    """Raise `WrongVerdictError` unless exactly the banned keys were denied."""
    banned = set(banned_keys())
    for key, answer in zip(keys, answers, strict=True):
        if admitted(answer) is (key in banned):
            raise WrongVerdictError(f"{key} was {'let through' if key in banned else 'denied'}: {answer!r}")


def _alone(subject: Subject, keys: Sequence[str], row: Row) -> int:
    elapsed = 0
    stretch = max(STRETCH, row.batch)
    for start in range(0, len(keys), stretch):
        part = keys[start : start + stretch]
        began = perf_counter_ns()
        answers = subject.walk(part)
        elapsed += perf_counter_ns() - began
        check(subject.admitted, part, answers)
        del answers  # Before the clock goes on.
    return elapsed


def _threads(subject: Subject, keys: Sequence[str], row: Row) -> int:
    barrier = Barrier(row.many)
    told: list[tuple[int, int, Sequence[str], Sequence[Answer]]] = []

    def body(part: Sequence[str]) -> None:
        barrier.wait()
        began = perf_counter_ns()
        answers = subject.walk(part)
        told.append((began, perf_counter_ns(), part, answers))

    threads = [Thread(target=body, args=(keys[index :: row.many],)) for index in range(row.many)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(told) < len(threads):
        raise RuntimeError("a thread failed; see its traceback above")
    for _, _, part, answers in told:
        check(subject.admitted, part, answers)
    return max(end for _, end, *_ in told) - min(began for began, *_ in told)


async def _tasks(subject: AsyncSubject, keys: Sequence[str], row: Row) -> Measure:
    waits: list[int] = []

    async def timed(part: Sequence[str]) -> list[Answer]:
        one = subject.one
        answers: list[Answer] = []
        for key in part:
            began = perf_counter_ns()
            answers.append(await one(key))
            waits.append(perf_counter_ns() - began)
        return answers

    walk: Callable[[Sequence[str]], Any] = timed if row.p99_bound is not None else subject.walk
    elapsed = 0
    for start in range(0, len(keys), STRETCH * row.many):
        together = keys[start : start + STRETCH * row.many]
        parts = [together[index :: row.many] for index in range(row.many)]
        began = perf_counter_ns()
        if row.many == 1:  # The task that is there: a new one would cost as much as a hundred denials.
            told = [await walk(together)]
        else:
            told = await asyncio.gather(*[walk(part) for part in parts])
        elapsed += perf_counter_ns() - began
        for part, answers in zip(parts, told, strict=True):
            check(subject.admitted, part, answers)
        del told, answers  # Before the clock goes on.
    p99 = float(sorted(waits)[len(waits) * 99 // 100]) if waits else None
    return Measure(elapsed / len(keys), p99)


async def _closed(subject: AsyncSubject) -> None:
    await subject.close()
