"""Keys that a careless store would confuse, and bytes that are no record."""

from __future__ import annotations

import math
import struct

KEYS = (
    "203.0.113.9", "2001:db8:1:2::/64", "acct:7", "a|b c%", "{0}:p:x", "}{", "\r\n\0", "\ud800", "caf\u00e9",
    "cafe\u0301", "long" * 50, "long" * 50 + "er", "\u00e9" * 41,
)  # fmt: skip
DAMAGE = (
    b"", b"\1", bytes(25), b"\1" + bytes(16), b"\1" + bytes(26), b"\41" + bytes(17 + 8 * 33), b"\3" + bytes(33),
    struct.pack(">BIIBdd", 1, 0, 2**31, 0, 0, 0), struct.pack(">BIIBdd", 1, 0, 0, 32, 0, 0),
    *(struct.pack(">BIIBdd", 1, 0, 0, 0, wrong, 0) for wrong in (-1, 0.5, 2**53, math.inf, math.nan)),
    *(struct.pack(">BIIBdd", 1, 0, 0, 0, 0, wrong) for wrong in (-1, 0.5, 2**53, math.inf, math.nan)),
    struct.pack(">BIIBdd", 1, 0, 0, 0, 0, 0) + struct.pack(">dd12I", 11, 0, *range(12)),
    struct.pack(">BIIBdd", 1, 0, 0, 0, 0, 0) + struct.pack(">dd12I", 1200, -1, *range(12)),
    struct.pack(">BIIBdd", 1, 0, 0, 0, 0, 0) + struct.pack(">dd12I", 1200, math.nan, *range(12)),
    None,
)  # fmt: skip
"""What is no record: cut short, too long, each field out of range, and (`None`) a value of another kind."""
