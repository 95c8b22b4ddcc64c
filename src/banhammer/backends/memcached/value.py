"""What is kept under one name: a record, and behind it the details of its ban; so both change in one swap.

A value's flags say at which byte the details begin; 0 is a record alone. Details are `since|origin|id|reason`.
"""

from __future__ import annotations

from time import time_ns
from typing import Final, NamedTuple

from banhammer import core
from banhammer.backends.details import Details
from banhammer.backends.memcached.wire import Found, swap
from banhammer.backends.packing import pack_record, sound_record
from banhammer.core import FRESH
from banhammer.durations import DAY, FOREVER, MINUTE, SECOND
from banhammer.model import Policy, Record

LAST_EXPIRY: Final = 2**31 - 1
"""The last second that a server can tell (in 2038); what ends later never expires."""


class Value(NamedTuple):
    """A record, and the details of its ban as they are kept; empty where there are none."""

    record: Record
    details: bytes = b""


ABSENT: Final = Value(FRESH)


def unpack(found: Found) -> Value | None:
    """Return what a server keeps, or `None` where that is no record."""
    flags, data, _ = found
    if not flags:
        record = sound_record(data)
        return None if record is None else Value(record)
    record = sound_record(data[:flags]) if flags <= len(data) else None
    return None if record is None else Value(record, data[flags:])


def command(name: bytes, found: Found | None, value: Value, expiry: int) -> bytes:
    """Return the command that puts `value` where `found` still stands."""
    record, details = value
    data = pack_record(record)
    flags = 0
    if details and record.banned_until:
        flags = len(data)
        data += details
    return swap(name, found and found.token, flags, expiry, data)


def expires(policy: Policy, record: Record, now: int, *, injected: bool) -> int:
    """Return the Unix second, by this host's clock, at which nothing of the record is left to know; 0: never.

    A minute is added, and a day more where `now` is injected. Never a time from now: over 30 days it would be misread.
    """
    last = core.lapses_at(policy, record)
    if last >= FOREVER:
        return 0
    real, spare = (time_ns() // 1000, MINUTE + DAY) if injected else (now, MINUTE)
    at = -(-(real + max(last - now, 0) + spare) // SECOND)
    return at if at <= LAST_EXPIRY else 0


def pack_details(details: Details | None) -> bytes:
    """Return details as they are kept."""
    if details is None:
        return b""
    text = f"{details.since}|{details.origin}|{details.id}|{details.reason}"
    return text.encode("utf-8", "surrogatepass")


def unpack_details(value: Value, now: int) -> Details | None:
    """Return the details of a ban; where they are damaged it stands without, since `now`."""
    if not value.record.banned_until:
        return None
    try:
        since, origin, ban_id, reason = value.details.decode("utf-8", "surrogatepass").split("|", 3)
        return Details(int(since), "manual" if origin == "manual" else "hit", reason, ban_id)
    except ValueError:
        return Details(now, "hit", "", "")
