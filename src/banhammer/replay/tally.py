"""From decisions to a `Summary`: counting, in memory that grows with the bans at most, never with the log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from banhammer.decision import Decision
from banhammer.durations import SECOND
from banhammer.model import Mode, Policy
from banhammer.replay.engine import Asked, Rules
from banhammer.replay.entry import Entry
from banhammer.replay.meters import PolicyMeters
from banhammer.replay.offenders import Offenders
from banhammer.replay.summary import BanReport, PolicyReport, Summary, ThresholdReport, whole
from banhammer.replay.texts import printable
from banhammer.replay.timeline import Timeline
from banhammer.words import describe

WORST: Final = 10
SERVED: Final = 5


class Tally:
    """Counts decided requests; `summary` is what they come to so far.

    `text` makes a key fit to be shown, because a summary may be watched while it grows.
    """

    def __init__(self, rules: Rules, text: Callable[[str], str] = printable) -> None:
        self._text = text
        self._policies = {policy.name: policy for policy in rules.policies}
        self._reports = {policy.name: _report(policy, rules.mode) for policy in rules.policies}
        self._meters = {policy.name: PolicyMeters(policy) for policy in rules.policies}
        self._timeline = Timeline()
        self._offenders = Offenders()
        self._summary = Summary()
        self._first = self._last = -1

    @property
    def summary(self) -> Summary:
        """What is counted so far: requests, denials and bans; the rest is filled in by `finish`."""
        return self._summary

    def add(self, entry: Entry, now: int, asked: list[Asked], denial: Decision | None) -> None:
        """Count one request that was decided at `now` (us)."""
        time = entry.time
        if time > self._last:
            self._last = time
        if time < self._first or self._first < 0:
            self._first = time
        client = entry.client
        self._offenders.request(client, client=True)
        bar = self._timeline.at(now // SECOND)
        others: set[str] = set()
        for one in asked:
            if one.hit.key != client and one.hit.key not in others:
                others.add(one.hit.key)
                self._offenders.request(one.hit.key, client=False)
            if one.counted:
                bar.bans += self._hit(one, now)
            if one.fails is not None:
                self._suppose(one, now, denial)
        requests = self._summary.requests
        if denial is None:
            bar.allowed += 1
            requests.allowed += 1
            return
        if denial.verdict == "banned":
            bar.banned += 1
            requests.banned += 1
        else:
            bar.throttled += 1
            requests.throttled += 1
        self._summary.denied_served += 200 <= entry.status < 400
        self._offenders.denied(denial, entry)

    def finish(self) -> Summary:
        """Fill in what is only known at the end, and return the summary. Call it once."""
        summary = self._summary
        offenders = self._offenders
        if self._last >= 0:
            summary.first, summary.last = whole(self._first / SECOND), whole(self._last / SECOND)
        summary.keys = offenders.clients.count()
        summary.banned_keys = offenders.banned
        summary.worst = offenders.worst(WORST)
        summary.served = offenders.served(SERVED)
        summary.timeline = self._timeline.bars()
        for name, report in self._reports.items():
            meters = self._meters[name]
            report.keys = meters.keys
            for threshold, (headroom, what_if) in zip(report.thresholds, meters.results(), strict=True):
                threshold.hits = report.hits.total
                threshold.headroom, threshold.what_if, threshold.keys = headroom, what_if, headroom.over
        summary.policies = list(self._reports.values())
        return summary

    @property
    def busiest(self) -> tuple[str, int] | None:
        """The key with most requests, and their number."""
        return self._offenders.busiest()

    @property
    def estimated(self) -> bool:
        """Whether there were so many keys that their number is an estimate."""
        return self._offenders.clients.estimated

    def _hit(self, one: Asked, now: int) -> int:
        """Count one hit, and return the thresholds that it tripped."""
        decision = one.decision
        name = one.hit.policy
        report = self._reports[name]
        self._meters[name].observe(decision)
        if decision.verdict == "allowed":
            report.hits.allowed += 1
            return 0
        index = decision.threshold
        threshold = None if index is None else report.thresholds[index]
        if decision.verdict == "throttled":
            report.hits.throttled += 1
            if threshold:
                threshold.throttled += 1
            return 0
        report.hits.banned += 1
        if threshold:
            threshold.banned += 1
        return self._bans(one, now) if decision.tripped else 0

    def _bans(self, one: Asked, now: int) -> int:
        decision = one.decision
        name = one.hit.policy
        until = decision.banned_until or 0.0
        for index in decision.tripped:
            self._reports[name].thresholds[index].bans += 1
            why = self._policies[name].thresholds[index].reason
            key = self._text(decision.key)
            ban = BanReport(key, name, index, whole(now / SECOND), whole(until), decision.strikes, why)
            self._summary.bans.append(ban)
        self._offenders.banned_at(decision, now)
        return len(decision.tripped)

    def _suppose(self, one: Asked, now: int, denial: Decision | None) -> None:
        hit = one.hit
        # A request that something else denied has no response, so its guard never becomes a hit.
        answered = denial is None or denial is one.decision
        counts = not hit.guard or (answered and bool(one.fails))
        self._meters[hit.policy].suppose(hit.key, hit.cost, now, guard=hit.guard, counts=counts)


def _report(policy: Policy, mode: Mode) -> PolicyReport:
    thresholds = [
        ThresholdReport(
            policy.name, index, bool(threshold.ban), threshold.limit, threshold.period / SECOND, threshold.burst
        )
        for index, threshold in enumerate(policy.thresholds)
    ]
    shadow = (policy.mode or mode) == "shadow"
    return PolicyReport(policy.name, shadow=shadow, words=describe(policy), thresholds=thresholds)
