"""What a replay counts, and what it says of whom the rules would have hurt."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banhammer.config import load
from banhammer.hammer import BanHammer
from banhammer.model import Policy, Threshold
from banhammer.replay.bounded import Distinct, Table
from banhammer.replay.engine import Rules
from banhammer.replay.meters import PolicyMeters
from banhammer.replay.run import replay
from banhammer.replay.summary import Summary, percent
from banhammer.replay.texts import mask, printable
from banhammer.replay.timeline import MOST, Timeline

START = 1_772_438_400  # 2 March 2026, 08:00 UTC
KEY = "203.0.113.9"
LOGIN: dict[str, Any] = {
    "policies": {"login": {"thresholds": [{"limit": 3, "period": "1h", "ban": ["10m", "forever"]}]}},
    "routes": [{"path": "/login*", "methods": ["POST"], "status": [401], "policy": "login"}],
}
SITE: dict[str, Any] = {
    "policies": {"site": {"thresholds": [{"limit": 2, "period": "1m"}]}},
    "routes": [{"path": "/healthz", "skip": True}, {"policy": "site"}],
}


def line(at: float, request: str = "GET /", status: int = 200, ip: str = KEY, agent: str = "Firefox") -> str:
    moment = datetime.fromtimestamp(START + int(at), UTC)
    return f'{ip} - - [{moment:%d/%b/%Y:%H:%M:%S +0000}] "{request} HTTP/1.1" {status} 5 "-" "{agent}"'


def rules(config: dict[str, Any], **changes: Any) -> Rules:
    found = load({**config, **changes})
    return Rules(found.policies, found.routes, found.allow, found.deny, found.mode)


def replayed(
    folder: Path, lines: Iterable[str], config: dict[str, Any], *, masked: bool = False, **changes: Any
) -> Summary:
    log = folder / "access.log"
    log.write_text("".join(f"{one}\n" for one in lines), encoding="utf-8", errors="surrogateescape")
    return replay([str(log)], rules(config, **changes), masked=masked)


def test_a_ban_keeps_out_from_the_hit_that_tripped_and_is_listed(tmp_path: Path) -> None:
    attempts = [line(at, "POST /login", 401) for at in range(0, 60, 10)]
    summary = replayed(tmp_path, [*attempts, line(300), line(400, "POST /login", 302)], LOGIN)
    assert summary.as_json() == {
        "lines": 8,
        "skipped": 0,
        "first": START,
        "last": START + 400,
        "keys": 1,
        "requests": {"allowed": 5, "throttled": 0, "banned": 3},
        "denied_served": 1,
        "not_replayable": [],
        "policies": {"login": {"allowed": 3, "throttled": 0, "banned": 4}},
        "bans": [
            {
                "key": KEY,
                "policy": "login",
                "threshold": 0,
                "at": START + 30,
                "until": START + 630,
                "strikes": 1,
                "reason": "over 3 per 1h",
            }
        ],
    }


def test_a_ban_for_ever_ends_at_null(tmp_path: Path) -> None:
    times = [*range(0, 50, 10), *range(3000, 3050, 10)]
    bans = replayed(tmp_path, [line(at, "POST /login", 401) for at in times], LOGIN).as_json()["bans"]
    assert [(ban["until"], ban["strikes"]) for ban in bans] == [(START + 630, 1), (None, 2)]


def test_one_hit_that_trips_two_thresholds_lists_both(tmp_path: Path) -> None:
    levels = [{"limit": 1, "period": "1h", "ban": "1h"}, {"limit": 1, "period": "1h", "ban": "1d"}]
    config = {"policies": {"site": {"thresholds": levels}}, "routes": [{"policy": "site"}]}
    summary = replayed(tmp_path, [line(0), line(1)], config)
    assert [(ban.threshold, ban.until, ban.strikes) for ban in summary.bans] == [
        (0, START + 86_401, 1),
        (1, START + 86_401, 1),
    ]
    assert [threshold.bans for threshold in summary.thresholds] == [1, 1]


def test_a_request_without_a_route_or_ended_by_skip_is_allowed(tmp_path: Path) -> None:
    summary = replayed(tmp_path, [line(0, "GET /healthz") for _ in range(5)], SITE)
    assert summary.requests.as_json() == {"allowed": 5, "throttled": 0, "banned": 0}
    assert summary.as_json()["policies"] == {"site": {"allowed": 0, "throttled": 0, "banned": 0}}
    assert summary.idle == ["site: no request came here"]


def test_shadow_counts_what_enforcement_would_have_said_and_denies_nobody(tmp_path: Path) -> None:
    lines = [line(0) for _ in range(5)]
    summary = replayed(tmp_path, lines, SITE, mode="shadow")
    assert summary.requests.as_json() == {"allowed": 5, "throttled": 0, "banned": 0}
    assert summary.policies[0].hits.as_json() == {"allowed": 2, "throttled": 3, "banned": 0}
    assert summary.policies[0].shadow
    assert any("shadow" in doubt for doubt in summary.doubts)


def test_lists_decide_without_a_ban(tmp_path: Path) -> None:
    allowed = replayed(tmp_path, [line(0) for _ in range(5)], SITE, allow=[KEY])
    denied = replayed(tmp_path, [line(0) for _ in range(5)], SITE, deny=["203.0.113.0/24"])
    assert allowed.requests.as_json() == {"allowed": 5, "throttled": 0, "banned": 0}
    assert denied.requests.as_json() == {"allowed": 0, "throttled": 0, "banned": 5}
    assert denied.bans == []


def test_actions_are_never_run(tmp_path: Path) -> None:
    threshold = Threshold(1, "1h", ban="1h", actions=["report_central", "of_a_plugin"])
    log = tmp_path / "log"
    log.write_text(f"{line(0)}\n{line(1)}\n")
    plain = rules({**SITE})
    given = Rules((Policy("site", [threshold]),), plain.routes)
    assert len(replay([str(log)], given).bans) == 1
    assert given.policies[0].thresholds[0].actions == ("report_central", "of_a_plugin")


def test_the_worst_denied_although_served_are_named_with_their_agents(tmp_path: Path) -> None:
    lines = [line(0, ip=f"192.0.2.{number}", agent=f"Agent {number}") for number in range(8) for _ in range(number)]
    lines += [line(0, status=404, ip="192.0.2.99") for _ in range(50)]
    summary = replayed(tmp_path, lines, SITE)
    assert summary.denied_served == sum(max(number - 2, 0) for number in range(8))
    found = [(served.key, served.count, served.user_agent) for served in summary.served]
    assert found == [(f"192.0.2.{number}", number - 2, f"Agent {number}") for number in (7, 6, 5, 4, 3)]


def test_the_worst_keys_tell_of_their_first_ban(tmp_path: Path) -> None:
    lines = [line(at) for at in range(5)] + [line(at, "POST /login", 401) for at in range(10, 20)]
    (worst,) = replayed(tmp_path, lines, LOGIN).worst
    assert (worst.key, worst.requests, worst.kept_out) == (KEY, 15, 6)
    assert (worst.first_ban, worst.before, worst.longest, worst.strikes) == (START + 13, 8, 600, 1)


def test_routes_whose_key_no_line_holds_are_named(tmp_path: Path) -> None:
    keys = ["header:X-Api-Key", "user", "ip+cookie:sid", "host", "header:user-agent", "ip/24/48", "user|ip"]
    config = {**SITE, "routes": [{"policy": "site", "key": key} for key in keys]}
    summary = replayed(tmp_path, [line(0)], config)
    assert summary.not_replayable == [
        "routes.0: site by header:X-Api-Key",
        "routes.1: site by user",
        "routes.2: site by ip+cookie:sid",
        "routes.3: site by host",
    ]
    assert any("routes.6 counts by user|ip" in doubt and "does not hold user" in doubt for doubt in summary.doubts)
    held = replayed(tmp_path, [line(0), line(1).replace("- - [", "- ann [")], config)
    assert "routes.1: site by user" not in held.not_replayable


def test_skipped_lines_are_counted_sampled_and_doubted(tmp_path: Path) -> None:
    junk = ["", "\x1b[31mjunk", "\udcff\udcfe", line(0)[:40], "x" * 5000, "more", "more"]
    summary = replayed(tmp_path, [line(0), *junk], SITE)
    assert (summary.lines, summary.skipped) == (8, 7)
    assert len(summary.samples) == 5
    assert all(sample.isprintable() and len(sample) < 300 for sample in summary.samples)
    assert summary.samples[1].endswith(r"access.log:3: no time: \x1b[31mjunk")
    assert any("7 lines (87.5 %) could not be read: left out" in doubt for doubt in summary.doubts)


def test_a_log_of_a_proxy_is_doubted(tmp_path: Path) -> None:
    lines = [line(at, ip="10.0.0.5") for at in range(6)] + [line(at) for at in range(4)]
    summary = replayed(tmp_path, lines, SITE)
    assert any("60.0 % of the requests come from one private address, 10.0.0.5" in one for one in summary.doubts)
    assert "real addresses" in summary.next_step


def test_whole_seconds_are_doubted_and_fractions_are_not(tmp_path: Path) -> None:
    assert any("whole seconds" in doubt for doubt in replayed(tmp_path, [line(0)], SITE).doubts)
    request = {"remote_ip": KEY, "method": "GET", "uri": "/"}
    exact = json.dumps({"ts": START + 0.5, "request": request, "status": 200})
    summary = replayed(tmp_path, [exact], SITE)
    assert not any("whole seconds" in doubt for doubt in summary.doubts)
    assert summary.first == START + 0.5


def test_late_and_damaged_logs_are_doubted(tmp_path: Path) -> None:
    summary = replayed(tmp_path, [line(0), line(300), line(100), line(400), line(90)], SITE)
    assert any("2 lines came more than 60 s late" in doubt for doubt in summary.doubts)


def test_headroom_is_each_keys_fullest_moment(tmp_path: Path) -> None:
    config = {
        "policies": {"site": {"thresholds": [{"limit": 10, "period": "10s"}]}},
        "routes": [{"policy": "site"}],
    }
    lines = [line(0, ip="192.0.2.1") for _ in range(5)] + [line(0, ip="192.0.2.2") for _ in range(9)]
    lines += [line(0, ip="192.0.2.3") for _ in range(12)]
    (threshold,) = replayed(tmp_path, lines, config).thresholds
    headroom = threshold.headroom
    assert (headroom.keys, headroom.over, threshold.keys, threshold.throttled) == (3, 1, 1, 2)
    assert (headroom.nearest, headroom.nearest_key) == (0.9, "192.0.2.2")
    assert math.isclose(headroom.median, 0.9, abs_tol=0.001)
    assert headroom.p99 == 1.0
    assert (headroom.histogram[10], headroom.histogram[18], sum(headroom.histogram)) == (1, 1, 2)
    what_if = threshold.what_if
    assert (what_if.half, what_if.unchanged, what_if.double, what_if.quadruple) == (4 + 7, 2, 0, 0)


@given(
    st.lists(st.tuples(st.integers(0, 20_000_000), st.sampled_from("ab")), max_size=60),
    st.booleans(),
    st.integers(1, 6),
)
def test_the_limit_as_it_is_denies_what_the_engine_denies(steps: list[tuple[int, str]], bans: bool, limit: int) -> None:
    policy = Policy("p", [Threshold(limit, "10s", ban=["5s", "30s", "forever"] if bans else None)], forgive_after="60s")
    now = 10**15
    hammer = BanHammer([policy], clock=lambda: now)
    meters = PolicyMeters(policy)
    denied = 0
    for step, key in steps:
        now += step
        denied += not hammer.hit(key, "p").allowed
        meters.suppose(key, 1, now)
    hammer.close()
    assert meters.results()[0][1].unchanged == denied


def test_a_guard_is_supposed_to_fail_only_where_the_log_says_so(tmp_path: Path) -> None:
    fine = [line(at, "POST /login", 302) for at in range(20)]
    failed = [line(at, "POST /login", 401) for at in range(30, 40)]
    (threshold,) = replayed(tmp_path, [*fine, *failed], LOGIN).thresholds
    what_if = threshold.what_if
    assert (what_if.half, what_if.unchanged, what_if.double, what_if.quadruple) == (9, 7, 4, 0)
    assert threshold.headroom.keys == 1


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=400))
def test_a_timeline_keeps_every_request_in_few_bars(seconds: list[int]) -> None:
    timeline = Timeline()
    for moment in seconds:
        timeline.at(moment).allowed += 1
    bars = timeline.bars()
    assert sum(bar.allowed for bar in bars) == len(seconds)
    assert 1 <= len(bars) <= MOST
    assert bars[0].start <= min(seconds)
    assert max(seconds) < bars[-1].start + bars[-1].width
    assert all(left.start + left.width == right.start for left, right in pairwise(bars))


def test_a_full_table_lets_the_quiet_keys_go() -> None:
    left: list[str] = []
    table: Table[int] = Table(lambda key, value: left.append(key), room=100)
    table.put("busy", 0)
    for number in range(1000):
        table.put(str(number), number)
        assert table.get("busy") == 0
    assert len(dict(table.items())) <= 100
    assert "busy" not in left
    assert sorted([*left, *dict(table.items())]) == sorted(["busy", *map(str, range(1000))])


def test_distinct_keys_are_exact_and_then_estimated() -> None:
    few, many = Distinct(exact=4096), Distinct(exact=4096)
    for number in range(4096):
        few.add(str(number))
        few.add(str(number))
    assert (few.count(), few.estimated) == (4096, False)
    for number in range(100_000):
        many.add(str(number))
    assert many.estimated
    assert abs(many.count() - 100_000) < 10_000
    assert len(many._hashes) <= 4096


def test_a_masked_replay_shows_no_whole_address(tmp_path: Path) -> None:
    address, network = "198.51.100.77", "2001:db8:1:2:3:4:5:6"
    lines = [line(0, ip=ip, agent=f"bot {ip}") for ip in (address, network) for _ in range(9)]
    summary = replayed(tmp_path, [*lines, f"junk from {address} and {network}"], SITE, masked=True)
    assert {served.key for served in summary.served} == {"198.51.100.x", "2001:db8:1::/48"}
    shown = repr(summary)
    assert address not in shown
    assert "2001:db8:1:2" not in shown
    assert summary.keys == 2


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("203.0.113.9", "203.0.113.x"),
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("203.0.113.8/30", "203.0.113.x"),
        ("2001:db8:1:2::/64", "2001:db8:1::/48"),
        ("::1", "::/48"),
        ("user:ann", "user:ann"),
        ("at 10:05:03", "at 10:05:03"),
        ("from 203.0.113.9:80, or [2001:db8::1]", "from 203.0.113.x:80, or [2001:db8::/48]"),
    ],
)
def test_addresses_are_shortened_and_nothing_else(text: str, masked: str) -> None:
    assert mask(text) == masked


@given(st.text(st.characters()))
def test_every_text_can_be_made_printable(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)


def test_a_share_is_never_rounded_to_nothing_or_to_all() -> None:
    shares = [percent(part, 10_000) for part in (0, 1, 60, 9_910, 9_999, 10_000)]
    assert shares == ["0 %", "under 0.1 %", "0.6 %", "99.1 %", "99.9 %", "100 %"]


def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    def peak(hours: int) -> int:
        lines = (line(at, ip=f"192.0.2.{at % 200}") for at in range(0, hours * 3600, 5))
        log = tmp_path / f"{hours}.log"
        log.write_text("".join(f"{one}\n" for one in lines))
        tracemalloc.start()
        try:
            assert replay([str(log)], rules(SITE)).lines == hours * 720
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)  # Whatever is loaded and remembered once.
    assert peak(24) < 1.1 * peak(12)
