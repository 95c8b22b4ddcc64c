"""Every error that banhammer raises, under one root; a denial is a Decision, never an error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BanhammerError(Exception):
    """The root of all errors of this package."""


class ConfigError(BanhammerError, ValueError):
    """A policy, a threshold or a configuration file says something that cannot be meant.

    `mistakes` holds every mistake found, one line each; the message joins them.
    """

    def __init__(self, mistakes: str | Iterable[str]) -> None:
        self.mistakes: tuple[str, ...] = (mistakes,) if isinstance(mistakes, str) else tuple(mistakes)
        super().__init__("\n".join(self.mistakes))


class UnknownPolicyError(BanhammerError, KeyError):
    """The named policy does not exist; the message offers the nearest name."""

    def __init__(self, name: object, known: Iterable[str]) -> None:
        self.name = name
        known = sorted(known)
        hint = did_you_mean(str(name), known)
        if not hint:
            hint = f"; known: {', '.join(known)}" if known else "; no policy is configured"
        super().__init__(f"unknown policy {name!r}{hint}")

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the repr of the message.


class BackendError(BanhammerError):
    """The store answered with an error or could not be reached."""


class BackendTimeout(BackendError):  # noqa: N818  # The contract's name.
    """The store did not answer within the deadline; whether it counted is unknown."""


class ContentionError(BackendError):
    """Too many writers changed the same key at once; nothing was stored."""


class RetryAfter(BanhammerError):  # noqa: N818  # Says what to do, not what went wrong.
    """Raised by an action that is to be tried again, not before `seconds` from now."""

    def __init__(self, seconds: float, why: str = "") -> None:
        self.seconds = float(seconds)
        super().__init__(why or f"try again in {self.seconds:g} s")


class GiveUp(BanhammerError):  # noqa: N818  # Says what to do, not what went wrong.
    """Raised by an action that would fail however often it is tried: it is set aside as a dead letter at once."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest known name, or an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def one_line(text: str, longest: int = 500) -> str:
    """Return a text for a line of a log: cut, and without control characters, whoever wrote it."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text[:longest])


def text_of(error: BaseException) -> str:
    """Return an error's text; that of a plugin's own may fail at it, in whatever way."""
    try:
        return str.__str__(str(error))  # Of a subclass too, which could bring its own ways.
    except BaseException:
        return "an error that has no text"
