"""Escalations, made of what a hit tripped or of a ban by hand; which of their actions run, and where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from banhammer.core import Reply
from banhammer.durations import to_seconds
from banhammer.model import LOCAL_ACTIONS, Ban, Escalation, Hit, Policy


def of_hit(hit: Hit, policy: Policy, reply: Reply) -> Iterator[tuple[Escalation, tuple[str, ...]]]:
    """Yield the escalation of each threshold that a hit tripped, with the names of its actions."""
    until = to_seconds(reply.record.banned_until) if reply.verdict == "banned" else None
    for index, escalation_id in zip(reply.tripped, reply.ids, strict=True):
        threshold = policy.thresholds[index]
        escalation = Escalation(
            id=escalation_id,
            key=hit.key,
            policy=policy.name,
            threshold=index,
            verdict="banned" if reply.verdict == "banned" else "throttled",
            strikes=reply.record.strikes,
            at=reply.now / 1e6,
            until=until,
            limit=threshold.limit,
            period=threshold.period / 1e6,
            cost=hit.cost,
            reason=threshold.reason,
            shadow=policy.mode == "shadow",
            origin="hit",
        )
        yield escalation, threshold.actions


def of_ban(
    policy: Policy, index: int, ban: Ban, verdict: Literal["banned", "lifted"], at: int
) -> tuple[Escalation, tuple[str, ...]]:
    """Return the escalation of a ban that an operator made under threshold `index`, or lifted, and its actions.

    `at` is in microseconds.
    """
    threshold = policy.thresholds[index]
    escalation = Escalation(
        id=ban.id,
        key=ban.key,
        policy=policy.name,
        threshold=index,
        verdict=verdict,
        strikes=ban.strikes,
        at=at / 1e6,
        until=ban.until,
        limit=threshold.limit,
        period=threshold.period / 1e6,
        cost=0,
        reason=ban.reason,
        shadow=policy.mode == "shadow",
        origin="manual",
    )
    return escalation, _made(policy, index) if verdict == "banned" else _undone(policy, ban)


def delivered(names: Iterable[str]) -> tuple[str, ...]:
    """Return the actions that any process of a fleet may run: those that a durable store keeps."""
    return tuple([name for name in names if name not in LOCAL_ACTIONS])


def escalates(policy: Policy) -> bool:
    """Return whether a durable store keeps any escalation of the policy; in shadow nothing is run."""
    return policy.delivers and policy.mode != "shadow"


def _made(policy: Policy, index: int) -> tuple[str, ...]:
    """Return what a ban by hand sets off: in a policy without a ladder, nothing."""
    return policy.thresholds[index].actions if policy.top >= 0 else ()


def _undone(policy: Policy, ban: Ban) -> tuple[str, ...]:
    """Return what the thresholds up to the ban's own set off; a throttle only if an operator banned under it."""
    own = ban.threshold if policy.top >= 0 else -1
    levels = [level for index, level in enumerate(policy.thresholds[: ban.threshold + 1]) if level.ban or index == own]
    return tuple(dict.fromkeys(name for level in levels for name in level.actions))
