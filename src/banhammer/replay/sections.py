"""The sections of the page, one function each, in the order in which they stand there."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

from banhammer.replay import charts, lanes
from banhammer.replay.axes import moment, span
from banhammer.replay.blocks import (
    ROWS,
    details,
    intro,
    items,
    left_out,
    nothing,
    quantity,
    section,
    share,
    table,
    wide,
)
from banhammer.replay.markup import code, text
from banhammer.replay.summary import BanReport, Bucket, Summary, count, percent

_COMMAND: Final = re.compile(r"(?::|\bthen)\s+(?=banhammer )|\n\s*(?=banhammer )")
"""What stands before a command in a next step; the last one is set off."""


def figures(summary: Summary) -> str:
    """Return the four figures, and what policies in shadow would have added to them."""
    requests = summary.requests
    bans = "no bans"
    if summary.bans:
        bans = f"{count(len(summary.bans), 'ban')} of {count(summary.banned_keys, 'key')}"
    cards = [
        ("allowed", "Let through", share(requests.allowed, requests.total), count(requests.allowed, "request")),
        ("throttled", "Throttled", share(requests.throttled, requests.total), count(requests.throttled, "request")),
        ("banned", "Banned", share(requests.banned, requests.total), f"{count(requests.banned, 'request')}, {bans}"),
        ("served", "Denied although served", f"{summary.denied_served:,}", "kept out, but the log says 2xx or 3xx"),
    ]
    shadow = f"<section>{intro(summary.shadow)}</section>\n" if summary.shadow and requests.total else ""
    return (
        f'{shadow}<ul class="figures">'
        + "".join(
            f'<li class="is-{kind}"><span class="what">{what}</span>'
            f'<span class="value">{value}</span><span class="of">{of}</span></li>'
            for kind, what, value, of in cards
        )
        + "</ul>"
    )


def timeline(summary: Summary) -> str:
    """Return the requests over time, as a chart and as a table."""
    if not summary.timeline:
        return section(
            "Requests over time", nothing("No line could be read as a request, so there is nothing to draw.")
        )
    width = span(summary.timeline[0].width)
    legend = _legend(("is-allowed", "let through"), ("is-throttled", "throttled"), ("is-banned", "banned"))
    rows = [_bucket(bucket) for bucket in summary.timeline]
    head = ("from (UTC)", "let through", "throttled", "banned", "bans began")
    return section(
        "Requests over time",
        intro(f"One bar is {width}; the clock is UTC."),
        legend,
        f"<figure>{wide('Chart of requests over time', charts.timeline(summary.timeline))}</figure>",
        details("The same as a table", table("Requests over time", head, rows)),
    )


def served(summary: Summary) -> str:
    """Return whom the rules would have hurt."""
    title = "Denied although served"
    if not summary.denied_served:
        lead = "Nobody: every request that the rules kept out was also refused in the log."
        if not summary.requests.denied:
            lead = "Nobody: the rules kept nothing out."
        return section(title, nothing(lead))
    rows = [[code(one.key, 80), f"{one.count:,}", _long(one.user_agent)] for one in summary.served]
    part = percent(summary.denied_served, summary.requests.total)
    lead = (
        f"{count(summary.denied_served, 'request')} ({part} of all) would have been kept out, though the log says "
        "2xx or 3xx. Look whether these are people: each is somebody whom the rules would have hurt, or a robot "
        "that was let in."
    )
    head = ("key", "requests", "user agent of the first")
    return section(title, intro(lead), table(title, head, rows, words=(0, 2)))


def bans(summary: Summary) -> str:
    """Return the bans over time, a lane for each key, and the bans as a table."""
    title = "Bans over time"
    if not summary.bans:
        return section(title, nothing("No bans: no key crossed a ban threshold."))
    first = summary.bans[0].at if summary.first is None else summary.first
    last = summary.bans[-1].at if summary.last is None else summary.last
    hidden = max(len(lanes.lanes(summary.bans)) - lanes.LANES, 0)
    lead = "A bar runs from the ban to its end; the number in it, where there is room, counts the key's strikes."
    if hidden:
        lead += f" The {lanes.LANES} lanes with the longest bans are drawn, {hidden:,} more are left out."
    rows = [_ban(ban) for ban in summary.bans[:ROWS]]
    head = ("key", "threshold", "at (UTC)", "how long", "strike", "reason")
    shown = "The bans as a table" if len(rows) == len(summary.bans) else f"The first {ROWS} bans as a table"
    more = len(summary.bans) - len(rows)
    return section(
        title,
        intro(lead),
        f"<figure>{wide('Chart of bans over time', lanes.bans_over_time(summary.bans, first, last))}</figure>",
        details(shown, table("Bans", head, rows, words=(0, 1, 5)), left_out(more, "ban")),
    )


def worst(summary: Summary) -> str:
    """Return the keys that were kept out most."""
    title = "Worst keys"
    if not summary.worst:
        return section(title, nothing("No key was kept out."))
    head = ("key", "requests", "kept out", "served", "first ban (UTC)", "before it", "longest ban", "strikes")
    rows = [
        [
            code(one.key, 80) + (f'<small class="long">{text(one.user_agent, 120)}</small>' if one.user_agent else ""),
            f"{one.requests:,}",
            quantity(one.kept_out),
            quantity(one.served),
            "\u2013" if one.first_ban is None else moment(one.first_ban),
            "\u2013" if one.before is None else f"{one.before:,}",
            span(one.longest) if one.longest else "\u2013",
            quantity(one.strikes),
        ]
        for one in summary.worst
    ]
    lead = "Served: kept out although the log says 2xx or 3xx. Before it: requests before the first ban."
    return section(title, intro(lead), table(title, head, rows))


def rules(summary: Summary) -> str:
    """Return the rules in words, and what of them did nothing."""
    parts = [intro(f"From {summary.rules}.")]
    for policy in summary.policies[:ROWS]:
        badge = '<span class="badge">shadow: keeps nobody out</span>' if policy.shadow else ""
        parts.append(f'<div class="rule"><h3>{code(policy.name)}{badge}</h3>{items(policy.words)}</div>')
    parts.append(left_out(len(summary.policies) - ROWS, "policy", "policies"))
    if summary.idle:
        parts.append(f'<div class="rule"><h3>Never fired</h3>{items(summary.idle)}</div>')
    if summary.not_replayable:
        parts.append(
            '<div class="rule"><h3>Not replayable: the log does not hold their keys</h3>'
            f"{items(summary.not_replayable)}</div>"
        )
    return section("The rules in words", *parts)


def doubts(summary: Summary) -> str:
    """Return why the numbers may mislead, with samples of the skipped lines."""
    if not summary.doubts and not summary.skipped:
        return section("Doubts", nothing("None: every line could be read, and nothing looks odd."), anchor="doubts")
    lead = "" if summary.doubts else f"{summary.skipped:,} of {count(summary.lines, 'line')} could not be read."
    samples = "".join(f"<li>{code(sample)}</li>" for sample in summary.samples)
    return section(
        "Doubts",
        intro(lead) if lead else "",
        items(summary.doubts),
        f'<ul class="samples" aria-label="Skipped lines">{samples}</ul>' if samples else "",
        anchor="doubts",
    )


def next_step(summary: Summary) -> str:
    """Return what to do now, its last command set off."""
    if not summary.next_step:
        return ""
    words, command = summary.next_step, ""
    for start in _COMMAND.finditer(summary.next_step):
        words, command = summary.next_step[: start.end()].rstrip(), summary.next_step[start.end() :]
    set_off = f'<pre class="code">{text(command, 1_000)}</pre>' if command else ""
    return f'<section class="next"><h2>Next step</h2><p>{text(words, 1_000)}</p>{set_off}</section>'


def _legend(*entries: tuple[str, str]) -> str:
    swatches = "".join(f'<li class="{kind}">{words}</li>' for kind, words in entries)
    return f'<ul class="legend">{swatches}<li class="is-mark">a ban began</li></ul>'


def _long(words: str) -> str:
    return f'<span class="long">{text(words, 200)}</span>' if words else '<span class="zero">none</span>'


def _bucket(bucket: Bucket) -> Sequence[str]:
    numbers = (bucket.allowed, bucket.throttled, bucket.banned, bucket.bans)
    return [moment(bucket.start), *map(quantity, numbers)]


def _ban(ban: BanReport) -> Sequence[str]:
    length = "for ever" if math.isinf(ban.until) else span(ban.until - ban.at)
    threshold = code(f"{ban.policy}.{ban.threshold}", 80)
    return [code(ban.key, 80), threshold, moment(ban.at), length, f"{ban.strikes:,}", text(ban.reason, 120)]
