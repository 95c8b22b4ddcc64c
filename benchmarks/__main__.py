"""The command line: `python -m benchmarks memory|replay|redis|cluster|memcached|escalation [--rounds N] ...`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.progress import on_terminal

ADVICE = 'pip install -e ".[bench]"'
QUICK = "--quick: only tried whether it runs, no figure above means anything"
PEER_MODULES = ("apachelogs", "limits", "memcachio", "pymemcache", "pyrate_limiter", "redis", "throttled")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its tables; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure banhammer beside its peers.")
    commands = parser.add_subparsers(dest="command", required=True)
    memory = commands.add_parser("memory", help="the memory backend beside limits, throttled-py, pyrate-limiter")
    replay = commands.add_parser("replay", help="the command replay beside apachelogs, which only parses")
    replay.add_argument("--log", type=Path, metavar="FILE", help="a combined log to repeat (default: the demo's)")
    redis = commands.add_parser("redis", help="the Redis backend beside limits and throttled-py, on its own server")
    cluster = commands.add_parser("cluster", help="the same on a cluster of three masters")
    memcached = commands.add_parser("memcached", help="the Memcached backend beside limits, on its own server")
    for command in (redis, cluster):
        command.add_argument("--server", choices=("redis", "valkey"), default="redis", help="default redis")
    escalation = commands.add_parser("escalation", help="hits beside an action that sleeps, and what delivery costs")
    for command in (memory, replay, redis, cluster, memcached, escalation):
        command.add_argument("--rounds", type=_rounds, default=9, help="how many samples of each (default 9)")
        command.add_argument("--quick", action="store_true", help="only try that all runs: no figure means anything")
        command.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args(arguments)
    try:
        found, text = _RUNS[options.command](options)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in PEER_MODULES:
            raise
        print(f"benchmarks: {error.name} is not installed; {ADVICE}", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 2
    on_terminal("")
    if options.json:
        print(json.dumps({"quick": options.quick, **found}, indent=2))
    else:
        print(f"{text}\n\n{QUICK}" if options.quick else text)
    return 0


# Benchmarks are imported late: help, and the other benchmark, need no peers.


def _memory(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from benchmarks import memory, report

    results = memory.run(options.rounds, quick=options.quick, tell=on_terminal)
    return report.as_json(results), report.as_text(results)


def _replay(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from benchmarks import replay

    results = replay.run(options.log, options.rounds, quick=options.quick, tell=on_terminal)
    return replay.as_json(results), replay.as_text(results)


def _redis(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from benchmarks import redis_bench, shared_report

    run = redis_bench.run_cluster if options.command == "cluster" else redis_bench.run_standalone
    results = run(options.server, options.rounds, quick=options.quick, tell=on_terminal)
    return shared_report.as_json(results), shared_report.as_text(results)


def _memcached(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from benchmarks import memcached_bench, shared_report

    results = memcached_bench.run_memcached(options.rounds, quick=options.quick, tell=on_terminal)
    return shared_report.as_json(results), shared_report.as_text(results)


def _escalation(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from benchmarks import escalation

    results = escalation.run(options.rounds, quick=options.quick, tell=on_terminal)
    return escalation.as_json(results), escalation.as_text(results)


_RUNS: dict[str, Callable[[argparse.Namespace], tuple[dict[str, Any], str]]] = {
    "memory": _memory, "replay": _replay, "redis": _redis, "cluster": _redis, "memcached": _memcached,
    "escalation": _escalation,
}  # fmt: skip


def _rounds(text: str) -> int:
    rounds = int(text)
    if rounds < 1:
        raise argparse.ArgumentTypeError(f"{rounds}; at least 1")
    return rounds


if __name__ == "__main__":
    sys.exit(main())
