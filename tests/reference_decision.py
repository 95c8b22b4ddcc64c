"""What the reference says of a record: literal readings of the definitions, over plain dicts of integers.

A state is `{"meters": {index: {"tat", "over"}}, "strikes", "banned_until", "level", "hits"}`, its times in
microseconds. `level` has a meaning only while a ban is in force; `hits` are the times of all hits, where the
policy tracks.
"""

from __future__ import annotations

import math
from typing import Any

from banhammer.durations import FOREVER
from banhammer.model import Policy, Threshold

State = dict[str, Any]
Answer = dict[str, Any]
Escalations = list[tuple[int, str]]


def seconds(micros: float) -> float:
    return micros / 1e6


def is_banned(state: State, now: int) -> bool:
    """Tell whether a ban is in force; at `banned_until` itself it has lapsed (step 2)."""
    return bool(state["banned_until"] == FOREVER or now < state["banned_until"])


def new_tat(meter: State, threshold: Threshold, cost: int, now: int) -> int:
    return int(max(meter["tat"], now) + cost * threshold.interval)


def goes_over(meter: State, threshold: Threshold, cost: int, now: int) -> bool:
    return cost > threshold.burst or new_tat(meter, threshold, cost, now) - now > threshold.tolerance


def wait_for(meter: State, threshold: Threshold, cost: int, now: int) -> float:
    """Return the microseconds until `cost` fits; negative where it fits with room to spare."""
    if cost > threshold.burst:
        return math.inf
    return new_tat(meter, threshold, cost, now) - threshold.tolerance - now


def ban_rest(state: State, now: int) -> float:
    if not is_banned(state, now):
        return 0
    return math.inf if state["banned_until"] == FOREVER else int(state["banned_until"] - now)


def banned_until(state: State, now: int) -> float | None:
    if not is_banned(state, now):
        return None
    return math.inf if state["banned_until"] == FOREVER else float(state["banned_until"] / 1e6)


def room_left(meter: State, threshold: Threshold, now: int) -> int:
    return int((threshold.tolerance - max(meter["tat"] - now, 0)) // threshold.interval)


def empty_after(state: State, now: int) -> float:
    drains: list[float] = [meter["tat"] - now for meter in state["meters"].values()]
    return float(max([0, ban_rest(state, now), *drains]))


def count_rates(policy: Policy, state: State, now: int) -> dict[str, int] | None:
    """Count past hits in the slots `current - 11 .. current` of each window.

    The list of all hits is searched, which is the definition for a clock that does not step back. After a
    step back, hits that lie in slots ahead of the clock are not counted until it reaches them again; a ring,
    which has one place for every twelfth slot, may have forgotten some of the others.
    """
    if not policy.track:
        return None
    rates = {}
    for spelling, window in zip(policy.track, policy.windows, strict=True):
        width = window // 12
        current = now // width
        rates[spelling] = sum(1 for at in state["hits"] if current - 11 <= at // width <= current)
    return rates


def ladder(threshold: Threshold, strikes: int) -> int:
    """Return the rung at `min(max(strikes, 1), rungs)`, the first being 1 (step 4)."""
    return threshold.ban[min(max(strikes, 1), len(threshold.ban)) - 1]


def end_of(now: int, duration: int) -> int:
    return FOREVER if duration == FOREVER else now + duration


def decide(
    key: str,
    policy: Policy,
    state: State,
    cost: int,
    now: int,
    verdict: str,
    escalations: Escalations,
    shadow: bool,
) -> Answer:
    """Say what a decision says, of the state after the hit."""
    thresholds = policy.thresholds
    meters = state["meters"]
    rooms = [room_left(meters[i], each, now) for i, each in enumerate(thresholds)]
    waits = [wait_for(meters[i], each, cost, now) for i, each in enumerate(thresholds)]
    if verdict == "allowed":
        index = rooms.index(min(rooms))
    elif verdict == "banned":
        index = state["level"]
    else:
        over = [i for i, each in enumerate(thresholds) if not each.ban and waits[i] > 0]
        longest = max(waits[i] for i in over)
        index = next(i for i in over if waits[i] == longest)
    return {
        "allowed": shadow or verdict == "allowed",
        "verdict": verdict,
        "key": key,
        "policy": policy.name,
        "strikes": state["strikes"],
        "banned_until": banned_until(state, now),
        "remaining": 0 if is_banned(state, now) else min(rooms),
        "threshold": index,
        "limit": thresholds[index].limit,
        "retry_after": 0.0 if verdict == "allowed" else seconds(max([ban_rest(state, now), *waits])),
        "reset_after": seconds(empty_after(state, now)),
        "rates": count_rates(policy, state, now),
        "listed": None,
        "shadow": shadow,
        "degraded": False,
        "escalations": escalations,
    }


def decide_listed(key: str, policy: Policy, listed: str, shadow: bool) -> Answer:
    """Decide by the lists alone (step 1)."""
    denied = listed == "deny"
    return {
        "allowed": shadow or not denied,
        "verdict": "banned" if denied else "allowed",
        "key": key,
        "policy": policy.name,
        "strikes": 0,
        "banned_until": math.inf if denied else None,
        "remaining": None,
        "threshold": None,
        "limit": None,
        "retry_after": math.inf if denied else 0.0,
        "reset_after": math.inf if denied else 0.0,
        "rates": None,
        "listed": listed,
        "shadow": shadow,
        "degraded": False,
        "escalations": [],
    }
