"""What the pages on Redis say of a user's rights is the least that works: all of it, and one less fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import NoPermissionError

from banhammer import BackendError, BanHammer, Decision, Escalation, Policy, Threshold
from banhammer.backends.redis import RedisBackend
from banhammer.backends.redis.wire import Names, slot_of
from banhammer.outbox import Backlog, Note
from banhammer.testing import ManualClock
from servers import programs
from servers.cluster import Cluster
from servers.ports import HOST
from servers.standalone import Standalone
from servers.waiting import until

HOW_TO = Path(__file__).parent.parent / "docs/how-to"
USER, PASSWORD = "banhammer", "correct-horse"
PAST = 1_700_000_000_000_000
RULES = [Policy("login", [Threshold(2, "1h", ban="1h"), Threshold(4, "1h", ban="1d")], on_error="open")]
ACTING = [Policy("login", [Threshold(2, "1h", ban="1h", actions=["tell"])], on_error="open")]
FOR_OPERATORS = {"+del", "+scan", "+zscan"}
"""What the page says that an application can do without if it leaves the operators' verbs to others."""
FOR_ACTIONS = {"+xadd", "+xlen", "+incr"}
"""What the page says that an application can do without whose policies name no actions."""
FULL = "for _ = 1, 100000 do redis.call('XADD', KEYS[1], '*', 'a', 'b') end"


def rules_of(page: str, beginning: str) -> list[str]:
    """Return what the page gives to its user by the command that begins so."""
    text = (HOW_TO / page).read_text("utf-8").replace("\\\n", " ")
    found = re.search(rf"acl setuser {beginning} (.+?)(?:; done)?$", text, re.MULTILINE)
    assert found
    return found[1].replace("'", "").split()


ONE, MANY = (rules_of(page, f"{USER} on '>{PASSWORD}'") for page in ("redis.md", "redis-cluster.md"))
MORE = rules_of("redis.md", rf"{USER}(?= \+)")
WORKER = rules_of("run-a-worker.md", "worker on '>battery-staple'")
COMMANDS = [rule for rule in ONE if rule.startswith("+")]


def grant(server: Standalone, rules: list[str]) -> None:
    server.ask("ACL", "SETUSER", USER, "reset", "on", f">{PASSWORD}", *rules)


def without(rules: list[str], rule: str) -> list[str]:
    return [each for each in rules if each != rule]


def login(url: str) -> str:
    return url.replace("://", f"://{USER}:{PASSWORD}@", 1)


def hits(url: str) -> bool:
    """Return whether the store decides hits, guards and peeks: a ban, a longer one, and one that left the index."""
    with BanHammer(RULES, backend=url, clock=ManualClock(PAST), deadline="2s") as hammer:
        past = [hammer.hit("ann", "login") for _ in range(3)]
    with BanHammer(RULES, backend=url, denial_cache=False, deadline="2s") as hammer:
        now = [hammer.guard("bob", "login"), hammer.peek("bob", "login")]
        now += [hammer.hit("bob", "login") for _ in range(5)]
    return not any(decision.degraded for decision in past + now) and now[-1].tripped == (1,)


def operates(url: str) -> bool:
    """Return whether every operators' verb does what it should on a store where `hits` has just run."""
    with BanHammer(RULES, backend=url, deadline="2s") as hammer:
        try:
            banned = [ban.key for ban in hammer.bans()]
            tracked = {status.key for status in hammer.status_all()}
            hammer.ban("eve", "login", reason="by hand")
            lifted = hammer.unban("bob", "login"), hammer.unban("eve", "login")
            hammer.reset("bob", "login")
            hammer.reset("eve", "login", strikes=False)
            strikes = hammer.status("bob", "login").strikes, hammer.status("eve", "login").strikes
        except BackendError:
            return False
    return banned == ["bob"] and tracked == {"bob"} and all(lifted) and strikes == (0, 1)


def escalates(server: Standalone, url: str) -> bool:
    """Return whether hits, and a ban and a lift by hand, write down what is to be run, and count what finds no room."""
    server.flush()
    with BanHammer(ACTING, backend=url, deadline="2s", actions={"tell": print}, worker="external") as hammer:
        tripped = [hammer.hit("ann", "login") for _ in range(3)]
        try:
            hammer.ban("bob", "login")
            hammer.unban("bob", "login")
        except BackendError:
            return False
        written = server.ask("XLEN", Names(1).escalations(0))
        server.ask("EVAL", FULL, 1, Names(1).escalations(0))
        tripped += [hammer.hit("eve", "login") for _ in range(3)]
    counted = server.ask("GET", Names(1).dropped(0))
    return not any(decision.degraded for decision in tripped) and (int(written), int(counted or 0)) == (3, 1)


def works(server: Standalone, url: str) -> bool:
    """Return whether a worker can do all that it may have to, and an operator with what failed."""
    server.flush()
    rules = [Policy("login", [Threshold(1, "1h", ban="1h", actions=["tell", "show"])])]
    actions: Any = {"tell": print, "show": print}
    with BanHammer(rules, backend=server.url, actions=actions, worker="external") as hammer:
        hammer.ban("ann", "login")
        hammer.unban("ann", "login")
    backend = RedisBackend(url, deadline="2s")
    try:
        return _carries(backend)
    except BackendError:
        return False
    finally:
        backend.close()


def _carries(backend: RedisBackend) -> bool:
    outbox, other, letters = backend.outbox(), backend.outbox(), backend.dead_letters()
    ban, lift = outbox.take(10)
    ready = outbox.ready([(ban, "tell"), (lift, "tell")])
    kept = outbox.keep([ban])
    notes = [Note("ran", ban, "show"), Note("failed", ban, "tell", 1), Note("left", ban), Note("left", lift)]
    unwritten = outbox.write(notes)
    claimed = sorted(other.claim(10, 60.0), key=lambda each: each.escalation.at)
    if len(claimed) != 2:
        return False
    again, behind = claimed
    behind_it = other.ready([(behind, "tell"), (behind, "show")])
    unwritten += other.write([Note("dead", again, "tell", 2, "no"), Note("done", again), Note("done", behind)])
    seen = letters.backlog()
    retried = [letters.retry(letter.id) for letter in letters.letters()]
    for once_more in other.take(10):
        unwritten += other.write([Note("dead", once_more, "tell", 1, "no"), Note("done", once_more)])
    dropped = [letters.drop(letter.id) for letter in letters.letters()]
    for each in (outbox, other):
        each.leave()
    return (
        (ready, kept, unwritten, behind_it) == ([True, False], [ban], [], [False, True])
        and (again.attempts, seen) == ({"tell": 1, "show": 0}, Backlog(waiting=0, dead=1, dropped=0))
        and (retried, dropped) == ([True], [True])
    )


@pytest.fixture(scope="module")
def one() -> Iterator[Standalone]:
    with Standalone(programs.default()) as server:
        yield server


@pytest.fixture
def server(one: Standalone) -> Standalone:
    one.flush()
    return one


def test_the_user_of_the_page_can_do_all_that_is_asked(server: Standalone) -> None:
    grant(server, ONE)
    assert hits(login(server.url))
    assert operates(login(server.url))
    assert escalates(server, login(server.url))


@pytest.mark.parametrize("command", COMMANDS)
def test_without_one_of_its_commands_the_user_cannot(server: Standalone, command: str) -> None:
    grant(server, without(ONE, command))
    can_hit = hits(login(server.url))
    assert can_hit == (command in FOR_OPERATORS | FOR_ACTIONS)
    can_operate = can_hit and operates(login(server.url))
    assert can_operate == (command in FOR_ACTIONS)
    assert not (can_operate and escalates(server, login(server.url)))


def test_an_application_that_runs_its_own_actions_needs_what_a_worker_needs(server: Standalone) -> None:
    grant(server, [*ONE, *MORE])
    assert works(server, login(server.url))
    assert set(MORE) == {rule for rule in WORKER if rule.startswith("+")} - set(ONE)
    heard: list[Escalation] = []
    with BanHammer(ACTING, backend=login(server.url), deadline="2s", actions={"tell": heard.append}) as hammer:
        assert not any(hammer.hit("bob", "login").degraded for _ in range(3))
        assert hammer.drain(10)
    assert [each.key for each in heard] == ["bob"]


def test_the_user_of_a_worker_can_do_all_that_it_must(server: Standalone) -> None:
    grant(server, WORKER)
    assert works(server, login(server.url))
    assert not hits(login(server.url))


@pytest.mark.parametrize("command", [rule for rule in WORKER if rule.startswith("+")])
def test_without_one_of_its_commands_a_worker_cannot(server: Standalone, command: str) -> None:
    grant(server, without(WORKER, command))
    assert not works(server, login(server.url))


def test_an_application_without_actions_that_leaves_the_operators_verbs_to_others_needs_less(
    server: Standalone,
) -> None:
    grant(server, [rule for rule in ONE if rule not in FOR_OPERATORS | FOR_ACTIONS])
    assert hits(login(server.url))


def test_the_user_cannot_touch_what_is_not_ours(server: Standalone) -> None:
    grant(server, ONE)
    server.ask("SET", "session:7", "secret")
    with server.client(username=USER, password=PASSWORD) as client:
        for command in (
            ["GET", "session:7"],
            ["EVAL", "return redis.call('GET', KEYS[1])", 1, "session:7"],
            ["KEYS", "*"],
        ):
            with pytest.raises(NoPermissionError):
                client.execute_command(*command)


def test_the_user_needs_our_names(server: Standalone) -> None:
    grant(server, [rule.replace("bh:", "other:") for rule in ONE])
    assert not hits(login(server.url))


@pytest.mark.parametrize(("query", "right"), [("db=1", "+select"), ("client_name=web", "+client|setname")])
def test_what_the_url_asks_for_needs_its_right(server: Standalone, query: str, right: str) -> None:
    url = f"{login(server.url)}?{query}"
    grant(server, ONE)
    assert not hits(url)
    server.flush()
    grant(server, [*ONE, right])
    assert hits(url)


def test_a_store_that_was_away_is_noticed_with_no_further_right() -> None:
    config = f"user {USER} on >{PASSWORD} {' '.join(ONE)}\nuser default on nopass ~* &* +@all\n"
    with (
        Standalone(programs.default(), config=config) as server,
        BanHammer(RULES, backend=login(server.url), deadline="2s") as hammer,
    ):
        assert not hammer.hit("ann", "login").degraded
        server.kill()
        assert all(hammer.hit("bob", "login").degraded for _ in range(4))
        server.start()
        until(lambda: not hammer.peek("ann", "login").degraded, "asked again")


# A cluster.


@pytest.fixture(scope="module")
def two() -> Iterator[Cluster]:
    with Cluster(programs.default(), masters=2, replicas=0) as cluster:
        yield cluster


@pytest.fixture
def cluster(two: Cluster) -> Cluster:
    two.flush()
    return two


def grant_all(cluster: Cluster, rules: list[str]) -> None:
    for node in cluster.nodes:
        grant(node, rules)


def hits_while_a_slot_moves(cluster: Cluster) -> bool:
    """Return whether a key whose names were all moved is decided while its slot still belongs to the old master."""
    found: list[Decision] = []
    with BanHammer(RULES, backend=login(cluster.url), denial_cache=False, deadline="200ms") as hammer:
        assert not any(hammer.hit("bob", "login").degraded for _ in range(3))
        names = Names(16)
        slot = slot_of(names.tags[names.partition("bob")])
        source = cluster.holder(slot)
        target = next(node for node in cluster.masters() if node is not source)

        def during(stage: str) -> None:
            if stage == "moved":
                found.append(hammer.hit("bob", "login"))

        cluster.move_slot(slot, source, target, during)
    return not found[0].degraded


def test_on_a_cluster_the_user_of_its_page_can_do_all_that_is_asked(cluster: Cluster) -> None:
    grant_all(cluster, MANY)
    assert hits(login(cluster.url))
    assert operates(login(cluster.url))
    cluster.flush()
    assert hits_while_a_slot_moves(cluster)


def test_on_a_cluster_the_user_needs_two_rights_more(cluster: Cluster) -> None:
    assert set(MANY) - set(ONE) == {"+cluster|slots", "+asking"}
    grant_all(cluster, without(MANY, "+cluster|slots"))
    assert not hits(login(cluster.url))
    cluster.flush()
    grant_all(cluster, without(MANY, "+asking"))
    assert hits(login(cluster.url))
    cluster.flush()
    assert not hits_while_a_slot_moves(cluster)


# Sentinels.


@pytest.mark.parametrize(("right", "works"), [("+sentinel|get-master-addr-by-name", True), ("+ping", False)])
def test_on_a_sentinel_the_user_needs_one_right(server: Standalone, right: str, works: bool) -> None:
    assert "'+sentinel|get-master-addr-by-name'" in (HOW_TO / "redis-sentinel.md").read_text("utf-8")
    grant(server, ONE)
    config = f"sentinel monitor mymaster {HOST} {server.port} 1\n"
    with Standalone(programs.default(), extra=["--sentinel"], config=config) as sentinel:
        sentinel.ask("ACL", "SETUSER", "app", "on", ">battery", "-@all", right)
        url = f"redis+sentinel://{HOST}:{sentinel.port}/mymaster?sentinel_username=app&sentinel_password=battery"
        assert hits(login(url)) == works
