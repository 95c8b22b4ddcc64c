"""The rates of one record: rings of twelve slots, counted and turned, also by a clock that steps back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banhammer.core import count, count_at
from banhammer.model import RING, Ring

WINDOW = 12
"""Twelve microseconds, so that a slot is one microsecond and its number the time."""

times = st.integers(0, 100)


def counted(*hits: int) -> Ring:
    """Return the ring of one window after hits at these times."""
    rings: tuple[Ring, ...] = ()
    for now in hits:
        rings = count((WINDOW,), rings, now)
    return rings[0]


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30), st.integers(0, 30))
def test_a_window_holds_the_hits_of_its_twelve_slots(gaps: list[int], rest: int) -> None:
    hits = [sum(gaps[: index + 1]) for index in range(len(gaps))]
    now = hits[-1] + rest
    assert count_at(counted(*hits), now) == sum(now - 11 <= hit <= now for hit in hits)


@given(st.lists(times, min_size=1, max_size=30), times)
def test_a_window_never_holds_more_than_the_truth_whatever_the_clock_did(hits: list[int], now: int) -> None:
    assert count_at(counted(*hits), now) <= sum(now - 11 <= hit <= now for hit in hits)


@given(st.lists(times, min_size=1, max_size=30))
def test_the_hit_itself_is_always_counted(hits: list[int]) -> None:
    assert count_at(counted(*hits), hits[-1]) >= 1


@pytest.mark.parametrize("now", [0, 5, 11, 12, 24])
def test_a_ring_begins_in_the_slot_of_its_first_hit(now: int) -> None:
    counts = [0] * RING
    counts[now % RING] = 1
    assert counted(now) == (WINDOW, now, tuple(counts))


def test_a_hit_by_a_clock_that_stepped_back_within_the_ring_joins_its_slot() -> None:
    ring = counted(50, 53, 50)
    assert ring[1] == 53
    assert [count_at(ring, now) for now in (50, 53, 61, 62)] == [2, 3, 3, 1]


@pytest.mark.parametrize(("back", "left"), [(11, 2), (12, 1), (13, 1)])
def test_a_clock_that_stepped_back_by_a_whole_ring_begins_a_new_one(back: int, left: int) -> None:
    ring = counted(50, 50 - back)
    assert sum(ring[2]) == left
    assert ring[1] == (50 if left == 2 else 50 - back)


def test_a_window_that_stays_keeps_its_hits_wherever_it_stands_and_others_are_dropped() -> None:
    """G16: for rates."""
    rings = count((24, 12), (), 40)
    assert count((36, 24), rings, 41) == (count((36,), (), 41)[0], count((24,), rings, 41)[0])
    assert count_at(count((36, 24), rings, 41)[1], 41) == 2
    assert [ring[0] for ring in count((12, 24, 36), rings, 41)] == [12, 24, 36]
    assert [sum(ring[2]) for ring in count((12, 24, 36), rings, 41)] == [2, 2, 1]
    assert count((), rings, 41) == ()
