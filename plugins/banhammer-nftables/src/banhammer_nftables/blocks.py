"""What a set of intervals must hold: pure functions over blocks; no clock, no kernel.

An interval set refuses overlaps, bans do not. So a block is the part of a ban that no other block holds, and each
address is held by the ban that ends last. A block remembers whose part it is: a lift takes exactly these away.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Network, IPv6Network, ip_network
from socket import AF_INET, AF_INET6, inet_pton
from typing import Final

Network = IPv4Network | IPv6Network

_SPELLING: Final = re.compile(r"[0-9A-Fa-f:.]{2,45}(?:/[0-9]{1,3})?", re.ASCII)  # No zone: it may hold any character.


@dataclass(frozen=True, slots=True)
class Block:
    """The addresses `first` to `last`, as numbers, blocked until `end` (Unix seconds, `inf` for ever)."""

    first: int
    last: int
    end: float
    of: str
    """The network that was banned, as `ipaddress` spells it; empty for a range that was put there by hand."""


Change = tuple[list[Block], list[Block]]
"""The blocks to take out of the set, and those to put in."""


def to_network(text: str, *, strict: bool = True) -> Network | None:
    """Return the network, or the one address, that `text` names; IPv4-mapped ones as IPv4, `None` if it names none."""
    if not _SPELLING.fullmatch(text):
        return None
    try:
        network = ip_network(text, strict=strict)
    except ValueError:
        return None
    if isinstance(network, IPv6Network) and network.network_address.ipv4_mapped:
        return IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - 96))
    return network


def span(text: str) -> tuple[int, int]:
    """Return the first and the last address, as numbers, of an address or a network; raises `ValueError` or `OSError`.

    A large set has a hundred thousand of them, and `ipaddress` takes several times as long.
    """
    address, _, length = text.partition("/")
    value, bits = (inet_pton(AF_INET6, address), 128) if ":" in address else (inet_pton(AF_INET, address), 32)
    rest = bits - int(length or bits)
    first = int.from_bytes(value, "big") >> rest << rest
    return first, first + (1 << rest) - 1


def ban(blocks: Iterable[Block], network: Network, end: float) -> Change:
    """Return what makes every address of `network` blocked at least until `end`, and no other longer than it was."""
    first, last = span(str(network))
    near = [block for block in blocks if block.first <= last and first <= block.last]
    lasting = [(block.first, block.last) for block in near if block.end >= end]
    ending = [block for block in near if block.end < end]
    put = [Block(a, z, end, str(network)) for a, z in _without(first, last, lasting)]
    for block in ending:  # What sticks out of the network stays as it was.
        put += [replace(block, first=a, last=z) for a, z in _without(block.first, block.last, [(first, last)])]
    return ending, put


def lift(blocks: Iterable[Block], network: Network) -> Change:
    """Return what takes away the ban of `network` and leaves those of narrower and wider networks."""
    first, last = span(str(network))
    name = str(network)
    drop: list[Block] = []
    wider: Block | None = None  # Its ban lasts: it gets back what it left to the longer one that is lifted.
    for block in blocks:
        if block.of == name:
            drop.append(block)
        elif block.of:
            wide_first, wide_last = span(block.of)
            if wide_first <= first and last <= wide_last and (wider is None or block.end > wider.end):
                wider = block
    return drop, [replace(block, end=wider.end, of=wider.of) for block in drop] if wider else []


def _without(first: int, last: int, holes: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for hole_first, hole_last in sorted(holes):
        if first < hole_first:
            yield first, hole_first - 1
        first = max(first, hole_last + 1)
    if first <= last:
        yield first, last
