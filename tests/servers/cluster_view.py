"""What one node of a cluster says of all: its CLUSTER NODES, read."""

from __future__ import annotations

from dataclasses import dataclass

from servers.standalone import Standalone


@dataclass(frozen=True, slots=True)
class Seen:
    """A node as another sees it; `bus` is its port for other nodes, `slots` are first and last of each range."""

    name: str
    port: int
    bus: int
    flags: frozenset[str]
    master: str
    slots: tuple[tuple[int, int], ...]

    @property
    def sound(self) -> bool:
        """Whether it is known and not given up."""
        return not self.flags & {"fail", "fail?", "handshake", "noaddr"}


def view_of(node: Standalone) -> list[Seen]:
    """Return all nodes as `node` sees them."""
    return [_seen(line) for line in node.ask("CLUSTER", "NODES").decode().splitlines() if line]


def myself(node: Standalone) -> Seen:
    """Return a node as it sees itself."""
    return next(seen for seen in view_of(node) if "myself" in seen.flags)


def _seen(line: str) -> Seen:
    name, address, flags, master, _, _, _, _, *slots = line.split()
    port, _, bus = address.partition(",")[0].rpartition(":")[2].partition("@")
    held = tuple(_range(text) for text in slots if not text.startswith("["))
    return Seen(name, int(port), int(bus), frozenset(flags.split(",")), master, held)


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)
