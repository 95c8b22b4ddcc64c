"""What a worker takes from the streams of a Redis store, and what it writes back.

An entry leaves its stream when all of its actions have run. What is known of one that is under way stands in the
partition's marks: by `ENTRY|ACTION`, how often it failed, or that it ran.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any, Final, NamedTuple, cast

from redis.exceptions import RedisError

from banhammer.backends.redis.entries import GROUP, entry, place_in_order, read_entry, subject
from banhammer.backends.redis.order import RAN, Order
from banhammer.backends.redis.scripts import HAND_OVER, SWEEP
from banhammer.backends.redis.streams import Command, Streams, parted
from banhammer.errors import BackendError
from banhammer.outbox import Delivery, Note

LEFTOVERS: Final = "leftovers"
"""The consumer that holds what a worker could not do, so that any other may claim it at once."""
LONG: Final = 10**9
"""Milliseconds that a leftover counts as idle: nobody waits longer."""
PAGE: Final = 100
SILENT: Final = 3600.0
"""Seconds after which a worker that holds nothing is gone; as often, one that claims looks for such."""
MOST_STRANGE: Final = 10_000
"""Entries that a worker remembers to have left to others."""
MOST_DEAD: Final = 10_000
"""Dead letters that a partition keeps; the oldest leaves."""


class Place(NamedTuple):
    """Where an entry is: its partition, its id in the stream, and the actions that it names."""

    partition: int
    entry: str
    names: tuple[str, ...]


class RedisOutbox:
    """One worker's view of the escalations; see `Outbox`."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._order = Order(streams)
        self._stream = streams.names.escalations
        self._consumer = f"{socket.gethostname()}:{os.getpid()}:{os.urandom(4).hex()}"
        self._next = 0
        self._strange: dict[tuple[int, str], None] = {}
        self._looked: dict[int, str] = {}
        self._swept_at = -SILENT

    def take(self, room: int) -> list[Delivery]:
        """Return what no worker has taken yet: a share from every stream, or from a few in turn if there is no room."""
        count = self._streams.count
        asked = [(self._next + step) % count for step in range(min(room, count))]
        self._next = (self._next + len(asked)) % count
        head = ("XREADGROUP", "GROUP", GROUP, self._consumer, "COUNT", str(max(room // count, 1)), "STREAMS")
        found, errors = self._ask_group({each: [(*head, self._stream(each), ">")] for each in asked})
        entries = {partition: streams[0][1] for partition, streams in found.items() if streams}
        return self._deliveries(entries, {}, errors)

    def claim(self, room: int, idle: float) -> list[Delivery]:
        """Return what another worker has not touched for `idle` seconds, and that this one has not left to others."""
        self._sweep()
        least = str(int(idle * 1000))
        found: dict[int, dict[str, int]] = {}
        idling, errors = self._ask_group(
            {
                each: [
                    ("XPENDING", self._stream(each), GROUP, "IDLE", least, self._looked.get(each, "-"), "+", str(PAGE))
                ]
                for each in range(self._streams.count)
            }
        )
        for partition, pending in idling.items():
            mine = {
                name.decode(): int(taken)
                for name, _, _, taken in pending
                if (partition, name.decode()) not in self._strange
            }
            # What this worker has left to others must not hide what stands behind it.
            full = not mine and len(pending) == PAGE
            self._looked[partition] = f"({pending[-1][0].decode()}" if full else "-"
            if mine:
                found[partition] = dict(list(mine.items())[: max(room // self._streams.count, 1)])
        claimed, refused = parted(
            self._streams.ask(
                {
                    partition: [("XCLAIM", self._stream(partition), GROUP, self._consumer, least, *names)]
                    for partition, names in found.items()
                }
            )
        )
        entries = {partition: answers[0] for partition, answers in claimed.items()}
        begun = self._remembered(self._deliveries(entries, found, errors + refused))
        self.write([Note("done", each) for each in begun if not each.names])
        return [each for each in begun if each.names]

    def ready(self, jobs: Sequence[tuple[Delivery, str]]) -> list[bool]:
        """Return for each whether it may run: not before the same action of that key's earlier escalations."""
        return self._order.ready(
            [((_place(each).partition, subject(each.escalation), _place(each).entry), name) for each, name in jobs]
        )

    def keep(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Say that these are still being worked on, so that nobody claims them; return those that are."""
        mine: dict[int, dict[str, Delivery]] = {}
        for delivery in deliveries:
            place = _place(delivery)
            mine.setdefault(place.partition, {})[place.entry] = delivery
        told = self._streams.ask(
            {partition: [self._hand_over(partition, self._consumer, 0, each)] for partition, each in mine.items()}
        )
        return [
            mine[partition][name.decode()]
            for partition, answers in told.items()
            if isinstance(answers, list) and isinstance(answers[0], list)
            for name in answers[0]
        ]

    def write(self, notes: Sequence[Note]) -> list[Note]:
        """Write notes down; return those of a partition that could not be asked, or refused.

        Dead letters come first: an escalation may only be forgotten once it is one.
        """
        unwritten = self._written([note for note in notes if note.kind == "dead"])
        at_fault = {_place(note.delivery).partition for note in unwritten}
        rest: list[Note] = []
        for note in notes:
            if note.kind != "dead":
                (unwritten if _place(note.delivery).partition in at_fault else rest).append(note)
        return unwritten + self._written(rest)

    def _written(self, notes: Sequence[Note]) -> list[Note]:
        """Write notes down as they come; return those that could not be."""
        by_partition: dict[int, list[Note]] = {}
        for note in notes:
            by_partition.setdefault(_place(note.delivery).partition, []).append(note)
        try:
            told = self._streams.ask(
                {
                    partition: [command for note in noted for command in self._commands(note)]
                    for partition, noted in by_partition.items()
                }
            )
        except BackendError:
            return list(notes)
        return [note for partition, noted in by_partition.items() if _refused(told[partition]) for note in noted]

    def leave(self) -> None:
        """Take this worker off the lists of consumers that it holds nothing of."""
        mine = self._streams.ask_all(
            lambda each: [("XPENDING", self._stream(each), GROUP, "-", "+", "1", self._consumer)]
        )
        self._streams.ask(
            {
                partition: [("XGROUP", "DELCONSUMER", self._stream(partition), GROUP, self._consumer)]
                for partition, answers in mine.items()
                if isinstance(answers, list) and answers[0] == []
            }
        )

    def _sweep(self) -> None:
        """Take workers that were killed off the lists; whatever comes of it, the next one will do as well."""
        if monotonic() - self._swept_at < SILENT:
            return
        self._swept_at = monotonic()
        silent = str(int(SILENT * 1000))
        self._streams.ask_all(lambda each: [("EVAL", SWEEP.text, "1", self._stream(each), GROUP, silent)])

    def _ask_group(self, commands: Mapping[int, Sequence[Command]]) -> tuple[dict[int, Any], list[BackendError]]:
        """Return the answers by partition, and the errors of others; where the group is missing, it is made first."""
        told = self._streams.ask(commands)
        missing = [
            partition for partition, answers in told.items() if isinstance(answers, list) and _no_group(answers[0])
        ]
        # Where another worker was faster to make it, it is there all the same.
        self._streams.ask(
            {each: [("XGROUP", "CREATE", self._stream(each), GROUP, "0", "MKSTREAM")] for each in missing}
        )
        told |= self._streams.ask({partition: commands[partition] for partition in missing})
        answered, errors = parted(told)
        return {partition: answers[0] for partition, answers in answered.items()}, errors

    def _deliveries(
        self,
        entries: Mapping[int, Iterable[Any]],
        taken: Mapping[int, Mapping[str, int]],
        errors: Sequence[BackendError],
    ) -> list[Delivery]:
        """Return what the entries say. Raises the first of `errors`, those of other partitions, where nothing came."""
        found: list[Delivery] = []
        for partition, some in entries.items():
            began = taken.get(partition, {})
            for name, fields in filter(None, some):
                delivery = self._delivery(partition, name.decode(), fields or (), began)
                found += [delivery] if delivery else []
        if errors and not found:
            raise errors[0]
        return found

    def _delivery(
        self, partition: int, name: str, fields: Sequence[bytes], taken: Mapping[str, int]
    ) -> Delivery | None:
        """Return what an entry says; one that is no escalation is dropped, for nobody could ever deliver it."""
        try:
            escalation, names = read_entry(fields)
        except ValueError:
            self._streams.damaged()
            stream = self._stream(partition)
            self._streams.ask({partition: [("XACK", stream, GROUP, name), ("XDEL", stream, name)]})
            return None
        vain = taken.get(name, 0)  # Workers that took it, and were heard of no more.
        place = Place(partition, name, names)
        return Delivery(escalation, names, attempts=dict.fromkeys(names, vain), place=place)

    def _remembered(self, deliveries: Sequence[Delivery]) -> list[Delivery]:
        """Return deliveries that others began, without the actions that ran, and with what failed so far.

        Those of a partition that does not tell now stay where they are, until they are claimed once more; raises its
        error where no other tells.
        """
        by_partition: dict[int, list[Delivery]] = {}
        for delivery in deliveries:
            by_partition.setdefault(_place(delivery).partition, []).append(delivery)
        told, errors = parted(
            self._streams.ask(
                {
                    partition: [("HMGET", self._streams.names.marks(partition), *_marks(each)) for each in begun]
                    for partition, begun in by_partition.items()
                }
            )
        )
        if errors and not told:
            raise errors[0]
        for partition, answers in told.items():
            for delivery, marks in zip(by_partition[partition], answers, strict=True):
                known = dict(zip(delivery.names, marks, strict=True))
                delivery.names = tuple(name for name, mark in known.items() if mark != RAN)
                for name in delivery.names:
                    delivery.attempts[name] += int(known[name] or 0)
        return [delivery for partition in told for delivery in by_partition[partition]]

    def _commands(self, note: Note) -> Iterator[Command]:
        place = _place(note.delivery)
        stream, marks = self._stream(place.partition), self._streams.names.marks(place.partition)
        if note.kind == "done":
            yield ("XACK", stream, GROUP, place.entry)
            yield ("XDEL", stream, place.entry)
            who = subject(note.delivery.escalation)
            yield ("ZREM", self._streams.names.order(place.partition), place_in_order(who, place.entry))
            if len(place.names) > 1 or any(note.delivery.attempts.values()):
                yield ("HDEL", marks, *_marks(note.delivery))
        elif note.kind == "ran":
            yield ("HSET", marks, f"{place.entry}|{note.name}", RAN)
        elif note.kind == "failed":
            note.delivery.attempts[note.name] = note.attempts
            yield ("HSET", marks, f"{place.entry}|{note.name}", str(note.attempts))
        elif note.kind == "left":
            self._leave(place.partition, place.entry)
            yield self._hand_over(place.partition, LEFTOVERS, LONG, [place.entry])
        else:
            fields = entry(note.delivery.escalation, [note.name])
            more = ("action", note.name, "attempts", str(note.attempts), "error", note.error)
            dead = self._streams.names.dead(place.partition)
            yield ("XADD", dead, "MAXLEN", "~", str(MOST_DEAD), "*", *fields, *more)

    def _hand_over(self, partition: int, consumer: str, idle: int, entries: Iterable[str]) -> Command:
        """Return what hands entries that this worker still holds to a consumer, untouched for `idle` ms."""
        arguments = (self._stream(partition), GROUP, self._consumer, consumer, str(idle), *entries)
        return ("EVAL", HAND_OVER.text, "1", *arguments)

    def _leave(self, partition: int, name: str) -> None:
        self._strange[partition, name] = None
        if len(self._strange) > MOST_STRANGE:
            del self._strange[next(iter(self._strange))]


def _place(delivery: Delivery) -> Place:
    return cast(Place, delivery.place)


def _marks(delivery: Delivery) -> list[str]:
    place = _place(delivery)
    return [f"{place.entry}|{name}" for name in place.names]


def _refused(answers: list[Any] | BackendError) -> bool:
    """Return whether something was not written; where the group is gone, so is the entry."""
    if isinstance(answers, BackendError):
        return True
    return any(isinstance(each, RedisError) and not _no_group(each) for each in answers)


def _no_group(answer: object) -> bool:
    return isinstance(answer, RedisError) and str(answer).startswith("NOGROUP")
