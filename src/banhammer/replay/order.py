"""The order of decision: by time, then by file, then by line, in memory that does not grow with the logs.

Each log has its own buffer, because rotated files may be named in any order: a line may come up to 60 s after
the newest line of its own log. The logs are then merged by time. A line that comes later is not moved back: it is
decided where it stands, at the time of the last one decided, of whichever log.
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
MOST_WAITING: Final = 500_000
"""Lines that all buffers hold together, so that a log whose times stand still cannot fill the memory."""

Timed = tuple[int, Entry]
"""When to decide, and what."""


class Lateness:
    """What the buffers had to give up: lines too late to be put in order, and lines let go for want of room."""

    __slots__ = ("crowded", "late")

    def __init__(self) -> None:
        self.late = 0
        self.crowded = 0


def in_order(
    logs: list[Iterable[Entry]], lateness: Lateness | None = None, *, room: int = MOST_WAITING
) -> Iterator[Timed]:
    """Yield the requests of all logs with the times (us) at which to decide them; these never go back."""
    share = max(room // max(len(logs), 1), 1)
    streams = [_reordered(log, lateness or Lateness(), room=share) for log in logs]
    last = -1
    for time, late, entry in streams[0] if len(streams) == 1 else heapq.merge(*streams, key=itemgetter(0)):
        if not late or last < 0:
            last = time
        yield last, entry


def _reordered(entries: Iterable[Entry], lateness: Lateness, *, room: int) -> Iterator[tuple[int, bool, Entry]]:
    """Yield the requests of one log in the order of their times, equal times in the order of their lines.

    With each goes the time by which it is merged with those of other logs, which never goes back, and whether it
    came too late to be put in order.
    """
    waiting: list[tuple[int, int, Entry]] = []
    newest = due = last = -1
    for number, entry in enumerate(entries):
        time = entry.time
        if time > newest:
            newest, due = time, time - LATE
        elif time < due:
            lateness.late += 1
            last = time if last < 0 else last
            yield last, True, entry
            continue
        heapq.heappush(waiting, (time, number, entry))
        while waiting[0][0] <= due or len(waiting) > room:
            lateness.crowded += waiting[0][0] > due
            time, _, ready = heapq.heappop(waiting)
            last = max(last, time)
            yield last, False, ready
    while waiting:
        time, _, ready = heapq.heappop(waiting)
        last = max(last, time)
        yield last, False, ready
