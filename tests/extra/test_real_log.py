"""Replay on a real log: `BANHAMMER_ACCESS_LOG` names 10,000 lines of one web server in the combined format."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import reference_replay

RULES = """
[policies.pages]
thresholds = [
  { limit = 10, period = "1m", burst = 5 },
  { limit = 20, period = "1m", ban = ["5m", "1h", "1d"] },
  { limit = 1200, period = "1h", burst = 60, ban = "1d" },
]
[policies.missing]
forgive_after = "2h"
thresholds = [{ limit = 2, period = "1h", ban = ["10m", "1h", "forever"] }]
[policies.nets]
mode = "shadow"
thresholds = [{ limit = 30, period = "1h", burst = 8 }, { limit = 60, period = "1h", burst = 20, ban = "1h" }]
[[routes]]
path = "*.ico"
skip = true
[[routes]]
status = ["4xx", 301]
policy = "missing"
[[routes]]
policy = "nets"
key = "ip/16/48"
cost = 2
[[routes]]
except = "/images/*"
policy = "pages"
"""


@pytest.fixture(scope="module")
def log() -> Path:
    name = os.environ.get("BANHAMMER_ACCESS_LOG")
    if not name:
        pytest.fail("set BANHAMMER_ACCESS_LOG to the path of an access log in the combined format")
    return Path(name)


def replayed(log: Path, *options: str) -> dict[str, Any]:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("BANHAMMER_CONFIG", "BANHAMMER_MODE")
    }
    command = [sys.executable, "-m", "banhammer", "replay", str(log), "--json", *options]
    done = subprocess.run(command, capture_output=True, check=True, env=environment, timeout=300)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_three_policies_decide_as_the_reference_reads_the_design(log: Path, tmp_path: Path) -> None:
    config = tmp_path / "rules.toml"
    config.write_text(RULES, encoding="utf-8")
    expected = reference_replay.replay(log, tomllib.loads(RULES))
    found = replayed(log, "--config", str(config))
    for ban in (*expected["bans"], *found["bans"]):
        del ban["reason"]
    for name in ("lines", "skipped", "requests", "policies", "denied_served", "bans"):
        assert found[name] == expected[name]
    assert len(found["bans"]) > 50


def test_the_starter_rules_hurt_nearly_nobody(log: Path) -> None:
    found = replayed(log)
    requests = found["requests"]
    assert found["skipped"] == 0
    assert requests["throttled"] + requests["banned"] < 0.005 * sum(requests.values())
    assert found["denied_served"] < 0.001 * sum(requests.values())
