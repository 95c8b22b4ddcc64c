"""The kinds of decisions and how each is made: the common ones keep only what differs from one to the next.

They are made without `__init__`: storing the slots one by one costs half as much as a call.
"""

from __future__ import annotations

from typing import Literal

from banhammer.core import Reply
from banhammer.decision import PLAIN, SHADOW, Calm, Context, Decision, FullDecision
from banhammer.model import Hit, Policy, Record, Verdict


class Admission(Decision):
    """The decision on one unit that fitted under an enforced policy: what is always the same stands in the class."""

    __slots__ = ("_now", "_policy", "_record", "key")

    allowed = True
    verdict = "allowed"
    _cost = 1
    _context = PLAIN


class Throttled(Decision):
    """The decision on one unit that a throttle denied, under an enforced policy."""

    __slots__ = ()

    allowed = False
    verdict = "throttled"
    _cost = 1
    _context = PLAIN


class Banned(Decision):
    """The decision on one unit of a banned key, under an enforced policy."""

    __slots__ = ()

    allowed = False
    verdict = "banned"
    _cost = 1
    _context = PLAIN


def decide(policy: Policy, hit: Hit, reply: Reply, *, shadow: bool) -> Decision:
    """Return what `reply` means for the caller who made `hit`."""
    decision = FullDecision()
    decision.allowed = shadow or reply.verdict == "allowed"
    decision.verdict = reply.verdict
    decision.key = hit.key
    decision._policy = policy
    decision._cost = hit.cost
    decision._now = reply.now
    decision._record = reply.record
    if reply.tripped or reply.degraded:
        decision._context = Context(shadow=shadow, degraded=reply.degraded, tripped=reply.tripped, wait=reply.wait)
    else:
        decision._context = SHADOW if shadow else PLAIN
    return decision


def admitted(policy: Policy, key: str, now: int, record: Record | Calm, context: Context = PLAIN) -> FullDecision:
    """Return the decision for one unit that fitted every threshold, with `record` after it."""
    decision = FullDecision()
    decision.allowed = True
    decision.verdict = "allowed"
    decision.key = key
    decision._policy = policy
    decision._cost = 1
    decision._now = now
    decision._record = record
    decision._context = context
    return decision


def denied(policy: Policy, key: str, now: int, record: Record, verdict: Verdict) -> Decision:
    """Return the decision for one unit that was denied and changed nothing."""
    shadow = policy.mode == "shadow"
    decision = admitted(policy, key, now, record, SHADOW if shadow else PLAIN)
    decision.allowed = shadow
    decision.verdict = verdict
    return decision


def listed(policy: Policy, key: str, which: Literal["allow", "deny"], *, shadow: bool) -> Decision:
    """Return the decision for a key on a list, which asks no store."""
    decision = FullDecision()
    decision.allowed = shadow or which == "allow"
    decision.verdict = "allowed" if which == "allow" else "banned"
    decision.key = key
    decision._policy = policy
    decision._cost = 1
    decision._now = 0
    decision._record = Record((0,) * len(policy.thresholds))
    decision._context = Context(shadow=shadow, listed=which)
    return decision
