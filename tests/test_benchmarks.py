"""The benchmark runs as the documentation says, and names what it lacks."""

from __future__ import annotations

from typing import Any

import pytest

from benchmark_runs import WITHOUT_A_PACKAGE, judged, refusal, results, run

PEERS = {
    "limits fixed window", "limits moving window", "limits sliding window", "throttled-py GCRA",
    "pyrate-limiter sliding log", "pyrate-limiter GCRA",
}  # fmt: skip
OURS_ALONE = {
    "banhammer hit, three fields read",
    "banhammer hit_many(1000)",
    "banhammer hit_many(1000), hits made and answers read",
}
GROUPS = {
    ("hot", "allowed"), ("distinct", "allowed"), ("new", "allowed"), ("hot", "denied"), ("distinct", "denied"),
}  # fmt: skip


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return results("memory")


def test_every_contestant_is_measured_in_every_scenario(found: dict[str, Any]) -> None:
    measured = {
        (row["keys"], row["verdict"], row["thresholds"], row["threads"], row["contestant"]) for row in found["rows"]
    }
    shapes = [(thresholds, threads) for thresholds in (1, 3) for threads in (1, 8)]
    everyone = {"banhammer hit"} | PEERS
    assert measured == {
        (*group, *shape, name)
        for group in GROUPS
        for shape in shapes
        for name in (everyone | OURS_ALONE if shape[1] == 1 else everyone)
    }
    assert len(found["rows"]) == len(measured)


def test_every_row_has_a_cost_and_our_hit_costs_one_of_itself(found: dict[str, Any]) -> None:
    for row in found["rows"]:
        assert 0 < row["ns"]["least"] <= row["ns"]["median"] <= row["ns"]["most"]
        assert row["cost_of_hit"]["median"] > 0
        if row["contestant"] == "banhammer hit":
            assert row["cost_of_hit"]["median"] == 1.0


def test_every_target_is_judged_in_every_group(found: dict[str, Any]) -> None:
    bounds = [8.0, 6.0, 1.7, 0.8, 12.0, 3.0, 3.0]
    assert judged(found) == bounds * len(GROUPS)


def test_every_contestant_tells_the_bytes_of_a_key(found: dict[str, Any]) -> None:
    sizes = {row["contestant"]: row["bytes"] for row in found["bytes_per_key"]["rows"]}
    assert set(sizes) == {"banhammer hit"} | PEERS
    assert all(50 < size < 5_000 for size in sizes.values())


@pytest.mark.parametrize("peer", ["limits", "throttled", "pyrate_limiter"])
def test_a_missing_peer_is_an_error_that_says_how_to_get_it(peer: str) -> None:
    told = refusal(WITHOUT_A_PACKAGE, command="memory", package=peer)
    assert told == f'benchmarks: {peer} is not installed; pip install -e ".[bench]"\n'


def test_zero_rounds_are_refused() -> None:
    done = run("-m", "benchmarks", "memory", "--rounds", "0")
    assert done.returncode == 2
    assert "0; at least 1" in done.stderr
