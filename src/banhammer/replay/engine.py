"""Requests of a log through the rules, as they would be decided live, each at its own time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from banhammer.decision import Decision
from banhammer.hammer import BanHammer
from banhammer.model import Escalation, Hit, Mode, Policy
from banhammer.replay.bounded import MOST_KEYS
from banhammer.replay.entry import Entry
from banhammer.routes import Route, Routes, after, ask, before, denial

STARTER: Final = "the starter rules"
"""Where rules come from that were not asked for."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What to replay: policies, the routes that lead to them, lists, and in words where they came from."""

    policies: tuple[Policy, ...]
    routes: tuple[Route, ...]
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    mode: Mode = "enforce"
    origin: str = STARTER


class Asked:
    """One hit or guard of a request, and the decision on it.

    `counted`: whether it is a hit, as an allowed guard is not. `fails`: for what was asked before the response,
    whether the log says that the outcome counts; `None` for what was counted after it.
    """

    __slots__ = ("counted", "decision", "fails", "hit")

    def __init__(self, hit: Hit, decision: Decision, fails: bool | None = None) -> None:
        self.hit = hit
        self.decision = decision
        self.fails = fails
        self.counted = not hit.guard or decision.verdict != "allowed"


class Engine:
    """Decides requests one after another.

    It remembers `MOST_KEYS` keys of each policy. The least missed leave first, so only a log of very many keys
    is decided milder.
    """

    __slots__ = ("_hammer", "_now", "_routes", "policies")

    def __init__(self, rules: Rules) -> None:
        self._now = 0
        self._routes = Routes(rules.routes)
        self._hammer = BanHammer(
            rules.policies,
            backend=f"memory://?max_keys={MOST_KEYS * max(len(rules.policies), 1)}",
            actions=dict.fromkeys(_actions(rules.policies), _nothing),
            mode=rules.mode,
            allow=rules.allow,
            deny=rules.deny,
            clock=self._clock,
        )
        self.policies = self._hammer.policies

    def decide(self, entry: Entry, now: int) -> tuple[list[Asked], Decision | None]:
        """Decide one request at `now` (us): what was asked, in order, and the decision that denied it."""
        self._now = now
        matched = self._routes.match(entry)
        if not matched:
            return [], None
        status, hits = entry.status, before(matched)
        decisions = ask(self._hammer, hits, stop=True)
        asked = [
            Asked(hit, decision, status in route.codes)
            for (route, _), hit, decision in zip(matched, hits, decisions, strict=False)  # Ends at a denial.
        ]
        denied = denial(decisions[-1:])  # With `stop`, no other can be one.
        if denied is None and (hits := after(matched, status)):
            asked += map(Asked, hits, ask(self._hammer, hits))
        return asked, denied

    def close(self) -> None:
        """Let go of the hammer."""
        self._hammer.close()

    def _clock(self) -> int:
        return self._now


def _actions(policies: Iterable[Policy]) -> Iterator[str]:
    """Yield the names of all actions."""
    for policy in policies:
        for threshold in policy.thresholds:
            yield from threshold.actions


def _nothing(escalation: Escalation) -> None:
    """Stand in for every action: a replay must not report anybody."""
