"""The benchmarks of the shared store run as the documentation says; no figure of theirs is looked at."""

from __future__ import annotations

from typing import Any

import pytest

from benchmark_runs import WITHOUT_PROGRAMS, judged, refusal, results

PEERS = {"limits fixed window", "throttled-py GCRA"}


@pytest.fixture(scope="module")
def standalone() -> dict[str, Any]:
    return results("redis")


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return results("cluster", "--server", "valkey")


def test_every_peer_is_measured_beside_us_in_every_row(standalone: dict[str, Any], cluster: dict[str, Any]) -> None:
    for found, count in ((standalone, 15), (cluster, 8)):
        rows = {row["row"] for row in found["rows"]}
        assert len(rows) == count
        assert {(row["row"], row["peer"]) for row in found["rows"]} == {(row, peer) for row in rows for peer in PEERS}
        assert all(row["ratio"]["median"] > 0 for row in found["rows"])


def test_every_target_is_judged(standalone: dict[str, Any], cluster: dict[str, Any]) -> None:
    assert judged(standalone) == [6, 0.25, 8, 0.9, 0.9, 1.3, 2, 2.5, 2.5, 25, 35, 8, 8, 300, 300, 300, 12]
    assert judged(cluster) == [8, 15]


def test_what_it_costs_the_server_is_told(standalone: dict[str, Any]) -> None:
    sizes = standalone["costs"]["sizes"]
    assert [size["bound"] for size in sizes] == [200, 400, None, None]
    assert all(50 < size["usage"] < 1_000 for size in sizes)
    assert standalone["costs"]["us_decision"]["median"] > 0


def test_what_fails_is_told(standalone: dict[str, Any]) -> None:
    faults = standalone["faults"]
    assert {crowd["setting"] for crowd in faults["crowds"]} == {"defaults", "best settings"}
    assert len(faults["dead"]) == 4
    for each in faults["dead"]:
        assert each["until_open"]["least"] > 40
        assert each["after"]["least"] > 0 < each["counting"]["least"]
        assert max(each["slow"], each["paused"]) <= each["calls"] >= 100
        assert each["met"] is (each["until_open"]["most"] <= 60 and each["after"]["most"] <= 1)


def test_hits_beside_an_action_that_sleeps_are_measured_and_so_is_delivery() -> None:
    found = results("escalation")
    for row in found["rows"]:
        assert row["met"] is (row["ratio"]["median"] <= row["bound"] == 1.05)
        assert row["without"]["median"] > 0
    assert [row["store"] for row in found["rows"]] == ["memory", "redis"]
    assert [cost["store"] for cost in found["costs"]] == ["1 partition", "16 partitions"]
    assert all(cost["deliveries"] > 0 <= cost["idle_percent"] for cost in found["costs"])


def test_a_server_that_is_not_installed_is_an_error_that_says_how_to_get_it() -> None:
    told = refusal(WITHOUT_PROGRAMS, command="redis")
    assert told == "benchmarks: redis-server is not installed: apt-get install redis-server\n"
