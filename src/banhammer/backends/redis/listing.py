"""All records and all bans of a Redis store, a page at a time, so that nobody waits for the whole of it.

No I/O here: what is asked is a generator, as in `talk`.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Final

from banhammer import core
from banhammer.backends import Policies, Reading
from banhammer.backends.names import is_cut
from banhammer.backends.redis.asking import Asker, Command, Verb, When, time_of
from banhammer.backends.redis.readings import key_of, reading_of
from banhammer.backends.redis.server import Server
from banhammer.backends.redis.topology import Answers, Asks, Topology
from banhammer.backends.redis.wire import Names
from banhammer.model import Policy

PAGE: Final = 500
"""About how many keys one step looks at."""


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
            tag, _, rest = name.decode("ascii", "replace").removeprefix("bh:{").partition("}:")
            policy, _, escaped = rest.partition(":")
            if policy in policies and key_of(escaped) and self._is_dealt(escaped, tag):
                found.append((policies[policy], escaped, name))
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
            policy, _, escaped = member.decode("ascii", "replace").partition(":")
            if policy in policies and key_of(escaped) and self._is_dealt(escaped, self._names.tags[partition]):
                _, name, _ = self._names.record(policy, key_of(escaped))
                found.append((policies[policy], escaped, name))
        readings = yield from self._readings(partition, found, when)
        return int(page[0]), [reading.ban for reading in readings if reading.ban is not None]

    def _is_dealt(self, escaped: str, tag: str) -> bool:
        """Return whether a key is dealt to the partition of `tag`: another number of them may have left it there.

        Of one that was cut it cannot be known, and is believed.
        """
        tags = self._names.tags
        return tag in tags if is_cut(escaped) else tag == tags[self._names.partition(key_of(escaped))]

    def _readings(
        self, place: Server | int, found: Sequence[tuple[Policy, str, str | bytes]], when: When
    ) -> Generator[tuple[Asks, float], Answers, list[Reading]]:
        """Read the records that were found on a server, which may lose some meanwhile, or in a partition."""
        if not found:
            return []
        commands: list[Command] = [("TIME",)]
        for policy, escaped, name in found:
            key = key_of(escaped)
            _, _, member = self._names.record(policy.name, key)
            tag = (name if isinstance(name, str) else name.decode()).partition("}")[0]  # The record's own partition.
            details = f"{tag}}}#details"
            commands += [("GET", name), ("HGET", details, member or f"{policy.name}:{escaped}")]
        if isinstance(place, int):
            answers = yield from self._asker.ask(place, commands, when.until, lenient=True)
        else:
            answers = yield from self._asker.say(place, commands, lenient=True)
        at = time_of(answers[0], when.now)
        readings = []
        for (policy, escaped, _), raw, details in zip(found, answers[1::2], answers[2::2], strict=True):
            record = self._asker.parsed(raw)
            if record is None:
                continue
            key = key_of(escaped)
            readings.append(reading_of(key, policy, record, details if isinstance(details, bytes) else None, at))
        return readings
