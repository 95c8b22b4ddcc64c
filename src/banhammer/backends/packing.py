"""Records as a shared store keeps them: 18 bytes, 8 for each threshold, 64 for each tracked window.

Layout, big-endian: thresholds (1 byte), over flags (4), strikes (4), level (1), banned_until (a double, exact up to
2^53), a double for each TAT; for each window its length and newest slot (doubles) and 12 counts (4 each).
"""

from __future__ import annotations

import struct
from typing import Any, Final

from banhammer.durations import FOREVER
from banhammer.kinds import Admission
from banhammer.model import MAX_STRIKES, MAX_THRESHOLDS, RING, Policy, Record, Ring

_HEAD: Final = struct.Struct(">BIIBd")
_RING: Final = struct.Struct(f">dd{RING}I")
_RECORDS: Final = tuple(struct.Struct(f">BIIBd{count}d") for count in range(MAX_THRESHOLDS + 1))
"""The layout without rings, by the number of thresholds."""


def pack_record(record: Record) -> bytes:
    """Return the record as bytes."""
    count = len(record.tats)
    head = _RECORDS[count].pack(count, record.over, record.strikes, record.level, record.banned_until, *record.tats)
    return b"".join((head, *[_RING.pack(window, newest, *counts) for window, newest, counts in record.rings]))


def unpack_record(packed: bytes, at: int = 0) -> Record:
    """Return the record that starts at byte `at` of what `pack_record` or the script made."""
    layout = _RECORDS[packed[at]]
    _, over, strikes, level, banned_until, *tats = layout.unpack_from(packed, at)
    at += layout.size
    rings: tuple[Ring, ...] = ()
    if at < len(packed):
        rings = tuple([(int(found[0]), int(found[1]), found[2:]) for found in _RING.iter_unpack(packed[at:])])
    return Record(tuple(map(int, tats)), over, strikes, int(banned_until), level, rings)


def holds_record(packed: bytes, at: int, policy: Policy) -> bool:
    """Return whether what begins at byte `at` has the shape of a record of `policy`; its numbers are not looked at."""
    count = len(policy.thresholds)
    rest = len(packed) - at - _HEAD.size - 8 * count
    return rest >= 0 and rest % _RING.size == 0 and packed[at] == count


def sound_record(packed: bytes) -> Record | None:
    """Return the record, or `None` where the bytes are no record or a field is out of range."""
    size = len(packed)
    count = packed[0] if size >= _HEAD.size else 0
    rest = size - _HEAD.size - 8 * count
    if not 0 < count <= MAX_THRESHOLDS or rest < 0 or rest % _RING.size:
        return None
    _, _, strikes, level, *times = _RECORDS[count].unpack_from(packed)
    rings = list(_RING.iter_unpack(packed[size - rest :]))
    times += [ring[0] - RING for ring in rings] + [value for ring in rings for value in ring[:2]]
    if strikes > MAX_STRIKES or level >= MAX_THRESHOLDS or not all(0 <= time <= FOREVER for time in times):
        return None
    if not all(time.is_integer() for time in times):
        return None
    return unpack_record(packed)


class PackedRecord(Record):
    """A record as a store told it, from byte `at` on; it is unpacked when a field is asked for, and most never are."""

    __slots__ = ("_at", "_packed")

    def __init__(self, packed: bytes, at: int) -> None:
        self._packed = packed
        self._at = at

    def __getattr__(self, name: str) -> Any:
        if name not in Record.__slots__:
            raise AttributeError(name)
        record = unpack_record(self._packed, self._at)
        for field in Record.__slots__:
            setattr(self, field, getattr(record, field))
        return getattr(record, name)


class Told(Admission):
    """The decision on one unit that fitted, as a store told it; it stands for its reply too.

    Made without `__init__`, as all decisions are: `_told` is the only TAT of the record, or the reply, whose record
    begins at byte 3.
    """

    __slots__ = ("_told",)

    _told: int | bytes
    counted = True
    degraded = False
    tripped = ()
    ids = ()
    wait = 0

    @property
    def now(self) -> int:
        """The time of the decision (us)."""
        return self._now

    @property
    def record(self) -> Record:
        """The record after the hit."""
        record = self._record
        return Record((record,)) if isinstance(record, int) else record

    @property
    def _record(self) -> Record | int:  # type: ignore[override]
        told = self._told
        return told if isinstance(told, int) else unpack_record(told, 3)
