"""What a key costs in memory: each contestant alone in a fresh process, by `tracemalloc`.

The key's own string is made inside the measured part, so a store that keeps it pays for it, and so does
one that keeps a longer spelling of it.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
from pathlib import Path

from benchmarks.contestants import HIT, Contestant
from benchmarks.peers import PEERS

CONTESTANTS = (HIT, *PEERS)


def measure(contestant: Contestant, keys: int) -> float:
    """Return the bytes that `contestant` keeps for each of `keys` distinct keys, in a process of its own."""
    arguments = [sys.executable, "-m", "benchmarks.footprint", str(CONTESTANTS.index(contestant)), str(keys)]
    folder = Path(__file__).parents[1]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        raise RuntimeError(f"{contestant}: {done.stderr}")
    return float(done.stdout)


def bytes_per_key(contestant: Contestant, keys: int) -> float:
    """Return what `measure` does, of this process."""
    subject = contestant.build(False, 1)
    subject.admits("the first call makes what all share")
    subject.settle()
    gc.collect()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for index in range(keys):
        if not subject.admits(f"2001:db8:{index >> 16:x}:{index & 0xFFFF:x}::/64"):
            raise AssertionError(f"{contestant} denied a key that it never saw")
    subject.settle()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    if subject.admits("2001:db8:0:0::/64"):
        raise AssertionError(f"{contestant} has forgotten its first key")
    subject.close()
    return (after - before) / keys


if __name__ == "__main__":
    print(bytes_per_key(CONTESTANTS[int(sys.argv[1])], int(sys.argv[2])))
