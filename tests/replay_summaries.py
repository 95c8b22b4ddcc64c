"""Summaries of replays to show: a usual one, empty ones, an attacker's, and a very large one."""

from __future__ import annotations

import math

from banhammer.replay.summary import (
    BanReport,
    Bucket,
    Headroom,
    PolicyReport,
    Served,
    Summary,
    ThresholdReport,
    Verdicts,
    WhatIf,
    WorstKey,
)

START = 1_431_856_800
"""17 May 2015, 10:00 UTC."""
HOUR = 3_600
HOSTILE = "</script><img src=x onerror=alert(1)>\"'&amp;${page}\x00\x1b[31m\u202e\u200f\udc80\ufffe\r\n]]>--><!--"
"""What an attacker writes into a header: markup, quotes, NUL, an escape, right-to-left marks, a lone surrogate."""


def usual() -> Summary:
    """Return four days with bans of three keys, one of them for ever."""
    buckets = [Bucket(START + index * HOUR, HOUR, 80 + index * 7 % 50, index % 3) for index in range(72)]
    for index, bans in ((14, 1), (40, 2), (41, 12), (60, 1)):
        buckets[index].banned, buckets[index].bans = 30 + bans, bans
    requests = Verdicts(
        sum(bucket.allowed for bucket in buckets),
        sum(bucket.throttled for bucket in buckets),
        sum(bucket.banned for bucket in buckets),
    )
    at = START + 15 * HOUR
    login = PolicyReport("login_failed", False, Verdicts(120, 0, 160), 9, ["10 at once, then 1 every 6m"])
    login.thresholds = [
        _threshold("login_failed", 0, ban=True, limit=10, over=2),
        _threshold("login_failed", 1, ban=True, limit=100, over=0),
    ]
    hammering = PolicyReport("hammering", True, Verdicts(7_000, 70, 0), 1_700, ["60 at once, then 1 every 500ms"])
    hammering.thresholds = [_threshold("hammering", 0, ban=False, limit=120, over=4)]
    return Summary(
        sources=["access.log", "access.log.1.gz"],
        lines=requests.total + 3,
        skipped=3,
        samples=["access.log:8: no status: 203.0.113.9 - - [", "access.log:9: no time: x", "access.log:10: empty"],
        first=START,
        last=START + 72 * HOUR - 1,
        keys=1_753,
        requests=requests,
        denied_served=23,
        served=[Served("198.51.100.7", 21, "Mozilla/5.0 (X11; Linux x86_64)"), Served("2001:db8::/64", 2, "")],
        not_replayable=["routes.2: api by header:x-api-key"],
        timeline=buckets,
        policies=[login, hammering],
        idle=["login_failed.1: never crossed"],
        bans=[
            BanReport("203.0.113.9", "login_failed", 0, at, at + HOUR, 1, "over 10 per 1h"),
            BanReport("203.0.113.9", "login_failed", 0, at + 2 * HOUR, at + 8 * HOUR, 2, "over 10 per 1h"),
            BanReport("203.0.113.9", "login_failed", 1, at + 4 * HOUR, at + 172 * HOUR, 2, "over 100 per 1h"),
            BanReport("2001:db8:17:2a::/64", "login_failed", 0, at + 26 * HOUR, at + 27 * HOUR, 1, "over 10 per 1h"),
            BanReport("198.51.100.23", "login_failed", 1, at + 45.5 * HOUR, math.inf, 1, "over 100 per 1h"),
        ],
        banned_keys=3,
        worst=[
            WorstKey("203.0.113.9", 290, 160, at, 34, 168.0 * HOUR, 2, 0, "python-requests/2.31.0"),
            WorstKey("198.51.100.23", 90, 33, at + 45.5 * HOUR, 3, math.inf, 1),
            WorstKey("198.51.100.7", 482, 14, served=14, user_agent="Mozilla/5.0"),
        ],
        doubts=["3 lines could not be read and were left out.", "All times are whole seconds."],
        next_step="Make the rules yours: banhammer init, edit banhammer.toml, then banhammer replay access.log",
    )


def unread() -> Summary:
    """Return a replay of which no line could be read."""
    doubts = ["3 lines (100 %) could not be read and were left out."]
    return Summary(sources=["-"], lines=3, skipped=3, samples=["-:1: no time: GET /"], doubts=doubts)


def single() -> Summary:
    """Return a replay of one request."""
    policy = PolicyReport("api", False, Verdicts(1), 1, ["10 at once"])
    policy.thresholds = [_threshold("api", 0, ban=False, limit=10, over=0, keys=1)]
    return Summary(
        sources=["one.log"],
        lines=1,
        first=START,
        last=START,
        keys=1,
        requests=Verdicts(1),
        timeline=[Bucket(START, 1, 1)],
        policies=[policy],
    )


def hostile(words: str = HOSTILE) -> Summary:
    """Return the usual replay with an attacker's words wherever a log or a name can bring them."""
    summary = usual()
    summary.sources, summary.rules = [words] * 9, words
    summary.samples = summary.doubts = summary.idle = summary.not_replayable = [words]
    summary.next_step = f"{words} then banhammer replay {words}"
    for served in summary.served:
        served.key = served.user_agent = words
    for worst in summary.worst:
        worst.key = worst.user_agent = words
    for ban in summary.bans:
        ban.key = ban.policy = ban.reason = words
    for policy in summary.policies:
        policy.name, policy.words = words, [words]
    for threshold in summary.thresholds:
        threshold.policy = threshold.headroom.nearest_key = words
    return summary


def large() -> Summary:
    """Return what 10,000 lines can come to at the worst: a ban for nearly every line, and 200 thresholds."""
    summary = usual()
    summary.bans = [
        BanReport(
            f"2001:db8:{index % 40:x}::/64", "login_failed", 0, START + index * 25, START + index * 25 + 9, 1, "x"
        )
        for index in range(9_000)
    ]
    summary.banned_keys = 40
    policies = [PolicyReport(f"policy-{index}", words=["some words " * 8]) for index in range(200)]
    for policy in policies:
        policy.thresholds = [_threshold(policy.name, 0, ban=True, limit=10, over=2)]
    summary.policies = policies
    summary.idle = ["a rule that never fired"] * 200
    return summary


def _threshold(policy: str, index: int, *, ban: bool, limit: int, over: int, keys: int = 1_600) -> ThresholdReport:
    histogram = [keys, *(max(keys // 40 - 9 * index, 0) for index in range(19))]
    return ThresholdReport(
        policy,
        index,
        ban,
        limit,
        3_600.0,
        limit,
        hits=7_000,
        throttled=0 if ban else 17 * over,
        banned=17 * over if ban else 0,
        bans=over if ban else 0,
        keys=over,
        headroom=Headroom(sum(histogram) + over, histogram, over, 0.02, 0.41, 0.97, "192.0.2.44"),
        what_if=WhatIf(340, 12, 0, 34),
    )
