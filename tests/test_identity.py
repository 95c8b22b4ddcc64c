"""One spelling for each client, and the keys that selectors write."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banhammer import identity
from banhammer.errors import ConfigError
from banhammer.identity import ip_key, parse_selector

IPV4 = st.ip_addresses(v=4)
IPV6 = st.ip_addresses(v=6)
TEXT = st.text(st.characters(), max_size=30)  # Lone surrogates included.


class FakeRequest:
    def __init__(
        self,
        ip: str | None = None,
        user: str | None = None,
        host: str | None = None,
        headers: dict[str, str] | None = None,
        cookies: dict[str, str] | None = None,
    ) -> None:
        self.method, self.path = "GET", "/"
        self.ip, self.user, self.host = ip, user, host
        self.headers, self.cookies = headers or {}, cookies or {}

    def header(self, name: str) -> str | None:
        return self.headers.get(name)

    def cookie(self, name: str) -> str | None:
        return self.cookies.get(name)


def key_of(selector: str, request: FakeRequest) -> str | None:
    return parse_selector(selector).read(request)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("203.0.113.9", "203.0.113.9"),
        (" 203.0.113.9\r\n", "203.0.113.9"),
        ("\u00a0203.0.113.9\u2003", "203.0.113.9"),
        ("203.0.113.9:80", "203.0.113.9"),
        ("203.0.113.9:65535", "203.0.113.9"),
        ("[203.0.113.9]:443", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("::FFFF:cb00:7109", "203.0.113.9"),
        ("[::ffff:203.0.113.9]:443", "203.0.113.9"),
        ("::ffff:203.0.113.9%eth0", "203.0.113.9"),
        ("2002:cb00:7109::1", "203.0.113.9"),
        ("64:ff9b::203.0.113.9", "203.0.113.9"),
        ("64:ff9b:1::203.0.113.9", "64:ff9b:1::/64"),  # Local-use NAT64 is no one's IPv4.
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:0DB8:0001:0002::9", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::9]", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2::9]:443", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("[fe80::1%25eth0]:80", "fe80::/64"),
        ("::1", "::/64"),
    ],
)
def test_every_spelling_of_a_client_is_one_key(text: str, key: str) -> None:
    assert ip_key(text) == key


@pytest.mark.parametrize(
    ("text", "v4", "v6", "key"),
    [
        ("203.0.113.9", 24, 64, "203.0.113.0/24"),
        ("::ffff:203.0.113.9", 24, 64, "203.0.113.0/24"),
        ("203.0.113.9", 0, 64, "0.0.0.0/0"),
        ("2001:db8:1:2::9", 32, 48, "2001:db8:1::/48"),
        ("2001:db8:1:2::9", 32, 128, "2001:db8:1:2::9"),
        ("2001:db8:1:2::9", 32, 0, "::/0"),
        ("64:ff9b:0:0:1::9", 32, 64, "64:ff9b::/64"),
    ],
)
def test_a_shorter_prefix_is_written_with_its_length(text: str, v4: int, v6: int, key: str) -> None:
    assert ip_key(text, v4, v6) == key


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("", "write it like"),
        ("   ", "write it like"),
        ("-", "write it like"),
        ("localhost", "write it like"),
        ("203.0.113", "write it like"),
        ("203.0.113.256", "write it like"),
        ("203.0.113.9.", "write it like"),
        ("3405803785", "write it like"),
        ("0xcb.0.113.9", "write it like"),
        ("203.0.113.9\0", "write it like"),
        ("203.0.113.9:", "write it like"),
        ("203.0.113.9:65536", "write it like"),
        ("203.0.113.9:http", "write it like"),
        ("203.0.113.9 :80", "write it like"),
        ("203.0.113.9%eth0", "write it like"),
        ("[203.0.113.9", "write it like"),
        ("[]:80", "write it like"),
        ("[::1]80", "write it like"),
        ("[[::1]]", "write it like"),
        ("::1%", "write it like"),
        ("fe80::1%a%b", "write it like"),
        ("fe80::1%eth0, 203.0.113.9", "write it like"),
        ("fe80::1%a b", "write it like"),
        ("1::2::3", "write it like"),
        ("203.0.113.9, 198.51.100.1", "write it like"),
        ("203.0.113.09", "leading zeros"),
        ("0203.0.113.9", "leading zeros"),
        ("::ffff:203.0.113.09", "leading zeros"),
        ("203.0.113.0/24", "without a prefix length"),
        ("2001:db8::/64", "without a prefix length"),
        ("２０３.0.113.9", "in ASCII"),  # noqa: RUF001
        ("203.0.113.٩", "in ASCII"),
        ("203.0.113.9:８０", "in ASCII"),  # noqa: RUF001
        ("203。0。113。9", "in ASCII"),
        ("\ud800", "in ASCII"),
        ("1" * 65_536, "write it like"),
        (" " * 200 + "203.0.113.9", "write it like"),
    ],
)
def test_what_is_no_address_is_refused_by_value_and_remedy(text: str, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy) as error:
        ip_key(text)
    assert str(error.value).startswith(repr(text)[:80])
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("value", [None, 3405803785, b"203.0.113.9", ["203.0.113.9"]])
def test_only_a_text_is_an_address(value: object) -> None:
    with pytest.raises(ValueError, match="give it as text"):
        ip_key(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(("v4", "v6"), [(33, 64), (-1, 64), (32, 129), (32, -1), (24.0, 64), (32, None)])
def test_a_prefix_length_out_of_range_is_refused(v4: int, v6: int) -> None:
    with pytest.raises(ValueError, match="0 to 32 for IPv4 and 0 to 128 for IPv6"):
        ip_key("203.0.113.77", v4, v6)


@given(IPV4)
def test_an_ipv4_address_counts_alike_whatever_carries_it(address: ipaddress.IPv4Address) -> None:
    value = int(address)
    mapped = ipaddress.IPv6Address(0xFFFF << 32 | value)
    nat64 = ipaddress.IPv6Address(0x64_FF9B << 96 | value)
    six_to_four = ipaddress.IPv6Address(0x2002 << 112 | value << 80 | 7)
    assert ip_key(str(address)) == str(address)
    for carrier in (mapped, nat64, six_to_four):
        assert ip_key(str(carrier)) == str(address)
        assert ip_key(carrier.exploded) == str(address)


@given(IPV4 | IPV6)
def test_a_whole_address_is_its_own_key(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    key = ip_key(str(address), 32, 128)
    assert ip_key(key, 32, 128) == key
    assert ip_key(f" [{address}]:8080 ", 32, 128) == key


@given(IPV6, st.integers(1, 128), st.integers(0))
def test_one_network_is_one_key(address: ipaddress.IPv6Address, length: int, other: int) -> None:
    rest = 128 - length
    neighbour = int(address) >> rest << rest | other % (1 << rest)
    keys = {ip_key(str(one), 32, length) for one in (address, ipaddress.IPv6Address(neighbour))}
    six = {key for key in keys if ":" in key}
    assert len(six) <= 1
    for key in six:
        assert address in ipaddress.ip_network(key)
        assert ipaddress.ip_network(key).prefixlen == length


@given(TEXT | st.from_regex(r"\[?[0-9a-f:.%/]{1,45}\]?(:[0-9]{1,6})?", fullmatch=True))
def test_any_text_is_an_address_in_canonical_spelling_or_refused(text: str) -> None:
    try:
        key = ip_key(text, 32, 128)
    except ValueError:
        return
    assert key == str(ipaddress.ip_address(key))


def test_the_memo_is_bounded_and_holds_no_long_text() -> None:
    memo = identity._ip_key
    memo.cache_clear()
    for number in range(20_000):
        ip_key(str(ipaddress.IPv4Address(number)))
    with pytest.raises(ValueError):
        ip_key("fe80::1%" + "e" * 65_536)
    assert memo.cache_info().currsize <= 16_384


VISITOR = FakeRequest("203.0.113.9", "alice", "Example.COM:8080", {"x-api-key": "s3cret"}, {"Session": "s3cret"})


@pytest.mark.parametrize(
    ("selector", "key"),
    [
        ("ip", "203.0.113.9"),
        ("ip/32/64", "203.0.113.9"),
        ("ip/24/48", "203.0.113.0/24"),
        ("user", "user:alice"),
        ("host", "host:example.com"),
        ("header:X-Api-Key", "header:x-api-key:43e5f7d9dcee38263874835a0396cefa"),
        ("cookie:Session", "cookie:Session:43e5f7d9dcee38263874835a0396cefa"),
        ("cookie:session", None),
        ("header:x-other", None),
        ("ip+user", "ip+user:203.0.113.9+alice"),
        ("ip/24/48 + host", "ip+host:203.0.113.0/24+example.com"),
        ("user+cookie:session", None),
        ("header:x-other|user", "user:alice"),
        ("user | ip", "user:alice"),
        ("cookie:session+user|ip+host", "ip+host:203.0.113.9+example.com"),
        ("cookie:session|header:x-other", None),
    ],
)
def test_a_selector_writes_the_key_of_a_request(selector: str, key: str | None) -> None:
    assert key_of(selector, VISITOR) == key


@pytest.mark.parametrize("ip", [None, "", "unix:", "203.0.113.09", "２０３.0.113.9"])  # noqa: RUF001
def test_an_address_that_cannot_be_read_is_missing(ip: str | None) -> None:
    assert key_of("ip", FakeRequest(ip)) is None
    assert key_of("ip|user", FakeRequest(ip, user="alice")) == "user:alice"


@pytest.mark.parametrize("selector", ["user", "host", "header:a", "cookie:a", "ip+user"])
def test_an_empty_value_is_missing(selector: str) -> None:
    empty = FakeRequest("203.0.113.9", "", "", {"a": " "}, {"a": ""})
    assert key_of(selector, empty) is None


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("EXAMPLE.com", "host:example.com"),
        ("example.com.", "host:example.com"),
        ("example.com.:443", "host:example.com"),
        (" example.com: ", "host:example.com"),
        ("[2001:DB8::1]:443", "host:[2001:db8::1]"),
        ("203.0.113.9:80", "host:203.0.113.9"),
        ("a:b:c", "host:a:b:c"),
        (":80", None),
    ],
)
def test_a_host_is_lower_case_without_its_port(host: str, key: str | None) -> None:
    assert key_of("host", FakeRequest(host=host)) == key


@given(TEXT)
def test_only_an_address_makes_a_bare_key(value: str) -> None:
    request = FakeRequest(value, value, value, {"a": value}, {"a": value})
    for selector in ("user", "host", "header:a", "cookie:a", "user+host", "ip+user", "user|host"):
        key = key_of(selector, request)
        assert key is None or key.startswith(("user:", "host:", "header:a:", "cookie:a:", "user+", "ip+"))


@given(TEXT)
def test_a_secret_never_stands_in_a_key(value: str) -> None:
    key = key_of("header:a", FakeRequest(headers={"a": value}))
    assert (key is None) == (not value.strip())
    assert key is None or (len(key) == len("header:a:") + 32 and key.isascii())


PIECE = st.text("a+%25B:", min_size=1, max_size=4)


@given(PIECE, PIECE, PIECE, PIECE)
def test_no_two_pairs_share_a_joined_key(user: str, token: str, other_user: str, other_token: str) -> None:
    names = "user+ip|user+host"
    one, other = FakeRequest(user=user, host="h"), FakeRequest(user=other_user, host="h")
    assert (key_of(names, one) == key_of(names, other)) == (user == other_user)
    pair = parse_selector("user+host")
    keys = [pair.read(FakeRequest(user=u, host=h)) for u, h in ((user, token), (other_user, other_token))]
    hosts = [key_of("host", FakeRequest(host=h)) for h in (token, other_token)]
    if None not in hosts:
        assert (keys[0] == keys[1]) == ((user, hosts[0]) == (other_user, hosts[1]))
    assert key_of("user", FakeRequest(user=user)) not in keys


@pytest.mark.parametrize(
    ("selector", "needs"),
    [
        ("ip/24/48", {"ip"}),
        ("header:X-Api-Key|ip", {"header:x-api-key", "ip"}),
        ("user+host|cookie:S", {"user", "host", "cookie:S"}),
    ],
)
def test_a_selector_says_which_fields_it_reads(selector: str, needs: set[str]) -> None:
    assert parse_selector(selector).needs == needs


@pytest.mark.parametrize(
    ("selector", "held"),
    [("ip", True), ("host", False), ("host|ip", True), ("ip+host", False), ("ip+host|user+ip", True)],
)
def test_a_log_holds_a_key_when_it_holds_one_alternative(selector: str, held: bool) -> None:
    assert parse_selector(selector).held_by(frozenset({"ip", "user"})) is held


@pytest.mark.parametrize(
    ("selector", "mistake"),
    [
        ("", "'' is not a key selector; use ip"),
        ("ipp", "did you mean 'ip'"),
        ("haeder:x", "did you mean 'header'"),
        ("User", "did you mean 'user'"),
        ("user:alice", "'user:alice' is not a key selector"),
        ("ip/24", "ip/V4/V6"),
        ("ip/33/64", "0 to 32"),
        ("ip/32/129", "0 to 128"),
        ("ip/٢٤/64", "ip/V4/V6"),
        ("header:", "'' cannot name a header"),
        ("header", "'' cannot name a header"),
        ("cookie:a b", "'a b' cannot name a cookie"),
        ("ip+", "'ip+': '' is not a key selector"),
        ("|ip", "'|ip': '' is not a key selector"),
        (7, "7 is not a key selector"),
        (None, "None is not a key selector"),
    ],
)
def test_a_selector_that_cannot_be_meant_is_a_mistake(selector: str, mistake: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_selector(selector)
    assert mistake in str(error.value)
