"""The public verbs beside `hit`: bans by hand, lifting, forgetting, reading, batches, and their mistakes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from typing import Any

import pytest

from banhammer import AsyncBanHammer, BanHammer, Decision, Hit, Policy, Threshold, UnknownPolicyError
from banhammer.backends.memory import MemoryBackend
from banhammer.testing import ManualClock

KEY = "203.0.113.9"
START = 1_750_000_000_000_000
LOGIN = Policy(
    "login_failed",
    [Threshold(5, "1m"), Threshold(10, "1h", ban=["1h", "6h"]), Threshold(100, "1h", ban="1d")],
    forgive_after="2d",
)
API = Policy("api", [Threshold(3, "3s")])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


@pytest.fixture
def hammer(clock: ManualClock) -> BanHammer:
    return BanHammer([LOGIN, API], clock=clock, allow=["friend"])


def at(seconds: float) -> float:
    return (START + round(seconds * 1e6)) / 1e6


def verdicts(decisions: Iterable[Decision | None]) -> list[str | None]:
    return [None if decision is None else decision.verdict for decision in decisions]


# Bans by hand.


def test_a_ban_by_hand_takes_the_first_ladder(hammer: BanHammer, clock: ManualClock) -> None:
    ban = hammer.ban(KEY, "login_failed", reason="credential stuffing")
    assert (ban.key, ban.policy, ban.threshold, ban.strikes) == (KEY, "login_failed", 1, 1)
    assert (ban.since, ban.until, ban.banned_until) == (at(0), at(3600), at(3600))
    assert (ban.origin, ban.reason) == ("manual", "credential stuffing")
    assert hammer.hit(KEY, "login_failed").verdict == "banned"
    clock.advance("1h")
    assert hammer.ban(KEY, "login_failed").until == at(3600 * 7)


@pytest.mark.parametrize(
    ("duration", "until"), [("2h", at(7200)), (90, at(90)), (0.5, at(0.5)), ("forever", math.inf), (math.inf, math.inf)]
)
def test_a_ban_lasts_as_long_as_it_is_told_to(hammer: BanHammer, duration: Any, until: float) -> None:
    assert hammer.ban(KEY, "login_failed", duration).until == until
    assert hammer.ban(KEY, "api", duration).threshold == 0


def test_a_ban_by_hand_in_force_is_lengthened_and_never_shortened(hammer: BanHammer, clock: ManualClock) -> None:
    hammer.ban(KEY, "login_failed", "2h")
    clock.advance("1m")
    assert hammer.ban(KEY, "login_failed", "1m").until == at(7200)
    longer = hammer.ban(KEY, "login_failed", "3h")
    assert (longer.until, longer.strikes, longer.since) == (at(60 + 10_800), 1, at(0))


def test_a_ban_by_hand_keeps_the_higher_level(hammer: BanHammer) -> None:
    assert hammer.ban(KEY, "login_failed", threshold=2).threshold == 2
    assert hammer.ban(KEY, "login_failed", threshold=1).threshold == 2
    assert hammer.ban("other", "login_failed", threshold=1).threshold == 1
    assert hammer.ban("other", "login_failed", threshold=2).until == at(86_400)


def test_a_ban_by_hand_leaves_the_meters(hammer: BanHammer) -> None:
    hammer.hit(KEY, "login_failed", 4)
    hammer.ban(KEY, "login_failed")
    assert hammer.status(KEY, "login_failed").remaining == (1, 6, 96)


def test_higher_thresholds_stay_awake_during_a_ban_by_hand(hammer: BanHammer) -> None:
    hammer.ban(KEY, "login_failed", "1h")
    decisions = [hammer.hit(KEY, "login_failed") for _ in range(101)]
    assert [decision.tripped for decision in decisions] == [()] * 100 + [(2,)]
    assert (decisions[-1].strikes, decisions[-1].banned_until) == (1, at(86_400))


@pytest.mark.parametrize("reason", [None, 5, b"x", ["x"]])
def test_a_reason_is_a_string_on_every_store(hammer: BanHammer, reason: Any) -> None:
    with pytest.raises(ValueError, match=r"reason: .*; it must be a string"):
        hammer.ban(KEY, "login_failed", reason=reason)
    assert list(hammer.bans()) == []


def test_an_allowlisted_key_cannot_be_banned(hammer: BanHammer) -> None:
    with pytest.raises(ValueError, match="'friend' is allowlisted"):
        hammer.ban("friend", "login_failed")
    assert list(hammer.bans()) == []


def test_a_policy_without_a_ladder_needs_a_duration(hammer: BanHammer) -> None:
    with pytest.raises(ValueError, match="duration: none given"):
        hammer.ban(KEY, "api")
    with pytest.raises(ValueError, match="duration: none given"):
        hammer.ban(KEY, "login_failed", threshold=0)
    assert list(hammer.status_all()) == []


@pytest.mark.parametrize("threshold", [-1, 3, True, "1", 1.0])
def test_a_threshold_that_does_not_exist_is_a_value_error(hammer: BanHammer, threshold: Any) -> None:
    with pytest.raises(ValueError, match="threshold: "):
        hammer.ban(KEY, "login_failed", threshold=threshold)


@pytest.mark.parametrize("duration", ["soon", 0, -5, "0s", True, "3651d", 1e300, math.nan, -math.inf, [], "11y"])
def test_a_duration_that_is_none_is_a_value_error(hammer: BanHammer, duration: Any) -> None:
    with pytest.raises(ValueError):
        hammer.ban(KEY, "login_failed", duration)
    assert list(hammer.bans()) == []


def test_a_hits_ban_has_its_details(hammer: BanHammer, clock: ManualClock) -> None:
    clock.advance("1s")
    for _ in range(11):
        decision = hammer.hit(KEY, "login_failed")
    assert decision.verdict == "banned"
    (ban,) = hammer.bans()
    assert (ban.origin, ban.reason, ban.since, ban.threshold) == ("hit", "over 10 per 1h", at(1), 1)
    assert ban.id
    assert hammer.status(KEY, "login_failed").ban == ban


# Lifting and forgetting.


def test_unban_ends_the_ban_now_and_forgiving_starts_now(hammer: BanHammer, clock: ManualClock) -> None:
    hammer.ban(KEY, "login_failed", "1d")
    clock.advance("1h")
    lifted = hammer.unban(KEY, "login_failed")
    assert lifted is not None
    assert (lifted.until, lifted.since, lifted.strikes) == (at(86_400), at(0), 1)
    assert hammer.guard(KEY, "login_failed")
    clock.advance("47h")
    clock.advance("59m59.999999s")
    assert hammer.status(KEY, "login_failed").strikes == 1
    clock.advance("1us")
    assert hammer.status(KEY, "login_failed").strikes == 0


def test_unban_of_a_key_that_is_not_banned_returns_none_and_changes_nothing(
    hammer: BanHammer, clock: ManualClock
) -> None:
    assert hammer.unban(KEY, "login_failed") is None
    hammer.ban(KEY, "login_failed", "1h")
    clock.advance("1h")
    before = hammer.status(KEY, "login_failed")
    assert hammer.unban(KEY, "login_failed") is None
    assert hammer.status(KEY, "login_failed") == before


def test_after_unban_the_next_ban_takes_the_next_rung(hammer: BanHammer) -> None:
    hammer.ban(KEY, "login_failed")
    hammer.unban(KEY, "login_failed")
    ban = hammer.ban(KEY, "login_failed")
    assert (ban.strikes, ban.until, ban.threshold) == (2, at(6 * 3600), 1)


def test_reset_makes_a_key_as_if_never_seen(hammer: BanHammer) -> None:
    fresh = hammer.status(KEY, "login_failed")
    hammer.hit(KEY, "login_failed", 11)
    hammer.reset(KEY, "login_failed")
    assert hammer.status(KEY, "login_failed") == fresh
    assert list(hammer.bans()) == []
    assert list(hammer.status_all()) == []


def test_reset_without_strikes_clears_the_meters_only(hammer: BanHammer) -> None:
    hammer.hit(KEY, "api", 3)
    hammer.hit(KEY, "api")
    hammer.ban(KEY, "api", "1h")
    hammer.reset(KEY, "api", strikes=False)
    status = hammer.status(KEY, "api")
    assert (status.remaining, status.over, status.strikes, status.banned_until) == ((3,), (False,), 1, at(3600))


# Reading.


def test_status_is_the_record_in_full(hammer: BanHammer, clock: ManualClock) -> None:
    hammer.hit(KEY, "login_failed", 5)
    hammer.hit(KEY, "login_failed")
    status = hammer.status(KEY, "login_failed")
    assert (status.key, status.policy, status.strikes, status.banned_until) == (KEY, "login_failed", 0, None)
    assert (status.level, status.ban, status.rates) == (None, None, None)
    assert status.over == (True, False, False)
    assert status.tats == (at(60), at(6 * 360), at(6 * 36))
    assert (status.remaining, status.reset_after) == ((0, 4, 94), 2160.0)
    clock.advance("3d")
    assert hammer.status(KEY, "login_failed").tats == (0.0, 0.0, 0.0)


def test_status_all_streams_what_is_tracked_and_bans_what_is_banned(hammer: BanHammer, clock: ManualClock) -> None:
    hammer.hit("a", "api")
    hammer.ban("b", "api", "1s")
    hammer.ban("b", "login_failed", "forever")
    assert {(each.key, each.policy) for each in hammer.status_all()} == {
        ("a", "api"), ("b", "api"), ("b", "login_failed"),
    }  # fmt: skip
    assert {(each.key, each.policy) for each in hammer.bans()} == {("b", "api"), ("b", "login_failed")}
    clock.advance("3d")
    assert [(each.key, each.policy) for each in hammer.status_all()] == [("b", "login_failed")]
    assert [(each.key, each.until) for each in hammer.bans()] == [("b", math.inf)]


def test_the_store_may_change_while_it_is_streamed(hammer: BanHammer) -> None:
    for number in range(20):
        hammer.ban(f"k{number}", "api", "1h")
    seen = []
    for ban in hammer.bans():
        seen.append(ban.key)
        hammer.reset(ban.key, "api")
        hammer.ban(f"new{ban.key}", "api", "1h")
        hammer.hit_many([Hit(f"hit{number}{ban.key}", "api") for number in range(10)])
    assert len(seen) == len(set(seen)) == 20
    for status in hammer.status_all():
        hammer.reset(status.key, "api")
    assert list(hammer.status_all()) == []


# Batches.


def test_hit_many_decides_in_order(hammer: BanHammer) -> None:
    batch = [
        Hit(KEY, "api", cost=2),
        Hit("b", "api"),
        Hit(KEY, "api", cost=2),
        Hit(KEY, "api", guard=True),
        Hit(KEY, "api"),
    ]
    decisions = hammer.hit_many(batch)
    assert [bool(decision) for decision in decisions] == [True, True, False, True, True]
    assert [decision.key for decision in decisions if decision] == [KEY, "b", KEY, KEY]
    assert (len(decisions), decisions[-1].remaining, decisions[1:3]) == (5, 0, [decisions[1], decisions[2]])  # type: ignore[union-attr]


def test_hit_many_with_stop_neither_decides_nor_charges_what_follows_a_denial(hammer: BanHammer) -> None:
    batch = [Hit("a", "api"), Hit("b", "api", cost=4), Hit("a", "api"), Hit("c", "api")]
    decisions = hammer.hit_many(batch, stop=True)
    assert verdicts(decisions) == ["allowed", "throttled", None, None]
    assert hammer.status("a", "api").remaining == (2,)
    assert hammer.status("c", "api").remaining == (3,)


def test_a_denylisted_key_and_a_shadowed_denial_stop_as_they_decide(clock: ManualClock) -> None:
    rules = [Policy("p", [Threshold(1, "1h")]), Policy("watched", [Threshold(1, "1h")], mode="shadow")]
    hammer = BanHammer(rules, clock=clock, deny=["foe"])
    hammer.hit("a", "watched")
    batch = [Hit("a", "watched"), Hit("foe", "watched"), Hit("a", "p"), Hit("foe", "p"), Hit("b", "p")]
    decisions = hammer.hit_many(batch, stop=True)
    assert verdicts(decisions) == ["throttled", "banned", "allowed", "banned", None]
    assert hammer.status("b", "p").remaining == (1,)
    earlier = hammer.hit_many([Hit("a", "p"), Hit("foe", "p"), Hit("b", "p")], stop=True)
    assert verdicts(earlier) == ["throttled", None, None]


def test_hit_many_takes_any_iterable_and_may_be_empty(hammer: BanHammer) -> None:
    assert len(hammer.hit_many([])) == 0
    assert list(hammer.hit_many(iter(()), stop=True)) == []
    assert [bool(each) for each in hammer.hit_many(Hit(key, "api") for key in "abc")] == [True] * 3


# Both shells.


def test_the_asynchronous_shell_has_every_verb(clock: ManualClock) -> None:
    async def main() -> None:
        async with AsyncBanHammer([LOGIN, API], clock=clock) as hammer:
            assert await hammer.hit(KEY, "api", 2)
            assert await hammer.guard(KEY, "api")
            assert (await hammer.peek(KEY, "api", 2)).verdict == "throttled"
            stopped = await hammer.hit_many([Hit(KEY, "api", cost=2), Hit("b", "api")], stop=True)
            assert verdicts(stopped) == ["throttled", None]
            assert (await hammer.ban(KEY, "api", "1h", reason="spam")).until == at(3600)
            assert [ban.reason async for ban in hammer.bans()] == ["spam"]
            assert [status.strikes async for status in hammer.status_all()] == [1]
            assert (await hammer.unban(KEY, "api")) is not None
            await hammer.reset(KEY, "api")
            assert (await hammer.status(KEY, "api")).strikes == 0
            with pytest.raises(UnknownPolicyError):
                await hammer.hit(KEY, "apo")
            with pytest.raises(ValueError, match="key: "):
                await hammer.ban("", "api", "1h")
            assert await hammer.drain(5)

    asyncio.run(main())


def test_both_shells_may_share_one_store_at_once(clock: ManualClock) -> None:
    store = MemoryBackend()
    plain = BanHammer([API], backend=store, clock=clock)

    async def main() -> list[bool]:
        async with AsyncBanHammer([API], backend=store, clock=clock) as hammer:
            found = []
            for _ in range(2):
                found += [(await hammer.hit(KEY, "api")).allowed, plain.hit(KEY, "api").allowed]
            return found

    assert asyncio.run(main()) == [True, True, True, False]


def test_without_a_clock_time_is_the_hosts_and_moves_on() -> None:
    hammer = BanHammer([Policy("p", [Threshold(1, "1ms")])])
    first = hammer.hit(KEY, "p")
    denied = hammer.hit(KEY, "p")
    while not (again := hammer.hit(KEY, "p")):
        assert 0.0 < again.retry_after <= 0.001
    assert first
    assert denied.retry_after <= 0.001


def test_a_shell_says_what_it_is_without_its_stores_secret() -> None:
    assert repr(BanHammer([LOGIN, API])).startswith("BanHammer(['api', 'login_failed'], backend=MemoryBackend(")
