"""The order of decision: by time, then by file, then by line, in memory that does not grow with the logs.

Each log has its own buffer, because rotated files may be named in any order: a line may come up to 60 s after
the newest line of its own log. One that comes later is not moved back: it is decided where it stands, at the
time of the last one decided before it (or at its own, where that is later). The logs are then merged by time.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import Final

from banhammer.durations import SECOND
from banhammer.replay.entry import Entry

LATE: Final = 60 * SECOND
"""How late a line may be and still be put in order."""
ROOM: Final = 500_000
"""Lines that all buffers hold together, so that a log whose times stand still cannot fill the memory."""

Timed = tuple[int, Entry]
"""When to decide, and what."""


class Lateness:
    """What the buffers had to give up: lines too late to be put in order, and lines let go for want of room."""

    __slots__ = ("crowded", "late")

    def __init__(self) -> None:
        self.late = 0
        self.crowded = 0


def in_order(logs: list[Iterable[Entry]], lateness: Lateness | None = None, *, room: int = ROOM) -> Iterator[Timed]:
    """Yield the requests of all logs with the times (us) at which to decide them; these never go back."""
    share = max(room // max(len(logs), 1), 1)
    streams = [reordered(log, lateness or Lateness(), room=share) for log in logs]
    if len(streams) == 1:
        return streams[0]
    return heapq.merge(*streams, key=itemgetter(0))


def reordered(entries: Iterable[Entry], lateness: Lateness, *, room: int = ROOM) -> Iterator[Timed]:
    """Yield the requests of one log in the order of their times, equal times in the order of their lines."""
    waiting: list[tuple[int, int, Entry]] = []
    newest = last = 0
    for number, entry in enumerate(entries):
        time = entry.time
        if time > newest:
            newest = time
        elif time < last:
            lateness.late += 1
        heapq.heappush(waiting, (time, number, entry))
        due = newest - LATE
        while waiting[0][0] <= due:
            time, _, ready = heapq.heappop(waiting)
            last = max(last, time)
            yield last, ready
        if len(waiting) > room:
            lateness.crowded += 1
            time, _, ready = heapq.heappop(waiting)
            last = max(last, time)
            yield last, ready
    while waiting:
        time, _, ready = heapq.heappop(waiting)
        last = max(last, time)
        yield last, ready
