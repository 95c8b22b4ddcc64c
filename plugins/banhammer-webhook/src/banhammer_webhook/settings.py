"""The table `[actions.webhook]` in; checked settings, or every mistake at once, out. No secret is ever shown."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from banhammer.durations import SECOND, parse_duration
from banhammer.errors import ConfigError, did_you_mean

KNOWN: Final = ("url", "secret", "secret_env", "timeout", "allow_private", "headers")
LONGEST: Final = 300
"""Seconds that a timeout may be."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_VARIABLE: Final = re.compile(r"[A-Z][A-Z0-9_]*")
"""What surely is the name of a variable, and not the secret itself in the wrong place."""
_URL: Final = re.compile(r"[!-~]+")
_OURS: Final = re.compile(
    r"host|connection|content-(length|type|encoding)|transfer-encoding|expect|te|trailer|upgrade"
    r"|accept-encoding|idempotency-key|banhammer-.*",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where to report, and how; its repr shows neither the secrets nor what may be one (path, headers)."""

    secure: bool
    host: str
    port: int
    timeout: float
    """Seconds for one delivery, from the look-up of the name to the status."""
    allow_private: bool
    target: str = field(repr=False)
    """The path with its query."""
    secrets: tuple[str, ...] = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)

    @property
    def origin(self) -> str:
        """What errors name: the URL without its path, which may hold a token."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.secure else 'http'}://{host}:{self.port}"


def read(table: Mapping[str, Any]) -> Settings:
    """Return the settings of a table; raises `ConfigError` with every mistake in it."""
    mistakes = [f"{name}: unknown setting{did_you_mean(name, KNOWN)}" for name in table if name not in KNOWN]
    allow_private = table.get("allow_private", False)
    if not isinstance(allow_private, bool):
        mistakes.append(f"allow_private: {allow_private!r}; write true or false")
    url, port = _url(mistakes, table.get("url"), plain=allow_private is True)
    secrets = _secrets(mistakes, table)
    timeout = _timeout(mistakes, table.get("timeout", "5s"))
    headers = _headers(mistakes, table.get("headers", {}))
    if mistakes:
        raise ConfigError(mistakes)
    return Settings(
        secure=url.scheme == "https",
        host=url.hostname or "",
        port=port,
        target=(url.path or "/") + (f"?{url.query}" if url.query else ""),
        secrets=secrets,
        timeout=timeout,
        allow_private=allow_private,
        headers=headers,
    )


def _url(mistakes: list[str], value: object, *, plain: bool) -> tuple[SplitResult, int]:
    url, host, port = urlsplit(""), None, None
    if isinstance(value, str) and _URL.fullmatch(value):
        with contextlib.suppress(ValueError):
            url = urlsplit(value)
            host, port = url.hostname, url.port
    shown = f"{url.scheme}://{host}" if host and "@" not in str(value) else "***"
    if not host or url.scheme not in ("https", "http") or port == 0:
        mistakes.append(f"url: {shown!r}; write https://, a host and a path, in ASCII and without spaces")
    elif "@" in url.netloc:
        mistakes.append("url: '***' holds a login; give it in headers, as Authorization")
    elif url.scheme == "http" and not plain:
        mistakes.append(f"url: {shown!r}; write https://, or set allow_private = true for a network of your own")
    return url, port or (443 if url.scheme == "https" else 80)


def _secrets(mistakes: list[str], table: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what to sign with: all that is written, then all that stands in the environment."""
    if "secret" not in table and "secret_env" not in table:
        mistakes.append("secret: missing; write secret, or secret_env with the name of an environment variable")
    written, variables = (_texts(mistakes, name, table.get(name)) for name in ("secret", "secret_env"))
    found = [os.environ.get(variable, "") for variable in variables]
    if not all(found):
        names = [name if _VARIABLE.fullmatch(name) else "***" for name in variables]
        mistakes.append(f"secret_env: {', '.join(names)}; the environment must hold it, so set it or correct the name")
    return (*written, *found)


def _texts(mistakes: list[str], name: str, value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    texts = value if isinstance(value, list) else [value]
    if texts and all(isinstance(text, str) and text for text in texts):
        return tuple(texts)
    mistakes.append(f"{name}: '***'; write a text, or a list of texts while it changes")
    return ()


def _timeout(mistakes: list[str], value: object) -> float:
    try:
        seconds = parse_duration(value) / SECOND
    except ConfigError as error:
        mistakes.append(f"timeout: {error}")
        return 0
    if seconds > LONGEST:
        mistakes.append(f"timeout: {value!r}; at most {LONGEST} seconds")
    return seconds


def _headers(mistakes: list[str], value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        mistakes.append("headers: '***'; write a table of names and texts")
        return {}
    for name, text in value.items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            mistakes.append("headers: '***'; a header's name has letters, digits and '-'")
        elif _OURS.fullmatch(name):
            mistakes.append(f"headers.{name}: '***'; banhammer writes this header itself, so leave it out")
        elif not isinstance(text, str) or not _VALUE.fullmatch(text):
            mistakes.append(f"headers.{name}: '***'; write a text of printable ASCII, on one line")
    return {str(name).title(): text for name, text in value.items()}  # So that none stands twice.
