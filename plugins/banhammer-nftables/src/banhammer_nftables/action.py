"""The action: which escalations are blocked in the kernel, for how long, and what is refused."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import ip_address, ip_network
from typing import Any, Final

from banhammer import Escalation, GiveUp
from banhammer_nftables.blocks import Block, Change, Network, ban, lift, span, to_network
from banhammer_nftables.kernel import Nft, NftError
from banhammer_nftables.settings import read

log = logging.getLogger("banhammer.nftables")

_TRIES: Final = 3
_NEVER: Final = tuple(
    (ip_network(network), why)
    for network, why in (
        ("0.0.0.0/8", "it is unspecified"),
        ("127.0.0.0/8", "it is loopback"),
        ("169.254.0.0/16", "it is link-local"),
        ("224.0.0.0/4", "it is multicast"),
        ("255.255.255.255", "it is broadcast"),
        ("::", "it is unspecified"),
        ("::1", "it is loopback"),
        ("fe80::/10", "it is link-local"),
        ("ff00::/8", "it is multicast"),
    )
)


class Nftables:
    """Blocks the address or network that is an escalation's key, by an nft set, until the ban ends.

    `settings` are those of the table `[actions.nftables]`; raises `ConfigError`. `clock` returns Unix seconds. Making
    one touches nothing. `run` and `lift` may be called from any thread; they raise `NftError` where trying again may
    help, and `run` raises `GiveUp` for what must not be blocked. A key that is no address is left alone.
    """

    def __init__(self, settings: Mapping[str, Any], *, clock: Callable[[], float] = time.time) -> None:
        checked = read(settings)
        self._widest = checked.widest
        self._never = [*_NEVER, *((network, f"{network} is on the list `allow`") for network in checked.allow)]
        self._throttle_for = checked.throttle_for
        self._creates = checked.setup
        self._is_set_up = not checked.setup
        self._clock = clock
        self._nft = Nft(checked, clock)

    def run(self, escalation: Escalation) -> None:
        """Block the key until the ban ends, or longer where it is blocked for longer already."""
        end = escalation.until
        if end is None and self._throttle_for:
            end = escalation.at + self._throttle_for
        if end is None or end <= self._clock() or escalation.shadow:
            return
        network = to_network(escalation.key)
        if network is None:
            log.debug("%.100a is no address; nothing to block", escalation.key)
            return
        why = self._refusal(network)
        if why:
            raise GiveUp(f"{escalation.key!r} is not blocked: {why}")
        with self._nft.turn():
            if not self._is_set_up:
                self._nft.set_up()
                self._is_set_up = True
            try:  # Most often nothing is in the way, and a large set need not be read.
                self._nft.change(network.version, [], [Block(*span(str(network)), end, str(network))])
            except NftError:
                self._change(network.version, partial(ban, network=network, end=end))
        log.info("%s is blocked until %s", network, end)

    def lift(self, escalation: Escalation) -> None:
        """Let the key in again, if it is blocked; what narrower and wider networks brought stays."""
        network = to_network(escalation.key)
        if network is None:
            return
        with self._nft.turn():
            self._change(network.version, partial(lift, network=network))
        log.info("%s is not blocked any more", network)

    def _change(self, version: int, plan: Callable[[list[Block]], Change]) -> None:
        """Do what `plan` makes of the blocks in the kernel; again if one ended or came in between."""
        for left in reversed(range(_TRIES)):
            try:
                drop, put = plan(self._nft.blocks(version))
                self._nft.change(version, drop, put)
            except NftError:
                if not left:
                    raise
                if self._creates:  # The rules may have been flushed since.
                    self._nft.set_up()
            else:
                return

    def _refusal(self, network: Network) -> str:
        widest = self._widest[network.version]
        if network.prefixlen < widest:
            return f"it is wider than /{widest}, the setting widest_v{network.version}"
        for never, why in self._never:
            if never.version == network.version and never.overlaps(network):
                return why
        own = _own_address(network)
        return f"{own} is an address of this machine" if own else ""


def _own_address(network: Network) -> str | None:
    """Return an address of this machine in `network`, if packets to the network would leave from there."""
    family = socket.AF_INET if network.version == 4 else socket.AF_INET6
    inside = network[min(1, network.num_addresses - 1)]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((str(inside), 9))  # Nothing is sent: the kernel only chooses a route and a source.
        except OSError:
            return None  # No way leads there.
        own = str(probe.getsockname()[0]).partition("%")[0]
    return own if ip_address(own) in network else None
