"""Requests of a log through the rules, as they would be decided live, each at its own time."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Final

from banhammer.decision import Decision
from banhammer.hammer import BanHammer
from banhammer.model import Mode, Policy
from banhammer.replay.entry import Entry
from banhammer.routes import Route, Routes

MAX_KEYS: Final = 200_000
"""Records kept at once; the least missed leave first, so only a log of very many keys is decided milder."""
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


@dataclass(slots=True)
class Asked:
    """One policy that was asked about a request, and what it said."""

    route: Route
    key: str
    decision: Decision
    counted: bool
    """Whether it is a hit, as an allowed guard is not."""
    after: bool = False
    """Whether it was asked after the response."""


class Engine:
    """Decides requests one after another; use it as a context manager."""

    __slots__ = ("_hammer", "_now", "_routes", "policies")

    def __init__(self, rules: Rules) -> None:
        self._now = 0
        self._routes = Routes(rules.routes)
        self._hammer = BanHammer(
            [_without_actions(policy) for policy in rules.policies],
            backend=f"memory://?max_keys={MAX_KEYS}",
            mode=rules.mode,
            allow=rules.allow,
            deny=rules.deny,
            clock=self._clock,
        )
        self.policies = self._hammer.policies

    def decide(self, entry: Entry, now: int) -> tuple[list[Asked], Decision | None]:
        """Decide one request at `now` (us): what was asked, in order, and the decision that denied it."""
        self._now = now
        hammer = self._hammer
        matched = self._routes.match(entry)
        asked = []
        for route, key in matched:
            if route.codes:
                decision = hammer.guard(key, route.policy, route.cost)
                asked.append(Asked(route, key, decision, decision.verdict != "allowed"))
            else:
                decision = hammer.hit(key, route.policy, route.cost)
                asked.append(Asked(route, key, decision, True))
            if not decision.allowed:
                return asked, decision
        for route, key in matched:
            if entry.status in route.codes:
                decision = hammer.hit(key, route.policy, route.cost)
                asked.append(Asked(route, key, decision, True, after=True))
        return asked, None

    def close(self) -> None:
        """Let go of the hammer."""
        self._hammer.close()

    def _clock(self) -> int:
        return self._now


def _without_actions(policy: Policy) -> Policy:
    """Return the policy with nothing to run: a replay must not report anybody."""
    bare = copy.copy(policy)
    thresholds = tuple(copy.copy(threshold) for threshold in policy.thresholds)
    for threshold in thresholds:
        object.__setattr__(threshold, "actions", ())
    object.__setattr__(bare, "thresholds", thresholds)
    return bare
