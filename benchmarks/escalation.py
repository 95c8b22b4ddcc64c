"""What escalation costs those who do not escalate, and what delivery costs: each hammer in a process of its own.

A round takes hits beside an action that sleeps for a minute, and hits without any action, in turns so short that a busy
neighbour on the machine costs both alike. Behind the rounds: what an idle worker's polling costs, and how many
escalations a second one worker delivers.
"""

from __future__ import annotations

import os
import resource
import threading
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from time import perf_counter, perf_counter_ns, sleep
from typing import Any, Final, Self

from benchmarks.progress import Tell
from benchmarks.results import Spread, spread
from benchmarks.servers import Site, cluster, standalone

MINUTE: Final = 60.0
BOUND: Final = 1.05
KEYS: Final = 1_000
SLEEPING: Final = 16
"""Escalations whose action sleeps meanwhile, or waits for its turn to."""
TURNS: Final = 20
"""How often a round changes from one to the other."""
HITS: Final = {"memory": 5_000, "redis": 400}
"""Of each turn."""
IDLE_SECONDS: Final = 10.0
DELIVERIES: Final = 20_000


@dataclass(frozen=True, slots=True)
class Row:
    """The 99th percentile of a hit (ns) without an action and beside one that sleeps, and the ratio of each round."""

    store: str
    without: Spread
    beside: Spread
    ratio: Spread

    @property
    def met(self) -> bool:
        """Whether the median keeps the bound."""
        return self.ratio.median <= BOUND


@dataclass(frozen=True, slots=True)
class Cost:
    """What a worker costs: the share of a core that polls, per hundred, and the deliveries a second."""

    store: str
    idle_percent: float
    deliveries: float


@dataclass(frozen=True, slots=True)
class Found:
    """All that one run found."""

    server: str
    rounds: int
    rows: list[Row]
    costs: list[Cost]


def run(rounds: int, *, quick: bool, tell: Tell) -> Found:
    """Measure on memory, one server, and a cluster. `quick` takes samples too short to mean anything, for a test."""
    with ExitStack() as stack:
        one, three = stack.enter_context(standalone("redis")), stack.enter_context(cluster("redis"))
        rows = [
            _row("memory", "memory://", rounds, 20 if quick else HITS["memory"], tell),
            _row("redis", one.url, rounds, 20 if quick else HITS["redis"], tell),
        ]
        costs = [_cost(name, site, quick, tell) for name, site in (("1 partition", one), ("16 partitions", three))]
        return Found(one.version, rounds, rows, costs)


def as_json(found: Found) -> dict[str, Any]:
    """Return the results as one object of plain values."""
    rows = [{**asdict(row), "bound": BOUND, "met": row.met} for row in found.rows]
    return {
        "server": found.server,
        "rounds": found.rounds,
        "rows": rows,
        "costs": [asdict(each) for each in found.costs],
    }


def as_text(found: Found) -> str:
    """Return the tables: the targets first."""
    lines = [f"{found.server}, {os.cpu_count()} cores, {found.rounds} rounds", ""]
    lines.append(f"p99 of a hit beside an action that sleeps / without one (<= {BOUND})")
    for row in found.rows:
        span = f"{row.ratio.least:.2f}..{row.ratio.most:.2f}"
        verdict = "met" if row.met else "not met"
        us = f"{row.beside.median / 1e3:.2f} us / {row.without.median / 1e3:.2f} us"
        lines.append(f"  {row.store:<8} {row.ratio.median:.3f} {verdict:<8} {span:<12} {us}")
    lines += ["", "what a worker costs"]
    for cost in found.costs:
        what = f"{cost.idle_percent:.2f} % of a core when idle, {cost.deliveries:,.0f} deliveries a second"
        lines.append(f"  {cost.store:<14} {what}")
    return "\n".join(lines)


def _row(store: str, url: str, rounds: int, hits: int, tell: Tell) -> Row:
    with Player(url, sleeping=False) as without, Player(url, sleeping=True) as beside:
        pairs: list[tuple[float, float]] = []
        for player in (without, beside):  # Both have warmed up before the first sample.
            player.ask("sample", hits)
        for number in range(rounds):
            tell(f"round {number + 1} of {rounds}: {store}")
            waits: dict[Player, list[int]] = {without: [], beside: []}
            for turn in range(TURNS):
                for player in (without, beside) if turn % 2 == 0 else (beside, without):
                    waits[player] += player.ask("sample", hits)
            pairs.append((_p99(waits[without]), _p99(waits[beside])))
    return Row(
        store,
        spread([quiet for quiet, _ in pairs]),
        spread([busy for _, busy in pairs]),
        spread([busy / quiet for quiet, busy in pairs]),
    )


def _p99(waits: list[int]) -> float:
    return float(sorted(waits)[len(waits) * 99 // 100])


def _cost(name: str, site: Site, quick: bool, tell: Tell) -> Cost:
    site.flush()
    with Player(site.url, sleeping=False, worker=True) as player:
        tell(f"an idle worker: {name}")
        idle = player.ask("idle", 0.2 if quick else IDLE_SECONDS)
        tell(f"deliveries: {name}")
        return Cost(name, idle * 100, player.ask("deliver", 50 if quick else DELIVERIES))


class Player:
    """A process with a hammer on `url`; it does what it is asked and answers."""

    def __init__(self, url: str, *, sleeping: bool, worker: bool = False) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_play, args=(theirs, url, sleeping, worker), daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.join()

    def ask(self, what: str, amount: float) -> Any:
        """Have it do something and return its answer. Raises `RuntimeError` where it ended."""
        try:
            self._pipe.send((what, amount))
            return self._pipe.recv()
        except EOFError:
            raise RuntimeError("a process of the benchmark failed; see its traceback above") from None


def _play(pipe: Connection, url: str, sleeping: bool, worker: bool) -> None:
    stage = _Stage(url, sleeping, worker)
    while True:
        try:
            what, amount = pipe.recv()
        except EOFError:
            return
        pipe.send(getattr(stage, what)(amount))


class _Stage:
    """What a player plays on."""

    def __init__(self, url: str, sleeping: bool, worker: bool) -> None:
        from banhammer import BanHammer, Policy, Threshold  # Imported here: only the processes need it.

        self._ran = threading.Semaphore(0)
        self._keys = [f"203.0.113.{number}" for number in range(KEYS)]
        actions = ["act"] if sleeping or worker else []
        trap = Policy("trap", [Threshold(1, "1h", burst=0, ban="1h", actions=actions)])
        self._hammer = BanHammer(
            [Policy("api", [Threshold(100_000, "1s")]), trap],
            backend=url, deadline="10s", actions={"act": _Sleeps() if sleeping else lambda _: self._ran.release()},
        )  # fmt: skip
        for number in range(SLEEPING if sleeping else 0):
            self._hammer.hit(f"{os.getpid()}-{number}", "trap")
        sleep(0.5)

    def sample(self, hits: float) -> list[int]:
        """Return how long each of some hits took that do not escalate (ns)."""
        hit, keys = self._hammer.hit, self._keys
        waits: list[int] = []
        for number in range(int(hits)):
            key = keys[number % KEYS]
            began = perf_counter_ns()
            allowed = hit(key, "api").allowed
            waits.append(perf_counter_ns() - began)
            assert allowed
        return waits

    def idle(self, seconds: float) -> float:
        """Return the share of a core that a worker takes with nothing to do."""
        self._hammer.hit("quiet", "api")
        sleep(min(seconds, 3.0))  # It looks seldom after a while.
        before, began = _cpu(), perf_counter()
        sleep(seconds)
        return (_cpu() - before) / (perf_counter() - began)

    def deliver(self, count: float) -> float:
        """Return how many escalations a second run their action, which does nothing, and are off the store."""
        from banhammer import Hit

        left, deliver = int(count), self._hammer._rules.worker
        deliver.stop()  # All wait in the store before the clock starts.
        backlog = [Hit(f"{os.getpid()}-{number}", "trap") for number in range(left)]
        for start in range(0, left, 1_000):
            self._hammer._backend.evaluate(backlog[start : start + 1_000], self._hammer.policies)
        began = perf_counter()
        deliver.look()
        for _ in range(left):
            assert self._ran.acquire(timeout=MINUTE)
        assert deliver.drain(MINUTE)
        return left / (perf_counter() - began)


class _Sleeps:
    """The action that takes a minute, and may."""

    deadline = "5m"

    def __call__(self, _: object) -> None:
        sleep(MINUTE)


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
