"""The keeper: a thread that does what no caller waits for, and is only there while there is something to do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from banhammer.forks import renew_after_fork

log = logging.getLogger("banhammer")

EVERY: Final = 0.2
"""Seconds between two rounds."""


class Keeper:
    """Calls `tend` every 0.2 s from `wake` on, until it returns that nothing is left to do."""

    def __init__(self, tend: Callable[[], bool]) -> None:
        self._tend = tend
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Begin without a thread: in a forked child the parent's does not exist."""
        self._lock = threading.RLock()  # Re-entrant: a finalizer that hits must not lock itself out.
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._needed = False

    def wake(self) -> None:
        """See to it that `tend` is called soon; costs next to nothing while the thread is there."""
        self._needed = True
        if self._thread is None:
            self._begin()

    def close(self) -> None:
        """End the thread and wait for its last round; a later `wake` begins anew."""
        with self._lock:
            self._stopped.set()
            self._stopped = threading.Event()
            thread, self._thread = self._thread, None
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _begin(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            thread = threading.Thread(target=self._run, args=(self._stopped,), name="banhammer-keeper", daemon=True)
            with suppress(RuntimeError):  # No thread can be had now: the next wake tries again.
                thread.start()
                self._thread = thread

    def _run(self, stopped: threading.Event) -> None:
        while not stopped.wait(EVERY):
            self._needed = False
            if self._round():
                continue
            with self._lock:
                if stopped.is_set():
                    return
                thread, self._thread = self._thread, None  # Before the look: a wake after it begins a new one.
                if not self._needed:
                    return
                self._thread = thread

    def _round(self) -> bool:
        try:
            return self._tend()
        except Exception:
            log.exception("a round of housekeeping failed")
            return True
