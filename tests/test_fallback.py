"""What decides while a store is away: the policy's `on_error`, and the bans that were seen."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banhammer import Decision, Policy, Threshold
from banhammer.backends import fallback
from banhammer.backends.fallback import Fallback, divided
from banhammer.core import Reply
from banhammer.kinds import decide
from banhammer.model import MAX_COST, Hit, OnError, Record
from banhammer.testing import ManualClock
from fronted import KEY, SECOND, START, World
from machine_rules import costs, policies, steps, throttling

BAN = Threshold(3, "1h", ban="2h")
ON_ERROR: list[OnError] = ["local", "open", "closed"]


class Away:
    """A fallback on a manual clock, one policy, no store."""

    def __init__(self, policy: Policy, *, share: int = 1) -> None:
        self.policy = policy
        self.clock = ManualClock(START)
        self.fallback = Fallback(share)

    def hit(self, cost: int = 1, *, key: str = KEY, guard: bool = False, peek: bool = False) -> Decision:
        hit = Hit(key, self.policy.name, cost=cost, guard=guard)
        reply = self.fallback.reply(hit, self.policy, self.clock, peek=peek)
        return decide(self.policy, hit, reply, shadow=self.policy.mode == "shadow")

    def saw_ban(self, until: int, *, key: str = KEY, at: int = START) -> None:
        record = Record((0,) * len(self.policy.thresholds), 0, 1, until, 0)
        self.fallback.learn(Hit(key, "p"), self.policy, Reply("banned", at, record))


def test_local_is_the_policys_own_rules_in_this_process() -> None:
    away = Away(Policy("p", [Threshold(2, "1s"), BAN]))
    assert [away.hit().verdict for _ in range(4)] == ["allowed", "allowed", "throttled", "banned"]
    away.clock.advance("2h")
    assert away.hit()


def test_a_share_divides_limit_and_burst_and_stretches_the_interval() -> None:
    away = Away(Policy("p", [Threshold(100, "10s", burst=20)]), share=4)
    found = [away.hit() for _ in range(6)]
    assert [decision.allowed for decision in found] == [True] * 5 + [False]
    assert found[5].retry_after == 0.4
    away.clock.advance("400ms")
    assert [away.hit().allowed for _ in range(2)] == [True, False]


def test_what_never_fits_a_share_may_try_again_when_the_store_may_be_back() -> None:
    away = Away(Policy("p", [Threshold(100, "10s", burst=20)]), share=4)
    assert [away.hit(6).retry_after, away.hit(21).retry_after] == [1.0, math.inf]


def test_a_share_keeps_bans_and_at_least_one_hit_a_period() -> None:
    away = Away(Policy("p", [Threshold(3, "1h", ban="2h")]), share=10)
    assert away.hit()
    assert away.hit().banned_until == START / 1e6 + 7_200


@pytest.mark.parametrize("share", [1, 2, 100])
def test_a_honeypot_trips_on_the_first_hit_whatever_the_share(share: int) -> None:
    away = Away(Policy("p", [Threshold(10, "1h", burst=0, ban="1h")]), share=share)
    assert away.hit().verdict == "banned"


@given(limit=st.integers(1, 60), burst=st.integers(8, 30), share=st.integers(1, 8), gap=st.integers(0, 300_000))
def test_all_shares_together_admit_no_more_than_the_whole_policy(limit: int, burst: int, share: int, gap: int) -> None:
    policy = Policy("p", [Threshold(limit, "1s", burst=burst)])
    shares = [Away(policy, share=share) for _ in range(share)]
    admitted = 0
    for away in shares:
        for _ in range(10):
            admitted += sum(away.hit().allowed for _ in range(burst))
            away.clock.now += gap
    assert admitted <= burst + 9 * gap * limit // SECOND


@given(policy=throttling, share=st.integers(2, 7), asks=st.lists(st.tuples(steps, costs), min_size=1, max_size=12))
def test_a_share_denies_until_its_retry_after_and_no_longer(policy: Policy, share: int, asks: list[Any]) -> None:
    away = Away(policy, share=share)
    bursts = [threshold.burst for threshold in divided(policy, share).thresholds]
    for step, cost in asks:
        away.clock.now += step
        decision = away.hit(cost)
        if decision or cost > min(bursts):
            continue
        until = away.clock.now + round(decision.retry_after * 1e6)
        away.clock.move_to(until - 1)
        assert not away.hit(cost, peek=True)
        away.clock.move_to(until)
        assert away.hit(cost, peek=True)


def test_a_share_of_one_is_the_policy_itself() -> None:
    policy = Policy("p", [BAN])
    assert divided(policy, 1) is policy


extremes = st.sampled_from(
    [
        Threshold(1, "365d", burst=9),
        Threshold(1, "1ms", burst=1),
        Threshold(100_000, "1s", burst=10**9),
        Threshold(3_153_600_000_000, "365d", burst=1),
        Threshold(1, "365d", burst=10, ban="forever"),
        Threshold(1, "1s", burst=0, ban=["1ms", "3650d"]),
    ]
)
any_policy = st.one_of(
    policies("p", mode=None),
    st.builds(lambda levels: Policy("p", levels, track=["1ms", "365d"]), st.lists(extremes, min_size=1, max_size=4)),
)
asks = st.lists(st.tuples(steps, st.one_of(costs, st.just(MAX_COST)), st.booleans(), st.booleans()), max_size=20)


@given(policy=any_policy, share=st.sampled_from([1, 2, 7, 64, 10_000]), on_error=st.sampled_from(ON_ERROR), asks=asks)
def test_no_policy_within_the_bounds_raises(policy: Policy, share: int, on_error: OnError, asks: list[Any]) -> None:
    object.__setattr__(policy, "on_error", on_error)
    away = Away(policy, share=share)
    for step, cost, guard, peek in asks:
        away.clock.now += step
        decision = away.hit(cost, guard=guard, peek=peek)
        said = decision.as_dict()
        assert said["degraded"]
        assert decision.allowed is (decision.verdict == "allowed")
        assert 0 <= (decision.threshold or 0) < len(policy.thresholds)
        assert decision.retry_after > 0 or decision.allowed


def test_open_lets_everything_through() -> None:
    away = Away(Policy("p", [Threshold(1, "1h", ban="1h")], on_error="open"))
    for cost in (1, 1, 500):
        decision = away.hit(cost)
        assert (decision.allowed, decision.degraded, decision.retry_after) == (True, True, 0.0)


@pytest.mark.parametrize(
    ("levels", "threshold", "limit"),
    [
        ([Threshold(7, "1s")], 0, 7),
        ([BAN], 0, 3),
        ([Threshold(9, "1s", burst=0, ban="1h")], 0, 9),
        ([BAN, Threshold(5, "1s")], 1, 5),
    ],
)
def test_closed_denies_for_a_second(levels: list[Threshold], threshold: int, limit: int) -> None:
    decision = Away(Policy("p", levels, on_error="closed")).hit()
    assert (decision.allowed, decision.verdict, decision.degraded) == (False, "throttled", True)
    assert (decision.retry_after, decision.remaining, decision.banned_until) == (1.0, 0, None)
    assert (decision.threshold, decision.limit) == (threshold, limit)


@pytest.mark.parametrize("on_error", ON_ERROR)
def test_a_ban_that_was_seen_is_enforced_until_it_ends(on_error: OnError) -> None:
    away = Away(Policy("p", [Threshold(50, "1s"), BAN], on_error=on_error))
    away.saw_ban(START + 60 * SECOND)
    for cost in (1, 9):
        decision = away.hit(cost, guard=cost == 1)
        assert (decision.verdict, decision.degraded, decision.strikes) == ("banned", True, 1)
    assert away.hit().retry_after == 60.0
    assert away.hit(key="another").verdict != "banned"
    away.clock.advance("59.999999s")
    assert away.hit(peek=True).verdict == "banned"
    away.clock.advance("1us")
    assert away.hit().verdict == ("throttled" if on_error == "closed" else "allowed")


def test_a_ban_for_ever_is_enforced_for_ever() -> None:
    away = Away(Policy("p", [Threshold(1, "1h", ban="forever")], on_error="open"))
    away.saw_ban(2**53 - 1)
    away.clock.advance("3650d")
    assert (away.hit().retry_after, away.hit().banned_until) == (math.inf, math.inf)


def test_a_ban_that_was_lifted_is_forgotten_here_and_when_the_store_says_so() -> None:
    away = Away(Policy("p", [BAN], on_error="open"))
    away.saw_ban(START + 60 * SECOND)
    away.fallback.forget(KEY, away.policy)
    assert away.hit()
    away.saw_ban(START + 60 * SECOND)
    away.fallback.learn(Hit(KEY, "p"), away.policy, Reply("allowed", START, Record((0,), 0, 1, START)))
    assert away.hit()


def test_forgetting_a_key_also_forgets_what_it_did_here() -> None:
    away = Away(Policy("p", [Threshold(1, "1h")]))
    assert [away.hit().allowed, away.hit().allowed] == [True, False]
    away.fallback.forget(KEY, away.policy)
    assert away.hit()


def test_known_bans_are_bounded_and_the_oldest_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "MAX_KNOWN_BANS", 5)
    away = Away(Policy("p", [BAN], on_error="open"))
    for number in range(8):
        away.saw_ban(START + SECOND, key=f"k{number}")
        away.saw_ban(START + SECOND, key=f"k{number}")
    assert [away.hit(key=f"k{number}").verdict == "banned" for number in range(8)] == [False] * 3 + [True] * 5


def test_peeks_change_nothing_here() -> None:
    away = Away(Policy("p", [Threshold(1, "1h")]))
    assert [away.hit(peek=True).allowed for _ in range(3)] == [True] * 3
    assert [away.hit().allowed, away.hit(peek=True).allowed] == [True, False]


def test_a_changed_policy_neither_raises_nor_loses_a_ban_that_was_seen() -> None:
    away = Away(Policy("p", [BAN]))
    assert away.hit(key="another")
    away.saw_ban(START + SECOND)
    for levels in ([Threshold(2, "1s"), BAN, BAN], [Threshold(5, "1s")]):
        away.policy = Policy("p", levels)
        assert (away.hit().verdict, away.hit().as_dict()["retry_after"]) == ("banned", 1.0)
    away.clock.advance("1s")
    assert [away.hit().allowed for _ in range(6)] == [True] * 5 + [False]


def test_bans_that_the_store_told_are_enforced_by_every_shell_once_it_is_away() -> None:
    world = World(Policy("p", [Threshold(1, "1h", ban="1h")], on_error="open"), cache=False)
    assert [world.hit().verdict for _ in range(2)] == ["allowed", "banned"]
    world.store.away = lambda charge: True
    decision = world.hit()
    assert (decision.verdict, decision.degraded, decision.retry_after) == ("banned", True, 3_600.0)
    world.hammer.unban(KEY, "p")
    assert world.hit().allowed
