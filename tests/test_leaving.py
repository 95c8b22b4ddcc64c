"""The order in which records leave a full store, against a sorted list of all of them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from banhammer import BanHammer, Policy, Threshold
from banhammer.backends.memory import MemoryBackend
from banhammer.core import lapses_at, load
from banhammer.testing import ManualClock
from machine_rules import START

RULES = (
    Policy("api", [Threshold(10, "1h")]),
    Policy("login", [Threshold(3, "1h", ban=["1s", "10m"]), Threshold(4, "1h", ban="2h")], forgive_after="1h"),
    Policy("trap", [Threshold(3, "1h", ban=["1s", "10m"])], forgive_after="1h"),
    Policy("seen", [Threshold(100, "1s")], track=["1m"]),
)
MAX_KEYS = 4

events = st.one_of(
    st.tuples(
        st.just("hit"),
        st.sampled_from("abcd"),
        st.sampled_from(["api", "trap", "trap", "login", "seen"]),
        st.integers(1, 4),
    ),
    st.tuples(st.just("advance"), st.sampled_from(["100ms", "1s", "1s", "7m", "21m", "1h", "3h"])),
    st.tuples(
        st.sampled_from(["unban", "reset", "ban", "clear"]),
        st.sampled_from("abcd"),
        st.sampled_from(["api", "trap", "login"]),
    ),
)


class Store:
    """A hammer over a store of four records, and what an onlooker can tell of them."""

    def __init__(self) -> None:
        self.clock = ManualClock(START)
        self.backend = MemoryBackend(max_keys=MAX_KEYS)
        self.hammer = BanHammer(RULES, backend=self.backend, clock=self.clock)

    def play(self, verb: str, *given: Any) -> None:
        match verb:
            case "hit":
                self.hammer.hit(*given)
            case "advance":
                self.clock.advance(*given)
            case "unban":
                self.hammer.unban(*given)
            case "reset":
                self.hammer.reset(*given)
            case "clear":
                self.hammer.reset(*given, strikes=False)
            case "ban":
                self.hammer.ban(*given, "30m")

    def ranks(self) -> dict[tuple[str, str], tuple[int, float]]:
        """Return for each record how soon it should leave: the least first."""
        now = self.clock.now
        found = {}
        for policy in RULES:
            for key in self.backend._tables.get(policy.name, ()):
                record = load(policy, self.backend.read(key, policy, now=now).record, now)
                drained = max(record.tats, default=0)
                if now < record.banned_until:
                    rank = (3, record.banned_until)
                elif drained > now:
                    rank = (2, drained)
                else:
                    rank = (int(lapses_at(policy, record) > now), 0)
                found[key, policy.name] = rank
        return found


@given(st.lists(events, min_size=15, max_size=40))
def test_the_record_that_is_least_missed_leaves(history: list[tuple[Any, ...]]) -> None:
    store = Store()
    for event in history:
        before = store.ranks()
        evicted_before = store.backend.evicted_bans
        store.play(*event)
        gone = before.keys() - store.ranks().keys()
        if event[0] in ("reset", "advance"):
            continue
        assert len(store.backend) == len(store.ranks()) <= MAX_KEYS
        if not gone:
            continue
        assert len(before) == MAX_KEYS
        (left,) = gone
        assert before[left] == min(before.values())
        assert store.backend.evicted_bans - evicted_before == (before[left][0] == 3)


@given(st.lists(events, min_size=15, max_size=60))
def test_the_heaps_hold_a_way_to_every_record(history: list[tuple[Any, ...]]) -> None:
    store = Store()
    for event in history:
        store.play(*event)
    entries = {(key, name) for heap in store.backend._leaving._heaps for _, name, key in heap}
    assert store.ranks().keys() <= entries
