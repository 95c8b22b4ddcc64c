"""Delivery on a cluster: slots that move, a failover, a server that is away."""

from __future__ import annotations

from time import monotonic, sleep

import pytest

from acting import PATIENCE, Act
from banhammer.backends.redis import RedisBackend
from delivery import NOTHING, ask, bans, hammer_on, left_over, names_of, note, partitions, trap, working
from servers.cluster import Cluster, slot_of
from servers.standalone import Standalone
from servers.waiting import until


def partition_on(store: Cluster, server: Standalone, want: bool = True) -> list[str]:
    """Return keys whose partition is, or is not, on a server."""
    names = names_of(store)
    there = {each for each in partitions(store) if store.holder_of(names.escalations(each)) is server}
    return [key for key in (f"k{number}" for number in range(400)) if (names.partition(key) in there) is want]


def test_a_slot_that_moves_takes_its_escalations_along(cluster: Cluster) -> None:
    """A worker finds them before, amid and after the move."""
    act = Act(deadline="100ms", then=lambda _: sleep(0.005))
    names = names_of(cluster)
    slot = slot_of(names.escalations(3))
    keys = [f"k{number}" for number in range(2_000) if names.partition(f"k{number}") == 3][:100]
    with hammer_on(cluster, [trap("note")]) as hammer:
        for key in keys[:80]:
            assert hammer.hit(key, "trap").verdict == "banned"
        source = cluster.holder(slot)
        target = next(each for each in cluster.masters() if each is not source)
        with working(cluster, {"note": act}):
            until(lambda: bool(act.ran), "one run")
            cluster.move_slot(slot, source, target)
            for key in keys[80:]:
                assert hammer.hit(key, "trap").verdict == "banned"
            until(lambda: {each.key for each in act.ran} == set(keys), "all run")
            until(lambda: left_over(cluster) == NOTHING, "nothing left")
        assert {each.key: each.id for each in act.ran} == bans(hammer)


def test_a_failover_loses_no_escalation_that_its_ban_survives(cluster: Cluster) -> None:
    act = note()
    with hammer_on(cluster, [trap("note")], actions={"note": act}) as hammer:
        master = cluster.masters()[0]
        keys = partition_on(cluster, master)[:40]
        for key in keys[:20]:
            hammer.hit(key, "trap")
        assert hammer.drain(PATIENCE)
        cluster.failover(cluster.replica_of(master))
        for key in keys[20:]:
            hammer.hit(key, "trap")
        until(lambda: {each.key for each in act.ran} == set(keys), "all run")
        in_force = bans(hammer)
    by_key = {each.key: each.id for each in act.ran}
    assert all(by_key[key] == id for key, id in in_force.items())


def test_a_server_that_is_away_keeps_no_escalation_of_the_others_waiting(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    """For longer than a worker may believe to hold what it cannot keep: one that waits to be tried again is there."""
    act, retried = note(), Act([OSError("not yet")], backoff="1h", deadline="1s")
    master = cluster.masters()[0]
    replica = cluster.replica_of(master)
    here, elsewhere = partition_on(cluster, master), iter(partition_on(cluster, master, want=False))
    rules = [trap("note"), trap("again", name="again")]
    with hammer_on(cluster, rules) as hammer, working(cluster, {"note": act, "again": retried}):
        hammer.hit(here[0], "again")
        until(lambda: len(retried.calls) == 1, "one in hand of the server")
        master.stop()
        replica.stop()
        try:
            ends = monotonic() + 5.0
            for turn, key in enumerate(elsewhere, 1):
                hammer.hit(key, "trap")
                until(lambda turn=turn: len(act.ran) == turn, "run")
                if monotonic() > ends:
                    break
                sleep(0.1)
        finally:
            cluster.heal()
    told = [each.getMessage() for each in caplog.records]
    assert sum(line.startswith("escalations wait") for line in told) == 1, "logged once"
    assert "escalations are delivered again" not in told


KEYS = [f"203.0.113.{number}" for number in range(40)]


def test_a_partition_that_refuses_keeps_no_escalation_of_the_others_waiting(cluster: Cluster) -> None:
    act, backend = note(), RedisBackend(cluster.url)
    refusing = names_of(cluster).partition(KEYS[0])
    others = [key for key in KEYS if names_of(cluster).partition(key) != refusing]
    ask(cluster, refusing, "SET", "escalations", "no stream")
    with hammer_on(cluster, [trap("note"), trap("late", name="later")]) as hammer:
        for key in others:
            hammer.hit(key, "trap")
        assert len(backend.outbox().take(1_000)) == len(others)
        until(lambda: len(backend.outbox().claim(1_000, 0.001)) == len(others), "claimed by another")
        for key in others:
            hammer.hit(key, "later")
        with working(cluster, {"late": act}, backend):
            until(lambda: len(act.ran) == len(others), "run")
