"""The URLs of stores: their schemes, and how they are shown without their secrets."""

from __future__ import annotations

import re
from collections.abc import Collection
from difflib import get_close_matches
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
_START: Final = re.compile(r"[\w+.-]*:/*", re.ASCII)
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*", re.ASCII | re.IGNORECASE)
_NEARLY: Final = 0.75
"""How much a text without `://` must look like a scheme before it is shown: it may be a password."""
_NO_PORT: Final = re.compile(r"(\[[^\]]*\])|:(?!//)(?!\d{1,5}(?:[,/]|$))[^,/]+")
"""An IPv6 address, or what stands where a port should: it may be a password without its host."""
_QUOTED: Final = re.compile(r"""(['"])((?:(?!\1).)*?(?:://|@)(?:.*@)?(?:(?!\1).)*)\1""", re.DOTALL)
_SECRET: Final = re.compile(r"(\b\w*(?:pass|pwd|secret|token|auth)\w*=)[^&\s]*", re.IGNORECASE)


def redact(url: str) -> str:
    """Return the URL with its password and its query, and whatever else may be a secret, replaced by `***`.

    It never fails and takes any text: also one that is no URL may hold a secret.
    """
    around, at, host = url.rpartition("@")
    start = _START.match(around)
    scheme = start.group() if start else ""
    if "?" in around:  # The `@` is part of a password, in front of the host or in the query.
        return f"{scheme}***"
    user, colon, _ = around[len(scheme) :].partition(":")
    login = (f"{user}:***@" if colon else "***@") if at else ""
    place, mark, _ = host.partition("?")
    if "://" in url:
        place = _NO_PORT.sub(lambda found: found[1] or ":***", place)
    return f"{scheme}{login}{place}{mark}{'***' if mark else ''}"


def redact_message(message: str, url: str) -> str:
    """Return what a store says of its URL with the secrets in it replaced by `***`."""
    message = _SECRET.sub(r"\1***", message.replace(url, redact(url)))
    around, at, _ = url.rpartition("@")
    login = around.rpartition("://")[2] if at else ""
    for secret in filter(None, (login, login.partition(":")[2])):
        message = message.replace(f"{secret}@", "***@")
    return message


def redact_name(name: str) -> str:
    """Return a name that somebody gave to a setting, as `redact` shows it where it looks like a URL."""
    return redact(name) if "://" in name or "@" in name else name


def redact_quoted(text: str) -> str:
    """Return a text with each quoted URL, and what else may hold a login, as `redact` shows it."""
    return _QUOTED.sub(lambda found: f"{found[1]}{redact(found[2])}{found[1]}", text)


def kind(value: object) -> str:
    """Return what a value is, without showing it."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, bool):
        return "true or false"
    return "a number" if isinstance(value, (int, float)) else "no text"


def shown(value: object) -> str:
    """Return a value as a mistake shows it: short, and without what may be a secret."""
    if isinstance(value, str):
        text = repr(redact_name(value))
    else:
        text = repr(value)
        if isinstance(value, dict) or redact_name(text) != text:
            return kind(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def wrong_url(url: object, schemes: Collection[str] = SCHEMES) -> str | None:
    """Return what is wrong with the URL of a store and what would be right, or `None`; never its secret."""
    if not isinstance(url, str):
        return f"{kind(url)}; it must be the URL of a store, like 'memory://'"
    scheme, separator, _ = url.partition("://")
    known = ", ".join(f"{name}://" for name in schemes)
    if not separator and scheme.lower() in schemes:
        return f"{url!r} is not a URL; write {scheme.lower()}://"
    if not separator:
        return f"{_bare(url)} is not a URL; use one of {known}"
    if not _SCHEME.fullmatch(scheme):
        return f"'***' is not a URL; use one of {known}"
    if scheme.lower() not in schemes:
        hint = did_you_mean(scheme, schemes) or f"; use one of {known}"
        return f"{redact(url)!r} has an unknown scheme{hint}"
    return None


def _bare(text: str) -> str:
    """Return a text without `://` where it is nearly a scheme, else `'***'`: it may be a password."""
    near = text.replace("+", "").isalpha() and get_close_matches(text.lower(), SCHEMES, n=1, cutoff=_NEARLY)
    return repr(text) if near else "'***'"
