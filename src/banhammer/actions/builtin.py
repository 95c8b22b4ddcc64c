"""The built-in actions, made as a plugin makes its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from banhammer.actions.blocked import BlockLocal
from banhammer.actions.record import RecordLocal
from banhammer.actions.report import ReportCentral
from banhammer.errors import ConfigError

BuiltIn = BlockLocal | RecordLocal | ReportCentral

MAKERS: Final[Mapping[str, Callable[[Mapping[str, Any]], BuiltIn]]] = {
    "block_local": BlockLocal.from_settings,
    "record_local": RecordLocal.from_settings,
    "report_central": ReportCentral.from_settings,
}


def banhammer_actions(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, BuiltIn]:
    """Return all built-in actions by name, each made from its table of `settings` or, without one, its defaults.

    Nothing is opened and nobody is asked before the first escalation. Raises `ConfigError` with the mistakes of all
    tables, each as `actions.NAME.SETTING: value; remedy`.
    """
    made: dict[str, BuiltIn] = {}
    mistakes: list[str] = []
    for name, make in MAKERS.items():
        try:
            made[name] = make(settings.get(name, {}))
        except ConfigError as error:
            mistakes += (f"actions.{name}.{mistake}" for mistake in error.mistakes)
    if mistakes:
        raise ConfigError(mistakes)
    return made
