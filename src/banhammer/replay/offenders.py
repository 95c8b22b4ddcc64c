"""The keys that were kept out: since when, how often, and how many of their requests had been served."""

from __future__ import annotations

import math
from typing import Final

from banhammer.decision import Decision
from banhammer.replay.bounded import MOST_KEYS, Distinct, Table
from banhammer.replay.entry import Entry
from banhammer.replay.summary import Served, WorstKey

MOST: Final = 50_000
"""Keys of which all is kept; when there are more, the half that was kept out least is forgotten."""
_AGENT: Final = 200


class Offenders:
    """Counts the requests of every key, and more of those that were denied."""

    __slots__ = ("_banned", "_found", "_requests", "clients")

    def __init__(self, room: int = MOST_KEYS) -> None:
        self.clients = Distinct()
        self._banned = Distinct()
        self._requests: Table[list[int]] = Table(lambda key, number: None, room)
        self._found: dict[str, WorstKey] = {}

    @property
    def banned(self) -> int:
        """Distinct keys that were banned."""
        return self._banned.count()

    def request(self, key: str, *, client: bool) -> None:
        """Count one request of a key; `client` says that the key is the address that it came from."""
        number = self._requests.get(key)
        if number is not None:
            number[0] += 1
            return
        self._requests.put(key, [1])
        if client:
            self.clients.add(key)

    def denied(self, decision: Decision, entry: Entry) -> None:
        """Note that a request was kept out."""
        worst = self._worst(decision.key)
        if not worst.kept_out:
            worst.user_agent = (entry.header("user-agent") or "")[:_AGENT]
        worst.kept_out += 1
        worst.served += 200 <= entry.status < 400

    def banned_at(self, decision: Decision, now: int) -> None:
        """Note that a hit banned its key, or lengthened its ban."""
        worst = self._worst(decision.key)
        until = decision.banned_until or 0.0
        if worst.first_ban is None:
            worst.first_ban = now / 1e6
            worst.before = max(self._number(decision.key) - 1, 0)
            self._banned.add(decision.key)
        worst.longest = math.inf if until == math.inf else max(worst.longest, until - now / 1e6)
        worst.strikes = max(worst.strikes, decision.strikes)

    def worst(self, most: int) -> list[WorstKey]:
        """Return the keys that were kept out most, or else banned longest."""
        ranked = sorted(self._found.values(), key=_badness)[:most]
        for worst in ranked:
            worst.requests = self._number(worst.key)
        return ranked

    def served(self, most: int) -> list[Served]:
        """Return the keys that were denied although served, most first."""
        hurt = sorted((worst for worst in self._found.values() if worst.served), key=lambda worst: -worst.served)
        return [Served(worst.key, worst.served, worst.user_agent) for worst in hurt[:most]]

    def busiest(self) -> tuple[str, int] | None:
        """Return the key with most requests, and their number."""
        return max(((key, number[0]) for key, number in self._requests.items()), key=lambda item: item[1], default=None)

    def _worst(self, key: str) -> WorstKey:
        worst = self._found.get(key)
        if worst is None:
            if len(self._found) >= MOST:
                kept = sorted(self._found.values(), key=_badness)[: MOST // 2]
                self._found = {known.key: known for known in kept}
            worst = self._found[key] = WorstKey(key, 0, 0)
        return worst

    def _number(self, key: str) -> int:
        number = self._requests.get(key)
        return 0 if number is None else number[0]


def _badness(worst: WorstKey) -> tuple[int, float]:
    return (-worst.kept_out, -worst.longest)
