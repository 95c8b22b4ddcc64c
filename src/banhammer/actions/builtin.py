"""The actions that come with banhammer: a plugin like any other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from banhammer.actions.blocked import BlockLocal
from banhammer.actions.record import RecordLocal
from banhammer.actions.report import ReportCentral
from banhammer.hookspecs import hookimpl

BuiltIn = BlockLocal | RecordLocal | ReportCentral

MAKERS: Final[Mapping[str, Callable[[Mapping[str, Any]], BuiltIn]]] = {
    "block_local": BlockLocal.from_settings,
    "record_local": RecordLocal.from_settings,
    "report_central": ReportCentral.from_settings,
}


@hookimpl
def banhammer_actions(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, BuiltIn]:
    """Return all built-in actions by name, each made from its table of `settings` or, without one, its defaults.

    Nothing is opened and nobody is asked before the first escalation. Raises `ConfigError` with the mistakes of the
    first table that has any.
    """
    return {name: make(settings.get(name, {})) for name, make in MAKERS.items()}
