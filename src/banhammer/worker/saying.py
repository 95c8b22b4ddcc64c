"""What a worker's threads log: nothing that the application's handlers and filters raise may end such a thread."""

from __future__ import annotations

import logging
import traceback
from contextlib import suppress
from typing import Final

from banhammer.errors import one_line, text_of

_LOG: Final = logging.getLogger("banhammer")


def say(level: int, text: str, *arguments: object, trace: bool = False) -> None:
    """Log one line, with the `trace` of the error at hand.

    To be called without a lock that a hit may want: a handler may be slow, or hit itself.
    """
    with suppress(Exception):
        _LOG.log(level, text, *arguments, exc_info=trace)


def described(error: BaseException) -> str:
    """Return an error in one line: its class, its text without control characters, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__, limit=-1)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{one_line(type(error).__name__)}: {one_line(text_of(error))}{one_line(place)}"
