"""One server's breaker: it opens after failures in a row, and a probe in the background closes it.

One line is logged for each change of state.
"""

from __future__ import annotations

import logging
from typing import Final

from banhammer.errors import BackendError

log = logging.getLogger("banhammer")

FAILURES: Final = 3
"""Failed calls in a row that open a breaker."""


class Breaker:
    """Says whether a server may be asked; `error` is why not."""

    __slots__ = ("_failures", "_refuses", "_replaced", "error", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.error: BackendError | None = None
        self._failures = 0
        self._refuses = False
        self._replaced = False

    @property
    def doubtful(self) -> bool:
        """Whether the last call got no answer."""
        return self._failures > 0

    def failed(self, error: BackendError) -> None:
        """Take note of a call that got no answer."""
        self._failures += 1
        if self._failures >= FAILURES and self.error is None:
            self.error = BackendError(f"{self.name} is away, and asked again in the background: {error}")
            log.warning("store %s is away, policies decide by on_error: %s", self.name, error)

    def answered(self) -> None:
        """Take note of an answer."""
        if self._failures:
            self._failures = 0
            if self.error is not None:
                self.error = None
                self._replaced = False
                log.warning("store %s is back", self.name)

    def replaced(self) -> None:
        """Take note that others hold all that is asked for."""
        if self.error is not None and not self._replaced:
            self._replaced = True
            log.warning("store %s is still away, and no longer needed: others hold every partition", self.name)

    def refused(self, error: object) -> None:
        """Take note of a server that answers and would not decide."""
        if not self._refuses:
            self._refuses = True
            log.warning("store %s refuses, policies decide by on_error: %s", self.name, error)

    def decided(self) -> None:
        """Take note of a decision."""
        if self._refuses:
            self._refuses = False
            log.warning("store %s decides again", self.name)
