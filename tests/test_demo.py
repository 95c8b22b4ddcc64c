"""The demo tells the same story for the same seed, and its report is the one of `replay`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from banhammer.durations import SECOND
from banhammer.replay.demo import HOURS, OFFICE, SCANNER, SCRAPER, START, STUFFER, demo_log
from banhammer.replay.formats import Parser
from banhammer.replay.live import watching
from banhammer.replay.summary import BanReport, Summary


def run(folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BANHAMMER_")}
    command = [sys.executable, "-m", "banhammer", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, env=environment, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def test_the_same_seed_tells_the_same_story() -> None:
    assert demo_log(7) == demo_log(7)
    assert demo_log(7) != demo_log(8)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_line_of_the_story_can_be_read_in_order(seed: int) -> None:
    entries = [Parser().parse(line) for line in demo_log(seed)]
    times = [entry.time for entry in entries if entry is not None]
    assert len(times) == len(entries) > 5000
    assert times == sorted(times)
    assert times[0] >= START * SECOND
    assert times[-1] < (START + HOURS * 3600) * SECOND


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_the_starter_rules_ban_the_attackers_and_no_person(tmp_path: Path, seed: int) -> None:
    found = json.loads(run(tmp_path, "demo", "--seed", str(seed), "--json"))
    banned = {ban["key"] for ban in found["bans"]}
    assert banned == {SCRAPER, STUFFER, SCANNER}
    assert OFFICE not in banned
    assert max(ban["strikes"] for ban in found["bans"] if ban["key"] == SCANNER) == 3
    assert found["skipped"] == 0


def test_the_log_is_written_and_replays_to_the_same_report(tmp_path: Path) -> None:
    shown = run(tmp_path, "demo", "--log", "story.log")
    assert (tmp_path / "story.log").read_text().splitlines() == demo_log(1)
    assert run(tmp_path, "replay", "story.log") == shown
    assert SCRAPER in shown


def test_a_watched_replay_shows_its_bans() -> None:
    console = Console(force_terminal=True, width=80, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    summary = Summary()
    summary.requests.allowed = 1234
    summary.bans.append(BanReport("203.0.113.9", "site", 0, START + 5, START + 65, 1, "over 3 per 1h"))
    with console.file, watching(console, START, START + 10, 0.2) as watch:
        for second in range(11):
            watch(summary, (START + second) * SECOND)
        shown = console.export_text()
    assert "1,234" in shown
    assert "203.0.113.9 banned by site for 1m: over 3 per 1h" in shown
