"""Lines are read whatever they are stored in, and decided in the order of their times."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banhammer.durations import SECOND
from banhammer.replay.entry import Entry
from banhammer.replay.lines import LONGEST, Source, split
from banhammer.replay.order import Lateness, in_order

TEXT = "".join(f"line {number}\n" for number in range(20_000))


def entry(time: int, name: str = "") -> Entry:
    return Entry("203.0.113.9", "203.0.113.9", time, "GET", name, 200, None, None, "")


def logs_of(times: list[list[int]]) -> list[list[Entry]]:
    return [[entry(time, f"{log}:{line}") for line, time in enumerate(lines)] for log, lines in enumerate(times)]


def decided(times: list[list[int]], **options: int) -> list[tuple[int, str]]:
    return [(now, one.path) for now, one in in_order(list(logs_of(times)), **options)]


near = st.lists(st.integers(0, 60 * SECOND), max_size=60)


@given(st.lists(near, max_size=4))
def test_lines_within_a_minute_are_sorted_by_time_then_log_then_line(times: list[list[int]]) -> None:
    everything = [one for log in logs_of(times) for one in log]
    expected = [(one.time, one.path) for one in sorted(everything, key=lambda one: one.time)]
    assert decided(times) == expected


@given(st.lists(st.lists(st.integers(0, 10_000 * SECOND), max_size=60), max_size=4))
def test_times_never_go_back_and_no_line_is_lost(times: list[list[int]]) -> None:
    found = decided(times)
    assert sorted(path for _, path in found) == sorted(one.path for log in logs_of(times) for one in log)
    assert [now for now, _ in found] == sorted(now for now, _ in found)


@given(st.lists(st.integers(0, 500), max_size=80))
def test_one_log_is_decided_as_a_plain_buffer_says(seconds: list[int]) -> None:
    waiting: list[tuple[int, int]] = []
    expected: list[tuple[int, int]] = []
    for line, time in enumerate(seconds):
        newest = max(seconds[: line + 1])
        if time < newest - 60:
            expected.append((expected[-1][0] if expected else time, line))
            continue
        waiting = sorted([*waiting, (time, line)])
        expected += [one for one in waiting if one[0] <= newest - 60]
        waiting = [one for one in waiting if one[0] > newest - 60]
    lateness = Lateness()
    (log,) = logs_of([[time * SECOND for time in seconds]])
    found = [(now // SECOND, one.path) for now, one in in_order([log], lateness)]
    assert found == [(time, f"0:{line}") for time, line in [*expected, *waiting]]
    assert lateness.late == sum(time < max(seconds[: line + 1]) - 60 for line, time in enumerate(seconds))


def test_a_line_sixty_seconds_late_is_put_in_order() -> None:
    assert [path for _, path in decided([[100 * SECOND, 40 * SECOND]])] == ["0:1", "0:0"]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        ([0, 50, 200, 30], [(0, 0), (50, 1), (50, 3), (200, 2)]),
        ([0, 100, 30], [(0, 0), (0, 2), (100, 1)]),
        ([40, 100, 30], [(40, 0), (40, 2), (100, 1)]),
        ([100, 30, 20, 90], [(30, 1), (30, 2), (90, 3), (100, 0)]),
    ],
)
def test_a_later_line_is_decided_at_the_time_of_the_last_one_decided(
    seconds: list[int], expected: list[tuple[int, int]]
) -> None:
    found = decided([[time * SECOND for time in seconds]])
    assert found == [(time * SECOND, f"0:{line}") for time, line in expected]


@pytest.mark.parametrize("seconds", [[0, 50, 200, 30], [0, 100, 30], [100, 30]])
def test_late_lines_are_counted(seconds: list[int]) -> None:
    lateness = Lateness()
    assert len(list(in_order(list(logs_of([[time * SECOND for time in seconds]])), lateness))) == len(seconds)
    assert lateness.late == 1


def test_of_several_logs_a_late_line_takes_the_time_of_the_last_line_decided_of_all() -> None:
    one, other = [100, 30], [0, 10, 20, 35]
    found = decided([[time * SECOND for time in seconds] for seconds in (one, other)])
    expected = [(0, "1:0"), (10, "1:1"), (20, "1:2"), (20, "0:1"), (35, "1:3"), (100, "0:0")]
    assert found == [(time * SECOND, path) for time, path in expected]


def test_one_line_from_the_future_makes_the_lines_behind_it_late_and_loses_none() -> None:
    times = [0, 10**15, *(second * SECOND for second in range(1, 300))]
    lateness = Lateness()
    found = [(now, one.path) for now, one in in_order(list(logs_of([times])), lateness)]
    assert found == [(0, "0:0"), *((0, f"0:{line}") for line in range(2, 301)), (10**15, "0:1")]
    assert lateness.late == 299


def test_rotated_logs_may_be_named_in_any_order() -> None:
    old, new = [second * SECOND for second in range(100)], [second * SECOND for second in range(100, 200)]
    forwards = [now for now, _ in decided([old, new])]
    assert [now for now, _ in decided([new, old])] == forwards == [*old, *new]


def test_a_log_whose_time_stands_still_fills_no_memory() -> None:
    lateness = Lateness()

    def still() -> Iterator[Entry]:
        for number in range(60_000):
            yield entry(SECOND, str(number))

    tracemalloc.start()
    try:
        numbers = [int(one.path) for _, one in in_order([still()], lateness, room=1000)]
        # The list of numbers itself is the most of it.
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert numbers == list(range(60_000))
    assert lateness.crowded == 59_000


def read(path: Path) -> tuple[list[str], list[str]]:
    source = Source(str(path))
    return list(source.lines(lambda size: None)), source.doubts


def test_a_gzip_log_is_told_by_its_bytes(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_bytes(gzip.compress(TEXT.encode()) + gzip.compress(b"more\n"))
    assert read(log) == ([*TEXT.splitlines(), "more"], [])


def test_a_gzip_log_cut_short_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    log = tmp_path / "access.log.gz"
    whole = gzip.compress(TEXT.encode())
    log.write_bytes(whole[: len(whole) * 3 // 4])
    lines, doubts = read(log)
    assert 1000 < len(lines) < 20_000
    assert lines[:-1] == TEXT.splitlines()[: len(lines) - 1]
    assert doubts == [f"{log} is cut short; its end is missing"]


def test_a_damaged_gzip_log_is_read_up_to_the_damage(tmp_path: Path) -> None:
    log = tmp_path / "access.log.gz"
    log.write_bytes(gzip.compress(TEXT.encode()) + b"\x1f\x8bnonsense that is no gzip")
    lines, doubts = read(log)
    assert lines == TEXT.splitlines()
    assert doubts == [f"{log} is damaged; only what comes before the damage was read"]


def test_a_highly_compressed_log_is_inflated_in_small_pieces(tmp_path: Path) -> None:
    log = tmp_path / "bomb.gz"
    log.write_bytes(gzip.compress(b"a" * 30_000_000 + b"\nend\n"))
    tracemalloc.start()
    try:
        lines, _ = read(log)
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()
    assert [len(line) for line in lines] == [LONGEST, 3]


@given(st.binary(max_size=300), st.integers(1, 50))
def test_blocks_of_any_size_give_the_same_lines(data: bytes, size: int) -> None:
    blocks = [data[start : start + size] for start in range(0, len(data), size)]
    whole = data.decode("utf-8", "surrogateescape").split("\n")
    expected = [line.removesuffix("\r") for line in (whole if whole[-1] else whole[:-1])]
    assert list(split(iter(blocks))) == expected


def test_a_line_without_end_is_cut_not_kept() -> None:
    lines = list(split(b"x" * 100_000 for _ in range(100)))
    assert [len(line) for line in lines] == [LONGEST]


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\n\x00", b"\r\n"])
def test_any_bytes_are_lines(tmp_path: Path, content: bytes) -> None:
    log = tmp_path / "log"
    log.write_bytes(content)
    assert len(read(log)[0]) == content.count(b"\n") + (not content.endswith(b"\n") and bool(content))
