"""What a failed test says: the promise that was broken, what the store told, and what it should have told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from banhammer.model import Ban, Status


def promise(kept: object, text: str) -> None:
    """Fail with `text`, a promise that every store makes, unless it was kept."""
    __tracebackhide__ = True
    if not kept:
        raise AssertionError(text)


def same(told: object, expected: object, text: str) -> None:
    """Fail with `text`, and both values, unless the store told what was promised."""
    __tracebackhide__ = True
    if told != expected:
        raise AssertionError(f"{text}\n  told:     {told!r}\n  promised: {expected!r}")


def anonymous(told: Any) -> Any:
    """Return what a verb told without the ids, which are every store's own."""
    if isinstance(told, Ban):
        promise(told.id, f"a ban has the id of its escalation: {told!r}")
        return replace(told, id="")
    if isinstance(told, Status):
        return replace(told, ban=anonymous(told.ban))
    return told
