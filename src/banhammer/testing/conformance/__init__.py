"""The conformance kit: the whole contract of a store, as tests that the author of a backend runs on it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

import pytest

from banhammer.backends import Backend
from banhammer.model import Policy
from banhammer.testing.conformance.banning import Banning
from banhammer.testing.conformance.deciding import Deciding
from banhammer.testing.conformance.delivering import Delivering
from banhammer.testing.conformance.keeping import Keeping
from banhammer.testing.conformance.rules import JUNK
from banhammer.testing.conformance.sharing import Sharing
from banhammer.testing.conformance.stage import Opener, Pair, Stage
from banhammer.testing.conformance.walk import Damage

__all__ = ["Conformance"]


class Conformance(Deciding, Banning, Keeping, Sharing, Delivering):
    """The tests that every store passes, by threads and awaited.

    Inherit from it in a test file, in a class whose name begins with `Test`, and give a fixture `opener`: a callable
    without arguments that opens the store of the test, which begins empty. Where `traits.shared`, each call opens the
    same store, and other processes call it too: it can be pickled, as `functools.partial(Store, path)` can.

    A store that keeps records as bytes also gives `damage`, and counts in `damaged`; one that keeps objects says
    `keeps_bytes = False`.
    """

    keeps_bytes = True

    @pytest.fixture
    def opener(self) -> Opener:
        """What opens the store of a test."""
        raise NotImplementedError(f"{type(self).__name__}: give a fixture `opener` that returns what opens your store")

    def damage(self, backend: Backend, key: str, policy: Policy, junk: bytes) -> None:
        """Put `junk` in the place of the record of `key` under `policy`, if there is one."""
        raise NotImplementedError(
            f"{type(self).__name__}: give damage(backend, key, policy, junk), which puts junk in the place of a record;"
            " or say keeps_bytes = False, if your store keeps objects"
        )

    @pytest.fixture(params=["sync", "async"])
    def stage(self, opener: Opener, request: pytest.FixtureRequest) -> Iterator[Stage]:
        """The store, empty, and hammers of one kind on it."""
        stage = Stage(opener, request.param)
        yield stage
        stage.close()

    @pytest.fixture
    def pair(self, stage: Stage) -> Pair:
        """Hammers on the store beside hammers on the ideal one."""
        return stage.pair()

    @pytest.fixture
    def spoil(self, stage: Stage) -> Damage | None:
        """What damages a record, with other junk each time; `None` for a store that keeps no bytes."""
        if not self.keeps_bytes:
            return None
        junk = cycle(JUNK)
        return lambda key, policy: self.damage(stage.backend, key, policy, next(junk))
