"""From a line of an access log to an `Entry`: combined, common, Caddy's JSON, Traefik's, told by the line.

A line counts when its address, time, method, path and status can be read, even where the rest is torn.
Every expression here takes time in proportion to the line, whatever the line holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from banhammer.durations import SECOND
from banhammer.identity import ip_key
from banhammer.replay import jsonlog
from banhammer.replay.entry import Entry

LATEST: Final = 7_258_118_400 * SECOND
"""The year 2200. Times from there on, or before 1970, are not believed: the line counts as unreadable."""

_STAMP: Final = r"(\d\d/[A-Za-z]{3}/\d{4}:\d\d:\d\d):(\d\d) ([+-]\d{4})"
_METHOD: Final = r"[A-Za-z!#$%&'*+.^_`|~-]{1,32}+"
_PLAIN: Final = re.compile(
    rf'([\dA-Fa-f.:]++) \S++ ([^\["]++)\[{_STAMP}\] "([A-Z]++) ([^\s"\\]++) HTTP/[\d.]++" ([1-9]\d\d)(?: |\Z)',
    re.ASCII,
)
_HEAD: Final = re.compile(rf'[\s\0\ufeff]*+([^\s"]++)(?>(.*?)\[{_STAMP}\])\s*+', re.ASCII | re.DOTALL)
_QUOTED: Final = re.compile(rf'"({_METHOD})\s++((?:[^"\\]|\\.)++)"\s++([1-9]\d\d)(?!\d)', re.ASCII | re.DOTALL)
_UNQUOTED: Final = re.compile(rf'"({_METHOD})\s++(?>(.*?)"\s([1-9]\d\d)(?!\d))', re.ASCII | re.DOTALL)
_PROTOCOL: Final = re.compile(r"HTTP/[\d.]*+", re.ASCII)
_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MEMO: Final = 4_096
"""Minutes and addresses remembered; then anew, so that no log fills the memory."""


class Parser:
    """Reads lines; it remembers addresses and minutes, because logs repeat them. Not for several threads."""

    __slots__ = ("_clients", "_minutes")

    def __init__(self) -> None:
        self._clients: dict[str, str] = {}
        self._minutes: dict[str, int] = {}

    def parse(self, line: str) -> Entry | None:
        """Return the request that a line tells of, or `None` where one of the five things cannot be read."""
        plain = _PLAIN.match(line)
        if plain is None:
            return self._odd(line)
        ip, user, minute, second, zone, method, path, status = plain.groups()
        client = self._clients.get(ip) or self._client(ip)
        start = self._minutes.get(minute + zone)
        if start is None:
            start = self._minute(minute, zone)
        if client is None or start is None or second > "60":
            return None
        time = start + int(second) * SECOND
        name = None if user == "- " else _name(user)
        return Entry(client, ip, time, method, path, int(status), name, None, line[plain.end() :])

    def _odd(self, line: str) -> Entry | None:
        if line.lstrip("\ufeff\0 \t").startswith("{"):
            return self._json(line)
        head = _HEAD.match(line)
        if head is None:
            return None
        ip, between, minute, second, zone = head.groups()
        request = _QUOTED.match(line, head.end()) or _UNQUOTED.match(line, head.end())
        if request is None:
            return None
        path = _path(request[2])
        start = self._minute(minute, zone)
        client = self._client(ip)
        if client is None or not path or start is None or second > "60":
            return None
        time = start + int(second) * SECOND
        user = _name(between.strip().partition(" ")[2])
        rest = line[request.end() :].lstrip()
        return Entry(client, ip, time, request[1], path, int(request[3]), user, None, rest)

    def _json(self, line: str) -> Entry | None:
        entry = jsonlog.parse(line)
        if entry is None or not 0 <= entry.time < LATEST:
            return None
        client = self._client(entry.ip)
        if client is None:
            return None
        entry.client = client
        return entry

    def _client(self, address: str) -> str | None:
        """Return the key of an address, and remember it; `None` for what is no address."""
        client = self._clients.get(address)
        if client is not None:
            return client
        try:
            client = ip_key(address)
        except ValueError:
            return None
        if len(self._clients) >= _MEMO:
            self._clients.clear()
        self._clients[address] = client
        return client

    def _minute(self, minute: str, zone: str) -> int | None:
        """Return the start (us) of a minute like `17/May/2015:10:05`, and remember it."""
        try:
            day, hours, minutes = int(minute[:2]), int(minute[12:14]), int(minute[15:17])
            moment = datetime(
                int(minute[7:11]), _MONTHS.index(minute[3:6].lower()) + 1, day, hours, minutes, tzinfo=UTC
            )
        except ValueError:
            return None
        offset = int(zone[1:3]) * 3600 + int(zone[3:]) * 60
        start = (int(moment.timestamp()) - (offset if zone[0] == "+" else -offset)) * SECOND
        if not 0 <= start < LATEST:
            return None
        if len(self._minutes) >= _MEMO:
            self._minutes.clear()
        self._minutes[minute + zone] = start
        return start


def _path(target: str) -> str:
    """Return what stands between the method and the protocol, if one does."""
    target = target.strip()
    pieces = target.rsplit(None, 1)
    return pieces[0] if len(pieces) == 2 and _PROTOCOL.fullmatch(pieces[1]) else target


def _name(user: str) -> str | None:
    name = user.strip()
    return None if name in ("", "-") else name


_CLUES: Final[tuple[tuple[str, Callable[[str], object]], ...]] = (
    ("time", re.compile(rf"\[{_STAMP}\]|\"(?:ts|time|StartUTC|StartLocal)\"\s*+:", re.ASCII).search),
    ("status", re.compile(r'"\s[1-9]\d\d(?!\d)|"(?:status|DownstreamStatus)"\s*+:', re.ASCII).search),
    ("method and path", re.compile(rf'"{_METHOD}\s++[^\s"]|"(?:uri|RequestPath)"\s*+:', re.ASCII).search),
)


def missing(line: str) -> str:
    """Return in a few words why a line could not be read, for people who look at a sample of it."""
    if not line.strip():
        return "an empty line"
    for what, search in _CLUES:
        if not search(line):
            return f"no {what}"
    return "no address or time that is valid"
