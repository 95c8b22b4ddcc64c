"""Report banhammer's escalations over HTTP: the action `webhook`, and `verify` for those who receive them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from banhammer import hookimpl
from banhammer_webhook.settings import Settings
from banhammer_webhook.signing import verify
from banhammer_webhook.webhook import DeliveryError, Webhook

__all__ = ["DeliveryError", "Settings", "Webhook", "banhammer_actions", "verify"]


@hookimpl
def banhammer_actions(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Webhook]:
    """Return the action `webhook` where the configuration has a table `[actions.webhook]`."""
    return {"webhook": Webhook.from_settings(settings["webhook"])} if "webhook" in settings else {}
