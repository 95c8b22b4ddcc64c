"""How a shared store spells keys: escaped to `[A-Za-z0-9_.:~%-]`, and cut where they are long."""

from __future__ import annotations

import hashlib
from typing import Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

LONGEST: Final = 120
"""Characters of an escaped key in a name; a longer one is cut and completed by a digest."""

_DIGEST: Final = 16


def escape(key: str) -> str:
    """Return `key` in safe characters, no two keys alike."""
    return quote_from_bytes(key.encode("utf-8", "surrogatepass"), safe=":")


def unescape(text: str) -> str:
    """Return the key that `escape` was given. Raises `ValueError` for what it never made."""
    return unquote_to_bytes(text).decode("utf-8", "surrogatepass")


def shorten(escaped: str) -> str:
    """Return an escaped key of at most 120 characters; `%~` marks a digest, which no escape can spell."""
    if len(escaped) <= LONGEST:
        return escaped
    digest = hashlib.blake2b(escaped.encode(), digest_size=_DIGEST).hexdigest()
    return f"{escaped[: LONGEST - 2 - 2 * _DIGEST]}%~{digest}"


def is_cut(escaped: str) -> bool:
    """Return whether the name holds a digest, so that the key cannot be read from it."""
    return "%~" in escaped
