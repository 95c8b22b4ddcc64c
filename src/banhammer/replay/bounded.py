"""Tables that do not grow with a log: of very many keys, those that were quiet longest are let go."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeVar

Value = TypeVar("Value")

MOST_KEYS: Final = 200_000
"""Keys of which all is kept and that are counted exactly; above, the quiet ones leave, and the count is an
estimate within about half a percent."""
_HASHES: Final = 1 << 61


class Table(Generic[Value]):
    """Values by key; when it is full, the keys not seen for longest are handed to `leave` and forgotten.

    It keeps two generations: a key that is asked for moves to the young one, and when that has half of the
    room, the rest of the old one leaves.
    """

    __slots__ = ("_half", "_leave", "_old", "_young")

    def __init__(self, leave: Callable[[str, Value], None], room: int = MOST_KEYS) -> None:
        self._leave = leave
        self._half = max(room // 2, 1)
        self._young: dict[str, Value] = {}
        self._old: dict[str, Value] = {}

    def get(self, key: str) -> Value | None:
        """Return the value of a key, or `None`."""
        value = self._young.get(key)
        if value is None and self._old and (value := self._old.pop(key, None)) is not None:
            self.put(key, value)
        return value

    def put(self, key: str, value: Value) -> None:
        """Keep a value for a key."""
        if key not in self._young and len(self._young) >= self._half:
            for quiet, last in self._old.items():
                self._leave(quiet, last)
            self._old, self._young = self._young, {}
        self._young[key] = value

    def items(self) -> Iterator[tuple[str, Value]]:
        """Yield what is kept."""
        yield from self._old.items()
        yield from self._young.items()


class Distinct:
    """Counts distinct keys: exactly up to `exact`, and from the density of the smallest hashes above."""

    __slots__ = ("_exact", "_hashes", "_limit")

    def __init__(self, exact: int = MOST_KEYS) -> None:
        self._exact = exact
        self._hashes: set[int] = set()
        self._limit = _HASHES

    @property
    def estimated(self) -> bool:
        """Whether `count` is an estimate."""
        return self._limit < _HASHES

    def add(self, key: str) -> None:
        """Count a key, once however often it is added."""
        digest = hash(key) % _HASHES
        if digest >= self._limit:
            return
        self._hashes.add(digest)
        if len(self._hashes) > self._exact:
            self._limit //= 2
            self._hashes = {known for known in self._hashes if known < self._limit}

    def count(self) -> int:
        """Return how many distinct keys were added."""
        return round(len(self._hashes) * (_HASHES / self._limit))
