"""Waiting for what another process does: asked again and again, with an end."""

from __future__ import annotations

import time
from collections.abc import Callable

from redis.exceptions import RedisError

PAUSE = 0.01


def until(condition: Callable[[], bool], what: str, *, seconds: float = 15.0) -> None:
    """Return as soon as `condition` holds; an error of the server means not yet. Raises `TimeoutError` with `what`."""
    end = time.monotonic() + seconds
    last: Exception | None = None
    while time.monotonic() < end:
        try:
            if condition():
                return
            last = None
        except RedisError as error:
            last = error
        time.sleep(PAUSE)
    raise TimeoutError(f"after {seconds:g} s still not {what}") from last
