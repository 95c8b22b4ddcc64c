"""The hooks by which a plugin gives actions, watches escalations, and serves URL schemes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import pluggy

if TYPE_CHECKING:
    from banhammer.model import Escalation

PROJECT: Final = "banhammer"
"""The name of the markers, and of the group of entry points."""
hookimpl: Final = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as one of these hooks; its name says which."""
hookspec: Final = pluggy.HookspecMarker(PROJECT)


@hookspec
def banhammer_actions(settings: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Return named actions: a callable of one `Escalation` each, or an object with `run` and `lift`.

    `settings`: the table `[actions.NAME]` of each action that has one, by name. Making an action has no side effect: it
    may be made only to check its settings. A wrong one is a `ConfigError`, `SETTING: value; remedy`.
    """


@hookspec
def banhammer_escalated(escalation: Escalation) -> None:
    """Watch an escalation, whatever actions it names; called off the path of requests, where the hit was decided."""


@hookspec
def banhammer_backends() -> Mapping[str, Any]:  # type: ignore[empty-body]
    """Return what opens a store, by the scheme of its URL, without connecting.

    Called as `opener(url, deadline=..., denial_cache=...)`, in microseconds and as in `BanHammer`; returns a `Backend`.
    """
