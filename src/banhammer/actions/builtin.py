"""The actions that come with banhammer: a plugin like any other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from banhammer.actions import Action
from banhammer.hookspecs import hookimpl
from banhammer.model import Escalation


def _nothing(escalation: Escalation) -> None:
    """Leave the escalation to whoever watches."""


@hookimpl
def banhammer_actions(settings: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Action]:
    """Return the built-in actions."""
    return {"block_local": _nothing, "record_local": _nothing, "report_central": _nothing}
