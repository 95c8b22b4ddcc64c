"""`banhammer plugins`: which plugins there are, where they come from, what they give, and which were left out."""

from __future__ import annotations

import json
from typing import Any

from banhammer import plugins
from banhammer.explain import visible


def show_plugins(*, as_json: bool) -> None:
    """Print every plugin that was found."""
    found = [_object(plugin) for plugin in plugins.loaded().all]
    if as_json:
        print(json.dumps({"plugins": found}, indent=2))
        return
    for plugin in found:
        version = f" {plugin['version']}" if plugin["version"] else ""
        place = f" ({plugin['distribution']}{version})"
        print(f"{visible(plugin['name'])}{place}: {_told(plugin)}")


def _object(plugin: plugins.Plugin) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "hooks": list(plugin.hooks),
        "actions": sorted(plugin.gives("banhammer_actions", {"settings": {}})),
        "schemes": sorted(plugin.gives("banhammer_backends", {})),
        "problem": plugin.problem,
    }


def _told(plugin: dict[str, Any]) -> str:
    if plugin["problem"]:
        return f"left out, {visible(plugin['problem'])}"
    given = [
        f"{what} {', '.join(map(visible, plugin[name]))}"
        for name, what in (("actions", "actions"), ("schemes", "stores"))
        if plugin[name]
    ]
    if "banhammer_escalated" in plugin["hooks"]:
        given.append("watches escalations")
    return "; ".join(given) or f"hooks {', '.join(plugin['hooks'])}; gives nothing without settings"
