"""Every operator's verb on `redis://` and `redis+cluster://`, by both shells: each test is written once."""

from __future__ import annotations

import math
from typing import Any

import pytest

from banhammer import Hit, UnknownPolicyError
from banhammer.testing import ManualClock
from redis_rules import KEY, START, at
from redis_shells import Shell

pytest_plugins = ("redis_store_fixtures",)

# By hand.


def test_a_ban_by_hand_takes_the_first_ladder_and_its_reason(hammer: Shell, clock: ManualClock) -> None:
    ban = hammer.ban(KEY, "login_failed", reason="credential | stuffing é")
    assert (ban.key, ban.policy, ban.threshold, ban.strikes, ban.origin) == (KEY, "login_failed", 1, 1, "manual")
    assert (ban.since, ban.until, ban.reason) == (at(0), at(3_600), "credential | stuffing é")
    assert list(hammer.bans()) == [ban]
    assert hammer.status(KEY, "login_failed").ban == ban
    assert hammer.hit(KEY, "login_failed").verdict == "banned"
    clock.advance("1h")
    assert hammer.ban(KEY, "login_failed").until == at(3_600 * 7)


@pytest.mark.parametrize(("duration", "until"), [("2h", at(7_200)), (0.5, at(0.5)), ("forever", math.inf)])
def test_a_ban_by_hand_lasts_as_long_as_it_is_told_to(hammer: Shell, duration: Any, until: float) -> None:
    assert hammer.ban(KEY, "login_failed", duration).until == until
    assert hammer.ban(KEY, "api", duration=duration).threshold == 0
    assert hammer.hit(KEY, "api").banned_until == until


def test_a_ban_in_force_is_lengthened_and_never_shortened_or_lowered(hammer: Shell, clock: ManualClock) -> None:
    first = hammer.ban(KEY, "login_failed", "2h", threshold=2, reason="first")
    clock.advance("1m")
    assert hammer.ban(KEY, "login_failed", "1m", threshold=1, reason="second") == first
    longer = hammer.ban(KEY, "login_failed", "3h", threshold=1, reason="third")
    assert (longer.until, longer.strikes, longer.since, longer.threshold) == (at(60 + 10_800), 1, at(0), 2)
    assert (longer.reason, longer.id == first.id) == ("third", False)


def test_a_ban_by_hand_that_cannot_be_is_a_value_error(hammer: Shell) -> None:
    with pytest.raises(ValueError, match="'friend' is allowlisted"):
        hammer.ban("friend", "login_failed")
    with pytest.raises(ValueError, match="duration: none given"):
        hammer.ban(KEY, "api")
    with pytest.raises(ValueError, match="threshold: 3"):
        hammer.ban(KEY, "login_failed", threshold=3)
    with pytest.raises(UnknownPolicyError):
        hammer.ban(KEY, "apo", "1h")
    assert list(hammer.bans()) == []


def test_unban_ends_the_ban_now_and_forgiving_starts_now(hammer: Shell, clock: ManualClock) -> None:
    assert hammer.unban(KEY, "login_failed") is None
    ban = hammer.ban(KEY, "login_failed", "1d", reason="spam")
    clock.advance("1h")
    assert hammer.unban(KEY, "login_failed") == ban
    assert hammer.unban(KEY, "login_failed") is None
    assert list(hammer.bans()) == []
    assert hammer.guard(KEY, "login_failed")
    clock.move_to(START + (3_600 + 2 * 86_400) * 1_000_000 - 1)
    assert hammer.status(KEY, "login_failed").strikes == 1
    clock.advance("1us")
    assert hammer.status(KEY, "login_failed").strikes == 0


def test_reset_makes_a_key_as_if_never_seen_or_clears_its_meters_only(hammer: Shell) -> None:
    fresh = hammer.status(KEY, "login_failed")
    hammer.hit(KEY, "login_failed", 11)
    hammer.reset(KEY, "login_failed", strikes=False)
    status = hammer.status(KEY, "login_failed")
    assert (status.remaining, status.strikes, status.banned_until) == ((5, 10, 100), 1, at(3_600))
    assert [ban.reason for ban in hammer.bans()] == ["over 10 per 1h"]
    hammer.reset(KEY, "login_failed")
    assert hammer.status(KEY, "login_failed") == fresh
    assert list(hammer.bans()) == list(hammer.status_all()) == []


# Reading.


def test_status_is_the_record_in_full(hammer: Shell) -> None:
    hammer.hit(KEY, "login_failed", 5)
    hammer.hit(KEY, "login_failed")
    status = hammer.status(KEY, "login_failed")
    assert (status.key, status.policy, status.strikes, status.banned_until) == (KEY, "login_failed", 0, None)
    assert (status.level, status.ban, status.rates, status.over) == (None, None, None, (True, False, False))
    assert status.tats == (at(60), at(6 * 360), at(6 * 36))
    assert (status.remaining, status.reset_after) == ((0, 4, 94), 2_160.0)


def test_everything_is_listed_wherever_it_lives(hammer: Shell, clock: ManualClock) -> None:
    keys = [f"k{number}" for number in range(1_200)]
    hammer.hit_many([Hit(key, "api") for key in keys])
    for key in keys[:30]:
        hammer.ban(key, "trap", "1s" if key == "k0" else "forever")
    hammer.hit("b", "trap")
    tracked = {(each.key, each.policy) for each in hammer.status_all()}
    assert tracked == {(key, "api") for key in keys} | {(key, "trap") for key in [*keys[:30], "b"]}
    assert {(each.key, each.origin) for each in hammer.bans()} == {(key, "manual") for key in keys[:30]} | {
        ("b", "hit")
    }
    clock.advance("3h")
    assert {each.key for each in hammer.bans()} == set(keys[1:30])
    assert {each.key for each in hammer.status_all()} == {*keys[:30], "b"}  # Their strikes.
    clock.advance("2d")
    assert {each.key for each in hammer.status_all()} == set(keys[1:30])


def test_the_lists_answer_without_the_store(hammer: Shell) -> None:
    for friend in ("friend", "10.1.2.3"):
        decision = hammer.hit(friend, "trap")
        assert (decision.allowed, decision.listed, decision.threshold, decision.remaining) == (
            True,
            "allow",
            None,
            None,
        )
    decision = hammer.guard("foe", "api")
    assert (decision.verdict, decision.listed, decision.banned_until) == ("banned", "deny", math.inf)
    assert hammer.peek("foe", "watched").allowed
    assert list(hammer.status_all()) == []
