"""The reference replay keeps the rules by which a request is decided."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from banhammer.durations import SECOND
from reference_replay import in_order, key_of, read_line, replay

KEY = "203.0.113.9"
CONFIG: dict[str, Any] = {
    "policies": {
        "login": {"thresholds": [{"limit": 2, "period": "1h", "ban": "1h"}]},
        "site": {"thresholds": [{"limit": 60, "period": "1m", "burst": 3}]},
    },
    "routes": [
        {"path": "/static/*", "skip": True},
        {"path": "/login*", "methods": ["POST"], "status": [401, "403"], "policy": "login"},
        {"except": ["/healthz"], "policy": "site"},
    ],
}


def line(at: str, request: str, status: int, host: str = KEY) -> str:
    return f'{host} - - [17/May/2015:{at} +0000] "{request} HTTP/1.1" {status} 12 "-" "agent"'


def replayed(tmp_path: Path, lines: list[str], **changes: Any) -> dict[str, Any]:
    log = tmp_path / "access.log"
    log.write_text("".join(each + "\n" for each in lines), encoding="utf-8")
    return replay(log, {**CONFIG, **changes})


def test_a_replay_guards_before_and_counts_failures_after(tmp_path: Path) -> None:
    lines = [line(f"10:00:{second:02}", "POST /login?next=/", 401) for second in range(0, 50, 10)]
    report = replayed(tmp_path, [*lines, line("10:00:50", "POST /login", 200)])
    assert report["policies"]["login"] == {"allowed": 2, "throttled": 0, "banned": 4}
    assert report["requests"] == {"allowed": 3, "throttled": 0, "banned": 3}
    assert report["policies"]["site"] == {"allowed": 3, "throttled": 0, "banned": 0}
    assert report["denied_served"] == 1
    at = 1_431_856_820.0
    expected = {"key": KEY, "policy": "login", "threshold": 0, "at": at, "until": at + 3600, "strikes": 1}
    assert report["bans"] == [{**expected, "reason": ""}]


def test_a_replay_decides_lines_in_the_order_of_their_times(tmp_path: Path) -> None:
    times = ["10:00:05", "10:00:05", "10:00:00", "10:00:00", "10:00:00", "10:00:00", "10:00:05"]
    report = replayed(tmp_path, [line(at, "GET /", 200) for at in times])
    assert report["requests"] == {"allowed": 6, "throttled": 1, "banned": 0}
    assert report["denied_served"] == 1


def test_a_request_without_a_route_or_ended_by_skip_is_allowed(tmp_path: Path) -> None:
    lines = [line("10:00:00", f"GET {path}", 200) for path in ("/static/a/b.css", "/healthz")] * 5
    report = replayed(tmp_path, lines)
    assert report["requests"] == {"allowed": 10, "throttled": 0, "banned": 0}
    assert report["policies"]["site"] == {"allowed": 0, "throttled": 0, "banned": 0}


def test_a_policy_in_shadow_never_ends_the_list(tmp_path: Path) -> None:
    shadow = {"thresholds": [{"limit": 1, "period": "1h", "ban": "forever"}], "mode": "shadow"}
    routes = [{"policy": "shadow"}, {"policy": "site"}]
    policies = {"shadow": shadow, "site": CONFIG["policies"]["site"]}
    lines = [line("10:00:00", "GET /", 200)] * 3
    report = replayed(tmp_path, lines, policies=policies, routes=routes)
    assert report["requests"] == {"allowed": 3, "throttled": 0, "banned": 0}
    assert report["policies"]["shadow"] == {"allowed": 1, "throttled": 0, "banned": 2}
    assert report["policies"]["site"] == {"allowed": 3, "throttled": 0, "banned": 0}
    assert [ban["until"] for ban in report["bans"]] == [None]


def test_a_line_counts_when_what_decides_it_can_be_read(tmp_path: Path) -> None:
    whole = line("10:00:00", "GET /a", 200)
    torn = whole[: whole.index('" "agent')]
    broken = [whole[:60], "", "\x00\xff", whole.replace(KEY, "host.example"), whole.replace("May", "Mai")]
    report = replayed(tmp_path, [whole, torn, *broken])
    assert (report["lines"], report["skipped"], report["requests"]["allowed"]) == (7, 5, 2)


@pytest.mark.parametrize(
    ("clocks", "decided"),
    [
        (["10:00:00", "10:01:00", "10:00:00"], [0, 0, 60]),
        (["10:00:00", "10:01:40", "10:00:30"], [0, 0, 100]),
        (["10:00:40", "10:01:40", "10:00:30", "10:00:40"], [40, 40, 40, 100]),
        (["10:01:40", "10:00:30", "10:00:20"], [30, 30, 100]),
    ],
)
def test_a_line_over_a_minute_late_is_decided_at_the_time_of_the_last_one(
    clocks: list[str], decided: list[int]
) -> None:
    requests = [request for at in clocks if (request := read_line(line(at, "GET /", 200)))]
    began = 1_431_856_800 * SECOND
    assert [request["now"] - began for request in in_order(requests)] == [second * SECOND for second in decided]


def test_a_line_is_read_in_its_own_time_zone() -> None:
    east = read_line(line("10:00:00", "GET /a?b=c?d", 200).replace("+0000", "+0200"))
    utc = read_line(line("08:00:00", "GET /a", 200))
    assert east is not None
    assert east == utc
    assert east["now"] == 1_431_849_600 * SECOND


@pytest.mark.parametrize(
    ("selector", "host", "key"),
    [
        ("ip", "203.0.113.9", "203.0.113.9"),
        ("ip", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("ip/24/48", "203.0.113.9", "203.0.113.0/24"),
        ("ip/24/48", "2001:db8:1:2:3::4", "2001:db8:1::/48"),
        ("ip/32/128", "2001:db8::4", "2001:db8::4"),
        ("ip", "::ffff:203.0.113.9", "203.0.113.9"),
        ("ip", "2002:cb00:7109::1", "203.0.113.9"),
        ("ip", "64:ff9b::cb00:7109", "203.0.113.9"),
        ("header:X-Key", "203.0.113.9", None),
    ],
)
def test_a_key_is_spelled_one_way(selector: str, host: str, key: str | None) -> None:
    request = read_line(line("10:00:00", "GET /", 200, host))
    assert request is not None
    assert key_of(selector, request["address"]) == key
