"""What the tests of delivery share: a rule that escalates at once, a look into the streams, workers of a process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from acting import Act
from banhammer import BanHammer, Escalation, Policy, Threshold
from banhammer.backends.redis import RedisBackend
from banhammer.backends.redis.entries import GROUP
from banhammer.backends.redis.wire import Names
from banhammer.outbox import Delivery
from banhammer.worker import Worker
from redis_stores import Store
from servers.cluster import Cluster
from servers.waiting import until

SLOW = "10s"
"""A deadline that a busy machine keeps."""
NOTHING = {"escalations": 0, "dead": 0, "marks": 0}
"""What is left over when all is done."""


def trap(*actions: str, name: str = "trap", **settings: Any) -> Policy:
    """Return a policy that bans anybody's first hit."""
    return Policy(name, [Threshold(1, "1h", burst=0, ban="1d", actions=actions)], **settings)


def hammer_on(store: Store, rules: Iterable[Policy], **settings: Any) -> BanHammer:
    """Return a hammer that leaves its actions to others, unless it is given some."""
    rules = list(rules)
    named = {name for rule in rules for level in rule.thresholds for name in level.actions}
    given = settings.pop("actions", None)
    place = {} if given else {"worker": "external"}
    actions = dict.fromkeys(named, _leave) | (given or {})
    return BanHammer(rules, backend=store.url, deadline=SLOW, actions=actions, **place, **settings)


def _leave(_: Escalation) -> None:
    """Stand for an action that other processes run."""


def names_of(store: Store) -> Names:
    return Names(16 if isinstance(store, Cluster) else 1)


def ask(store: Store, partition: int, verb: str, name: str, *more: object) -> Any:
    """Ask the server that holds a partition; `name` is how the names of the store call the key."""
    key = getattr(names_of(store), name)(partition)
    server = store.holder_of(key) if isinstance(store, Cluster) else store
    return server.ask(verb, key, *more)


def partitions(store: Store) -> range:
    return range(len(names_of(store).tags))


def left_over(store: Store) -> dict[str, int]:
    """Return how many escalations, dead letters and marks there are."""
    each = partitions(store)
    return {
        "escalations": sum(ask(store, partition, "XLEN", "escalations") for partition in each),
        "dead": sum(ask(store, partition, "XLEN", "dead") for partition in each),
        "marks": sum(ask(store, partition, "HLEN", "marks") for partition in each),
    }


def in_hand(store: Store) -> int:
    """Return how many escalations workers have taken, and not taken off yet."""
    return sum(ask(store, each, "XPENDING", "escalations", GROUP)["pending"] for each in partitions(store))


def consumers(store: Store) -> int:
    """Return how many workers the streams know of."""
    return sum(len(ask(store, each, "XINFO CONSUMERS", "escalations", GROUP)) for each in partitions(store))


def taken(store: Store) -> list[Delivery]:
    """Take all that waits."""
    backend = RedisBackend(store.url)
    try:
        outbox = backend.outbox()
        found: list[Delivery] = []
        while some := outbox.take(1_000):
            found += some
        return found
    finally:
        backend.close()


def claimed(store: Store) -> list[Delivery]:
    """Claim what whoever took it has left alone for a millisecond."""
    backend = RedisBackend(store.url)
    try:
        outbox = backend.outbox()
        found: list[Delivery] = []
        until(lambda: bool(found.extend(outbox.claim(1_000, 0.001)) or found), "claimed")
        return found
    finally:
        backend.close()


@contextmanager
def working(store: Store, actions: Mapping[str, Any], backend: Any = None) -> Iterator[Worker]:
    """Run a worker of the store's escalations."""
    own = RedisBackend(store.url) if backend is None else backend
    worker = Worker(actions, outbox=own.outbox)
    worker.look()
    try:
        yield worker
    finally:
        worker.close(5)
        own.close()


def ids(escalations: Iterable[Escalation]) -> list[str]:
    return [each.id for each in escalations]


def note() -> Act:
    return Act(attempts=3, deadline="100ms")


def bans(hammer: BanHammer) -> dict[str, str]:
    """Return the ids of the bans in force, by key."""
    return {ban.key: ban.id for ban in hammer.bans()}
