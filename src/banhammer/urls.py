"""The URLs of stores: their schemes, and how they are shown without their secrets."""

from __future__ import annotations

import re
from typing import Final

from banhammer.errors import did_you_mean

SCHEMES: Final = (
    "memory",
    "redis",
    "rediss",
    "redis+cluster",
    "rediss+cluster",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+unix",
    "memcached",
)
_START: Final = re.compile(r"[\w+.-]*:?/*", re.ASCII)
_SECRET: Final = re.compile(r"(?i)(\b\w*(?:pass|pwd|secret|token|auth)\w*=)[^&\s'\"]*")


def redact(url: str) -> str:
    """Return the URL with its password, and whatever else may be one, replaced by `***`.

    It never fails and takes any text: also one that is no URL may hold a secret.
    """
    url = _SECRET.sub(r"\1***", url)
    around, at, host = url.rpartition("@")
    if not at:
        return url
    start = _START.match(around)
    scheme = start.group() if start else ""
    user, colon, _ = around[len(scheme) :].partition(":")
    return f"{scheme}{user}:***@{host}" if colon else f"{scheme}***@{host}"


def wrong_url(url: object) -> str | None:
    """Return what is wrong with the URL of a store and what would be right, or `None`; never its secret."""
    if not isinstance(url, str):
        return f"{redact(repr(url))}; it must be the URL of a store, like 'memory://'"
    scheme, separator, _ = url.partition("://")
    known = ", ".join(f"{name}://" for name in SCHEMES)
    if not separator and scheme.lower() in SCHEMES:
        return f"{redact(url)!r} is not a URL; write {scheme.lower()}://"
    if not separator:
        return f"{redact(url)!r} is not a URL; use one of {known}"
    if scheme.lower() not in SCHEMES:
        hint = did_you_mean(scheme, SCHEMES) or f"; use one of {known}"
        return f"{redact(url)!r} has an unknown scheme{hint}"
    return None
