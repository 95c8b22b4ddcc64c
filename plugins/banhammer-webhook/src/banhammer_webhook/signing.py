"""Signatures: HMAC-SHA256 over the timestamp, a dot and the body, made here and verified by the receiver."""

from __future__ import annotations

import hmac
import time
from collections.abc import Iterable
from typing import Final, Protocol

TIMESTAMP: Final = "Banhammer-Timestamp"
SIGNATURE: Final = "Banhammer-Signature"


class Headers(Protocol):
    """The headers of a request: a dict, or what a web framework calls headers."""

    def items(self) -> Iterable[tuple[str, str]]:
        """Return names and values."""
        ...


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """Return one signature, like `v1=5257a8...`."""
    signed = timestamp.encode("utf-8", "replace") + b"." + body
    return "v1=" + hmac.new(secret.encode("utf-8", "surrogateescape"), signed, "sha256").hexdigest()


def verify(secret: str, headers: Headers, body: bytes, *, tolerance: float = 300, now: float | None = None) -> bool:
    """Return whether whoever sent `body`, as received and not yet parsed, knows `secret` and sent it just now.

    `headers`: those of the request, in any case. `tolerance`: how many seconds the two clocks may differ, the
    way included. `now`: Unix seconds, default this machine's clock. Never raises for what a sender may send.
    """
    if not secret:
        raise ValueError("secret: ''; anybody can sign with it, so give the one of the sender")
    found = {name.lower(): value for name, value in headers.items()}
    timestamp = found.get(TIMESTAMP.lower(), "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        return False
    if abs((time.time() if now is None else now) - int(timestamp)) > tolerance:
        return False
    right = sign(secret, timestamp, body).encode()
    given = found.get(SIGNATURE.lower(), "").split(",")
    return any(hmac.compare_digest(right, one.strip().encode("utf-8", "replace")) for one in given)
