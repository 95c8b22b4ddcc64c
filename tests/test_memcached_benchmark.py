"""The benchmark of Memcached runs as the documentation says; no figure of its is looked at."""

from __future__ import annotations

from benchmark_runs import WITHOUT_A_PACKAGE, WITHOUT_PROGRAMS, judged, refusal, results


def test_limits_is_measured_beside_us_in_every_row() -> None:
    found = results("memcached")
    rows = [(row["row"], row["peer"]) for row in found["rows"]]
    assert len(rows) == len(set(rows)) == 10
    assert {peer for _, peer in rows} == {"limits fixed window"}
    assert all(row["ratio"]["median"] > 0 for row in found["rows"])
    assert judged(found) == [0.9, 0.6]
    assert found["machine"]["server"].startswith("memcached 1.")


def test_a_server_that_is_not_installed_is_an_error_that_says_how_to_get_it() -> None:
    told = refusal(WITHOUT_PROGRAMS, command="memcached")
    assert told == "benchmarks: memcached is not installed: apt-get install memcached\n"


def test_a_missing_client_is_an_error_that_says_how_to_get_it() -> None:
    told = refusal(WITHOUT_A_PACKAGE, command="memcached", package="memcachio")
    assert told == 'benchmarks: memcachio is not installed; pip install -e ".[bench]"\n'
