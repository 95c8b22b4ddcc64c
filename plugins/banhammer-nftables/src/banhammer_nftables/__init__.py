"""A plugin of banhammer: the action `nftables` blocks a banned address or network in the kernel."""

from collections.abc import Mapping
from typing import Any

from banhammer import hookimpl
from banhammer_nftables.action import Nftables
from banhammer_nftables.kernel import NftError

__all__ = ["NftError", "Nftables", "banhammer_actions"]


@hookimpl
def banhammer_actions(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Nftables]:
    """Give the action `nftables`, made from its table `[actions.nftables]` where there is one."""
    return {"nftables": Nftables(settings.get("nftables", {}))}
