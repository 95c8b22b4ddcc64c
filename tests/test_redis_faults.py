"""A store that is away, silent, refusing or forgetful costs no caller more than its deadline, and no exception."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError
from redis.retry import Retry

from answering import Answering
from banhammer import BackendError, Policy, Threshold
from servers import programs
from servers.ports import HOST
from servers.proxy import Proxy
from servers.standalone import Standalone
from servers.waiting import until
from sides import KINDS, Side

DEADLINE = 0.1
SLACK = 1.0
"""What a busy machine may add; the exact bound is measured where nothing else runs."""
LOST = 2_500
"""Replies lost by each kind."""
HUGE = 1_000_000
COUNTED = Policy("counted", [Threshold(HUGE, "365d")], on_error="open")
"""Counts for a year: what remains tells how many units the store has."""
RULES = [
    Policy("local", [Threshold(3, "1h")]),
    Policy("open", [Threshold(3, "1h")], on_error="open"),
    Policy("closed", [Threshold(3, "1h")], on_error="closed"),
    Policy("bans", [Threshold(1, "1h", ban="1h")], on_error="open"),
    COUNTED,
]
WAYS: dict[str, tuple[Callable[[Standalone, Proxy], None], Callable[[Standalone, Proxy], None]]] = {
    "killed": (lambda server, proxy: server.kill(), lambda server, proxy: server.start()),
    "stopped": (lambda server, proxy: server.stop(), lambda server, proxy: server.cont()),
    "refused": (lambda server, proxy: proxy.refuse(), lambda server, proxy: proxy.resume()),
    "black hole": (lambda server, proxy: proxy.black_hole(), lambda server, proxy: proxy.resume()),
}


@pytest.fixture(scope="module")
def running() -> Iterator[Standalone]:
    with Standalone(programs.valkey(), extra=["--enable-debug-command", "local"]) as server:
        yield server


@pytest.fixture
def server(running: Standalone) -> Standalone:
    running.heal()
    running.flush()
    return running


@pytest.fixture
def proxy(server: Standalone) -> Iterator[Proxy]:
    with Proxy(server.port) as found:
        yield found


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def timed(side: Side, key: str, policy: str, count: int) -> list[tuple[bool, str]]:
    """Return what so many hits are told, each within the deadline and degraded."""
    told: list[tuple[bool, str]] = []
    for _ in range(count):
        begun = time.monotonic()
        decision = side.hit(key, policy)
        assert time.monotonic() - begun < DEADLINE + SLACK
        assert decision.degraded
        told.append((decision.allowed, decision.verdict))
    return told


def counted(server: Standalone, key: str = "key") -> int:
    """Return how many units the store has of a key under `COUNTED`, asked without a detour."""
    with Side("sync", server.url, [COUNTED]) as side:
        remaining = side.call("status", key, "counted").remaining[0]
    return HUGE - int(remaining)


def normal(side: Side, key: str = "other") -> bool:
    return not side.hit(key, "open").degraded


ALLOWED, THROTTLED, BANNED = (True, "allowed"), (False, "throttled"), (False, "banned")


@pytest.mark.parametrize("way", WAYS)
def test_while_the_store_is_away_each_policy_decides_in_time(
    server: Standalone, proxy: Proxy, kind: str, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    go, come_back = WAYS[way]
    caplog.set_level(logging.INFO, "banhammer")
    with Side(kind, proxy.url, RULES, deadline=f"{DEADLINE}s") as side:
        until(lambda: normal(side), "a first answer in time")
        until(lambda: side.hit("bad", "bans").verdict == "banned" and normal(side), "banned")
        caplog.clear()
        go(server, proxy)
        assert timed(side, "bad", "bans", 1) == [BANNED]
        assert timed(side, "key", "local", 4) == [ALLOWED] * 3 + [THROTTLED]
        assert timed(side, "key", "open", 4) == [ALLOWED] * 4
        assert timed(side, "key", "closed", 2) == [THROTTLED] * 2
        begun = time.monotonic()
        assert timed(side, "bad", "bans", 50) == [BANNED] * 50
        assert time.monotonic() - begun < 25 * DEADLINE, "an open breaker answers at once"
        come_back(server, proxy)
        until(lambda: normal(side), "normal again", seconds=5)
        assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
        assert "is away" in caplog.messages[0]
        assert "is back" in caplog.messages[1]


def test_a_hit_whose_reply_was_lost_is_counted_once_and_its_decision_is_degraded(
    server: Standalone, proxy: Proxy, kind: str
) -> None:
    with Side(kind, proxy.url, RULES) as side:
        for number in range(2 * LOST):
            proxy.lose_replies(number % 2, of="EVALSHA")
            assert side.hit("key", "counted").degraded == bool(number % 2)
    assert proxy.lost == LOST
    assert counted(server) == 2 * LOST


def test_of_concurrent_hits_whose_replies_are_lost_none_is_counted_twice(
    server: Standalone, proxy: Proxy, kind: str
) -> None:
    with Side(kind, proxy.url, RULES) as side:
        side.hit("key", "counted")
        told = []
        for _ in range(20):
            proxy.lose_replies(2, of="EVALSHA")  # Fewer than open the breaker: all are sent.
            told += side.hit_at_once(16, 16, "counted", ["key"])
    sure = sum(not decision.degraded for decision in told)
    assert proxy.lost == 40
    assert sure < len(told)
    assert sure + 1 <= counted(server) <= len(told) + 1


def test_forgotten_scripts_are_loaded_again_and_nothing_else_is_noticed(server: Standalone, kind: str) -> None:
    with Side(kind, server.url, RULES) as side, ThreadPoolExecutor(1) as pool:
        done = threading.Event()

        def forget() -> int:
            times = 0
            while not done.wait(0.002):
                server.ask("SCRIPT FLUSH")
                times += 1
            return times

        times = pool.submit(forget)
        try:
            told = side.hit_at_once(8, 250, "counted", ["key"])
        finally:
            done.set()
        assert times.result() > 10
    assert not any(decision.degraded for decision in told)
    assert counted(server) == len(told) == 2_000


def test_a_restarted_server_is_used_again_though_it_is_empty(server: Standalone, kind: str) -> None:
    with Side(kind, server.url, RULES) as side:
        assert normal(side)
        server.kill()
        server.start()
        until(lambda: normal(side), "normal again", seconds=5)
        before = counted(server)
        assert not side.hit("key", "counted").degraded
        assert (before, counted(server)) == (0, 1)


PASSING = [
    "-LOADING Redis is loading the dataset in memory",
    "-READONLY You can't write against a read only replica.",
    "-TRYAGAIN Multiple keys request during rehashing of slot",
    "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "-CLUSTERDOWN The cluster is down",
    "-CLUSTERDOWN Hash slot not served",
]


@pytest.mark.parametrize("words", PASSING)
def test_what_did_not_run_and_passes_is_tried_again_within_the_deadline(
    server: Standalone, kind: str, words: str
) -> None:
    with Answering(server.port) as front, Side(kind, front.url, RULES) as side:
        side.hit("key", "counted")
        front.say(words, times=3)
        assert not side.hit("key", "counted").degraded
        assert counted(server) == 2
    with Answering(server.port) as front, Side(kind, front.url, RULES, deadline=f"{DEADLINE}s") as side:
        front.say(words)
        timed(side, "key", "counted", 2)
        front.say(words, times=0)
        until(lambda: normal(side), "normal again", seconds=5)
        assert counted(server) == 2


def test_a_front_answers_what_was_sent_before_as_was_said_then(server: Standalone) -> None:
    """Of the front itself: else a request that nobody waits for any more reaches the server, and is counted."""
    request = b"*2\r\n$7\r\nEVALSHA\r\n$1\r\nx\r\n"
    with Answering(server.port) as front, socket.create_connection((HOST, front.port)) as client:
        front.say("-LOADING")
        with front._at_work, ThreadPoolExecutor(1) as pool:
            client.sendall(request)
            said = pool.submit(front.say, "+later")
            front._at_work.release()
            said.result()
            answers = client.recv(1 << 16)
            front._at_work.acquire()
        client.sendall(request)
        assert (answers, client.recv(1 << 16)) == (b"-LOADING\r\n", b"+later\r\n")


REFUSALS = [
    "-ERR unknown command 'EVALSHA'", "-NOPERM this user has no permissions to run the 'evalsha' command",
    "-NOAUTH Authentication required.", "-MISCONF Errors writing to the AOF file: No space left on device",
    "-NOREPLICAS Not enough good replicas to write.", "-ERR max number of clients reached",
    "HTTP/1.1 400 Bad Request", "$-1", ":1", "+OK", "*0", "*3\r\n$1\r\nx\r\n:0\r\n:5", "*3\r\n*0\r\n:0\r\n:5",
    "*3\r\n:1\r\n$1\r\nx\r\n:5", "*3\r\n:5\r\n:0\r\n$-1", "*3\r\n:5\r\n:0\r\n*0", "*3\r\n:5\r\n:0\r\n-ERR x",
    "*3\r\n:5\r\n:0\r\n$0\r\n", "*3\r\n:5\r\n:0\r\n$1\r\nx", "*4\r\n:5\r\n:0\r\n:5\r\n:6", "*2\r\n:5\r\n:0",
    "$3\r\nabc", "*3\r\n:5\r\n:0\r\n$3\r\n\0\1\0", "*3\r\n:5\r\n:0\r\n$3\r\n\1\1\0", "*3\r\n:5\r\n:0\r\n$5\r\n\2\1\5ab",
    "*3\r\n:5\r\n:0\r\n$9\r\n\2\1\0\1\0\0\0\0\0", "*3\r\n:5\r\n:0\r\n$30\r\n\2\1\1\7\1" + "\0" * 25,
]  # fmt: skip


@pytest.mark.parametrize("words", REFUSALS)
def test_what_the_store_refuses_or_garbles_is_decided_by_the_policy(server: Standalone, kind: str, words: str) -> None:
    with Answering(server.port) as front, Side(kind, front.url, RULES) as side:
        side.hit("key", "counted")
        front.say(words)
        assert [side.hit("key", name).degraded for name in ("counted", "open", "local", "closed")] == [True] * 4
        front.say("", times=0)
        until(lambda: normal(side), "normal again", seconds=5)
        assert counted(server) == 1


@pytest.mark.parametrize("more", ["*3\r\n:5\r\n:0\r\n:6", "*3\r\n:5"])
def test_what_nobody_asked_for_is_no_answer_to_the_next_caller(server: Standalone, kind: str, more: str) -> None:
    with Answering(server.port) as front, Side(kind, front.url, RULES) as side:
        assert side.hit("key", "counted").remaining == HUGE - 1
        front.say(f"*3\r\n:5\r\n:0\r\n:6\r\n{more}", times=1)
        side.hit("key", "counted")
        assert [side.hit("key", "counted").remaining for _ in range(2)] == [HUGE - 2, HUGE - 3]


@pytest.mark.parametrize(
    "words",
    [
        "+OK", ":7", "$-1", "*0", "*1\r\n+OK", "*1\r\n*3\r\n:0\r\n:16383\r\n+h", "*1\r\n*0", "*1\r\n:1",
        "*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$1\r\nh\r\n$1\r\nx", "*1\r\n*3\r\n$1\r\na\r\n:5\r\n*2\r\n$1\r\nh\r\n:1",
    ],
)  # fmt: skip
def test_a_seed_that_names_no_servers_leaves_it_to_the_policy(server: Standalone, kind: str, words: str) -> None:
    with Answering(server.port) as front:
        front.say(words, of="CLUSTER")
        with Side(kind, front.url.replace("redis://", "redis+cluster://"), RULES) as side:
            assert side.hit("key", "open").degraded
            with pytest.raises(BackendError, match="where its slots are"):
                side.call("status", "key", "open")


def test_an_answer_that_comes_in_drops_does_not_stretch_the_deadline(kind: str) -> None:
    drops, written = 20_000, []

    def drip(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client, suppress(OSError):
            while client.recv(1 << 16):
                client.sendall(b"*3\r\n:5\r\n:0\r\n$%d\r\n" % drops)
                for _ in range(drops):
                    client.sendall(b"x")
                    written.append(1)
                    time.sleep(0.0001)

    with socket.create_server((HOST, 0)) as listener, ThreadPoolExecutor(1) as pool:
        dripping = pool.submit(drip, listener)
        with Side(kind, f"redis://{HOST}:{listener.getsockname()[1]}", RULES, deadline=f"{DEADLINE}s") as side:
            timed(side, "key", "counted", 1)
            dripping.result()
    assert 0 < len(written) < drops


def test_a_server_that_loads_its_data_is_away_until_it_is_done(server: Standalone, kind: str) -> None:
    for number in range(400):
        server.ask("SET", f"filler{number}", "x" * 100)
    server.ask("CONFIG", "SET", "key-load-delay", "2000", "loading-process-events-interval-bytes", "1024")
    with Side(kind, server.url, RULES, deadline=f"{DEADLINE}s") as side, ThreadPoolExecutor(1) as pool:
        until(lambda: normal(side), "a first answer in time")
        reloaded = pool.submit(server.client(socket_timeout=10).execute_command, "DEBUG", "RELOAD")
        until(lambda: side.hit("key", "counted").degraded, "loading")
        timed(side, "key", "closed", 2)
        assert reloaded.result()
        server.ask("CONFIG", "SET", "key-load-delay", "0")
        until(lambda: normal(side), "normal again", seconds=5)


@pytest.mark.parametrize("least", [False, True], ids=["any user", "one with the least rights"])
def test_a_server_that_is_busy_with_a_script_is_away_until_that_ends(
    server: Standalone, kind: str, least: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server.ask("CONFIG", "SET", "busy-reply-threshold", "20")
    rights = ("+evalsha", "+eval", "+time", "+mget", "+get", "+set")
    server.ask("ACL", "SETUSER", "least", "on", ">sesame", "resetkeys", "~bh:*", "-@all", *rights)
    url = server.url.replace("redis://", "redis://least:sesame@") if least else server.url
    with Side(kind, url, RULES, deadline=f"{DEADLINE}s") as side, ThreadPoolExecutor(1) as pool:
        until(lambda: normal(side), "a first answer in time")
        client = server.client(socket_timeout=10, retry=Retry(NoBackoff(), 0))
        endless = pool.submit(client.execute_command, "EVAL", "while true do end", 0)
        until(lambda: side.hit("key", "counted").degraded, "busy")
        begun = time.monotonic()
        timed(side, "key", "closed", 50)
        assert time.monotonic() - begun < 25 * DEADLINE, "what is busy for long is away"
        server.ask("SCRIPT", "KILL")
        with pytest.raises(ResponseError):
            endless.result()
        until(lambda: normal(side), "normal again", seconds=5)
        client.close()
    assert [message.split(" ")[2:4] for message in caplog.messages] == [["is", "away,"], ["is", "back"]]


def test_a_replica_is_not_written_and_used_again_once_it_is_a_master(server: Standalone, kind: str) -> None:
    with Side(kind, server.url, RULES, deadline=f"{DEADLINE}s") as side:
        until(lambda: normal(side), "a first answer in time")
        server.ask("REPLICAOF", "127.0.0.1", "1")
        timed(side, "key", "counted", 2)
        server.ask("REPLICAOF", "NO", "ONE")
        until(lambda: normal(side), "normal again", seconds=5)
    assert counted(server) == 0


def fill(server: Standalone) -> None:
    """Store until nothing more fits."""
    for size in (100_000, 1_000, 10):
        for number in range(10_000):
            try:
                server.ask("SET", f"filler-{size}-{number}", "x" * size)
            except ResponseError as error:
                assert "maxmemory" in str(error)  # noqa: PT017
                break
    server.ask("CONFIG", "SET", "maxmemory", "1mb")  # So full that what a client gives back is of no use.


def test_a_full_memory_holds_bans_and_throttles_and_leaves_the_rest_to_the_policy(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with Standalone(programs.valkey(), extra=["--maxmemory", "3mb"]) as server:
        with Side("sync", server.url, RULES) as before:
            told = [before.hit("bad", "bans").verdict for _ in range(2)]
            told += [before.hit("slow", name).verdict for name in ("local", "open", "closed") for _ in range(4)]
        assert told == ["allowed", "banned", *["allowed", "allowed", "allowed", "throttled"] * 3]
        fill(server)
        with Side(kind, server.url, RULES) as side:  # It knows nothing but what the store tells.
            assert [side.hit("bad", "bans").verdict for _ in range(3)] == ["banned"] * 3
            assert not any(side.hit("slow", name).allowed for name in ("local", "open", "closed") for _ in range(3))
            assert timed(side, "key", "local", 4) == [ALLOWED] * 3 + [THROTTLED]
            assert timed(side, "key", "open", 4) == [ALLOWED] * 4
            assert timed(side, "key", "closed", 4) == [THROTTLED] * 4
            assert side.call("peek", "bad", "bans").verdict == "banned"
            assert {ban.key for ban in side.call("bans")} == {"bad"}
            with pytest.raises(BackendError, match="maxmemory"):
                side.call("ban", "other", "bans")
            assert [message.split(" ")[2] for message in caplog.messages] == ["refuses,"]
            server.ask("CONFIG", "SET", "maxmemory", "0")
            assert normal(side)
            assert "decides again" in caplog.messages[-1]
            assert side.hit("key", "open").remaining == 2


VERBS: list[tuple[object, ...]] = [
    ("ban", "key", "bans", "1h"), ("unban", "bad", "bans"), ("reset", "bad", "bans"), ("status", "bad", "bans"),
    ("status_all",), ("bans",),
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_while_the_store_is_away_the_operators_verbs_say_so_in_time(
    server: Standalone, proxy: Proxy, kind: str, way: str
) -> None:
    go, come_back = WAYS[way]
    with Side(kind, proxy.url, RULES, deadline=f"{DEADLINE}s") as side:
        until(lambda: side.hit("bad", "bans").verdict == "banned" and normal(side), "banned")
        go(server, proxy)
        for _ in range(2):
            for verb, *arguments in VERBS:
                begun = time.monotonic()
                with pytest.raises(BackendError):
                    side.call(str(verb), *arguments)
                assert time.monotonic() - begun < DEADLINE + SLACK
        come_back(server, proxy)
        until(lambda: normal(side), "normal again", seconds=5)
        until(lambda: side.call("status", "other", "bans").strikes == 0, "asked by operators again")


LOADING, NOPERM = "-LOADING not yet", "-NOPERM not you"


@pytest.mark.parametrize(
    ("of", "words"),
    [
        ("GET", LOADING),
        ("SCAN", LOADING),
        *((of, NOPERM) for of in ("GET", "HGET", "TIME", "SCAN", "ZSCAN", "EVALSHA")),
    ],
)
def test_what_an_operator_is_refused_is_a_backend_error(server: Standalone, kind: str, of: str, words: str) -> None:
    with Answering(server.port) as front, Side(kind, front.url, RULES, deadline=f"{DEADLINE}s") as side:
        until(lambda: side.hit("bad", "bans").verdict == "banned" and normal(side), "banned")
        front.say(words, of=of)
        for verb, *arguments in VERBS:
            with suppress(BackendError):  # Not every verb asks for it, nor minds to be told nothing.
                side.call(str(verb), *arguments)
        assert front.times < 1_000_000
