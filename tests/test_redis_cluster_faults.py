"""A cluster that loses nodes, fails over and moves slots; and Sentinels that name another master."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import pytest

from banhammer import BackendError, Decision, Hit, Policy, Threshold
from banhammer.backends.redis.wire import Names
from servers.cluster import Cluster, slot_of
from servers.ports import HOST, free_port
from servers.proxy import Proxy
from servers.sentinel import Sentinel
from servers.standalone import Standalone
from servers.waiting import until
from sides import KINDS, Side

HUGE = 1_000_000
LIMIT = 400
RULES = [
    Policy("counted", [Threshold(HUGE, "365d")], on_error="closed"),
    Policy("few", [Threshold(LIMIT, "365d")], on_error="closed"),
    Policy("bans", [Threshold(1, "1h", ban="1h")], on_error="open"),
]
NAMES = Names(16)
DEADLINE = "300ms"


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def slot(key: str) -> int:
    return slot_of(NAMES.bans(NAMES.partition(key)))


def keys_of(master: Standalone, cluster: Cluster, count: int) -> list[str]:
    """Return keys that a master holds."""
    held = {place for place in map(slot_of, map(NAMES.bans, range(16))) if cluster.holder(place) is master}
    return list(islice((key for number in itertools.count() if slot(key := f"key{number}") in held), count))


class Traffic:
    """Threads or tasks that hit until they are told to stop; `told` holds every decision, in order."""

    def __init__(self, side: Side, policy: str, keys: list[str], workers: int = 4) -> None:
        self.told: list[Decision] = []
        self._side = side
        self._policy = policy
        self._keys = keys
        self._workers = workers
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(1)
        self._done = self._pool.submit(self._run)

    def flows(self) -> None:
        """Wait until some more hits were decided."""
        seen = len(self.told)
        until(lambda: len(self.told) > seen + 5 * self._workers, "traffic")

    def stop(self) -> list[Decision]:
        self._stopped.set()
        self._done.result(60)
        self._pool.shutdown()
        return self.told

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.told += self._side.hit_at_once(self._workers, 5, self._policy, self._keys)


def normal(side: Side, keys: list[str]) -> bool:
    return not any(side.hit(key, "counted").degraded for key in keys)


def counted(side: Side, key: str) -> int:
    return HUGE - int(side.call("status", key, "counted").remaining[0])


def decides_nothing(side: Side, why: str) -> None:
    """Assert that every hit goes by `on_error`, and that an operator is told why."""
    assert all(side.hit("key", "counted").degraded for _ in range(5))
    with pytest.raises(BackendError, match=why):
        side.call("status", "key", "counted")


def test_a_failover_under_traffic_disturbs_no_decision(cluster: Cluster, kind: str) -> None:
    keys = [f"key{number}" for number in range(40)]
    master = cluster.masters()[0]
    with Side(kind, cluster.url, RULES) as side:
        traffic = Traffic(side, "counted", keys)
        try:
            traffic.flows()
            cluster.failover(cluster.replica_of(master))
            traffic.flows()
        finally:
            told = traffic.stop()
        assert not any(decision.degraded for decision in told)
        assert sum(counted(side, key) for key in keys) == len(told)


def test_a_slot_that_moves_under_load_admits_not_one_unit_too_many(cluster: Cluster, kind: str) -> None:
    key = "moving"
    source = cluster.holder(slot(key))
    target = next(master for master in cluster.masters() if master is not source)
    with Side(kind, cluster.url, RULES, deadline="50ms") as side:
        until(lambda: normal(side, [key]), "a first answer in time")
        traffic = Traffic(side, "few", [key])
        try:
            traffic.flows()
            cluster.move_slot(slot(key), source, target, lambda stage: traffic.flows())
            traffic.flows()
            until(lambda: normal(side, [key]), "normal again", seconds=5)
            until(lambda: not traffic.told[-1].allowed and not traffic.told[-1].degraded, "all of it used")
        finally:
            told = traffic.stop()
        assert cluster.holder(slot(key)) is target
    admitted = sum(decision.allowed for decision in told)
    unknown = sum(decision.degraded for decision in told)
    assert LIMIT - unknown <= admitted <= LIMIT
    cluster.move_slot(slot(key), target, source)


@pytest.mark.parametrize("end", [Standalone.kill, Standalone.stop])
def test_only_the_partitions_of_a_lost_master_degrade_until_its_replica_takes_over(
    cluster: Cluster, kind: str, end: Callable[[Standalone], None], caplog: pytest.LogCaptureFixture
) -> None:
    lost, *others = cluster.masters()
    lost_keys = keys_of(lost, cluster, 3)
    kept_keys = [key for other in others for key in keys_of(other, cluster, 3)]
    with Side(kind, cluster.url, RULES, deadline=DEADLINE) as side:
        until(lambda: normal(side, lost_keys + kept_keys), "a first answer in time")
        traffic = Traffic(side, "counted", kept_keys)
        try:
            traffic.flows()
            end(lost)
            assert side.hit(lost_keys[0], "counted").degraded
            batch = [Hit(key, "few") for key in (lost_keys[0], *kept_keys)]
            assert [each.degraded for each in side.call("hit_many", batch)] == [True] + [False] * len(kept_keys)
            traffic.flows()
            until(lambda: normal(side, lost_keys), "normal again")
            traffic.flows()
        finally:
            told = traffic.stop()
        assert normal(side, lost_keys + kept_keys)
    assert not any(decision.degraded for decision in told)
    said = [message for message in caplog.messages if f":{lost.port} " in message]
    assert ["is away," in said[0], "no longer needed" in said[1], len(said)] == [True, True, 2], said


def test_a_server_whose_cluster_is_down_is_away_until_it_is_up(
    cluster: Cluster, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With full coverage demanded, one slot that nobody serves stops every key; a call must not wait each time."""
    server, other = cluster.masters()[:2]
    keys, kept = keys_of(server, cluster, 3), keys_of(other, cluster, 3)
    spare = next(place for place in range(16_384) if cluster.holder(place) is server and place not in map(slot, keys))
    with Side(kind, cluster.url, RULES, deadline=DEADLINE) as side:
        until(lambda: normal(side, keys + kept), "a first answer in time")
        server.ask("CONFIG", "SET", "cluster-require-full-coverage", "yes")
        server.ask("CLUSTER", "DELSLOTS", spare)
        until(lambda: side.hit(keys[0], "counted").degraded, "down")
        begun = time.monotonic()
        assert all(side.hit(key, "counted").degraded for key in keys * 20)
        assert time.monotonic() - begun < 5, "60 calls, of which a few waited for their deadline"
        assert normal(side, kept)
        server.ask("CLUSTER", "ADDSLOTS", spare)
        server.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
        until(lambda: normal(side, keys), "normal again")
    assert [message.split(" ")[2:4] for message in caplog.messages] == [["is", "away,"], ["is", "back"]]


@pytest.mark.parametrize("missing", ["spare", "first"])
@pytest.mark.parametrize("reads", ["no", "yes"])
def test_every_server_of_a_cluster_that_is_down_is_away_also_the_last_that_is_asked_for_slots(
    cluster: Cluster, kind: str, reads: str, missing: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where what is missing is the slot of the first partition, of which one could be asked."""
    masters = cluster.masters()
    keys = [keys_of(master, cluster, 1)[0] for master in masters]
    first, taken = slot_of(NAMES.bans(0)), set(map(slot_of, map(NAMES.bans, range(16))))
    held = {place: cluster.holder(place) for place in range(0, 16_384, 999) if place not in taken}
    lost = {master: next(place for place, holder in held.items() if holder is master) for master in masters}
    if missing == "first":
        lost = dict.fromkeys(masters, first)
        keys = [key for key in keys if slot(key) != first]
    owner, away = cluster.holder(first), len({cluster.holder(slot(key)).port for key in keys})
    with Side(kind, cluster.url, RULES, deadline=DEADLINE) as side:
        until(lambda: normal(side, keys), "a first answer in time")
        try:
            for master, place in lost.items():
                master.ask("CONFIG", "SET", "cluster-allow-reads-when-down", reads)
                master.ask("CONFIG", "SET", "cluster-require-full-coverage", "yes")
                master.ask("CLUSTER", "DELSLOTS", place)
            until(lambda: all(side.hit(key, "counted").degraded for key in keys), "down")
            until(
                lambda: all(side.hit(key, "counted").degraded for key in keys) and len(caplog.messages) >= away, "away"
            )
            assert all(side.hit(key, "counted").degraded for key in keys * 100)
        finally:
            for master, place in lost.items():
                if missing == "spare" or master is owner:
                    master.ask("CLUSTER", "ADDSLOTS", place)
                master.ask("CONFIG", "SET", "cluster-require-full-coverage", "no")
                master.ask("CONFIG", "SET", "cluster-allow-reads-when-down", "no")
        until(lambda: normal(side, keys), "normal again")
    said = [message.split(" ")[3] for message in caplog.messages]
    assert said == ["away,"] * away + ["back"] * away
    assert all("The cluster is down" in message for message in caplog.messages[:away])


def test_a_slot_that_nobody_serves_concerns_its_own_partition_also_at_the_first_contact(
    cluster: Cluster, kind: str
) -> None:
    key, owner = "key0", cluster.holder(slot("key0"))
    others = [other for number in range(1, 40) if slot(other := f"key{number}") != slot(key)]
    for master in cluster.masters():
        master.ask("CLUSTER", "DELSLOTS", slot(key))
    with Side(kind, cluster.url, RULES, deadline=DEADLINE) as side:
        try:
            until(lambda: normal(side, others), "decided but for one slot")
            assert side.hit(key, "counted").degraded
        finally:
            owner.ask("CLUSTER", "ADDSLOTS", slot(key))
        until(lambda: normal(side, [key, *others]), "all decided")


def test_an_entry_that_is_out_of_date_is_repaired_by_moved(cluster: Cluster, kind: str) -> None:
    key = "moving"
    source = cluster.holder(slot(key))
    target = next(master for master in cluster.masters() if master is not source)
    with Side(kind, cluster.url, RULES) as side:
        assert normal(side, [key])
        cluster.move_slot(slot(key), source, target)
        assert normal(side, [key])
        asked = calls(source)
        assert normal(side, [key])
        assert (calls(source), counted(side, key)) == (asked, 3)
    cluster.move_slot(slot(key), target, source)


def calls(node: Standalone) -> int:
    return int(node.ask("INFO", "commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])


def test_the_first_contact_passes_over_a_dead_seed(cluster: Cluster, kind: str) -> None:
    url = cluster.url.replace("redis+cluster://", f"redis+cluster://{HOST}:{free_port()},")
    with Side(kind, url, RULES) as side:
        assert normal(side, ["key"])


def test_a_silent_seed_leaves_half_of_the_deadline_to_the_others(cluster: Cluster, kind: str) -> None:
    silent, other, _ = cluster.masters()
    (key,) = keys_of(other, cluster, 1)
    silent.stop()
    with Side(kind, f"redis+cluster://{HOST}:{silent.port},{HOST}:{other.port}", RULES, deadline="2s") as side:
        assert not side.hit(key, "counted").degraded
    silent.cont()


def test_a_master_that_hangs_and_was_replaced_is_asked_no_more(cluster: Cluster, kind: str) -> None:
    seed, silent, _ = cluster.masters()
    (key,) = keys_of(silent, cluster, 1)
    with Side(kind, f"redis+cluster://{HOST}:{seed.port}", RULES, deadline=DEADLINE) as side:
        assert normal(side, [key])
        silent.stop()
        until(lambda: normal(side, [key]), "its replica decides")
        until(lambda: side.backend._keeper._thread is None, "the keeper ends")
        assert all(server._asked is None for server in side.backend._topology.servers())
        silent.cont()
        until(lambda: silent.ask("ROLE")[0] == b"slave", "a replica now")


def test_what_another_number_of_partitions_left_behind_is_not_listed(cluster: Cluster, kind: str) -> None:
    fewer = Names(8)
    keys = [f"{number:{width}}" for number in range(300) for width in (3, 200)]
    stays = {key for key in keys if fewer.record("bans", key)[1] == NAMES.record("bans", key)[1]}
    assert {len(key) for key in stays} == {3, 200}
    assert stays < set(keys)
    with Side("sync", f"{cluster.url}?partitions=8", RULES) as before:
        before.hammer.hit_many([Hit(key, "bans") for key in keys for _ in range(2)])
        assert {ban.key for ban in before.call("bans")} == set(keys)
    with Side(kind, cluster.url, RULES) as side:
        assert {ban.key for ban in side.call("bans")} == stays
        listed = {status.key for status in side.call("status_all")}
        assert {key for key in listed if len(key) == 3} == {key for key in stays if len(key) == 3}
        assert all(side.call("status", key, "bans").ban is not None for key in stays)


def test_the_first_contact_with_slow_seeds_takes_more_than_one_call_and_comes(cluster: Cluster, kind: str) -> None:
    first, second, _ = cluster.masters()
    with Proxy(first.port) as one, Proxy(second.port) as other:
        one.delay = other.delay = 0.7
        url = f"redis+cluster://{HOST}:{one.port},{HOST}:{other.port}"
        with Side(kind, url, RULES, deadline="1s") as side:
            assert any(not side.hit("key", "counted").degraded for _ in range(3))


def test_a_silent_seed_costs_one_deadline_and_no_more(cluster: Cluster, kind: str) -> None:
    silent = cluster.masters()[0]
    key = keys_of(cluster.masters()[1], cluster, 1)[0]
    seeds = sorted(cluster.nodes, key=lambda node: node is not silent)
    silent.stop()
    with Side(
        kind, "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in seeds), RULES, deadline=DEADLINE
    ) as side:
        begun = time.monotonic()
        side.hit(key, "counted")
        until(lambda: normal(side, [key]), "normal", seconds=5)
        assert time.monotonic() - begun < 3
    silent.cont()


def test_lists_over_a_cluster_hold_all_that_stands_while_traffic_flows(cluster: Cluster, kind: str) -> None:
    standing = {f"standing{number}" for number in range(900)}
    with Side("sync", cluster.url, RULES) as other, Side(kind, cluster.url, RULES) as side:
        other.hammer.hit_many([Hit(key, "bans") for key in standing for _ in range(2)])
        traffic = Traffic(other, "bans", [f"passing{number}" for number in range(2_000)])
        try:
            traffic.flows()
            bans = side.call("bans")
            records = side.call("status_all")
        finally:
            told = traffic.stop()
    assert not any(decision.degraded for decision in told)
    assert standing <= {ban.key for ban in bans}
    assert standing <= {status.key for status in records if status.ban is not None}


def until_normal(side: Side, key: str, told: list[Decision]) -> None:
    """Hit until the store decides again; what a degraded decision did to the store is not known."""

    def decided() -> bool:
        told.append(side.hit(key, "counted"))
        return not told[-1].degraded

    until(decided, "normal again")


def test_a_dead_master_of_sentinels_is_replaced_within_seconds(sentinel: Sentinel, kind: str) -> None:
    key, told = f"replaced-{kind}", list[Decision]()
    with Side(kind, sentinel.url, RULES, deadline=DEADLINE) as side:
        until_normal(side, key, told)
        master, replica = sentinel.master, sentinel.replica
        until(lambda: master.ask("WAIT", 1, 100) == 1, "replicated")
        master.kill()
        told.append(side.hit(key, "counted"))
        assert told[-1].degraded
        until_normal(side, key, told)
        until(lambda: sentinel.master is replica, "named by all Sentinels")
        assert 2 <= counted(side, key) <= len(told)


def test_a_master_that_sentinels_put_down_is_not_written_any_more(sentinel: Sentinel, kind: str) -> None:
    key, told = f"put-down-{kind}", list[Decision]()
    with Side(kind, sentinel.url, RULES, deadline=DEADLINE) as side:
        until_normal(side, key, told)
        old, new = sentinel.master, sentinel.replica
        until(lambda: old.ask("WAIT", 1, 100) == 1, "replicated")
        sentinel.failover()
        until_normal(side, key, told)
        before, asked = counted(side, key), calls(old)
        assert 2 <= before <= len(told)
        for _ in range(20):
            until_normal(side, key, told)
        assert (calls(old), old.ask("ROLE")[0]) == (asked, b"slave")
        assert (counted(side, key), new.ask("ROLE")[0]) == (before + 20, b"master")


def test_the_first_contact_passes_over_a_dead_sentinel(sentinel: Sentinel, kind: str) -> None:
    url = sentinel.url.replace("redis+sentinel://", f"redis+sentinel://{HOST}:{free_port()},")
    with Side(kind, url, RULES) as side:
        assert normal(side, ["key"])


def test_sentinels_that_do_not_know_the_service_leave_it_to_the_policy(
    sentinel: Sentinel, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Side(kind, sentinel.url.replace("mymaster", "other"), RULES) as side:
        decides_nothing(side, r"no Sentinel tells the master .*it knows no service 'other'")
    said = set(caplog.messages)
    assert 0 < len(said) == len(caplog.messages)
    assert all("refuses, policies decide by on_error: it knows no service 'other'" in words for words in said), said


def test_a_cluster_that_may_not_tell_its_slots_says_so_once_and_again_when_it_may(
    cluster: Cluster, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    masters = cluster.masters()
    for master in masters:
        master.ask("ACL", "SETUSER", "blind", "on", ">sesame", "~bh:*", "+@all", "-cluster")
    with Side(kind, cluster.url.replace("redis+cluster://", "redis+cluster://blind:sesame@"), RULES) as side:
        decides_nothing(side, r"where its slots are .*no permissions")
        for master in masters:
            master.ask("ACL", "SETUSER", "blind", "+cluster|slots")
        until(lambda: normal(side, ["key"]), "normal again")
    said = [message.split(" ")[1:4] for message in caplog.messages if "away" not in message]
    refused = [server for server, *what in said if what == ["refuses,", "policies"]]
    decided = [server for server, *what in said if what == ["decides", "again"]]
    assert 0 < len(decided) <= len(refused) == len(set(refused)) <= len(masters)
    assert [server for server, *_ in said] == refused + decided
    assert len(decided) == len(set(decided))
    assert "sesame" not in caplog.text


def test_a_server_that_is_in_no_cluster_says_so(
    standalone: Standalone, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Side(kind, standalone.url.replace("redis://", "redis+cluster://"), RULES) as side:
        decides_nothing(side, r"where its slots are .*cluster support disabled")
    (said,) = caplog.messages
    assert "cluster support disabled" in said
