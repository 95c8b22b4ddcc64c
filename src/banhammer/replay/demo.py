"""A morning at a small shop: a seeded access log of people, an office, a scraper, and two kinds of attackers.

All addresses are of the ranges that are set aside for documentation. The same seed gives the same log.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

START: Final = int(datetime(2026, 3, 2, 8, 0, tzinfo=UTC).timestamp())
HOURS: Final = 4
PEOPLE: Final = 160
OFFICE: Final = "203.0.113.10"
SCRAPER: Final = "198.51.100.23"
STUFFER: Final = "203.0.113.66"
SCANNER: Final = "192.0.2.200"

_SECONDS: Final = HOURS * 3600
_BROWSERS: Final = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/122.0.0.0 Safari/537.36",
)
_ASSETS: Final = ("/static/shop.css", "/static/shop.js", "/static/logo.svg", "/favicon.ico")
_PROBES: Final = (
    "/.env", "/.git/config", "/admin.php", "/backup.zip", "/config.json", "/db.sql", "/debug", "/phpinfo.php",
    "/phpmyadmin/", "/server-status", "/shell.php", "/test.php", "/vendor/phpunit/phpunit/phpunit.xml", "/wp-admin/",
)  # fmt: skip

_ROBOTS: Final = ("python-requests/2.31.0", "Mozilla/5.0", "Mozilla/5.0 zgrab/0.x")
_LINE: Final = re.compile(
    r"(?:(?:192\.0\.2|198\.51\.100|203\.0\.113)\.\d+|2001:db8:[0-9a-f:]+) - - "
    r"\[02/Mar/2026:(?:08|09|10|11):\d\d:\d\d \+0000\] "
    rf'"(?:GET|POST) \S+ HTTP/1\.1" \d+ \d+ "-" "(?:{"|".join(map(re.escape, (*_BROWSERS, *_ROBOTS)))})"\n'
)
"""A line as this story writes it, whatever the seed."""

Request = tuple[float, str, str, str, int, str]
"""When (seconds since the start), address, method, path, status, user agent."""


def demo_log(seed: int) -> list[str]:
    """Return the lines of the log in the combined format, in the order of their times."""
    chance = random.Random(seed)  # noqa: S311  # A story that can be told again, no secret.
    requests = [
        *_people(chance),
        *_office(chance),
        *_scraper(chance),
        *_stuffer(chance),
        *_scanner(chance),
    ]
    requests.sort(key=lambda request: request[0])
    return [_line(request, chance) for request in requests if request[0] < _SECONDS]


def is_demo_line(line: str) -> bool:
    """Tell whether a line, with its end, is one of this story, under whatever seed."""
    return _LINE.fullmatch(line) is not None


def _people(chance: random.Random) -> Iterator[Request]:
    for number in range(PEOPLE):
        ip = _home(number)
        for _ in range(chance.choice((1, 1, 1, 2))):
            yield from _visit(chance, ip, chance.uniform(0, _SECONDS - 600), chance.choice(_BROWSERS))


def _home(number: int) -> str:
    if number % 8 == 0:
        return f"2001:db8:{number:x}:1::{number + 2:x}"
    return f"192.0.2.{number + 1}"


def _office(chance: random.Random) -> Iterator[Request]:
    """Thirty colleagues behind one address: more requests than any person makes, and now and then a typo."""
    for _ in range(30):
        browser = chance.choice(_BROWSERS[:2])
        for _ in range(6):
            yield from _visit(chance, OFFICE, chance.uniform(0, _SECONDS - 600), browser)


def _visit(chance: random.Random, ip: str, at: float, browser: str) -> Iterator[Request]:
    """One person looks around, perhaps logs in, and perhaps mistypes the password first."""
    for asset in _ASSETS:
        yield at + chance.uniform(0.2, 1.5), ip, "GET", asset, 200, browser
    if chance.random() < 0.3:
        for _ in range(chance.choice((0, 0, 0, 1, 1, 2))):
            at += chance.uniform(4, 20)
            yield at, ip, "POST", "/login", 401, browser
        at += chance.uniform(4, 20)
        yield at, ip, "POST", "/login", 302, browser
    for _ in range(chance.randint(3, 18)):
        yield at, ip, "GET", f"/products/{chance.randint(1, 900)}", chance.choice((200,) * 9 + (304,)), browser
        if chance.random() < 0.02:
            yield at + 1, ip, "GET", "/products/discontinued", 404, browser
        at += chance.expovariate(1 / 20) + 1


def _scraper(chance: random.Random) -> Iterator[Request]:
    """Reads the whole catalogue as fast as it can: slowed down at first, banned when it does not listen."""
    at = 3600.0 + chance.uniform(0, 600)
    for number in range(1, 3_001):
        yield at, SCRAPER, "GET", f"/products/{number % 900 + 1}?page={number // 900}", 200, _ROBOTS[0]
        at += chance.uniform(0.02, 0.1)


def _stuffer(chance: random.Random) -> Iterator[Request]:
    """Tries stolen passwords, one every two seconds or so; one of them works."""
    at = 5400.0 + chance.uniform(0, 600)
    lucky = chance.randint(300, 700)
    for number in range(900):
        yield at, STUFFER, "POST", "/login", 302 if number == lucky else 401, _ROBOTS[1]
        at += chance.uniform(1, 3)


def _scanner(chance: random.Random) -> Iterator[Request]:
    """Looks for what should not be there, and comes back: the second ban is longer."""
    for begin in (1800, 4800, 9000):
        at = begin + chance.uniform(0, 300)
        for probe in chance.choices(_PROBES, k=60):
            yield at, SCANNER, "GET", probe, 404, _ROBOTS[2]
            at += chance.uniform(0.3, 1.2)


def _line(request: Request, chance: random.Random) -> str:
    at, ip, method, path, status, agent = request
    moment = datetime.fromtimestamp(START + int(at), UTC)
    size = 0 if status in (302, 304) else chance.randint(300, 24_000)
    return f'{ip} - - [{moment:%d/%b/%Y:%H:%M:%S +0000}] "{method} {path} HTTP/1.1" {status} {size} "-" "{agent}"'
