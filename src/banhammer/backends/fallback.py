"""What decides while a store cannot be asked: each policy's `on_error`, and the bans that were seen."""

from __future__ import annotations

import copy
import math
from typing import Final, cast

from banhammer import core
from banhammer.backends.denials import drop_oldest
from banhammer.backends.memory import MemoryBackend
from banhammer.backends.shortcut import tell
from banhammer.core import Reply
from banhammer.durations import FOREVER, SECOND
from banhammer.kinds import decide
from banhammer.model import Ban, Clock, Hit, Policy, Record, Threshold

MAX_KNOWN_BANS: Final = 100_000
CLOSED_WAIT: Final = SECOND
"""After how long a hit that `closed` denied may try again (us)."""


class Fallback:
    """Decides while the store is away; `share` divides the limits among so many processes. Never raises."""

    def __init__(self, share: int) -> None:
        self._share = share
        self._memory = MemoryBackend()
        self.known_bans: Final[dict[tuple[str, str], Record]] = {}
        """The bans that are remembered, by policy and key; always this one."""
        self._divided: dict[str, tuple[Policy, Policy]] = {}

    def knows(self, key: str, policy: Policy) -> bool:
        """Return whether a ban of the key is remembered, be it over or not."""
        return (policy.name, key) in self.known_bans

    def learn(self, hit: Hit, policy: Policy, reply: Reply) -> None:
        """Remember a ban in force, and forget one that ended."""
        at = (policy.name, hit.key)
        if reply.now < reply.record.banned_until:
            self._remember(at, reply.record)
        else:
            self.known_bans.pop(at, None)

    def know(self, policy: Policy, ban: Ban) -> None:
        """Remember a ban by hand."""
        until = FOREVER if math.isinf(ban.until) else round(ban.until * 1e6)
        blank = (0,) * len(policy.thresholds)
        self._remember((policy.name, ban.key), Record(blank, 0, ban.strikes, until, ban.threshold))

    def forget(self, key: str, policy: Policy) -> None:
        """Forget the key's ban and what it did here: it was lifted or reset."""
        self.known_bans.pop((policy.name, key), None)
        self._memory.forget(key, policy, strikes=True)

    def reply(self, hit: Hit, policy: Policy, now: int | Clock | None, *, peek: bool) -> Reply:
        """Return what the policy says while the store cannot be asked."""
        at = tell(now)
        known = self.known_bans.get((policy.name, hit.key))
        if known is not None and at < known.banned_until:
            reply = Reply("banned", at, core.load(policy, known, at))  # Loaded: the rules may have been changed since.
        elif policy.on_error == "local":
            reply = self._local(hit, policy, now, peek=peek)
        else:
            blank = Record((0,) * len(policy.thresholds))
            reply = Reply("allowed" if policy.on_error == "open" else "throttled", at, blank)
            reply.wait = 0 if policy.on_error == "open" else CLOSED_WAIT
        reply.degraded = True
        return reply

    def _remember(self, at: tuple[str, str], record: Record) -> None:
        if len(self.known_bans) >= MAX_KNOWN_BANS and at not in self.known_bans:
            drop_oldest(self.known_bans)
        self.known_bans[at] = record

    def _local(self, hit: Hit, policy: Policy, now: int | Clock | None, *, peek: bool) -> Reply:
        known = self._divided.get(policy.name)
        if known is None or known[0] is not policy:
            known = self._divided[policy.name] = (policy, divided(policy, self._share))
        part = known[1]
        (found,) = self._memory.evaluate((hit,), {policy.name: part}, now=now, peek=peek)
        reply = cast(Reply, found)  # Without `stop`, every hit is decided.
        if reply.verdict == "throttled" and part is not policy:
            reply.wait = _wait(hit, policy, part, reply)
        return reply


def divided(policy: Policy, share: int) -> Policy:
    """Return the policy with a share of its limits, at least one hit a period each; its bans stay as they are."""
    if share == 1:
        return policy
    part = copy.copy(policy)
    object.__setattr__(part, "thresholds", tuple([_divided(threshold, share) for threshold in policy.thresholds]))
    return part


def _wait(hit: Hit, policy: Policy, part: Policy, reply: Reply) -> int:
    """Return when a hit that its share denied may try again (us); 0: `policy` itself says."""
    if any(hit.cost > threshold.burst for threshold in policy.thresholds):
        return 0
    wait = decide(part, hit, reply, shadow=False).retry_after
    return CLOSED_WAIT if math.isinf(wait) else round(wait * 1e6)  # More than a share holds: the store may be back.


def _divided(threshold: Threshold, share: int) -> Threshold:
    part = copy.copy(threshold)
    burst = max(threshold.burst // share, min(threshold.burst, 1))
    interval = threshold.interval * share
    for name, value in (
        ("limit", max(threshold.limit // share, 1)),
        ("burst", burst),
        ("interval", interval),
        ("tolerance", interval * burst),
    ):
        object.__setattr__(part, name, value)
    return part
