"""All records and all bans of a Redis store, a page at a time, so that nobody waits for the whole of it.

No I/O here: what is asked is a generator, as in `talk`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final, NamedTuple

from banhammer import core
from banhammer.backends import Policies, Reading
from banhammer.backends.names import is_cut, shorten
from banhammer.backends.redis.asking import Asker, Command, Verb, When, time_of
from banhammer.backends.redis.readings import key_of, reading_of
from banhammer.backends.redis.server import Server
from banhammer.backends.redis.topology import Answers, Asks, Topology
from banhammer.backends.redis.wire import Names
from banhammer.model import Policy

PAGE: Final = 500
"""About how many keys one step looks at."""


class _Found(NamedTuple):
    """A record that was found: its name, and where the details of its ban would be."""

    policy: Policy
    key: str
    name: str
    details: str
    member: str


class Lister:
    """Lists what there is."""

    def __init__(self, topology: Topology, names: Names) -> None:
        self._topology = topology
        self._names = names
        self._asker = Asker(topology)

    def places(self) -> Verb:
        """Return the servers that hold partitions."""
        yield from self._topology.learn()
        count = len(self._names.tags)
        return list(dict.fromkeys(self._topology.server(partition) for partition in range(count)))

    def records(self, server: Server, cursor: int, policies: Policies, when: When) -> Verb:
        """Return the next cursor (0: the end) and the records of one step through a server's keys."""
        (page,) = yield from self._asker.say(server, [("SCAN", cursor, "MATCH", "bh:{*}:*", "COUNT", PAGE)])
        found = []
        for name in dict.fromkeys(page[1]):
            tag, _, member = name.decode("ascii", "replace").removeprefix("bh:{").partition("}:")
            if tag in self._names.tags:
                found += self._found(member, self._names.tags.index(tag), policies)
        readings = yield from self._readings(server, found, when)
        return int(page[0]), [
            reading for reading in readings if core.lapses_at(policies[reading.policy], reading.record) > reading.now
        ]

    def bans(self, partition: int, cursor: int, policies: Policies, when: When) -> Verb:
        """Return the next cursor (0: the end) and the bans in force of one step through a partition's index."""
        command = ("ZSCAN", self._names.bans(partition), cursor, "COUNT", PAGE)
        (page,) = yield from self._asker.ask(partition, [command], when.until)
        found = []
        for member in page[1][::2]:
            found += self._found(member.decode("ascii", "replace"), partition, policies)
        readings = yield from self._readings(partition, found, when)
        return int(page[0]), [reading.ban for reading in readings if reading.ban is not None]

    def _found(self, member: str, partition: int, policies: Policies) -> list[_Found]:
        """Return the key that a member of the index of bans, or the end of a record's name, spells; `[]` for none.

        Of another number of partitions it may have been left where it is not dealt to; of a key that was cut that
        cannot be known, and is believed.
        """
        names = self._names
        policy, _, escaped = member.partition(":")
        key = key_of(escaped) if policy in policies else ""
        if not key or not (is_cut(escaped) or partition == names.partition(key)):
            return []
        name = names.spelled(partition, policy, shorten(escaped))
        return [_Found(policies[policy], key, name, names.details(partition), member)]

    def _readings(
        self, place: Server | int, found: Sequence[_Found], when: When
    ) -> Generator[tuple[Asks, float], Answers, list[Reading]]:
        """Read the records that were found on a server, which may lose some meanwhile, or in a partition."""
        if not found:
            return []
        commands: list[Command] = [("TIME",)]
        for each in found:
            commands += [("GET", each.name), ("HGET", each.details, each.member)]
        if isinstance(place, int):
            answers = yield from self._asker.ask(place, commands, when.until, lenient=True)
        else:
            answers = yield from self._asker.say(place, commands, lenient=True)
        at = time_of(answers[0], when.now)
        readings = []
        for each, raw, details in zip(found, answers[1::2], answers[2::2], strict=True):
            record = self._asker.parsed(raw)
            if record is not None:
                known = details if isinstance(details, bytes) else None
                readings.append(reading_of(each.key, each.policy, record, known, at))
        return readings
