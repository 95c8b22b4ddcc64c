"""block_local: what is listed, until when, under which bound, and what the application is told."""

from __future__ import annotations

import asyncio
import math
import threading
from itertools import count
from typing import Any

import pytest

from action_samples import escalation, hostile
from banhammer import BanHammer, Escalation, Policy, Threshold
from banhammer.actions.blocked import SEEN, SLACK, BlockLocal
from banhammer.testing import ManualClock
from redis_children import Child

START = 1_000.0


class Watch:
    """A clock of seconds that a test sets."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Bench:
    """The action on a manual clock, with bans of fresh ids."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Watch()
        self.action = BlockLocal(clock=self.clock, **settings)
        self.blocked = self.action.blocked
        self._ids = count()

    def ban(self, key: str, seconds: float, policy: str = "p", **changes: Any) -> Escalation:
        changes = {"id": f"e{next(self._ids)}", "until": self.clock.now + seconds, **changes}
        each = escalation(key=key, policy=policy, **changes)
        self.action.run(each)
        return each

    def lift(self, key: str, policy: str = "p") -> None:
        self.action.lift(escalation(key=key, policy=policy, verdict="lifted"))


def test_a_banned_key_is_listed_with_its_end_and_gone_the_moment_it_is_reached() -> None:
    bench = Bench()
    bench.ban("k", 10)
    assert dict(bench.blocked) == {"k": START + 10}
    bench.clock.now = math.nextafter(START + 10, 0)
    assert "k" in bench.blocked
    bench.clock.now = START + 10
    assert "k" not in bench.blocked
    assert bench.blocked.get("k") is None
    assert (len(bench.blocked), list(bench.blocked), dict(bench.blocked.items())) == (0, [], {})
    with pytest.raises(KeyError):
        bench.blocked["k"]


def test_a_ban_for_ever_ends_only_by_a_lift() -> None:
    bench = Bench()
    bench.ban("k", math.inf)
    bench.clock.now = 1e300
    assert bench.blocked["k"] == math.inf
    bench.lift("k")
    assert "k" not in bench.blocked


def test_of_several_policies_the_latest_end_counts_and_a_lift_leaves_the_others() -> None:
    bench = Bench()
    bench.ban("k", 10, "short")
    bench.ban("k", 30, "long")
    bench.ban("k", 20, "middle")
    assert bench.blocked["k"] == START + 30
    bench.lift("k", "long")
    assert bench.blocked["k"] == START + 20
    bench.lift("k", "no such policy")
    bench.lift("another", "short")
    assert bench.blocked["k"] == START + 20
    bench.lift("k", "middle")
    bench.lift("k", "short")
    assert "k" not in bench.blocked


def test_a_ban_is_lengthened_and_never_shortened_under_one_policy() -> None:
    bench = Bench()
    bench.ban("k", 10)
    bench.ban("k", 30)
    bench.ban("k", 20)
    assert bench.blocked["k"] == START + 30
    bench.lift("k")
    assert "k" not in bench.blocked


def test_an_escalation_that_comes_again_after_its_lift_lists_nothing_and_a_new_ban_does() -> None:
    bench = Bench()
    again = bench.ban("k", 10)
    bench.lift("k")
    bench.action.run(again)
    assert "k" not in bench.blocked
    bench.ban("k", 10)
    assert "k" in bench.blocked


def test_the_memory_of_ids_and_of_stale_ends_is_bounded() -> None:
    bench = Bench()
    bench.ban("first to end", 1)  # What is stale stands behind it.
    for number in range(SEEN + 10):
        bench.ban(f"k{number}", 10)
        bench.lift(f"k{number}")
        assert len(bench.action._order) <= SLACK + 4
    assert list(bench.blocked) == ["first to end"]
    assert len(bench.action._seen) == SEEN
    assert len(bench.action._bans) == 1


def test_a_full_list_loses_what_has_lapsed_then_the_earliest_end() -> None:
    bench = Bench(max_keys=3)
    for key, seconds in (("a", 10), ("b", 20), ("c", math.inf)):
        bench.ban(key, seconds)
    bench.clock.now += 15
    bench.ban("d", 30)
    assert set(bench.blocked) == {"b", "c", "d"}
    assert bench.action.dropped == 0
    bench.ban("e", 30)
    assert set(bench.blocked) == {"c", "d", "e"}
    bench.ban("f", 1)
    assert set(bench.blocked) == {"c", "d", "e"}
    assert bench.action.dropped == 2


def test_a_lengthened_ban_leaves_by_its_new_end() -> None:
    bench = Bench(max_keys=2)
    bench.ban("a", 10)
    bench.ban("b", 20)
    bench.ban("a", 30)
    bench.ban("c", 40)
    assert set(bench.blocked) == {"a", "c"}


def test_a_throttle_lists_nothing_and_the_application_is_told_of_everything() -> None:
    told: list[str] = []
    bench = Bench(on_block=lambda each: told.append(each.verdict))
    bench.ban("k", 0, verdict="throttled", until=None)
    assert "k" not in bench.blocked
    bench.ban("k", 10)
    bench.lift("k")
    assert told == ["throttled", "banned", "lifted"]


def test_the_key_is_listed_before_the_application_is_told() -> None:
    seen: list[bool] = []
    action = BlockLocal(lambda each: seen.append(each.key in action.blocked), clock=lambda: START)
    action.run(escalation(until=START + 1))
    action.lift(escalation(verdict="lifted"))
    assert seen == [True, False]


def test_an_object_with_run_and_lift_is_told_by_both() -> None:
    class Door:
        def __init__(self) -> None:
            self.told: list[str] = []

        def run(self, each: Escalation) -> None:
            self.told.append(f"run {each.verdict}")

        def lift(self, each: Escalation) -> None:
            self.told.append(f"lift {each.verdict}")

    door = Door()
    bench = Bench(on_block=door)
    bench.ban("k", 10)
    bench.lift("k")
    assert door.told == ["run banned", "lift lifted"]


def test_an_object_that_can_only_run_is_not_told_of_lifts() -> None:
    class Door:
        told = 0

        def run(self, each: Escalation) -> None:
            self.told += 1

    door = Door()
    bench = Bench(on_block=door)
    bench.ban("k", 10)
    bench.lift("k")
    assert door.told == 1


def test_a_coroutine_function_of_the_application_is_awaited_by_the_worker() -> None:
    told: list[str] = []

    async def tell(each: Escalation) -> None:
        await asyncio.sleep(0)
        told.append(each.verdict)

    clock = ManualClock()
    action = BlockLocal(tell, clock=lambda: clock() / 1e6)
    policy = Policy("p", [Threshold(1, "1h", ban="1h", actions=["block_local"])])
    with BanHammer([policy], actions={"block_local": action}, clock=clock) as hammer:
        hammer.hit("k", "p")
        until = hammer.hit("k", "p").banned_until
        assert hammer.drain(5)
        assert action.blocked == {"k": until}
        hammer.unban("k", "p")
        assert hammer.drain(5)
        assert action.blocked == {}
    assert told == ["banned", "lifted"]


def test_what_is_listed_decides_nothing() -> None:
    action = BlockLocal()
    action.run(escalation(key="k", until=math.inf))
    policy = Policy("p", [Threshold(1, "1h", actions=["block_local"])])
    with BanHammer([policy], actions={"block_local": action}) as hammer:
        assert "k" in action.blocked
        assert hammer.hit("k", "p").allowed


def test_bound_to_an_application_it_starts_empty_with_the_same_settings() -> None:
    told: list[Escalation] = []
    made = BlockLocal.from_settings({"max_keys": 1})
    made.run(escalation(until=math.inf))
    watch = Watch()
    bound = made.bound_to(told.append, watch)
    assert len(bound.blocked) == 0
    for key in "abc":
        bound.run(escalation(id=key, key=key, until=START + 10))
    assert len(bound.blocked) == 1
    watch.now += 10
    assert len(bound.blocked) == 0
    assert [each.key for each in told] == ["a", "b", "c"]
    assert made.bound_to(None).run(escalation()) is None


def test_it_reads_as_a_mapping_and_cannot_be_written() -> None:
    bench = Bench()
    bench.ban("k", 10)
    assert bench.blocked == {"k": START + 10}
    assert list(bench.blocked.keys()) == ["k"]
    assert list(bench.blocked.values()) == [START + 10]
    assert repr(bench.blocked) == "<Blocked: 1 keys>"
    assert 5 not in bench.blocked
    assert not hasattr(bench.blocked, "__setitem__")


def test_a_loop_over_it_is_not_disturbed_by_what_lapses_meanwhile() -> None:
    bench = Bench()
    bench.ban("a", 10)
    bench.ban("b", 20)
    found = {}
    for key, end in bench.blocked.items():
        bench.clock.now = START + 30
        found[key] = end
    assert found == {"a": START + 10, "b": START + 20}


def test_five_hundred_hostile_keys_are_listed_and_cleared_each_by_itself() -> None:
    samples = hostile()
    action = BlockLocal(clock=lambda: 0.0)
    for each in samples:
        action.run(each)
    assert set(action.blocked) == {each.key for each in samples}
    for number, each in enumerate(samples, 1):
        action.lift(each)
        assert each.key not in action.blocked
        assert len(action.blocked) == len(samples) - number


def test_threads_that_ban_lift_and_read_leave_exactly_what_was_not_lifted() -> None:
    bench = Bench(max_keys=100_000)
    wrong: list[object] = []
    done = threading.Event()

    def write(number: int) -> None:
        for index in range(500):
            key = f"{number}:{index}"
            bench.action.run(escalation(id=key, key=key, until=START + 10 + index))
            bench.action.run(escalation(id=f"shared{key}", key="shared", policy=f"p{number}", until=START + index + 1))
            if index % 2:
                bench.action.lift(escalation(key=key, verdict="lifted"))

    def read() -> None:
        try:
            while not done.is_set():
                assert all(end > START for end in bench.blocked.values())
                assert bench.blocked.get("shared", START + 1) > START
        except BaseException as error:
            wrong.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    readers = [threading.Thread(target=read) for _ in range(2)]
    for thread in (*writers, *readers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    for thread in readers:
        thread.join()
    assert wrong == []
    expected = {f"{n}:{i}": START + 10 + i for n in range(4) for i in range(0, 500, 2)}
    assert bench.blocked == {**expected, "shared": START + 500}


def test_reading_waits_for_no_lock() -> None:
    bench = Bench()
    bench.ban("k", 10)
    with bench.action._lock:
        assert "k" in bench.blocked
        assert bench.blocked.copy() == {"k": START + 10}


def test_a_forked_child_keeps_the_list_and_can_write_though_the_lock_was_held() -> None:
    bench = Bench()
    bench.ban("k", 10)

    def work() -> dict[str, float]:
        bench.ban("child", 20)
        return bench.blocked.copy()

    with bench.action._lock:
        child = Child(work)
    assert child.result() == {"k": START + 10, "child": START + 20}
    assert bench.blocked == {"k": START + 10}
