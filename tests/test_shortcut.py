"""The memory store's short cuts answer, and leave behind, exactly what the core would."""

from __future__ import annotations

import dis
import gc
from types import CodeType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from banhammer import BanHammer, Decision, Hit, Policy, Threshold
from banhammer.backends import shortcut
from banhammer.backends.memory import MemoryBackend
from banhammer.core import FRESH, Reply, ban, evaluate, lift, load
from banhammer.kinds import decide
from banhammer.model import Record
from banhammer.testing import ManualClock
from machine_rules import START, costs, policies, steps, steps_back

KEY = "203.0.113.9"

moves = st.tuples(
    st.one_of(steps, steps, steps_back),
    st.sampled_from(["hit", "hit", "hit", "hit", "guard", "many", "ban", "unban"]),
    st.one_of(st.just(1), st.just(1), costs),
)
histories = st.lists(moves, min_size=4, max_size=25)
A_FLAG_LAPSES_DURING_A_BAN = (
    Policy("p", [Threshold(100, "1ms", burst=1), Threshold(100, "1ms", burst=2, ban="1h")]),
    [(0, "hit", 1), (0, "hit", 1), (0, "hit", 1), (50, "hit", 1), (-45, "unban", 1), (0, "hit", 1)],
)
A_FLAG_LAPSES_DURING_A_BAN_BY_HAND = (
    Policy("p", [Threshold(100, "1ms", burst=1)]),
    [(0, "hit", 1), (0, "hit", 1), (0, "ban", 1), (50, "hit", 1), (-45, "unban", 1), (0, "hit", 1)],
)


class Plain:
    """The same store without any short cut: one record, decided by the core."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.record: Record = FRESH

    def decided(self, hit: Hit, now: int) -> Decision:
        reply: Reply = evaluate(self.policy, self.record, hit.cost, now, guard=hit.guard)
        if reply.counted:
            self.record = reply.record
        return decide(self.policy, hit, reply, shadow=False)


def play(hammer: BanHammer, plain: Plain, verb: str, cost: int, now: int) -> None:
    match verb:
        case "ban":
            hammer.ban(KEY, "p", "90us")
            index = max(0, next((i for i, level in enumerate(plain.policy.thresholds) if level.ban), 0))
            plain.record = ban(plain.policy, plain.record, index, 90, now)
        case "unban":
            if hammer.unban(KEY, "p"):
                plain.record = lift(plain.policy, plain.record, now)
        case "many":
            batch = [Hit(KEY, "p", cost=cost), Hit(KEY, "p"), Hit(KEY, "p")]
            assert list(hammer.hit_many(batch)) == [plain.decided(hit, now) for hit in batch]
        case _:
            decision = getattr(hammer, verb)(KEY, "p", cost)
            assert decision == plain.decided(Hit(KEY, "p", cost=cost, guard=verb == "guard"), now)


@given(policies("p", mode=None), histories)
@example(*A_FLAG_LAPSES_DURING_A_BAN)
@example(*A_FLAG_LAPSES_DURING_A_BAN_BY_HAND)
def test_a_short_cut_answers_and_leaves_what_the_core_would(policy: Policy, history: list[Any]) -> None:
    clock, store = ManualClock(START), MemoryBackend()
    hammer = BanHammer([policy], backend=store, clock=clock, actions={"note": lambda _: None})
    plain = Plain(policy)
    for step, verb, cost in history:
        clock.move_to(clock.now + step)
        play(hammer, plain, verb, cost, clock.now)
        kept = store.read(KEY, policy, now=clock.now).record
        assert kept == load(policy, plain.record, clock.now)
    hammer.close()


@pytest.mark.parametrize("before", [1, 2, 3, 4])
@pytest.mark.parametrize("after", [1, 2, 3, 4])
@pytest.mark.parametrize("batched", [False, True])
def test_a_calm_record_of_a_longer_or_shorter_policy_is_read_by_index(before: int, after: int, batched: bool) -> None:
    """G16: a changed policy never raises."""
    store, clock = MemoryBackend(), ManualClock(START)
    old, new = (
        BanHammer([Policy("p", [Threshold(10, "10s")] * count)], backend=store, clock=clock)
        for count in (before, after)
    )
    assert old.hit(KEY, "p")
    decision = new.hit_many([Hit(KEY, "p")])[0] if batched else new.hit(KEY, "p")
    assert decision
    assert new.status(KEY, "p").remaining == tuple(8 if index < before else 9 for index in range(after))
    assert new.guard(KEY, "p")


def test_rates_that_are_tracked_no_more_end_with_the_next_hit_of_a_banned_key() -> None:
    store, clock = MemoryBackend(), ManualClock()
    levels = [Threshold(1, "1h", ban="1h")]
    tracked, untracked = [
        BanHammer([Policy("p", levels, track=track)], backend=store, clock=clock) for track in (["1m"], [])
    ]
    assert [tracked.hit(KEY, "p").verdict for _ in range(2)] == ["allowed", "banned"]
    assert tracked.status(KEY, "p").rates == {"1m": 2}
    assert untracked.hit(KEY, "p").verdict == "banned"
    assert tracked.status(KEY, "p").rates == {"1m": 0}


@given(st.lists(st.sampled_from("abc"), max_size=12), st.integers(1, 4), st.lists(st.sampled_from("abc"), max_size=5))
def test_a_batch_decides_as_its_hits_one_by_one(keys: list[str], burst: int, known: list[str]) -> None:
    clock = ManualClock(START)
    policy = Policy("p", [Threshold(100, "1ms", burst=burst)])
    batched, single = (BanHammer([policy], clock=clock) for _ in range(2))
    for hammer in (batched, single):
        for key in known:
            hammer.hit(key, "p")
    clock.move_to(START + 5)
    assert list(batched.hit_many([Hit(key, "p") for key in keys])) == [single.hit(key, "p") for key in keys]
    assert list(batched.status_all()) == list(single.status_all())


@pytest.mark.parametrize("key", ["", None, 7, b"a", ["a"], {"a": 1}])
def test_a_key_that_is_no_key_is_a_value_error_on_every_way_in(key: Any) -> None:
    hammer = BanHammer([Policy("p", [Threshold(10, "1h")])])
    hammer.hit("known", "p")
    for call in (hammer.hit, hammer.guard, hammer.peek, hammer.ban, hammer.unban, hammer.reset, hammer.status):
        with pytest.raises(ValueError, match="key: "):
            call(key, "p")
    for batch in ([Hit(key, "p")], [Hit("known", "p"), Hit(key, "p")]):
        for stop in (False, True):
            with pytest.raises(ValueError, match="key: "):
                hammer.hit_many(batch, stop)
    assert hammer.status("known", "p").remaining == (9,)


def successors(code: CodeType) -> dict[int, list[int]]:
    """Return for each instruction, by its place, those that may run next."""
    instructions = list(dis.get_instructions(code))
    place = {each.offset: index for index, each in enumerate(instructions)}
    found: dict[int, list[int]] = {}
    for index, each in enumerate(instructions):
        ends = each.opname in ("RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE")
        following = [] if ends or each.opname in ("JUMP_FORWARD", "JUMP_BACKWARD") else [index + 1]
        if each.opcode in dis.hasjrel or each.opcode in dis.hasjabs:
            following.append(place[each.argval])
        found[index] = [after for after in following if after < len(instructions)]
    return found


def on_the_way(code: CodeType, store: int) -> set[str]:
    """Return what may run between the last look at the record and the given store of the one that replaces it."""
    names = [each.opname + ("[]" if each.argrepr == "[]" else "") for each in dis.get_instructions(code)]
    before: dict[int, list[int]] = {index: [] for index in range(len(names))}
    for index, following in successors(code).items():
        for after in following:
            before[after].append(index)
    seen, todo = {store}, [store]
    while todo:
        for index in before[todo.pop()]:
            looks = names[index] in ("BINARY_SUBSCR", "BINARY_OP[]")
            if not looks and index not in seen:
                seen.add(index)
                todo.append(index)
    return {names[index] for index in seen}


def stores(code: CodeType) -> list[int]:
    return [index for index, each in enumerate(dis.get_instructions(code)) if each.opname == "STORE_SUBSCR"]


def inner(function: Any) -> CodeType:
    return next(each for each in function.__code__.co_consts if isinstance(each, CodeType) and each.co_name == "hit")


SWAPS = {
    "one": inner(shortcut._hits_one),
    "three": inner(shortcut._hits_three),
    "all": inner(shortcut._hits_all),
    "batch": shortcut.hit_batch.__code__,
    "decide": MemoryBackend._decide.__code__,
}


@pytest.mark.parametrize("name", SWAPS)
def test_nothing_can_come_between_the_last_look_at_a_record_and_its_replacement(name: str) -> None:
    """Threads switch only at calls, backward jumps and function starts; building a tuple may collect garbage."""
    code = SWAPS[name]
    for store in stores(code)[-1:] if name == "decide" else stores(code):
        between = on_the_way(code, store)
        assert "STORE_SUBSCR" in between
        assert not [each for each in between if "CALL" in each or "BACKWARD" in each or "BUILD" in each]
        assert not between & {"RESUME", "SEND", "YIELD_VALUE", "GET_ITER", "FOR_ITER", "LIST_APPEND"}


class Litter:
    """Cyclic garbage whose finalizer hits, as one that logs or closes something may."""

    def __init__(self, hammer: BanHammer, admitted: list[int]) -> None:
        self.hammer = hammer
        self.admitted = admitted
        self.itself = self

    def __del__(self) -> None:
        self.admitted[0] += self.hammer.hit(KEY, "p").allowed


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_hit_by_a_finalizer_amid_a_hit_is_not_lost(count: int) -> None:
    levels = [Threshold(10_000 * (each + 1), "1d") for each in range(count)]
    hammer = BanHammer([Policy("p", levels)], clock=ManualClock(START))
    admitted = [0]
    before = gc.get_threshold()
    gc.collect()
    gc.set_threshold(1)
    try:
        kept = []
        for _ in range(400):
            Litter(hammer, admitted)
            decision = hammer.hit(KEY, "p")
            admitted[0] += decision.allowed
            kept.append((decision, decision, decision))  # So that tuples do not come from the free list.
    finally:
        gc.set_threshold(*before)
        gc.collect()
    assert hammer.status(KEY, "p").remaining[0] == 10_000 - admitted[0]
