"""The demo tells the same story for the same seed, and its report is the one of `replay`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from rich.console import Console

from banhammer.config import load
from banhammer.durations import SECOND
from banhammer.replay.demo import HOURS, OFFICE, SCANNER, SCRAPER, START, STUFFER, demo_log
from banhammer.replay.engine import Rules
from banhammer.replay.formats import Parser
from banhammer.replay.live import watching
from banhammer.replay.run import replay
from banhammer.replay.summary import BanReport, Summary
from banhammer.replay.texts import mask
from banhammer.starter import starter_text


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
    time = 0.0

    def sleep(seconds: float) -> None:
        nonlocal time
        time += seconds

    console = Console(force_terminal=True, width=80, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    summary = Summary()
    summary.requests.allowed = 1234
    summary.bans.append(BanReport("203.0.113.9", "site", 0, START + 5, START + 65, 1, "over 3 per 1h"))
    with console.file, watching(console, START, START + 10, 5, clock=lambda: time, sleep=sleep) as watch:
        for second in range(11):
            watch(summary, (START + second) * SECOND)
        shown = console.export_text()
    assert time == 5  # Ten seconds of the log took as long as they should.
    assert "1,234" in shown
    assert "203.0.113.9 banned by site for 1m: over 3 per 1h" in shown


def test_a_masked_replay_is_watched_without_whole_addresses(tmp_path: Path) -> None:
    log = tmp_path / "story.log"
    log.write_text("".join(f"{line}\n" for line in demo_log(1)), encoding="utf-8")
    found = load(tomllib.loads(starter_text()))
    seen: set[str] = set()

    def watch(summary: Summary, now: int) -> None:
        seen.update(ban.key for ban in summary.bans)

    replay([str(log)], Rules(found.policies, found.routes), masked=True, watch=watch)
    assert seen == {mask(address) for address in (SCRAPER, STUFFER, SCANNER)}
    assert not seen & {SCRAPER, STUFFER, SCANNER}
