"""Blocks are bans cut to parts that do not overlap: properties of the pure functions, and the kernel beside them."""

from __future__ import annotations

import math
from ipaddress import IPv4Network
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from banhammer_nftables import Nftables
from banhammer_nftables.blocks import Block, Change, ban, lift, span, to_network
from nft_network import Network, escalation, lifted

FAMILY = list(IPv4Network("198.51.100.240/28").subnets(new_prefix=28))
for _length in (29, 30, 31, 32):
    FAMILY += IPv4Network("198.51.100.240/28").subnets(new_prefix=_length)
networks = st.sampled_from(FAMILY)
ends = st.sampled_from([100.0, 200.0, 300.0, 400.0, math.inf])
bans = st.lists(st.tuples(networks, ends), max_size=12)
steps = st.lists(st.tuples(networks, st.none() | ends), max_size=12)


def change(blocks: list[Block], made: Change) -> list[Block]:
    drop, put = made
    assert set(drop) <= set(blocks)
    after = [block for block in blocks if block not in drop] + put
    spans = sorted((block.first, block.last) for block in after)
    assert all(first <= last for first, last in spans)
    assert all(one[1] < other[0] for one, other in pairwise(spans)), "an interval set refuses this"
    return after


def ends_of(blocks: list[Block]) -> dict[int, float]:
    return {address: block.end for block in blocks for address in range(block.first, block.last + 1)}


def longest(made: list[tuple[IPv4Network, float]]) -> dict[int, float]:
    found: dict[int, float] = {}
    for network, end in made:
        for address in range(span(str(network))[0], span(str(network))[1] + 1):
            found[address] = max(end, found.get(address, 0.0))
    return found


@given(bans)
def test_every_address_is_blocked_until_the_last_of_its_bans_ends(made: list[tuple[IPv4Network, float]]) -> None:
    blocks: list[Block] = []
    for network, end in made:
        blocks = change(blocks, ban(blocks, network, end))
        assert ban(blocks, network, end) == ([], [])  # Delivered twice, it changes nothing.
    assert ends_of(blocks) == longest(made)


@given(steps)
def test_after_lifts_no_address_is_blocked_longer_than_the_bans_left_say(
    made: list[tuple[IPv4Network, float | None]],
) -> None:
    blocks: list[Block] = []
    left: dict[IPv4Network, float] = {}
    for network, end in made:
        if end is None:
            left.pop(network, None)
            blocks = change(blocks, lift(blocks, network))
            assert lift(blocks, network) == ([], [])
        else:
            left[network] = max(end, left.get(network, 0.0))
            blocks = change(blocks, ban(blocks, network, end))
        most = longest(list(left.items()))
        assert all(until <= most.get(address, 0.0) for address, until in ends_of(blocks).items())


def test_what_is_lifted_goes_back_to_the_wider_ban_that_ends_last() -> None:
    narrow, wide, wider = IPv4Network("10.0.0.9/32"), IPv4Network("10.0.0.0/28"), IPv4Network("10.0.0.0/24")
    blocks: list[Block] = []
    for network, end in ((narrow, 300.0), (wide, 200.0), (wider, 100.0)):
        blocks = change(blocks, ban(blocks, network, end))
    for order in (blocks, blocks[::-1]):
        after = change(order, lift(order, narrow))
        assert ends_of(after) == longest([(wide, 200.0), (wider, 100.0)])
        assert ends_of(change(after, lift(after, wide)))[span("10.0.0.9")[0]] == 100.0


@given(bans, networks)
def test_a_lift_leaves_what_no_ban_of_that_network_held(
    made: list[tuple[IPv4Network, float]], network: IPv4Network
) -> None:
    blocks: list[Block] = []
    for banned, end in made:
        blocks = change(blocks, ban(blocks, banned, end))
    kept = ends_of([block for block in blocks if block.of != str(network)])
    after = ends_of(change(blocks, lift(blocks, network)))
    assert kept.items() <= after.items()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made=steps)
def test_the_kernel_holds_what_the_functions_say(
    network: Network, action: Nftables, made: list[tuple[IPv4Network, float | None]]
) -> None:
    network.inside("nft", "flush", "ruleset")
    blocks: list[Block] = []
    for banned, end in made:
        if end is None:
            blocks = change(blocks, lift(blocks, banned))
            action.lift(lifted(str(banned)))
        else:
            end += 2e9  # In the kernel nothing must end meanwhile.
            blocks = change(blocks, ban(blocks, banned, end))
            action.run(escalation(str(banned), until=end))
    with action._nft.turn():
        held = action._nft.blocks(4)
    assert sorted(held, key=lambda block: block.first) == sorted(blocks, key=lambda block: block.first)


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("203.0.113.9", "203.0.113.9/32"),
        ("203.0.113.0/24", "203.0.113.0/24"),
        ("2001:DB8::1", "2001:db8::1/128"),
        ("::ffff:203.0.113.9", "203.0.113.9/32"),
        ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
    ],
)
def test_an_address_and_a_network_are_read(text: str, network: str) -> None:
    assert str(to_network(text)) == network


@pytest.mark.parametrize(
    "text",
    [
        *("", "user:7", "203.0.113.9:80", "[2001:db8::1]", "203.0.113.9/24", "203.0.113.0/255.255.255.0", "1.2.3"),
        *("fe80::1%eth0", "2001:db8::1%x;y", " 203.0.113.9", "203.0.113.9\n", "\u0661.2.3.4", "1.2.3.04", "1" * 65536),
        *("203.0.113.0/", "203.0.113.0/33", "203.0.113.0/-1", "::/129", "0x7f000001", "2130706433"),
    ],
)
def test_anything_else_is_no_address(text: str) -> None:
    assert to_network(text) is None
