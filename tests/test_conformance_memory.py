"""The conformance kit on the memory store, and on the ideal store itself."""

from __future__ import annotations

import pytest

from banhammer.backends.memory import MemoryBackend
from banhammer.testing.conformance import Conformance
from banhammer.testing.conformance.stage import Opener


class TestMemory(Conformance):
    keeps_bytes = False

    @pytest.fixture
    def opener(self) -> Opener:
        return MemoryBackend
