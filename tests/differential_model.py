"""The independent model beside the stores: what it says of every answer, and what must hold from one to the next."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from banhammer import Decision, Policy
from banhammer.model import Ban, Escalation, Status
from banhammer.testing import ManualClock
from differential import Place
from reference import ReferenceHammer

FIELDS = (
    "allowed", "verdict", "key", "policy", "strikes", "banned_until", "remaining", "threshold", "limit",
    "retry_after", "reset_after", "listed", "shadow", "degraded",
)  # fmt: skip
BAN_FIELDS = ("key", "policy", "threshold", "strikes", "since", "until", "origin")
STATUS_FIELDS = (
    "key", "policy", "strikes", "banned_until", "level", "tats", "over", "remaining", "reset_after",
)  # fmt: skip

Expected = Counter[tuple[str, str, int, str]]
"""Key, policy, threshold and verdict of each escalation that must run."""


class Witness:
    """The model, and what it has seen: when something ends, and which escalations must have run."""

    def __init__(self, policies: Iterable[Policy], clock: ManualClock, **lists: Any) -> None:
        self.model = ReferenceHammer(policies, **lists)
        self.clock = clock
        self.expected: Expected = Counter()
        self.boundaries: list[int] = []
        self.loose_rates = False
        """Whether windows may count less than the model: after the clock stepped back, or began to track others."""
        self._ends: dict[Place, float] = {}

    @property
    def policies(self) -> dict[str, Policy]:
        """The policies in force."""
        return self.model.policies

    def changes(self, policies: Iterable[Policy]) -> None:
        """Take other policies of the same names."""
        changed = {policy.name: policy for policy in policies}
        tracked = [policy.track == self.policies[name].track for name, policy in changed.items()]
        self.loose_rates = self.loose_rates or not all(tracked)
        self.model.policies = changed

    def decided(self, decision: Decision, answer: dict[str, Any] | None, *, counted: bool = True) -> None:
        """Compare a decision, in every field."""
        assert answer is not None
        assert {name: getattr(decision, name) for name in FIELDS} == {name: answer[name] for name in FIELDS}
        assert decision.tripped == tuple(index for index, _ in answer["escalations"])
        assert bool(decision) is decision.allowed
        self._compare_rates(decision.rates, answer["rates"])
        if counted:
            self._expect(decision.key, decision.policy, answer["escalations"])
        for wait in (decision.retry_after, decision.reset_after):
            if wait < math.inf:
                self.boundaries.append(self.clock.now + round(wait * 1e6))

    def banned(self, ban: Ban, answer: dict[str, Any]) -> None:
        """Compare the ban that was made by hand, or lifted."""
        assert described(ban) == tuple(answer[name] for name in BAN_FIELDS)
        self._expect(ban.key, ban.policy, answer["escalations"], by_hand=True)
        if ban.until < math.inf:
            end = round(ban.until * 1e6)
            self.boundaries += [end, end + self.policies[ban.policy].forgive_after]

    def stands(self, status: Status) -> None:
        """Compare a record as it is told; a ban that was told of stands until its end."""
        place = (status.key, status.policy)
        wanted = self.model.status(*place, self.clock.now)
        for name in STATUS_FIELDS:
            assert getattr(status, name) == wanted[name], name
        self._compare_rates(status.rates, wanted["rates"])
        assert (status.ban is None) == (wanted["ban"] is None)
        if status.ban is not None:
            assert described(status.ban) == tuple(wanted["ban"][name] for name in BAN_FIELDS)
        last = self._ends.pop(place, 0.0)
        if self.clock.now < last * 1e6:
            assert status.banned_until is not None
            assert status.banned_until >= last
        if status.banned_until is not None:
            self._ends[place] = status.banned_until

    def freed(self, key: str, policy: str) -> None:
        """Take note that a key's ban may end before its time."""
        self._ends.pop((key, policy), None)

    def listed(self, bans: Iterable[Ban]) -> None:
        """Compare all bans."""
        wanted = [tuple(ban[name] for name in BAN_FIELDS) for ban in self.model.bans(self.clock.now)]
        assert sorted(map(described, bans)) == sorted(wanted)

    def told(self, escalations: Iterable[Escalation]) -> None:
        """Compare what the actions of a store were told."""
        assert Counter((each.key, each.policy, each.threshold, each.verdict) for each in escalations) == self.expected

    def _compare_rates(self, rates: dict[str, int] | None, wanted: dict[str, int] | None) -> None:
        if not self.loose_rates or not rates:
            assert rates == wanted
            return
        assert wanted is not None
        assert list(rates) == list(wanted)
        assert all(0 <= rates[window] <= wanted[window] for window in rates)

    def _expect(self, key: str, name: str, escalations: list[tuple[int, str]], *, by_hand: bool = False) -> None:
        policy = self.policies[name]
        if policy.mode != "shadow" and not (by_hand and policy.top < 0):  # By hand, without a ladder, no action runs.
            self.expected.update((key, name, index, verdict) for index, verdict in escalations)


def described(ban: Ban) -> tuple[Any, ...]:
    return tuple(getattr(ban, name) for name in BAN_FIELDS)
