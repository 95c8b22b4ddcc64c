"""One document to an HTTP endpoint, by the standard library: no redirects, no proxies, no second try."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, urlsplit

from banhammer.errors import BanhammerError, GiveUp, RetryAfter
from banhammer.urls import redact, shown

TIMEOUT: Final = 5.0
"""Seconds that connecting, sending and each part of the answer may take."""
LONGEST_WAIT: Final = 86_400
"""The longest wait (s) that an endpoint may ask for."""
AGAIN: Final = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS)
_URL: Final = re.compile(r"https?://[!-~]+", re.IGNORECASE)
_SECONDS: Final = re.compile(r"\d{1,9}", re.ASCII)


def wrong_endpoint(url: object) -> str | None:
    """Return what is wrong with the URL of an endpoint and what would be right, or `None`; never its secret."""
    if not isinstance(url, str) or not _URL.fullmatch(url):
        return f"{shown(url)}; write https://host/path"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        return f"{redact(url)!r} has no host and port that can be read; write https://host:443/path"
    if "@" in parts.netloc:
        return f"{redact(url)!r} holds a login, which is not sent; write https://host/path"
    return None


class Endpoint:
    """An HTTP endpoint that takes JSON by POST; `url` is one in which `wrong_endpoint` finds nothing wrong.

    Errors name it without its path and query: either may hold a token.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._tls = parts.scheme.lower() == "https"
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._shown = f"{parts.scheme}://{parts.netloc}"

    def __repr__(self) -> str:
        return f"Endpoint({self._shown!r})"

    def send(self, document: str, id_: str) -> None:
        """Post `document`; `id_` becomes the `Idempotency-Key`. Return once a status of 2xx has come.

        Raises `RetryAfter` where the endpoint says when, `GiveUp` for a redirect and a 4xx that would come again,
        else `BanhammerError`.
        """
        status, wait = self._asked(document.encode("ascii"), quote(id_, safe="", errors="surrogatepass"))
        if 200 <= status < 300:
            return
        why = f"{self._shown} answered {status}"
        if status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE) and _SECONDS.fullmatch(wait):
            raise RetryAfter(float(min(int(wait), LONGEST_WAIT)), why)
        if 300 <= status < 400:
            raise GiveUp(f"{why}; redirects are not followed, so write the final URL")
        if 400 <= status < 500 and status not in AGAIN:
            raise GiveUp(why)
        raise BanhammerError(why)

    def _asked(self, body: bytes, key: str) -> tuple[int, str]:
        from http import client  # Imported here: few applications report, and it loads a lot.

        kind = client.HTTPSConnection if self._tls else client.HTTPConnection
        connection = kind(self._host, self._port, timeout=TIMEOUT)
        headers = {"Content-Type": "application/json", "Idempotency-Key": key, "User-Agent": "banhammer"}
        try:
            connection.request("POST", self._target, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Retry-After", "").strip()
        except (OSError, client.HTTPException) as error:
            # Its repr: an answer that is no HTTP stands in the message as it came.
            raise BanhammerError(f"{self._shown}: {error!r}") from error
        finally:
            connection.close()
