"""The operators' desk: the configured store, opened for one command, and what a key that was typed may stand for.

An address is meant in any spelling. A ban is put on it as the policy's routes count it; everything else reaches it by
each of its spellings, the typed one among them, so that whatever `bans` lists can be asked for and lifted.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from banhammer.backends import Backend, keeps_escalations, open_backend
from banhammer.config import Config, load
from banhammer.durations import SECOND
from banhammer.errors import BackendError, BanhammerError
from banhammer.explain import Explanation, explain
from banhammer.hammer import BanHammer
from banhammer.identity import ip_key
from banhammer.model import Escalation, Policy
from banhammer.rulebook import Rulebook, check_key
from banhammer.urls import redact, redact_message

PATIENCE: Final = 5 * SECOND
"""The least deadline of a command (us): a person waits longer for an answer than a request may."""


class OperatorError(BanhammerError):
    """A command cannot be answered: the store is away or out of reach, or what was asked cannot be done."""


class _Address(NamedTuple):
    """A request of which only the address is known."""

    ip: str
    method: str = ""
    path: str = ""
    user: str | None = None
    host: str | None = None

    def header(self, name: str) -> str | None:
        return None

    def cookie(self, name: str) -> str | None:
        return None


class _Absent:
    """Stands for an action that only the application gives, and notes that it would have run."""

    def __init__(self) -> None:
        self.asked = False

    def run(self, escalation: Escalation) -> None:
        self.asked = True

    lift = run


class Desk:
    """The configured store and its rules, for one command. Raises `OperatorError` for a store of one process."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.shown = redact(config.backend)
        self._url = config.backend
        self._routes = config.routes
        self.backend: Backend = open_backend(
            config.backend, deadline=max(config.deadline, PATIENCE), denial_cache=False
        )
        if not self.backend.traits.shared:
            self.backend.close()
            raise OperatorError(
                f"backend: {self.shown} lives inside its process, so no other can ask it; "
                "use a shared store, or call the verbs in the application, which runs its actions itself"
            )
        named = {name for policy in config.policies for level in policy.thresholds for name in level.actions}
        self._absent = {name: _Absent() for name in sorted(named - config.plugged)}
        settings: dict[str, Any] = {
            "mode": config.mode,
            "allow": config.allow,
            "deny": config.deny,
        }
        self._rules = Rulebook(config.policies, **settings)
        self.hammer = BanHammer(
            config.policies,
            backend=self.backend,
            actions=self._absent,
            action_settings=self.settings_of({*config.plugged, *self._absent}),
            worker="external" if self.backend.traits.durable else None,  # Whoever has them runs them.
            **settings,
        )

    def settings_of(self, actions: Collection[str]) -> dict[str, Mapping[str, Any]]:
        """Return the tables of these actions; others are for who has them."""
        return {name: table for name, table in self.config.action_settings.items() if name in actions}

    def policies(self, name: str | None) -> list[Policy]:
        """Return the named policy, or all. Raises `UnknownPolicyError`."""
        return list(self._rules.policies.values()) if name is None else [self._rules.policy(name)]

    def meant(self, key: str, name: str) -> str:
        """Return the one key that a ban of `key` is put on: an address as the policy's routes count it."""
        counted = self._counted(key, self._rules.policy(name))
        if key in counted or len(counted) == 1:
            return key if key in counted else counted[0]
        raise OperatorError(f"key: policy {name!r} counts {key!r} as {' and as '.join(counted)}; name one of them")

    def reached(self, key: str, name: str | None) -> Iterator[tuple[Policy, str]]:
        """Yield every policy with every key that `key` may stand for: as it is counted, and as it was written."""
        for policy in self.policies(name):
            for spelling in dict.fromkeys((*self._counted(key, policy), *_spelled(key), key)):
                yield policy, spelling

    def explained(self, key: str, name: str | None) -> Iterator[Explanation]:
        """Yield what is known of `key` under each policy: as it is counted, and other spellings that are known."""
        for policy, spelling in self.reached(key, name):
            found = explain(policy, self._rules.listed(policy, spelling), self.backend.read(spelling, policy))
            if found.known or spelling in self._counted(key, policy):
                yield found

    def absent(self) -> list[str]:
        """Return the actions that would have run, and that only the application has."""
        self.hammer.drain(PATIENCE / SECOND)
        return [name for name, action in self._absent.items() if action.asked]

    def readable(self, error: BackendError) -> OperatorError:
        """Return a store's error without what is secret in its URL."""
        return OperatorError(f"{self.shown}: {redact_message(str(error), self._url)}")

    def close(self) -> None:
        """Let go of the store."""
        self.hammer.close()
        self.backend.close()

    def _counted(self, key: str, policy: Policy) -> tuple[str, ...]:
        """Return how the routes of a policy count an address; without such a route, its one spelling."""
        plain_spelling = _spelled(key)
        if not plain_spelling:
            return (key,)
        read = (route.key.read(_Address(key)) for route in self._routes if route.policy == policy.name)
        return tuple(dict.fromkeys(found for found in read if found)) or plain_spelling


def _spelled(key: str) -> tuple[str, ...]:
    """Return the one spelling of an address, or nothing for any other key."""
    try:
        return (ip_key(key),)
    except ValueError:
        return ()


@contextlib.contextmanager
def open_desk(config: Path | None, key: str | None = None) -> Iterator[Desk]:
    """Open the configured store for one command; what it says when it fails holds no secret."""
    if key is not None:
        try:
            check_key(key)
        except ValueError as error:
            raise OperatorError(str(error)) from error
    desk = Desk(load(config, opener=keeps_escalations))
    try:
        yield desk
    except BackendError as error:
        raise desk.readable(error) from error
    finally:
        desk.close()
