"""What a replay found: plain values that the terminal report, `--json` and the HTML page show.

Times are Unix seconds (`int` where whole), spans are seconds, shares are 0 to 1. Where addresses are to be
masked, every text in here is masked already: whoever shows a summary shows it as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

BINS: Final = 20
"""Bins of a headroom histogram: bin i holds the keys whose fullest meter was in [i / 20, (i + 1) / 20)."""


@dataclass(slots=True)
class Verdicts:
    """How many were allowed, throttled and banned: requests, or the hits of one policy."""

    allowed: int = 0
    throttled: int = 0
    banned: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.allowed + self.throttled + self.banned

    @property
    def denied(self) -> int:
        """Those kept out, by a throttle or a ban."""
        return self.throttled + self.banned

    def as_json(self) -> dict[str, int]:
        """Return the three numbers by name."""
        return {"allowed": self.allowed, "throttled": self.throttled, "banned": self.banned}


@dataclass(slots=True)
class Served:
    """One key that was denied although the log says that it was served: a person who would have been hurt?"""

    key: str
    count: int
    """Its requests that would have been kept out and have a status of 2xx or 3xx in the log."""
    user_agent: str
    """The one of the first such request; empty when the log has none."""


@dataclass(slots=True)
class Bucket:
    """One bar of the timeline: the requests of `[start, start + width)` by the decision that ended them."""

    start: int
    width: int
    allowed: int = 0
    throttled: int = 0
    banned: int = 0
    bans: int = 0
    """Bans that started (or were lengthened by a higher threshold) in this bucket."""


@dataclass(slots=True)
class Headroom:
    """How full the meters of one threshold got: each key's highest share of the tolerance, over all keys."""

    keys: int = 0
    histogram: list[int] = field(default_factory=lambda: [0] * BINS)
    """Keys that this threshold never denied, by their peak; `BINS` bins from 0 to 1 (the limit)."""
    over: int = 0
    """Keys that went over: denied at least once by this threshold. They stand right of the limit."""
    median: float = 0.0
    """Over all keys; a key that went over counts as 1. 0 when there is no key. So does `p99`."""
    p99: float = 0.0
    nearest: float | None = None
    """The highest peak of a key that this threshold never denied; `None` when there is no such key."""
    nearest_key: str | None = None


@dataclass(slots=True)
class WhatIf:
    """How many of the same hits one threshold alone would have denied with another limit.

    Limit and burst are scaled together; the ladder stays. Alone, because in its policy a higher threshold may
    deny what this one would have: so compare with `unchanged`, not with what it did deny in company.
    """

    half: int = 0
    double: int = 0
    quadruple: int = 0
    unchanged: int = 0
    """With the limit as it is."""


@dataclass(slots=True)
class ThresholdReport:
    """What one threshold of a policy did."""

    policy: str
    index: int
    bans_keys: bool
    """True for a ban threshold, false for a throttle."""
    limit: int
    period: float
    """Seconds."""
    burst: int
    hits: int = 0
    """The hits of its policy: every one of them is measured by every threshold."""
    throttled: int = 0
    """Hits that this throttle denied."""
    banned: int = 0
    """Hits denied because this ban threshold tripped or its ban was in force."""
    bans: int = 0
    """Times that it tripped."""
    keys: int = 0
    """Distinct keys that it denied."""
    headroom: Headroom = field(default_factory=Headroom)
    what_if: WhatIf = field(default_factory=WhatIf)

    @property
    def denied(self) -> int:
        """The hits that it denied, in either way."""
        return self.throttled + self.banned

    @property
    def name(self) -> str:
        """The threshold by policy and index, like `login_failed.1`, and as it is written in a file."""
        return f"{self.policy}.{self.index}"


@dataclass(slots=True)
class PolicyReport:
    """What one policy did: its hits by verdict, its thresholds, and its rule in words."""

    name: str
    shadow: bool = False
    """In shadow: the verdicts are what enforcement would have said, and no request was denied by it."""
    hits: Verdicts = field(default_factory=Verdicts)
    keys: int = 0
    """Distinct keys that it counted (an allowed guard counts nothing)."""
    words: list[str] = field(default_factory=list)
    """The rule in words, a line for each threshold or so."""
    thresholds: list[ThresholdReport] = field(default_factory=list)


@dataclass(slots=True)
class BanReport:
    """One threshold that tripped: a ban began or was lengthened."""

    key: str
    policy: str
    threshold: int
    at: float
    until: float
    """The end of the ban then in force; `math.inf` for ever."""
    strikes: int
    reason: str

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` prints; `until` is null for ever."""
        return {
            "key": self.key,
            "policy": self.policy,
            "threshold": self.threshold,
            "at": whole(self.at),
            "until": None if self.until == math.inf else whole(self.until),
            "strikes": self.strikes,
            "reason": self.reason,
        }


@dataclass(slots=True)
class WorstKey:
    """One of the keys that were kept out most."""

    key: str
    requests: int
    """All its requests."""
    kept_out: int
    """Those that were denied, by a throttle or a ban."""
    first_ban: float | None = None
    """When it was first banned, `None` if it was only throttled."""
    before: int | None = None
    """Its requests before the one that banned it, `None` without a ban."""
    longest: float = 0.0
    """Its longest ban in seconds, `math.inf` for ever, 0 without a ban."""
    strikes: int = 0
    """The most strikes that it had under one policy."""
    served: int = 0
    """Kept out although served, see `Served`."""
    user_agent: str = ""
    """The one of its first request that was kept out; empty when the log has none."""


@dataclass(slots=True)
class Summary:
    """All that one replay found."""

    sources: list[str] = field(default_factory=list)
    """The logs, as they were named; `-` is stdin."""
    rules: str = "the starter rules"
    """Where the rules came from: the name of the file, or `the starter rules`."""
    lines: int = 0
    """Every line read."""
    skipped: int = 0
    """Lines of which address, time, method, path or status could not be read."""
    samples: list[str] = field(default_factory=list)
    """Up to five skipped lines, printable: `source:number: what is missing: the beginning of the line`."""
    first: float | None = None
    """The earliest time of a line that was not skipped, `None` when there is none."""
    last: float | None = None
    keys: int = 0
    """Distinct clients, as `ip_key` spells them."""
    requests: Verdicts = field(default_factory=Verdicts)
    """Every line that was not skipped, once, by the decision that ended it."""
    denied_served: int = 0
    """Requests kept out although the log says 2xx or 3xx."""
    served: list[Served] = field(default_factory=list)
    """The worst five of these, most first."""
    not_replayable: list[str] = field(default_factory=list)
    """Routes whose key no line of the log holds, like `routes.2: api by header:x-api-key`."""
    timeline: list[Bucket] = field(default_factory=list)
    """Without gaps, at most 72 buckets, all of one width."""
    policies: list[PolicyReport] = field(default_factory=list)
    """All policies of the configuration, in its order."""
    idle: list[str] = field(default_factory=list)
    """Rules that never fired, a line each, like `login_failed: no request came here`."""
    bans: list[BanReport] = field(default_factory=list)
    """In the order in which they were made."""
    banned_keys: int = 0
    """Distinct keys that were banned; count here, because masked keys may look alike."""
    worst: list[WorstKey] = field(default_factory=list)
    """At most ten, most kept out first."""
    doubts: list[str] = field(default_factory=list)
    """Why the numbers may mislead, a sentence each; empty only when there is no reason."""
    next_step: str = ""
    """What to do now: a sentence that ends with, or is followed by, a command."""

    @property
    def thresholds(self) -> list[ThresholdReport]:
        """The thresholds of all policies, in order."""
        return [threshold for policy in self.policies for threshold in policy.thresholds]

    @property
    def sentence(self) -> str:
        """The whole replay in one sentence."""
        requests = self.requests
        if not self.lines:
            return "The log is empty"
        if not requests.total:
            return f"{count(self.lines, 'line')}, none of which could be read as a request"
        who = f"{count(requests.total, 'request')}, {count(self.keys, 'key')}, {dates(self.first, self.last)}"
        shares = [f"let {percent(requests.allowed, requests.total)} through"]
        shares.append(f"throttled {percent(requests.throttled, requests.total)}")
        shares.append(f"banned {percent(requests.banned, requests.total)}")
        if not self.bans:
            return f"{who}: {', '.join(shares)}: no bans"
        bans = f"{count(len(self.bans), 'ban')} of {count(self.banned_keys, 'key')}"
        return f"{who}: {', '.join(shares)}: {bans}"

    @property
    def shadow(self) -> str:
        """What the sentence leaves out where policies are in shadow; empty where none is."""
        policies = [policy for policy in self.policies if policy.shadow]
        if not policies:
            return ""
        denied = count(sum(policy.hits.denied for policy in policies), "hit")
        if len(policies) == 1:
            return f"1 policy is in shadow, so nothing of it is enforced; it would have denied {denied}."
        return (
            f"{len(policies):,} policies are in shadow, so nothing of theirs is enforced; they would have "
            f"denied {denied}."
        )

    def as_json(self) -> dict[str, Any]:
        """Return the one object that `--json` prints."""
        return {
            "lines": self.lines,
            "skipped": self.skipped,
            "first": None if self.first is None else whole(self.first),
            "last": None if self.last is None else whole(self.last),
            "keys": self.keys,
            "requests": self.requests.as_json(),
            "denied_served": self.denied_served,
            "not_replayable": list(self.not_replayable),
            "policies": {policy.name: policy.hits.as_json() for policy in self.policies},
            "bans": [ban.as_json() for ban in self.bans],
        }


def whole(seconds: float) -> float:
    """Return a whole number of seconds as an `int`, anything else as it is."""
    return int(seconds) if math.isfinite(seconds) and seconds == int(seconds) else seconds


def count(number: int, noun: str) -> str:
    """Return a number with its noun, like `1 key` or `1,753 keys`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def percent(part: int, total: int) -> str:
    """Return a share like `0.6 %`; never `0.0 %` of something, nor `100.0 %` where something is missing."""
    if part == 0 or not total:
        return "0 %"
    if part == total:
        return "100 %"
    share = 100 * part / total
    if share < 0.05:
        return "under 0.1 %"
    return f"{min(share, 99.9):.1f} %"


def dates(first: float | None, last: float | None) -> str:
    """Return the days from `first` to `last` (UTC), as short as they can be said, like `17-20 May 2015`."""
    if first is None or last is None:
        return "no time"
    start, end = (datetime.fromtimestamp(moment, UTC) for moment in (first, last))
    tail = f"{end.day} {end:%b %Y}"
    if start.date() == end.date():
        return tail
    if start.year != end.year:
        return f"{start.day} {start:%b %Y} to {tail}"
    if start.month != end.month:
        return f"{start.day} {start:%b} to {tail}"
    return f"{start.day}-{tail}"
