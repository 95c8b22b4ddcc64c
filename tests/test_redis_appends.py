"""The step that bans writes the escalation down: both or neither, and exactly where an action is named."""

from __future__ import annotations

from acting import Act
from banhammer import Decision, Hit, Policy, Threshold
from banhammer.backends.redis import RedisBackend
from banhammer.escalations import delivered
from banhammer.testing import ManualClock
from delivery import ask, hammer_on, left_over, names_of, note, taken, trap
from redis_stores import Store
from servers.standalone import Standalone
from servers.waiting import until

pytest_plugins = ("redis_store_fixtures",)

START = 1_750_000_000_000_000
LEVELS = [
    Threshold(2, "1h", actions=["note"]),
    Threshold(3, "1h"),
    Threshold(4, "1h", actions=["block_local"]),
    Threshold(5, "1h", ban="1h"),
    Threshold(6, "1h", ban="1h", actions=["block_local", "note", "also"]),
    Threshold(7, "1h", ban="1h", actions=["block_local"]),
    Threshold(8, "1h", ban="forever", actions=["also"]),
]
RULES = [
    Policy("all", LEVELS),
    Policy("dark", LEVELS, mode="shadow"),
    Policy("plain", [Threshold(1, "1h", ban="1h")]),
    Policy("here", [Threshold(1, "1h", ban="1h", actions=["block_local"])]),
]
LONG_KEYS = ["k" * 65_536, "ü\ud800%~:{}\r\n\x00" * 4_000, "k" * 121]


def named(decision: Decision | None, rules: list[Policy] = RULES) -> list[tuple[str, str, int]]:
    """Return what a decision must have written down: where an action of the threshold is any worker's."""
    assert decision is not None
    policy = next(each for each in rules if each.name == decision.policy)
    if policy.mode == "shadow":
        return []
    return [
        (decision.key, decision.policy, index)
        for index in decision.tripped
        if delivered(policy.thresholds[index].actions)
    ]


def written(store: Store) -> list[tuple[str, str, int]]:
    return sorted((each.escalation.key, each.escalation.policy, each.escalation.threshold) for each in taken(store))


def test_an_escalation_is_written_exactly_where_an_action_is_named(store: Store) -> None:
    expected: list[tuple[str, str, int]] = []
    with hammer_on(store, RULES, clock=ManualClock(START)) as hammer:
        for key in ("a", "b", "c:{d}"):
            for policy in RULES:
                for _ in range(12):
                    assert hammer.peek(key, policy.name).key == key
                    expected += named(hammer.guard(key, policy.name))
                    expected += named(hammer.hit(key, policy.name))
                expected += named(hammer.hit(key, policy.name, 9))
        batch = [Hit(f"batch-{number}", policy.name, cost=9) for policy in RULES for number in range(20)]
        for decision in hammer.hit_many(batch):
            expected += named(decision)
        expected += named(hammer.guard("foe", "all", 9))
    assert {index for _, _, index in expected} == {0, 4, 6}
    assert written(store) == sorted(expected)


def test_an_entry_says_what_the_decision_said(store: Store) -> None:
    clock = ManualClock(START)
    with hammer_on(store, RULES, clock=clock) as hammer:
        decision = hammer.hit("k", "all", 9)
        (low, high) = taken(store)
    assert [each.escalation.threshold for each in (low, high)] == [4, 6]
    assert (low.names, high.names) == (("note", "also"), ("also",))
    told = low.escalation
    assert (told.verdict, told.origin, told.shadow, told.strikes, told.cost) == ("banned", "hit", False, 1, 9)
    assert (told.at, told.until) == (START / 1e6, decision.banned_until)
    assert (told.limit, told.period, told.reason) == (6, 3600.0, LEVELS[4].reason)
    assert told.id != high.escalation.id


def test_the_key_of_an_entry_is_whole_even_where_its_name_was_cut(store: Store) -> None:
    with hammer_on(store, [trap("note")]) as hammer:
        assert not any(hammer.hit(key, "trap") for key in LONG_KEYS)
        assert not any(hammer.hit_many([Hit("-" + key, "trap") for key in LONG_KEYS]))
    assert {each.escalation.key for each in taken(store)} == {*LONG_KEYS, *("-" + key for key in LONG_KEYS)}


def test_the_key_of_a_throttles_entry_is_whole_too(store: Store) -> None:
    with hammer_on(store, [Policy("p", [Threshold(1, "1h", actions=["note"])])]) as hammer:
        for key in LONG_KEYS:
            assert [bool(hammer.hit(key, "p")) for _ in range(3)] == [True, False, False]
    assert sorted(each.escalation.key for each in taken(store)) == sorted(LONG_KEYS)


def test_a_ban_by_hand_and_its_end_are_written_in_the_same_step(store: Store) -> None:
    with hammer_on(store, [*RULES, trap("note", "block_local")]) as hammer:
        for key in ("k", *LONG_KEYS):
            ban = hammer.ban(key, "trap", reason="spam \ud800\n")
            again = hammer.ban(key, "trap", "1m")
            lifted = hammer.unban(key, "trap")
            assert hammer.unban(key, "trap") is None
            first, second, third = sorted(taken(store), key=lambda each: each.place.entry)  # type: ignore[attr-defined]
            assert lifted is not None
            assert first.escalation.id == ban.id
            assert (third.escalation.id, third.escalation.verdict) == (lifted.id, "lifted")
            assert [each.escalation.key for each in (first, second, third)] == [key] * 3
            assert [each.escalation.origin for each in (first, second, third)] == ["manual"] * 3
            assert (first.escalation.reason, first.names, third.names) == ("spam \ud800\n", ("note",), ("note",))
            assert (first.escalation.until, second.escalation.until) == (ban.until, again.until)
        for policy in ("dark", "plain", "here"):
            hammer.ban("k", policy, "1h")
            hammer.unban("k", policy)
    assert taken(store) == []


def test_what_a_store_that_is_away_could_not_write_runs_where_it_was_decided(single: Standalone) -> None:
    act = note()
    with hammer_on(single, [trap("note")], actions={"note": act}) as hammer:
        single.kill()
        decision = hammer.hit("k", "trap")
        assert (decision.allowed, decision.degraded) == (False, True)
        until(lambda: bool(act.ran), "the action run")
        single.start()
        until(lambda: not hammer.hit("other", "trap").degraded, "the store back")
        until(lambda: "other" in [each.key for each in act.ran], "the other's action run")
    assert [each.key for each in act.ran].count("k") == 1


def test_a_stream_that_is_full_takes_no_more_and_counts_and_bans_go_on(single: Standalone) -> None:
    with hammer_on(single, [trap("note")]) as hammer:
        assert not hammer.hit("k", "trap")
        fill = "for n = 1, ARGV[1] - 2 do redis.call('XADD', KEYS[1], '*', 'id', n) end"
        single.ask("EVAL", fill, 1, names_of(single).escalations(0), 100_000)
        for key in ("last", "over", "over too"):
            assert hammer.hit(key, "trap").verdict == "banned"
        assert hammer.ban("by hand", "trap").until > 0
        assert len(list(hammer.bans())) == 5
    assert ask(single, 0, "XLEN", "escalations") == 100_000
    backend = RedisBackend(single.url)
    backlog = backend.dead_letters().backlog()
    backend.close()
    assert (backlog.waiting, backlog.dead, backlog.dropped) == (100_000, 0, 3)


def test_memory_that_is_full_lets_what_waits_be_delivered(single: Standalone) -> None:
    """No ban is made that could not be written down; what was written flows, and failures wait until there is room."""
    good, bad = note(), Act(then=OSError("no"), attempts=2)
    with hammer_on(single, [trap("good", "bad")]) as hammer:
        assert taken(single) == []  # A worker was there before.
        for number in range(20):
            hammer.hit(str(number), "trap")
        single.ask("CONFIG SET", "maxmemory-policy", "noeviction")
        single.ask("CONFIG SET", "maxmemory", 1)
        try:
            assert not hammer.hit("0", "trap")
            refused = hammer.hit("new", "trap")
            assert (refused.verdict, left_over(single)["escalations"]) == ("banned", 20)
            from delivery import working

            with working(single, {"good": good, "bad": bad}):
                until(lambda: len(good.ran) == 20, "all delivered")
                until(lambda: len(bad.calls) == 40, "all failed")
                assert left_over(single)["dead"] == 0
                single.ask("CONFIG SET", "maxmemory", 0)
                until(lambda: left_over(single) == {"escalations": 0, "dead": 20, "marks": 0}, "all dead")
        finally:
            single.ask("CONFIG SET", "maxmemory", 0)
    assert len(good.ran) == 20
