"""A decision of any kind can be copied, sent to another process, and stood in for by a test double."""

from __future__ import annotations

import copy
import pickle
from unittest.mock import Mock, create_autospec

from banhammer import BanHammer, Decision, Policy, Threshold
from servers.standalone import Standalone

POLICIES = [
    Policy("throttle", [Threshold(2, "1h")]),
    Policy("ban", [Threshold(2, "1h", ban="1h")], deny=["203.0.113.0/24"]),
]


def every_kind(url: str) -> dict[str, Decision]:
    """Return one decision of each kind that hits of one unit are answered with, by the name of its class."""
    found: dict[str, Decision] = {}
    for backend in ("memory://", url):
        with BanHammer(POLICIES, backend=backend, deadline="5s") as hammer:
            for policy in ("throttle", "ban"):
                for key in ("203.0.113.9", *["198.51.100.7"] * 4):
                    decision = hammer.hit(key, policy)
                    found[type(decision).__name__] = decision
    return found


def test_a_decision_of_any_kind_can_be_copied_and_pickled(standalone: Standalone) -> None:
    kinds = every_kind(standalone.url)
    assert kinds.keys() == {"FullDecision", "Admission", "Told", "CachedBan", "CachedThrottle"}
    for decision in kinds.values():
        for other in (copy.copy(decision), copy.deepcopy(decision), pickle.loads(pickle.dumps(decision))):
            assert (other, repr(other), bool(other)) == (decision, repr(decision), bool(decision))


def test_a_test_double_has_all_that_a_decision_has() -> None:
    for double in (Mock(spec=Decision), create_autospec(Decision, instance=True)):
        assert all(hasattr(double, name) for name in ("allowed", "verdict", "key", "retry_after", "remaining"))
