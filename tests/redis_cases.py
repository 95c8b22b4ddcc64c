"""Random policies, records and charges, within every bound and on every edge; and what `core` makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

from banhammer import Hit, Policy, Threshold
from banhammer.backends.packing import pack_record, sound_record
from banhammer.backends.redis.wire import COUNTED, VERDICTS
from banhammer.backends.shared import Charge
from banhammer.core import FRESH, Owed, evaluate, lapses_at
from banhammer.durations import FOREVER, SECOND
from banhammer.model import (
    MAX_COST,
    MAX_PERIOD,
    MAX_RATE,
    MAX_SPAN,
    MAX_STRIKES,
    MIN_PERIOD,
    RING,
    Record,
    Ring,
)

WORD = 2**32 - 1
"""The most that 4 bytes hold."""
WOULD = 2
"""What a peek tells of a hit that would count."""
WINDOWS = (1_000, 12_000, 59_999, 60 * SECOND, 3600 * SECOND, MAX_PERIOD)


class Answer(NamedTuple):
    """A reply as it travels, with what must be stored afterwards: `None` where nothing is written."""

    packed: bytes
    written: bytes | None
    lapses: int


class Model:
    """The records of one call's keys, decided by `core` alone."""

    def __init__(self, stored: dict[str, bytes]) -> None:
        self.stored = dict(stored)
        self.damaged = 0

    def answers(
        self, charges: Sequence[Charge], now: int, *, stop: bool = False, full: bool = False
    ) -> Iterator[Answer]:
        """Yield the answer to each charge, with `stop` up to the first denial of an enforced policy."""
        for charge in charges:
            answer = self._answer(charge, now, peek=charge.peek or full)
            yield answer
            if stop and answer.packed[0] and charge.policy.mode != "shadow":
                return

    def _answer(self, charge: Charge, now: int, *, peek: bool) -> Answer:
        hit, policy = charge.hit, charge.policy
        raw = self.stored.get(hit.key)
        record = None if raw is None else sound_record(raw)
        self.damaged += raw is not None and record is None
        reply = evaluate(policy, record or FRESH, hit.cost, now, guard=hit.guard, owed=charge.owed)
        packed = pack_record(reply.record)
        lapses = lapses_at(policy, reply.record)
        counted = reply.counted * (WOULD if peek else COUNTED)
        head = bytes([VERDICTS.index(reply.verdict), counted, len(reply.tripped), *reply.tripped])
        kept = peek or not reply.counted or packed == raw or (record is None and lapses == 0)
        if not kept:
            self.stored[hit.key] = packed
        return Answer(head + packed, None if kept else packed, lapses)


def log_uniform(rng: Random, low: int, high: int) -> int:
    """Return an integer from `low` (at least 1) to `high`, every magnitude as likely; the ends more often."""
    if rng.random() < 0.1:
        return rng.choice((low, high))
    return min(high, max(low, int(low * (high / low) ** rng.random())))


def random_threshold(rng: Random, *, ban: bool) -> Threshold:
    period = log_uniform(rng, MIN_PERIOD, MAX_PERIOD)
    limit = log_uniform(rng, 1, max(1, MAX_RATE * period // SECOND))
    interval = -(-period // limit)
    most = MAX_SPAN // interval
    burst = rng.choice((1, 2, 3, rng.randint(1, min(most, 12)), log_uniform(rng, 1, most)))
    if not ban:
        return Threshold(limit, f"{period}us", burst=min(burst, most))
    if rng.random() < 0.15:
        burst = 0
    rungs = [f"{log_uniform(rng, 1, MAX_SPAN)}us" for _ in range(rng.randint(1, 4))]
    if rng.random() < 0.3:
        rungs.append("forever")
    return Threshold(limit, f"{period}us", burst=min(burst, most), ban=rungs)


def random_policy(rng: Random, name: str) -> Policy:
    windows = rng.sample(WINDOWS, rng.choice((0, 0, 0, 1, 2, 3)))
    return Policy(
        name,
        [random_threshold(rng, ban=rng.random() < 0.5) for _ in range(rng.randint(1, 4))],
        track=[f"{window}us" for window in windows],
        forgive_after=f"{log_uniform(rng, 1, MAX_SPAN)}us",
        mode=rng.choice(("enforce", "enforce", "enforce", "shadow")),
    )


def _near(rng: Random, at: int, reach: int) -> int:
    """Return a time about `at`: exactly it, a microsecond or a second beside it, or within `reach`."""
    beside = rng.choice((0, 0, 1, -1, SECOND, SECOND + 1, -SECOND, rng.randint(-reach, reach)))
    return min(max(at + beside, 0), FOREVER)


def _random_tat(rng: Random, threshold: Threshold, now: int) -> int:
    tolerance = threshold.tolerance
    kind = rng.random()
    if kind < 0.15:
        return 0
    if kind < 0.3:
        return _near(rng, now, threshold.interval)
    if kind < 0.55:
        return _near(rng, now + tolerance, max(tolerance, 1))
    if kind < 0.75:
        return min(now + max(tolerance - rng.randint(0, 3) * threshold.interval, 0), FOREVER)
    if kind < 0.95:
        return now + rng.randint(0, tolerance)
    return rng.randint(0, FOREVER)


def _random_ring(rng: Random, window: int, now: int) -> Ring:
    slot = now // (window // RING)
    newest = max(0, rng.choice((slot, slot - 1, slot + 1, slot + rng.randint(-14, 14), rng.randint(0, 2 * slot + 1))))
    return (window, newest, tuple(rng.choice((0, 0, 1, 7, WORD - SECOND)) for _ in range(RING)))


def random_record(rng: Random, policy: Policy, now: int) -> Record:
    """Return a record that is in range, and about what the policy would keep."""
    levels = list(policy.thresholds)
    if rng.random() < 0.2:
        levels = [rng.choice(levels) for _ in range(rng.randint(1, 6))]
    windows = list(policy.windows)
    if rng.random() < 0.2:
        windows = rng.sample(WINDOWS, rng.randint(0, 3))
    banned_until, strikes, level = 0, 0, 0
    if rng.random() < 0.6:
        ends = (now, now - policy.forgive_after, now + rng.randint(0, MAX_SPAN), FOREVER, rng.randint(0, FOREVER))
        banned_until = _near(rng, min(max(rng.choice(ends), 0), FOREVER), policy.forgive_after)
        strikes = rng.choice((1, 2, 3, 4, 7, MAX_STRIKES, MAX_STRIKES - 1))
        level = rng.choice((0, rng.randrange(len(levels)), 31))
    return Record(
        tuple(min(_random_tat(rng, each, now), FOREVER) for each in levels),
        over=rng.choice((0, 0, rng.randrange(2 ** len(levels)), rng.randint(0, WORD))),
        strikes=strikes,
        banned_until=banned_until,
        level=level,
        rings=tuple(_random_ring(rng, window, now) for window in windows),
    )


def random_charge(rng: Random, key: str, policy: Policy, now: int) -> Charge:
    """Return a hit, a guard, a peek, or a flush; what is owed never began before the epoch."""
    cost = 1
    if rng.random() < 0.3:
        burst = rng.choice(policy.thresholds).burst
        cost = min(max(rng.choice((burst, burst + 1, burst - 1, 2, 5, MAX_COST)), 1), MAX_COST)
    owed = None
    if rng.random() < 0.4:
        late = rng.choice((1, 2, rng.randint(1, 50), log_uniform(rng, 1, WORD)))
        span = rng.choice((0, 1, rng.randint(0, SECOND), rng.randint(0, WORD)))
        owed = Owed(late, min(span, now), rng.randint(-1, len(policy.thresholds)))
        cost = 0 if rng.random() < 0.3 else cost
    mode = rng.choice(("hit", "hit", "hit", "guard", "peek"))
    return Charge(Hit(key, policy.name, cost=cost, guard=mode == "guard"), policy, peek=mode == "peek", owed=owed)
