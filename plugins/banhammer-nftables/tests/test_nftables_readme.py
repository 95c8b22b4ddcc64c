"""The README says what is true: the settings, and what nft lists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from banhammer_nftables import Nftables, banhammer_actions
from banhammer_nftables.settings import _SETTINGS
from nft_network import V4, Network, escalation

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def test_the_example_is_a_configuration() -> None:
    assert list(banhammer_actions(tomllib.loads(block("toml"))["actions"])) == ["nftables"]


def test_the_table_of_settings_names_each_with_its_default() -> None:
    told: dict[str, str] = {}
    for names, defaults in re.findall(r"^\| (`.*?`) \| (.*?) \|", README, re.MULTILINE):
        words = defaults.replace("`", "").split(", ")
        told |= dict(zip(re.findall(r"`(\w+)`", names), words, strict=True))
    spelled = {"[]": (), "true": True, "none": 0}
    read = {name: spelled.get(text, int(text) if text.isdigit() else text.strip('"')) for name, text in told.items()}
    assert read == {name: default for name, (default, _, _) in _SETTINGS.items()}


def test_nft_lists_what_is_shown(network: Network) -> None:
    until = 1767830400.0
    action = Nftables({"nft": network.nft}, clock=lambda: until - 7 * 86400)
    action.run(escalation(V4, until=until))
    action.run(escalation("2001:db8:1:2::/64", until=float("inf")))
    listed = network.inside("nft", "list", "table", "inet", "banhammer")
    assert re.sub(r"(expires 6d23h59m59s)\d+ms", r"\1", listed) == block("text")


def test_the_table_as_shown_is_one_that_an_administrator_may_load(network: Network) -> None:
    rules = re.sub(r"\t\telements = .*\n", "", block("text"))
    path = network.folder / "rules.nft"
    path.write_text(rules)
    network.inside("nft", "-f", str(path))
    Nftables({"nft": network.nft, "setup": False}).run(escalation(V4))
    assert not network.connects(V4)
