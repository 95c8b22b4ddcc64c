"""Kill -9 of producers and workers at random points: none lost, duplicates carry the same id, redelivered in time.

`HYPOTHESIS_PROFILE=long` kills 1,000 times over 10,000 escalations on each store, and once on the default terms; run
with `-s` it shows how far it is, and what came of it.
"""

from __future__ import annotations

import os
import random
from collections import Counter, defaultdict
from pathlib import Path
from time import monotonic, sleep, time

import pytest

from banhammer import BanHammer
from delivery import NOTHING, SLOW, in_hand, left_over, trap
from delivery_crew import Crew, ended, names
from redis_children import Child
from redis_stores import Store
from servers.waiting import until

pytest_plugins = ("redis_store_fixtures",)
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"
KILLS, ESCALATIONS = (1_000, 10_000) if LONG else (12, 100)
AWHILE = 0.12
"""The mean time between two kills (s)."""
REDELIVERY = 30.0
"""Seconds within which the escalations of a dead worker are another's."""


def test_no_escalation_is_lost_by_kills_at_random_points(store: Store, tmp_path: Path) -> None:
    crew = Crew(store.url, tmp_path / "ran", rate=ESCALATIONS / KILLS / AWHILE / 2 * 1.3)
    began = monotonic()
    try:
        while crew.kills < KILLS:
            for name in names():
                crew.start(name)
            sleep(random.uniform(0, 2 * AWHILE))
            crew.kill(random.choice(names()))
            if LONG and crew.kills % 50 == 0:
                print(f"\r{crew.kills:,} kills, {len(crew.ran()):,} runs", end="", flush=True)
        while len(crew.in_force()) < ESCALATIONS:
            sleep(0.2)
        for name in names():
            if name.startswith("producer"):
                crew.kill(name)
        waited = ended(lambda: crew.waiting() == 0, REDELIVERY)
    finally:
        crew.end()
    in_force, ran = crew.in_force(), crew.ran()
    by_key: dict[str, set[str]] = defaultdict(set)
    for _, id, key in ran:
        by_key[key].add(id)
    twice = sum(times - 1 for times in Counter(id for _, id, _ in ran).values())
    print(
        f"\n{type(store).__name__}: {crew.kills:,} kills in {monotonic() - began:.0f} s, "
        f"{len(in_force):,} escalations, {len(set(in_force) - set(by_key)):,} lost, "
        f"{twice:,} duplicates, all done {waited:.1f} s after the last kill"
    )
    assert {key: {id} for key, id in in_force.items()} == by_key
    assert left_over(store) == NOTHING


def test_twenty_crossings_at_once_in_four_processes_are_one_escalation(store: Store, tmp_path: Path) -> None:
    crew = Crew(store.url, tmp_path / "ran", deadline=None)
    starts = time() + 0.3

    def cross() -> list[bool]:
        with BanHammer([trap("note")], backend=store.url, deadline=SLOW, actions={"note": crew.action()}) as hammer:
            sleep(max(starts - time(), 0))
            denied = [not hammer.hit("k", "trap") for _ in range(5)]
            hammer.drain(5)
            return denied

    children = [Child(cross) for _ in range(4)]
    assert [child.result() for child in children] == [[True] * 5] * 4
    assert [(id, key) for _, id, key in crew.ran()] == [(crew.in_force()["k"], "k")]
    assert left_over(store) == NOTHING


@pytest.mark.parametrize(("deadline", "pause"), [(None, 9.0)] if LONG else [("100ms", 0.5)])
def test_what_a_killed_worker_held_runs_elsewhere_in_time(
    store: Store, tmp_path: Path, deadline: str | None, pause: float
) -> None:
    """It is killed in the middle of its actions, while another worker looks on all the time."""
    slow = Crew(store.url, tmp_path / "slow", deadline, least=pause, longest=pause)
    quick = Crew(store.url, tmp_path / "quick", deadline)
    try:
        slow.start("worker")
        with slow.hammer() as hammer:
            for number in range(20):
                hammer.hit(f"k{number}", "trap")
        until(lambda: in_hand(store) == 20, "all taken")
        quick.start("worker")
        sleep(pause / 10)
        slow.kill("worker")
        killed = time()
        assert (slow.ran(), quick.ran()) == ([], [])
        ended(lambda: quick.waiting() == 0, REDELIVERY)
    finally:
        slow.end()
        quick.end()
    waits = [at - killed for at, _, _ in quick.ran()]
    print(f"\n{type(store).__name__}: {len(waits)} of a killed worker ran {min(waits):.1f} to {max(waits):.1f} s later")
    assert max(waits) < REDELIVERY
    assert {key: id for _, id, key in quick.ran()} == slow.in_force()
