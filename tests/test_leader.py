"""Threads share round trips: one call in flight; nobody waits for ever, and nobody hears another's answer."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from time import monotonic, sleep

import pytest

from banhammer.backends import gather
from banhammer.backends.gather import BATCH, Leader
from banhammer.errors import BackendError, BackendTimeout
from fronted import together

PATIENCE = 10.0
"""Seconds that nothing here needs."""


def soon(condition: Callable[[], object]) -> None:
    """Wait for another thread to come so far."""
    end = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < end
        sleep(0.0005)


class Store:
    """What threads ask: answers `-n` for `n`, each call held until it is let go; remembers what came together."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.untils: list[float] = []
        self.goes: list[threading.Event] = [threading.Event() for _ in range(300)]
        self.raises: dict[int, BaseException] = {}
        self.leader = Leader(self.send)
        self.told: dict[int, object] = {}
        self.threads: list[threading.Thread] = []

    def send(self, asked: Sequence[int], until: float) -> Sequence[int]:
        number = len(self.calls)
        self.calls.append(list(asked))
        self.untils.append(until)
        assert self.goes[number].wait(PATIENCE)
        if number in self.raises:
            raise self.raises[number]
        return [-each for each in asked]

    def start(self, *asked: int, until: float = PATIENCE) -> None:
        """Have a thread ask, and wait until it is sent or queued."""

        def run() -> None:
            try:
                self.told[asked[0]] = self.leader.call(asked, monotonic() + until)
            except BaseException as error:
                self.told[asked[0]] = error

        calls, queued = len(self.calls), self.queued
        self.threads.append(threading.Thread(target=run))
        self.threads[-1].start()
        soon(lambda: (len(self.calls), self.queued) != (calls, queued))

    @property
    def queued(self) -> int:
        return len(self.leader._waiting)

    def finish(self) -> dict[int, object]:
        for go in self.goes:
            go.set()
        for thread in self.threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        return self.told


def test_what_threads_queue_during_a_call_goes_together_in_order() -> None:
    store = Store()
    for each in ((1,), (2, 3), (4,), (5, 6, 7)):
        store.start(*each)
    assert store.finish() == {1: [-1], 2: [-2, -3], 4: [-4], 5: [-5, -6, -7]}
    assert store.calls == [[1], [2, 3, 4, 5, 6, 7]]


def test_threads_share_at_most_128_in_a_call_and_a_larger_one_goes_alone() -> None:
    store = Store()
    store.start(0)
    for first in range(1, 131):
        store.start(first)
    large = list(range(1_000, 1_000 + BATCH + 50))
    store.start(*large)
    assert store.finish()[1_000] == [-each for each in large]
    assert store.calls == [[0], list(range(1, BATCH + 1)), [129, 130], large]
    assert all(store.told[each] == [-each] for each in range(131))


def test_an_error_fails_the_threads_of_its_call_and_only_those() -> None:
    store = Store()
    store.raises[1] = error = BackendError("away")
    for each in (1, 2, 3):
        store.start(each)
    store.goes[0].set()
    soon(lambda: len(store.calls) == 2)
    store.start(4)
    assert store.finish() == {1: [-1], 2: error, 3: error, 4: [-4]}


def test_an_interrupted_leader_hands_on_the_lead_and_fails_its_followers() -> None:
    store = Store()
    store.raises[1] = KeyboardInterrupt()
    for each in (1, 2, 3):
        store.start(each)
    store.goes[0].set()
    soon(lambda: len(store.calls) == 2)
    store.start(4)
    told = store.finish()
    assert [type(told[each]) for each in (2, 3)] == [KeyboardInterrupt, BackendTimeout]
    assert (told[4], store.calls[2]) == ([-4], [4])


def test_a_thread_whose_time_is_up_is_never_sent() -> None:
    store = Store()
    store.start(1)
    store.start(2, until=0.01)
    store.start(3)
    soon(lambda: 2 in store.told)
    assert isinstance(store.finish()[2], BackendTimeout)
    assert store.calls == [[1], [3]]


def test_a_thread_whose_time_is_up_during_its_call_takes_nothing_from_the_others() -> None:
    store = Store()
    store.start(1)
    for each, until in ((2, PATIENCE), (3, 0.1), (4, PATIENCE)):
        store.start(each, until=until)
    store.goes[0].set()
    soon(lambda: 3 in store.told)
    told = store.finish()
    assert isinstance(told[3], BackendTimeout)
    assert (told[2], told[4], store.calls[1]) == ([-2], [-4], [2, 3, 4])


def test_a_thread_that_is_to_lead_when_its_time_is_up_hands_on_the_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    store = Store()
    monkeypatch.setattr(gather, "monotonic", lambda: now[0])
    store.start(1)
    ends = monotonic()
    store.start(2, until=5 - ends)
    store.start(3, until=500)
    now[0] = ends + 5
    store.goes[0].set()
    told = store.finish()
    assert isinstance(told[2], BackendTimeout)
    assert (told[3], store.calls) == ([-3], [[1], [3]])


def test_a_leader_that_is_interrupted_before_it_hands_on_the_lead_keeps_it_for_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(gather, "monotonic", lambda: now[0])
    leader = Leader(lambda asked, until: asked)

    def interrupted(until: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(leader, "_hand_over", interrupted)
        with pytest.raises(KeyboardInterrupt):
            leader.call([1], 1.0)
    with pytest.raises(BackendTimeout):
        leader.call([2], 0.0)
    now[0] = 1.0 + gather.GRACE
    assert leader.call([3], 2.0) == [3]


def test_a_leader_that_outlasts_its_deadline_gives_on_no_lead_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(gather, "monotonic", lambda: now[0])
    store = Store()
    store.start(1, until=5)
    now[0] = monotonic() + 50
    store.start(2, until=500)
    store.start(3, until=500)
    assert (store.calls, store.queued) == ([[1], [2]], 1)
    store.goes[0].set()
    store.threads[0].join(PATIENCE)
    store.start(4, until=500)
    assert (store.calls, store.queued) == ([[1], [2]], 2)
    assert store.finish() == {1: [-1], 2: [-2], 3: [-3], 4: [-4]}
    assert store.calls == [[1], [2], [3, 4]]


@pytest.mark.parametrize("leads", [False, True])
def test_a_thread_that_is_interrupted_while_it_waits_holds_up_nobody(leads: bool) -> None:
    """A signal interrupts only the main thread: this one."""
    store = Store()
    store.start(1)
    main = threading.get_ident()

    def handler(*_: object) -> None:
        if leads:  # The moment in which the lead was given, and not yet taken.
            store.leader._hand_over(store.untils[0])
        raise KeyboardInterrupt

    def interrupt() -> None:
        soon(lambda: store.queued)
        signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, handler)
    helper = threading.Thread(target=interrupt)
    helper.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            store.leader.call([2], monotonic() + PATIENCE)
    finally:
        helper.join()
        signal.signal(signal.SIGUSR1, before)
    store.start(3)
    assert store.finish() == {1: [-1], 3: [-3]}
    assert store.calls == [[1], [3]]


def test_a_call_made_while_its_own_thread_holds_the_queue_does_not_lock_up() -> None:
    leader: Leader[int, int] = Leader(lambda asked, until: asked)
    with leader._mutex:  # As a finalizer finds it that runs in the middle of a call.
        assert leader.call([1], monotonic() + PATIENCE) == [1]
    assert leader.call([2], monotonic() + PATIENCE) == [2]


def test_no_wake_up_is_lost_among_sixteen_threads() -> None:
    flying = threading.Lock()
    sizes: list[int] = []

    def send(asked: Sequence[int], until: float) -> list[int]:
        assert flying.acquire(blocking=False), "two calls in flight"
        sizes.append(len(asked))
        sleep(0)  # Lets the others in.
        flying.release()
        if len(sizes) % 50 == 0:
            raise BackendError(str(asked[0]))
        return [-each for each in asked]

    leader = Leader(send)
    failed: list[int] = []

    def work(number: int) -> None:
        for turn in range(2_000):
            mine = number * 10_000 + turn
            try:
                assert leader.call([mine], monotonic() + PATIENCE) == [-mine]
            except BackendTimeout:
                raise
            except BackendError:
                failed.append(mine)

    together(work, threads=16)
    assert sum(sizes) == 32_000
    assert len(failed) == sum(sizes[49::50])
    assert len(sizes) < 16_000
    assert not leader._led_until
