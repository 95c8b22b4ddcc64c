"""The store inside the process: bounded, exact under threads, and gone with the process.

Records are values, replaced by a compare-and-swap: the decision is computed first, then the new record is put
where the old one still stands. See `shortcut` for what makes that hold, and for the answers that need no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from threading import RLock
from typing import Final
from uuid import uuid4

from banhammer import core
from banhammer.backends import Backend, Immediate, Now, Policies, Reading, Traits, query, shortcut
from banhammer.backends.leaving import Leaving
from banhammer.backends.shortcut import BatchAnswers, Listener, Shortcut, Table, pack, tell, unpack
from banhammer.core import FRESH, Reply
from banhammer.decision import Calm
from banhammer.durations import to_seconds
from banhammer.errors import ConfigError
from banhammer.forks import renew_after_fork
from banhammer.model import Ban, Clock, Hit, Origin, Policy, Record

DEFAULT_MAX_KEYS: Final = 100_000


class _Detail:
    """What the index of bans knows beside the record."""

    __slots__ = ("id", "origin", "reason", "since")

    def __init__(self, since: int, origin: Origin, reason: str, ban_id: str) -> None:
        self.since = since
        self.origin = origin
        self.reason = reason
        self.id = ban_id


class MemoryBackend:
    """A store for one process: `memory://?max_keys=100000`.

    `max_keys`: how many records (a key under a policy) are kept, at least 1; when full, what is least missed
    leaves first (see `Leaving`). `evicted_bans` counts the bans that had to leave because all were bans.
    """

    traits = Traits()

    def __init__(self, *, max_keys: int = DEFAULT_MAX_KEYS) -> None:
        if isinstance(max_keys, bool) or not isinstance(max_keys, int) or max_keys < 1:
            raise ConfigError(f"backend: max_keys={max_keys!r}; it must be an integer of at least 1")
        self._tables: dict[str, Table] = {}
        self._policies: dict[str, Policy] = {}
        self._details: dict[tuple[str, str], _Detail] = {}
        self._leaving = Leaving(max_keys, self._peruse, self._remove)
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Take a free lock: in a forked child, the thread that held the old one does not exist."""
        self.lock = RLock()  # Re-entrant: a finalizer that hits must not lock itself out.

    @classmethod
    def from_url(cls, url: str) -> Backend:
        """Return the store that a `memory://` URL describes. Raises `ConfigError`."""
        settings = query(url, {"max_keys": _whole})
        return cls(**settings)  # type: ignore[arg-type]

    @property
    def aio(self) -> Immediate:
        """The same store for asyncio; its verbs never wait."""
        return Immediate(self)

    @property
    def evicted_bans(self) -> int:
        """How many bans were forgotten for want of room."""
        return self._leaving.evicted_bans

    def __len__(self) -> int:
        return self._leaving.size

    def __repr__(self) -> str:
        return f"MemoryBackend(max_keys={self._leaving.max_keys}, keys={len(self)})"

    def evaluate(
        self,
        hits: Sequence[Hit],
        policies: Policies,
        *,
        now: Now = None,
        stop: bool = False,
        peek: bool = False,
    ) -> list[Reply | None]:
        """Decide `hits` in order; see `Backend.evaluate`."""
        replies: list[Reply | None] = []
        for hit in hits:
            policy = policies[hit.policy]
            reply = self._decide(hit, policy, now, peek=peek)
            replies.append(reply)
            if stop and reply.verdict != "allowed" and policy.mode != "shadow":
                replies.extend([None] * (len(hits) - len(replies)))
                break
        return replies

    def ban(
        self,
        key: str,
        policy: Policy,
        *,
        index: int,
        duration: int | None,
        reason: str,
        id: str,
        now: Now = None,
    ) -> Ban:
        """Ban by hand; see `Backend.ban`."""
        with self.lock:
            before, after, at = self._change(
                key, policy, now, lambda stored, at: core.ban(policy, stored, index, duration, at)
            )
            self._note(key, policy, before, after, at, ("manual", reason, id))
            return self._ban_of(key, policy, after)

    def lift(self, key: str, policy: Policy, *, now: Now = None) -> Ban | None:
        """End the ban in force; see `Backend.lift`."""
        with self.lock:
            lifted = self.read(key, policy, now=now).ban
            if lifted is not None:
                self._change(key, policy, now, lambda stored, at: core.lift(policy, stored, at))
            return lifted

    def forget(self, key: str, policy: Policy, *, strikes: bool, now: Now = None) -> None:
        """Drop the record or its meters; see `Backend.forget`."""
        with self.lock:
            if key not in self._table(policy):
                return
            if strikes:
                self._remove(policy.name, key)
                self._leaving.removed()
            else:
                self._change(key, policy, now, lambda stored, _: core.clear_meters(stored))

    def read(self, key: str, policy: Policy, *, now: Now = None) -> Reading:
        """Return the record; see `Backend.read`."""
        stored = self._stored(key, policy)
        return self._reading(key, policy, stored, tell(now))

    def records(self, policies: Policies, *, now: Now = None) -> Iterator[Reading]:
        """Stream the records; see `Backend.records`."""
        for name, policy in policies.items():
            for key in list(self._tables.get(name, ())):
                stored = self._stored(key, policy)
                at = tell(now)
                if core.lapses_at(policy, core.load(policy, stored, at)) > at:
                    yield self._reading(key, policy, stored, at)

    def bans(self, policies: Policies, *, now: Now = None) -> Iterator[Ban]:
        """Stream the bans; see `Backend.bans`."""
        for name, key in list(self._details):
            if name not in policies:
                continue
            ban = self.read(key, policies[name], now=now).ban
            if ban is not None:
                yield ban

    def close(self) -> None:
        """Nothing to let go of; the records stay for whoever else holds this object."""

    def shortcuts(
        self, policy: Policy, clock: Clock | None, listener: Listener
    ) -> tuple[Shortcut | None, Shortcut | None]:
        """Return the short cuts for a hit and for a guard of one unit under `policy`."""
        if type(self) is not MemoryBackend:
            return None, None  # What a subclass changed must not be passed by.
        table = self._table(policy)
        self._policies[policy.name] = policy
        return shortcut.hits(policy, clock, table, self), shortcut.guards(policy, clock, table)

    def hit_batch(self, hits: Sequence[Hit], policy: Policy, clock: Clock | None) -> BatchAnswers | None:
        """Return the short cut's answers to a batch; see `shortcut.hit_batch`."""
        return shortcut.hit_batch(hits, policy, clock, self._table(policy))

    def insert(self, policy: Policy, key: str, calm: Calm, now: int, real_time: bool) -> bool:
        """Store a new key's calm record where there is room for it at once; return whether it did."""
        table = self._tables[policy.name]
        with self.lock:
            if not key or key in table or not self._leaving.has_room(now, real_time=real_time):
                return False
            table[key] = calm
            self._leaving.indebted(policy.name, key, calm if isinstance(calm, int) else max(calm))
            return True

    def _decide(self, hit: Hit, policy: Policy, now: Now, *, peek: bool) -> Reply:
        table = self._table(policy)
        key = hit.key
        while True:
            stored = table.get(key)
            at = tell(now)
            record = FRESH if stored is None else unpack(stored)
            reply = core.evaluate(policy, record, hit.cost, at, guard=hit.guard)
            if peek or not reply.counted or reply.record is record:
                return reply
            packed = pack(reply.record)
            if stored is None and _blank(packed):
                return reply
            with self.lock:
                if not self._swap(key, policy, stored, packed, reply.record, at, real_time=now is None):
                    continue
                if reply.tripped:
                    self._escalate(key, policy, record, reply, at)
                return reply

    def _escalate(self, key: str, policy: Policy, before: Record, reply: Reply, now: int) -> None:
        reply.ids = tuple(uuid4().hex for _ in reply.tripped)
        if reply.verdict != "banned":
            return
        self._leaving.added(policy, key, reply.record, now, again=True)  # A trip empties a meter: due sooner, perhaps.
        reason = policy.thresholds[reply.tripped[-1]].reason
        self._note(key, policy, before, reply.record, now, ("hit", reason, reply.ids[-1]))

    def _swap(
        self,
        key: str,
        policy: Policy,
        stored: Calm | Record | None,
        packed: Calm | Record,
        record: Record,
        now: int,
        *,
        real_time: bool,
    ) -> bool:
        """Put the new record where `stored` still stands (`None`: nothing); return whether it did. Under the lock."""
        table = self._table(policy)
        if stored is not None:
            if key in table and table[key] is stored:
                table[key] = packed
                return True
            return False
        if key in table:
            return False
        self._policies[policy.name] = policy
        self._leaving.make_room(now, real_time=real_time)
        table[key] = packed
        self._leaving.added(policy, key, record, now)
        return True

    def _change(
        self, key: str, policy: Policy, now: Now, change: Callable[[Record, int], Record]
    ) -> tuple[Record, Record, int]:
        """Replace the record by what `change` makes of it; return it before, after, and the time. Under the lock."""
        table = self._table(policy)
        while True:
            stored = table.get(key)
            at = tell(now)
            before = FRESH if stored is None else unpack(stored)
            after = change(before, at)
            if self._swap(key, policy, stored, pack(after), after, at, real_time=False):
                if stored is not None:
                    self._leaving.added(policy, key, after, at, again=True)
                return before, after, at

    def _note(
        self, key: str, policy: Policy, before: Record, after: Record, now: int, cause: tuple[Origin, str, str]
    ) -> None:
        """Keep what made the ban or lengthened it: its origin, reason and id."""
        known = self._details.get((policy.name, key)) if now < before.banned_until else None
        if known is None or after.banned_until > before.banned_until:
            self._details[policy.name, key] = _Detail(now if known is None else known.since, *cause)

    def _ban_of(self, key: str, policy: Policy, record: Record) -> Ban:
        detail = self._details[policy.name, key]
        return Ban(
            key=key,
            policy=policy.name,
            threshold=min(record.level, len(policy.thresholds) - 1),
            strikes=record.strikes,
            since=to_seconds(detail.since),
            until=to_seconds(record.banned_until),
            origin=detail.origin,
            reason=detail.reason,
            id=detail.id,
        )

    def _reading(self, key: str, policy: Policy, stored: Record, now: int) -> Reading:
        record = core.load(policy, stored, now)
        with self.lock:
            known = now < record.banned_until and (policy.name, key) in self._details
            ban = self._ban_of(key, policy, record) if known else None
        return Reading(key, policy.name, now, record, ban)

    def _table(self, policy: Policy) -> Table:
        try:
            return self._tables[policy.name]
        except KeyError:
            return self._tables.setdefault(policy.name, {})

    def _stored(self, key: str, policy: Policy) -> Record:
        stored = self._table(policy).get(key)
        return FRESH if stored is None else unpack(stored)

    def _peruse(self, name: str, key: str) -> tuple[Policy, Record] | None:
        stored = self._tables[name].get(key)
        return None if stored is None else (self._policies[name], unpack(stored))

    def _remove(self, name: str, key: str) -> None:
        self._tables[name].pop(key, None)
        self._details.pop((name, key), None)


def _blank(packed: Calm | Record) -> bool:
    return packed == 0 or (isinstance(packed, tuple) and not any(packed))


def _whole(text: str) -> int:
    if not text.isdecimal() or not text.isascii():
        raise ValueError("write a whole number")
    return int(text)
