"""Promises about decisions: each is what the core makes of the record, at the time that is given."""

from __future__ import annotations

import time
from random import Random
from typing import Final

import pytest

from banhammer import core
from banhammer.core import FRESH, Reply
from banhammer.model import Hit, Policy, Record, Threshold
from banhammer.testing.conformance.promises import promise, same
from banhammer.testing.conformance.rules import KEY, START
from banhammer.testing.conformance.scenes import SCENES, play
from banhammer.testing.conformance.stage import PATIENCE, Pair, Stage
from banhammer.testing.conformance.walk import Damage, Walk, random_rules

WALKS: Final = 4
STEPS: Final = 150
DAY: Final = 86_400


class Deciding:
    """Tests of what a store decides."""

    @pytest.mark.parametrize("scene", SCENES)
    def test_a_scene_ends_as_the_rules_say(self, pair: Pair, scene: str) -> None:
        """Each scene shows one promise by its edge."""
        pair.about = scene
        play(pair, SCENES[scene])

    @pytest.mark.parametrize("seed", range(WALKS))
    def test_a_random_walk_is_the_same_on_the_ideal_store(self, stage: Stage, spoil: Damage | None, seed: int) -> None:
        """G15: equal histories at equal times, equal decisions."""
        rng = Random(seed)  # noqa: S311  # Repeatable, and no secret.
        versions = [random_rules(rng) for _ in range(3)]
        pair = stage.pair(*versions)
        pair.about = f"equal histories make equal decisions (walk {seed})"
        Walk(rng, pair, versions, spoil).take(STEPS)

    def test_a_reply_is_what_the_core_makes_of_the_record(self, stage: Stage) -> None:
        """The raw facts, which all decisions come from; the time is given as a number, or told by a clock."""
        verbs, clock = stage.verbs(), stage.clock
        rng = Random(1)  # noqa: S311  # Repeatable, and no secret.
        levels = [Threshold(3, "1s"), Threshold(6, "1s", ban="2s"), Threshold(9, "1m", ban="1h")]
        policy = Policy("p", levels, track=["1m"], mode="enforce")
        record: Record = FRESH
        for _ in range(80):
            clock.move_to(clock.now + rng.choice((0, 1, 300_000, 2_000_000)))
            peek, guard = rng.choice(((False, False), (False, False), (False, True), (True, False)))
            hit = Hit(KEY, "p", cost=rng.choice((1, 1, 2, 20)), guard=guard)
            now = clock if rng.random() < 0.5 else clock.now
            (told,) = verbs.evaluate([hit], {"p": policy}, now=now, peek=peek)
            expected = core.evaluate(policy, record, hit.cost, clock.now, guard=hit.guard)
            same(
                _facts(told), _facts(expected), f"Reply of {hit!r}, peek={peek}: what core.evaluate makes of {record!r}"
            )
            if peek:
                same(told.ids, (), "a peek escalates nothing: its Reply.ids is empty")
                continue
            same(told.counted, expected.counted, "Reply.counted: whether the hit was stored; an allowed guard is not")
            same(len(set(told.ids)), len(told.tripped), "Reply.ids: one id of its own for each tripped threshold")
            promise(all(told.ids), "Reply.ids: no id is empty")
            record = expected.record if expected.counted else record

    def test_without_an_injected_time_the_stores_own_clock_decides(self, stage: Stage) -> None:
        """Microseconds since the Unix epoch, which go on."""
        verbs, policies = stage.verbs(), {"p": Policy("p", [Threshold(1, "1h")], mode="enforce")}
        first, second = (verbs.evaluate([Hit(KEY, "p")], policies)[0] for _ in range(2))
        promise(abs(first.now / 1e6 - time.time()) < DAY, f"Reply.now is in Unix microseconds: {first.now}")
        promise(second.now >= first.now, f"a store's clock goes on: {first.now}, then {second.now}")
        same((first.verdict, second.verdict), ("allowed", "throttled"), "the second unit of one an hour is denied")

    def test_what_has_lapsed_by_the_stores_own_clock_reads_as_absent(self, stage: Stage) -> None:
        """G10, by real time: a throttle, a ban, its strike."""
        level = Threshold(1, "100ms", ban="200ms")
        hammer = stage.hammer([Policy("p", [level], forgive_after="200ms")])
        same([hammer.hit(KEY, "p").verdict for _ in range(2)], ["allowed", "banned"], "the second hit bans")
        end = time.monotonic() + PATIENCE
        while hammer.status(KEY, "p").strikes and time.monotonic() < end:
            time.sleep(0.02)
        status = hammer.status(KEY, "p")
        told = (status.strikes, status.banned_until, status.ban, status.remaining, hammer.peek(KEY, "p").verdict)
        same(told, (0, None, None, (1,), "allowed"), "what has lapsed reads as absent")

    def test_a_peek_changes_nothing(self, stage: Stage) -> None:
        """G5, also where what was stored has lapsed or must be clamped."""
        verbs, clock = stage.verbs(), stage.clock
        policy = Policy("p", [Threshold(2, "2s"), Threshold(3, "1m", ban="1m")], track=["1m"], mode="enforce")
        for cost, to in ((1, 0), (2, 1), (4, 1), (1, 90_000_000), (1, -60_000_000), (9, 400_000_000)):
            clock.move_to(START + to)
            before = verbs.read(KEY, policy, now=clock)
            for peeked in (1, 3, 50):
                verbs.evaluate([Hit(KEY, "p", cost=peeked)], {"p": policy}, now=clock, peek=True)
            same(verbs.read(KEY, policy, now=clock), before, "a peek changes nothing")
            verbs.evaluate([Hit(KEY, "p", cost=cost)], {"p": policy}, now=clock)


def _facts(reply: Reply) -> tuple[object, ...]:
    return (reply.verdict, reply.now, reply.record, reply.tripped, reply.degraded)
