"""Several stores that are asked the same, at one hand-moved clock, and must tell the same (G15)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import fields, replace
from random import Random
from typing import Any

import pytest

from banhammer import AsyncBanHammer, BanHammer, Policy
from banhammer.backends.names import escape, is_cut, shorten
from banhammer.model import Ban, Escalation, Status
from banhammer.testing import ManualClock
from differential_stores import Store

SECONDS = 10.0

Place = tuple[str, str]
"""A key, and the name of a policy."""


class Fleet:
    """The stores, opened once for many histories, and how many steps were taken on all of them."""

    def __init__(self, stores: dict[str, Store]) -> None:
        self.stores = stores
        self.runner = asyncio.Runner()
        self.steps = 0
        self.calls = 0

    def close(self) -> None:
        """Close every store, for threads and for the event loop."""
        for store in self.stores.values():
            store.backend.close()
            self.runner.run(store.backend.aio.close())
        self.runner.close()


class Note:
    """An action that writes down what it is told, also when that is undone."""

    def __init__(self) -> None:
        self.seen: list[Escalation] = []

    def run(self, escalation: Escalation) -> None:
        self.seen.append(escalation)

    lift = run


class Side:
    """One emptied store, and the shells on it: a sync and an async one for each version of the policies."""

    def __init__(
        self, name: str, store: Store, versions: Sequence[Sequence[Policy]], clock: ManualClock, **lists: Any
    ) -> None:
        self.name = name
        self.store = store
        self.note = Note()
        settings = {"backend": store.emptied(), "actions": {"note": self.note}, "clock": clock, **lists}
        self.shells = [(BanHammer(each, **settings), AsyncBanHammer(each, **settings)) for each in versions]

    def told(self) -> Counter[tuple[Any, ...]]:
        """Return what the actions were told, without the ids, which are every store's own."""
        names = [field.name for field in fields(Escalation) if field.name != "id"]
        return Counter(tuple(getattr(each, name) for name in names) for each in self.note.seen)


class Sides:
    """One history's sides; `seed` settles which calls are awaited."""

    def __init__(
        self, fleet: Fleet, versions: Sequence[Sequence[Policy]], clock: ManualClock, seed: int, **lists: Any
    ) -> None:
        self.fleet = fleet
        self.version = 0
        self.all = [Side(name, store, versions, clock, **lists) for name, store in fleet.stores.items()]
        self._coin = Random(seed)

    @property
    def first(self) -> BanHammer:
        """The shell in force on the store that the others are compared with."""
        return self.all[0].shells[self.version][0]

    def call(self, verb: str, *arguments: Any) -> Any:
        """Call a verb on every side, sync or awaited as it comes; return what all of them told."""
        expected, *others = self.all
        wanted = self._told(expected, verb, *arguments)
        for side in others:
            self._same(self._told(side, verb, *arguments), wanted, f"{verb}{arguments!r} on {side.name}")
        return wanted

    def refuse(self, verb: str, *arguments: Any) -> str:
        """Call a verb that every side refuses for a wrong argument; return what they say of it."""
        said = self.call(verb, *arguments)
        assert isinstance(said, str), (verb, arguments, said)
        return said

    def held(self, policy: str, key: str) -> list[object]:
        """Return all that each store keeps of a record."""
        return [side.store.held(policy, key) for side in self.all]

    def lists(self) -> tuple[dict[Place, Status], list[Ban]]:
        """Return all records, by their names in a store, and all bans; the same in every store that lists them."""
        expected, *others = self.all
        wanted = self._listed(expected)
        for side in others:
            if side.store.backend.traits.lists_bans:
                records, bans = self._listed(side)
                self._same(records, wanted[0], f"all records on {side.name}")
                self._same(Counter(bans), Counter(wanted[1]), f"all bans on {side.name}")
        return wanted

    def close(self) -> None:
        """Close every shell once its escalations have run, and compare what the actions were told."""
        for side in self.all:
            for hammer, twin in side.shells:
                assert hammer.drain(SECONDS)
                assert self.fleet.runner.run(twin.drain(SECONDS))
                hammer.close()
                self.fleet.runner.run(twin.close())
        wanted = self.all[0].told()
        for side in self.all:
            told = side.told()
            self._same((told - wanted, wanted - told), (Counter(), Counter()), f"escalations on {side.name}")
            ids = [each.id for each in side.note.seen if each.verdict != "lifted"]  # Lifted by the ban's own id.
            assert len(set(ids)) == len(ids), side.name

    def _told(self, side: Side, verb: str, *arguments: Any) -> Any:
        """Return what a verb returns, a batch as a list, or the text of what it refuses."""
        self.fleet.calls += 1
        call: Callable[..., Any] = getattr(side.shells[self.version][self._coin.random() < 0.5], verb)
        try:
            told = call(*arguments)
            if isinstance(told, Coroutine):
                told = self.fleet.runner.run(told)
        except ValueError as error:
            return str(error)
        except KeyError as error:
            return repr(error)
        return list(told) if verb == "hit_many" else anonymous(told)

    def _listed(self, side: Side) -> tuple[dict[Place, Status], list[Ban]]:
        hammer, twin = side.shells[self.version]
        if self._coin.random() < 0.5:
            records, bans = list(hammer.status_all()), list(hammer.bans())
        else:
            run = self.fleet.runner.run
            records, bans = run(collected(twin.status_all())), run(collected(twin.bans()))
        assert len({ban.id for ban in bans}) == len(bans), side.name
        named = {place_of(record): in_store(record) for record in records}
        assert len(named) == len(records), side.name
        return named, list(map(anonymous, bans))

    def _same(self, told: object, wanted: object, what: str) -> None:
        if told != wanted:
            pytest.fail(f"{what}, under version {self.version}\n told   {told!r}\n wanted {wanted!r}")


def anonymous(told: Any) -> Any:
    """Return what a verb told without the ids, which are every store's own."""
    if isinstance(told, Ban):
        assert told.id
        return replace(told, id="")
    if isinstance(told, Status):
        return replace(told, ban=anonymous(told.ban))
    return told


def place_of(status: Status) -> Place:
    """Return where a shared store keeps a record: its key as it is spelled there, and its policy."""
    return (status.key if is_cut(status.key) else shorten(escape(status.key))), status.policy


def in_store(status: Status) -> Status:
    """Return a record as a shared store lists it: a cut name is told as it is, and nothing of its ban."""
    key, _ = place_of(status)
    return replace(status, key=key, ban=None) if is_cut(key) else anonymous(replace(status, key=key))


async def collected(stream: AsyncIterator[Any]) -> list[Any]:
    return [each async for each in stream]
