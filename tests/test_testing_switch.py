"""The switch for all limits: while it is off everything is allowed, and behind it all is as it was."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from banhammer import AsyncBanHammer, BanHammer, Hit, Policy, Threshold, UnknownPolicyError
from banhammer.backends.memory import MemoryBackend
from banhammer.classic import BanHammer as ClassicBanHammer
from banhammer.testing import ManualClock, limits_off, limits_on

POLICIES = [
    Policy("api", [Threshold(1, "1h")]),
    Policy("trap", [Threshold(1, "1h", burst=0, ban="1h")]),
    Policy("watched", [Threshold(1, "1h")], mode="shadow"),
    Policy("seen", [Threshold(1, "1h"), Threshold(2, "1h", ban="1h")], track=["1m"]),
]
EARLY = BanHammer(POLICIES, deny=["foe"])
CHECK = EARLY.guard
"""Made, and taken, when the module is loaded, as in an application."""
VERBS = [getattr(shell, verb) for shell in (BanHammer, AsyncBanHammer) for verb in ("hit", "guard", "peek", "hit_many")]
OWN = [verb.__code__ for verb in VERBS]


class Untouchable(MemoryBackend):
    def evaluate(self, *arguments: Any, **named: Any) -> Any:
        raise AssertionError("the store was asked")


@pytest.fixture(autouse=True)
def as_it_was() -> Any:
    yield
    assert [verb.__code__ for verb in VERBS] == OWN


def test_everything_is_allowed_whatever_the_policy_says() -> None:
    with limits_off():
        for policy in ("api", "trap", "watched", "seen"):
            for verb in (EARLY.hit, EARLY.guard, EARLY.peek):
                decision = verb("foe", policy, 1_000)
                assert (decision.allowed, decision.verdict, decision.retry_after) == (True, "allowed", 0.0)
                assert (decision.key, decision.policy, decision.strikes, decision.tripped) == ("foe", policy, 0, ())
        told = EARLY.hit_many([Hit("foe", "trap"), Hit("k", "api", cost=9)] * 3, stop=True)
        assert [bool(each) for each in told] == [True] * 6
        assert EARLY.hit("k", "watched").shadow
        assert EARLY.hit("k", "seen").rates == {"1m": 0}
    assert EARLY.hit("foe", "api").verdict == "banned"
    assert EARLY.hit("k", "trap").verdict == "banned"


def test_no_store_is_asked_and_nothing_is_counted() -> None:
    hammer = BanHammer(POLICIES, backend=Untouchable())
    with limits_off():
        for _ in range(3):
            assert hammer.hit("k", "trap")
        hammer.hit_many([Hit("k", "trap")])
    assert list(hammer.status_all()) == []
    with pytest.raises(AssertionError, match="the store was asked"):
        hammer.hit("k", "trap")


def test_a_verb_that_was_taken_before_is_switched_too() -> None:
    late = EARLY.hit
    EARLY.ban("taken", "api", "1h")
    assert not CHECK("taken", "api")
    with limits_off():
        assert CHECK("taken", "api")
        assert late("taken", "api")
        assert all(map(BanHammer([Policy("p", [Threshold(1, "1h")])]).hit, ["k"] * 5, ["p"] * 5))
    assert not CHECK("taken", "api")


def test_awaited_verbs_are_switched_and_still_awaited() -> None:
    async def main() -> None:
        async with AsyncBanHammer(POLICIES, backend=Untouchable()) as hammer:
            with limits_off():
                assert await hammer.hit("k", "trap")
                assert await hammer.guard("k", "trap")
                assert await hammer.peek("k", "trap", 7)
                assert [bool(each) for each in await hammer.hit_many([Hit("k", "trap")] * 2)] == [True] * 2
                with pytest.raises(UnknownPolicyError):
                    await hammer.hit("k", "apo")
            with pytest.raises(AssertionError, match="the store was asked"):
                await hammer.hit("k", "trap")

    asyncio.run(main())


def test_bad_input_is_raised_as_ever() -> None:
    with limits_off():
        for key, policy, cost, error in (
            ("k", "apo", 1, UnknownPolicyError), ("", "api", 1, ValueError), (7, "api", 1, ValueError),
            ("k", "api", 0, ValueError), ("k", "api", True, ValueError), ("k", "api", 1_000_001, ValueError),
        ):  # fmt: skip
            hit: Any = (key, policy, cost)
            for verb in (EARLY.hit, EARLY.guard, EARLY.peek):
                with pytest.raises(error):
                    verb(*hit)
            with pytest.raises(error):
                EARLY.hit_many([Hit("k", "api"), Hit(key, policy, cost=cost)])  # type: ignore[arg-type]


def test_the_operators_verbs_work_as_ever() -> None:
    clock = ManualClock()
    hammer = BanHammer(POLICIES, clock=clock)
    with limits_off():
        ban = hammer.ban("k", "api", "1h")
        assert hammer.hit("k", "api")
        assert list(hammer.bans()) == [ban]
        assert hammer.status("k", "api").ban == ban
    assert hammer.hit("k", "api").verdict == "banned"


def test_a_hammer_of_the_original_specification_is_switched_too() -> None:
    bans = {"login": {"thresholds": [{"limit": 1, "window": 60, "action": lambda *_: None, "action_duration": 60}]}}
    hammer = ClassicBanHammer(bans)
    with limits_off():
        assert [hammer.incr("k", "login") for _ in range(5)] == [True] * 5
    assert False in [hammer.incr("k", "login") for _ in range(5)]


def test_contexts_nest_and_the_last_entered_holds() -> None:
    trap = lambda: EARLY.peek("nested", "trap").allowed  # noqa: E731
    assert not trap()
    with limits_off():
        with limits_off():
            assert trap()
        assert trap()
        with limits_on():
            assert not trap()
            with limits_off():
                assert trap()
            assert not trap()
        assert trap()
    assert not trap()


def test_an_exception_inside_turns_the_limits_on_again() -> None:
    with pytest.raises(KeyError), limits_off():
        raise KeyError
    assert not EARLY.peek("k", "trap")


def test_of_threads_the_last_to_leave_turns_the_limits_on_again() -> None:
    first, last = threading.Event(), threading.Event()

    def stay() -> None:
        with limits_off():
            first.set()
            assert last.wait(10)

    thread = threading.Thread(target=stay)
    with limits_off():
        thread.start()
        assert first.wait(10)
    assert EARLY.peek("k", "trap")
    last.set()
    thread.join()
    assert not EARLY.peek("k", "trap")


def test_threads_that_come_and_go_leave_everything_as_it_was() -> None:
    wrong: list[bool] = []

    def work() -> None:
        for _ in range(300):
            with limits_off():
                wrong.extend([True] if not EARLY.hit("k", "trap") else [])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert not EARLY.peek("k", "trap")
