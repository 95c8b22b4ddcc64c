"""What an operator's verb does to one record, as an item of the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar, cast

from banhammer import core
from banhammer.backends import Reading
from banhammer.backends.details import Details, changed, reading
from banhammer.backends.memcached.server import Server
from banhammer.backends.memcached.turn import Read
from banhammer.backends.memcached.value import Value, command, expires, pack_details, unpack_details
from banhammer.backends.memcached.wire import STORED, Found, shown
from banhammer.errors import BackendError, ContentionError
from banhammer.model import Ban, Policy

Told = TypeVar("Told")
Change = Callable[[Value, int], tuple[Value | None, Told]]
"""Makes of a value at a time what is to stand there (`None`: it stays), and what the operator is told."""


class Edit(Generic[Told]):
    """One change by an operator."""

    def __init__(
        self, name: bytes, server: Server, read: Read, policy: Policy, change: Change[Told], *, injected: bool
    ) -> None:
        self.name = name
        self.server = server
        self.found: Found | None = None
        self.error: BackendError | None = None
        self.told: Told | None = None
        self._read = read
        self._policy = policy
        self._change = change
        self._injected = injected

    def decide(self, now: int) -> bytes | None:
        """Return what writes the change, or `None` where there is none."""
        value, self.told = self._change(self._read(self.found), now)
        if value is None:
            return None
        expiry = expires(self._policy, value.record, now, injected=self._injected)
        return command(self.name, self.found, value, expiry)

    def settle(self, answer: bytes) -> None:
        """Take the answer to the change."""
        if answer != STORED:
            self.error = BackendError(f"the store refused: {shown(answer)}")

    def lose(self) -> None:
        """Take note that others kept changing the record."""
        self.error = ContentionError("the record kept changing until the deadline; try again")


def banning(key: str, policy: Policy, index: int, duration: int | None, cause: tuple[str, str]) -> Change[Ban]:
    """Return the change that bans by hand; `cause` is the escalation's id and the reason."""

    def ban(value: Value, now: int) -> tuple[Value, Ban]:
        record = core.ban(policy, value.record, index, duration, now)
        by_hand = Details(now, "manual", cause[1], cause[0])
        details = changed(value.record, record, unpack_details(value, now), by_hand)
        return Value(record, pack_details(details)), cast(Ban, reading(key, policy, record, details, now).ban)

    return ban


def lifting(key: str, policy: Policy) -> Change[Ban | None]:
    """Return the change that ends the ban in force."""

    def lift(value: Value, now: int) -> tuple[Value | None, Ban | None]:
        ban = reading(key, policy, value.record, unpack_details(value, now), now).ban
        if ban is None:
            return None, None
        # The details stay: a clock that steps back finds the ban in force.
        return Value(core.lift(policy, value.record, now), value.details), ban

    return lift


def clearing(value: Value, now: int) -> tuple[Value | None, None]:
    """Empty the meters."""
    record = core.clear_meters(value.record)
    return None if record == value.record else Value(record, value.details), None


def looking(key: str, policy: Policy) -> Change[Reading]:
    """Return the change that changes nothing and tells the record."""

    def look(value: Value, now: int) -> tuple[None, Reading]:
        return None, reading(key, policy, value.record, unpack_details(value, now), now)

    return look
