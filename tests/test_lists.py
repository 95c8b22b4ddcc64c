"""Allow and deny lists: equal keys, and addresses inside networks."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banhammer.identity import ip_key
from banhammer.lists import KeyList, narrower_than_keys

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@st.composite
def networks(draw: st.DrawFn, versions: tuple[int, ...] = (4, 6)) -> Network:
    """Draw networks of few addresses and many lengths, so that they often hold one another."""
    if draw(st.sampled_from(versions)) == 4:
        value = draw(st.sampled_from([0x0A00_0000, 0x0A00_00FF, 0xCB00_7109])) ^ draw(st.integers(0, 7))
        return ipaddress.IPv4Network((value, draw(st.integers(0, 32))), strict=False)
    value = draw(st.sampled_from([0x2001_0DB8 << 96, 0x2001_0DB8_0001_0002 << 64])) ^ draw(st.integers(0, 7))
    return ipaddress.IPv6Network((value, draw(st.integers(0, 128))), strict=False)


def spelled(network: Network) -> str:
    whole = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if whole else str(network)


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ("acct:7", "acct:7"),
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9/32", "203.0.113.9"),
        ("203.0.113.9", "203.0.113.9/32"),
        ("10.0.0.0/8", "10.255.0.1"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.0.0.0/8", "10.1.0.0/16"),
        ("10.0.0.1/8", "10.2.3.4"),
        ("10.0.0.0/255.0.0.0", "10.2.3.4"),
        (" 10.0.0.0/8 ", "10.2.3.4"),
        (" odd key ", " odd key "),
        ("0.0.0.0/0", "203.0.113.9"),
        ("2001:DB8::/32", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::/64", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9/64", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::9"),
        ("::/0", "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.0/104", "10.2.3.4"),
        ("::ffff:0:0/96", "203.0.113.9"),
        ("2002:cb00:7109::/48", "203.0.113.9"),
        ("2002:cb00:7109:1::/64", "203.0.113.9"),
        ("64:ff9b::203.0.113.0/120", "203.0.113.9"),
        ("203.0.113.0/24", "::ffff:203.0.113.9"),
    ],
)
def test_an_entry_matches_the_equal_key_and_all_inside(entry: str, key: str) -> None:
    assert key in KeyList(["other", entry, "198.51.100.0/24"])


@pytest.mark.parametrize(
    ("entry", "key"),
    [
        ("acct:7", "acct:70"),
        ("acct", "acct:7"),
        ("203.0.113.9", "203.0.113.90"),
        ("203.0.113.9", "user:203.0.113.9"),
        ("10.0.0.0/8", "11.0.0.0"),
        ("10.0.0.0/16", "10.0.0.0/8"),
        ("10.0.0.0/8", "host:10.0.0.1"),
        ("10.0.0.0/8", "ip+user:10.0.0.1+alice"),
        ("10.0.0.0/8", "10.0.0.1x"),
        ("10.0.0.0/8", "10.0.0.01"),
        ("10.0.0.0/8", "10.0.0.1\n"),
        ("10.0.0.0/8", "１０.0.0.1"),  # noqa: RUF001
        ("10.0.0.0/8", ""),
        ("0.0.0.0/0", "2001:db8::/64"),
        ("::/0", "203.0.113.9"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("2002::/16", "203.0.113.9"),  # All of 6to4 is not all of IPv4.
        ("64:ff9b::/96", "203.0.113.9"),
        ("010.0.0.0/8", "10.0.0.1"),
        ("010.0.0.0/8", "8.0.0.1"),
        ("10.0.0.0/33", "10.0.0.1"),
        ("::/0", "c" * 65_536),
        ("::/0", "cafe:" * 10_000),
        ("::/0", "cookie:a:00"),
    ],
)
def test_an_entry_matches_nothing_else(entry: str, key: str) -> None:
    assert key not in KeyList([entry])


@pytest.mark.parametrize("empty", [[], (), iter([])])
def test_an_empty_list_is_falsy(empty: list[str]) -> None:
    assert not KeyList(empty)
    assert "203.0.113.9" not in KeyList(empty)


@pytest.mark.parametrize("entry", ["acct:7", "10.0.0.0/8", "::1"])
def test_a_list_with_an_entry_is_truthy(entry: str) -> None:
    assert KeyList([entry])


@given(st.lists(networks(), max_size=6), networks())
def test_membership_is_that_of_a_naive_reading(entries: list[Network], key: Network) -> None:
    def holds(entry: Network) -> bool:
        # The types differ by version, and subnet_of refuses to compare them.
        return entry.version == key.version and key.subnet_of(entry)  # type: ignore[arg-type]

    assert (spelled(key) in KeyList(map(spelled, entries))) == any(map(holds, entries))


@given(networks(versions=(4,)), st.ip_addresses(v=4))
def test_a_mapped_entry_counts_as_its_ipv4(network: ipaddress.IPv4Network, address: ipaddress.IPv4Address) -> None:
    mapped = f"::ffff:{network.network_address}/{network.prefixlen + 96}"
    for one in (address, network.network_address):
        assert (str(one) in KeyList([mapped])) == (one in network)


@given(st.ip_addresses(), st.integers(0, 32), st.integers(0, 128))
def test_an_address_is_on_the_list_that_holds_its_own_key(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, v4: int, v6: int
) -> None:
    key = ip_key(str(address), v4, v6)
    assert key in KeyList([key])
    assert ip_key(str(address), 32, 128) in KeyList([key])


@given(st.text(st.characters(), max_size=20), st.lists(st.text("0123456789abcdef:./ ", max_size=12)))
def test_no_key_and_no_entry_is_an_exception(key: str, entries: list[str]) -> None:
    keys = KeyList([*entries, key])
    assert key in keys
    assert all(entry in keys for entry in entries)


def test_the_cost_of_a_look_up_does_not_grow_with_the_list() -> None:
    probes = [str(ipaddress.IPv4Address(0xCB00_0000 + number)) for number in range(500)] + ["acct:7"] * 500

    class Counted(str):
        """A key that counts how often it is compared or hashed."""

        steps = 0

        def __eq__(self, other: object) -> bool:
            Counted.steps += 1
            return str.__eq__(self, other)

        def __hash__(self) -> int:
            Counted.steps += 1
            return str.__hash__(self)

    class Leads(set[int]):
        """The networks of one length, which count how often they are looked at."""

        def __contains__(self, lead: object) -> bool:
            Counted.steps += 1
            return set.__contains__(self, lead)

        def __iter__(self) -> Iterator[int]:
            for lead in set.__iter__(self):
                Counted.steps += 1
                yield lead

    def steps(size: int) -> int:
        keys = KeyList(str(ipaddress.IPv4Address(number)) for number in range(size))
        keys._networks = {
            bits: [(length, Leads(leads)) for length, leads in lengths] for bits, lengths in keys._networks.items()
        }
        Counted.steps = 0
        assert not any(Counted(probe) in keys for probe in probes)
        return Counted.steps

    assert 0 < steps(20_000) == steps(10)


def test_the_memo_of_looked_up_keys_is_bounded() -> None:
    keys = KeyList(["10.0.0.0/8"])
    for number in range(5_000):
        assert str(ipaddress.IPv4Address(number)) not in keys
    assert keys._inside.cache_info().currsize == 4_096


@pytest.mark.parametrize(
    ("entry", "v4", "v6", "narrower"),
    [
        ("2001:db8::1", 32, 64, True),
        ("2001:db8::/65", 32, 64, True),
        ("2001:db8::1/64", 32, 64, False),
        ("2001:db8::/32", 32, 64, False),
        ("2001:db8::1", 32, 128, False),
        ("203.0.113.9", 32, 64, False),
        ("203.0.113.9", 24, 64, True),
        ("203.0.113.0/24", 24, 64, False),
        ("::ffff:203.0.113.9", 32, 64, False),
        ("::ffff:203.0.113.9", 24, 64, True),
        ("acct:7", 0, 0, False),
        ("cafe", 0, 0, False),
    ],
)
def test_an_entry_narrower_than_the_keys_is_known(entry: str, v4: int, v6: int, narrower: bool) -> None:
    assert narrower_than_keys(entry, v4, v6) is narrower
