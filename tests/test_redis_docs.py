"""What the pages on Redis say of a user's rights is the least that works: all of it, and one less fails."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import NoPermissionError

from banhammer import BackendError, BanHammer, Decision, Policy, Threshold
from banhammer.backends.redis.wire import Names, slot_of
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
FOR_OPERATORS = {"+del", "+scan", "+zscan"}
"""What the page says that an application can do without if it leaves the operators' verbs to others."""


def rules_of(page: str) -> list[str]:
    """Return what the page gives to its user, without the password."""
    text = (HOW_TO / page).read_text("utf-8").replace("\\\n", " ")
    found = re.search(rf"acl setuser {USER} on '>{PASSWORD}' (.+?)(?:; done)?$", text, re.MULTILINE)
    assert found
    return found[1].replace("'", "").split()


ONE, MANY = rules_of("redis.md"), rules_of("redis-cluster.md")
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


@pytest.mark.parametrize("command", COMMANDS)
def test_without_one_of_its_commands_the_user_cannot(server: Standalone, command: str) -> None:
    grant(server, without(ONE, command))
    can_hit = hits(login(server.url))
    assert can_hit == (command in FOR_OPERATORS)
    assert not (can_hit and operates(login(server.url)))


def test_an_application_that_leaves_the_operators_verbs_to_others_needs_less(server: Standalone) -> None:
    grant(server, [rule for rule in ONE if rule not in FOR_OPERATORS])
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
