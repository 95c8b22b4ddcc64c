"""The scripts that run in Redis, with the digests by which they are called."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final


class Script:
    """A script's text and its digest."""

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


EVALUATE: Final = Script(_text("evaluate.lua"))
EVALUATE_FULL: Final = Script(EVALUATE.text.replace("#!lua\n", "#!lua flags=no-writes\n", 1))
"""The same text for a server whose memory is full: it may run there because it declares to write nothing."""
SWAP: Final = Script(_text("swap.lua"))
HAND_OVER: Final = Script(_text("handover.lua"))
SWEEP: Final = Script(_text("sweep.lua"))
