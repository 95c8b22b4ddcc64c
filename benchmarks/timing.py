"""One sample: a limiter is built, filled, checked, timed and checked again.

Only the loop is timed. Keys are made, state is filled and garbage is collected before it; the collector
stays on during it.
"""

from __future__ import annotations

import gc
from dataclasses import dataclass
from threading import Barrier, Thread
from time import perf_counter_ns
from typing import Final

from benchmarks.contestants import Contestant, Subject, Work
from benchmarks.scenarios import Group, Shape, split

FIRST_CALLS: Final = 500
MOST_CALLS: Final = 400_000
MOST_NEW_KEYS: Final = 100_000


class WrongVerdictError(AssertionError):
    """A contestant that decided otherwise than the scenario says, so that its speed means nothing."""


@dataclass(slots=True)
class Cell:
    """One contestant in one scenario, with the number of calls that makes its sample long enough."""

    contestant: Contestant
    group: Group
    shape: Shape
    calls: int = FIRST_CALLS

    def sample(self) -> float:
        """Return the nanoseconds that one call took, over all threads together."""
        subject = self.contestant.build(self.group.admitted, self.shape.thresholds)
        try:
            keys, passes = self.group.population(self.calls)
            self._fill(subject, keys)
            self._check(subject, keys[0])
            work = [subject.prepare(part) for part in split(keys, self.shape.threads)]
            subject.settle()
            gc.collect()
            elapsed = _timed(subject, work, passes)
            self._check(subject, keys[-1])
            return elapsed / (len(keys) * passes)
        finally:
            subject.close()

    def fit(self, ns: float, sample_ms: float) -> None:
        """Choose the calls of the next sample so that it lasts `sample_ms`, if one takes `ns`."""
        most = MOST_NEW_KEYS if self.group.keys == "new" else MOST_CALLS
        self.calls = min(max(round(sample_ms * 1e6 / ns), 50), most)

    def _fill(self, subject: Subject, keys: list[str]) -> None:
        if self.group.keys == "new":
            return
        for key in dict.fromkeys(keys):
            subject.admits(key)
            if not self.group.admitted:
                subject.admits(key)  # The first denial of all is dearer: it is what escalates.

    def _check(self, subject: Subject, key: str) -> None:
        if self.group.keys == "new":
            key = "2001:db8:ffff::/64"
        if subject.admits(key) is not self.group.admitted:
            raise WrongVerdictError(f"{self.contestant} does not answer as {self.group} demands")


def _timed(subject: Subject, work: list[Work], passes: int) -> int:
    if len(work) == 1:
        began = perf_counter_ns()
        _walk(subject, work[0], passes)
        return perf_counter_ns() - began
    barrier = Barrier(len(work))
    spans: list[tuple[int, int]] = []

    def body(part: Work) -> None:
        barrier.wait()
        began = perf_counter_ns()
        _walk(subject, part, passes)
        spans.append((began, perf_counter_ns()))

    threads = [Thread(target=body, args=(part,)) for part in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(spans) < len(threads):
        raise RuntimeError("a thread failed; see its traceback above")
    return max(end for _, end in spans) - min(began for began, _ in spans)


def _walk(subject: Subject, part: Work, passes: int) -> None:
    run = subject.run
    for _ in range(passes):
        run(part)
