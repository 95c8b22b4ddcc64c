"""Why a key is where it is under one policy: the record in words, and what would come next; no I/O."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final, Literal

from banhammer.backends import Reading
from banhammer.decision import rates, rooms
from banhammer.durations import FOREVER, SECOND, format_duration, seconds_until, to_seconds
from banhammer.model import Ban, Mode, Policy, Record
from banhammer.words import ordinal, rate

State = Literal["unknown", "free", "throttled", "banned", "allowlisted", "denylisted"]
ListName = Literal["allow", "deny"]

_LISTED: Final[dict[ListName, State]] = {"allow": "allowlisted", "deny": "denylisted"}


@dataclass(frozen=True, slots=True)
class Meter:
    """One threshold as the key stands to it; times are Unix seconds, `full` is 0.0 to 1.0.

    `room`: units that still fit at once. `ban_for`: how long the ban lasts that the next trip brings (seconds, `inf`
    for ever), `None` on a throttle. `asleep`: it counts nothing while the present ban lasts.
    """

    threshold: int
    kind: Literal["throttle", "ban"]
    rule: str
    full: float
    room: int
    empty_at: float | None
    asleep: bool
    ban_for: float | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is known of one key under one policy; times are Unix seconds, `inf` for never.

    `wait`: seconds until a throttled key has room for one unit, or a banned one is let in again; `now`: when it was
    read; `banned_until` and `forgotten_at` are `None` without a ban and without strikes; `ban` has the details of the
    ban in force.
    """

    key: str
    policy: str
    state: State
    mode: Mode
    now: float
    wait: float
    banned_until: float | None
    ban: Ban | None
    strikes: int
    forgotten_at: float | None
    meters: tuple[Meter, ...]
    rates: dict[str, int] | None

    @property
    def known(self) -> bool:
        """Whether the store knows anything of the key."""
        metered = any(meter.empty_at is not None for meter in self.meters)
        return bool(self.strikes or self.banned_until is not None or metered or any((self.rates or {}).values()))


def explain(policy: Policy, listed: ListName | None, reading: Reading) -> Explanation:
    """Return what `reading` says of its key; `listed` is the list that the key is on."""
    record, now = reading.record, reading.now
    banned = now < record.banned_until
    forgotten = min(record.banned_until + policy.forgive_after, FOREVER)
    wait = seconds_until(record.banned_until, now) if banned else max(_wait(policy, record, now), 0) / 1e6
    found = Explanation(
        key=reading.key,
        policy=policy.name,
        state="unknown",
        mode=policy.mode or "enforce",
        now=now / 1e6,
        wait=wait,
        banned_until=to_seconds(record.banned_until) if banned else None,
        ban=reading.ban,
        strikes=record.strikes,
        forgotten_at=to_seconds(forgotten) if record.strikes else None,
        meters=tuple(_meters(policy, record, now)),
        rates=rates(policy, record, now),
    )
    return replace(found, state=_LISTED[listed] if listed else _state(found))


def _wait(policy: Policy, record: Record, now: int) -> int:
    """Return how long the throttles would deny one unit (us)."""
    return max(
        (
            tat + threshold.interval - threshold.tolerance - now
            for threshold, tat in zip(policy.thresholds, record.tats, strict=True)
            if not threshold.ban
        ),
        default=0,
    )


def _state(found: Explanation) -> State:
    if found.banned_until is not None:
        return "banned"
    if found.wait:
        return "throttled"
    return "free" if found.known else "unknown"


def _meters(policy: Policy, record: Record, now: int) -> Iterator[Meter]:
    banned = now < record.banned_until
    lengthening, another = record.strikes, record.strikes + 1
    found = zip(policy.thresholds, record.tats, rooms(policy, record, now), strict=True)
    for index, (threshold, tat, room) in enumerate(found):
        awake = banned and threshold.ban and index > record.level
        taken = max(tat - now, 0)
        yield Meter(
            threshold=index,
            kind="ban" if threshold.ban else "throttle",
            rule=rate(threshold) if threshold.burst else "none at all",
            full=taken / threshold.tolerance if threshold.tolerance else 0.0,
            room=room,
            empty_at=tat / 1e6 if taken else None,
            asleep=banned and not awake,
            ban_for=to_seconds(threshold.duration(lengthening if awake else another)) if threshold.ban else None,
        )


# In words.


def sentences(found: Explanation) -> list[str]:
    """Return the explanation as lines: where the key is, by what, its strikes, its meters, what comes next."""
    return [_where(found), *(f"  {line}" for line in _lines(found))]


def _lines(found: Explanation) -> Iterator[str]:
    if found.mode == "shadow":
        yield "shadow: the policy only watches, so nobody is kept out"
    if found.state == "unknown":
        yield from (f"threshold {meter.threshold}: {meter.rule}; {_next(found, meter)}" for meter in found.meters)
        return
    if found.banned_until is not None:
        yield from _cause(found)
    if found.forgotten_at is not None:
        yield f"strikes: {found.strikes:,}, {_forgotten(found)}"
    for meter in found.meters:
        yield f"threshold {meter.threshold}: {meter.rule}; {_level(found, meter)}; {_next(found, meter)}"
    if found.rates:
        yield "hits: " + ", ".join(f"{count:,} in {window}" for window, count in found.rates.items())


def _where(found: Explanation) -> str:
    who = f"{visible(found.key)} under {found.policy}"
    if found.state == "allowlisted":
        return f"{who}: on the allow list, so let through whatever it does; the store is not asked"
    if found.state == "denylisted":
        return f"{who}: on the deny list, so kept out whatever it does; the store is not asked"
    if found.banned_until is not None:
        return f"{who}: banned {until(found.banned_until, found.now)}"
    if found.state == "throttled":
        return f"{who}: throttled, with room for one more in {lasting(found.wait)}"
    return f"{who}: nothing is known, as if never seen" if found.state == "unknown" else f"{who}: let through"


def _cause(found: Explanation) -> Iterator[str]:
    if found.ban is None:
        yield "the details of the ban are not known"
        return
    ban = found.ban
    rule = found.meters[ban.threshold].rule
    by = f"by {'hand' if ban.origin == 'manual' else 'a hit'}"
    reason = f": {visible(ban.reason)}" if ban.reason else ""
    yield f"since {moment(ban.since)}, {by}{reason}"
    yield f"at threshold {ban.threshold} ({rule}), escalation {ban.id}"


def _forgotten(found: Explanation) -> str:
    if found.forgotten_at is None or found.forgotten_at == math.inf:
        return "not forgotten while the ban lasts"
    return f"forgotten {_when(found.forgotten_at, found)}"


def _level(found: Explanation, meter: Meter) -> str:
    if meter.empty_at is None:
        return "empty"
    return f"{100 * meter.full:.0f} % full, empty {_when(meter.empty_at, found)}"


def _next(found: Explanation, meter: Meter) -> str:
    """Return what the next units do to one meter."""
    if meter.asleep:
        if meter.ban_for is None:
            return "not asked while the ban lasts"
        if found.banned_until == math.inf:
            return "asleep while the ban lasts"
        return f"asleep while the ban lasts, then bans {_for(meter.ban_for)}"
    fit = "fits" if meter.room == 1 else "fit"
    which = f"{meter.room:,} more {fit} at once, the {ordinal(meter.room + 1)}" if meter.room else "the next"
    if meter.ban_for is None:
        return f"{which} is throttled"
    if found.banned_until is None:
        return f"{which} bans {_for(meter.ban_for)} (strike {found.strikes + 1:,})"
    if found.now + meter.ban_for <= found.banned_until:
        return f"{which} does not lengthen the ban: it would be {_for(meter.ban_for)}"
    return f"{which} lengthens the ban: {_for(meter.ban_for)} from then"


def _for(seconds: float) -> str:
    return "for ever" if seconds == math.inf else f"for {lasting(seconds)}"


def _when(seconds: float, found: Explanation) -> str:
    return f"in {lasting(seconds - found.now)}"


def until(seconds: float, now: float | None = None) -> str:
    """Return `until 2025-06-15 16:06:40 UTC (1h more)`, or `for ever`; Unix seconds."""
    if seconds == math.inf:
        return "for ever"
    rest = "" if now is None else f" ({lasting(seconds - now)} more)"
    return f"until {moment(seconds)}{rest}"


def moment(seconds: float) -> str:
    """Return Unix seconds as a time of day in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"


def lasting(seconds: float) -> str:
    """Return a finite span to the second where it is longer than one: nobody reads `59m58s999ms`."""
    micros = round(seconds * SECOND)
    return format_duration(micros if micros < SECOND else round(seconds) * SECOND)


def visible(text: str) -> str:
    """Return a text that a client may have chosen without what could steer a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
