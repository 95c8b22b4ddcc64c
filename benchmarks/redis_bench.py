"""What is measured on Redis: one server, or a cluster of three masters; started for it, and ended with it."""

from __future__ import annotations

from benchmarks import redis_costs, redis_faults
from benchmarks.progress import Tell
from benchmarks.redis_peers import RIVALS
from benchmarks.servers import cluster, standalone
from benchmarks.shared_bench import Found, run
from benchmarks.shared_rows import CLUSTER, REDIS


def run_standalone(program: str, rounds: int, *, quick: bool, tell: Tell) -> Found:
    """Measure everything on one server of `program`."""
    with standalone(program) as site:
        found = run(site, REDIS, RIVALS, rounds, quick=quick, tell=tell)
        tell("what it costs the server")
        found.costs = redis_costs.measure(site, 1 if quick else rounds, quick=quick)
        tell("what happens when it fails")
        found.faults = redis_faults.measure(site, 1 if quick else rounds, quick=quick, tell=tell)
        return found


def run_cluster(program: str, rounds: int, *, quick: bool, tell: Tell) -> Found:
    """Measure what a cluster of three masters is asked for."""
    with cluster(program) as site:
        return run(site, CLUSTER, RIVALS, rounds, quick=quick, tell=tell)
