"""The benchmark of replay runs as the documentation says, on a log that goes on in time."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.replay import repeated

from banhammer.replay.formats import Parser
from benchmark_runs import WITHOUT_A_PACKAGE, refusal, results, run

LINE = b'203.0.113.9 - - [%s:10:05:03 +0000] "GET /a[1/Mar/2020: HTTP/1.1" 200 5 "-" "agent"'


def test_a_short_run_tells_ratio_speeds_and_targets() -> None:
    found = results("replay", rounds=2)
    assert (found["rounds"], found["lines"]) == (2, 1_000)
    for name in ("replay", "apachelogs"):
        speed = found[name]["lines_a_cpu_second"]
        assert 0 < speed["least"] <= speed["median"] <= speed["most"]
    assert 0 < found["ratio"]["least"] <= found["ratio"]["median"]
    assert (found["targets"]["ratio"], found["targets"]["lines_a_second"]) == (8.0, 50_000.0)


def test_the_ratio_is_printed_first(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_bytes((LINE % b"29/Feb/2024" + b"\n") * 50)
    done = run("-m", "benchmarks", "replay", "--log", str(log), "--rounds", "1", "--quick")
    assert done.returncode == 0
    assert done.stdout.splitlines()[2].startswith("replay / apachelogs  ")
    assert "target: 50,000 lines/s, or 8 times apachelogs: " in done.stdout


def test_a_repeated_log_goes_on_in_time_and_keeps_its_lines() -> None:
    lines = [LINE % day for day in (b"29/Feb/2024", b"31/Dec/2024", b"01/Jan/2025")]
    found = [Parser().parse(line.decode().rstrip()) for line in repeated(lines, 50)]
    times = [entry.time for entry in found if entry is not None]
    assert len(times) == 50
    assert times == sorted(set(times))


@pytest.mark.parametrize("content", ["", "junk\n" * 5_000, (LINE % b"29/Feb/2024").decode() + "\n"])
def test_a_log_that_cannot_be_repeated_is_refused(tmp_path: Path, content: str) -> None:
    log = tmp_path / "access.log"
    log.write_text(content)
    done = run("-m", "benchmarks", "replay", "--log", str(log), "--quick")
    assert (done.returncode, done.stdout) == (2, "")
    assert "is no combined log, or too short; name another" in done.stderr


def test_without_apachelogs_the_benchmark_says_how_to_get_it() -> None:
    told = refusal(WITHOUT_A_PACKAGE, command="replay", package="apachelogs")
    assert told == 'benchmarks: apachelogs is not installed; pip install -e ".[bench]"\n'
