"""The policies that the kit tries, as they are and as they may be changed; and keys that nobody would choose."""

from __future__ import annotations

from typing import Final

from banhammer.model import Policy, Threshold

START: Final = 1_750_000_000_000_000
"""Where the kit's clock begins (us)."""
KEY: Final = "203.0.113.9"
ACTION: Final = "note"


def rules(*, changed: bool = False) -> list[Policy]:
    """Return the policies, or what they were changed into: other limits, more thresholds, fewer, and other kinds."""
    return _changed() if changed else _first()


def _first() -> list[Policy]:
    login = [
        Threshold(5, "1m", actions=[ACTION]),
        Threshold(10, "1h", ban=["1h", "6h"], actions=[ACTION]),
        Threshold(100, "1h", ban="1d", actions=[ACTION]),
    ]
    return [
        Policy("login", login, forgive_after="2d"),
        Policy("api", [Threshold(3, "3s", actions=[ACTION])]),
        Policy("both", [Threshold(3, "1m", actions=[ACTION]), Threshold(5, "1h", actions=[ACTION])]),
        Policy("seen", [Threshold(2, "1m")], track=["1m", "12m"]),
        Policy("watched", [Threshold(2, "1h", ban="1h", actions=[ACTION])], mode="shadow"),
        Policy("trap", [Threshold(1, "1h", burst=0, ban=["1s", "1h", "forever"], actions=[ACTION])]),
    ]


def _changed() -> list[Policy]:
    return [
        Policy("login", [Threshold(1, "1s"), Threshold(9, "9h", ban="9h", actions=[ACTION])], forgive_after="1h"),
        Policy("api", [Threshold(1, "1s"), Threshold(2, "1h", ban="1m", actions=[ACTION])]),
        Policy("both", [Threshold(1, "1h", ban="1h", actions=[ACTION])]),
        Policy("seen", [Threshold(4, "1m")], track=["12m", "24m"]),
        Policy("watched", [Threshold(2, "1h", ban="1h", actions=[ACTION])]),
        Policy("trap", [Threshold(2, "1h", ban="1h", actions=[ACTION]), Threshold(9, "1h")]),
    ]


HOSTILE: Final = (
    "a:b", "a.a", "a", "p:a", "{tag}", "}{", "{0}", "#", "a\0b", "a\0", "a\r\nb", "\r\nFLUSHALL\r\n", " ", "a b", " a",
    "'", '"', "';--", "\\", "$-1\r\n", "*", "?", "_", "a%b", "[a-z]", "../a", "x" * 65_536, "x" * 65_535 + "y",
    "\ud800", "\udfff\ud800", "\ud83d\ude00", "\U0001f600", "caf\u00e9", "cafe\u0301", "CAF\u00c9", "A", "\u00e9" * 60,
    "e\u0301" * 60, "::ffff:1.2.3.4", "1.2.3.4", "fe80::1%eth0", "1.2.3.4:80", "[::1]", "\uff11.2.3.4", "%", "%25",
    "%00", "a%00b", "%~", "x" * 120, "x" * 121, "x" * 250, "x" * 251, "1", "01", "1.0", "1e0", "None", "\u2028",
    "\U0010ffff",
)  # fmt: skip
"""Separators, braces, control characters, lone surrogates, twins by normalization and by case, numbers, long ones."""

JUNK: Final = (b"", b"\0", b"x", b"\xff" * 18, b"null", b"{}", bytes(26), bytes(range(256)), b"\1" + b"\xff" * 25)
"""What is no record, whatever a store's layout is."""
