"""Promises about callers at once: one budget, one strike, one escalation (G13, G14)."""

from __future__ import annotations

from collections import Counter

from banhammer.testing.conformance import crew
from banhammer.testing.conformance.crew import BURST, KEYS, Tally
from banhammer.testing.conformance.promises import promise, same
from banhammer.testing.conformance.rules import KEY, rules
from banhammer.testing.conformance.stage import Opener, Stage


class Sharing:
    """Tests of a store under many callers."""

    def test_threads_or_tasks_share_one_budget(self, stage: Stage) -> None:
        """Threads, or tasks of two event loops, on one backend object."""
        _exact(crew.by_threads(stage.backend) if stage.kind == "sync" else crew.by_tasks(stage.backend))

    def test_both_shells_serve_one_store_at_once(self, stage: Stage) -> None:
        """Threads and tasks on one backend object."""
        _exact(crew.by_both(stage.backend))

    def test_processes_share_one_budget_where_the_store_is_shared(self, stage: Stage, opener: Opener) -> None:
        """Processes that open the store themselves; what they stored is seen here, or it is not a shared store."""
        told = crew.by_processes(opener, stage.kind)
        if stage.backend.traits.shared:
            _exact(told)
        hammer = stage.hammer(crew.contested())
        strikes = {hammer.status(key, "ban").strikes for key in KEYS}
        same(
            strikes,
            {int(stage.backend.traits.shared)},
            "other processes see a store exactly where traits.shared says so",
        )

    def test_operators_at_once_make_one_ban_and_lift_it_once(self, stage: Stage) -> None:
        """As many strikes as bans, and one ban to return."""
        hammer = stage.hammer(rules())
        for turn in range(1, 9):
            made = hammer.at_once("ban", KEY, "login", "1h")
            same({ban.strikes for ban in made}, {turn}, "one ban, however many ask for it at once, is one strike")
            lifted = hammer.at_once("unban", KEY, "login")
            same(sum(ban is not None for ban in lifted), 1, "one ban is lifted once, however many ask for it at once")


def _exact(tally: Tally) -> None:
    places = {(policy, key) for policy in ("throttle", "ban") for key in KEYS}
    text = "under concurrency each key is decided as if its hits had come one at a time: exactly its burst is admitted"
    same(dict(tally.admitted), dict.fromkeys(places, BURST), text)
    same(tally.strikes, {0, 1}, "concurrent crossings of one threshold are one strike")
    told = Counter((each.policy, each.key) for each in tally.escalations)
    same(told, Counter(places), "concurrent crossings of one threshold are one escalation")
    promise(len({each.id for each in tally.escalations}) == len(places), "every escalation has an id of its own")
