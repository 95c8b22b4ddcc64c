"""What a store keeps of a ban beside the record: since when, by a hit or by hand, why, and the escalation's id."""

from __future__ import annotations

from dataclasses import dataclass, replace
from uuid import uuid4

from banhammer import core
from banhammer.backends import Reading
from banhammer.core import Reply
from banhammer.durations import to_seconds
from banhammer.model import Ban, Origin, Policy, Record


@dataclass(frozen=True, slots=True)
class Details:
    """The details of one ban; `since` in microseconds."""

    since: int
    origin: Origin
    reason: str
    id: str


def by_hit(policy: Policy, before: Record, known: Details | None, reply: Reply) -> Details | None:
    """Give each escalation of `reply` its id, and return the details to keep; `before`: the record as stored."""
    reply.ids = tuple(uuid4().hex for _ in reply.tripped)
    if not reply.tripped or reply.verdict != "banned":
        return known
    cause = Details(reply.now, "hit", policy.thresholds[reply.tripped[-1]].reason, reply.ids[-1])
    return changed(before, reply.record, known, cause)


def changed(before: Record, after: Record, known: Details | None, cause: Details) -> Details:
    """Return the details of the ban of `after`: those of `cause`, a change now, unless it left the ban as it was.

    A ban that is lengthened stays in force since it began.
    """
    if known is None or cause.since >= before.banned_until:
        return cause
    return replace(cause, since=known.since) if after.banned_until > before.banned_until else known


def reading(key: str, policy: Policy, stored: Record, known: Details | None, now: int) -> Reading:
    """Return the record as it reads at `now`, with the ban in force."""
    record = core.load(policy, stored, now)
    if known is None or now >= record.banned_until:
        return Reading(key, policy.name, now, record, None)
    ban = Ban(
        key=key,
        policy=policy.name,
        threshold=min(record.level, len(policy.thresholds) - 1),
        strikes=record.strikes,
        since=to_seconds(known.since),
        until=to_seconds(record.banned_until),
        origin=known.origin,
        reason=known.reason,
        id=known.id,
    )
    return Reading(key, policy.name, now, record, ban)
