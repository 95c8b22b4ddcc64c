"""The rules that the suite tries on every store, an action to watch, and short words for what is expected."""

from __future__ import annotations

from collections.abc import Iterable

from banhammer import Decision, Escalation, Policy, Threshold

KEY = "203.0.113.9"
START = 1_750_000_000_000_000
LOGIN = Policy(
    "login_failed",
    [
        Threshold(5, "1m", actions=["note"]),
        Threshold(10, "1h", ban=["1h", "6h"], actions=["note"]),
        Threshold(100, "1h", ban="1d", actions=["note", "also"]),
    ],
    forgive_after="2d",
)
API = Policy("api", [Threshold(3, "3s")])
SEEN = Policy("seen", [Threshold(2, "1m")], track=["1m", "12m"])
WATCHED = Policy("watched", [Threshold(2, "1h", ban="1h", actions=["note"])], mode="shadow")
TRAP = Policy("trap", [Threshold(1, "1h", burst=0, ban="1h", actions=["note"])])
RULES = [LOGIN, API, SEEN, WATCHED, TRAP]


class Note:
    """An action that can be undone."""

    def __init__(self) -> None:
        self.seen: list[Escalation] = []

    def run(self, escalation: Escalation) -> None:
        self.seen.append(escalation)

    def lift(self, escalation: Escalation) -> None:
        self.seen.append(escalation)


def at(seconds: float) -> float:
    return (START + round(seconds * 1e6)) / 1e6


def verdicts(decisions: Iterable[Decision | None]) -> list[str | None]:
    return [None if decision is None else decision.verdict for decision in decisions]
