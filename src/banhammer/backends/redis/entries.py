"""Escalations as Redis keeps them: the fields of an entry in a stream, made by the script or here, and read back."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, Final, cast

from banhammer.backends.names import escape, unescape
from banhammer.durations import FOREVER, to_seconds
from banhammer.escalations import delivered
from banhammer.model import Escalation, Origin, Threshold

GROUP: Final = "banhammer"
"""The consumer group of every stream."""
_VERDICTS: Final = ("throttled", "banned", "lifted")


def rule(threshold: Threshold) -> bytes:
    """Return what an entry says of the threshold that was crossed; empty where no action of it is delivered."""
    names = delivered(threshold.actions)
    return _rule(threshold.limit, threshold.period / 1e6, threshold.reason, names) if names else b""


def entry(escalation: Escalation, names: Sequence[str]) -> list[str | bytes]:
    """Return the fields of an entry, as the script writes them for a hit."""
    until = 0 if escalation.until is None else escalation.until * 1e6 if math.isfinite(escalation.until) else FOREVER
    facts = (
        escalation.verdict, escalation.origin, escalation.threshold, escalation.strikes,
        round(escalation.at * 1e6), round(until), escalation.cost,
    )  # fmt: skip
    return [
        "id", escalation.id,
        "key", subject(escalation),
        "facts", "|".join(map(str, facts)),
        "rule", _rule(escalation.limit, escalation.period, escalation.reason, names),
    ]  # fmt: skip


def subject(escalation: Escalation) -> str:
    """Return whom an escalation is about, as entries and their order name it."""
    return f"{escalation.policy}:{escape(escalation.key)}"


def place_in_order(who: str, entry_id: str) -> str:
    """Return the member that stands for an entry in the order of its key's, as the scripts make it."""
    before, _, behind = entry_id.partition("-")
    return f"{who}|{int(before):016}-{int(behind):016}"


def entry_at(place: str) -> str:
    """Return the id of the entry that a member of the order stands for."""
    before, _, behind = place.rpartition("|")[2].partition("-")
    return f"{int(before)}-{int(behind)}"


def read_entry(fields: Sequence[bytes]) -> tuple[Escalation, tuple[str, ...]]:
    """Return the escalation of an entry, and the names of its actions. Raises `ValueError` for what is none."""
    found = dict(zip(fields[::2], fields[1::2], strict=False))
    try:
        policy, _, escaped = found[b"key"].decode("ascii").partition(":")
        verdict, origin, *numbers = found[b"facts"].decode("ascii").split("|")
        threshold, strikes, at, until, cost = map(int, numbers)
        limit, period, reason, names = json.loads(found[b"rule"])
        escalation = Escalation(
            id=found[b"id"].decode(),
            key=unescape(escaped),
            policy=policy,
            threshold=threshold,
            verdict=cast(Any, _VERDICTS[_VERDICTS.index(verdict)]),
            strikes=strikes,
            at=at / 1e6,
            until=to_seconds(until) if until else None,
            limit=limit,
            period=period,
            cost=cost,
            reason=reason,
            shadow=False,
            origin=cast(Origin, origin),
        )
        return escalation, tuple(map(str, names))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError("an entry of the stream is no escalation") from error


def anew(fields: Sequence[bytes], name: str) -> list[str | bytes]:
    """Return the fields of an entry that delivers one action of another entry once more."""
    escalation, _ = read_entry(fields)
    return entry(escalation, [name])


def _rule(limit: int, period: float, reason: str, names: Sequence[str]) -> bytes:
    return json.dumps([limit, period, reason, list(names)], separators=(",", ":")).encode()
