"""A store for tests, one server or a cluster, and what its servers tell of it."""

from __future__ import annotations

from servers.cluster import Cluster
from servers.standalone import Standalone
from servers.waiting import until

Store = Standalone | Cluster


def servers_of(store: Store) -> list[Standalone]:
    """Return the servers that hold keys."""
    return [store] if isinstance(store, Standalone) else store.masters()


def connections(store: Store) -> int:
    """Return how many clients are connected to the servers that hold keys, without the one that asks."""
    return sum(_clients(server) for server in servers_of(store))


def at_rest(store: Store) -> None:
    """End the connections that other tests left: how soon they would go is not known."""
    for server in servers_of(store):
        server.ask("CLIENT KILL", "TYPE", "normal", "SKIPME", "yes")
    until(lambda: connections(store) == 0, "at rest")


def script_calls(store: Store) -> int:
    """Return how often scripts were called since the last flush of the counts, or the start."""
    found = [server.ask("INFO", "commandstats") for server in servers_of(store)]
    return sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for stats in found for name in ("evalsha", "eval"))


def forget_counts(store: Store) -> None:
    """Count commands from now on."""
    for server in servers_of(store):
        server.ask("CONFIG RESETSTAT")


def _clients(server: Standalone) -> int:
    return sum(each["flags"] == "N" and each["cmd"] != "client|list" for each in server.ask("CLIENT LIST"))
