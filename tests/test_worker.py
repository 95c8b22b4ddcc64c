"""A worker runs actions off the path of requests: tried again, isolated, in order, and given up in the end."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from acting import PATIENCE, Act, escalation, settled
from banhammer import BanHammer, ConfigError, Escalation, GiveUp, Policy, RetryAfter, Threshold
from banhammer.worker import Worker, crew, terms_of, worker
from redis_children import Child
from servers.waiting import until

TRAP = Policy("trap", [Threshold(1, "1h", burst=0, ban="1h", actions=["note"])])


@pytest.fixture
def release() -> Iterator[threading.Event]:
    """What a hanging action waits for; it is set behind the test, so that no thread outlives it for long."""
    event = threading.Event()
    yield event
    event.set()


def wait_for(event: threading.Event) -> Any:
    return lambda _: event.wait(PATIENCE)


# Trying again.


def test_what_fails_is_tried_again_until_it_runs() -> None:
    act = Act([OSError("no"), OSError("no")])
    ours = Worker({"act": act})
    ours.submit(escalation(), ("act",))
    assert settled(ours)
    assert (len(act.calls), len(act.ran), ours.failures, list(ours.dead)) == (3, 1, 2, [])
    assert len(set(map(id, act.calls))) == 1


def test_what_fails_for_good_is_a_dead_letter_that_says_why() -> None:
    act = Act(then=OSError("no such host"), attempts=3)
    ours = Worker({"act": act})
    ours.submit(escalation(id="one"), ("act",))
    assert settled(ours)
    (letter,) = ours.dead
    assert (letter.id, letter.action, letter.attempts) == ("one/act", "act", 3)
    assert letter.error.startswith("OSError: no such host (")
    assert "acting.py:" in letter.error
    assert letter.escalation == escalation(id="one")
    assert len(act.calls) == 3


def test_waits_double_up_to_a_minute_and_half_of_each_is_left_to_chance() -> None:
    terms = terms_of(Act(backoff="1s"))
    for attempts, longest in ((1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (1_000, 60)):
        waits = [terms.wait(attempts, OSError()) for _ in range(100)]
        assert longest / 2 <= min(waits) < max(waits) <= longest


def test_the_backoff_keeps_time() -> None:
    act = Act([OSError(), OSError()], backoff="60ms")
    ours = Worker({"act": act})
    began = monotonic()
    ours.submit(escalation(), ("act",))
    assert settled(ours)
    assert monotonic() - began >= 0.03 + 0.06


def test_an_action_may_ask_for_a_wait_of_its_own() -> None:
    terms = terms_of(Act(backoff="1ms"))
    assert terms.wait(5, RetryAfter(1.5, "busy")) == 1.5
    assert terms.wait(1, RetryAfter(0)) == 0
    assert terms.wait(1, RetryAfter(float("inf"))) == 3600
    assert all(0 < terms.wait(1, RetryAfter(odd)) <= 0.001 for odd in (-1.0, float("nan")))
    act = Act([RetryAfter(0.05)], backoff="10s")
    ours = Worker({"act": act})
    began = monotonic()
    ours.submit(escalation(), ("act",))
    assert settled(ours)
    assert 0.05 <= monotonic() - began < 10


def test_an_action_may_give_up_at_once() -> None:
    act = Act(then=GiveUp("403"))
    ours = Worker({"act": act})
    ours.submit(escalation(), ("act",))
    assert settled(ours)
    assert [(each.attempts, each.error.partition(" (")[0]) for each in ours.dead] == [(1, "GiveUp: 403")]


def test_terms_of_an_action_that_cannot_be_meant_are_a_config_error() -> None:
    with pytest.raises(ConfigError) as caught:
        Worker({"act": Act(attempts=0, deadline="soon", backoff="2h")})
    deadline, attempts, backoff = caught.value.mistakes
    assert deadline.startswith("actions.act.deadline: 'soon'")
    assert attempts == "actions.act.attempts: 0; write an integer from 1 to 1,000"
    assert backoff == "actions.act.backoff: '2h'; it must be 1ms to 1h"


@pytest.mark.parametrize(
    "error", [SystemExit(1), KeyboardInterrupt(), GeneratorExit()], ids=lambda each: type(each).__name__
)
def test_nothing_that_an_action_raises_ends_the_worker(error: BaseException) -> None:
    act, other = Act([error]), Act()
    ours = Worker({"act": act, "other": other})
    ours.submit(escalation(), ("act", "other"))
    assert settled(ours)
    assert (len(act.ran), len(other.ran), ours.failures) == (1, 1, 1)


def test_an_error_that_cannot_even_be_shown_is_an_error_like_any_other() -> None:
    class Unspeakable(Exception):  # noqa: N818
        def __str__(self) -> str:
            raise RuntimeError("not this either")

    act = Act(then=Unspeakable(), attempts=2)
    ours = Worker({"act": act})
    ours.submit(escalation(), ("act",))
    assert settled(ours)
    assert [each.error.partition(" (")[0] for each in ours.dead] == ["Unspeakable: an error that has no text"]


def test_whoever_is_told_cannot_break_it(caplog: pytest.LogCaptureFixture) -> None:
    def told(*_: object) -> None:
        raise BrokenPipeError("nobody reads this")

    act = Act()
    ours = Worker({"act": act}, told=told)
    for number in range(3):
        ours.submit(escalation(str(number)), ("act",))
    assert settled(ours)
    assert len(act.ran) == 3
    assert caplog.text.count("nobody reads this") == 3


# Deadlines.


def test_a_call_that_outlives_its_deadline_has_failed_and_is_tried_again(
    release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "GRACE", 0.0)
    act = Act([wait_for(release)], deadline="50ms")
    ours = Worker({"act": act})
    ours.submit(escalation(), ("act",))
    assert settled(ours)
    assert (len(act.calls), len(act.ran), ours.failures) == (2, 1, 1)
    release.set()
    until(lambda: len(act.ran) == 2, "the end of the run that hung")
    ours.submit(escalation("another"), ("act",))
    assert settled(ours)
    assert (len(act.ran), ours.failures) == (3, 1)


def test_what_hangs_for_ever_is_a_dead_letter_and_is_not_begun_ever_again(
    release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "GRACE", 0.0)
    act = Act(then=wait_for(release), deadline="20ms", attempts=6)
    ours = Worker({"act": act})
    ours.submit(escalation(), ("act",))
    assert settled(ours)
    assert len(act.calls) == crew.MOST_HANGING
    (letter,) = ours.dead
    assert letter.attempts == 6
    assert (
        letter.error
        == "TimeoutError: 4 earlier runs of it have not ended yet" + letter.error[letter.error.find(" (") :]
    )


def test_a_coroutine_is_cancelled_at_its_deadline() -> None:
    ends: list[str] = []

    async def slow(_: Escalation) -> None:
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            ends.append("cancelled")
            raise

    act = Act(then=slow, deadline="30ms", attempts=2)
    ours = Worker({"act": act})
    ours.submit(escalation(), ("act",))
    assert settled(ours)
    assert ends == ["cancelled", "cancelled"]
    assert [each.error.partition(" (")[0] for each in ours.dead] == ["TimeoutError: "]


def test_a_coroutine_that_blocks_its_loop_is_left_to_itself(
    release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "GRACE", 0.0)

    async def block(_: Escalation) -> None:
        release.wait(PATIENCE)

    act = Act([block], deadline="30ms")
    ours = Worker({"act": act})
    ours.submit(escalation(), ("act",))
    assert settled(ours)
    assert (len(act.calls), ours.failures) == (2, 1)


def test_whatever_can_be_awaited_is_awaited() -> None:
    class Later:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            awaited.append(1)

    awaited: list[int] = []
    ours = Worker({"act": Act(then=lambda _: Later())})
    ours.submit(escalation(), ("act",))
    assert settled(ours)
    assert awaited == [1]


def test_actions_that_hang_hold_no_others_up(release: threading.Event) -> None:
    """Two actions hang, each for as many keys as there are slots; a third runs all the while."""
    good = Act()
    hanging = {name: Act(then=wait_for(release)) for name in ("one", "two")}
    ours = Worker({**hanging, "good": good})
    for number in range(crew.SLOTS):
        ours.submit(escalation(str(number)), ("one", "two", "good"))
    until(lambda: len(good.ran) == crew.SLOTS, "the good action done for all")
    assert not any(act.ran for act in hanging.values())
    assert not ours.drain(0)
    release.set()
    assert settled(ours)
    assert all(len(act.ran) == crew.SLOTS for act in hanging.values())


def test_a_lift_comes_after_the_run_of_its_key_even_where_that_fails_first() -> None:
    def refuse_twice(each: Escalation) -> None:
        if each.key == "k" and sum(call.key == "k" for call in act.calls) < 3:
            raise OSError("not yet")

    act = Act(then=refuse_twice, backoff="20ms")
    ours = Worker({"act": act})
    ours.submit(escalation("k"), ("act",))
    ours.submit(escalation("k", verdict="lifted"), ("act",))
    ours.submit(escalation("other"), ("act",))
    assert settled(ours)
    assert [each.verdict for each in act.ran if each.key == "k"] == ["banned", "lifted"]
    assert [each.verdict for each in act.calls if each.key == "k"] == ["banned"] * 3 + ["lifted"]
    assert act.ran[0].key == "other"


# Draining and closing.


def test_drain_does_not_wait_for_what_is_to_be_tried_again() -> None:
    ours = Worker({"act": Act([OSError()], backoff="1h")})
    ours.submit(escalation(), ("act",))
    assert ours.drain(PATIENCE)
    assert ours.retrying


def test_an_action_that_drains_is_answered_at_once() -> None:
    told: list[bool] = []
    ours = Worker({"act": Act(then=lambda _: told.append(ours.drain(PATIENCE)))})
    began = monotonic()
    ours.submit(escalation(), ("act",))
    assert settled(ours)
    assert (told, monotonic() - began < PATIENCE) == ([False], True)


def test_closing_waits_no_longer_than_it_may_and_tells_what_is_left(
    release: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    ours = Worker({"act": Act(then=wait_for(release)), "other": Act([OSError()], backoff="1h")})
    ours.submit(escalation(), ("act", "other"))
    began = monotonic()
    assert not ours.close(0.2)
    assert 0.2 <= monotonic() - began < PATIENCE
    assert "closed with actions still waiting: 1" in caplog.text


def test_what_comes_after_the_close_is_run_too() -> None:
    act = Act()
    ours = Worker({"act": act})
    for turn in range(1, 4):
        ours.submit(escalation(), ("act",))
        assert ours.close(PATIENCE)
        assert len(act.ran) == turn


def test_threads_end_when_there_is_nothing_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "IDLE", 0.05)
    act = Act()
    ours = Worker({"act": act})
    for turn in range(1, 4):
        ours.submit(escalation(), ("act",))
        until(lambda: not ours._crew._members, "no thread left")
        assert len(act.ran) == turn


def test_a_hammer_that_nobody_holds_any_more_ends_its_threads() -> None:
    act = Act()
    hammer = BanHammer([TRAP], actions={"note": act})
    hammer.hit("k", "trap")
    assert hammer.drain(PATIENCE)
    members = list(hammer._rules.worker._crew._members)
    assert members
    del hammer
    gc.collect()
    for thread in members:
        thread.join(crew.IDLE / 2)
    assert not any(thread.is_alive() for thread in members)


def test_a_thread_that_cannot_be_had_fails_no_hit_and_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    act = Act()
    with BanHammer([TRAP], actions={"note": act}) as hammer:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            assert not hammer.hit("a", "trap")
        assert not hammer.hit("b", "trap")
        assert hammer.drain(PATIENCE)
    assert [each.key for each in act.ran] == ["a", "b"]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_runs_its_own_and_nothing_of_its_parents(release: threading.Event) -> None:
    act = Act([wait_for(release)])
    with BanHammer([TRAP], actions={"note": act}) as hammer:
        hammer.hit("hangs", "trap")
        until(lambda: bool(act.calls), "the action begun")
        hammer.hit("waits", "trap")

        def serve() -> list[str]:
            hammer.hit("child", "trap")
            assert hammer.drain(PATIENCE)
            return [each.key for each in act.ran]

        assert Child(serve).result() == ["child"]
        release.set()
        assert hammer.drain(PATIENCE)
    assert sorted(each.key for each in act.ran) == ["hangs", "waits"]


# Bounds, and what is logged.


def test_beyond_ten_thousand_waiting_actions_escalations_are_dropped_and_counted(
    release: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    act = Act(then=wait_for(release))
    ours = Worker({"act": act})
    for number in range(worker.QUEUE_SIZE + 5):
        ours.submit(escalation(f"k{number}", id=f"e{number}"), ("act",))
    assert ours.dropped == 5
    assert "escalation e10004 dropped: 10000 actions are waiting" in caplog.text
    release.set()
    assert settled(ours, 60)
    assert len(act.ran) == worker.QUEUE_SIZE


def test_no_more_than_a_thousand_dead_letters_are_kept() -> None:
    ours = Worker({"act": Act(then=GiveUp("no"))})
    logging.getLogger("banhammer").disabled = True
    try:
        for number in range(worker.DEAD_LETTERS + 3):
            ours.submit(escalation(f"k{number}", id=f"e{number}"), ("act",))
        assert settled(ours, 60)
    finally:
        logging.getLogger("banhammer").disabled = False
    assert len(ours.dead) == worker.DEAD_LETTERS
    assert ours.failures == worker.DEAD_LETTERS + 3


HOSTILE = ["a\nINFO forged", "\r\x00\x1b[31m", "\ud800", "\u2028\u202e", "k" * 65536, "%s %d {0}"]


@pytest.mark.parametrize("text", HOSTILE, ids=[str(number) for number in range(len(HOSTILE))])
def test_no_line_of_the_log_holds_a_control_character(text: str, caplog: pytest.LogCaptureFixture) -> None:
    class Named(Exception):  # noqa: N818
        pass

    Named.__name__ = f"Named{text[:9]}".replace("\ud800", "").replace("\x00", "")  # No class may be named so.
    act = Act([Named(text)], then=GiveUp(text))
    ours = Worker({"act": act})
    with caplog.at_level(logging.INFO, "banhammer"):
        ours.submit(escalation(text), ("act",))
        ours.submit(escalation(text, shadow=True), ("act",))
        assert settled(ours)
    assert len(caplog.messages) == 3
    for message in caplog.messages:
        assert all(letter.isprintable() for letter in message)
        assert len(message) < 2_000
    (letter,) = ours.dead
    assert letter.escalation.key == text
    assert all(each.isprintable() for each in letter.error)


# Those who only watch.


def test_observers_see_every_escalation_and_harm_nobody(caplog: pytest.LogCaptureFixture) -> None:
    act, watching = Act(), Act()
    observers = {"broken": Act(then=OSError("no")).run, "sound": watching.run}
    ours = Worker({"act": act}, observers=observers)
    ours.submit(escalation("a"), ("act",))
    ours.submit(escalation("b"), ())
    ours.submit(escalation("c", shadow=True), ("act",))
    assert settled(ours)
    assert [each.key for each in act.ran] == ["a"]
    assert [each.key for each in watching.ran] == ["a", "b", "c"]
    assert (ours.failures, ours.shadowed) == (3, 1)
    assert "action plugin broken failed for key 'a'" in caplog.text
