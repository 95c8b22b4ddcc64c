"""The front of every shared store: batches that stop, what is owed, flushes, and stores that answer with errors."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from banhammer import BanHammer, Escalation, Policy, Threshold
from banhammer.backends import shortcut
from banhammer.backends.shared import Charge, Front, Outcome, Talk
from banhammer.core import Reply
from banhammer.errors import BackendError, BackendTimeout
from banhammer.model import Hit, Record
from banhammer.testing import ManualClock
from fronted import KEY, SECOND, START, Fronted, World

OTHER = "198.51.100.7"
LEVELS = [Threshold(1, "1s"), Threshold(1, "1h", burst=50, ban="1h")]
POLICY = Policy("p", LEVELS, mode="enforce")


def verdicts(world: World, *keys: str, policy: str = "p") -> list[str | None]:
    found = world.hammer.hit_many([Hit(key, policy) for key in keys], stop=True)
    return [None if decision is None else decision.verdict for decision in found]


def denied(world: World, key: str = KEY) -> None:
    """Have the key's denial cached."""
    world.hit(key=key)
    assert not world.hit(key=key)


def owed_at_last(world: World) -> tuple[int, int] | None:
    owed = world.store.told[-1].owed
    return None if owed is None else (owed.late, owed.span)


def ended(talk: Talk, outcomes: Sequence[Outcome]) -> list[Reply | None]:
    """Send a talk its last outcomes and return its replies."""
    with pytest.raises(StopIteration) as done:
        talk.send(outcomes)
    found: list[Reply | None] = done.value.value
    return found


# What is known of a key


@pytest.mark.parametrize("cache", [False, True])
def test_an_admission_wakes_the_keeper_only_where_there_is_something_to_tend_to(cache: bool) -> None:
    """A ban that is known is not; a cached denial is, as a thread may not have been had when it came."""
    woken: list[str] = []
    front = Front(denial_cache=cache, share=1, wake=lambda: woken.append("woken"))
    of_key, of_other = Charge(Hit(KEY, "p"), POLICY), Charge(Hit(OTHER, "p"), POLICY)
    front.after(of_key, Reply("banned", START, Record((0, 0), 0, 1, START + SECOND, 1)), None)
    woken.clear()
    front.after(of_other, Reply("allowed", START, Record((START, START))), None)
    assert woken == ["woken"] * cache
    assert front.fallback.known_bans
    front.after(of_key, Reply("allowed", START + SECOND, Record((START, START))), None)
    assert not front.fallback.known_bans


def test_a_denial_is_not_cached_for_another_policy_of_the_name() -> None:
    """Two shells on one backend, by rules that differ in numbers only."""
    backend = Fronted()
    strict, lax = (
        BanHammer([Policy("p", [Threshold(1, "1h", burst=burst)])], backend=backend, clock=ManualClock(START))
        for burst in (1, 10)
    )
    assert [strict.hit(KEY, "p").verdict for _ in range(3)] == ["allowed", "throttled", "throttled"]
    assert backend.store.calls == 2
    assert lax.hit(KEY, "p")
    assert lax.hit_many([Hit(KEY, "p")])[0]
    assert backend.store.calls == 4


# The denial cache and clocks


def test_denials_are_cached_by_default_and_with_an_injected_clock_only_where_asked_for() -> None:
    for cache, clock, calls in (
        (None, None, 2),
        (None, ManualClock(), 4),
        (True, ManualClock(), 2),
        (False, None, 4),
        (False, ManualClock(), 4),
    ):
        backend = Fronted(denial_cache=cache)
        hammer = BanHammer([Policy("p", [Threshold(1, "1h")])], backend=backend, clock=clock)
        assert [hammer.hit(KEY, "p").verdict for _ in range(4)] == ["allowed", *["throttled"] * 3]
        assert backend.store.calls == calls


def test_a_cached_denial_tells_the_time_of_the_stores_own_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    here = ManualClock(START)
    monkeypatch.setattr(shortcut, "wall_clock", here)
    backend = Fronted(denial_cache=None)
    backend.store.ahead = 7_200 * SECOND
    hammer = BanHammer([Policy("p", [Threshold(1, "1h", ban="1h")])], backend=backend)
    hammer.hit(KEY, "p")
    banned = hammer.hit(KEY, "p")
    here.advance("700ms")
    for cached in (hammer.hit(KEY, "p"), hammer.hit_many([Hit(KEY, "p", cost=1)])[0]):
        assert cached is not None
        assert cached.banned_until == banned.banned_until == START / 1e6 + 3 * 3_600
        assert (banned.retry_after, cached.retry_after) == (3_600.0, 3_599.3)
    assert backend.store.calls == 2


# Batches that stop


def test_a_cached_denial_ends_a_batch_exactly_there_and_only_then_counts() -> None:
    world = World(POLICY)
    denied(world)
    assert verdicts(world, OTHER, KEY, "third") == ["allowed", "throttled", None]
    assert [charge.hit.key for charge in world.store.told[2:]] == [OTHER]
    assert verdicts(world, OTHER, KEY) == ["throttled", None]
    world.wait(SECOND)
    assert world.hit()
    assert owed_at_last(world) is None
    assert [charge.owed.late for charge in world.store.told if charge.owed and charge.hit.key == KEY] == [1]


def test_a_cached_denial_at_the_head_of_a_batch_asks_nothing() -> None:
    world = World(POLICY)
    denied(world)
    assert verdicts(world, KEY, OTHER) == ["throttled", None]
    assert world.calls == 2


def test_what_a_stopped_batch_did_not_ask_keeps_what_is_owed() -> None:
    world = World(POLICY)
    denied(world)
    assert not world.hit()
    world.clock.advance("1s")
    world.hit(key=OTHER)
    assert verdicts(world, OTHER, KEY) == ["throttled", None]
    world.clock.advance("1s")
    assert verdicts(world, OTHER, KEY) == ["allowed", "allowed"]
    assert owed_at_last(world) == (1, 2 * SECOND)


def test_a_key_that_comes_twice_in_a_batch_tells_what_is_owed_once() -> None:
    for stop in (False, True):
        world = World(Policy("p", [Threshold(2, "1s"), LEVELS[1]]))
        for _ in range(4):
            world.hit()
        world.clock.advance("1s")
        world.hammer.hit_many([Hit(KEY, "p")] * 2, stop=stop)
        assert [charge.owed and charge.owed.late for charge in world.store.told] == [None, None, None, 1, None]


def test_a_denial_in_shadow_mode_ends_no_batch() -> None:
    world = World(Policy("p", LEVELS, mode="shadow"))
    assert verdicts(world, KEY, KEY, OTHER) == ["allowed", "throttled", "allowed"]


def test_an_empty_batch_asks_nothing() -> None:
    world = World(POLICY)
    assert verdicts(world) == []
    assert world.calls == 0


@pytest.mark.parametrize(
    ("on_error", "expected"),
    [
        ("open", ["allowed", "allowed", "allowed", "throttled"]),
        ("local", ["allowed", "allowed", "allowed", "throttled"]),
        ("closed", ["allowed", "throttled", None, None]),
    ],
)
def test_a_batch_goes_on_behind_an_error_unless_the_policy_denies(on_error: str, expected: list[str | None]) -> None:
    world = World(Policy("p", LEVELS), Policy("q", LEVELS, on_error=on_error))  # type: ignore[arg-type]
    world.store.away = lambda charge: charge.policy.name == "q"
    batch = [Hit(KEY, "p"), Hit(KEY, "q"), Hit(OTHER, "p"), Hit(KEY, "p")]
    found = world.hammer.hit_many(batch, stop=True)
    assert [getattr(decision, "verdict", None) for decision in found] == expected
    assert [decision.degraded for decision in found if decision is not None][:2] == [False, True]
    assert [charge.hit.key for charge in world.store.told] == [KEY, OTHER, KEY][: 1 if on_error == "closed" else 3]


def test_a_call_that_failed_as_a_whole_is_decided_by_the_fallback_up_to_its_first_denial() -> None:
    front = Front(denial_cache=True, share=1)
    hits = [Hit(KEY, "p"), Hit(KEY, "p"), Hit(OTHER, "p")]
    talk = front.talk(hits, {"p": POLICY}, now=START, stop=True, peek=False)
    assert len(next(talk)) == 3
    replies = ended(talk, [BackendTimeout("late")] * 3)
    assert [reply and reply.verdict for reply in replies] == ["allowed", "throttled", None]
    assert front.fallback.reply(Hit(OTHER, "p"), POLICY, START, peek=True).verdict == "allowed"


def test_an_error_in_a_batch_that_does_not_stop_is_one_hits_own() -> None:
    world = World(Policy("p", [Threshold(1, "1h")], on_error="closed"))
    world.store.away = lambda charge: charge.hit.key == OTHER
    found = world.hammer.hit_many([Hit("a", "p"), Hit(OTHER, "p"), Hit("b", "p")])
    assert [(decision.verdict, decision.degraded) for decision in found if decision is not None] == [
        ("allowed", False),
        ("throttled", True),
        ("allowed", False),
    ]


# Stores that are away


def test_degraded_decisions_are_never_cached() -> None:
    world = World(Policy("p", LEVELS, on_error="closed"))
    world.store.away = lambda charge: True
    assert [world.hit().degraded for _ in range(4)] == [True] * 4
    assert world.calls == 4
    assert not world.backends[0].front.pending


def test_a_denial_of_a_store_that_could_not_write_is_not_cached() -> None:
    front = Front(denial_cache=True, share=1)
    front.shortcut(POLICY, None, lambda *_: None)
    full = Reply("throttled", START, Record((START + SECOND, 0)), counted=False)
    full.degraded = True
    talk = front.talk([Hit(KEY, "p")], {"p": POLICY}, now=None, stop=False, peek=False)
    next(talk)
    assert ended(talk, [full]) == [full]
    assert not front.pending


def test_what_was_owed_to_a_call_of_unknown_outcome_is_not_told_again() -> None:
    world = World(POLICY)
    denied(world)
    assert not world.hit()
    world.clock.advance("1s")
    world.store.away = lambda charge: True
    assert world.hit().degraded
    world.store.away = lambda charge: False
    world.wait(3 * SECOND)
    assert world.hit()
    assert not any(charge.owed for charge in world.store.told)


def test_a_peek_at_a_store_that_is_away_charges_nothing_here() -> None:
    world = World(Policy("p", [Threshold(1, "1h")]))
    world.store.away = lambda charge: True
    assert [world.hammer.peek(KEY, "p").verdict for _ in range(3)] == ["allowed"] * 3
    assert [world.hit().verdict for _ in range(2)] == ["allowed", "throttled"]


# Flushes


def test_a_ban_that_a_flush_trips_escalates_and_is_answered_here() -> None:
    raised: list[Escalation] = []
    levels = [Threshold(1, "1s"), Threshold(1, "1h", burst=10, ban="1h", actions=["note"])]
    world = World(Policy("p", levels), processes=2, actions={"note": raised.append})
    for process in (0, 0, 1, *[0] * 5, *[1] * 5):
        world.hit(process=process)
    assert world.calls == 3
    world.wait(SECOND)
    assert all(hammer.drain(5) for hammer in world.hammers)
    assert [(found.verdict, found.threshold, found.cost, found.origin) for found in raised] == [("banned", 1, 5, "hit")]
    calls = world.calls
    assert world.hit(process=1).verdict == "banned"
    assert world.calls == calls


def test_a_flush_tells_nothing_that_no_threshold_counts() -> None:
    for levels in ([Threshold(1, "5s")], [Threshold(1, "1h", ban="1h")]):
        world = World(Policy("p", levels))
        for _ in range(9):
            world.hit()
        world.wait(3 * SECOND)
        assert world.calls == 2


def test_a_flush_that_failed_is_not_repeated() -> None:
    world = World(POLICY)
    denied(world)
    assert not world.hit()
    world.store.away = lambda charge: True
    world.wait(SECOND)
    assert world.calls == 3
    world.wait(2 * SECOND)
    assert world.calls == 3


def test_nothing_is_pending_once_all_is_told_and_every_entry_ended() -> None:
    world = World(POLICY)
    front = world.backends[0].front
    denied(world)
    assert not world.hit()
    assert front.pending
    world.wait(2 * SECOND)
    assert not front.pending


def test_denials_that_no_shell_watches_keep_no_keeper_awake() -> None:
    backend = Fronted(denial_cache=True)
    for _ in range(2):
        backend.evaluate([Hit(KEY, "p")], {"p": POLICY}, now=START)
    assert not backend.front.pending


# Calls that overlap


def asked(front: Front, now: ManualClock, *, guard: bool = False) -> tuple[Talk, list[Charge]]:
    talk = front.talk([Hit(KEY, "p", guard=guard)], {"p": POLICY}, now=now, stop=False, peek=False)
    return talk, next(talk)


def test_what_is_owed_is_told_by_one_of_two_calls_and_comes_back_from_where_it_was_not_counted() -> None:
    world = World(POLICY)
    denied(world)
    assert not world.hit()
    world.clock.advance("1s")
    front, clock = world.backends[0].front, world.clock
    guard, guarded = asked(front, clock, guard=True)
    hit, charged = asked(front, clock)
    assert [charge.owed and charge.owed.late for charge in guarded + charged] == [1, None]
    clock.advance("30ms")
    ended(guard, [Reply("allowed", clock.now, Record((0, 0)), counted=False)])
    _, last = asked(front, clock)
    assert [(charge.owed.late, charge.owed.span) for charge in last if charge.owed] == [(1, 1_030_000)]
    ended(hit, [Reply("throttled", clock.now, Record((clock.now + SECOND, 0)))])


def test_what_came_back_is_not_told_under_another_ban() -> None:
    world = World(POLICY)
    clock, front = world.clock, world.backends[0].front
    world.hammer.ban(KEY, "p", duration="1s", threshold=1)
    assert [world.hit().verdict for _ in range(3)] == ["banned"] * 3
    clock.advance("1s")
    guard, guarded = asked(front, clock, guard=True)
    hit, _ = asked(front, clock)
    assert [charge.owed and charge.owed.level for charge in guarded] == [1]
    ended(hit, [Reply("throttled", clock.now, Record((clock.now + SECOND, 0)))])
    ended(guard, [Reply("allowed", clock.now, Record((0, 0)), counted=False)])
    clock.advance("1s")
    _, last = asked(front, clock)
    assert [charge.owed for charge in last] == [None]


def test_an_error_is_an_outcome_and_reaches_nobody() -> None:
    front = Front(denial_cache=None, share=1)
    talk, _ = asked(front, ManualClock(START))
    (reply,) = ended(talk, [BackendError("away")])
    assert reply is not None
    assert (reply.verdict, reply.degraded) == ("allowed", True)
