"""The dead letters of a Redis store, and how many escalations wait, for operators."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from banhammer.backends.redis.entries import anew, place_in_order, read_entry, subject
from banhammer.backends.redis.streams import Streams, sound
from banhammer.errors import BackendError
from banhammer.outbox import Backlog, DeadLetter

PAGE: Final = 100


class RedisDeadLetters:
    """An operator's view of the escalations; see `DeadLetters`. An id is `PARTITION:ENTRY`."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._names = streams.names

    def backlog(self) -> Backlog:
        """Return how many escalations wait or are under way, how many are dead, and how many were dropped."""
        names = self._names
        told = self._streams.ask_all(
            lambda each: [("XLEN", names.escalations(each)), ("XLEN", names.dead(each)), ("GET", names.dropped(each))]
        )
        rows = [[int(each or 0) for each in sound(answers)] for answers in told.values()]
        waiting, dead, dropped = map(sum, zip(*rows, strict=True))
        return Backlog(waiting, dead, dropped)

    def letters(self) -> Iterator[DeadLetter]:
        """Stream the dead letters, a page at a time."""
        for partition in range(self._streams.count):
            after, entries = "-", [None] * PAGE
            while len(entries) == PAGE:
                command = ("XRANGE", self._names.dead(partition), after, "+", "COUNT", str(PAGE))
                entries = self._streams.ask_one(partition, command)
                for name, fields in entries:
                    after = f"({name.decode()}"
                    yield _letter(f"{partition}:{name.decode()}", fields)

    def retry(self, id: str) -> bool:
        """Deliver a dead letter anew; return whether there was one."""
        partition, name, fields = self._find(id)
        if not fields:
            return False
        again = anew(fields, _letter(id, fields).action)
        place = self._streams.ask_one(partition, ("XADD", self._names.escalations(partition), "*", *again)).decode()
        who = subject(read_entry(fields)[0])
        self._streams.ask_one(partition, ("ZADD", self._names.order(partition), "0", place_in_order(who, place)))
        self._streams.ask_one(partition, ("XDEL", self._names.dead(partition), name))  # Last: twice rather than never.
        return True

    def drop(self, id: str) -> bool:
        """Forget a dead letter; return whether there was one."""
        partition, name, fields = self._find(id)
        return bool(fields and self._streams.ask_one(partition, ("XDEL", self._names.dead(partition), name)))

    def _find(self, id: str) -> tuple[int, str, Sequence[bytes]]:
        partition, _, name = id.partition(":")
        left, _, right = name.partition("-")
        if not all(part.isascii() and part.isdigit() for part in (partition, left, right)):
            return 0, "", ()
        if int(partition) >= self._streams.count:
            return 0, "", ()
        found = self._streams.ask_one(int(partition), ("XRANGE", self._names.dead(int(partition)), name, name))
        return int(partition), name, found[0][1] if found else ()


def _letter(id: str, fields: Sequence[bytes]) -> DeadLetter:
    known: dict[bytes, Any] = dict(zip(fields[::2], fields[1::2], strict=False))
    try:
        escalation, _ = read_entry(fields)
        return DeadLetter(
            id=id,
            escalation=escalation,
            action=known[b"action"].decode(),
            attempts=int(known[b"attempts"]),
            error=known[b"error"].decode("utf-8", "replace"),
            at=int(id.partition(":")[2].partition("-")[0]) / 1000,
        )
    except (KeyError, ValueError) as error:
        remedy = f"forget it with: banhammer dead-letters drop {id}"
        raise BackendError(f"{id} is no dead letter, something else wrote into its stream; {remedy}") from error
