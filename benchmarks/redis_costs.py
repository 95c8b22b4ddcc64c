"""What decisions cost the server: bytes a key, and its own time, as it counts both itself."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from banhammer import BanHammer, Hit
from benchmarks.redis_peers import PEERS
from benchmarks.results import Spread, spread
from benchmarks.servers import Server, Site
from benchmarks.shared_contestants import OURS, PATIENT, Contestant, Rules, policy
from benchmarks.shared_rows import seen_keys

KEYS: Final = 10_000
BATCH: Final = 64
CALLS: Final = 300
PIPELINE: Final = 1_000
TRIVIAL: Final = "return 1"

SIZES: Final[tuple[tuple[Contestant, Rules, str, float | None], ...]] = (
    (OURS, "three", "three thresholds, without rates", 200.0),
    (OURS, "windows", "three thresholds, three tracked windows", 400.0),
    *((peer, "windows", "three limits", None) for peer in PEERS),
)


@dataclass(frozen=True, slots=True)
class Size:
    """What a key costs: `usage` by MEMORY USAGE of all that is stored for it, `used` by how used_memory grew."""

    contestant: str
    what: str
    usage: float
    used: float
    bound: float | None

    @property
    def met(self) -> bool | None:
        """Whether both keep the bound; `None` where nothing is demanded."""
        return None if self.bound is None else max(self.usage, self.used) <= self.bound


@dataclass(frozen=True, slots=True)
class Costs:
    """Bytes, and the server's microseconds: a decision of ours, a script that returns 1, and their ratio."""

    keys: int
    sizes: list[Size]
    decision: Spread
    trivial: Spread
    ratio: Spread


def measure(site: Site, rounds: int, *, quick: bool) -> Costs:
    """Return what decisions cost the only server of `site`."""
    keys = 200 if quick else KEYS
    sizes = [_size(site, each, rules, what, bound, keys) for each, rules, what, bound in SIZES]
    site.flush()
    pairs = _times(site.servers[0], site, rounds, 5 if quick else CALLS)
    return Costs(
        keys,
        sizes,
        spread([ours for ours, _ in pairs]),
        spread([trivial for _, trivial in pairs]),
        spread([ours / trivial for ours, trivial in pairs]),
    )


def _size(site: Site, contestant: Contestant, rules: Rules, what: str, bound: float | None, count: int) -> Size:
    site.flush()
    server = site.servers[0]
    before = _used(server)
    subject = contestant.build(site, rules, PIPELINE if contestant is OURS else 1)
    subject.walk([f"10.2.{index >> 8}.{index & 255}" for index in range(count)])
    subject.close()  # The buffers of its connections are no key's bytes.
    used = _used(server) - before
    names = list(server.client.scan_iter(count=PIPELINE))
    usage = 0
    for start in range(0, len(names), PIPELINE):
        pipe = server.client.pipeline(transaction=False)
        for name in names[start : start + PIPELINE]:
            pipe.memory_usage(name, samples=0)
        usage += sum(pipe.execute())
    return Size(str(contestant), what, usage / count, used / count, bound)


def _times(server: Server, site: Site, rounds: int, calls: int) -> list[tuple[float, float]]:
    server.ask("SCRIPT", "LOAD", TRIVIAL)
    sha = hashlib.sha1(TRIVIAL.encode(), usedforsecurity=False).hexdigest()
    keys = seen_keys()[: BATCH * (len(seen_keys()) // BATCH)]
    batches = [[Hit(key, "three") for key in keys[at : at + BATCH]] for at in range(0, len(keys), BATCH)]
    with BanHammer([policy("three")], backend=site.url, deadline=PATIENT) as ours:
        for batch in batches:
            ours.hit_many(batch)
        pairs: list[tuple[float, float]] = []
        for _ in range(rounds):
            trivial = _per_call(server, calls, lambda index: server.ask("EVALSHA", sha, 0))
            decision = _per_call(server, calls, lambda index: ours.hit_many(batches[index % len(batches)])) / BATCH
            pairs.append((decision, trivial))
    return pairs


def _per_call(server: Server, calls: int, call: Callable[[int], object]) -> float:
    """Return the server's microseconds a call of a script."""
    server.ask("CONFIG RESETSTAT")
    for index in range(calls):
        call(index)
    return float(server.client.info("commandstats")["cmdstat_evalsha"]["usec_per_call"])


def _used(server: Server) -> int:
    return int(server.client.info("memory")["used_memory"])
