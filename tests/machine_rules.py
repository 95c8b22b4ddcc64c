"""The policies, costs and steps of time that the machine and the properties draw from.

Intervals of a few microseconds make bursts, bans and their ends meet often: that is where mistakes live.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from banhammer import Hit
from banhammer.core import FRESH, evaluate
from banhammer.decision import Decision
from banhammer.kinds import decide
from banhammer.model import MAX_COST, Policy, Record, Threshold

KEY = "203.0.113.9"
START = 1_700_000_000_000_000

throttles = st.builds(
    lambda limit, burst: Threshold(limit, "1ms", burst=burst, actions=["note"]),
    st.sampled_from([37, 50, 100]),
    st.integers(1, 5),
)
rungs = st.sampled_from(["3us", "20us", "61us", "400us", "2s", "forever"])
ban_thresholds = st.builds(
    lambda limit, burst, ban: Threshold(limit, "1ms", burst=burst, ban=ban, actions=["note"]),
    st.sampled_from([37, 50, 100]),
    st.integers(0, 7),
    st.lists(rungs, min_size=1, max_size=3),
)
thresholds = st.lists(st.one_of(throttles, ban_thresholds), min_size=1, max_size=3)
forgiving = st.sampled_from(["5us", "90us", "3s"])
costs = st.one_of(st.just(1), st.just(1), st.integers(1, 9), st.just(MAX_COST))

wide_thresholds = st.builds(
    lambda limit, period, burst, ban: Threshold(limit, period, burst=burst, ban=ban, actions=["note"]),
    st.sampled_from([7, 37, 100]),
    st.sampled_from(["1ms", "1s", "30s"]),
    st.integers(1, 8),
    st.one_of(st.none(), st.lists(st.sampled_from(["20us", "400us", "2s", "1m", "forever"]), min_size=1, max_size=3)),
)
"""Of periods so different that most of a record lapses long before the rest."""


@st.composite
def policies(
    draw: st.DrawFn, name: str, levels: st.SearchStrategy[list[Threshold]] = thresholds, **fixed: Any
) -> Policy:
    """Draw a policy of the given name; what `fixed` gives is not drawn."""
    drawn = {
        "track": st.sampled_from([(), (), ("1ms",), ("12s", "1200us")]),
        "forgive_after": forgiving,
        "mode": st.sampled_from([None, None, "shadow"]),
    }
    settings = {field: draw(values) for field, values in drawn.items() if field not in fixed}
    return Policy(name, draw(levels), **settings, **fixed)


steps = st.one_of(
    st.just(0),
    st.integers(0, 70),
    st.integers(0, 1_500),
    st.sampled_from([1_000_000, 1_000_001, 2_000_000, 3_000_000]),
)
steps_back = st.one_of(st.integers(-200, -1), st.sampled_from([-2_000, -1_000_050, -1_000_001, -4_000_000]))

gaps = st.one_of(st.just(0), st.integers(0, 60), st.integers(0, 700))
histories = st.lists(st.tuples(gaps, costs, st.sampled_from(["hit", "hit", "hit", "guard"])), max_size=14)
any_policy = policies("p", mode=None)
throttling = st.builds(lambda levels: Policy("p", levels), st.lists(throttles, min_size=1, max_size=3))


def played(policy: Policy, history: list[tuple[int, int, str]]) -> tuple[Record, int]:
    """Return the record that a history leaves, and the time of its last event."""
    record, now = FRESH, START
    for gap, cost, verb in history:
        now += gap
        reply = evaluate(policy, record, cost, now, guard=verb == "guard")
        record = reply.record if reply.counted else record
    return record, now


def decided(policy: Policy, record: Record, cost: int, now: int) -> Decision:
    return decide(policy, Hit(KEY, "p", cost=cost), evaluate(policy, record, cost, now), shadow=False)
