"""The storage protocol, and `open_backend`, which finds the store that a URL names.

A store has one hot verb, `evaluate`, and it takes a batch. The other verbs are for operators. Whoever writes
a store keeps three promises: each hit is atomic for its key, hits of one key in a batch are decided in
order, and `Reply.record` is what `banhammer.core.evaluate` makes of the stored record.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from urllib.parse import urlsplit

from banhammer import plugins
from banhammer.core import Reply
from banhammer.errors import ConfigError, did_you_mean
from banhammer.model import Ban, Clock, Hit, Policy, Record
from banhammer.urls import wrong_url

Policies = Mapping[str, Policy]
"""The policies that a batch uses, by name, each with its mode settled."""


Now = int | Clock | None
"""The injected time (us), or what tells it; `None`: the store's own clock."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What a store can promise. `shared`: other processes see it; `lists_bans`: `bans` works; `durable`:
    escalations outlive the process; `evicts`: the store may forget a ban on its own."""

    shared: bool = False
    lists_bans: bool = True
    durable: bool = False
    evicts: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """A record as it read at `now` (us), and the details of the ban in force, if any."""

    key: str
    policy: str
    now: int
    record: Record
    ban: Ban | None


@runtime_checkable
class Backend(Protocol):
    """A store, as `BanHammer` uses it.

    A store of this process asks what tells the time only after it loaded a record: a time from before could
    make another thread's younger TAT look like one that cannot be. Keys are non-empty strings and costs are in
    range: the caller has checked. Errors are `BackendError`.
    """

    traits: Traits

    @property
    def aio(self) -> AsyncBackend:
        """The same store for asyncio."""
        ...

    def evaluate(
        self,
        hits: Sequence[Hit],
        policies: Policies,
        *,
        now: Now = None,
        stop: bool = False,
        peek: bool = False,
    ) -> list[Reply | None]:
        """Decide `hits` in order; with `stop`, `None` for what follows the first denial of an enforced policy.

        With `peek` nothing is changed, not even an expiry.
        """
        ...

    def ban(
        self,
        key: str,
        policy: Policy,
        *,
        index: int,
        duration: int | None,
        reason: str,
        id: str,
        now: Now = None,
    ) -> Ban:
        """Ban by hand under threshold `index` (see `core.ban`) and return the ban in force.

        `id` is the escalation's; the ban takes it, unless it was in force and is not lengthened.
        """
        ...

    def lift(self, key: str, policy: Policy, *, now: Now = None) -> Ban | None:
        """End the ban in force now and return it, or return `None`."""
        ...

    def forget(self, key: str, policy: Policy, *, strikes: bool, now: Now = None) -> None:
        """Drop the record; without `strikes`, only empty its meters."""
        ...

    def read(self, key: str, policy: Policy, *, now: Now = None) -> Reading:
        """Return the record as it reads now."""
        ...

    def records(self, policies: Policies, *, now: Now = None) -> Iterator[Reading]:
        """Stream every record that is not lapsed, without blocking the store."""
        ...

    def bans(self, policies: Policies, *, now: Now = None) -> Iterator[Ban]:
        """Stream every ban in force, without blocking the store."""
        ...

    def close(self) -> None:
        """Let go of connections; what is stored stays where the store is shared."""
        ...


class AsyncBackend(Protocol):
    """The verbs of `Backend`, awaited."""

    async def evaluate(
        self,
        hits: Sequence[Hit],
        policies: Policies,
        *,
        now: Now = None,
        stop: bool = False,
        peek: bool = False,
    ) -> list[Reply | None]:
        """Decide a batch; see `Backend.evaluate`."""
        ...

    async def ban(
        self,
        key: str,
        policy: Policy,
        *,
        index: int,
        duration: int | None,
        reason: str,
        id: str,
        now: Now = None,
    ) -> Ban:
        """Ban by hand; see `Backend.ban`."""
        ...

    async def lift(self, key: str, policy: Policy, *, now: Now = None) -> Ban | None:
        """End the ban in force; see `Backend.lift`."""
        ...

    async def forget(self, key: str, policy: Policy, *, strikes: bool, now: Now = None) -> None:
        """Drop the record or its meters; see `Backend.forget`."""
        ...

    async def read(self, key: str, policy: Policy, *, now: Now = None) -> Reading:
        """Return the record; see `Backend.read`."""
        ...

    def records(self, policies: Policies, *, now: Now = None) -> AsyncIterator[Reading]:
        """Stream the records; see `Backend.records`."""
        ...

    def bans(self, policies: Policies, *, now: Now = None) -> AsyncIterator[Ban]:
        """Stream the bans; see `Backend.bans`."""
        ...

    async def close(self) -> None:
        """Let go of connections; see `Backend.close`."""
        ...


class Immediate:
    """`AsyncBackend` over a store whose verbs never wait, such as one in this process."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def evaluate(
        self,
        hits: Sequence[Hit],
        policies: Policies,
        *,
        now: Now = None,
        stop: bool = False,
        peek: bool = False,
    ) -> list[Reply | None]:
        """Decide a batch at once."""
        return self._backend.evaluate(hits, policies, now=now, stop=stop, peek=peek)

    async def ban(
        self,
        key: str,
        policy: Policy,
        *,
        index: int,
        duration: int | None,
        reason: str,
        id: str,
        now: Now = None,
    ) -> Ban:
        """Ban by hand at once."""
        return self._backend.ban(key, policy, index=index, duration=duration, reason=reason, id=id, now=now)

    async def lift(self, key: str, policy: Policy, *, now: Now = None) -> Ban | None:
        """End the ban in force at once."""
        return self._backend.lift(key, policy, now=now)

    async def forget(self, key: str, policy: Policy, *, strikes: bool, now: Now = None) -> None:
        """Drop the record or its meters at once."""
        self._backend.forget(key, policy, strikes=strikes, now=now)

    async def read(self, key: str, policy: Policy, *, now: Now = None) -> Reading:
        """Return the record at once."""
        return self._backend.read(key, policy, now=now)

    async def records(self, policies: Policies, *, now: Now = None) -> AsyncIterator[Reading]:
        """Stream the records."""
        for reading in self._backend.records(policies, now=now):
            yield reading

    async def bans(self, policies: Policies, *, now: Now = None) -> AsyncIterator[Ban]:
        """Stream the bans."""
        for ban in self._backend.bans(policies, now=now):
            yield ban

    async def close(self) -> None:
        """Close the store at once."""
        self._backend.close()


def open_backend(url: str, *, deadline: int = 50_000, denial_cache: bool | None = None) -> Backend:
    """Return the store that `url` names, without connecting.

    `deadline` (us) and `denial_cache` (`None`: on, unless the clock is injected) are for stores outside this
    process. Raises `ConfigError` for a scheme that no plugin serves, or a setting in the URL that the store does not
    know.
    """
    openers = plugins.loaded().openers()
    wrong = wrong_url(url, openers)
    if wrong:
        raise ConfigError(f"backend: {wrong}")
    store = openers[url.partition("://")[0].lower()](url, deadline=deadline, denial_cache=denial_cache)
    if not isinstance(store, Backend):
        raise ConfigError(f"backend: a plugin opened a {type(store).__name__}, which lacks a verb of Backend")
    return store


def keeps_escalations(url: str) -> bool:
    """Return whether the store that a URL names keeps escalations; never connects. Raises as `open_backend` does."""
    backend = open_backend(url)
    backend.close()
    return backend.traits.durable


def adopt(backend: object, *, deadline: int = 50_000, denial_cache: bool | None = None) -> Backend:
    """Return the store that an object is, or that a client of the application reaches. Raises `ConfigError`."""
    from banhammer.backends.builtin import open_memcached, open_redis

    packages = {base.__module__.partition(".")[0] for base in type(backend).__mro__}
    if packages & {"redis", "valkey"}:
        return open_redis(backend, deadline=deadline, denial_cache=denial_cache)
    if "pymemcache" in packages:
        return open_memcached(backend, deadline=deadline, denial_cache=denial_cache)
    if isinstance(backend, Backend):  # Last: a client that wraps another one may say that it has any verb.
        return backend
    raise ConfigError(
        f"backend: a {type(backend).__name__}; give a URL, a client of redis-py or pymemcache, or an object with the "
        "verbs of Backend"
    )


def query(url: str, known: Mapping[str, Callable[[str], object]]) -> dict[str, object]:
    """Return a backend's own settings from the query of its URL, each converted by its entry in `known`.

    Raises `ConfigError` that names the setting and its value.
    """
    settings: dict[str, object] = {}
    try:
        parts = urlsplit(url).query.split("&")
    except ValueError:
        raise ConfigError("backend: the URL cannot be read; write scheme://user:password@host:port") from None
    for part in filter(None, parts):
        name, equals, text = part.partition("=")
        if not equals:
            raise ConfigError("backend: a part of the URL's query has no '='; write name=value")
        if name not in known:
            hint = did_you_mean(name, known) or f"; known: {', '.join(sorted(known))}"
            raise ConfigError(f"backend: unknown setting {name!r}{hint}")
        try:
            settings[name] = known[name](text)
        except ValueError as error:
            raise ConfigError(f"backend: {name}={text}; {error}") from error
    return settings
