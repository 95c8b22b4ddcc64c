"""JSON access logs, one object a line: Caddy's and Traefik's, whole or torn."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from banhammer.durations import SECOND
from banhammer.replay.entry import Entry, headers

Fields = Mapping[str, Any]

# In JSON a quote inside a text is escaped, so a bare "name": cannot be part of what a client sent.
_TEXTS: Final = re.compile(
    r'"(ts|remote_ip|remote_addr|client_ip|method|uri|host|user_id|ClientHost|ClientAddr|RequestMethod'
    r'|RequestPath|RequestHost|ClientUsername|StartUTC|StartLocal|time|request_User-Agent)"\s*:\s*'
    r'("(?:[^"\\]|\\.)*+")',
    re.ASCII | re.DOTALL,
)
_NUMBERS: Final = re.compile(
    r'"(?:(ts)"\s*:\s*(\d{1,20}+(?:\.\d*+)?)(?=[,}\s])|(status|DownstreamStatus)"\s*:\s*([1-9]\d\d)(?!\d))',
    re.ASCII,
)
_PREFIX: Final = "request_"


def parse(line: str) -> Entry | None:
    """Return the request that a JSON line tells of, or `None`."""
    text = line.strip("\ufeff\0 \t\r\n")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = _torn(text)
    if not isinstance(fields, dict):
        return None
    read = _traefik if "RequestMethod" in fields else _caddy
    try:
        return read(fields)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        return None


def _torn(text: str) -> Fields:
    """Return what can still be read of an object that was cut short, as if it were whole."""
    found: dict[str, Any] = {}
    for name, literal in _TEXTS.findall(text):
        try:
            found.setdefault(name, json.loads(literal))
        except ValueError:
            continue
    for moment, seconds, name, status in _NUMBERS.findall(text):
        found.setdefault(moment or name, float(seconds) if moment else int(status))
    return found if "RequestMethod" in found else {**found, "request": found}


def _caddy(fields: Fields) -> Entry | None:
    request = fields["request"]
    ip = request.get("client_ip") or request.get("remote_ip") or request["remote_addr"]
    given = request.get("headers")
    held = headers(given) if isinstance(given, dict) else {}
    user = fields.get("user_id")
    return _entry(
        ip, fields["ts"], request["method"], request["uri"], fields["status"], user, request.get("host"), held
    )


def _traefik(fields: Fields) -> Entry | None:
    ip = fields.get("ClientHost") or fields["ClientAddr"]
    time = fields.get("StartUTC") or fields.get("StartLocal") or fields["time"]
    held = headers({name[len(_PREFIX) :]: value for name, value in fields.items() if name.startswith(_PREFIX)})
    user = fields.get("ClientUsername")
    status = fields["DownstreamStatus"]
    return _entry(
        ip,
        time,
        fields["RequestMethod"],
        fields["RequestPath"],
        status,
        user,
        fields.get("RequestHost"),
        held,
    )


def _entry(
    ip: object,
    time: object,
    method: object,
    path: object,
    status: object,
    user: object,
    host: object,
    held: Mapping[str, str],
) -> Entry | None:
    if not (isinstance(ip, str) and isinstance(method, str) and isinstance(path, str) and path and method):
        return None
    if not isinstance(status, int) or not 100 <= status <= 999:
        return None
    name = user if isinstance(user, str) and user not in ("", "-") else None
    return Entry("", ip, _micros(time), method, path, status, name, host if isinstance(host, str) else None, held)


# The numbers of any time since 2001 and before 2200, in each of the units that Caddy can write.
_UNITS: Final[tuple[tuple[float, Callable[[float], int]], ...]] = (
    (1e10, lambda number: round(number * SECOND)),
    (1e13, lambda number: round(number * 1000)),
    (1e16, round),
    (1e19, lambda number: int(number) // 1000),
)


def _micros(time: object) -> int:
    if isinstance(time, str):
        moment = datetime.fromisoformat(time.strip().replace("/", "-"))
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // _MICROSECOND
    if isinstance(time, bool) or not isinstance(time, (int, float)) or not math.isfinite(time):
        raise ValueError(f"{time!r} is no time")
    for below, convert in _UNITS:
        if abs(time) < below:
            return convert(time)
    raise ValueError(f"{time!r} is no time")


_MICROSECOND: Final = datetime(1970, 1, 1, 0, 0, 0, 1) - datetime(1970, 1, 1)
