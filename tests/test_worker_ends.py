"""How a worker ends, what it holds at most, and what it logs."""

from __future__ import annotations

import asyncio
import gc
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from acting import PATIENCE, Act, escalation, settled
from banhammer import AsyncBanHammer, BanHammer, Escalation, GiveUp, Policy, Threshold
from banhammer.outbox import Delivery
from banhammer.worker import Worker, crew, worker
from banhammer.worker.agenda import Job
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


def test_drain_does_not_wait_for_what_is_to_be_tried_again() -> None:
    ours = Worker({"act": Act([OSError()], backoff="1h")})
    ours.submit(escalation(), ("act",))
    assert ours.drain(PATIENCE)
    assert ours.retrying
    ours.stop()


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


ENDS = """
import sys, time
from banhammer import BanHammer, Policy, Threshold

def act(escalation):
    print(escalation.key, flush=True)
    time.sleep(float(sys.argv[1]))

trap = Policy("trap", [Threshold(1, "1h", burst=0, ban="1h", actions=["act"])])
hammer = BanHammer([trap], actions={"act": act})
for number in range(3):
    hammer.hit(f"k{number}", "trap")
"""


def test_an_application_that_ends_without_closing_ends_behind_its_actions() -> None:
    done = subprocess.run([sys.executable, "-c", ENDS, "0"], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout, done.stderr) == (0, "k0\nk1\nk2\n", "")


def test_an_application_that_ends_does_not_wait_long_for_what_hangs() -> None:
    began = monotonic()
    done = subprocess.run([sys.executable, "-c", ENDS, "60"], capture_output=True, text=True, timeout=30)
    assert (done.returncode, sorted(done.stdout.split())) == (0, ["k0", "k1", "k2"])
    assert monotonic() - began < 15


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


def test_a_crew_that_was_stopped_takes_nothing_that_it_would_not_run() -> None:
    act = Act()
    ours = Worker({"act": act})
    stopped = ours._crew
    ours.stop()
    assert not stopped.add([Job(Delivery(escalation(), ["act"]), "act")])
    assert stopped.agenda.size == 0
    assert ours._crew.add([Job(Delivery(escalation(), ["act"]), "act")])
    assert ours.close(PATIENCE)
    assert len(act.ran) == 1


def test_a_child_forked_by_an_event_loop_runs_coroutines_on_one_of_its_own() -> None:
    class Awaited:
        deadline, attempts = "1s", 1

        async def run(self, _: Escalation) -> None:
            await asyncio.sleep(0)

    async def main() -> bool:
        async with AsyncBanHammer([TRAP], actions={"note": Awaited()}) as hammer:
            await hammer.hit("parents", "trap")
            ours = hammer._rules.worker
            assert await asyncio.to_thread(settled, ours)

            def in_child() -> bool:
                ours.submit(escalation(), ("note",))
                return settled(ours) and not ours.failures

            return Child(in_child).result()

    assert asyncio.run(main())
