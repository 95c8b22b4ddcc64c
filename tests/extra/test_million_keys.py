"""A million clients against a store that keeps a hundred thousand: memory stays bounded, and no ban is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Final

PROGRAM: Final = """
import json, resource
from banhammer import BanHammer, Policy, Threshold

hammer = BanHammer([Policy("api", [Threshold(10, "1h", ban="1d")])], backend="memory://?max_keys=100000")
hammer.ban("attacker", "api")

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

for number in range(200_000):
    hammer.hit(f"2001:db8::{number:x}", "api")
early = peak()
for number in range(200_000, 1_000_000):
    hammer.hit(f"2001:db8::{number:x}", "api")
kept = sum(1 for _ in hammer.status_all())
print(json.dumps([early, peak(), kept, hammer.peek("attacker", "api").verdict]))
"""
GROWTH: Final = 1.25
"""How much the peak may grow while the full store turns over eight times more."""


def test_a_million_keys_leave_a_bounded_store_and_a_ban_in_force() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    early, late, kept, verdict = json.loads(done.stdout)
    assert kept <= 100_000
    assert late <= early * GROWTH
    assert verdict == "banned"
