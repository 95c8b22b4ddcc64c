"""The schedule of jobs: in order, nobody held up, no two of one key and action at once or out of turn."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banhammer import Escalation
from banhammer.outbox import Delivery
from banhammer.worker.agenda import PATIENCE, Agenda, Job

LONG = 10 * PATIENCE


def escalation(key: str = "k", policy: str = "p", id: str = "e") -> Escalation:
    return Escalation(
        id=id, key=key, policy=policy, threshold=0, verdict="banned", strikes=1, at=0.0, until=None,
        limit=1, period=1.0, cost=1, reason="", shadow=False, origin="hit",
    )  # fmt: skip


def jobs(*lanes: str) -> list[Job]:
    """Return a job for each `KEY/ACTION`."""
    parts = [lane.partition("/") for lane in lanes]
    return [Job(Delivery(escalation(key), [name]), name or "act") for key, _, name in parts]


def begun(agenda: Agenda, now: float) -> list[Job]:
    """Return all that begins until `now`, as if each had had its time to itself."""
    found: list[Job] = []
    while (job := agenda.next(now + PATIENCE * len(found))) is not None:
        found.append(job)
    return found


def test_jobs_begin_in_the_order_in_which_they_came() -> None:
    agenda, came = Agenda(8), jobs("a", "b", "c")
    agenda.add(came)
    for job in came:
        assert agenda.next(0.0) is job
        agenda.over(job)
    assert (agenda.next(0.0), agenda.size, agenda.quiet) == (None, 0, True)


def test_a_job_has_its_patience_to_itself_and_no_longer() -> None:
    agenda, (first, second) = Agenda(8), jobs("a", "b")
    agenda.add([first, second])
    assert agenda.next(1.0) is first
    assert agenda.changes_at() == 1.0 + PATIENCE
    assert agenda.next(1.0 + PATIENCE * 0.99) is None
    assert not agenda.starved(1.0 + PATIENCE * 0.99)
    assert agenda.starved(1.0 + PATIENCE)
    assert agenda.next(1.0 + PATIENCE) is second
    assert agenda.running == {first, second}


def test_the_next_begins_at_once_when_a_quick_one_is_over() -> None:
    agenda, (first, second) = Agenda(8), jobs("a", "b")
    agenda.add([first, second])
    assert agenda.next(1.0) is first
    agenda.over(first)
    assert agenda.next(1.0) is second


@pytest.mark.parametrize(("slots", "most"), [(1, 1), (3, 3), (4, 3), (8, 6)])
def test_one_action_leaves_the_last_quarter_of_the_slots_to_others(slots: int, most: int) -> None:
    agenda = Agenda(slots)
    slow = jobs(*(f"{number}/slow" for number in range(20)))
    agenda.add(slow)
    assert begun(agenda, 0.0) == slow[:most]
    assert agenda.changes_at() is None
    others = jobs("x/other", "y/other", "z/third")
    agenda.add(others)
    assert begun(agenda, LONG) == [each for each in (others[0], others[2]) if slots // 4][: slots - most]


def test_an_action_that_is_slow_passes_those_of_others_that_came_later() -> None:
    agenda = Agenda(4)
    slow = jobs(*(f"{number}/slow" for number in range(9)))
    agenda.add(slow)
    quick = jobs(*(f"{number}/quick" for number in range(9)))
    agenda.add(quick)
    assert begun(agenda, 0.0) == [*slow[:3], quick[0]]
    for job, following in pairwise(quick):
        agenda.over(job)
        assert begun(agenda, LONG) == [following]


def test_jobs_of_one_key_and_action_never_overlap() -> None:
    agenda = Agenda(8)
    ban, lift, other, elsewhere = jobs("k/a", "k/a", "k/b", "j/a")
    agenda.add([ban, lift, other, elsewhere])
    assert begun(agenda, 0.0) == [ban, other, elsewhere]
    agenda.over(ban)
    assert begun(agenda, LONG) == [lift]


def test_one_key_under_two_policies_is_two_lanes() -> None:
    agenda = Agenda(8)
    both = [Job(Delivery(escalation(policy=policy), ["act"]), "act") for policy in ("p", "q")]
    agenda.add(both)
    assert begun(agenda, 0.0) == both


def test_what_waits_to_be_tried_again_is_not_overtaken_by_what_came_later_in_its_lane() -> None:
    agenda = Agenda(8)
    ban, lift, other = jobs("k/a", "k/a", "j/a")
    agenda.add([ban, lift])
    assert agenda.next(0.0) is ban
    agenda.again(ban, 5.0)
    agenda.add([other])
    assert agenda.next(1.0) is other
    agenda.over(other)
    assert (agenda.next(4.9), agenda.quiet, agenda.size) == (None, True, 2)
    assert agenda.changes_at() == 5.0
    assert not agenda.starved(4.9)
    assert agenda.starved(5.0)
    assert agenda.next(5.0) is ban
    agenda.over(ban)
    assert agenda.next(5.0) is lift


def test_what_is_due_begins_in_the_order_of_the_times() -> None:
    agenda, (first, second, third) = Agenda(8), jobs("a", "b", "c")
    agenda.add([first, second, third])
    for job, due in ((first, 3.0), (second, 2.0), (third, 2.0)):
        assert agenda.next(0.0) is job
        agenda.again(job, due)
    assert begun(agenda, 9.0) == [second, third, first]


def test_what_waits_is_all_that_does_not_run() -> None:
    agenda = Agenda(8)
    runs, failed, behind, ready = jobs("a", "b", "b", "c")
    agenda.add([runs, failed, behind])
    assert agenda.next(0.0) is runs
    assert agenda.next(PATIENCE) is failed
    agenda.again(failed, 9.0)
    agenda.add([ready])
    assert set(agenda.waiting()) == {failed, behind, ready}


def test_attempts_of_others_are_counted_on() -> None:
    delivery = Delivery(escalation(), ["act", "other"], attempts={"act": 3})
    assert [Job(delivery, name).attempts for name in delivery.names] == [3, 0]


Step = tuple[Any, ...]
LANES = st.sampled_from([f"{key}/{name}" for key in "abc" for name in ("x", "y", "z")])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(LANES, min_size=1, max_size=6)),
        st.tuples(st.just("wait"), st.floats(0, 2)),
        st.tuples(st.just("over"), st.integers(0, 99)),
        st.tuples(st.just("again"), st.integers(0, 99), st.floats(0, 3)),
    ),
    max_size=60,
)


@given(st.integers(1, 9), STEPS)
def test_whatever_happens_lanes_keep_their_order_and_slots_their_number(
    slots: int, steps: list[tuple[Any, ...]]
) -> None:
    agenda, now = Agenda(slots), 0.0
    came: dict[tuple[str, str, str], list[Job]] = defaultdict(list)
    over: dict[tuple[str, str, str], list[Job]] = defaultdict(list)
    due: dict[Job, float] = {}
    running: list[Job] = []

    def let_begin() -> None:
        while (job := agenda.next(now)) is not None:
            assert all(now - each.began >= PATIENCE for each in running)
            assert job.lane not in {each.lane for each in running}
            assert job is came[job.lane][len(over[job.lane])], "the first of its lane"
            assert due.get(job, 0.0) <= now
            running.append(job)
            assert len(running) <= slots
            scarce = slots - len(running) < slots // 4
            assert not scarce or Counter(each.name for each in running)[job.name] == 1
        assert not agenda.starved(now)

    for kind, *arguments in steps:
        if kind == "add":
            new = jobs(*arguments[0])
            for job in new:
                came[job.lane].append(job)
            agenda.add(new)
        elif kind == "wait":
            now += arguments[0]
        elif running:
            job = running.pop(arguments[0] % len(running))
            if kind == "over":
                agenda.over(job)
                over[job.lane].append(job)
            else:
                due[job] = now + arguments[1]
                agenda.again(job, due[job])
        let_begin()
        assert agenda.size == sum(map(len, came.values())) - sum(map(len, over.values()))
        assert agenda.running == set(running)
    while agenda.size:  # All of it comes to an end: nothing is forgotten, and nothing waits for ever.
        if running:
            job = running.pop(0)
            agenda.over(job)
            over[job.lane].append(job)
        else:
            at = agenda.changes_at()
            assert at is not None
            now = max(now, at)
        let_begin()
    assert {lane: done for lane, done in over.items() if done} == came
