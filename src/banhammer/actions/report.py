"""report_central: every escalation to where other systems learn of it, an HTTP endpoint or a stream of Redis."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final, Protocol, Self

from banhammer.actions.endpoint import Endpoint, wrong_endpoint
from banhammer.actions.line import as_json
from banhammer.actions.settings import Table, table
from banhammer.actions.stream import Stream
from banhammer.errors import ConfigError
from banhammer.model import Escalation
from banhammer.urls import shown

log = logging.getLogger("banhammer")

NAME: Final = "banhammer:reports"
MAX_LEN: Final = 10_000
MOST_LEN: Final = 100_000_000


class Channel(Protocol):
    """Takes reports."""

    def send(self, document: str, id_: str) -> None:
        """Deliver one document; `id_` is the same whenever it is sent again."""
        ...


class ReportCentral:
    """Sends each escalation, lifts too, as one JSON object to `channel`; without one it says so once, in the log.

    What cannot be sent raises, so that it is tried again; what was sent may arrive again, with the same id.
    """

    def __init__(self, channel: Channel | None = None) -> None:
        self._channel = channel
        self._warned = False

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:
        """Return the action that a table of settings means; it does not connect. Raises `ConfigError`."""
        with table(settings) as read:
            channel = _channel(read)
        return cls(channel)

    def __repr__(self) -> str:
        return f"ReportCentral({self._channel!r})"

    def run(self, escalation: Escalation) -> None:
        """Send the escalation."""
        if self._channel is not None:
            # A lift has its ban's id, and whoever drops what came before must not drop the lift.
            self._channel.send(as_json(escalation), f"{escalation.id}-{escalation.verdict}")
        elif not self._warned:
            self._warned = True
            log.warning("report_central is not configured, so nothing is reported; set its url, or its stream")

    def lift(self, escalation: Escalation) -> None:
        """Send the lift: the ban's id, verdict `lifted`."""
        self.run(escalation)


def _channel(read: Table) -> Channel | None:
    url = read.text("url", "", "write https://host/path")
    stream = read.text("stream", "", "write redis://host:6379/0")
    name = read.text("name", NAME, f"write the name of a stream, like {NAME!r}")
    max_len = read.whole("max_len", MAX_LEN, MOST_LEN)
    if not read.given("stream"):
        read.mistakes += [
            f"{each}: it belongs to a stream; set stream too, or leave it out"
            for each in ("name", "max_len")
            if read.given(each)
        ]
    if url and stream:
        read.mistakes.append(f"url: {shown(url)}, and a stream is set too; leave one of them out")
    if url and (wrong := wrong_endpoint(url)):
        read.mistakes.append(f"url: {wrong}")
    found: Channel | None = None
    if stream:
        try:
            found = Stream(stream, name, max_len)
        except ConfigError as error:
            read.mistakes += error.mistakes
    return Endpoint(url) if url and not read.mistakes else found
