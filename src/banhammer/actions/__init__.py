"""Actions: what they are, and which of them the policies name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from banhammer.actions.builtin import MAKERS, banhammer_actions
from banhammer.errors import ConfigError, did_you_mean
from banhammer.model import Escalation, Policy


class LiftableAction(Protocol):
    """An action that can be undone: `run` acts on an escalation, `lift` undoes it when a ban is lifted by hand."""

    def run(self, escalation: Escalation) -> Any:
        """Act; may be a coroutine function."""
        ...

    def lift(self, escalation: Escalation) -> Any:
        """Undo; may be a coroutine function."""
        ...


Action = Callable[[Escalation], Any] | LiftableAction


BUILT_IN: Final = tuple(MAKERS)
"""The names that every policy may use."""


def resolve(policies: Mapping[str, Policy], given: Mapping[str, Action] | None) -> dict[str, Action]:
    """Return every action by name, `given` before the built-in ones, which are made anew without settings.

    Raises `ConfigError` where a policy names an action that nobody gives, or something given cannot be run.
    """
    actions: dict[str, Action] = {**banhammer_actions({}), **(given or {})}
    mistakes = [
        f"actions.{name}: {action!r}; give a callable of one Escalation, or an object with run and lift"
        for name, action in actions.items()
        if not callable(action) and not callable(getattr(action, "run", None))
    ]
    for policy in policies.values():
        for index, threshold in enumerate(policy.thresholds):
            for name in threshold.actions:
                if name not in actions:
                    hint = did_you_mean(name, actions) or f"; known: {', '.join(sorted(actions))}"
                    mistakes.append(f"policies.{policy.name}.thresholds.{index}.actions: unknown action {name!r}{hint}")
    if mistakes:
        raise ConfigError(mistakes)
    return actions
