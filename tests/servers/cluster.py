"""A cluster of masters and replicas, formed, moved about and healed by plain commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from redis.crc import key_slot

from servers.cluster_view import myself, view_of
from servers.ports import HOST, free_port
from servers.programs import Program
from servers.standalone import Standalone
from servers.waiting import until

SLOTS = 16_384
AT_ONCE = 100
"""How many keys one MIGRATE takes."""

During = Callable[[str], None]
"""Called while a slot moves: `"open"` before the first key went, `"half"` after half of them, `"moved"` after all."""


class Cluster:
    """A running cluster; `nodes` holds the masters that it began with, then their replicas.

    Every node can be killed, stopped and started; `settle` waits until the living agree, `heal` until all do.
    `node_timeout` (ms): how long a silent node passes for alive.
    """

    def __init__(self, program: Program, masters: int = 3, replicas: int = 3, *, node_timeout: int = 1_000) -> None:
        self.nodes: list[Standalone] = []
        try:
            for _ in range(masters + replicas):
                self.nodes.append(_node(program, node_timeout))
            self._form(masters)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The URL that names every node."""
        return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes)

    def masters(self) -> list[Standalone]:
        """Return the living nodes that hold slots."""
        return [node for node in self._living() if _owns(node)]

    def replicas(self) -> list[Standalone]:
        """Return the living nodes that follow another."""
        return [node for node in self._living() if "slave" in myself(node).flags]

    def replica_of(self, master: Standalone) -> Standalone:
        """Return a living replica of `master`."""
        name = _name(master)
        return next(node for node in self.replicas() if myself(node).master == name)

    def holder(self, slot: int) -> Standalone:
        """Return the master that holds a slot."""
        return next(node for node in self.masters() if _owns(node, slot))

    def holder_of(self, key: str | bytes) -> Standalone:
        """Return the master that holds a key's slot."""
        return self.holder(slot_of(key))

    def failover(self, replica: Standalone) -> None:
        """Make a replica take its master's place, both alive (CLUSTER FAILOVER), and wait until all know."""
        replica.ask("CLUSTER", "FAILOVER")
        until(lambda: bool(_owns(replica)), f"{replica} a master")
        self.settle()

    def move_slot(self, slot: int, source: Standalone, target: Standalone, during: During = lambda stage: None) -> None:
        """Move a slot and its keys to another master, step by step as an operator does."""
        target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", _name(source))
        source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", _name(target))
        during("open")
        half = source.ask("CLUSTER", "COUNTKEYSINSLOT", slot) // 2
        _migrate(source, target, source.ask("CLUSTER", "GETKEYSINSLOT", slot, half))
        during("half")
        while keys := source.ask("CLUSTER", "GETKEYSINSLOT", slot, AT_ONCE):
            _migrate(source, target, keys)
        during("moved")
        for node in [target, source, *(each for each in self.masters() if each not in (source, target))]:
            node.ask("CLUSTER", "SETSLOT", slot, "NODE", _name(target))
        self.settle()

    def settle(self) -> None:
        """Wait until the living nodes agree on living masters for all slots, and every replica is in step."""
        until(self._agrees, "a cluster that agrees")

    def heal(self) -> None:
        """Make every node run and the cluster whole, whatever a test did to it; masters stay where they are now."""
        for node in self.nodes:
            node.heal()
        self.settle()

    def flush(self) -> None:
        """Delete every key, and every script of every node."""
        for node in self.masters():
            node.ask("FLUSHALL")
        for node in self.nodes:
            node.ask("SCRIPT FLUSH")

    def close(self) -> None:
        """End every node."""
        for node in self.nodes:
            node.close()

    def _living(self) -> list[Standalone]:
        return [node for node in self.nodes if node.running]

    def _form(self, masters: int) -> None:
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            for other in self.nodes[:number]:
                node.ask("CLUSTER", "MEET", HOST, other.port, myself(other).bus)
        for number, node in enumerate(self.nodes[:masters]):
            first, last = SLOTS * number // masters, SLOTS * (number + 1) // masters - 1
            node.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
        until(self._all_met, "nodes that have met")
        for number, node in enumerate(self.nodes[masters:]):
            node.ask("CLUSTER", "REPLICATE", _name(self.nodes[number % masters]))
        self.settle()

    def _all_met(self) -> bool:
        views = [view_of(node) for node in self.nodes]
        return all(len(view) == len(self.nodes) and all(seen.sound for seen in view) for view in views)

    def _agrees(self) -> bool:
        living = self._living()
        alive = {node.port for node in living}
        views = [view_of(node) for node in living]
        owners = {tuple(sorted((*each, seen.port) for seen in view for each in seen.slots)) for view in views}
        if len(owners) != 1 or not all(seen.sound for view in views for seen in view if seen.port in alive):
            return False
        ranges = owners.pop()
        return (
            sum(last - first + 1 for first, last, _ in ranges) == SLOTS
            and {port for _, _, port in ranges} <= alive
            and all(b"cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in living)
            and all(_is_in_step(node) for node in living)
        )


def slot_of(key: str | bytes) -> int:
    """Return the slot of a key."""
    return int(key_slot(key.encode() if isinstance(key, str) else key))


def _node(program: Program, node_timeout: int) -> Standalone:
    extra = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
    extra += ["--cluster-node-timeout", str(node_timeout), "--cluster-require-full-coverage", "no"]
    extra += ["--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0"]
    return Standalone(program, extra=extra)


def _name(node: Standalone) -> str:
    return str(node.ask("CLUSTER", "MYID").decode())


def _owns(node: Standalone, slot: int | None = None) -> bool:
    """Whether a node is a master that holds a slot, by default any."""
    me = myself(node)
    held = [first for first, last in me.slots if slot is None or first <= slot <= last]
    return "master" in me.flags and bool(held)


def _is_in_step(node: Standalone) -> bool:
    """Whether a node is a master with slots, or follows one."""
    found = node.ask("INFO", "replication")
    return found["master_link_status"] == "up" if found["role"] == "slave" else _owns(node)


def _migrate(source: Standalone, target: Standalone, keys: Sequence[bytes]) -> None:
    if keys:
        source.ask("MIGRATE", HOST, target.port, "", 0, 5_000, "KEYS", *keys)
