"""Every verb that decides, on `redis://` and `redis+cluster://`, by both shells: each test is written once."""

from __future__ import annotations

import pytest

from banhammer import Hit, Policy, Threshold, UnknownPolicyError
from banhammer.testing import ManualClock
from redis_rules import KEY, START, WATCHED, Note, at, verdicts
from redis_shells import Make, Shell
from servers.waiting import until

pytest_plugins = ("redis_store_fixtures",)

# Hits, guards, peeks.


def test_a_hit_says_all_that_there_is_to_say(hammer: Shell, clock: ManualClock) -> None:
    told = [hammer.hit(KEY, "api", 2), hammer.hit(KEY, "api", 2)]
    assert [each.as_dict() for each in told] == [
        {
            "allowed": True, "verdict": "allowed", "key": KEY, "policy": "api", "strikes": 0, "banned_until": None,
            "remaining": 1, "threshold": 0, "limit": 3, "retry_after": 0.0, "reset_after": 2.0, "rates": None,
            "listed": None, "shadow": False, "degraded": False, "tripped": (),
        },
        {
            "allowed": False, "verdict": "throttled", "key": KEY, "policy": "api", "strikes": 0, "banned_until": None,
            "remaining": 1, "threshold": 0, "limit": 3, "retry_after": 1.0, "reset_after": 2.0, "rates": None,
            "listed": None, "shadow": False, "degraded": False, "tripped": (0,),
        },
    ]  # fmt: skip
    clock.move_to(START + 999_999)
    assert not hammer.hit(KEY, "api", 2)
    clock.move_to(START + 1_000_000)
    assert hammer.hit(KEY, "api", 2)


def test_a_ladder_is_climbed_and_forgiven(hammer: Shell, clock: ManualClock) -> None:
    told, rungs = [], []
    for _ in range(3):
        told.append(hammer.hit(KEY, "login_failed", 11))
        assert hammer.hit(KEY, "login_failed").verdict == "banned"
        rungs.append(round(told[-1].banned_until * 1e6) - clock.now)
        clock.advance(rungs[-1] / 1e6)
        hammer.reset(KEY, "login_failed", strikes=False)
    assert [each.tripped for each in told] == [(1,)] * 3
    assert [each.strikes for each in told] == [1, 2, 3]
    assert rungs == [3_600_000_000, 21_600_000_000, 21_600_000_000]
    clock.advance("2d")
    assert hammer.hit(KEY, "login_failed", 11).strikes == 1


def test_a_higher_threshold_lengthens_the_ban_in_force(hammer: Shell) -> None:
    told = [hammer.hit(KEY, "login_failed", 11), *[hammer.hit(KEY, "login_failed", 10) for _ in range(9)]]
    assert [each.tripped for each in told] == [(1,), *[()] * 8, (2,)]
    assert (told[-1].banned_until, told[-1].strikes) == (at(86_400), 1)


def test_a_guard_stores_nothing_when_it_allows_and_is_a_hit_when_it_denies(hammer: Shell) -> None:
    assert all(hammer.guard(KEY, "api") for _ in range(5))
    assert list(hammer.status_all()) == []
    hammer.hit(KEY, "api", 3)
    assert hammer.guard(KEY, "api").verdict == "throttled"
    hammer.ban(KEY, "login_failed", threshold=1)
    assert verdicts(hammer.guard(KEY, "login_failed", 50) for _ in range(3)) == ["banned"] * 3
    assert hammer.status(KEY, "login_failed").level == 2


def test_a_peek_tells_what_a_hit_would_and_changes_nothing(hammer: Shell) -> None:
    for cost in (1, 2, 4, 1, 3):
        before = hammer.status(KEY, "api")
        peeked = [hammer.peek(KEY, "api", cost) for _ in range(2)]
        assert hammer.status(KEY, "api") == before
        assert peeked == [hammer.hit(KEY, "api", cost)] * 2
    assert hammer.peek("nobody", "trap").verdict == "banned"
    assert hammer.status("nobody", "trap").strikes == 0


def test_rates_count_every_hit_once_whatever_its_cost(hammer: Shell, clock: ManualClock) -> None:
    assert hammer.hit(KEY, "seen", 2).rates == {"1m": 1, "12m": 1}
    assert hammer.hit(KEY, "seen").rates == {"1m": 2, "12m": 2}
    assert hammer.guard(KEY, "seen").rates == {"1m": 3, "12m": 3}
    assert hammer.peek(KEY, "seen").rates == {"1m": 4, "12m": 4}
    clock.advance("2m")
    assert hammer.guard(KEY, "seen").rates == {"1m": 0, "12m": 3}
    assert hammer.hit(KEY, "seen").rates == {"1m": 1, "12m": 4}
    assert hammer.status(KEY, "seen").rates == {"1m": 1, "12m": 4}
    assert hammer.hit(KEY, "api").rates is None


def test_keys_and_policies_never_influence_each_other(hammer: Shell) -> None:
    keys = [KEY, "a:b", "{a}", "}{", "a b", "\r\n", "\0", "\ud800", "é", "e\u0301", "x" * 500, "x" * 501, "api:", "%"]
    for key in keys:
        assert hammer.hit(key, "api", 3)
        assert not hammer.hit(key, "api")
        assert hammer.hit(key, "seen", 2)
    assert all(hammer.status(key, "api").remaining == hammer.status(key, "seen").remaining == (0,) for key in keys)
    hammer.ban("{a}", "api", "1h")
    assert [key for key in keys if hammer.peek(key, "api", 4).verdict == "banned"] == ["{a}"]


# Batches.


def test_a_batch_is_decided_in_order_over_policies_and_partitions(hammer: Shell) -> None:
    hits = [Hit(KEY, "api", cost=2), Hit("b", "api"), Hit("foe", "api"), Hit(KEY, "api", cost=2), Hit("friend", "api")]
    hits += [Hit(KEY, "api", guard=True), Hit(KEY, "api"), Hit(KEY, "trap"), Hit(KEY, "trap", guard=True)]
    told = hammer.hit_many(hits)
    assert [each.key for each in told] == [hit.key for hit in hits]
    allowed, throttled, banned = "allowed", "throttled", "banned"
    assert verdicts(told) == [allowed, allowed, banned, throttled, allowed, allowed, allowed, banned, banned]
    assert [each.listed for each in told][2::2] == ["deny", "allow", None, None]
    assert [each.tripped for each in told][-2:] == [(0,), ()]
    assert list(hammer.hit_many([])) == []


def test_a_batch_with_stop_ends_at_the_first_denial_and_charges_nothing_behind_it(hammer: Shell) -> None:
    keys = [f"k{number}" for number in range(40)]
    hammer.hit("k25", "api", 3)
    told = hammer.hit_many([Hit(key, "api") for key in keys], stop=True)
    assert verdicts(told) == ["allowed"] * 25 + ["throttled"] + [None] * 14
    rooms = [hammer.status(key, "api").remaining[0] for key in keys]
    assert rooms == [2] * 25 + [0] + [3] * 14
    listed = hammer.hit_many([Hit("foe", "watched"), Hit("a", "api"), Hit("foe", "api"), Hit("b", "api")], stop=True)
    assert verdicts(listed) == ["banned", "allowed", "banned", None]
    assert hammer.status("b", "api").remaining == (3,)


def test_a_mistake_in_a_batch_is_raised_before_anything_is_charged(hammer: Shell) -> None:
    for wrong, error in ((Hit(KEY, "apo"), UnknownPolicyError), (Hit("", "api"), ValueError)):
        with pytest.raises(error):
            hammer.hit_many([Hit(KEY, "api"), wrong])
    for cost in (0, -1, True, 1.0, 1_000_001):
        with pytest.raises(ValueError, match="cost: "):
            hammer.hit(KEY, "api", cost)
    assert list(hammer.status_all()) == []


# Modes and escalations.


def test_shadow_keeps_the_state_of_enforcement_and_denies_nobody(make: Make, note: Note, clock: ManualClock) -> None:
    watching = make(clock=clock)
    told = [watching.hit(KEY, "watched") for _ in range(4)]
    assert [(each.allowed, each.shadow, each.verdict) for each in told] == [
        (True, True, "allowed"), (True, True, "allowed"), (True, True, "banned"), (True, True, "banned"),
    ]  # fmt: skip
    assert told[-1].retry_after == 3_600.0
    assert watching.drain(5)
    assert note.seen == []
    enforcing = make([Policy("watched", WATCHED.thresholds)], clock=clock)
    assert not enforcing.hit(KEY, "watched")


def test_a_crossing_runs_its_actions_once_and_a_lift_undoes_them(hammer: Shell, note: Note) -> None:
    told = [hammer.hit(KEY, "login_failed", 5) for _ in range(4)]
    hammer.hit_many([Hit(KEY, "login_failed", cost=60), Hit(KEY, "login_failed", cost=60)])
    assert hammer.drain(5)
    assert [each.verdict for each in told] == ["allowed", "throttled", "banned", "banned"]
    assert [(each.threshold, each.verdict) for each in note.seen] == [(0, "throttled"), (1, "banned"), (2, "banned")]
    assert [each.reason for each in note.seen] == ["over 5 per 1m", "over 10 per 1h", "over 100 per 1h"]
    assert [each.until for each in note.seen] == [None, at(3_600), at(86_400)]
    assert len({each.id for each in note.seen}) == 3
    (ban,) = hammer.bans()
    assert (ban.id, ban.since, ban.origin) == (note.seen[-1].id, at(0), "hit")
    assert hammer.unban(KEY, "login_failed") == ban
    assert hammer.drain(5)
    assert [(each.verdict, each.id) for each in note.seen[3:]] == [("lifted", ban.id)]


def test_a_ban_by_hand_runs_its_thresholds_actions(hammer: Shell, note: Note) -> None:
    ban = hammer.ban(KEY, "login_failed", threshold=2, reason="by hand")
    assert hammer.drain(5)
    (seen,) = note.seen
    assert (seen.id, seen.threshold, seen.reason, seen.origin, seen.cost) == (ban.id, 2, "by hand", "manual", 0)


def test_bans_and_strikes_outlive_a_changed_policy(make: Make, clock: ManualClock) -> None:
    make(clock=clock).hit(KEY, "login_failed", 11)
    changed = make([Policy("login_failed", [Threshold(1, "1s"), Threshold(9, "9h", ban="9h")])], clock=clock)
    decision = changed.hit(KEY, "login_failed")
    assert (decision.verdict, decision.strikes, decision.banned_until) == ("banned", 1, at(3_600))


# The server's own time.


def test_without_a_clock_the_servers_time_decides_and_the_denial_cache_keeps_up(make: Make, note: Note) -> None:
    here, there = make(), make()
    told = [here.hit(KEY, "trap") for _ in range(5)]
    assert [(each.verdict, each.strikes, each.degraded) for each in told] == [("banned", 1, False)] * 5
    assert [each.tripped for each in told] == [(0,), (), (), (), ()]
    assert told[0].banned_until == pytest.approx(told[-1].banned_until, abs=1e-6)
    assert there.unban(KEY, "trap") is not None
    until(lambda: here.guard(KEY, "trap").verdict == "allowed", "lifted here too", seconds=3)
    assert here.hit(KEY, "trap").strikes == 2
    here.unban(KEY, "trap")
    assert here.guard(KEY, "trap")
    assert here.drain(5)
    assert [each.verdict for each in note.seen] == ["banned", "lifted", "banned", "lifted"]


def test_two_hammers_share_one_budget(make: Make) -> None:
    one, other = make(), make()
    told = [each.hit(KEY, "seen").allowed for each in (one, other, one, other)]
    assert told == [True, True, False, False]
    assert one.status(KEY, "seen").remaining == other.status(KEY, "seen").remaining == (0,)
