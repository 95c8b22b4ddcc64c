"""The action: an escalation as JSON, signed and posted; what the answer means for its delivery."""

from __future__ import annotations

import json
import math
import ssl
import time
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import quote

from banhammer import Escalation, GiveUp, RetryAfter
from banhammer.errors import BanhammerError
from banhammer_webhook.settings import Settings, read
from banhammer_webhook.signing import SIGNATURE, TIMESTAMP, sign
from banhammer_webhook.wire import Resolve, addresses, post

LONGEST_WAIT: Final = 3600
"""Seconds: what a receiver asks for beyond that is cut."""


class DeliveryError(BanhammerError):
    """The receiver could not be reached, or said that it cannot now; the delivery is worth another try."""


class Webhook:
    """Reports each escalation in one signed POST, and its lifting in another; safe to use from many threads.

    `deadline` is what banhammer should grant one try: the timeout and a second. `resolve` finds the addresses of
    a host; what it returns is judged like any other answer.
    """

    def __init__(self, settings: Settings, *, resolve: Resolve = addresses) -> None:
        self._settings = settings
        self._resolve = resolve
        self._context = ssl.create_default_context() if settings.secure else None
        self.deadline = settings.timeout + 1

    @classmethod
    def from_settings(cls, table: Mapping[str, Any], *, resolve: Resolve = addresses) -> Webhook:
        """Return the action that a table `[actions.webhook]` describes; raises `ConfigError`."""
        return cls(read(table), resolve=resolve)

    def __repr__(self) -> str:
        return f"Webhook({self._settings.origin!r})"

    def run(self, escalation: Escalation) -> None:
        """Post an escalation; raises `RetryAfter`, `DeliveryError`, or `GiveUp` where another try is no use."""
        settings = self._settings
        body = encode(escalation)
        timestamp = str(int(time.time()))
        headers = {
            "User-Agent": "banhammer-webhook",
            **settings.headers,
            "Content-Type": "application/json",
            "Connection": "close",
            "Idempotency-Key": f"{quote(escalation.id, errors='surrogatepass')}-{escalation.verdict}",
            TIMESTAMP: timestamp,
            SIGNATURE: ",".join(sign(secret, timestamp, body) for secret in settings.secrets),
        }
        try:
            status, retry_after = post(settings, self._context, self._resolve, headers, body)
        except TimeoutError:
            raise DeliveryError(f"{settings.origin}: no answer within {settings.timeout:g} s") from None
        except (OSError, HTTPException, ValueError) as error:  # Not as the cause: it may show what was received.
            raise DeliveryError(f"{settings.origin}: {type(error).__name__} {ascii(str(error))[:200]}") from None
        _judge(settings.origin, status, retry_after)

    lift = run
    """Post the lifting of a ban: the same id, the verdict `lifted`."""


def encode(escalation: Escalation) -> bytes:
    """Return the body: strict JSON, ASCII only; an `until` without an end is `"forever"`."""
    fields = asdict(escalation)
    if fields["until"] == math.inf:
        fields["until"] = "forever"
    return json.dumps(fields, allow_nan=False).encode("ascii")


def _judge(origin: str, status: int, retry_after: str) -> None:
    if 200 <= status < 300:
        return
    why = f"{origin} answered {status}"
    if 300 <= status < 500 and status != 429:
        raise GiveUp(f"{why}; redirects are not followed, so correct the url" if status < 400 else why)
    wait = _seconds(retry_after)
    if wait > 0:
        raise RetryAfter(min(wait, LONGEST_WAIT), why)
    raise DeliveryError(why)


def _seconds(retry_after: str) -> float:
    """Return how long a Retry-After asks to wait, 0 where it says nothing that can be meant."""
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0
