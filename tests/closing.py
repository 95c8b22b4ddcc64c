"""A store that is closed at the worst moment."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any


class ClosedMeanwhile(deque[Any]):
    """Connections that nobody uses, of a store that another thread closes at the moment at which one is given back."""

    def __init__(self, close: Callable[[], None]) -> None:
        super().__init__()
        self._close = close

    def append(self, link: Any) -> None:
        self._close()
        super().append(link)
