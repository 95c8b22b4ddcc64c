"""What the kernel does: real packets between two network namespaces."""

from __future__ import annotations

import math
import sys
import threading
import time
from pathlib import Path

import pytest

import banhammer
import banhammer_nftables
from banhammer_nftables import Nftables, NftError
from nft_network import HOST4, HOST6, V4, V4_FAR, V4_NEAR, V6, V6_FAR, V6_NEAR, Network, escalation, lifted

YEAR = 365 * 86400.0


def gone(network: Network, address: str, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not network.has(address):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("key", "kept_out", "let_in"),
    [
        (V4, [V4], [V4_NEAR, V4_FAR, V6]),
        ("203.0.113.0/24", [V4, V4_NEAR], [V4_FAR, V6]),
        (f"::ffff:{V4}", [V4], [V4_NEAR]),
        (V6, [V6], [V6_NEAR, V6_FAR, V4]),
        ("2001:db8:1:2::/64", [V6, V6_NEAR], [V6_FAR, V4]),
    ],
)
def test_a_banned_key_is_kept_out_until_it_is_lifted(
    network: Network, action: Nftables, key: str, kept_out: list[str], let_in: list[str]
) -> None:
    assert all(network.connects(client) for client in kept_out + let_in)
    action.run(escalation(key))
    assert not any(network.connects(client) for client in kept_out)
    assert all(network.connects(client) for client in let_in)
    action.lift(lifted(key))
    assert all(network.connects(client) for client in kept_out + let_in)


def test_a_ban_ends_by_itself_in_the_kernel(network: Network, action: Nftables) -> None:
    action.run(escalation(V4, 2))
    began = time.monotonic()
    assert not network.connects(V4)
    assert gone(network, V4, 4)
    assert 1.8 < time.monotonic() - began < 2.5
    assert network.connects(V4)
    action.run(escalation("203.0.113.0/24", 60))  # What has ended is in nobody's way.
    assert not network.connects(V4)


def test_a_ban_for_ever_has_no_timeout(network: Network, action: Nftables) -> None:
    action.run(escalation(V4, math.inf))
    assert not network.connects(V4)
    assert "timeout " not in network.elements().partition("elements")[2]
    action.lift(lifted(V4))
    assert network.connects(V4)


@pytest.mark.parametrize("seconds", [50 * 86400 + 0.5, 10 * YEAR], ids=["50 days", "10 years"])
def test_a_long_ban_has_its_timeout_in_full(network: Network, action: Nftables, seconds: float) -> None:
    action.run(escalation(V4, seconds))
    days = int(seconds // 86400)
    assert f"expires {days}d" in network.elements() or f"expires {days - 1}d23h59m59s" in network.elements()


@pytest.mark.parametrize("key", [V4, "203.0.113.0/24"])
def test_a_ban_again_ends_with_the_later_end(network: Network, action: Nftables, key: str) -> None:
    now = time.time()
    first, longer = (escalation(key, until=now + seconds) for seconds in (600, 7200))
    action.run(first)
    action.run(longer)
    assert "expires 1h59m5" in network.elements()
    before = network.elements().partition("until")[2]
    for again in (first, longer):  # Delivered once more, in any order.
        action.run(again)
        assert network.elements().partition("until")[2] == before
    action.run(escalation(key, math.inf))
    action.run(longer)
    assert "expires" not in network.elements()
    action.lift(lifted(key))
    action.lift(lifted(key))
    assert "elements" not in network.elements()


def test_a_narrow_ban_outlasts_a_wide_one_and_each_is_lifted_alone(network: Network, action: Nftables) -> None:
    action.run(escalation("203.0.113.0/24", 60))
    action.run(escalation(V4, 3600))
    assert not network.connects(V4)
    assert not network.connects(V4_NEAR)
    action.lift(lifted("203.0.113.0/24"))
    assert not network.connects(V4)
    assert network.connects(V4_NEAR)
    action.run(escalation("203.0.113.0/24", 600))
    action.lift(lifted(V4))
    assert not network.connects(V4)  # The wide ban lasts.
    assert "expires 9m5" in network.elements()
    action.lift(lifted("203.0.113.0/24"))
    assert network.connects(V4)


def test_a_wide_ban_that_lasts_longer_takes_narrow_ones_in(network: Network, action: Nftables) -> None:
    action.run(escalation(V4, 60))
    action.run(escalation(V4_NEAR, 7200))
    action.run(escalation("203.0.113.0/24", 3600))
    assert not network.connects(V4)
    assert not network.connects(V4_NEAR)
    shown = network.elements()
    assert "203.0.113.77 timeout 1h59m" in shown or "203.0.113.77 timeout 2h" in shown
    action.run(escalation(V4, 120))  # Already blocked for longer.
    assert network.elements().count("until") == shown.count("until") == 3
    action.lift(lifted(V4))
    assert not network.connects(V4)


def test_an_element_put_there_by_hand_is_never_shortened(network: Network, action: Nftables) -> None:
    action.run(escalation(V4_FAR))
    by_hand = f"{{ {V4} timeout 1h, 203.0.113.64-203.0.113.90, 198.51.100.128/25 timeout 1h }}"
    network.inside("nft", "add", "element", "inet", "banhammer", "banned4", by_hand)
    action.run(escalation(V4, 3595))
    action.run(escalation("203.0.113.0/24", 60))
    shown = network.elements()
    assert f"{V4} timeout 1h" in shown
    assert "203.0.113.64-203.0.113.90," in shown
    action.lift(lifted("203.0.113.0/24"))
    action.lift(lifted("198.51.100.128/25"))
    assert network.elements().count("expires") == 2  # V4, and V4_FAR.
    assert network.has("203.0.113.70")


def test_setting_up_creates_what_is_missing_and_leaves_what_is_there(network: Network) -> None:
    for _ in range(3):  # As three workers would.
        Nftables({"nft": network.nft}).run(escalation(V4))
    rules = network.inside("nft", "list", "chain", "inet", "banhammer", "banned")
    assert "hook prerouting priority filter - 10; policy accept;" in rules
    assert rules.count("drop") == 2
    network.inside("nft", "insert", "rule", "inet", "banhammer", "banned", "counter")
    Nftables({"nft": network.nft}).run(escalation(V4_NEAR))
    rules = network.inside("nft", "list", "chain", "inet", "banhammer", "banned")
    assert rules.count("counter") == 1
    assert rules.count("drop") == 2
    assert "flags interval,timeout" in network.elements()
    assert "flags interval,timeout" in network.elements("banned6")


def test_rules_that_were_flushed_come_back_with_the_next_ban(network: Network, action: Nftables) -> None:
    action.run(escalation(V4))
    network.inside("nft", "flush", "ruleset")
    action.lift(lifted(V4))  # Nothing is there: nothing to do.
    action.run(escalation(V4))
    assert not network.connects(V4)


def test_names_are_the_settings(network: Network) -> None:
    action = Nftables({"nft": network.nft, "table": "guard", "set_v4": "four", "set_v6": "six"})
    action.run(escalation(V4))
    action.run(escalation(V6))
    assert V4 in network.elements("four", "guard")
    assert V6 in network.elements("six", "guard")
    assert not network.connects(V4)
    assert not network.connects(V6)


def test_without_setup_the_administrator_makes_the_table(network: Network) -> None:
    action = Nftables({"nft": network.nft, "setup": False})
    with pytest.raises(NftError, match="No such file or directory"):
        action.run(escalation(V4))
    assert "banhammer" not in network.inside("nft", "list", "tables")
    action.lift(lifted(V4))
    network.inside("nft", "add", "table", "inet", "banhammer")
    network.inside("nft", "add set inet banhammer banned4 { type ipv4_addr; flags interval,timeout; }")
    action.run(escalation(V4))
    assert network.has(V4)
    assert "chain" not in network.inside("nft", "list", "table", "inet", "banhammer")


def test_threads_and_workers_block_at_once(network: Network) -> None:
    actions = [Nftables({"nft": network.nft}) for _ in range(2)]
    failures: list[NftError] = []

    def block(action: Nftables, part: int) -> None:
        for index in range(part, 40, 4):
            try:
                action.run(escalation(f"198.51.100.{index}"))
            except NftError as error:
                failures.append(error)

    threads = [threading.Thread(target=block, args=(actions[part % 2], part)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert network.elements().count("until") == 40


OWN = """
import sys, time
sys.path.insert(0, {tests!r})
from nft_network import escalation
from banhammer import GiveUp
from banhammer_nftables import Nftables
for key in sys.argv[1:]:
    try:
        Nftables({{"nft": {nft!r}}}).run(escalation(key))
    except GiveUp as refusal:
        print(refusal)
    else:
        print(key, "is blocked")
"""


def test_the_machine_s_own_addresses_are_refused(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    packages = [str(Path(module.__file__ or "").parents[1]) for module in (banhammer, banhammer_nftables)]
    monkeypatch.setenv("PYTHONPATH", ":".join(packages))
    script = OWN.format(tests=str(Path(__file__).parent), nft=network.program("nft-here", 'exec nft "$@"'))
    said = network.inside(sys.executable, "-c", script, HOST4, "198.18.77.0/24", HOST6, V4).splitlines()
    assert said == [
        f"{HOST4!r} is not blocked: {HOST4} is an address of this machine",
        f"'198.18.77.0/24' is not blocked: {HOST4} is an address of this machine",
        f"{HOST6!r} is not blocked: {HOST6} is an address of this machine",
        f"{V4} is blocked",
    ]


def test_the_machine_reaches_itself_whatever_is_banned(network: Network, action: Nftables) -> None:
    action.run(escalation("198.18.77.0/24"))  # From outside its namespace, the action cannot know the address.
    assert "connected" in network.inside(
        *(sys.executable, "-c", f"import socket; socket.create_connection(({HOST4!r}, 8080), 1); print('connected')")
    )


AS_NOBODY = "setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set -all,+net_admin"


def test_the_capability_of_the_unit_is_enough_and_without_it_the_error_says_so(network: Network) -> None:
    enter = f"exec ip netns exec {network.host}"
    nobody = network.program("nft-nobody", f'{enter} {AS_NOBODY} nft "$@"')
    with pytest.raises(NftError, match="the process needs the capability CAP_NET_ADMIN"):
        Nftables({"nft": nobody}).run(escalation(V4))
    able = network.program(
        "nft-able", f'{enter} {AS_NOBODY} --no-new-privs --inh-caps +net_admin --ambient-caps +net_admin nft "$@"'
    )
    Nftables({"nft": able}).run(escalation(V4))
    assert not network.connects(V4)


def test_a_program_that_is_missing_or_hangs_is_an_error_that_says_so(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NftError, match="install the package nftables"):
        Nftables({"nft": str(network.folder / "absent")}).run(escalation(V4))
    monkeypatch.setattr("banhammer_nftables.kernel._SECONDS", 0.5)
    hanging = Nftables({"nft": network.program("nft-hangs", "exec sleep 60")})
    began = time.monotonic()
    with pytest.raises(NftError, match=r"not done within 0\.5 s"):
        hanging.run(escalation(V4))
    assert time.monotonic() - began < 3


def test_what_nft_says_is_escaped_and_cut(network: Network) -> None:
    loud = network.program("nft-loud", "printf 'bad\\nline\\033[31m\\377'; printf 'x%.0s' $(seq 1000) >&2; exit 1")
    shouting = network.program("nft-shouting", "printf 'bad\\nline\\033[31m\\377' >&2; exit 1")
    with pytest.raises(NftError) as caught:
        Nftables({"nft": loud}).run(escalation(V4))
    assert len(str(caught.value)) < 600
    with pytest.raises(NftError, match=r"refused: 'bad\\nline\\x1b\[31m\\ufffd'") as caught:
        Nftables({"nft": shouting}).run(escalation(V4))
    assert str(caught.value).isprintable()
