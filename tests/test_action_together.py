"""The original example with its three actions: on each store, each action runs, and none on the path of requests."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from banhammer import BanHammer, Escalation, Policy, Threshold
from servers.standalone import Standalone

pytest_plugins = ("redis_store_fixtures",)

KEY = "203.0.113.9"
RULES = Policy(
    "login_failed",
    [
        Threshold(10, "1h", ban="1h", actions=["block_local", "record_local"]),
        Threshold(100, "1h", ban="1d", actions=["report_central"]),
    ],
    track=["1m", "10m", "60m"],
)


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_the_original_example_runs_its_three_actions_beside_the_requests(
    kind: str, single: Standalone, tmp_path: Path
) -> None:
    told: list[tuple[Escalation, threading.Thread]] = []
    settings = {
        "record_local": {"path": str(tmp_path / "bans.jsonl")},
        "report_central": {"stream": single.url, "name": "reports"},
    }
    hammer = BanHammer(
        [RULES],
        backend=single.url if kind == "redis" else "memory://",
        deadline="5s",
        denial_cache=False,
        actions={"block_local": lambda each: told.append((each, threading.current_thread()))},
        action_settings=settings,
    )
    with hammer:
        verdicts = [hammer.hit(KEY, "login_failed").verdict for _ in range(101)]
        assert hammer.drain(15)
        assert verdicts == ["allowed"] * 10 + ["banned"] * 91
        assert list(hammer.blocked) == [KEY]
        ((blocked, thread),) = told
        assert thread is not threading.main_thread()
        assert (blocked.threshold, blocked.limit, blocked.strikes) == (0, 10, 1)
        (line,) = (tmp_path / "bans.jsonl").read_text("utf-8").splitlines()
        assert json.loads(line)["id"] == blocked.id
        with single.client() as client:
            ((_, entry),) = client.xrange("reports")
        (document,) = [json.loads(value) for value in entry.values()]
        assert (document["threshold"], document["key"], document["verdict"]) == (1, KEY, "banned")
