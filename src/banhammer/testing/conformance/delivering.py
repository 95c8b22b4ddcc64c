"""Promises about escalations in a durable store: none is lost, and each is one worker's at a time."""

from __future__ import annotations

from time import monotonic
from typing import Any

from banhammer.outbox import Delivery, Durable, Note, Outbox
from banhammer.testing.conformance.promises import promise, same
from banhammer.testing.conformance.rules import ACTION, HOSTILE, KEY, rules
from banhammer.testing.conformance.stage import PATIENCE, Stage

ABOUT = "a durable store hands each escalation to one worker"


class Delivering:
    """Tests of the escalations that a durable store keeps; of any other, that it promises nothing."""

    def test_a_store_is_durable_exactly_where_it_hands_escalations_to_workers(self, stage: Stage) -> None:
        """What `traits.durable` declares, `outbox` and `dead_letters` keep."""
        durable = isinstance(stage.backend, Durable)
        same(stage.backend.traits.durable, durable, "traits.durable says whether there are outbox and dead_letters")

    def test_an_escalation_is_taken_once_and_again_where_it_was_left(self, stage: Stage) -> None:
        """Until it is done, in any worker's hands, it is somewhere."""
        if not isinstance(stage.backend, Durable):
            return
        hammer = _hammer(stage)
        until = hammer.hit(KEY, "trap").banned_until
        first, second = stage.backend.outbox(), stage.backend.outbox()
        (delivery,) = first.take(10)
        facts = (delivery.escalation.key, delivery.escalation.policy, delivery.escalation.until, delivery.names)
        same(facts, (KEY, "trap", until, (ACTION,)), "an escalation says what happened")
        same(second.take(10), [], ABOUT)
        same(second.claim(10, 60.0), [], f"{ABOUT}, until that one is silent")
        same(first.write([Note("failed", delivery, ACTION, 3), Note("left", delivery)]), [], "notes are written down")
        (again,) = second.claim(10, 60.0)
        same(again.escalation, delivery.escalation, "an escalation is the same each time, its id too")
        same(again.attempts, {ACTION: 3}, "what failed before is known to the next worker")
        same(second.write([Note("done", again)]), [], "notes are written down")
        same([*first.take(10), *first.claim(10, 0.0)], [], "what is done does not come back")
        hammer.unban(KEY, "trap")
        (lifted,) = second.take(10)
        same(
            (lifted.escalation.verdict, lifted.escalation.id),
            ("lifted", delivery.escalation.id),
            "a lift has its ban's id",
        )

    def test_a_worker_that_is_silent_is_succeeded(self, stage: Stage) -> None:
        """What nobody has kept for the time that a worker may be silent is claimed, and what ran does not run again."""
        if not isinstance(stage.backend, Durable):
            return
        _hammer(stage).hit(KEY, "trap")
        silent, next_one = stage.backend.outbox(), stage.backend.outbox()
        (delivery,) = silent.take(10)
        same(silent.keep([delivery]), [delivery], "a worker keeps what it holds")
        (again,) = _claimed(next_one)
        same(silent.keep([delivery]), [], "what another worker has claimed is that one's")
        same(again.escalation.id, delivery.escalation.id, "an escalation is the same each time, its id too")
        next_one.write([Note("ran", again, ACTION), Note("left", again)])
        same(silent.claim(10, 60.0), [], "an action that ran does not run again")

    def test_what_fails_for_good_is_a_dead_letter_until_it_is_retried_or_dropped(self, stage: Stage) -> None:
        """A dead letter tells what failed and why; delivered anew it is the same escalation."""
        if not isinstance(stage.backend, Durable):
            return
        _hammer(stage).hit(KEY, "trap")
        outbox, letters = stage.backend.outbox(), stage.backend.dead_letters()
        (delivery,) = outbox.take(10)
        outbox.write([Note("dead", delivery, ACTION, 7, "no such host"), Note("done", delivery)])
        (letter,) = letters.letters()
        told = (letter.escalation, letter.action, letter.attempts, letter.error)
        same(told, (delivery.escalation, ACTION, 7, "no such host"), "a dead letter tells what failed, and why")
        same((letters.backlog().waiting, letters.backlog().dead), (0, 1), "the backlog is counted")
        promise(letters.retry(letter.id), "a dead letter can be delivered anew")
        promise(not letters.retry(letter.id), "but once")
        (again,) = outbox.take(10)
        same((again.escalation, again.names), (delivery.escalation, (ACTION,)), "delivered anew it is the same")
        outbox.write([Note("dead", again, ACTION, 1, "still not"), Note("done", again)])
        (letter,) = letters.letters()
        same([letters.drop(letter.id), letters.drop(letter.id), letters.drop("nonsense")], [True, False, False], "drop")
        same(list(letters.letters()), [], "what was dropped is gone")

    def test_an_escalation_holds_the_key_as_it_was(self, stage: Stage) -> None:
        """Whatever a key holds, its actions are told of that very key."""
        if not isinstance(stage.backend, Durable):
            return
        hammer, outbox = _hammer(stage), stage.backend.outbox()
        for key in HOSTILE:
            hammer.hit(key, "trap")
        keys: set[str] = set()
        while found := outbox.take(100):
            keys |= {each.escalation.key for each in found}
        same(keys, set(HOSTILE), "an escalation holds the key as it was")


def _hammer(stage: Stage) -> Any:
    """Return a hammer that leaves all actions to workers."""
    return stage.hammer(rules(), worker="external")


def _claimed(outbox: Outbox) -> list[Delivery]:
    """Claim what was idle for a millisecond; the store's own clock tells, so it may need another call or two."""
    found: list[Delivery] = []
    ends = monotonic() + PATIENCE
    while not found and monotonic() < ends:
        found = outbox.claim(10, 0.001)
    return found
