"""The command line: `python -m benchmarks memory [--rounds N] [--quick] [--json]`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

ADVICE = 'pip install "banhammer-limiter[bench]"'
PEER_MODULES = ("limits", "pyrate_limiter", "throttled")
WIDTH = 78


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark and print its tables; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure banhammer beside its peers.")
    commands = parser.add_subparsers(dest="command", required=True)
    memory = commands.add_parser("memory", help="the memory backend beside limits, throttled-py, pyrate-limiter")
    memory.add_argument("--rounds", type=_rounds, default=9, help="how many samples of each (default 9)")
    memory.add_argument("--quick", action="store_true", help="only try that everything runs: no figure means anything")
    memory.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
    options = parser.parse_args(arguments)
    try:
        from benchmarks import memory as benchmark  # Imported late: help needs no peers.
        from benchmarks import report
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in PEER_MODULES:
            raise
        print(f"benchmarks: {error.name} is not installed; {ADVICE}", file=sys.stderr)
        return 2
    results = benchmark.run(options.rounds, quick=options.quick, tell=_tell)
    _tell("")
    print(json.dumps(report.as_json(results), indent=2) if options.json else report.as_text(results))
    return 0


def _tell(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{what[:WIDTH]:<{WIDTH}}", end="" if what else "\r", file=sys.stderr, flush=True)


def _rounds(text: str) -> int:
    rounds = int(text)
    if rounds < 1:
        raise argparse.ArgumentTypeError(f"{rounds}; at least 1")
    return rounds


if __name__ == "__main__":
    sys.exit(main())
