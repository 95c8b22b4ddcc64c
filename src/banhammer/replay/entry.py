"""One request as an access log tells of it: what the rules may ask, and when it was."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

# What follows the status in the combined format: size, "referer", "user agent", the last perhaps torn.
_TAIL: Final = re.compile(r'\S* "((?:[^"\\]|\\.)*+)"(?: "((?:[^"\\]|\\.)*+))?', re.DOTALL)
_NONE: Final = ("", "-")
REDACTED: Final = "REDACTED"
"""What Caddy and Traefik write instead of a secret header: it says nothing about who came."""


class Entry:
    """A request that a log holds; `time` is in microseconds. It is a `banhammer.identity.Request`.

    `client` is the address as `ip_key` spells it, `ip` as the log does. `rest` is what the log says of the
    headers: the text behind the status, or a mapping of lower-case names.
    """

    __slots__ = ("client", "host", "ip", "method", "path", "rest", "status", "time", "user")

    def __init__(
        self,
        client: str,
        ip: str,
        time: int,
        method: str,
        path: str,
        status: int,
        user: str | None,
        host: str | None,
        rest: str | Mapping[str, str],
    ) -> None:
        self.client = client
        self.ip = ip
        self.time = time
        self.method = method
        self.path = path
        self.status = status
        self.user = user
        self.host = host
        self.rest = rest

    def header(self, name: str) -> str | None:
        """Return the header of this lower-case name, as far as the log holds it."""
        rest = self.rest
        if not isinstance(rest, str):
            return rest.get(name)
        if name not in ("user-agent", "referer"):
            return None
        tail = _TAIL.match(rest)
        value = tail[1 if name == "referer" else 2] if tail else None
        return None if value in _NONE else value

    def cookie(self, name: str) -> str | None:
        """Return the cookie of this exact name, as far as the log holds it."""
        for pair in (self.header("cookie") or "").split(";"):
            key, _, value = pair.strip().partition("=")
            if key == name:
                return value.strip('"')
        return None

    def holds(self, field: str) -> bool:
        """Return whether the log says anything of a field, spelled as in `Selector.needs`."""
        kind, _, name = field.partition(":")
        if kind == "header":
            return bool(self.header(name))
        if kind == "cookie":
            return bool(self.cookie(name))
        return bool(getattr(self, kind))

    def __repr__(self) -> str:
        return f"Entry({self.ip!r}, {self.time!r}, {self.method!r}, {self.path!r}, {self.status!r})"


def headers(given: Mapping[str, Any]) -> dict[str, str]:
    """Return headers by lower-case name from a mapping of names to a text or a list of texts."""
    found = {}
    for name, values in given.items():
        value = ", ".join(str(item) for item in values) if isinstance(values, list) else values
        if isinstance(value, str) and value not in (*_NONE, REDACTED):
            found[name.lower()] = value
    return found
