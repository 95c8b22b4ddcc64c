"""A replay decides as the reference reads the design, also where lines come late."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

import reference_replay
from banhammer.config import load
from banhammer.replay.engine import Rules
from banhammer.replay.run import replay

START = 1_772_438_400
CONFIG: dict[str, Any] = {
    "policies": {
        "login": {
            "thresholds": [{"limit": 2, "period": "1m", "ban": ["30s", "5m"], "actions": ["report_central"]}],
            "forgive_after": "2m",
        },
        "site": {
            "thresholds": [{"limit": 4, "period": "40s", "burst": 2}, {"limit": 6, "period": "40s", "ban": "50s"}]
        },
        "nets": {"thresholds": [{"limit": 3, "period": "1m", "ban": "forever"}], "mode": "shadow"},
    },
    "routes": [
        {"path": "/static", "skip": True},
        {"path": "/login", "methods": ["POST"], "status": [401], "policy": "login"},
        {"policy": "nets", "key": "ip/24/48", "status": "4xx"},
        {"policy": "site", "cost": 1},
    ],
}

steps = st.tuples(
    st.integers(-200, 60),  # How far its time is from that of the line before: up to 200 s late.
    st.sampled_from(["POST /login", "GET /", "GET /static"]),
    st.sampled_from([200, 401, 404]),
    st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
)


def line(at: int, request: str, status: int, address: str) -> str:
    moment = datetime.fromtimestamp(START + at, UTC)
    return f'{address} - - [{moment:%d/%b/%Y:%H:%M:%S +0000}] "{request} HTTP/1.1" {status} 5 "-" "agent"\n'


def log_of(drawn: list[tuple[int, str, int, str]]) -> str:
    newest, lines = 0, []
    for step, *rest in drawn:
        lines.append(line(newest + step, *rest))
        newest = max(newest, newest + step)
    return "".join(lines)


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, max_size=40))
def test_a_log_with_late_lines_is_decided_as_the_reference_reads_it(drawn: list[tuple[int, str, int, str]]) -> None:
    found = load(CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "access.log"
        log.write_text(log_of(drawn), encoding="utf-8")
        expected = reference_replay.replay(log, CONFIG)
        summary = replay([str(log)], Rules(found.policies, found.routes)).as_json()
    for ban in (*expected["bans"], *summary["bans"]):
        del ban["reason"]
    for name in ("lines", "skipped", "requests", "policies", "denied_served", "bans"):
        assert summary[name] == expected[name]


def test_the_drawn_logs_can_ban_and_be_late() -> None:
    late = [(60, "GET /", 200, "192.0.2.1"), (60, "GET /", 200, "192.0.2.1")]
    late += [(-200, "POST /login", 401, "192.0.2.1")] * 8
    found = load(CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "access.log"
        log.write_text(log_of(late), encoding="utf-8")
        summary = replay([str(log)], Rules(found.policies, found.routes))
    assert summary.bans
    assert any("8 lines came more than 60 s late" in doubt for doubt in summary.doubts)
