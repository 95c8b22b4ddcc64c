"""The order of each key's escalations in a Redis store: which of them may run now.

What ran, ran in order. So of the earlier entries of a key, the last that names an action tells for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from banhammer.backends.redis.entries import entry_at, place_in_order, read_entry
from banhammer.backends.redis.streams import Command, Streams, parted

RAN: Final = b"ran"
"""The mark of an action that ran."""
LOOK_BACK: Final = 16
"""Earlier entries of a key that are looked at; those of one policy name much the same actions."""

Entry = tuple[int, str, str]
"""An entry of a stream: its partition, whom it is about, and its id."""


class Order:
    """Tells what may run."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def ready(self, jobs: Sequence[tuple[Entry, str]]) -> list[bool]:
        """Return for each entry and action whether no earlier entry of its key still has to run it.

        Of a partition that cannot be asked now, none may.
        """
        earlier = self._earlier(dict.fromkeys(entry for entry, _ in jobs))
        states = self._states({each for entries in earlier.values() for each in entries})
        return [
            entry in earlier and self._may(name, [states.get(each) for each in earlier[entry]]) for entry, name in jobs
        ]

    @staticmethod
    def _may(name: str, earlier: Sequence[dict[str, bool] | None]) -> bool:
        """Return whether the latest of the earlier entries that names the action has run it; `None`: not known."""
        for state in earlier:
            if state is None:
                return False
            if name in state:
                return state[name]
        return True

    def _earlier(self, entries: Iterable[Entry]) -> dict[Entry, list[Entry]]:
        """Return the earlier entries of the same key, the latest first."""
        order = self._streams.names.order
        asks: dict[Entry, Command] = {}
        for entry in entries:
            partition, who, name = entry
            span = (f"({place_in_order(who, name)}", f"[{who}|")
            asks[entry] = ("ZREVRANGEBYLEX", order(partition), *span, "LIMIT", "0", str(LOOK_BACK))
        return {
            entry: [(entry[0], entry[1], entry_at(place.decode())) for place in places]
            for entry, places in self._ask(asks).items()
        }

    def _states(self, entries: Iterable[Entry]) -> dict[Entry, dict[str, bool]]:
        """Return the actions that each entry names, and whether they ran; one that is gone names none."""
        names = self._streams.names
        found = self._ask({each: ("XRANGE", names.escalations(each[0]), each[2], each[2]) for each in entries})
        states = {each: dict.fromkeys(read_entry(rows[0][1])[1] if rows else (), False) for each, rows in found.items()}
        marks = self._ask(
            {
                each: ("HMGET", names.marks(each[0]), *(f"{each[2]}|{name}" for name in state))
                if state
                else ("ZREM", names.order(each[0]), place_in_order(each[1], each[2]))  # It was taken out by hand.
                for each, state in states.items()
            }
        )
        return {
            each: dict(zip(state, [mark == RAN for mark in marks[each]] if state else (), strict=True))
            for each, state in states.items()
            if each in marks
        }

    def _ask(self, asks: Mapping[Entry, Command]) -> dict[Entry, Any]:
        """Return the answers to one command each, but for those of partitions that cannot be asked."""
        by_partition: dict[int, list[Entry]] = {}
        for entry in asks:
            by_partition.setdefault(entry[0], []).append(entry)
        told = self._streams.ask({partition: [asks[each] for each in some] for partition, some in by_partition.items()})
        answered, _ = parted(told)
        return {
            each: answer
            for partition, answers in answered.items()
            for each, answer in zip(by_partition[partition], answers, strict=True)
        }
