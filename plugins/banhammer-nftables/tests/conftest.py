"""The network that the tests block addresses in, and the action on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from banhammer_nftables import Nftables
from nft_network import Network, wired


@pytest.fixture(scope="session")
def wires(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    with wired(tmp_path_factory.mktemp("network")) as network:
        yield network


@pytest.fixture
def network(wires: Network) -> Network:
    """The network, with no rules on the protected machine."""
    wires.inside("nft", "flush", "ruleset")
    return wires


@pytest.fixture
def action(network: Network) -> Nftables:
    return Nftables({"nft": network.nft})
