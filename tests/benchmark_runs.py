"""Runs of `python -m benchmarks`, each in a process of its own, and what the shared stores' runs have in common."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
WITHOUT_PROGRAMS = (
    "import runpy, shutil, sys; shutil.which = lambda name: None; sys.argv = ['benchmarks', {command!r}];"
    "runpy.run_module('benchmarks', run_name='__main__')"
)
WITHOUT_A_PACKAGE = (
    "import runpy, sys; sys.modules[{package!r}] = None; sys.argv = ['benchmarks', {command!r}];"
    "runpy.run_module('benchmarks', run_name='__main__')"
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python in the checkout."""
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)


def results(*arguments: str, rounds: int = 1) -> dict[str, Any]:
    """Return what a quick run of a benchmark found."""
    done = run("-m", "benchmarks", *arguments, "--rounds", str(rounds), "--quick", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def judged(found: dict[str, Any]) -> list[float]:
    """Return the bounds of all targets, each of which must be judged by its own figure."""
    for target in found["targets"]:
        value, bound = target["ratio"]["median"], target["bound"]
        assert target["met"] is (value >= bound if target["at_least"] else value <= bound)
    return [target["bound"] for target in found["targets"]]


def refusal(script: str, **named: str) -> str:
    """Return what a benchmark says that cannot run; `script` is one of those above."""
    done = run("-c", script.format(**named))
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr
