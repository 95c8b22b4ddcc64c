"""The operators' verbs on Redis: each reads a record, lets `core` change it and swaps it, or streams a page of many.

No I/O here: what is asked is a generator, as in `talk`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any, Final, NamedTuple

from redis.exceptions import AskError, NoScriptError, RedisError

from banhammer import core
from banhammer.backends import Policies, Reading
from banhammer.backends.names import escape, is_cut, unescape
from banhammer.backends.packing import pack_record, sound_record
from banhammer.backends.redis.entries import entry
from banhammer.backends.redis.scripts import SWAP
from banhammer.backends.redis.server import Server
from banhammer.backends.redis.topology import Answers, Asks, Topology
from banhammer.backends.redis.wire import Names
from banhammer.core import FRESH
from banhammer.decision import to_seconds
from banhammer.durations import DAY, FOREVER, MINUTE
from banhammer.errors import BackendError, BackendTimeout
from banhammer.escalations import delivered, of_ban
from banhammer.model import Ban, Escalation, Origin, Policy, Record

PAGE: Final = 500
"""About how many keys one step of a stream looks at."""

Verb = Generator[tuple[Asks, float], Answers, Any]
Command = tuple[Any, ...]


class When(NamedTuple):
    """The injected time (us, `None`: the server's), and the `time.monotonic` after which nothing is tried again."""

    now: int | None
    until: float


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
        self._topology = topology
        self._names = names

    def ban(self, key: str, policy: Policy, ban: Callable[[Record, int], Record], cause: Cause, when: When) -> Verb:
        """Ban by hand: `ban` makes the record; return the ban in force."""
        for _ in self._tries(when):
            stored = yield from self._read(key, policy, when)
            before = core.load(policy, stored.record, stored.now)
            after = ban(stored.record, stored.now)
            known = stored.details if stored.now < before.banned_until else None
            details = known
            if known is None or after.banned_until > before.banned_until:
                since = stored.now if known is None else _since(known, stored.now)
                details = f"{since}|manual|{cause.id}|{cause.reason}".encode("utf-8", "surrogatepass")
            index = (str(after.banned_until), details or b"")
            made = _ban_of(key, policy, after, details, stored.now)
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
            lifted = _ban_of(key, policy, record, stored.details, stored.now)
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
        return _reading(key, policy, stored.record, stored.details, stored.now)

    def places(self) -> Verb:
        """Return the servers that hold partitions."""
        yield from self._topology.learn()
        count = len(self._names.tags)
        return list(dict.fromkeys(self._topology.server(partition) for partition in range(count)))

    def records(self, server: Server, cursor: int, policies: Policies, when: When) -> Verb:
        """Return the next cursor (0: the end) and the records of one step through a server's keys."""
        (page,) = yield from self._say(server, [("SCAN", cursor, "MATCH", "bh:{*}:*", "COUNT", PAGE)])
        tags = set(self._names.tags)
        found = []
        for name in dict.fromkeys(page[1]):
            tag, _, rest = name.decode("ascii", "replace").removeprefix("bh:{").partition("}:")
            policy, _, escaped = rest.partition(":")
            if tag in tags and policy in policies and _key_of(escaped):
                found.append((policies[policy], escaped, name))
        readings = yield from self._readings(server, found, when)
        return int(page[0]), [
            reading for reading in readings if core.lapses_at(policies[reading.policy], reading.record) > reading.now
        ]

    def bans(self, partition: int, cursor: int, policies: Policies, when: When) -> Verb:
        """Return the next cursor (0: the end) and the bans in force of one step through a partition's index."""
        command = ("ZSCAN", self._names.bans(partition), cursor, "COUNT", PAGE)
        (page,) = yield from self._ask(partition, [command], when.until)
        found = []
        for member in page[1][::2]:
            policy, _, escaped = member.decode("ascii", "replace").partition(":")
            if policy in policies and _key_of(escaped):
                _, name, _ = self._names.record(policy, _key_of(escaped))
                found.append((policies[policy], escaped, name))
        readings = yield from self._readings(partition, found, when)
        return int(page[0]), [reading.ban for reading in readings if reading.ban is not None]

    def _readings(
        self, place: Server | int, found: Sequence[tuple[Policy, str, str | bytes]], when: When
    ) -> Generator[tuple[Asks, float], Answers, list[Reading]]:
        """Read the records that were found on a server, which may lose some meanwhile, or in a partition."""
        if not found:
            return []
        commands: list[Command] = [("TIME",)]
        for policy, escaped, name in found:
            key = _key_of(escaped)
            _, _, member = self._names.record(policy.name, key)
            tag = (name if isinstance(name, str) else name.decode()).partition("}")[0]  # The record's own partition.
            details = f"{tag}}}#details"
            commands += [("GET", name), ("HGET", details, member or f"{policy.name}:{escaped}")]
        if isinstance(place, int):
            answers = yield from self._ask(place, commands, when.until, lenient=True)
        else:
            answers = yield from self._say(place, commands, lenient=True)
        at = _told(answers[0], when.now)
        readings = []
        for (policy, escaped, _), raw, details in zip(found, answers[1::2], answers[2::2], strict=True):
            record = self._parsed(raw)
            if record is None:
                continue
            key = _key_of(escaped)
            readings.append(_reading(key, policy, record, details if isinstance(details, bytes) else None, at))
        return readings

    def _read(self, key: str, policy: Policy, when: When) -> Generator[tuple[Asks, float], Answers, _Stored]:
        partition, name, member = self._names.record(policy.name, key)
        details = ("HGET", self._names.details(partition), member or name.partition("}:")[2])
        raw, known, time = yield from self._ask(
            partition, [("GET", name), details, ("TIME",)], when.until, lenient=True
        )
        record = self._parsed(raw) or FRESH
        held = raw if isinstance(raw, bytes) else b""
        return _Stored(held, record, known if isinstance(known, bytes) else None, _told(time, when.now))

    def _parsed(self, raw: object) -> Record | None:
        """Return the record, or `None`; what is there and is no record is counted."""
        if isinstance(raw, RedisError) and not isinstance(raw, AskError) and _is_refusal(raw):
            raise BackendError(f"the store refused: {raw}")
        record = sound_record(raw) if isinstance(raw, bytes) else None
        if record is None and (isinstance(raw, bytes) or str(raw).startswith("WRONGTYPE")):
            self._topology.damaged += 1
        return record

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
            (swapped,) = yield from self._ask(partition, [("EVALSHA", SWAP.sha, *arguments)], when.until)
        except _NoScript:
            (swapped,) = yield from self._ask(partition, [("EVAL", SWAP.text, *arguments)], when.until)
        return bool(swapped)

    def _ask(
        self, partition: int, commands: Sequence[Command], until: float, *, lenient: bool = False
    ) -> Generator[tuple[Asks, float], Answers, list[Any]]:
        """Ask the partition's server, wherever it is; with `lenient`, a wrong type is an answer like any other.

        What was refused is asked again, alone: while a slot moves, one key may be here and the next one there.
        """
        wrong = _is_refusal if lenient else _is_error
        told: list[Any] = [None] * len(commands)
        waiting = list(range(len(commands)))
        pause, aside = 0.0, None
        while True:
            yield from self._topology.learn()
            server = aside or self._topology.server(partition)
            prefix: list[Command] = [("ASKING",)] if aside else []
            answers = yield {server: [each for index in waiting for each in (*prefix, commands[index])]}, pause
            answer = answers[server]
            if isinstance(answer, BackendError):
                self._topology.doubt()
                raise _again(answer)
            for index, each in zip(waiting, answer[len(prefix) :: len(prefix) + 1], strict=True):
                told[index] = each
            waiting = [index for index in waiting if wrong(told[index])]
            if not waiting:
                return told
            error = told[waiting[0]]
            if isinstance(error, NoScriptError):
                raise _NoScript
            detour = self._topology.detour(error, server)
            if detour is None:
                raise BackendError(f"the store refused: {error}")
            aside, pause = detour.server, detour.pause
            if monotonic() + pause >= until:
                raise BackendTimeout("the store was moving or loading until the deadline")

    def _say(
        self, server: Server, commands: Sequence[Command], *, lenient: bool = False
    ) -> Generator[tuple[Asks, float], Answers, list[Any]]:
        """Ask this very server; what it does not hold (any more) is an answer like any other with `lenient`."""
        answers = yield {server: list(commands)}, 0.0
        answer = answers[server]
        if isinstance(answer, BackendError):
            raise _again(answer)
        error = None if lenient else next(filter(_is_error, answer), None)
        if error is not None:
            raise BackendError(f"the store refused: {error}")
        return answer


def _entry(policy: Policy, escalation: Escalation, names: Sequence[str]) -> list[str | bytes]:
    """Return what the escalation's stream is told of it; nothing where no action is to be delivered."""
    kept = delivered(names) if policy.mode != "shadow" else ()
    return entry(escalation, kept) if kept else []


def _again(error: BackendError) -> BackendError:
    """Return the error as one of this call's own: an open breaker gives the same one to every caller."""
    return type(error)(str(error))


class _NoScript(Exception):  # noqa: N818  # A signal between two functions here, never seen outside.
    pass


def _is_error(answer: object) -> bool:
    return isinstance(answer, RedisError)


def _is_refusal(answer: object) -> bool:
    return isinstance(answer, RedisError) and not str(answer).startswith("WRONGTYPE")


def _told(time: Iterable[bytes] | RedisError, now: int | None) -> int:
    if isinstance(time, RedisError):
        raise BackendError(f"the store refused: {time}")
    if now is not None:
        return now
    seconds, micros = time
    return int(seconds) * 1_000_000 + int(micros)


def _expiry(last: int, now: int, *, injected: bool) -> int:
    """Return the milliseconds until nothing is left to know, and a minute more; a day more on an injected clock."""
    return -(-(max(last - now, 0) + MINUTE + (DAY if injected else 0)) // 1000)


def _key_of(escaped: str) -> str:
    """Return the key, or its spelling where that was cut; "" where no key is spelled so."""
    if is_cut(escaped):
        return escaped
    try:
        key = unescape(escaped)
    except ValueError:
        return ""
    return key if escape(key) == escaped else ""


def _since(details: bytes, now: int) -> int:
    since = details.partition(b"|")[0]
    return int(since) if since.isdigit() else now


def _ban_of(key: str, policy: Policy, record: Record, details: bytes | None, now: int) -> Ban:
    parts = (details or b"").decode("utf-8", "surrogatepass").split("|", 3)
    known = len(parts) == 4
    origin: Origin = "manual" if known and parts[1] == "manual" else "hit"
    return Ban(
        key=key,
        policy=policy.name,
        threshold=min(record.level, len(policy.thresholds) - 1),
        strikes=record.strikes,
        since=to_seconds(_since(details or b"", now)),
        until=to_seconds(record.banned_until),
        origin=origin,
        reason=parts[3] if known else "",
        id=parts[2] if known else "",
    )


def _reading(key: str, policy: Policy, stored: Record, details: bytes | None, now: int) -> Reading:
    record = core.load(policy, stored, now)
    ban = _ban_of(key, policy, record, details, now) if now < record.banned_until else None
    return Reading(key, policy.name, now, record, ban)
