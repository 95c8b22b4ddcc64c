"""The edges of what the core does to one record: bans by hand, what is left of a key, flags, and short answers."""

from __future__ import annotations

from itertools import product

import pytest

from banhammer.core import FRESH, Owed, ban, clear_meters, drained_at, evaluate, lapses_at, lift, load, stands
from banhammer.durations import DAY, FOREVER, HOUR, MINUTE, SECOND
from banhammer.model import Policy, Record, Ring, Threshold
from machine_rules import START

LADDER = Policy("p", [Threshold(5, "1h", ban=["1m", "1h"]), Threshold(9, "1h", ban="2h")], forgive_after="1d")
RINGS: tuple[Ring, ...] = ((MINUTE, START // (MINUTE // 12), (1,) * 12),)
TATS = (START + 7, START + 8)


def banned(until: int, *, level: int = 1, strikes: int = 1) -> Record:
    return Record(TATS, over=2, strikes=strikes, banned_until=until, level=level, rings=RINGS)


# Reading a record.


def test_a_record_of_which_nothing_has_lapsed_is_handed_on_itself() -> None:
    """So that a store knows that it need not write."""
    policy = Policy("p", [Threshold(100, "1ms", burst=3)])
    full = Record((START + 30,), over=1)
    assert [load(policy, full, START + late) is full for late in (-1, 0, 29, 30)] == [False, True, True, False]


def test_a_threshold_that_the_record_lacks_reads_as_never_charged() -> None:
    assert load(LADDER, FRESH, START) == Record((0, 0))
    assert load(LADDER, Record((START,)), START) == Record((START, 0))


def test_a_meter_too_far_ahead_is_cut_to_the_tolerance_or_on_a_ban_threshold_by_a_second_to_zero() -> None:
    policy = Policy("p", [Threshold(100, "1ms", burst=3), Threshold(100, "1ms", burst=3, ban="1h")])
    ceiling = START + 30
    for ahead, read in ((0, ceiling), (SECOND, ceiling), (SECOND + 1, 0)):
        assert load(policy, Record((ceiling + ahead,) * 2), START).tats == (ceiling, read)


def test_forgiving_leaves_meters_flags_and_rates() -> None:
    assert load(LADDER, banned(START - DAY), START) == Record(TATS, over=2, rings=RINGS)


def test_what_the_core_answers_is_not_degraded_needs_no_wait_and_has_no_ids_yet() -> None:
    reply = evaluate(LADDER, FRESH, 1, START)
    assert (reply.degraded, reply.wait, reply.ids, reply.counted) == (False, 0, (), True)


# Bans by hand and their end.


def test_a_ban_by_hand_changes_nothing_but_the_ban_and_the_strikes() -> None:
    made = ban(LADDER, banned(START - 1, level=0), 1, HOUR, START)
    assert made == Record(TATS, over=2, strikes=2, banned_until=START + HOUR, level=1, rings=RINGS)


def test_a_ban_by_hand_is_a_strike_from_the_microsecond_on_in_which_the_last_one_ended() -> None:
    made = [ban(LADDER, banned(START), 0, None, START + late) for late in (-1, 0)]
    assert [record.strikes for record in made] == [1, 2]
    assert [record.banned_until for record in made] == [START - 1 + MINUTE, START + HOUR]


@pytest.mark.parametrize(
    ("level", "index", "until", "kept"), [(1, 0, START + 1, 1), (0, 1, START + 1, 1), (1, 0, START, 0)]
)
def test_a_ban_by_hand_keeps_a_higher_level_only_of_a_ban_in_force(
    level: int, index: int, until: int, kept: int
) -> None:
    assert ban(LADDER, banned(until, level=level), index, SECOND, START).level == kept


def test_lifting_ends_the_ban_now_and_keeps_meters_flags_strikes_and_rates() -> None:
    lifted = lift(LADDER, banned(START + HOUR, strikes=3), START)
    assert lifted == Record(TATS, over=2, strikes=3, banned_until=START, level=0, rings=RINGS)


def test_lifting_changes_nothing_once_the_ban_has_ended() -> None:
    assert lift(LADDER, banned(START), START) == banned(START)
    assert lift(LADDER, banned(START), START - 1) == Record(TATS, 2, 1, START - 1, 0, RINGS)


def test_clearing_the_meters_keeps_the_ban_the_strikes_and_the_rates() -> None:
    cleared = clear_meters(banned(START + HOUR, strikes=2))
    assert cleared == Record((0, 0), over=0, strikes=2, banned_until=START + HOUR, level=1, rings=RINGS)


# What is left of a key.


def test_nothing_is_left_to_know_of_a_key_that_was_never_seen() -> None:
    assert lapses_at(LADDER, FRESH) == drained_at(FRESH) == 0


def test_a_record_lapses_when_the_last_of_its_parts_does() -> None:
    ring = (MINUTE, 40, (0,) * 12)
    counted = (40 + 12) * (MINUTE // 12)  # The end of the last slot at which its newest is still counted.
    assert lapses_at(LADDER, Record((3, 9, 5))) == 9
    assert lapses_at(LADDER, Record((), rings=(ring, (12, 40, ring[2])))) == counted
    assert lapses_at(LADDER, Record((counted + 1,), rings=(ring,))) == counted + 1
    assert lapses_at(LADDER, Record((counted,), strikes=1, banned_until=9, rings=(ring,))) == 9 + DAY
    assert lapses_at(LADDER, Record((), strikes=1, banned_until=FOREVER)) == FOREVER


def test_a_key_is_as_good_as_new_when_its_ban_and_all_its_meters_have_ended() -> None:
    assert [drained_at(Record((3, 9, 5), banned_until=until)) for until in (7, 10)] == [9, 10]


# What is told later.


def test_a_ban_that_ended_as_the_first_came_sleeps_through_none_of_what_is_owed() -> None:
    policy = Policy("p", [Threshold(100, "1ms", ban="1h")])
    record = Record((0,), strikes=1, banned_until=START)
    told = [evaluate(policy, record, 0, START + 20, owed=Owed(5, span, -1)).record.tats for span in (20, 21)]
    assert told == [(START + 50,), (START + 20,)]


@pytest.mark.parametrize("now", [0, START])
def test_what_is_owed_trips_only_what_was_awake_even_at_the_epoch(now: int) -> None:
    policy = Policy("p", [Threshold(100, "1ms", ban="1h"), Threshold(100, "1ms", burst=3, ban="1d")])
    assert evaluate(policy, FRESH, 0, now, owed=Owed(3, 0, 0)).verdict == "allowed"
    reply = evaluate(policy, FRESH, 0, now, owed=Owed(4, 0, 0))
    assert (reply.verdict, reply.tripped) == ("banned", (1,))


# Flags.


def test_each_throttle_has_a_flag_of_its_own() -> None:
    policy = Policy("p", [Threshold(100, "1ms", burst=2), Threshold(100, "1ms", burst=3)])
    record, seen = FRESH, []
    for cost in (2, 1, 2, 2, 1):
        reply = evaluate(policy, record, cost, START)
        record = reply.record
        seen.append((reply.verdict, reply.tripped, record.over))
    assert seen == [
        ("allowed", (), 0), ("throttled", (0,), 1), ("throttled", (1,), 3), ("throttled", (), 3), ("throttled", (), 3),
    ]  # fmt: skip


# Where a store need not ask.

THROTTLE, BAN = Threshold(100, "1ms", burst=3), Threshold(100, "1ms", burst=3, ban="1h")
AHEAD = (-1, 0, 1, 20, 21, 30, 31)
"""Empty and about to be; room for one unit, and a microsecond less; full, and past it."""
BANS = ((0, 0, 0), (1, START - 5, 0), (1, START, 1), (1, START + 1, 0), (2, START + 9, 1), (1, START - DAY, 1))
"""Strikes, end and level: never banned, over, just over, in force, forgiven."""


@pytest.mark.parametrize("levels", [(THROTTLE, THROTTLE), (THROTTLE, BAN), (BAN, THROTTLE), (BAN, BAN)])
def test_a_verdict_stands_exactly_where_one_unit_is_denied_and_changes_nothing(
    levels: tuple[Threshold, Threshold],
) -> None:
    """But of a throttled key with strikes: whether they are forgiven is left to the core."""
    policy = Policy("p", levels)
    standing = 0
    for first, second, over, (strikes, until, level) in product(AHEAD, AHEAD, range(4), BANS):
        record = Record((START + first, START + second), over, strikes, until, level)
        reply = evaluate(policy, record, 1, START)
        same = reply.verdict != "allowed" and reply.record is record and not reply.tripped
        wanted = reply.verdict if same and (reply.verdict == "banned" or not strikes) else None
        assert stands(policy, record, START) == wanted
        standing += wanted is not None
    assert standing > 0


@pytest.mark.parametrize(
    ("track", "record"),
    [
        ((), Record((START + 30, START), 1)),
        ((), Record((START + 30,), 1, rings=RINGS)),
        (("1m",), Record((START + 30,), 1)),
        (("1m",), Record((START + 30,), 1, rings=RINGS)),
    ],
)
def test_no_verdict_stands_where_a_rate_is_counted_or_the_policy_has_changed(
    track: tuple[str, ...], record: Record
) -> None:
    assert stands(Policy("p", [THROTTLE]), Record((START + 30,), 1), START) == "throttled"
    assert stands(Policy("p", [THROTTLE], track=track), record, START) is None
