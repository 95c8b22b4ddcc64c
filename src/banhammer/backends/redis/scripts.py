"""The scripts that run in Redis, with the digests by which they are called."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

from banhammer.backends.redis.wire import argument


class Script:
    """A script's text and its digest, and how a call of it by either begins on the wire."""

    __slots__ = ("by_digest", "by_text", "sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self.by_digest = argument(b"EVALSHA") + argument(self.sha.encode())
        self.by_text = argument(b"EVAL") + argument(text.encode())


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


EVALUATE: Final = Script(_text("evaluate.lua"))
EVALUATE_FULL: Final = Script(EVALUATE.text.replace("#!lua\n", "#!lua flags=no-writes\n", 1))
"""The same text for a server whose memory is full: it may run there because it declares to write nothing."""
SWAP: Final = Script(_text("swap.lua"))
HAND_OVER: Final = Script(_text("handover.lua"))
SWEEP: Final = Script(_text("sweep.lua"))
