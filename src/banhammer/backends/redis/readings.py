"""What Redis keeps of a key and its ban, as the operators' verbs tell it."""

from __future__ import annotations

from banhammer import core
from banhammer.backends import Reading
from banhammer.backends.names import escape, is_cut, unescape
from banhammer.durations import to_seconds
from banhammer.model import Ban, Origin, Policy, Record


def key_of(escaped: str) -> str:
    """Return the key, or its spelling where that was cut; "" where no key is spelled so."""
    if is_cut(escaped):
        return escaped
    try:
        key = unescape(escaped)
    except ValueError:
        return ""
    return key if escape(key) == escaped else ""


def since_of(details: bytes, now: int) -> int:
    """Return since when a ban has been in force (us), by its details; `now` where they do not tell."""
    since = details.partition(b"|")[0]
    return int(since) if since.isdigit() else now


def ban_of(key: str, policy: Policy, record: Record, details: bytes | None, now: int) -> Ban:
    """Return the ban of a record, with what the index knows of it."""
    try:
        parts = (details or b"").decode("utf-8", "surrogatepass").split("|", 3)
    except UnicodeDecodeError:  # Damaged: as if nothing was known.
        parts = []
    known = len(parts) == 4
    origin: Origin = "manual" if known and parts[1] == "manual" else "hit"
    return Ban(
        key=key,
        policy=policy.name,
        threshold=min(record.level, len(policy.thresholds) - 1),
        strikes=record.strikes,
        since=to_seconds(since_of(details or b"", now)),
        until=to_seconds(record.banned_until),
        origin=origin,
        reason=parts[3] if known else "",
        id=parts[2] if known else "",
    )


def reading_of(key: str, policy: Policy, stored: Record, details: bytes | None, now: int) -> Reading:
    """Return a stored record as it reads now."""
    record = core.load(policy, stored, now)
    ban = ban_of(key, policy, record, details, now) if now < record.banned_until else None
    return Reading(key, policy.name, now, record, ban)
