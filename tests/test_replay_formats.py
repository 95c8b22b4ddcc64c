"""Which lines count, and what is read from them."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banhammer.durations import SECOND
from banhammer.replay import formats
from banhammer.replay.entry import Entry
from banhammer.replay.formats import Parser, missing

AT = 1_431_857_103 * SECOND
COMMON = '203.0.113.9 - - [17/May/2015:10:05:03 +0000] "GET /a?b=1 HTTP/1.1" 200 512'
COMBINED = COMMON + ' "https://example.com/" "Mozilla/5.0 (X11)"'
CADDY: dict[str, Any] = {
    "level": "info",
    "ts": 1431857103.25,
    "logger": "http.log.access",
    "msg": "handled request",
    "request": {
        "remote_ip": "203.0.113.9",
        "remote_port": "41342",
        "client_ip": "198.51.100.7",
        "proto": "HTTP/2.0",
        "method": "POST",
        "host": "example.com",
        "uri": "/login?next=/",
        "headers": {"User-Agent": ["curl/8"], "X-Api-Key": ["k1"], "Cookie": ["REDACTED"]},
    },
    "bytes_read": 0,
    "user_id": "ann",
    "duration": 0.01,
    "size": 10,
    "status": 401,
    "resp_headers": {"Server": ["Caddy"]},
}
TRAEFIK: dict[str, Any] = {
    "ClientAddr": "203.0.113.9:52000",
    "ClientHost": "203.0.113.9",
    "ClientUsername": "-",
    "DownstreamStatus": 404,
    "RequestHost": "example.com",
    "RequestMethod": "GET",
    "RequestPath": "/missing",
    "StartUTC": "2015-05-17T10:05:03.123456789Z",
    "request_User-Agent": "curl/8",
    "time": "2015-05-17T10:05:04Z",
}


def parse(line: str) -> Entry:
    entry = Parser().parse(line)
    assert entry is not None
    return entry


def facts(line: str) -> tuple[str, int, str, str, int]:
    entry = parse(line)
    return entry.ip, entry.time, entry.method, entry.path, entry.status


@pytest.mark.parametrize("line", [COMMON, COMBINED])
def test_common_and_combined_lines_are_read(line: str) -> None:
    assert facts(line) == ("203.0.113.9", AT, "GET", "/a?b=1", 200)


def test_a_combined_line_holds_referer_user_agent_and_user() -> None:
    entry = parse(COMBINED.replace("- - [", "- ann smith ["))
    assert entry.header("user-agent") == "Mozilla/5.0 (X11)"
    assert entry.header("referer") == "https://example.com/"
    assert entry.header("x-api-key") is None
    assert entry.user == "ann smith"
    assert parse(COMBINED).user is None


def test_a_zone_moves_the_time() -> None:
    assert parse(COMMON.replace("+0000", "+0230")).time == AT - 9000 * SECOND
    assert parse(COMMON.replace("+0000", "-0230")).time == AT + 9000 * SECOND


def test_caddy_is_read_by_the_client_behind_its_proxies() -> None:
    line = json.dumps(CADDY)
    assert facts(line) == ("198.51.100.7", AT + 250_000, "POST", "/login?next=/", 401)
    entry = parse(line)
    assert (entry.user, entry.host, entry.header("x-api-key")) == ("ann", "example.com", "k1")
    assert entry.cookie("session") is None


def test_a_redacted_header_is_not_held() -> None:
    assert not parse(json.dumps(CADDY)).holds("header:cookie")
    assert parse(json.dumps(CADDY)).holds("header:x-api-key")


@pytest.mark.parametrize(
    "stamp",
    [1431857103, 1431857103.0, 1431857103000, 1431857103000000000, "2015-05-17T10:05:03Z", "2015/05/17 10:05:03"],
)
def test_caddy_times_are_read_in_every_unit(stamp: object) -> None:
    assert parse(json.dumps({**CADDY, "ts": stamp})).time == AT


def test_traefik_is_read_at_the_start_of_the_request() -> None:
    line = json.dumps(TRAEFIK)
    assert facts(line) == ("203.0.113.9", AT + 123_456, "GET", "/missing", 404)
    entry = parse(line)
    assert (entry.user, entry.host, entry.header("user-agent")) == (None, "example.com", "curl/8")


def test_a_cookie_is_found_by_its_exact_name() -> None:
    fields = json.loads(json.dumps(CADDY))
    fields["request"]["headers"]["Cookie"] = ['sid2=x; sid="y"']
    assert parse(json.dumps(fields)).cookie("sid") == "y"


@pytest.mark.parametrize(
    "line",
    [
        COMBINED[: COMBINED.index("200") + 3],
        COMBINED[:-20],
        COMBINED.replace(" HTTP/1.1", ""),
        "\ufeff" + COMBINED,
        "\0\0\0" + COMBINED,
        COMBINED + ' "extra" 0.003',
        COMBINED.replace("Mozilla", 'Moz"illa'),
        COMMON.replace("512", "-"),
    ],
)
def test_a_line_counts_when_the_rest_is_torn_or_odd(line: str) -> None:
    assert facts(line) == ("203.0.113.9", AT, "GET", "/a?b=1", 200)


@pytest.mark.parametrize(
    ("path", "read"),
    [
        (r"/a\"b", r"/a\"b"),
        ('/a"b', '/a"b'),
        ("/a b", "/a b"),
        (r"/\" 200 x", r"/\" 200 x"),
        ("*", "*"),
        ("/caf\u00e9", "/caf\u00e9"),
    ],
)
def test_odd_paths_are_read_whole(path: str, read: str) -> None:
    assert facts(COMBINED.replace("/a?b=1", path).replace('" 200 5', '" 404 5'))[3:] == (read, 404)


@pytest.mark.parametrize("fields", [CADDY, TRAEFIK])
def test_torn_json_counts_as_soon_as_all_five_can_be_read(fields: dict[str, Any]) -> None:
    line = json.dumps(fields)
    torn = [Parser().parse(line[:end]) for end in range(len(line))]
    counted = [entry is not None for entry in torn]
    assert any(counted)
    assert counted == sorted(counted)  # Once it counts, more of the line changes nothing.
    whole = facts(line)
    for entry in torn:
        if entry is not None:
            assert (entry.ip, entry.time, entry.method, entry.path, entry.status) == whole


def test_a_client_cannot_forge_fields_of_torn_json() -> None:
    fields = json.loads(json.dumps(CADDY))
    fields["request"]["uri"] = '/?","status":200,"client_ip":"192.0.2.1'
    del fields["resp_headers"]
    assert facts(json.dumps(fields)[:-1])[0::4] == ("198.51.100.7", 401)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("", "an empty line"),
        ("   ", "an empty line"),
        ("\x00\x01\x02\udcff\udcfe", "no time"),
        (COMBINED[:30], "no time"),
        (COMBINED[: COMBINED.index('" 200')], "no status"),
        (COMBINED[: COMBINED.index("200") + 2], "no status"),
        (COMBINED.replace('"GET /a?b=1 HTTP/1.1"', '"-"'), "no method and path"),
        (COMBINED.replace('"GET /a?b=1 HTTP/1.1"', r'"\x16\x03\x01"'), "no method and path"),
        (COMBINED.replace("203.0.113.9", "crawler.example.com"), "no address or time that is valid"),
        (COMBINED.replace("203.0.113.9", "203.0.113.999"), "no address or time that is valid"),
        (COMBINED.replace("17/May", "31/Feb"), "no address or time that is valid"),
        (COMBINED.replace("2015", "2999"), "no address or time that is valid"),
        (COMBINED.replace("2015", "1815"), "no address or time that is valid"),
        (COMBINED.replace("10:05:03", "25:05:03"), "no address or time that is valid"),
        (COMBINED.replace("10:05:03", "10:05:77"), "no address or time that is valid"),
        ("{" * 5000, "no time"),
        ("[" * 100_000, "no time"),
        ('{"request": 5, "ts": 1, "status": 200}', "no method and path"),
    ],
)
def test_other_lines_are_skipped_and_told_why(line: str, why: str) -> None:
    assert Parser().parse(line) is None
    assert missing(line) == why


@pytest.mark.parametrize(
    "change",
    [
        {"ts": "soon"},
        {"ts": True},
        {"ts": float("inf")},
        {"ts": float("nan")},
        {"ts": 10**30},
        {"ts": -5},
        {"status": "200"},
        {"status": 0},
        {"status": None},
        {"request": None},
        {"request": []},
        {"request": {**CADDY["request"], "client_ip": ["203.0.113.9"]}},
        {"request": {**CADDY["request"], "method": 5}},
        {"request": {**CADDY["request"], "uri": ""}},
        {"request": {**CADDY["request"], "client_ip": "", "remote_ip": "nobody"}},
    ],
)
def test_json_with_wrong_values_is_skipped(change: dict[str, Any]) -> None:
    assert Parser().parse(json.dumps({**CADDY, **change})) is None


def test_one_log_may_mix_formats() -> None:
    parser = Parser()
    lines = [COMMON, json.dumps(CADDY), "junk", json.dumps(TRAEFIK), COMBINED]
    statuses = [None if (entry := parser.parse(line)) is None else entry.status for line in lines]
    assert statuses == [200, 401, None, 404, 200]


def test_a_client_is_spelled_one_way() -> None:
    for spelling in ("203.0.113.9", "::ffff:203.0.113.9", "203.0.113.9:4711"):
        assert parse(COMBINED.replace("203.0.113.9", spelling)).client == "203.0.113.9"
    assert parse(COMBINED.replace("203.0.113.9", "2001:db8:1:2:3::4")).client == "2001:db8:1:2::/64"


HOSTILE = [
    "a" * 1_000_000,
    '"' * 1_000_000,
    "[" * 1_000_000,
    " " * 1_000_000,
    "\\" * 1_000_000,
    '{"' * 500_000,
    '{"ts":"' * 140_000,
    "1.2.3.4 - - " + "[17/May/2015:10:05:03 +0000] " * 34_000,
    "1.2.3.4 - - " + '[17/May/2015:10:05:03 +0000] "GET ' * 28_000,
    '1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET ' + '/" 20' * 200_000,
    '1.2.3.4 - - [17/May/2015:10:05:03 +0000] "' + "A" * 1_000_000,
    '1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET /' + "\\" * 999_999 + '"',
    '1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET ' + " HTTP/1" * 140_000,
]


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_megabyte_is_no_request(line: str) -> None:
    assert Parser().parse(line) is None
    assert missing(line)


def test_a_megabyte_of_blanks_in_a_path_is_read() -> None:
    blanks = " " * 1_000_000
    assert parse(COMMON.replace("/a?b=1", f"/a{blanks}b")).path == f"/a{blanks}b"
    assert parse(COMMON.replace("/a?b=1", f"/a{blanks}")).path == "/a"


PATTERNS = {name: value for name, value in vars(formats).items() if isinstance(value, re.Pattern)}
CLUES = {what: search.__self__ for what, search in formats._CLUES}


def retries(parsed: Iterable[tuple[Any, Any]]) -> int:
    """Count the parts of an expression that may take ever less of a line, and so may be tried ever again."""
    found = 0
    for kind, value in parsed:
        name = str(kind)
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            found += value[1] > 64
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            found += retries(value[2])
        elif name == "ATOMIC_GROUP":
            found += max(retries(value) - 1, 0)  # One may grow as far as it must, and then never again.
        elif name == "SUBPATTERN":
            found += retries(value[3])
        elif name == "BRANCH":
            found += max(map(retries, value[1]))
    return found


@pytest.mark.parametrize("name", [*PATTERNS, *CLUES])
def test_no_expression_tries_a_part_of_a_line_ever_again(name: str) -> None:
    """So each takes time in proportion to the line, whatever the line holds."""
    pattern = PATTERNS.get(name) or CLUES[name]
    assert retries(re._parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE)) == 0


def test_an_expression_that_could_try_again_is_told() -> None:
    for text in (r"a*b", r"(a+)+", r"(?:a|b*c)d", r"(?>.*?x.*?y)", r"(?:a*b)*+"):
        assert retries(re._parser.parse(text)) > 0
    for text in (r"a*+b", r"(?>.*?x)y", r"(?:a++|b)*+", r"a{0,3}b"):
        assert retries(re._parser.parse(text)) == 0


def test_a_megabyte_of_path_is_read() -> None:
    path = "/" + "a" * 1_000_000
    assert parse(COMBINED.replace("/a?b=1", path)).path == path


@given(st.text(max_size=200))
def test_no_text_is_an_error(text: str) -> None:
    for line in (text, "{" + text, COMBINED[: len(text)] + text):
        entry = Parser().parse(line)
        assert entry is None or 100 <= entry.status <= 999
        assert missing(line)


@given(st.integers(0, len(COMBINED)), st.binary(max_size=8))
def test_no_bytes_inside_a_line_are_an_error(at: int, junk: bytes) -> None:
    line = COMBINED[:at] + junk.decode("utf-8", "surrogateescape") + COMBINED[at:]
    entry = Parser().parse(line)
    assert entry is None or isinstance(entry.client, str)


def test_a_parser_forgets_what_it_remembers() -> None:
    parser = Parser()
    chance = random.Random(1)
    for _ in range(20_000):
        address = f"10.{chance.randrange(256)}.{chance.randrange(256)}.{chance.randrange(256)}"
        assert parser.parse(COMBINED.replace("203.0.113.9", address)) is not None
    assert len(parser._clients) <= 4096
