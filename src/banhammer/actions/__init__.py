"""What an action is, and which one a policy means by a name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

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


def resolve(
    policies: Mapping[str, Policy], given: Mapping[str, Action] | None, plugged: Mapping[str, Action]
) -> dict[str, Action]:
    """Return every action by name, what the application has `given` before those of plugins.

    Raises `ConfigError` where a policy names an action that nobody gives, or something given cannot be run.
    """
    actions = {**plugged, **(given or {})}
    mistakes = [
        f"actions.{name}: {action!r}; give a callable of one Escalation, or an object with run and lift"
        for name, action in actions.items()
        if not callable(action) and not callable(getattr(action, "run", None))
    ]
    for policy in policies.values():
        for index, threshold in enumerate(policy.thresholds):
            for name in threshold.actions:
                if name not in actions:
                    where = f"policies.{policy.name}.thresholds.{index}.actions"
                    mistakes.append(f"{where}: unknown action {name!r}, {nobody_gives(name, actions)}")
    if mistakes:
        raise ConfigError(mistakes)
    return actions


def nobody_gives(name: str, known: Collection[str]) -> str:
    """Return what to tell of a name under which there is no action: who could give it, and what is near."""
    hint = did_you_mean(name, known) or f"; known: {', '.join(sorted(known))}"
    return f"given by no installed plugin nor by the application{hint}"
