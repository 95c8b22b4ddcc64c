"""Who is counted: one spelling for each address, and the selectors that read a key from a request.

Only an address stands bare in a key; everything else that a client can choose is written behind its
selector's name, so nobody can have a victim's address banned by sending it in a header.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Protocol

from banhammer.errors import ConfigError, did_you_mean

_LONGEST: Final = 100
"""More characters than any address has, with its zone, brackets and port: the memo holds nothing longer."""
_OCTET: Final = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4: Final = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}", re.ASCII)
_DRESSED: Final = re.compile(r"\[([^\[\]]+)\](?::(\d{1,5}))?|([^:\[\]]+):(\d{1,5})", re.ASCII)
_ZONE: Final = re.compile(r"[\w.:@~-]+", re.ASCII)
_LEADING_ZERO: Final = re.compile(r"(?<!\w)0\d+\.|\.0\d", re.ASCII)

# The IPv6 ranges that carry an IPv4 address: leading bits, how many, and the shortest network that still
# means IPv4. All of 6to4 or NAT64 names a technique, not every IPv4 address, so it stays what it is.
_CARRIERS: Final = (
    (0xFFFF, 96, 96),  # ::ffff:0:0/96, mapped
    (0x64_FF9B << 64, 96, 97),  # 64:ff9b::/96, NAT64
    (0x2002, 16, 17),  # 2002::/16, 6to4
)


def ip_key(text: str, v4: int = 32, v6: int = 64) -> str:
    """Return the one spelling of the client at this address: IPv4 whole, IPv6 by its /64.

    `v4` and `v6` are prefix lengths; a network is written with its length, like `203.0.113.0/24`, a whole
    address without. IPv4-mapped, 6to4 and NAT64 addresses count as their IPv4. Surrounding white space,
    brackets, port and zone are dropped. Raises `ValueError` for what is no address or could be read as two.
    """
    if not isinstance(text, str) or len(text) > _LONGEST:
        raise _no_address(text)
    return _ip_key(text, v4, v6)


@lru_cache(maxsize=16_384)
def _ip_key(text: str, v4: int, v6: int) -> str:
    if not (isinstance(v4, int) and 0 <= v4 <= 32 and isinstance(v6, int) and 0 <= v6 <= 128):
        raise ValueError(f"prefix lengths {v4!r} and {v6!r}; use 0 to 32 for IPv4 and 0 to 128 for IPv6")
    if v4 == 32 and _IPV4.fullmatch(text):
        return text
    address = _address(text)
    value = int(address)
    if address.version == 6:
        inner = ipv4_inside(value, 128)
        if inner is None:
            return _spell(ipaddress.IPv6Address, value, v6, 128)
        value, _ = inner
    return _spell(ipaddress.IPv4Address, value, v4, 32)


def ipv4_inside(value: int, length: int) -> tuple[int, int] | None:
    """Return the IPv4 network (value, prefix length) that an IPv6 network stands for, if it does."""
    for lead, bits, shortest in _CARRIERS:
        if length >= shortest and value >> (128 - bits) == lead:
            return (value >> (96 - bits)) & 0xFFFF_FFFF, min(length - bits, 32)
    return None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    body = text.strip()
    dressed = _DRESSED.fullmatch(body)
    if dressed:
        body = dressed[1] or dressed[3]
    address, percent, zone = body.partition("%")
    if percent and not (":" in address and _ZONE.fullmatch(zone)):
        raise _no_address(text)
    if dressed and int(dressed[2] or dressed[4] or 0) > 65535:
        raise _no_address(text)
    try:
        return ipaddress.ip_address(address)
    except ValueError as error:
        raise _no_address(text) from error


def _spell(kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address], value: int, length: int, bits: int) -> str:
    rest = bits - length
    address = str(kind(value >> rest << rest))
    return f"{address}/{length}" if rest else address


def _no_address(text: object) -> ValueError:
    if not isinstance(text, str):
        return ValueError(f"{text!r:.80} is not an IP address; give it as text, like '203.0.113.9'")
    if not text.isascii():
        why = "write its digits in ASCII"
    elif "/" in text:
        why = "name one address, without a prefix length"
    elif _LEADING_ZERO.search(text):
        why = "leave out leading zeros, which some read as octal"
    else:
        why = "write it like 203.0.113.9 or 2001:db8::1"
    return ValueError(f"{text!r:.80} is not an IP address; {why}")


class Request(Protocol):
    """What a selector and a route may ask of a request; `None` where it is not known."""

    @property
    def method(self) -> str:
        """The method as it was sent."""

    @property
    def path(self) -> str:
        """The path as it was sent, with or without its query."""

    @property
    def ip(self) -> str | None:
        """The address of the client, in any spelling."""

    @property
    def user(self) -> str | None:
        """The name of the user that was authenticated."""

    @property
    def host(self) -> str | None:
        """The host that was asked for, with or without its port."""

    def header(self, name: str) -> str | None:
        """Return the header of this lower-case name."""

    def cookie(self, name: str) -> str | None:
        """Return the cookie of this exact name."""


Read = Callable[[Request], str | None]


@dataclass(frozen=True, slots=True)
class Selector:
    """Which key a request is counted by; `read` returns it, or `None` where the request has none."""

    text: str
    needs: frozenset[str]
    """The fields it reads: `ip`, `user`, `host`, `header:name`, `cookie:name`."""
    read: Read = field(repr=False, compare=False)
    alternatives: tuple[frozenset[str], ...] = field(repr=False, compare=False)
    """The fields that each side of `|` reads, in order."""

    def held_by(self, fields: frozenset[str]) -> bool:
        """Return whether a source that holds only these fields can hold a key at all."""
        return any(needs <= fields for needs in self.alternatives)


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    need: str
    read: Read  # The value alone, without the name.


_FORMS: Final = "use ip, ip/V4/V6, user, host, header:NAME, cookie:NAME, a+b (both) or a|b (the first present)"
_KINDS: Final = ("ip", "user", "host", "header", "cookie")
_LENGTHS: Final = re.compile(r"/(\d{1,3})/(\d{1,3})", re.ASCII)
_FIELD_NAME: Final = re.compile(r"[\w!#$%&'*.^`~-]+", re.ASCII)
_HOST: Final = re.compile(r"(\[[^\]]*\]|[^:]*?)\.?(?::\d*)?", re.ASCII)


def parse_selector(text: str) -> Selector:
    """Return the selector that `text` describes: `ip`, `ip/24/48`, `user`, `host`, `header:NAME`,
    `cookie:NAME`, `a+b` for both and `a|b` for the first present; `+` binds closer.

    Raises `ConfigError`.
    """
    if not isinstance(text, str):
        raise ConfigError(f"{text!r} is not a key selector; {_FORMS}")
    choices = [[_part(part.strip(), text) for part in choice.split("+")] for choice in text.split("|")]
    alternatives = tuple(frozenset(part.need for part in parts) for parts in choices)
    readers = [_joined(parts) if len(parts) > 1 else _single(parts[0]) for parts in choices]
    read = _first(readers) if len(readers) > 1 else readers[0]
    return Selector(text, frozenset().union(*alternatives), read, alternatives)


def _part(part: str, text: str) -> _Part:
    kind, _, name = part.partition(":")
    if part in ("user", "host"):
        return _Part(part, part, _user if part == "user" else _host)
    if part == "ip" or part.startswith("ip/"):
        return _Part("ip", "ip", _ip(*_lengths(part)))
    if kind == "header" and _FIELD_NAME.fullmatch(name):
        name = name.lower()
        return _Part(f"header:{name}", f"header:{name}", lambda request: _digest(request.header(name)))
    if kind == "cookie" and _FIELD_NAME.fullmatch(name):
        return _Part(part, part, lambda request: _digest(request.cookie(name)))
    if kind in ("header", "cookie"):
        raise ConfigError(f"{text!r}: {name!r} cannot name a {kind}; write it like {kind}:x-api-key")
    raise ConfigError(f"{text!r}: {part!r} is not a key selector{did_you_mean(kind, _KINDS)}; {_FORMS}")


def _lengths(part: str) -> tuple[int, int]:
    if part == "ip":
        return 32, 64
    lengths = _LENGTHS.fullmatch(part, 2)
    if lengths is None or int(lengths[1]) > 32 or int(lengths[2]) > 128:
        raise ConfigError(f"{part!r}: write ip/V4/V6 with 0 to 32 and 0 to 128, like ip/24/48")
    return int(lengths[1]), int(lengths[2])


def _ip(v4: int, v6: int) -> Read:
    def read(request: Request) -> str | None:
        ip = request.ip
        if not ip:
            return None
        try:
            return ip_key(ip, v4, v6)
        except ValueError:
            return None

    return read


def _user(request: Request) -> str | None:
    return request.user or None


def _host(request: Request) -> str | None:
    host = (request.host or "").strip().lower()
    bare = _HOST.fullmatch(host)
    return (bare[1] if bare else host) or None


def _digest(value: str | None) -> str | None:
    value = (value or "").strip()
    if not value:
        return None
    return hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _single(part: _Part) -> Read:
    read, name = part.read, part.name
    if name == "ip":
        return read

    def named(request: Request) -> str | None:
        value = read(request)
        return None if value is None else f"{name}:{value}"

    return named


def _joined(parts: list[_Part]) -> Read:
    name = "+".join(part.name for part in parts)

    def read(request: Request) -> str | None:
        values = []
        for part in parts:
            value = part.read(request)
            if value is None:
                return None
            # Escaped, so that a separator inside a value cannot make two different pairs one key.
            values.append(value.replace("%", "%25").replace("+", "%2B"))
        return f"{name}:{'+'.join(values)}"

    return read


def _first(readers: list[Read]) -> Read:
    def read(request: Request) -> str | None:
        for reader in readers:
            key = reader(request)
            if key is not None:
                return key
        return None

    return read
