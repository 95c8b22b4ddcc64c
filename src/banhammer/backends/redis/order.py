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
"""Earlier entries of a key that are looked at first: mostly one of them names the action."""
FURTHER: Final = 256
"""How many more are looked at in each further step, where none of them does."""

Entry = tuple[int, str, str]
"""An entry of a stream: its partition, whom it is about, and its id."""
Job = tuple[Entry, str]
"""One action of an entry."""


class Order:
    """Tells what may run."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    def ready(self, jobs: Sequence[Job]) -> list[bool]:
        """Return for each entry and action whether no earlier entry of its key still has to run it.

        Of a partition that cannot be asked now, none may.
        """
        may = dict.fromkeys(jobs, False)
        asked, count = self._foremost(may), LOOK_BACK
        bounds = {entry: entry for entry, _ in asked}  # How far back each has been looked.
        while asked:
            earlier = self._earlier({entry: bounds[entry] for entry, _ in asked}, count)
            states = self._states({each for entries in earlier.values() for each in entries})
            further = []
            for job in asked:
                entry, name = job
                entries = earlier.get(entry)
                if entries is None:
                    continue
                ran = self._ran(name, [states.get(each) for each in entries])
                if ran is None and len(entries) == count:
                    bounds[entry] = entries[-1]
                    further.append(job)
                else:
                    may[job] = ran is not False
            asked, count = further, FURTHER
        return [may[job] for job in jobs]

    @staticmethod
    def _foremost(jobs: Iterable[Job]) -> list[Job]:
        """Return the first job of each key and action: those behind it wait for it, and need not be asked for."""
        first: dict[tuple[int, str, str], Job] = {}
        for job in jobs:
            (partition, who, entry_id), name = job
            known = first.setdefault((partition, who, name), job)
            if place_in_order(who, entry_id) < place_in_order(who, known[0][2]):
                first[partition, who, name] = job
        return list(first.values())

    @staticmethod
    def _ran(name: str, earlier: Sequence[dict[str, bool] | None]) -> bool | None:
        """Return whether the latest of these entries that names the action has run it; `None`: none of them names it.

        An entry of which nothing is known may name it.
        """
        for state in earlier:
            if state is None:
                return False
            if name in state:
                return state[name]
        return None

    def _earlier(self, bounds: Mapping[Entry, Entry], count: int) -> dict[Entry, list[Entry]]:
        """Return at most `count` entries of the same key that are earlier than each one's bound, the latest first."""
        order = self._streams.names.order
        asks: dict[Entry, Command] = {}
        for entry, bound in bounds.items():
            partition, who, name = bound
            span = (f"({place_in_order(who, name)}", f"[{who}|")
            asks[entry] = ("ZREVRANGEBYLEX", order(partition), *span, "LIMIT", "0", str(count))
        return {
            entry: [(entry[0], entry[1], entry_at(place.decode())) for place in places]
            for entry, places in self._ask(asks).items()
        }

    def _states(self, entries: Iterable[Entry]) -> dict[Entry, dict[str, bool]]:
        """Return the actions that each entry names, and whether they ran; one that is gone or damaged names none."""
        names = self._streams.names
        found = self._ask({each: ("XRANGE", names.escalations(each[0]), each[2], each[2]) for each in entries})
        states = {each: dict.fromkeys(_named(rows), False) for each, rows in found.items()}
        marks = self._ask(
            {
                each: ("HMGET", names.marks(each[0]), *(f"{each[2]}|{name}" for name in state))
                if state
                else ("ZREM", names.order(each[0]), place_in_order(each[1], each[2]))  # Nobody will run it.
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


def _named(rows: Sequence[Any]) -> Sequence[str]:
    """Return the actions that an entry names, if it is there and can be read."""
    try:
        return read_entry(rows[0][1])[1] if rows else ()
    except ValueError:
        return ()
