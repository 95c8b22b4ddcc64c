"""The ideal store: a dictionary, the core, and nothing else. Every other store must tell what it tells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from banhammer import core
from banhammer.backends import Immediate, Now, Policies, Reading, Traits
from banhammer.backends.details import Details, by_hit, changed, reading
from banhammer.backends.shortcut import tell
from banhammer.core import FRESH, Reply
from banhammer.model import Ban, Hit, Policy, Record

Kept = tuple[Record, Details | None]


class Ideal:
    """A store for one thread that keeps everything for ever."""

    traits = Traits()

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Kept] = {}

    @property
    def aio(self) -> Immediate:
        """The same store for asyncio."""
        return Immediate(self)

    def evaluate(
        self, hits: Sequence[Hit], policies: Policies, *, now: Now = None, stop: bool = False, peek: bool = False
    ) -> list[Reply | None]:
        """Decide a batch; see `Backend.evaluate`."""
        replies: list[Reply | None] = []
        for hit in hits:
            policy = policies[hit.policy]
            reply = self._decide(hit, policy, now, peek=peek)
            replies.append(reply)
            if stop and reply.verdict != "allowed" and policy.mode != "shadow":
                break
        return replies + [None] * (len(hits) - len(replies))

    def ban(
        self, key: str, policy: Policy, *, index: int, duration: int | None, reason: str, id: str, now: Now = None
    ) -> Ban:
        """Ban by hand; see `Backend.ban`."""
        at = tell(now)
        before, known = self._found(key, policy)
        after = core.ban(policy, before, index, duration, at)
        details = changed(before, after, known, Details(at, "manual", reason, id))
        self._kept[policy.name, key] = after, details
        ban = reading(key, policy, after, details, at).ban
        assert ban is not None  # noqa: S101  # It was just made.
        return ban

    def lift(self, key: str, policy: Policy, *, now: Now = None) -> Ban | None:
        """End the ban in force; see `Backend.lift`."""
        at = tell(now)
        stored, known = self._found(key, policy)
        ban = reading(key, policy, stored, known, at).ban
        if ban is not None:
            self._kept[policy.name, key] = core.lift(policy, stored, at), known
        return ban

    def forget(self, key: str, policy: Policy, *, strikes: bool, now: Now = None) -> None:
        """Drop the record or its meters; see `Backend.forget`."""
        stored, known = self._kept.pop((policy.name, key), (None, None))
        if stored is not None and not strikes:
            self._kept[policy.name, key] = core.clear_meters(stored), known

    def read(self, key: str, policy: Policy, *, now: Now = None) -> Reading:
        """Return the record; see `Backend.read`."""
        stored, known = self._found(key, policy)
        return reading(key, policy, stored, known, tell(now))

    def records(self, policies: Policies, *, now: Now = None) -> Iterator[Reading]:
        """Stream the records; see `Backend.records`."""
        for name, key in list(self._kept):
            if name in policies:
                found = self.read(key, policies[name], now=now)
                if core.lapses_at(policies[name], found.record) > found.now:
                    yield found

    def bans(self, policies: Policies, *, now: Now = None) -> Iterator[Ban]:
        """Stream the bans; see `Backend.bans`."""
        return (found.ban for found in self.records(policies, now=now) if found.ban is not None)

    def close(self) -> None:
        """Nothing to let go of."""

    def _decide(self, hit: Hit, policy: Policy, now: Now, *, peek: bool) -> Reply:
        stored, known = self._found(hit.key, policy)
        reply = core.evaluate(policy, stored, hit.cost, tell(now), guard=hit.guard)
        if not peek and reply.counted and reply.record is not stored:
            self._kept[policy.name, hit.key] = reply.record, by_hit(policy, stored, known, reply)
        return reply

    def _found(self, key: str, policy: Policy) -> Kept:
        return self._kept.get((policy.name, key), (FRESH, None))
