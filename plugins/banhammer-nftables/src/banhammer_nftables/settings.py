"""What `[actions.nftables]` may say: checked values out, or all mistakes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from banhammer import ConfigError
from banhammer.durations import SECOND, parse_duration
from banhammer.errors import did_you_mean
from banhammer_nftables.blocks import Network, to_network

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)
_NAMED: Final = "use up to 64 of A-Z, a-z, 0-9 and '_', a letter first"


@dataclass(frozen=True, slots=True)
class Settings:
    """The checked settings."""

    nft: str
    table: str
    sets: Mapping[int, str]
    """The names of the sets, by IP version."""
    setup: bool
    allow: tuple[Network, ...]
    widest: Mapping[int, int]
    """The shortest prefix that is blocked, by IP version."""
    throttle_for: float
    """How many seconds a throttled key is blocked; 0 for not at all."""


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(_NAME.fullmatch(value))


def _is_path(value: object) -> bool:
    return isinstance(value, str) and value.startswith("/") and "\0" not in value


_SETTINGS: Final[Mapping[str, tuple[Any, Callable[[Any], bool], str]]] = {
    "nft": ("/usr/sbin/nft", _is_path, "write the whole path of the program, like '/usr/sbin/nft'"),
    "table": ("banhammer", _is_name, _NAMED),
    "set_v4": ("banned4", _is_name, _NAMED),
    "set_v6": ("banned6", _is_name, _NAMED),
    "setup": (True, lambda value: isinstance(value, bool), "write true or false"),
    "allow": ((), lambda value: isinstance(value, (list, tuple)), "write a list of networks, like ['10.0.0.0/8']"),
    "widest_v4": (16, lambda value: type(value) is int and 1 <= value <= 32, "write a prefix length of 1 to 32"),
    "widest_v6": (32, lambda value: type(value) is int and 1 <= value <= 128, "write a prefix length of 1 to 128"),
    "throttle_for": (0, lambda _: True, ""),
}
"""The default of each, what it must be, and how to say so."""


def read(given: Mapping[str, Any]) -> Settings:
    """Return the settings of a table; raises `ConfigError` with a line for every mistake, the setting's name first."""
    values = {name: given.get(name, default) for name, (default, _, _) in _SETTINGS.items()}
    known = ", ".join(_SETTINGS)
    mistakes = [
        f"{name}: no such setting{did_you_mean(name, _SETTINGS) or f'; known: {known}'}"
        for name in given
        if name not in _SETTINGS
    ]
    mistakes += [
        f"{name}: {values[name]!r}; {remedy}" for name, (_, fits, remedy) in _SETTINGS.items() if not fits(values[name])
    ]
    if values["set_v4"] == values["set_v6"]:
        mistakes.append(f"set_v6: {values['set_v6']!r}; IPv4 and IPv6 need a set each, so name another")
    allow = []
    for index, entry in enumerate(values["allow"] if isinstance(values["allow"], (list, tuple)) else ()):
        network = to_network(entry, strict=False) if isinstance(entry, str) else None
        if network:
            allow.append(network)
        else:
            mistakes.append(f"allow.{index}: {entry!r}; write an address or a network, like '10.0.0.0/8'")
    throttle_for = 0
    try:
        throttle_for = parse_duration(values["throttle_for"]) if "throttle_for" in given else 0
    except ConfigError as error:
        mistakes.append(f"throttle_for: {error}")
    if mistakes:
        raise ConfigError(mistakes)
    return Settings(
        nft=values["nft"],
        table=values["table"],
        sets={4: values["set_v4"], 6: values["set_v6"]},
        setup=values["setup"],
        allow=tuple(allow),
        widest={4: values["widest_v4"], 6: values["widest_v6"]},
        throttle_for=throttle_for / SECOND,
    )
