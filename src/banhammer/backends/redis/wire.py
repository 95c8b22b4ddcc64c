"""What goes over the wire to Redis and what comes back: names, policies, hits and replies, as bytes."""

from __future__ import annotations

import struct
from binascii import crc_hqx
from functools import lru_cache
from typing import Final
from zlib import crc32

from banhammer.backends.names import escape, shorten
from banhammer.backends.packing import PackedRecord
from banhammer.backends.redis.entries import rule
from banhammer.backends.shared import Charge
from banhammer.core import Reply
from banhammer.escalations import escalates
from banhammer.model import Policy, Record, Verdict

SLOTS: Final = 16384
VERDICTS: Final[tuple[Verdict, ...]] = ("allowed", "throttled", "banned")
HIT, GUARD, PEEK = 0, 1, 2
COUNTED: Final = 1
ADMITTED: Final = b"\0\1\0"
"""How the reply to a hit begins that was allowed, counted and crossed nothing, unless it is the bare TAT; its record is
behind it."""
STOP, INJECTED, FULL, REPEATS = 1, 2, 4, 8
"""What a call is told: to end at the first denial; that a time is given; to store nothing, since memory is full; that a
name comes twice."""
BANS, ESCALATIONS = 1, 2
"""What a policy needs of its partition beside the records: the index of bans with its details, and the stream."""
_MOST: Final = 2**32 - 1

_HIT: Final = struct.Struct(">BBIIIB")
PLAIN: Final = tuple([_HIT.pack(index, HIT, 1, 0, 0, 0) for index in range(256)])
"""A hit of one unit that owes nothing, by its policy's index in the call: what most are."""
_POLICY: Final = struct.Struct(">BBBd")
_THRESHOLD: Final = struct.Struct(">dddBHI")
_NUMBER: Final = struct.Struct(">d")
_KNOWN_NAMES: Final = 16_384
_KNOWN_POLICIES: Final = 1_024
"""How many names and policies are kept as they are sent."""


def slot_of(tag: str) -> int:
    """Return the hash slot of a tag (CRC16 modulo 16,384, as Redis Cluster defines it)."""
    return crc_hqx(tag.encode(), 0) % SLOTS


def tags_for(partitions: int) -> tuple[str, ...]:
    """Return the tags of the partitions, each the first number whose slot lies in its share of the slots."""
    tags: dict[int, str] = {}
    number = 0
    while len(tags) < partitions:
        tags.setdefault(slot_of(str(number)) * partitions // SLOTS, str(number))
        number += 1
    return tuple(tags[share] for share in range(partitions))


class Names:
    """The names of everything in the store, by partition: a pure function of the key and the partitions.

    Names, and the policies beside them, are kept as they are sent.
    """

    def __init__(self, partitions: int) -> None:
        self.tags = tags_for(partitions)
        self.argument = lru_cache(maxsize=_KNOWN_NAMES)(self._argument)
        self.others = [_others(self, partition) for partition in range(partitions)]
        """What a call names behind the records: see `_others`, for each partition."""
        self._policies: dict[int, SentPolicy] = {}

    def partition(self, key: str) -> int:
        """Return the partition of a key: a stable hash."""
        count = len(self.tags)
        return 0 if count == 1 else crc32(key.encode("utf-8", "surrogatepass")) % count

    def bans(self, partition: int) -> str:
        """Return the name of a partition's index of bans, by end."""
        return f"bh:{{{self.tags[partition]}}}#bans"

    def details(self, partition: int) -> str:
        """Return the name of what is known of a partition's bans."""
        return f"bh:{{{self.tags[partition]}}}#details"

    def escalations(self, partition: int) -> str:
        """Return the name of the stream of a partition's escalations."""
        return f"bh:{{{self.tags[partition]}}}#escalations"

    def dropped(self, partition: int) -> str:
        """Return the name of the number of escalations for which that stream had no room."""
        return f"bh:{{{self.tags[partition]}}}#dropped"

    def order(self, partition: int) -> str:
        """Return the name of the order in which the escalations of each key came."""
        return f"bh:{{{self.tags[partition]}}}#order"

    def marks(self, partition: int) -> str:
        """Return the name of what is known of escalations that are under way."""
        return f"bh:{{{self.tags[partition]}}}#marks"

    def dead(self, partition: int) -> str:
        """Return the name of the stream of a partition's dead letters."""
        return f"bh:{{{self.tags[partition]}}}#dead"

    def record(self, policy: str, key: str) -> tuple[int, str, str]:
        """Return the partition, the record's name, and the member of the index where the name was cut, else ""."""
        partition = self.partition(key)
        escaped = escape(key)
        short = shorten(escaped)
        member = f"{policy}:{escaped}" if short is not escaped else ""
        return partition, self.spelled(partition, policy, short), member

    def spelled(self, partition: int, policy: str, short: str) -> str:
        """Return the name of a record by the spelling of its key, cut where that is long."""
        return f"bh:{{{self.tags[partition]}}}:{policy}:{short}"

    def policy(self, policy: Policy) -> SentPolicy:
        """Return a policy as it is sent."""
        known = self._policies.get(id(policy))
        if known is None:  # What is kept holds the policy, so that no other can have its id.
            if len(self._policies) >= _KNOWN_POLICIES:
                self._policies.clear()
            known = self._policies[id(policy)] = SentPolicy(policy)
        return known

    def _argument(self, policy: str, key: str) -> tuple[int, bytes, str]:
        """Return the same with the name as it is sent."""
        partition, name, member = self.record(policy, key)
        return partition, argument(name.encode()), member


def argument(value: bytes) -> bytes:
    """Return one argument of a command as it is sent (RESP: a bulk string)."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


NUMBERS: Final = tuple([argument(b"%d" % number) for number in range(256)])
"""Small numbers as they are sent."""
EMPTY: Final = argument(b"")


def pack_policy(policy: Policy) -> bytes:
    """Return a policy as the script reads it."""
    windows, thresholds = policy.windows, policy.thresholds
    head = _POLICY.pack(len(thresholds), len(windows), policy.mode == "shadow", policy.forgive_after)
    parts = [head, *map(_NUMBER.pack, windows)]
    tails = []
    kept = escalates(policy)
    for each in thresholds:
        reason, told = each.reason.encode(), rule(each) if kept else b""
        sizes = (len(each.ban), len(reason), len(told))
        parts.append(_THRESHOLD.pack(each.interval, each.tolerance, each.burst, *sizes))
        tails += [*map(_NUMBER.pack, each.ban), reason, told]
    return b"".join(parts + tails)


class SentPolicy:
    """A policy as it is sent, and which of a partition's names it needs: see `_others`. It keeps the policy alive."""

    __slots__ = ("needs", "policy", "sent")

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.sent = argument(pack_policy(policy))
        self.needs = BANS * (policy.top >= 0) + ESCALATIONS * escalates(policy)


def _others(names: Names, partition: int) -> list[tuple[int, bytes]]:
    """Return what a call names behind the records, by what its policies need: how many names, and as they are sent."""
    bans = [names.bans(partition), names.details(partition)]
    escalations = [names.escalations(partition), names.dropped(partition), names.order(partition)]
    found = []
    for needs in range((BANS | ESCALATIONS) + 1):
        needed = bans * bool(needs & BANS) + escalations * bool(needs & ESCALATIONS)
        found.append((len(needed), b"".join([argument(name.encode()) for name in needed])))
    return found


def pack_charge(index: int, charge: Charge) -> bytes:
    """Return a charge as the script reads it; `index` is its policy's in the call."""
    hit, owed = charge.hit, charge.owed
    mode = PEEK if charge.peek else GUARD if hit.guard else HIT
    if owed is None or owed.span > _MOST:  # So long ago that it means nothing: a cut span could ban falsely.
        return _HIT.pack(index, mode, hit.cost, 0, 0, 0)
    return _HIT.pack(index, mode, hit.cost, min(owed.late, _MOST), owed.span, owed.level + 1)


def unpack_reply(packed: bytes | int, now: int, nonce: bytes, position: int) -> Reply:
    """Return what the script answered to the hit at `position` (from 1) of a call; a peek escalates nothing: no ids."""
    if isinstance(packed, int):
        return Reply("allowed", now, Record((packed,)))
    verdict, counted, count = packed[0], packed[1], packed[2]
    if not count:
        return Reply(VERDICTS[verdict], now, PackedRecord(packed, 3), (), counted > 0)
    tripped = tuple(packed[3 : 3 + count])
    reply = Reply(VERDICTS[verdict], now, PackedRecord(packed, 3 + count), tripped, counted > 0)
    if counted == COUNTED:
        reply.ids = tuple([f"{nonce.decode()}-{position}-{index}" for index in tripped])
    return reply
