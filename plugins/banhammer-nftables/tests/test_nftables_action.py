"""What is blocked and what is refused, the settings, and keys that mean harm."""

from __future__ import annotations

import logging
import random
import re
import time
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from banhammer import BanHammer, ConfigError, GiveUp, Policy, Threshold
from banhammer_nftables import Nftables, banhammer_actions
from nft_network import V4, V6, Network, escalation, lifted


class Recorder:
    """A program that writes down its arguments and its input, and then is `nft` of the protected machine."""

    def __init__(self, network: Network, folder: Path) -> None:
        self._arguments, self._input = folder / "arguments", folder / "input"
        self._arguments.touch()
        self._input.touch()
        self.nft = network.program(
            "nft-recorded",
            f"""printf '%s\\n' "$@" >>{self._arguments}
tee -a {self._input} | ip netns exec {network.host} nft "$@" """,
        )

    @property
    def arguments(self) -> list[str]:
        return self._arguments.read_text().splitlines()

    @property
    def commands(self) -> list[str]:
        return [line for line in self._input.read_bytes().decode("ascii").split("\n") if line]


@pytest.fixture
def recorder(network: Network, tmp_path: Path) -> Recorder:
    return Recorder(network, tmp_path)


@pytest.mark.parametrize(
    "done",
    [
        pytest.param({"until": time.time() - 1}, id="over already"),
        pytest.param({"until": None, "verdict": "throttled"}, id="throttled"),
        pytest.param({"until": time.time() + 1000, "shadow": True}, id="in shadow"),
        pytest.param({"key": "user:7"}, id="no address"),
        pytest.param({"until": time.time() - 1, "key": "127.0.0.1"}, id="over already, and loopback"),
    ],
)
def test_nothing_is_run_for(recorder: Recorder, done: dict[str, Any]) -> None:
    Nftables({"nft": recorder.nft}).run(escalation(**{"key": V4, **done}))
    assert recorder.arguments == []


def test_the_time_left_is_measured_by_the_clock_that_is_given(recorder: Recorder) -> None:
    action = Nftables({"nft": recorder.nft}, clock=lambda: 1000.0)
    action.run(escalation(V4, until=1090.0015))
    assert recorder.commands[-1].endswith('timeout 1m30s2ms comment "203.0.113.9/32 until 1090.0015" }')
    action.run(escalation(V6, until=1000.0))
    assert not [line for line in recorder.commands if "2001" in line]


def test_a_throttled_key_is_blocked_where_the_settings_say_so(recorder: Recorder) -> None:
    action = Nftables({"nft": recorder.nft, "throttle_for": "1m"}, clock=lambda: 1000.0)
    throttled = escalation(V4, None, verdict="throttled", at=990.0)
    action.run(throttled)
    assert " timeout 50s " in recorder.commands[-1]  # Of the minute since it was throttled.
    action.run(escalation(V6, None, verdict="throttled", at=900.0))
    assert not [line for line in recorder.commands if "2001" in line]


def test_a_key_that_is_no_address_is_told_to_whoever_debugs(
    recorder: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "banhammer.nftables")
    action = Nftables({"nft": recorder.nft})
    action.run(escalation("user:7\r\n\ud800" + "x" * 65536))
    action.lift(lifted("user:7"))
    (record,) = caplog.records
    assert record.levelname == "DEBUG"
    assert record.getMessage().startswith(r"'user:7\r\n\ud800xxx")
    assert len(record.getMessage()) < 200
    assert recorder.arguments == []


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("127.0.0.1", "it is loopback"),
        ("127.8.0.0/16", "it is loopback"),
        ("::1", "it is loopback"),
        ("::ffff:127.0.0.1", "it is loopback"),
        ("0.0.0.0", "it is unspecified"),
        ("::", "it is unspecified"),
        ("169.254.169.254", "it is link-local"),
        ("fe80::/64", "it is link-local"),
        ("224.0.0.0/24", "it is multicast"),
        ("ff02::1", "it is multicast"),
        ("255.255.255.255", "it is broadcast"),
        ("0.0.0.0/0", "it is wider than /16, the setting widest_v4"),
        ("203.0.0.0/15", "it is wider than /16, the setting widest_v4"),
        ("::ffff:0:0/96", "it is wider than /16, the setting widest_v4"),
        ("::/0", "it is wider than /32, the setting widest_v6"),
        ("2001:db8::/31", "it is wider than /32, the setting widest_v6"),
        ("203.0.113.9", "203.0.113.0/28 is on the list `allow`"),
        ("203.0.113.0/24", "203.0.113.0/28 is on the list `allow`"),
        ("::ffff:203.0.113.1", "203.0.113.0/28 is on the list `allow`"),
        ("2001:db8:1:2::/64", "2001:db8:1:2::9/128 is on the list `allow`"),
    ],
)
def test_what_must_not_be_blocked_is_given_up(recorder: Recorder, key: str, why: str) -> None:
    action = Nftables({"nft": recorder.nft, "allow": ["203.0.113.5/28", "2001:db8:1:2::9"]})
    with pytest.raises(GiveUp) as caught:
        action.run(escalation(key))
    assert str(caught.value) == f"{key!r} is not blocked: {why}"
    assert recorder.arguments == []


def test_what_is_as_wide_as_the_bound_is_blocked(network: Network, action: Nftables) -> None:
    action.run(escalation("203.0.0.0/16"))
    action.run(escalation("2001:db8::/32"))
    assert network.has("203.0.255.255")
    assert network.has("2001:db8:ffff::", "banned6")


HARM = (
    *("; flush ruleset", "\nflush ruleset\n", " } ; delete table inet banhammer", '" }', "$(reboot)", "`reboot`", "\0"),
    *("\r\n", "%eth0", "%x;flush ruleset", "/24 }", "/0", "/33", ", 0.0.0.0/0", "-255.255.255.255", "\ud800", "\u202e"),
    *("|sh", "&", "'", '"', "\\", "{", "#", "@banned4", "x" * 65536, " timeout 1s", "\u0660"),
)
_COMMAND = re.compile(
    r"(?:create|delete) element inet banhammer banned([46]) \{ ([0-9a-f.:]+)(?:-([0-9a-f.:]+))?"
    r'(?: timeout [0-9dhms]+)?(?: comment "([0-9a-f.:]+)/(\d+) until [0-9.einf+]+")? \}'
)


def hostile_keys(count: int) -> list[str]:
    chance = random.Random(7)
    keys: list[str] = []
    while len(keys) < count:
        address = chance.choice(
            [V4, V6, f"::ffff:{V4}", "203.0.113.0/24", "2001:DB8:0::/64", "127.0.0.1", "", "user:7", "-f", "--help"]
        )
        parts = [address, *(chance.choice(["", *HARM]) for _ in range(chance.randrange(3)))]
        chance.shuffle(parts)
        keys.append("".join(parts) or "?")
    return keys


def test_500_hostile_keys_bring_nothing_but_canonical_addresses_to_nft(network: Network, recorder: Recorder) -> None:
    action = Nftables({"nft": recorder.nft})
    refusals = []
    for key in hostile_keys(500):
        try:
            action.run(escalation(key))
            action.lift(lifted(key))
        except GiveUp as refusal:
            refusals.append(str(refusal))
    assert len(refusals) > 5
    assert all(refusal.isprintable() for refusal in refusals)
    allowed = {"-f", "-", "-j", "list", "set", "chain", "inet", "banhammer", "banned", "banned4", "banned6"}
    assert set(recorder.arguments) == allowed
    setting_up, commands = recorder.commands[:8], recorder.commands[8:]
    assert all(line.startswith(("add ", "flush chain inet banhammer banned")) for line in setting_up)
    assert len(commands) > 100
    for line in commands:
        match = _COMMAND.fullmatch(line)
        assert match, line
        for text in filter(None, match.groups()[1:4]):
            assert str(ip_address(text)) == text
            assert ip_address(text).version == int(match[1])
    assert "elements" not in network.elements() + network.elements("banned6")


def test_a_ban_by_the_hammer_is_blocked_and_its_unban_lets_go(network: Network) -> None:
    policy = Policy("login", [Threshold(2, "1h", ban="1h", actions=["nftables"])])
    with BanHammer([policy], actions={"nftables": Nftables({"nft": network.nft})}) as hammer:
        for _ in range(3):
            hammer.hit(V4, "login")
        assert hammer.drain(timeout=10)
        assert not network.connects(V4)
        hammer.unban(V4, "login")
        assert hammer.drain(timeout=10)
        assert network.connects(V4)


def test_the_hook_makes_the_action_with_or_without_a_table() -> None:
    assert list(banhammer_actions({})) == ["nftables"]
    assert list(banhammer_actions({"nftables": {"widest_v4": 24}, "webhook": {"url": "x"}})) == ["nftables"]
    with pytest.raises(ConfigError, match=r"^widest_v4: 99; write a prefix length of 1 to 32$"):
        banhammer_actions({"nftables": {"widest_v4": 99}})


@pytest.mark.parametrize(
    ("settings", "mistakes"),
    [
        ({"tabel": "x"}, ["tabel: no such setting; did you mean 'table'?"]),
        ({"table": "a b"}, ["table: 'a b'; use up to 64 of A-Z, a-z, 0-9 and '_', a letter first"]),
        ({"set_v4": "x;"}, ["set_v4: 'x;'; use up to 64 of A-Z, a-z, 0-9 and '_', a letter first"]),
        ({"set_v6": 6}, ["set_v6: 6; use up to 64 of A-Z, a-z, 0-9 and '_', a letter first"]),
        ({"set_v6": "banned4"}, ["set_v6: 'banned4'; IPv4 and IPv6 need a set each, so name another"]),
        ({"setup": 1}, ["setup: 1; write true or false"]),
        ({"allow": "10.0.0.0/8"}, ["allow: '10.0.0.0/8'; write a list of networks, like ['10.0.0.0/8']"]),
        ({"allow": ["::1", "office"]}, ["allow.1: 'office'; write an address or a network, like '10.0.0.0/8'"]),
        ({"allow": [7]}, ["allow.0: 7; write an address or a network, like '10.0.0.0/8'"]),
        ({"widest_v4": 0}, ["widest_v4: 0; write a prefix length of 1 to 32"]),
        ({"widest_v4": True}, ["widest_v4: True; write a prefix length of 1 to 32"]),
        ({"widest_v6": "64"}, ["widest_v6: '64'; write a prefix length of 1 to 128"]),
        ({"nft": "nft"}, ["nft: 'nft'; write the whole path of the program, like '/usr/sbin/nft'"]),
        ({"nft": "/nft\0"}, ["nft: '/nft\\x00'; write the whole path of the program, like '/usr/sbin/nft'"]),
        (
            {"throttle_for": "forever"},
            [
                "throttle_for: 'forever' is not a duration; "
                "write a number of seconds, or like 500ms, 10s, 5m, 1h30m, 1d, 2w"
            ],
        ),
        (
            {"throttle_for": 0, "setup": "no"},
            [
                "setup: 'no'; write true or false",
                "throttle_for: 0 is not a duration; it must be longer than nothing",
            ],
        ),
    ],
)
def test_each_wrong_setting_is_a_mistake_that_names_it(settings: Mapping[str, Any], mistakes: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Nftables(settings)
    assert list(caught.value.mistakes) == mistakes
