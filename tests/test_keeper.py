"""The keeper: its thread is there while there is something to do, and nothing ends it before."""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from time import monotonic, sleep

import pytest

from banhammer.backends import keeper
from banhammer.backends.keeper import Keeper
from fronted import together

EVERY = 0.002
PATIENCE = 10.0


@pytest.fixture(autouse=True)
def _rounds_without_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "EVERY", EVERY)


@pytest.fixture
def kept() -> Iterator[Kept]:
    kept = Kept()
    yield kept
    kept.keeper.close()


class Kept:
    """Something to do for so many rounds, and the keeper that does it."""

    def __init__(self) -> None:
        self.left = 0
        self.rounds = 0
        self.error: Exception | None = None
        self.doing: Callable[[], object] = lambda: None
        self.keeper = Keeper(self.tend)

    def tend(self) -> bool:
        self.rounds += 1
        self.doing()
        self.left -= 1
        if self.error is not None:
            raise self.error
        return self.left > 0

    @property
    def resting(self) -> bool:
        return self.keeper._thread is None


def soon(condition: Callable[[], object]) -> None:
    end = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < end
        sleep(EVERY / 4)


def test_there_is_no_thread_before_there_is_something_to_do(kept: Kept) -> None:
    assert kept.resting
    sleep(3 * EVERY)
    assert kept.rounds == 0


def test_it_works_round_after_round_and_ends_when_nothing_is_left(kept: Kept) -> None:
    kept.left = 5
    kept.keeper.wake()
    soon(lambda: kept.resting)
    assert kept.rounds == 5


def test_it_begins_anew_when_it_is_woken_again(kept: Kept) -> None:
    for turn in range(1, 4):
        kept.keeper.wake()
        soon(lambda: kept.resting)
        assert kept.rounds == turn


def test_a_wake_during_the_last_round_is_one_more_round(kept: Kept) -> None:
    def wake_once() -> None:
        if kept.rounds == 1:
            kept.keeper.wake()

    kept.doing = wake_once
    kept.keeper.wake()
    soon(lambda: kept.resting)
    assert kept.rounds == 2


def test_one_thread_serves_all_who_wake_it_and_no_wake_is_lost(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "EVERY", 0)
    mutex = threading.Lock()
    due: list[int] = []
    running: list[int] = []
    done: list[int] = []

    def work() -> None:
        running.append(1)
        assert len(running) == 1, "two keepers"
        with mutex:
            done.extend(due)
            due.clear()
        running.pop()

    kept.doing = work

    def wake(number: int) -> None:
        for turn in range(300):
            with mutex:
                due.append(number * 1_000 + turn)
            kept.keeper.wake()
            if turn % 20 == 0:
                soon(lambda: kept.resting)

    together(wake, threads=4)
    soon(lambda: kept.resting)
    assert (len(done), due) == (1_200, [])
    assert kept.error is None


def test_a_round_that_raises_is_logged_each_time_and_does_not_end_it(
    kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    kept.error = OSError("no")
    kept.left = 100
    with caplog.at_level(logging.ERROR, "banhammer"):
        kept.keeper.wake()
        soon(lambda: kept.rounds >= 3)
        kept.error, kept.left = None, 0
        soon(lambda: kept.resting)
    logged = [record for record in caplog.records if record.name == "banhammer"]
    assert 3 <= len(logged) < kept.rounds
    assert all(record.exc_info and record.exc_info[0] is OSError for record in logged)


def test_closing_waits_for_the_round_and_a_later_wake_begins_anew(kept: Kept) -> None:
    inside, go = threading.Event(), threading.Event()

    def hold() -> None:
        inside.set()
        assert go.wait(PATIENCE)

    kept.left, kept.doing = 100, hold
    kept.keeper.wake()
    assert inside.wait(PATIENCE)
    closing = threading.Thread(target=kept.keeper.close)
    closing.start()
    closing.join(5 * EVERY)
    assert closing.is_alive()
    go.set()
    closing.join(PATIENCE)
    assert not closing.is_alive()
    assert (kept.rounds, kept.resting) == (1, True)
    sleep(5 * EVERY)
    assert kept.rounds == 1
    kept.left = 3
    kept.keeper.wake()
    soon(lambda: kept.resting)
    assert kept.rounds == 4
    kept.keeper.close()


def test_it_can_be_closed_from_its_own_round(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    kept.left, kept.doing = 100, kept.keeper.close
    kept.keeper.wake()
    thread = kept.keeper._thread
    assert thread is not None
    thread.join(PATIENCE)
    assert not thread.is_alive()
    sleep(5 * EVERY)
    assert (kept.rounds, caplog.records) == (1, [])


def test_a_thread_that_cannot_be_had_is_no_error_and_is_asked_for_again(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        kept.keeper.wake()
    assert kept.resting
    kept.keeper.wake()
    soon(lambda: kept.rounds == 1)


def test_a_forked_child_begins_with_a_thread_of_its_own(kept: Kept) -> None:
    kept.left = 10_000
    kept.keeper.wake()
    soon(lambda: kept.rounds)
    with warnings.catch_warnings(action="ignore"):  # Python 3.12 warns of any fork beside threads.
        child = os.fork()
    if not child:
        try:
            begun_without = kept.resting
            kept.rounds, kept.left = 0, 3
            kept.keeper.wake()
            soon(lambda: kept.resting)
            os._exit(0 if begun_without and kept.rounds == 3 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    rounds = kept.rounds
    soon(lambda: kept.rounds > rounds)
