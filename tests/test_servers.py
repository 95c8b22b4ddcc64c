"""The servers that other tests rely on do what they say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Refused
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as Late
from redis.retry import Retry

from servers import programs
from servers.cluster import Cluster, slot_of
from servers.programs import MissingServerError, Program
from servers.proxy import Proxy
from servers.sentinel import Sentinel
from servers.standalone import Standalone
from servers.waiting import until

SHORT = 0.1
ONCE = Retry(NoBackoff(), 0)
SERVE = """
from servers import programs, standalone
print(standalone.Standalone(programs.default()).pid, flush=True)
input()
"""


@pytest.fixture(scope="module")
def behind() -> Iterator[Standalone]:
    with Standalone(programs.valkey()) as server:
        yield server


@pytest.fixture
def proxy(behind: Standalone) -> Iterator[Proxy]:
    behind.flush()
    with Proxy(behind.port) as found:
        yield found


def through(proxy: Proxy) -> Redis:
    """A client that sends each command once, and greets with none."""
    client: Redis = Redis.from_url(proxy.url, protocol=2, driver_info=None, socket_timeout=SHORT, retry=ONCE)
    return client


def test_a_standalone_server_answers_and_is_empty(standalone: Standalone) -> None:
    client = standalone.client()
    assert client.dbsize() == 0
    assert client.set("key", "value")
    assert client.get("key") == b"value"


def test_each_test_finds_the_standalone_server_empty(standalone: Standalone) -> None:
    assert standalone.client().dbsize() == 0


def test_a_killed_server_starts_again_on_its_port(standalone: Standalone) -> None:
    port = standalone.port
    standalone.kill()
    assert not standalone.running
    with pytest.raises(Refused):
        standalone.client().ping()
    standalone.start()
    assert standalone.port == port
    assert standalone.client().ping()


def test_a_stopped_server_is_silent_until_it_goes_on(standalone: Standalone) -> None:
    client = standalone.client(socket_timeout=SHORT, retry=ONCE)
    standalone.stop()
    with pytest.raises(Late):
        client.ping()
    standalone.cont()
    until(lambda: bool(client.ping()), "answering")


def test_healing_brings_back_a_killed_and_a_stopped_server(standalone: Standalone) -> None:
    standalone.kill()
    standalone.heal()
    standalone.stop()
    standalone.heal()
    assert standalone.client().ping()


def test_a_password_and_a_unix_socket_are_in_the_url(redis_program: Program) -> None:
    with Standalone(redis_program, unix=True, password="a/b:c@d") as server:
        assert server.url.startswith("redis+unix://:a%2Fb%3Ac%40d@/")
        assert server.client().ping()
        with pytest.raises(RedisError, match="Authentication required"):
            Redis(port=server.port, protocol=2, driver_info=None, retry=ONCE).ping()


def test_extra_arguments_reach_the_server() -> None:
    with Standalone(programs.default(), extra=["--maxmemory", "1mb"]) as server:
        assert server.client().config_get("maxmemory") == {"maxmemory": "1048576"}


def test_a_server_that_cannot_start_says_why() -> None:
    with pytest.raises(RuntimeError, match="no-such-setting"):
        Standalone(programs.default(), extra=["--no-such-setting", "1"])


def test_what_is_missing_is_an_error_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingServerError, match="apt-get install redis-server"):
        programs.redis()
    monkeypatch.setattr(programs, "WHEEL", "no-such-wheel")
    with pytest.raises(MissingServerError, match="pip install"):
        programs.valkey()
    with pytest.raises(MissingServerError, match="TLS"):
        Standalone(Program("valkey", "valkey-server"), tls=True)


def test_servers_die_with_the_tests(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        cwd=Path(__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    with child:
        assert child.stdout is not None
        server = int(child.stdout.readline())
        assert _alive(server)
        child.send_signal(signal.SIGKILL)
    until(lambda: not _alive(server), "the end of the server")


def _alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_cluster_has_three_masters_each_with_a_replica(cluster: Cluster) -> None:
    masters = cluster.masters()
    assert len(masters) == 3
    assert {cluster.replica_of(master) for master in masters} == set(cluster.replicas())
    assert cluster.url.count(",") == 5


def test_a_replica_takes_its_masters_place(cluster: Cluster) -> None:
    master = cluster.masters()[0]
    replica = cluster.replica_of(master)
    cluster.failover(replica)
    assert replica in cluster.masters()
    assert cluster.replica_of(replica) is master


def test_a_slot_moves_with_its_keys_step_by_step(cluster: Cluster) -> None:
    keys = [b"{moving}%d" % number for number in range(10)]
    slot = slot_of(keys[0])
    source = cluster.holder(slot)
    target = next(master for master in cluster.masters() if master is not source)
    for key in keys:
        source.ask("SET", key, "value")
    seen = []

    def during(stage: str) -> None:
        seen.append((stage, *(node.ask("CLUSTER", "COUNTKEYSINSLOT", slot) for node in (source, target))))

    cluster.move_slot(slot, source, target, during)
    assert seen == [("open", 10, 0), ("half", 5, 5), ("moved", 0, 10)]
    assert cluster.holder_of(keys[0]) is target
    with pytest.raises(ResponseError, match=f"{slot} 127.0.0.1:{target.port}"):
        source.ask("GET", keys[0])
    cluster.move_slot(slot, target, source)
    assert cluster.holder_of(keys[0]) is source


def test_a_dead_master_is_replaced_and_healing_brings_it_back(cluster: Cluster) -> None:
    master = cluster.masters()[0]
    replica = cluster.replica_of(master)
    master.kill()
    cluster.settle()
    assert replica in cluster.masters()
    cluster.heal()
    assert cluster.replica_of(replica) is master


def test_sentinels_replace_a_dead_master(sentinel: Sentinel) -> None:
    master, replica = sentinel.master, sentinel.replica
    master.kill()
    sentinel.settle()
    assert sentinel.master is replica


def test_sentinels_name_the_master_and_replace_it(sentinel: Sentinel) -> None:
    master, replica = sentinel.master, sentinel.replica
    assert master.ask("ROLE")[0] == b"master"
    sentinel.failover()
    assert (sentinel.master, sentinel.replica) == (replica, master)
    assert sentinel.url.startswith("redis+sentinel://127.0.0.1:")
    assert sentinel.url.endswith("/mymaster")


def test_the_proxy_passes_on_and_counts_and_records(proxy: Proxy) -> None:
    client = through(proxy)
    client.ping()
    with proxy.record() as tape:
        client.set("key", "value")
    client.ping()
    assert proxy.requests == {"PING": 2, "SET": 1}
    assert proxy.connections == 1
    assert bytes(tape.requests) == b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$5\r\nvalue\r\n"
    assert bytes(tape.replies) == b"+OK\r\n"


def test_a_lost_reply_was_counted_by_the_server(proxy: Proxy, behind: Standalone) -> None:
    client = through(proxy)
    proxy.lose_replies(20, of="incrby")
    for _ in range(20):
        assert client.ping()
        with pytest.raises(Refused):
            client.incr("counter")
    assert client.incr("counter") == 21
    assert proxy.lost == 20


def test_replies_before_the_lost_one_arrive(proxy: Proxy) -> None:
    connection = through(proxy).connection_pool.get_connection()
    proxy.lose_replies(1, of="GET")
    for request in (("PING",), ("ECHO", "a" * 100_000), ("GET", "key"), ("PING",)):
        connection.send_command(*request)  # type: ignore[no-untyped-call]
    assert connection.read_response() == b"PONG"
    assert connection.read_response() == b"a" * 100_000
    with pytest.raises(Refused):
        connection.read_response()


def test_a_black_hole_answers_nothing_and_the_server_sees_nothing(proxy: Proxy, behind: Standalone) -> None:
    client = through(proxy)
    client.ping()
    proxy.black_hole()
    with pytest.raises(Late):
        client.set("key", "value")
    with pytest.raises(Late):
        through(proxy).set("key", "value")
    proxy.resume()
    assert behind.ask("EXISTS", "key") == 0
    assert client.ping()


def test_a_proxy_that_refuses_is_as_a_dead_server_until_it_resumes(proxy: Proxy) -> None:
    client = through(proxy)
    client.ping()
    proxy.refuse()
    for each in (client, through(proxy)):
        with pytest.raises(Refused):
            each.ping()
    proxy.resume()
    assert client.ping()


def test_a_cut_ends_connections_and_new_ones_are_made(proxy: Proxy) -> None:
    connection = through(proxy).connection_pool.get_connection()
    connection.send_command("PING")  # type: ignore[no-untyped-call]
    assert connection.read_response() == b"PONG"
    proxy.cut()
    with pytest.raises(Refused):
        connection.read_response()
    assert through(proxy).ping()
    assert proxy.connections == 2


def test_a_delay_holds_each_reply(proxy: Proxy, behind: Standalone) -> None:
    client = through(proxy)
    proxy.delay = SHORT / 2
    begun = time.monotonic()
    client.ping()
    assert time.monotonic() - begun >= proxy.delay
    proxy.delay = SHORT * 2
    with pytest.raises(Late):
        client.incr("counter")
    assert behind.ask("GET", "counter") == b"1"


def test_a_dead_server_behind_the_proxy_ends_the_connection(proxy: Proxy, behind: Standalone) -> None:
    behind.kill()
    with pytest.raises(Refused):
        through(proxy).ping()
    behind.start()
    assert through(proxy).ping()
