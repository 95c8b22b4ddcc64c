"""Every store decides alike: memory, one server and a cluster, threads and tasks, at one injected time (G15).

`HYPOTHESIS_PROFILE=long` takes 20,000 steps on each server program.
"""

from __future__ import annotations

import os
import secrets

from banhammer.backends.redis.backend import RedisBackend
from redis_walk import Walk
from servers.cluster import Cluster
from servers.standalone import Standalone

WALKS, STEPS = (40, 500) if os.environ.get("HYPOTHESIS_PROFILE") == "long" else (2, 120)


def test_every_store_takes_the_same_walk(standalone: Standalone, cluster: Cluster) -> None:
    """Each verb on all of them, at random sync or awaited: equal decisions, bans, records, escalations."""
    for _ in range(WALKS):
        standalone.flush()
        cluster.flush()
        walk_once(standalone, cluster)


def walk_once(standalone: Standalone, cluster: Cluster) -> None:
    alone, spread = (RedisBackend(server.url, deadline="30s") for server in (standalone, cluster))

    def write(backend: RedisBackend, name: str, packed: bytes | None) -> None:
        server = standalone if backend is alone else cluster.holder_of(name)
        server.ask("DEL", name)
        command = ("RPUSH", name, "x") if packed is None else ("SET", name, packed)
        server.ask(*command)

    walk = Walk(str(secrets.randbits(32)), (alone, spread), write)
    try:
        walk.take(STEPS)
        walk.compare_escalations()
    finally:
        walk.close()
    assert alone.damaged > 0
