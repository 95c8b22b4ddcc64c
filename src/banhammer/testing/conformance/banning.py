"""Promises about bans: their details, how long they hold, and that each crossing is one escalation."""

from __future__ import annotations

import math
from typing import Any

import pytest

from banhammer.errors import BackendError
from banhammer.model import Escalation, Hit, Policy, Threshold
from banhammer.testing.conformance.promises import promise, same
from banhammer.testing.conformance.rules import ACTION, KEY, START, rules
from banhammer.testing.conformance.stage import PATIENCE, Stage

SPANS = {"1s": 1.0, "30d": 2_592_000.0, "31d": 2_678_400.0, "365d": 31_536_000.0, "forever": math.inf}


class Banning:
    """Tests of bans."""

    def test_a_ban_tells_since_when_until_when_by_whom_why_and_the_escalations_id(self, stage: Stage) -> None:
        """The details of a ban by a hit, lengthened by hand, and by a hit again."""
        seen: list[Escalation] = []
        hammer = stage.hammer(rules(), clock=stage.clock, actions={ACTION: seen.append})
        start = START / 1e6
        hammer.hit(KEY, "login", 11)
        hammer.drain(PATIENCE)
        first = hammer.status(KEY, "login").ban
        about = "the details of a ban by a hit"
        same(_details(first), (KEY, "login", 1, 1, start, start + 3600, "hit", "over 10 per 1h"), about)
        same(first.id, seen[-1].id, "the id of a ban is that of its escalation")
        stage.clock.advance("1s")
        shorter = hammer.ban(KEY, "login", "1m", reason="shorter")
        same(shorter, first, "a ban in force is never shortened, and keeps its details")
        longer = hammer.ban(KEY, "login", "2h", reason="by hand \u00e9|\n")
        about = "a ban that is lengthened by hand begins where it began, and says why"
        same(_details(longer), (KEY, "login", 1, 1, start, start + 7201, "manual", "by hand \u00e9|\n"), about)
        promise(longer.id not in ("", first.id), "a ban that is lengthened takes the id of what lengthened it")
        hammer.hit_many([Hit(KEY, "login", cost=60), Hit(KEY, "login", cost=60)])
        hammer.drain(PATIENCE)
        last = hammer.status(KEY, "login").ban
        about = "a ban that a higher threshold lengthens"
        same(_details(last), (KEY, "login", 2, 1, start, start + 86_401, "hit", "over 100 per 1h"), about)
        same(last.id, seen[-1].id, "the id of a ban is that of the escalation that last lengthened it")
        same(hammer.unban(KEY, "login"), last, "unban returns the ban that it lifted")
        same(hammer.status(KEY, "login").ban, None, "a lifted ban is not in force")

    @pytest.mark.parametrize("span", SPANS)
    def test_a_ban_lasts_exactly_as_long_as_it_was_told_to(self, stage: Stage, span: str) -> None:
        """By the store's own clock: nothing is taken for a relative time, or cut."""
        hammer = stage.hammer([Policy("p", [Threshold(1, "1h", burst=0, ban=span)])])
        for key, ban in (("by hand", hammer.ban("by hand", "p", span)), ("by a hit", _hit(hammer, "by a hit"))):
            told = ban.until - ban.since
            promise(told == SPANS[span] or abs(told - SPANS[span]) < 1e-5, f"{key}: a ban of {span} lasts {told} s")
            if span != "1s":
                same(hammer.peek(key, "p").verdict, "banned", f"{key}: a ban of {span} holds")

    def test_bans_and_records_are_listed_where_the_store_declares_it(self, stage: Stage) -> None:
        """Each once, with its details, and no more of other policies; else a `BackendError`."""
        hammer = stage.hammer(rules(), clock=stage.clock)
        other = stage.hammer([Policy("other", [Threshold(1, "1h", ban="1h")])], clock=stage.clock)
        keys = [f"k{number}" for number in range(1_100)]
        hammer.hit_many([Hit(key, "api") for key in keys])
        made = {key: hammer.ban(key, "login", "1h" if key < "k2" else "forever", reason=key) for key in keys[::20]}
        other.ban("k1", "other")
        if not stage.backend.traits.lists_bans:
            _refuses(hammer, "bans")
            _refuses(hammer, "status_all")
            return
        listed = hammer.bans()
        same(len(listed), len(made), "bans lists each ban once")
        same({ban.key: ban for ban in listed}, made, "bans lists every ban in force with its details")
        records = sorted((status.key, status.policy) for status in hammer.status_all())
        expected = sorted([*[(key, "api") for key in keys], *[(key, "login") for key in made]])
        same(records, expected, "status_all lists every record once, of the hammer's own policies")
        stage.clock.advance("3d")
        left = {key: ban for key, ban in made.items() if ban.until == math.inf}
        same({ban.key: ban for ban in hammer.bans()}, left, "bans lists no ban that has ended")
        same({status.key for status in hammer.status_all()}, set(left), "status_all lists nothing that has lapsed")


def _details(ban: Any) -> tuple[Any, ...]:
    promise(ban is not None, "status tells the ban in force")
    return (ban.key, ban.policy, ban.threshold, ban.strikes, ban.since, ban.until, ban.origin, ban.reason)


def _hit(hammer: Any, key: str) -> Any:
    same(hammer.hit(key, "p").verdict, "banned", "a honeypot bans on the first hit")
    ban = hammer.status(key, "p").ban
    promise(ban is not None, "status tells the ban in force")
    return ban


def _refuses(hammer: Any, verb: str) -> None:
    with pytest.raises(BackendError):
        getattr(hammer, verb)()
