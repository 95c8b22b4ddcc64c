"""A worker runs actions off the path of requests: tried again, isolated, in order, and given up in the end."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import monotonic
from typing import Any, Self

import pytest

from acting import PATIENCE, Act, escalation, settled
from banhammer import BanHammer, ConfigError, Escalation, GiveUp, Policy, RetryAfter, Threshold
from banhammer.worker import Worker, agenda, crew, terms_of, worker
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


class NamelessError(OSError):
    """An error whose text ends the thread that asks for it."""

    def __str__(self) -> str:
        raise SystemExit


class Timeless(RetryAfter):
    """A wait of nobody knows how long."""

    def __init__(self) -> None:
        self.seconds = "soon"  # type: ignore[assignment]


@pytest.mark.parametrize("error", [NamelessError(), Timeless()])
def test_an_error_that_breaks_whoever_looks_at_it_costs_no_thread(error: BaseException) -> None:
    act, other = Act(then=error, attempts=2), Act()
    ours = Worker({"act": act, "other": other})
    for number in range(crew.SLOTS + 2):
        ours.submit(escalation(f"k{number}"), ("act", "other"))
    assert settled(ours)
    assert (len(ours.dead), len(other.ran)) == (crew.SLOTS + 2, crew.SLOTS + 2)


class Logging(logging.Handler):
    """Does something with each line of banhammer's log, inside the lock that every handler has."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__()
        self._act = act

    def emit(self, record: logging.LogRecord) -> None:
        self._act()

    def __enter__(self) -> Self:
        worker.log.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        worker.log.removeHandler(self)


def test_a_log_that_is_slow_holds_no_hit_up(release: threading.Event) -> None:
    logs = threading.Event()

    def slowly() -> None:
        logs.set()
        release.wait(PATIENCE)

    with Logging(slowly), BanHammer([TRAP], actions={"note": Act(then=OSError())}) as hammer:
        hammer.hit("a", "trap")
        assert logs.wait(PATIENCE)
        hits = threading.Thread(target=hammer.hit, args=("b", "trap"))
        hits.start()
        hits.join(PATIENCE / 2)
        assert not hits.is_alive()
        release.set()


def test_a_log_that_hits_and_one_that_fails_lock_nobody_out() -> None:
    act = Act(then=OSError(), attempts=2)
    ours = Worker({"act": act})

    def hit_and_fail() -> None:
        ours.submit(escalation("logged"), ())
        with ours._crew.lock:
            raise OSError("the log is full")

    def log() -> None:
        for _ in range(100):
            with suppress(OSError):
                worker.log.warning("of the application")

    application = threading.Thread(target=log, daemon=True)
    with Logging(hit_and_fail):
        application.start()
        for number in range(100):
            ours.submit(escalation(f"k{number}"), ("act",))
        assert settled(ours)
        application.join(PATIENCE)
    assert not application.is_alive()
    assert len(ours.dead) == 100


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


def test_whoever_watches_the_deadlines_sleeps_until_the_next_of_them(
    release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not past that of a job which an idle thread begins meanwhile."""
    monkeypatch.setattr(crew, "GRACE", 0.0)
    monkeypatch.setattr(crew, "IDLE", 6 * PATIENCE)
    act = Act([None, wait_for(release)], deadline="50ms")
    ours = Worker({"act": act})
    ours.submit(escalation("first"), ("act",))
    asleep = monotonic() + 5 * PATIENCE
    until(lambda: ours._crew._idle > 0 and ours._crew._looks_at > asleep, "nothing to watch")
    ours.submit(escalation("second"), ("act",))
    until(lambda: ours.failures == 1, "the run that hangs given up")
    assert settled(ours)
    assert ours.close(PATIENCE)


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


def test_an_idle_thread_takes_what_waits_behind_a_slow_action(
    release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crew, "IDLE", 6 * PATIENCE)
    together = threading.Barrier(2)
    slow, quick = (Act([lambda _: together.wait(PATIENCE)], then=then) for then in (wait_for(release), None))
    ours = Worker({"slow": slow, "quick": quick})
    ours.submit(escalation("first"), ("slow", "quick"))
    until(lambda: ours._crew._idle == 2, "two idle threads")
    ours.submit(escalation("second"), ("slow", "quick"))
    until(lambda: len(quick.ran) == 2, "the quick one run beside the slow one")
    assert len(slow.ran) == 1
    release.set()
    assert ours.close(PATIENCE)


def test_what_waits_behind_a_slow_action_is_not_forgotten_by_a_thread_that_ends(
    release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is woken for a job that may not begin yet, when it has been idle for long enough to end."""
    since = [0.0]
    monkeypatch.setattr(crew, "monotonic", lambda: monotonic() + since[0])
    monkeypatch.setattr(crew, "IDLE", 6 * PATIENCE)
    monkeypatch.setattr(agenda, "PATIENCE", 0.3)
    together = threading.Barrier(2)
    slow, quick = (Act([lambda _: together.wait(PATIENCE)], then=then) for then in (wait_for(release), None))
    ours = Worker({"slow": slow, "quick": quick})
    ours.submit(escalation("first"), ("slow", "quick"))
    until(lambda: ours._crew._idle == 2, "two idle threads")
    since[0] = 7 * PATIENCE
    ours.submit(escalation("second"), ("slow",))
    until(lambda: len(slow.calls) == 2, "the slow one begun")
    ours.submit(escalation("third"), ("quick",))
    until(lambda: len(quick.ran) == 2, "the quick one run beside it")
    assert len(slow.ran) == 1
    release.set()
    assert ours.close(PATIENCE)


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
