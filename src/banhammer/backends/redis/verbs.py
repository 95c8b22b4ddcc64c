"""The operators' verbs on one record in Redis: each reads it, lets `core` change it, and swaps it.

No I/O here: what is asked is a generator, as in `talk`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from time import monotonic
from typing import NamedTuple

from banhammer import core
from banhammer.backends.packing import pack_record
from banhammer.backends.redis.asking import Asker, NoScript, Verb, When, time_of
from banhammer.backends.redis.entries import entry
from banhammer.backends.redis.readings import ban_of, reading_of, since_of
from banhammer.backends.redis.scripts import SWAP
from banhammer.backends.redis.topology import Answers, Asks, Topology
from banhammer.backends.redis.wire import Names
from banhammer.core import FRESH
from banhammer.durations import DAY, FOREVER, MINUTE
from banhammer.errors import BackendTimeout
from banhammer.escalations import delivered, of_ban
from banhammer.model import Escalation, Policy, Record


class Cause(NamedTuple):
    """Why an operator bans: the escalation's id, the reason, and the threshold that it is done under."""

    id: str
    reason: str
    threshold: int


class _Stored(NamedTuple):
    """What was read of one key: its record as stored and as it counts, and what the index knows of its ban."""

    raw: bytes
    record: Record
    details: bytes | None
    now: int


class Operator:
    """The operators' verbs."""

    def __init__(self, topology: Topology, names: Names) -> None:
        self._names = names
        self._asker = Asker(topology)

    def ban(self, key: str, policy: Policy, ban: Callable[[Record, int], Record], cause: Cause, when: When) -> Verb:
        """Ban by hand: `ban` makes the record; return the ban in force."""
        for _ in self._tries(when):
            stored = yield from self._read(key, policy, when)
            before = core.load(policy, stored.record, stored.now)
            after = ban(stored.record, stored.now)
            known = stored.details if stored.now < before.banned_until else None
            details = known
            if known is None or after.banned_until > before.banned_until:
                since = stored.now if known is None else since_of(known, stored.now)
                details = f"{since}|manual|{cause.id}|{cause.reason}".encode("utf-8", "surrogatepass")
            index = (str(after.banned_until), details or b"")
            made = ban_of(key, policy, after, details, stored.now)
            told = replace(made, id=cause.id, reason=cause.reason)
            escalation = _entry(policy, *of_ban(policy, cause.threshold, told, "banned", stored.now))
            if (yield from self._swap(key, policy, stored, after, index, when, escalation)):
                return made

    def lift(self, key: str, policy: Policy, when: When) -> Verb:
        """End the ban in force and return it, or return `None`."""
        for _ in self._tries(when):
            stored = yield from self._read(key, policy, when)
            record = core.load(policy, stored.record, stored.now)
            if stored.now >= record.banned_until:
                return None
            after = core.lift(policy, stored.record, stored.now)
            # Like a ban that ended, it stays in the index for a while: a clock that steps back finds it in force.
            index = (str(after.banned_until), stored.details or b"")
            lifted = ban_of(key, policy, record, stored.details, stored.now)
            escalation = _entry(policy, *of_ban(policy, lifted.threshold, lifted, "lifted", stored.now))
            if (yield from self._swap(key, policy, stored, after, index, when, escalation)):
                return lifted

    def forget(self, key: str, policy: Policy, when: When, *, strikes: bool) -> Verb:
        """Drop the record; without `strikes`, only empty its meters."""
        for _ in self._tries(when):
            stored = yield from self._read(key, policy, when)
            if not stored.raw:
                return
            after = FRESH if strikes else core.clear_meters(stored.record)
            index = ("", b"") if strikes else ("=", b"")
            if (yield from self._swap(key, policy, stored, after, index, when)):
                return

    @staticmethod
    def _tries(when: When) -> Iterator[None]:
        """Yield for each try to swap a record. Raises `BackendTimeout` where it kept changing until the deadline."""
        yield
        while monotonic() < when.until:
            yield
        raise BackendTimeout("the record kept changing until the deadline; try again")

    def read(self, key: str, policy: Policy, when: When) -> Verb:
        """Return the record as it reads now, as a `Reading`."""
        stored = yield from self._read(key, policy, when)
        return reading_of(key, policy, stored.record, stored.details, stored.now)

    def _read(self, key: str, policy: Policy, when: When) -> Generator[tuple[Asks, float], Answers, _Stored]:
        partition, name, member = self._names.record(policy.name, key)
        details = ("HGET", self._names.details(partition), member or name.partition("}:")[2])
        raw, known, time = yield from self._asker.ask(
            partition, [("GET", name), details, ("TIME",)], when.until, lenient=True
        )
        record = self._asker.parsed(raw) or FRESH
        held = raw if isinstance(raw, bytes) else b""
        return _Stored(held, record, known if isinstance(known, bytes) else None, time_of(time, when.now))

    def _swap(
        self,
        key: str,
        policy: Policy,
        stored: _Stored,
        record: Record,
        index: tuple[str, bytes],
        when: When,
        escalation: Sequence[str | bytes] = (),
    ) -> Generator[tuple[Asks, float], Answers, bool]:
        """Put `record` in the place of what was read, if that still stands; with it goes the escalation, if any."""
        names = self._names
        partition, name, member = names.record(policy.name, key)
        stream: tuple[str, ...] = ()
        if escalation:
            stream = (names.escalations(partition), names.dropped(partition), names.order(partition))
        last = core.lapses_at(policy, record)
        packed = pack_record(record) if last else b""
        expiry = "" if last >= FOREVER else str(_expiry(last, stored.now, injected=when.now is not None))
        arguments = (
            3 + len(stream), names.bans(partition), names.details(partition), name, *stream,
            stored.raw, packed, expiry, member or name.partition("}:")[2], *index, *escalation,
        )  # fmt: skip
        try:
            (swapped,) = yield from self._asker.ask(partition, [("EVALSHA", SWAP.sha, *arguments)], when.until)
        except NoScript:
            (swapped,) = yield from self._asker.ask(partition, [("EVAL", SWAP.text, *arguments)], when.until)
        return bool(swapped)


def _entry(policy: Policy, escalation: Escalation, names: Sequence[str]) -> list[str | bytes]:
    """Return what the escalation's stream is told of it; nothing where no action is to be delivered."""
    kept = delivered(names) if policy.mode != "shadow" else ()
    return entry(escalation, kept) if kept else []


def _expiry(last: int, now: int, *, injected: bool) -> int:
    """Return the milliseconds until nothing is left to know, and a minute more; a day more on an injected clock."""
    return -(-(max(last - now, 0) + MINUTE + (DAY if injected else 0)) // 1000)
