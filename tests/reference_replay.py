"""An independent, literal reading of replay: one log, read whole, put in order, decided line by line.

It reads combined and common logs. A line that is more than 60 s behind the newest before it is decided where it
stands, at the time of the last one decided: of those before it that are 60 s behind the newest themselves.
Where there is none, it is decided at its own time.
Keys are `ip` and `ip/V4/V6`; a route with any other selector is not replayable here and matches nothing.
Lists in the configuration match equal keys only. Further readings: `keys` are the distinct keys that a route
asked about; a policy's hits are counted by verdict, so in shadow by what enforcement would have said; every
configured policy is named, also without a hit; a line's path is as the log spells it, up to the first `?`.
"""

from __future__ import annotations

import datetime
import fnmatch
import ipaddress
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from banhammer.model import Policy, Threshold
from reference import ONE_SECOND, ReferenceHammer
from reference_decision import Answer

LINE = re.compile(
    r"(?P<host>\S+) \S+ .*?\[(?P<day>\d+)/(?P<month>\w+)/(?P<year>\d+):(?P<clock>\d+:\d+:\d+) "
    r"(?P<sign>[+-])(?P<hours>\d\d)(?P<minutes>\d\d)\] "
    r'"(?P<method>[^\s"]+) (?P<target>(?:[^\s"\\]|\\.)+)(?: (?:[^"\\]|\\.)*)?" (?P<status>\d{3})(?!\S)'
)
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
SELECTOR = re.compile(r"ip(?:/(\d+)/(\d+))?")
NAT64 = ipaddress.ip_network("64:ff9b::/96")
MOST_LATE = 60 * ONE_SECOND
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

Config = Mapping[str, Any]
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def replay(log: Path | str, config: Config) -> dict[str, Any]:
    """Return what `replay --json` says of these requests, bans and counts."""
    lines = Path(log).read_bytes().split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    requests = [request for line in lines if (request := read_line(line.decode("utf-8", "replace")))]
    report: dict[str, Any] = {
        "requests": {"allowed": 0, "throttled": 0, "banned": 0},
        "policies": {name: {"allowed": 0, "throttled": 0, "banned": 0} for name in config["policies"]},
        "bans": [],
        "denied_served": 0,
        "lines": len(lines),
        "skipped": len(lines) - len(requests),
        "keys": 0,
    }
    hammer = build(config)
    keys: set[str] = set()
    for request in in_order(requests):
        verdict = decide(hammer, config, request, report, keys)
        report["requests"][verdict] += 1
        if verdict != "allowed" and 200 <= request["status"] < 400:
            report["denied_served"] += 1
    report["keys"] = len(keys)
    return report


def read_line(line: str) -> dict[str, Any] | None:
    """Return what a line says, or `None` where address, time, method, path or status cannot be read."""
    found = LINE.match(line)
    if not found:
        return None
    try:
        address = ipaddress.ip_address(found["host"])
        date = int(found["year"]), MONTHS.index(found["month"]) + 1, int(found["day"])
        hour, minute, second = (int(part) for part in found["clock"].split(":"))
        local = datetime.datetime(*date, hour, minute, second, tzinfo=datetime.UTC)
    except ValueError:
        return None
    ahead = datetime.timedelta(hours=int(found["hours"]), minutes=int(found["minutes"]))
    at = local - ahead if found["sign"] == "+" else local + ahead
    return {
        "address": address,
        "now": (at - EPOCH) // datetime.timedelta(microseconds=1),
        "method": found["method"],
        "path": found["target"].split("?")[0],
        "status": int(found["status"]),
    }


def in_order(requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the requests in the order of decision, `now` being the time at which to decide each."""
    decided: list[dict[str, Any]] = []
    waiting: list[dict[str, Any]] = []
    newest = 0
    for request in requests:
        newest = max(newest, request["now"])
        if request["now"] < newest - MOST_LATE:
            at = decided[-1]["now"] if decided else request["now"]
            decided.append({**request, "now": at})
            continue
        waiting.append(request)
        waiting.sort(key=lambda one: one["now"])  # Stable: equal times in the order of lines.
        while waiting[0]["now"] <= newest - MOST_LATE:
            decided.append(waiting.pop(0))
    return decided + waiting


def build(config: Config) -> ReferenceHammer:
    policies = []
    for name, settings in config["policies"].items():
        thresholds = []
        for entry in settings["thresholds"]:
            more = {field: entry[field] for field in ("burst", "ban", "actions") if field in entry}
            thresholds.append(Threshold(entry["limit"], entry["period"], **more))
        more = {field: value for field, value in settings.items() if field != "thresholds"}
        policies.append(Policy(name, thresholds, **more))
    lists = {field: config.get(field, ()) for field in ("allow", "deny")}
    return ReferenceHammer(policies, mode=config.get("mode", "enforce"), **lists)


def decide(
    hammer: ReferenceHammer, config: Config, request: dict[str, Any], report: dict[str, Any], keys: set[str]
) -> str:
    """Return the verdict that ended the request, having asked its routes in order."""
    routes = list(routes_of(config, request))
    now = request["now"]
    # 1. Before the application: a route without status is one hit, one with status one guard.
    for route, key in routes:
        keys.add(key)
        guarded = "status" in route
        verb = hammer.guard if guarded else hammer.hit
        answer = verb(key, route["policy"], route.get("cost", 1), now)
        if not guarded or answer["verdict"] != "allowed":
            note(report, answer, now)
        # 3. A policy in shadow allows whatever its verdict, so it never ends the list.
        if not answer["allowed"]:
            return str(answer["verdict"])
    # 2. After it, let through: each route whose status holds the response's code is one hit.
    for route, key in routes:
        if "status" in route and holds(route["status"], request["status"]):
            note(report, hammer.hit(key, route["policy"], route.get("cost", 1), now), now)
    return "allowed"


def note(report: dict[str, Any], answer: Answer, now: int) -> None:
    """Count one hit by its verdict, and list every ban threshold that it tripped."""
    report["policies"][answer["policy"]][answer["verdict"]] += 1
    for index, verdict in answer["escalations"]:
        if verdict != "banned":
            continue
        until = None if answer["banned_until"] == math.inf else answer["banned_until"]
        ban = {field: answer[field] for field in ("key", "policy", "strikes")}
        report["bans"].append({**ban, "threshold": index, "at": now / 1e6, "until": until, "reason": ""})


def routes_of(config: Config, request: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the request's routes, each with its key, in the order of the file; a skip route ends the list."""
    for route in config.get("routes", ()):
        if not matches(route, request):
            continue
        if route.get("skip"):
            return
        key = key_of(route.get("key", "ip"), request["address"])
        if key is not None:
            yield route, key


def matches(route: dict[str, Any], request: dict[str, Any]) -> bool:
    wanted = several(route.get("path", "*"))
    refused = several(route.get("except", []))
    if not any(fnmatch.fnmatchcase(request["path"], glob) for glob in wanted):
        return False
    if any(fnmatch.fnmatchcase(request["path"], glob) for glob in refused):
        return False
    return "methods" not in route or request["method"] in several(route["methods"])


def holds(statuses: Any, code: int) -> bool:
    return any(str(each) in (str(code), f"{code // 100}xx") for each in several(statuses))


def several(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def key_of(selector: str, address: Address) -> str | None:
    """Spell the key: an address that carries an IPv4 one counts as that; a shorter prefix has its length."""
    found = SELECTOR.fullmatch(selector)
    if not found:
        return None
    address = carried_ipv4(address) or address
    lengths = {4: int(found[1] or 32), 6: int(found[2] or 64)}
    network = ipaddress.ip_network((address.packed, lengths[address.version]), strict=False)
    whole = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if whole else str(network)


def carried_ipv4(address: Address) -> ipaddress.IPv4Address | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour
