"""The worked examples of the rules hold in the reference that others are compared with."""

from __future__ import annotations

import math
from typing import Any

import pytest

from banhammer.durations import DAY, HOUR, MINUTE, SECOND
from banhammer.model import Hit, Policy, Threshold
from reference import ReferenceHammer

NOW = 1_700_000_000 * SECOND
KEY = "203.0.113.9"

LOGIN = Policy(
    "login",
    [Threshold(10, "1h", ban="1h", actions=["local"]), Threshold(100, "1h", ban="1d", actions=["central"])],
    track=["1m", "10m", "60m"],
    forgive_after="1d",
)
API = Policy("api", [Threshold(60, "1m", burst=5)])
HONEYPOT = Policy("honeypot", [Threshold(1, "1h", burst=0, ban=["1h", "forever"])])


def hammer_of(*thresholds: Threshold, **settings: Any) -> ReferenceHammer:
    return ReferenceHammer([Policy("p", thresholds, **settings)])


def verdicts(hammer: ReferenceHammer, times: int, now: int = NOW, cost: int = 1) -> list[str]:
    return [hammer.hit(KEY, "p", cost, now)["verdict"] for _ in range(times)]


# The original example: 10 and 100 failed logins an hour, one attempt in 100 ms.


def failed_logins(hammer: ReferenceHammer, attempts: int) -> list[dict[str, Any]]:
    return [hammer.hit(KEY, "login", 1, NOW + i * SECOND // 10) for i in range(attempts)]


def test_ten_failed_logins_pass_and_the_eleventh_is_banned_for_an_hour() -> None:
    answers = failed_logins(ReferenceHammer([LOGIN]), 11)
    assert [answer["allowed"] for answer in answers] == [True] * 10 + [False]
    last = answers[-1]
    assert last["verdict"] == "banned"
    assert last["banned_until"] == (NOW + SECOND + HOUR) / 1e6
    assert (last["strikes"], last["threshold"], last["limit"], last["remaining"]) == (1, 0, 10, 0)
    assert last["escalations"] == [(0, "banned")]
    assert last["retry_after"] == last["reset_after"] == 3600.0


def test_attempts_during_the_ban_go_on_counting_until_the_higher_threshold_bans_for_a_day() -> None:
    answers = failed_logins(ReferenceHammer([LOGIN]), 200)
    escalations = [(number + 1, each) for number, answer in enumerate(answers) for each in answer["escalations"]]
    assert escalations == [(11, (0, "banned")), (101, (1, "banned"))]
    assert answers[100]["banned_until"] == (NOW + 10 * SECOND + DAY) / 1e6
    assert {answer["strikes"] for answer in answers[10:]} == {1}
    assert {answer["banned_until"] for answer in answers[100:]} == {answers[100]["banned_until"]}
    assert answers[99]["threshold"] == 0
    assert answers[100]["threshold"] == 1


def test_rates_count_denied_hits_and_this_one() -> None:
    answers = failed_logins(ReferenceHammer([LOGIN]), 12)
    assert answers[0]["rates"] == {"1m": 1, "10m": 1, "60m": 1}
    assert answers[11]["rates"] == {"1m": 12, "10m": 12, "60m": 12}


def test_a_window_forgets_by_slots_of_a_twelfth() -> None:
    hammer = hammer_of(Threshold(1000, "1s"), track=["12s"])
    start = NOW - NOW % (12 * SECOND)
    hammer.hit(KEY, "p", 1, start)
    hammer.hit(KEY, "p", 50, start + SECOND)
    assert hammer.status(KEY, "p", start + 12 * SECOND - 1)["rates"] == {"12s": 2}
    assert hammer.status(KEY, "p", start + 12 * SECOND)["rates"] == {"12s": 1}
    assert hammer.status(KEY, "p", start + 13 * SECOND)["rates"] == {"12s": 0}


def test_a_policy_that_tracks_nothing_has_no_rates() -> None:
    assert ReferenceHammer([API]).hit(KEY, "api", 1, NOW)["rates"] is None


# Ban thresholds.


def test_a_honeypot_bans_at_the_first_hit_and_no_wait_helps() -> None:
    hammer = ReferenceHammer([HONEYPOT])
    answer = hammer.hit(KEY, "honeypot", 1, NOW)
    assert (answer["verdict"], answer["banned_until"]) == ("banned", (NOW + HOUR) / 1e6)
    assert answer["retry_after"] == math.inf
    assert answer["reset_after"] == 3600.0


def test_a_ban_has_lapsed_at_its_end_and_not_a_microsecond_earlier() -> None:
    hammer = hammer_of(Threshold(1, "1s", ban="10s"))
    assert verdicts(hammer, 2) == ["allowed", "banned"]
    assert hammer.peek(KEY, "p", 1, NOW + 10 * SECOND - 1)["verdict"] == "banned"
    assert hammer.peek(KEY, "p", 1, NOW + 10 * SECOND)["verdict"] == "allowed"


def test_strikes_climb_the_ladder_and_the_last_rung_repeats() -> None:
    hammer = hammer_of(Threshold(1, "1s", burst=0, ban=["1m", "1h", "1d"]))
    now, seen = NOW, []
    for _ in range(4):
        answer = hammer.hit(KEY, "p", 1, now)
        seen.append((answer["strikes"], round(answer["banned_until"] - now / 1e6)))
        now = round(answer["banned_until"] * 1e6)
    assert seen == [(1, 60), (2, 3600), (3, 86400), (4, 86400)]


def test_a_ban_for_ever_has_no_end() -> None:
    hammer = ReferenceHammer([HONEYPOT])
    hammer.hit(KEY, "honeypot", 1, NOW)
    answer = hammer.hit(KEY, "honeypot", 1, NOW + HOUR)
    assert answer["banned_until"] == answer["retry_after"] == answer["reset_after"] == math.inf
    assert hammer.hit(KEY, "honeypot", 1, NOW + 3650 * DAY)["strikes"] == 2


@pytest.mark.parametrize(("after", "strikes"), [(DAY - 1, 2), (DAY, 1)])
def test_a_strike_is_forgotten_forgive_after_the_end_of_its_ban(after: int, strikes: int) -> None:
    hammer = ReferenceHammer([HONEYPOT])
    hammer.hit(KEY, "honeypot", 1, NOW)
    assert hammer.hit(KEY, "honeypot", 1, NOW + HOUR + after)["strikes"] == strikes


def test_hits_alone_never_prolong_a_ban() -> None:
    hammer = hammer_of(Threshold(1, "1s", ban="10s"))
    verdicts(hammer, 2)
    answer = hammer.hit(KEY, "p", 1, NOW + 5 * SECOND)
    assert answer["banned_until"] == (NOW + 10 * SECOND) / 1e6
    assert answer["retry_after"] == 5.0
    assert answer["escalations"] == []


def test_a_sleeping_threshold_keeps_its_meter_and_a_higher_one_counts() -> None:
    hammer = hammer_of(Threshold(1, "1h", ban="2h"), Threshold(50, "1h", ban="1d"))
    verdicts(hammer, 2)
    before = hammer.status(KEY, "p", NOW)["remaining"]
    hammer.hit(KEY, "p", 1, NOW)
    after = hammer.status(KEY, "p", NOW)["remaining"]
    assert (before, after) == ((1, 48), (1, 47))


def test_one_hit_that_trips_two_thresholds_is_one_strike_and_two_escalations() -> None:
    hammer = hammer_of(Threshold(1, "1s", ban="1h"), Threshold(2, "1s", ban="1m"))
    answer = hammer.hit(KEY, "p", 3, NOW)
    assert answer["escalations"] == [(0, "banned"), (1, "banned")]
    assert (answer["strikes"], answer["threshold"]) == (1, 1)
    assert answer["banned_until"] == (NOW + HOUR) / 1e6


def test_a_tripped_meter_starts_empty_when_its_ban_ends() -> None:
    hammer = hammer_of(Threshold(10, "1h", ban="1s"))
    verdicts(hammer, 11)
    assert verdicts(hammer, 11, NOW + SECOND) == ["allowed"] * 10 + ["banned"]


def test_below_its_rate_a_ban_threshold_never_trips() -> None:
    hammer = hammer_of(Threshold(10, "1m", burst=1, ban="1h"))
    assert {hammer.hit(KEY, "p", 1, NOW + i * 6 * SECOND)["verdict"] for i in range(50)} == {"allowed"}


# Throttles.


def test_a_throttle_lets_its_burst_through_and_then_one_every_interval() -> None:
    hammer = ReferenceHammer([API])
    answers = [hammer.hit(KEY, "api", 1, NOW) for _ in range(6)]
    assert [answer["remaining"] for answer in answers] == [4, 3, 2, 1, 0, 0]
    assert answers[-1]["verdict"] == "throttled"
    assert answers[-1]["retry_after"] == 1.0
    assert answers[-1]["reset_after"] == 5.0
    assert not hammer.hit(KEY, "api", 1, NOW + SECOND - 1)["allowed"]
    assert hammer.hit(KEY, "api", 1, NOW + SECOND)["allowed"]


def test_a_denial_charges_no_throttle() -> None:
    hammer = hammer_of(Threshold(100, "1m"), Threshold(2, "1m"))
    assert verdicts(hammer, 4) == ["allowed", "allowed", "throttled", "throttled"]
    assert hammer.status(KEY, "p", NOW)["remaining"] == (98, 0)


def test_the_throttle_with_the_longest_wait_denies() -> None:
    hammer = hammer_of(Threshold(2, "1m"), Threshold(2, "1h"), Threshold(2, "1h"))
    verdicts(hammer, 2)
    answer = hammer.hit(KEY, "p", 1, NOW)
    assert (answer["threshold"], answer["retry_after"]) == (1, 1800.0)


def test_of_the_fullest_thresholds_the_lowest_is_named() -> None:
    answer = hammer_of(Threshold(9, "1m"), Threshold(3, "1m"), Threshold(3, "1h")).hit(KEY, "p", 1, NOW)
    assert (answer["threshold"], answer["limit"], answer["remaining"]) == (1, 3, 2)


def test_a_cost_above_the_burst_is_denied_for_ever_and_escalates_nothing() -> None:
    hammer = ReferenceHammer([API])
    answer = hammer.hit(KEY, "api", 6, NOW)
    assert (answer["verdict"], answer["retry_after"], answer["escalations"]) == ("throttled", math.inf, [])
    assert answer["remaining"] == 5
    assert hammer.status(KEY, "api", NOW)["over"] == (False,)


def test_a_throttle_escalates_once_until_its_meter_was_empty() -> None:
    hammer = ReferenceHammer([API])

    def escalations(now: int, times: int) -> list[tuple[int, str]]:
        return [each for _ in range(times) for each in hammer.hit(KEY, "api", 1, now)["escalations"]]

    assert escalations(NOW, 8) == [(0, "throttled")]
    assert escalations(NOW + 4 * SECOND, 8) == []  # Refilled before it was empty.
    assert escalations(NOW + 9 * SECOND, 8) == [(0, "throttled")]


def test_ban_thresholds_count_what_throttles_deny() -> None:
    hammer = hammer_of(Threshold(2, "1m"), Threshold(4, "1m", ban="1h"))
    assert verdicts(hammer, 6) == ["allowed", "allowed", "throttled", "throttled", "banned", "banned"]


def test_a_ban_leaves_the_throttles_alone() -> None:
    hammer = hammer_of(Threshold(10, "1m"), Threshold(2, "1m", ban="1h"))
    verdicts(hammer, 9)
    assert hammer.status(KEY, "p", NOW)["remaining"] == (8, 2)


# Guard, peek and batches.


def test_after_ten_failures_of_ten_peek_says_banned_and_a_guard_says_allowed() -> None:
    hammer = ReferenceHammer([LOGIN])
    failed_logins(hammer, 10)
    now = NOW + SECOND
    assert hammer.peek(KEY, "login", 1, now)["verdict"] == "banned"
    guard = hammer.guard(KEY, "login", 1, now)
    assert (guard["verdict"], guard["remaining"], guard["threshold"]) == ("allowed", 0, 0)
    assert guard["rates"] == {"1m": 10, "10m": 10, "60m": 10}
    assert hammer.hit(KEY, "login", 1, now)["verdict"] == "banned"


def test_a_denied_guard_is_a_hit_and_an_allowed_one_leaves_no_trace() -> None:
    guarded, hit = ReferenceHammer([LOGIN]), ReferenceHammer([LOGIN])
    assert guarded.guard(KEY, "login", 1, NOW)["allowed"]
    assert guarded.states == {}
    for hammer in (guarded, hit):
        failed_logins(hammer, 11)
    assert guarded.guard(KEY, "login", 1, NOW + MINUTE) == hit.hit(KEY, "login", 1, NOW + MINUTE)
    assert guarded.states == hit.states


def test_a_guard_is_a_hit_where_a_throttle_has_no_room() -> None:
    hammer = hammer_of(Threshold(1, "1m"), Threshold(2, "1m", ban="1h"))
    hammer.hit(KEY, "p", 1, NOW)
    seen = [hammer.guard(KEY, "p", 1, NOW)["verdict"] for _ in range(3)]
    assert seen == ["throttled", "banned", "banned"]


def test_a_batch_with_stop_ends_at_the_first_denial_and_charges_nothing_behind_it() -> None:
    hammer = ReferenceHammer([API, LOGIN])
    hits = [Hit(KEY, "api", cost=5), Hit(KEY, "api"), Hit(KEY, "login")]
    first, second, third = hammer.hit_many(hits, True, NOW)
    assert first is not None
    assert second is not None
    assert (first["allowed"], second["allowed"], third) == (True, False, None)
    assert hammer.status(KEY, "login", NOW)["remaining"] == (10, 100)
    assert [each is None for each in hammer.hit_many(hits, False, NOW)] == [False] * 3
    assert hammer.status(KEY, "login", NOW)["remaining"] == (9, 99)


# Clamps and changed policies.


def test_a_throttles_meter_from_the_future_is_clamped_to_one_burst() -> None:
    hammer = ReferenceHammer([API])
    hammer.hit(KEY, "api", 5, NOW + HOUR)
    answer = hammer.hit(KEY, "api", 1, NOW)
    assert (answer["verdict"], answer["retry_after"], answer["reset_after"]) == ("throttled", 1.0, 5.0)


@pytest.mark.parametrize(("back", "room"), [(SECOND, 0), (SECOND + 1, 5)])
def test_a_ban_thresholds_meter_more_than_a_second_ahead_reads_as_empty(back: int, room: int) -> None:
    hammer = hammer_of(Threshold(60, "1m", burst=5, ban="1h"))
    hammer.hit(KEY, "p", 5, NOW + back)
    assert hammer.status(KEY, "p", NOW)["remaining"] == (room,)


def test_a_changed_policy_keeps_bans_strikes_and_meters_by_index() -> None:
    hammer = ReferenceHammer([LOGIN])
    failed_logins(hammer, 101)
    hammer.policies["login"] = Policy("login", [Threshold(5, "1h", ban="1h")])
    answer = hammer.hit(KEY, "login", 1, NOW + MINUTE)
    assert (answer["verdict"], answer["strikes"], answer["threshold"]) == ("banned", 1, 0)
    assert answer["banned_until"] == (NOW + 10 * SECOND + DAY) / 1e6


def test_a_ban_keeps_its_end_and_level_while_a_clock_steps_back_over_it() -> None:
    hammer = hammer_of(Threshold(1, "1s", ban="1s"), Threshold(2, "1s", ban="10s"))
    hammer.hit(KEY, "p", 3, NOW)
    assert hammer.hit(KEY, "p", 1, NOW + 10 * SECOND)["verdict"] == "allowed"
    answer = hammer.hit(KEY, "p", 1, NOW + 9 * SECOND)
    assert (answer["verdict"], answer["threshold"], answer["retry_after"]) == ("banned", 1, 1.0)
