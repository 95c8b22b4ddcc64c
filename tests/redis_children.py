"""Forked children for tests: what a child returned, or why it failed, reaches its parent through a pipe."""

from __future__ import annotations

import os
import pickle
import select
import signal
import traceback
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

SECONDS = 30.0

Told = TypeVar("Told")


class Child(Generic[Told]):
    """A child forked here and now that runs `work` beside its parent and ends without any cleaning up."""

    def __init__(self, work: Callable[[], Told]) -> None:
        self._reading, writing = os.pipe()
        self._pid = os.fork()
        if not self._pid:
            os.close(self._reading)
            _run(work, writing)
        os.close(writing)

    def result(self) -> Told:
        """Wait for the child's end and return what `work` returned; its failure is an `AssertionError`."""
        try:
            told = self._read(monotonic() + SECONDS)
        except BaseException:
            os.kill(self._pid, signal.SIGKILL)
            raise
        finally:
            os.close(self._reading)
            os.waitpid(self._pid, 0)
        result, failure = pickle.loads(told)
        assert not failure, failure
        found: Told = result
        return found

    def _read(self, end: float) -> bytes:
        told = b""
        while select.select([self._reading], [], [], max(end - monotonic(), 0))[0]:
            piece = os.read(self._reading, 1 << 16)
            if not piece:
                return told
            told += piece
        raise TimeoutError(f"after {SECONDS:g} s the child is still at work")


def _run(work: Callable[[], object], writing: int) -> None:
    try:
        told = pickle.dumps((work(), ""))
    except BaseException:
        told = pickle.dumps((None, traceback.format_exc()))
    try:
        with os.fdopen(writing, "wb") as pipe:
            pipe.write(told)
    finally:
        os._exit(0)  # The rest of the parent's work, tests and fixtures among it, is not the child's.
