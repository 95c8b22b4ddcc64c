"""The program `nft`: run without a shell, its commands on standard input, every address in them from a number."""

from __future__ import annotations

import json
import math
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final

from banhammer.durations import FOREVER, SECOND, format_duration
from banhammer.errors import BanhammerError
from banhammer_nftables.blocks import Block, span
from banhammer_nftables.settings import Settings

_ENVIRONMENT: Final = {"LC_ALL": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
_COMMENT: Final = re.compile(r"([0-9a-f.:]+/[0-9]+) until (inf|[0-9]+\.[0-9]+)", re.ASCII)
_SECONDS: Final = 8.0
"""The longest that `nft` may take for one escalation, waiting included: less than the deadline of an action."""
_SHOWN: Final = 400
"""Characters of what `nft` says that an error repeats."""


class NftError(BanhammerError):
    """`nft` could not be run, took too long, or refused; the message says what it said, escaped and cut."""


class _AbsentError(NftError):
    """A table, a set, a chain or an element that was asked for is not there."""


class Nft:
    """One table of the family `inet`, with a set for IPv4 and one for IPv6; all calls stand in a `turn`."""

    def __init__(self, settings: Settings, clock: Callable[[], float]) -> None:
        self._program = settings.nft
        self._table = settings.table
        self._sets = settings.sets
        self._clock = clock
        self._lock = threading.Lock()
        self._until = 0.0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Keep other threads out, and bound the time that all calls inside take together."""
        until = time.monotonic() + _SECONDS
        if not self._lock.acquire(timeout=_SECONDS):
            raise NftError(f"another escalation has kept nft busy for {_SECONDS:g} s")
        try:
            self._until = until
            yield
        finally:
            self._lock.release()

    def set_up(self) -> None:
        """Create the table, the sets and the chain where they are missing; a chain that has rules stays as it is."""
        table, v4, v6 = self._table, self._sets[4], self._sets[6]
        commands = [
            f"add table inet {table}",
            f"add set inet {table} {v4} {{ type ipv4_addr; flags interval,timeout; }}",
            f"add set inet {table} {v6} {{ type ipv6_addr; flags interval,timeout; }}",
            # Before routing: what is forwarded to containers is dropped too.
            f"add chain inet {table} banned {{ type filter hook prerouting priority filter - 10; policy accept; }}",
        ]
        if not any("rule" in item for item in self._listed("chain", "banned")):
            commands += [
                f"flush chain inet {table} banned",  # Two that set up at once leave each rule once.
                f"add rule inet {table} banned iif lo accept",
                f"add rule inet {table} banned ip saddr @{v4} drop",
                f"add rule inet {table} banned ip6 saddr @{v6} drop",
            ]
        self._run(["-f", "-"], commands)

    def blocks(self, version: int) -> list[Block]:
        """Return what the set of this IP version holds; nothing if there is no set."""
        elements = [e for item in self._listed("set", self._sets[version]) for e in item.get("set", {}).get("elem", ())]
        return [self._block(element) for element in elements]

    def change(self, version: int, drop: list[Block], put: list[Block]) -> None:
        """Take blocks out and put others in, all or nothing; refused if a block is gone or in the way meanwhile."""
        place = f"element inet {self._table} {self._sets[version]}"
        commands = [f"delete {place} {{ {_spell(block, version)} }}" for block in drop]
        for block in put:
            left = SECOND * (block.end - self._clock())
            if left <= 0:
                continue
            # By days, hours and so on: nft 1.0.6 reads a number of seconds or milliseconds only up to 49 days.
            timeout = f" timeout {format_duration(math.ceil(left / 1000) * 1000)}" if left < FOREVER else ""
            comment = f' comment "{block.of} until {float(block.end)!r}"' if block.of else ""
            commands.append(f"create {place} {{ {_spell(block, version)}{timeout}{comment} }}")
        if commands:
            self._run(["-f", "-"], commands)

    def _block(self, element: Any) -> Block:
        details = element["elem"] if isinstance(element, dict) and "elem" in element else {"val": element}
        first, last, network = _read(details["val"])
        match = _COMMENT.fullmatch(details.get("comment", ""))
        if match:
            return Block(first, last, float(match[2]), match[1])
        # Put there by hand. nft tells whole seconds, rounded down.
        end = self._clock() + details["expires"] + 1 if "expires" in details else math.inf
        return Block(first, last, end, network)

    def _listed(self, kind: str, name: str) -> list[dict[str, Any]]:
        try:
            said = self._run(["-j", "list", kind, "inet", self._table, name])
        except _AbsentError:
            return []
        listed: list[dict[str, Any]] = json.loads(said)["nftables"]
        return listed

    def _run(self, arguments: list[str], commands: Iterable[str] = ()) -> str:
        left = self._until - time.monotonic()
        if left <= 0:
            raise NftError(f"{self._program!r} was not done within {_SECONDS:g} s; is the set very large?")
        try:
            done = subprocess.run(  # noqa: S603  # A list, no shell: the program and the names come from the settings.
                [self._program, *arguments],
                input="\n".join(commands) + "\n",
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                env=_ENVIRONMENT,
                timeout=left,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise NftError(f"{self._program!r} was not done within {_SECONDS:g} s; is the set very large?") from error
        except OSError as error:
            remedy = "install the package nftables, or set `nft` to the path of the program"
            raise NftError(f"{self._program!r} could not be run: {error.strerror}; {remedy}") from error
        if done.returncode:
            remedy = "; the process needs the capability CAP_NET_ADMIN" if "not permitted" in done.stderr else ""
            kind = _AbsentError if "No such file or directory" in done.stderr else NftError
            raise kind(f"{self._program!r} refused: {done.stderr.strip()[:_SHOWN]!a}{remedy}")
        return done.stdout


def _spell(block: Block, version: int) -> str:
    address = IPv4Address if version == 4 else IPv6Address
    first, last = address(block.first), address(block.last)
    return f"{first}" if first == last else f"{first}-{last}"


def _read(value: Any) -> tuple[int, int, str]:
    if isinstance(value, dict) and "range" in value:
        return span(value["range"][0])[0], span(value["range"][1])[0], ""
    prefix = value["prefix"] if isinstance(value, dict) else {"addr": value, "len": 128 if ":" in value else 32}
    network = f"{prefix['addr']}/{prefix['len']}"
    return *span(network), network
