"""Headroom and what-if: how full each key's meters got, and what other limits would have denied.

The what-if is one threshold alone with limit and burst halved, doubled or quadrupled, asked with the same hits;
it follows "Semantics" for a policy of one threshold, with integers only.
"""

from __future__ import annotations

from typing import Final

from banhammer.decision import Decision
from banhammer.durations import FOREVER
from banhammer.model import Policy, Threshold
from banhammer.replay.bounded import MOST_KEYS, Table
from banhammer.replay.summary import BINS, Headroom, WhatIf

_FINE: Final = 50
"""Steps of a bin in which peaks are counted, so that a percentile is exact to a thousandth."""


_SCALES: Final = ((1, 2), (2, 1), (4, 1), (1, 1))
"""Factors of the limit as fractions, in the order of the fields of `WhatIf`."""


class _Scaled:
    """One threshold with its limit and burst scaled, and how many hits it denied."""

    __slots__ = ("burst", "denied", "interval", "policy", "threshold", "tolerance")

    def __init__(self, policy: Policy, threshold: Threshold, numerator: int, denominator: int) -> None:
        self.policy = policy
        self.threshold = threshold
        least = min(threshold.burst, 1)
        self.burst = max(threshold.burst * numerator // denominator, least)
        self.interval = -(-threshold.period * denominator // (threshold.limit * numerator))
        self.tolerance = self.interval * self.burst
        self.denied = 0


class _Key:
    """One key under one policy: its peaks, the thresholds that denied it (bits), and its scaled meters."""

    __slots__ = ("bans", "denied", "peaks", "tats")

    def __init__(self, thresholds: int) -> None:
        self.peaks = [0.0] * thresholds
        self.denied = 0
        self.tats = [0] * (len(_SCALES) * thresholds)
        self.bans: dict[int, tuple[int, int]] | None = None
        """By scaled meter: until when it is banned, and its strikes."""


class PolicyMeters:
    """The meters of all keys under one policy, of which the quiet ones are folded into histograms."""

    def __init__(self, policy: Policy, room: int = MOST_KEYS) -> None:
        self.keys = 0
        self._policy = policy
        self._size = len(policy.thresholds)
        self._bans_only = all(threshold.ban for threshold in policy.thresholds)
        self._scaled = [_Scaled(policy, threshold, *scale) for threshold in policy.thresholds for scale in _SCALES]
        self._charges = [(scaled.interval, scaled.tolerance) for scaled in self._scaled]
        self._table: Table[_Key] = Table(self._fold, room)
        self._folds = [_Fold() for _ in policy.thresholds]

    def observe(self, decision: Decision) -> None:
        """Note how full a hit left the meters of its key, and which threshold denied it."""
        state = self._state(decision.key)
        peaks = state.peaks
        for index, share in enumerate(decision.fullness):
            if share > peaks[index]:
                peaks[index] = share
        if decision.verdict != "allowed" and decision.threshold is not None:
            state.denied |= 1 << decision.threshold

    def suppose(self, key: str, cost: int, now: int, *, guard: bool = False, counts: bool = True) -> None:
        """Ask every scaled threshold about a hit, or about a guard that becomes a hit if `counts`."""
        if guard and not counts:
            known = self._table.get(key)
            if known is None or (self._bans_only and not known.bans):
                return  # Only a ban in force denies a guard, or a throttle.
        state = self._state(key)
        if guard or cost != 1 or state.bans:
            self._suppose_slowly(state, cost, now, guard=guard, counts=counts)
            return
        tats = state.tats
        for index, (interval, tolerance) in enumerate(self._charges):
            tat = tats[index]
            new = (tat if tat > now else now) + interval
            if new - now <= tolerance:
                tats[index] = new
            else:
                self._deny(state, index, now)

    def _suppose_slowly(self, state: _Key, cost: int, now: int, *, guard: bool, counts: bool) -> None:
        for index, scaled in enumerate(self._scaled):
            if state.bans and now < state.bans.get(index, (0, 0))[0]:
                scaled.denied += 1
                continue
            new = max(state.tats[index], now) + cost * scaled.interval
            fits = cost <= scaled.burst and new - now <= scaled.tolerance
            if guard and not counts and (fits or scaled.threshold.ban):
                continue
            if fits:
                state.tats[index] = new
            else:
                self._deny(state, index, now)

    def _deny(self, state: _Key, index: int, now: int) -> None:
        scaled = self._scaled[index]
        scaled.denied += 1
        if not scaled.threshold.ban:
            return
        bans = state.bans = state.bans or {}
        until, strikes = bans.get(index, (0, 0))
        if until and now >= until + scaled.policy.forgive_after:
            strikes = 0
        strikes += 1
        duration = scaled.threshold.duration(strikes)
        bans[index] = (FOREVER if duration == FOREVER else now + duration, strikes)
        state.tats[index] = 0

    def _state(self, key: str) -> _Key:
        state = self._table.get(key)
        if state is None:
            state = _Key(self._size)
            self._table.put(key, state)
            self.keys += 1
        return state

    def _fold(self, key: str, state: _Key) -> None:
        for index, fold in enumerate(self._folds):
            fold.add(key, state.peaks[index], over=bool(state.denied >> index & 1))

    def results(self) -> list[tuple[Headroom, WhatIf]]:
        """Return, for each threshold, the headroom of all keys and the what-if. Call it once, at the end."""
        for key, state in self._table.items():
            self._fold(key, state)
        found = []
        for index, fold in enumerate(self._folds):
            start = index * len(_SCALES)
            denied = (scaled.denied for scaled in self._scaled[start : start + len(_SCALES)])
            found.append((fold.headroom(), WhatIf(*denied)))
        return found


class _Fold:
    """The peaks of many keys under one threshold."""

    __slots__ = ("fine", "nearest", "nearest_key", "over")

    def __init__(self) -> None:
        self.fine = [0] * (BINS * _FINE)
        self.over = 0
        self.nearest: float | None = None
        self.nearest_key: str | None = None

    def add(self, key: str, peak: float, *, over: bool) -> None:
        if over:
            self.over += 1
            return
        self.fine[min(int(peak * BINS * _FINE), BINS * _FINE - 1)] += 1
        if self.nearest is None or peak > self.nearest:
            self.nearest, self.nearest_key = peak, key

    def headroom(self) -> Headroom:
        bins = [sum(self.fine[start : start + _FINE]) for start in range(0, len(self.fine), _FINE)]
        keys = sum(bins) + self.over
        nearest = self.nearest if self.nearest is None else min(self.nearest, 1.0)
        return Headroom(keys, bins, self.over, self._share(keys, 50), self._share(keys, 99), nearest, self.nearest_key)

    def _share(self, keys: int, percentile: int) -> float:
        """Return the peak that so many percent of the keys do not exceed (nearest rank); over counts as 1."""
        rank = -(-keys * percentile // 100)
        if not rank:
            return 0.0
        for step, number in enumerate(self.fine):
            rank -= number
            if rank <= 0:
                return round((step + 0.5) / len(self.fine), 4)
        return 1.0
