"""Promises about what is kept: keys apart, damage unseen, nothing lost by closing."""

from __future__ import annotations

from typing import Any, Final

from banhammer.model import Hit, Policy, Threshold
from banhammer.testing.conformance.promises import promise, same
from banhammer.testing.conformance.rules import HOSTILE, JUNK, KEY, rules
from banhammer.testing.conformance.stage import Pair, Stage
from banhammer.testing.conformance.walk import Damage

FLOOD: Final = 2_000
NAMES: Final = ("p", "p.a", "p-a")


class Keeping:
    """Tests of what a store keeps."""

    def test_keys_and_policies_never_influence_each_other(self, stage: Stage) -> None:
        """G18, for keys that nobody would choose, and policies whose names begin alike."""
        hammer = stage.hammer([Policy(name, [Threshold(1000, "1h")]) for name in NAMES], clock=stage.clock)
        for name in NAMES:
            told = hammer.hit_many([Hit(key, name, cost=number) for number, key in enumerate(HOSTILE, 1)])
            for number, (key, decision) in enumerate(zip(HOSTILE, told, strict=True), 1):
                same(decision.remaining, 1000 - number, f"key {key[:60]!r} under {name!r} is a key of its own")
        for number, key in enumerate(HOSTILE, 1):
            told = [hammer.hit(key, name).remaining for name in NAMES]
            same(told, [1000 - number - 1] * 3, f"key {key[:60]!r} has a record of its own under each policy")

    def test_a_ban_is_told_by_its_key_whatever_that_is(self, stage: Stage) -> None:
        """By a hit or by hand; one is lifted, and no other."""
        hammer = stage.hammer([Policy("p", [Threshold(1, "1h", burst=0, ban="1h")])], clock=stage.clock)
        for key in HOSTILE[::2]:
            hammer.ban(key, "p", reason=key[:100])
        hammer.hit_many([Hit(key, "p") for key in HOSTILE[1::2]])
        bans = {key: hammer.status(key, "p").ban for key in HOSTILE}
        for key in HOSTILE:
            reason = key[:100] if key in HOSTILE[::2] else "over 1 per 1h"
            ban = bans[key]
            promise(ban is not None, f"key {key[:60]!r} is banned")
            same((ban.key, ban.reason), (key, reason), f"the ban of key {key[:60]!r} tells its key and its reason")
        if stage.backend.traits.lists_bans:
            same({ban.key: ban for ban in hammer.bans()}, bans, "bans tells every key as it is, however long")
        for number, key in enumerate(HOSTILE):
            same(hammer.unban(key, "p"), bans[key], f"unban lifts the ban of key {key[:60]!r}")
            rest = HOSTILE[number + 1 : number + 2]
            same(
                [hammer.peek(other, "p").verdict for other in rest], ["banned"] * len(rest), "unban lifts one ban only"
            )

    def test_a_damaged_record_reads_as_absent_and_is_counted(
        self, pair: Pair, stage: Stage, spoil: Damage | None
    ) -> None:
        """G21: it is never an exception, whichever verb meets it."""
        backend: Any = stage.backend
        if spoil is None:
            promise(not hasattr(backend, "damaged"), "a store that counts damaged records keeps bytes")
            return
        policy = rules()[0]
        for verb, *arguments in (
            ("hit", KEY, "login", 1), ("peek", KEY, "login", 1), ("guard", KEY, "login", 1), ("status", KEY, "login"),
            ("ban", KEY, "login", "1h"), ("unban", KEY, "login"), ("reset", KEY, "login", False),
            ("reset", KEY, "login"),
        ):  # fmt: skip
            for _ in JUNK:
                pair.about = f"a damaged record reads as absent ({verb})"
                pair.ask("hit", KEY, "login", 11)
                before = backend.damaged
                spoil(KEY, policy)
                pair.forget(KEY, "login")
                pair.listing()
                pair.ask(verb, *arguments)
                unread = arguments == [KEY, "login"] and verb == "reset"  # It drops what is there, whatever it is.
                counted = backend.damaged > before
                promise(counted or unread, f"a damaged record is counted in the store's `damaged` ({verb})")

    def test_nothing_leaves_before_it_has_lapsed(self, stage: Stage) -> None:
        """By real time, not by an injected one of long ago; `traits.evicts` declares that room may be made earlier."""
        hammer = stage.hammer(rules(), clock=stage.clock)
        hammer.hit(KEY, "api", 3)
        hammer.ban(KEY, "login", "1h")
        for start in range(0, FLOOD, 500):
            hammer.hit_many([Hit(f"k{number}", "api") for number in range(start, start + 500)])
        if not stage.backend.traits.evicts:
            told = [hammer.peek(KEY, name).verdict for name in ("api", "login")]
            same(told, ["throttled", "banned"], f"a record outlives {FLOOD:,} others")

    def test_what_is_stored_outlives_whoever_stored_it_where_the_store_is_shared(self, stage: Stage) -> None:
        """Closing lets go of connections, not of records; a store of one process begins empty."""
        hammer = stage.hammer(rules(), clock=stage.clock)
        hammer.hit(KEY, "api", 3)
        ban = hammer.ban(KEY, "login", "1h", reason="stays")
        if stage.backend.traits.shared:
            hammer.close()
            stage.let_go()
        later = stage.hammer(rules(), backend=stage.open(), clock=stage.clock)
        if stage.backend.traits.shared:
            same(later.status(KEY, "login").ban, ban, "a ban outlives the process that made it")
            same(later.hit(KEY, "api").verdict, "throttled", "a record outlives the process that made it")
        else:
            same(later.status(KEY, "login").ban, None, "traits.shared is False: no other object sees a ban")
            same(later.hit(KEY, "api").verdict, "allowed", "traits.shared is False: no other object sees a record")
