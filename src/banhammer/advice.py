"""What a configuration says that cannot be meant, though it is no mistake: warnings that are never false alarms."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterator
from typing import Final

from banhammer.config import Config
from banhammer.durations import FOREVER, SECOND, format_duration
from banhammer.errors import did_you_mean
from banhammer.identity import ip_key
from banhammer.lists import narrower_than_keys
from banhammer.model import Policy, Threshold
from banhammer.routes import Route, wrong_order
from banhammer.words import rate

_IP: Final = re.compile(r"\s*ip(?:/(\d+)/(\d+))?\s*", re.ASCII)
_EXAMPLE: Final = "it like '10.0.0.1', '10.0.0.0/8' or '2001:db8::/32'"
_DOTTED: Final = re.compile(r"[0-9*]+(?:\.[0-9*]+){3}(?:[/:-].*)?|[0-9]+(?:\.[0-9]+){2}\.?/[0-9.]+", re.ASCII)
_COLONS: Final = re.compile(r"(?=.*::|(?:[^:]*:){7}|[^:]*:[^:]*:.*/)[0-9A-Fa-f:.]+(?:/[0-9]*)?", re.ASCII)


def warnings(config: Config) -> list[str]:
    """Return what will not do what it seems to do, each with the path of the setting."""
    policies = {policy.name: policy for policy in config.policies}
    found: list[str] = []
    for policy in config.policies:
        for index in range(len(policy.thresholds)):
            label = f"policies.{policy.name}.thresholds.{index}"
            found += (f"{label}: {warning}" for warning in _threshold(policy.thresholds, index))
        found += _windows(policy)
    found += _costs(config, policies)
    found += wrong_order(config.routes, {policy.name: policy for policy in config.policies if _can_end(policy, config)})
    found += _hidden_routes(config.routes)
    found += _lists(config)
    return found


def notes(config: Config) -> list[str]:
    """Return what is worth knowing and may well be meant."""
    store = list(_store(config.backend))
    if not config.policies:
        return ["policies: there is none, so nothing is ever denied", *store]
    used = {route.policy for route in config.routes}
    idle = [policy.name for policy in config.policies if config.routes and policy.name not in used]
    return [
        *store,
        *(f"policies.{name}: no route uses it; only the application's own calls can" for name in idle),
        *(note for policy in config.policies for note in _actions(policy, config.plugged)),
    ]


def _store(url: str) -> Iterator[str]:
    """Say what a store cannot promise."""
    if url.partition("://")[0].lower() == "memcached":
        yield "backend: Memcached cannot list bans; banhammer status tells of one key, and Redis lists them"
        yield "backend: Memcached forgets a ban that it evicts, and all of them when it restarts; Redis keeps them"
        yield "backend: Memcached has no clock to decide by, so each host's is taken; keep them in step"


def _actions(policy: Policy, known: Collection[str]) -> Iterator[str]:
    for at, threshold in enumerate(policy.thresholds):
        for index, name in enumerate(threshold.actions):
            if name not in known:
                yield (
                    f"policies.{policy.name}.thresholds.{at}.actions.{index}: {name!r} is of no installed plugin, so "
                    f"the application has to give it{did_you_mean(name, known)}"
                )


def _threshold(thresholds: tuple[Threshold, ...], index: int) -> Iterator[str]:
    threshold = thresholds[index]
    for at, other in enumerate(thresholds):
        if at == index:
            continue
        if threshold.ban and other.ban:
            doubt = _ban_behind_ban(threshold, other, index > at)
        elif threshold.ban:
            doubt = ""  # A ban threshold counts attempts, so no throttle keeps it from tripping.
        elif other.ban:
            doubt = _throttle_behind_ban(threshold, other)
        else:
            doubt = _throttle_behind_throttle(threshold, other, index > at)
        if doubt:
            yield doubt.format(other=f"thresholds.{at} ({rate(other)})")
            return
    if threshold.ban:
        yield from _short_ban(thresholds, threshold)


def _stricter(one: Threshold, other: Threshold) -> bool:
    """Tell whether the meter of `one`, charged the same, is always at least as full."""
    return one.burst <= other.burst and one.interval >= other.interval


def _same_meter(one: Threshold, other: Threshold) -> bool:
    return one.burst == other.burst and one.interval == other.interval


def _throttle_behind_throttle(threshold: Threshold, other: Threshold, later: bool) -> str:
    # Throttles are all or nothing, so both meters are charged the same.
    if not _stricter(other, threshold) or (_same_meter(threshold, other) and not later):
        return ""
    spare = threshold.burst - other.burst
    if spare:
        return f"can never trip on hits of a cost up to {spare:,}: {{other}} is stricter, and denies all that it would"
    if threshold.actions:
        return ""  # Both may be over at the same hit, and then its actions run.
    return "never makes a difference: whatever it denies, {other} denies too"


def _throttle_behind_ban(threshold: Threshold, other: Threshold) -> str:
    # A ban threshold counts at least what a throttle does. Its meter is cleared by a trip, the throttle's is
    # not: only when that has drained by the end of the ban, the next burst cannot fill it either.
    if not _stricter(other, threshold) or min(other.ban) < other.burst * threshold.interval:
        return ""
    return "can never trip: {other} bans first"


def _ban_behind_ban(threshold: Threshold, other: Threshold, later: bool) -> str:
    if threshold.actions:
        return ""
    if later and _stricter(other, threshold) and other.ban[0] == FOREVER:
        return "never makes a difference: {other} has banned for ever before"
    if _same_meter(threshold, other):
        strikes = range(1, max(len(threshold.ban), len(other.ban)) + 1)
        shorter = all(threshold.duration(n) <= other.duration(n) for n in strikes)
        if shorter and (threshold.ban != other.ban or later):
            return "never makes a difference: {other} trips at the same hits and bans for no less"
    return ""


def _short_ban(thresholds: tuple[Threshold, ...], threshold: Threshold) -> Iterator[str]:
    """A trip clears the meter: after a short ban the burst fits anew, sooner than it would have drained."""
    last = threshold.ban[-1]
    if last >= threshold.tolerance:
        return
    for other in thresholds:
        if not other.ban and other.interval >= threshold.interval:
            return  # This throttle holds the rate down.
        higher = other is not threshold and other.ban and last < (threshold.burst + 1) * other.interval
        if higher and other.ban[-1] > last:
            return  # Attempts at that pace trip this one.
    yield (
        f"its longest ban, {format_duration(last)}, is shorter than the {format_duration(threshold.tolerance)} that "
        f"its meter needs to drain: a key that always comes back gets {threshold.burst:,} per "
        f"{format_duration(last)}; ban for {format_duration(threshold.tolerance)} or longer in the end"
    )


def _windows(policy: Policy) -> Iterator[str]:
    for index, window in enumerate(policy.windows):
        if window < SECOND:
            yield (
                f"policies.{policy.name}.track.{index}: {policy.track[index]} is too short to be read; "
                "track windows of 1s or longer"
            )


def _costs(config: Config, policies: dict[str, Policy]) -> Iterator[str]:
    for index, route in enumerate(config.routes):
        policy = policies.get(route.policy)
        for at, threshold in enumerate(policy.thresholds if policy else ()):
            if not 0 < threshold.burst < route.cost:
                continue
            does = "bans" if threshold.ban else "is denied, whatever the wait"
            yield (
                f"routes.{index}.cost: {route.cost:,} is above the burst of {threshold.burst:,} of "
                f"policies.{route.policy}.thresholds.{at}, so every hit {does}; lower it, or raise the burst"
            )


def _can_end(policy: Policy, config: Config) -> bool:
    """Tell whether the order of the policy's routes matters: one that throttles in shadow never ends the list."""
    return policy.top >= 0 or (policy.mode or config.mode) != "shadow"


def _hidden_routes(routes: tuple[Route, ...]) -> Iterator[str]:
    """Warn of each route that is never asked, because skips before it match every request that it does."""
    for index, route in enumerate(routes):
        skips = [at for at in range(index) if _skips_all(routes[at], route)]
        hiding = {_hides(glob, skips, routes) for glob in route.path}
        if None in hiding:
            continue
        names = " and ".join(f"routes.{at}" for at in sorted(at for at in hiding if at is not None))
        yield (
            f"routes.{index}: never asked: {names} (skip) before it ends the list for every request that it matches; "
            f"put routes.{index} first, or narrow the path of the skip"
        )


def _skips_all(skip: Route, route: Route) -> bool:
    """Tell whether `skip` holds for every request of the route that has one of its paths."""
    if not skip.skip or not set(skip.excluded) <= set(route.excluded):
        return False
    return skip.methods is None or (route.methods is not None and route.methods <= skip.methods)


def _hides(glob: str, skips: list[int], routes: tuple[Route, ...]) -> int | None:
    """Return the first of these skips that matches every path that the glob does, or `None`."""
    return next((at for at in skips if any(_covers(cover, glob) for cover in routes[at].path)), None)


def _covers(cover: str, glob: str) -> bool:
    # A glob with no wildcard but '*' covers every glob that it matches when read as a text.
    return cover == glob or ("?" not in cover and "[" not in cover and fnmatch.fnmatchcase(glob, cover))


def _lists(config: Config) -> Iterator[str]:
    everywhere = _lengths(config.routes)
    for name, entries in (("allow", config.allow), ("deny", config.deny)):
        yield from _narrow(name, entries, everywhere)
        yield from _literal(name, entries)
    for policy in config.policies:
        here = _lengths(tuple(route for route in config.routes if route.policy == policy.name))
        for name, entries in (("allow", policy.allow), ("deny", policy.deny)):
            yield from _narrow(f"policies.{policy.name}.{name}", entries, here)
            yield from _literal(f"policies.{policy.name}.{name}", entries)


def _lengths(routes: tuple[Route, ...]) -> list[tuple[int, int]]:
    """Return the prefix lengths by which these routes count addresses; without a route, those of `ip_key`."""
    counting = [route for route in routes if not route.skip]
    found = (_IP.fullmatch(side) for route in counting for side in route.key.text.split("|"))
    lengths = {(int(match[1] or 32), int(match[2] or 64)) for match in found if match}
    return sorted(lengths) if counting else [(32, 64)]


def _narrow(name: str, entries: tuple[str, ...], lengths: list[tuple[int, int]]) -> Iterator[str]:
    for index, entry in enumerate(entries):
        for v4, v6 in lengths:
            if narrower_than_keys(entry, v4, v6):
                yield (
                    f"{name}.{index}: {entry!r} is narrower than the keys of ip/{v4}/{v6} and matches none of them; "
                    f"write {_widened(entry, v4, v6)}"
                )


def _widened(entry: str, v4: int, v6: int) -> str:
    return _address(entry.strip().partition("/")[0], v4, v6) or "a wider network"


def _literal(name: str, entries: tuple[str, ...]) -> Iterator[str]:
    """Warn of each entry that was meant as an address or a network, and is none."""
    for index, entry in enumerate(entries):
        if narrower_than_keys(entry, -1, -1):  # Every address and every network is.
            continue
        meant = _address(entry)
        text = entry.strip()
        if meant or _DOTTED.fullmatch(text) or _COLONS.fullmatch(text):
            yield (
                f"{name}.{index}: {entry!r} is no address and no network, so it matches only the key that is spelled "
                f"the same; write {meant or _EXAMPLE}"
            )


def _address(text: str, v4: int = 32, v6: int = 64) -> str:
    """Return the key of an address, quoted, or an empty string."""
    try:
        return repr(ip_key(text, v4, v6))
    except ValueError:
        return ""
