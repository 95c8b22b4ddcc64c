"""`banhammer check`: what a configuration does, in words, and what in it cannot be meant."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from banhammer.advice import notes, warnings
from banhammer.backends import keeps_escalations
from banhammer.config import Config, load
from banhammer.durations import format_duration
from banhammer.errors import ConfigError
from banhammer.model import Policy
from banhammer.urls import redact
from banhammer.words import describe, describe_route

_UNASKED = {
    "open": "every hit is allowed",
    "closed": "every hit is denied",
}


@dataclass(frozen=True, slots=True)
class Findings:
    """A configuration in words: lines for each policy and route, warnings and notes."""

    config: Config
    policies: dict[str, list[str]]
    routes: list[str]
    warnings: list[str]
    notes: list[str]


def examine(config: Config) -> Findings:
    """Return what the configuration does and what in it will not do what it seems to."""
    return Findings(
        config,
        {policy.name: describe(policy) for policy in config.policies},
        [describe_route(route) for route in config.routes],
        warnings(config),
        notes(config),
    )


def check(file: str | None = None, *, as_json: bool = False) -> int:
    """Print what the file does; return 0, or with `as_json` and mistakes, 1. Raises `ConfigError` otherwise."""
    try:
        findings = examine(load(file, opener=keeps_escalations))
    except ConfigError as error:
        if not as_json:
            raise
        print(json.dumps({"mistakes": list(error.mistakes)}, indent=2))
        return 1
    if as_json:
        print(json.dumps(_object(findings), indent=2))
    else:
        print("\n".join(_lines(findings)))
    return 0


def _object(findings: Findings) -> dict[str, Any]:
    config = findings.config
    return {
        "file": config.source,
        "backend": redact(config.backend),
        "mode": config.mode,
        "policies": findings.policies,
        "routes": findings.routes,
        "warnings": findings.warnings,
        "notes": findings.notes,
        "mistakes": [],
    }


def _lines(findings: Findings) -> Iterator[str]:
    config = findings.config
    shadow = "; shadow: nobody is kept out" if config.mode == "shadow" else ""
    yield f"{config.source}: {_count(len(config.policies), 'policy', 'policies')}, " + (
        f"{_count(len(config.routes), 'route', 'routes')}; store {redact(config.backend)}{shadow}"
    )
    for policy in config.policies:
        yield ""
        yield f"policy {policy.name}"
        yield from (f"  {index}: {line}" for index, line in enumerate(findings.policies[policy.name]))
        yield from (f"  {line}" for line in _manners(policy))
    if findings.routes:
        yield ""
        yield "routes, in this order"
        yield from (f"  {index}: {line}" for index, line in enumerate(findings.routes))
    if findings.warnings or findings.notes:
        yield ""
    yield from (f"warning: {warning}" for warning in findings.warnings)
    yield from (f"note: {note}" for note in findings.notes)


def _manners(policy: Policy) -> Iterator[str]:
    if any(threshold.ban for threshold in policy.thresholds):
        yield f"a strike is forgotten {format_duration(policy.forgive_after)} after its ban"
    if policy.track:
        yield f"counts hits in windows of {', '.join(policy.track)}"
    if policy.on_error != "local":
        yield f"when the store cannot be asked: {_UNASKED[policy.on_error]}"
    if policy.mode:
        yield "shadow: nobody is kept out" if policy.mode == "shadow" else "enforced, whatever the mode of the file"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
