"""Allow and deny lists: keys and networks, at a cost that does not grow with the list."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, NamedTuple

from banhammer.identity import ipv4_inside

_MEMO: Final = 4_096
_LONGEST: Final = 61
"""No network has more characters: 45 of an address, a slash and 15 of a netmask."""
_LEADS: Final = frozenset("0123456789abcdefABCDEF:")
_NETWORK: Final = re.compile(r"[0-9A-Fa-f:.]{2,45}(?:/[0-9.]{1,15})?", re.ASCII)


class KeyList:
    """A list of keys and networks: `key in keys` where an entry equals the key or is a network around it.

    An entry that is an address or a network (host bits may be set: `10.0.0.1/8`) matches every key that is an
    address or network inside it; IPv4-mapped, 6to4 and NAT64 entries count as their IPv4, as `ip_key` writes
    keys. An empty list is falsy.
    """

    __slots__ = ("_inside", "_keys", "_networks")

    def __init__(self, entries: Iterable[str] = ()) -> None:
        self._keys = frozenset(entries)
        found: dict[int, dict[int, set[int]]] = {}
        for entry in self._keys:
            network = _network(entry.strip())
            if network:
                leads = found.setdefault(network.bits, {}).setdefault(network.length, set())
                leads.add(network.lead)
        self._networks = {bits: sorted(lengths.items()) for bits, lengths in found.items()}
        self._inside = lru_cache(maxsize=_MEMO)(self._is_inside)

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __contains__(self, key: str) -> bool:
        if key in self._keys:
            return True
        if not self._networks or key[:1] not in _LEADS or len(key) > _LONGEST:
            return False
        return self._inside(key)

    def _is_inside(self, key: str) -> bool:
        inner = _network(key)
        if inner is None:
            return False
        for length, leads in self._networks.get(inner.bits, ()):
            if length > inner.length:
                return False
            if inner.lead >> (inner.length - length) in leads:
                return True
        return False


def narrower_than_keys(entry: str, v4: int, v6: int) -> bool:
    """Return whether an entry can match no address key of these prefix lengths, being a part of one."""
    network = _network(entry.strip())
    return network is not None and network.length > (v4 if network.bits == 32 else v6)


class _Network(NamedTuple):
    bits: int  # Of a whole address: 32 or 128, which also tells the version.
    length: int
    lead: int  # The first `length` bits.


def _network(text: str) -> _Network | None:
    if not _NETWORK.fullmatch(text):
        return None
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
    value, length = int(network.network_address), network.prefixlen
    if network.version == 4:
        return _Network(32, length, value >> (32 - length))
    inner = ipv4_inside(value, length)
    if inner is None:
        return _Network(128, length, value >> (128 - length))
    value, length = inner
    return _Network(32, length, value >> (32 - length))
