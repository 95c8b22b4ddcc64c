"""Under threads every key is decided as if its hits had come one at a time (G13, G14)."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from banhammer import BanHammer, Decision, Escalation, Hit, Policy, Threshold
from banhammer.backends.memory import MemoryBackend
from banhammer.core import Reply
from banhammer.testing import ManualClock

THREADS = 8


@pytest.fixture(autouse=True)
def _switch_at_every_chance() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(work: Callable[[int], None]) -> None:
    """Run `work` in eight threads that begin at once, and raise what any of them raised."""
    barrier = threading.Barrier(THREADS)
    failures: list[BaseException] = []

    def run(number: int) -> None:
        barrier.wait()
        try:
            work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


THROTTLES = {
    "one": [Threshold(500, "1h")],
    "three": [Threshold(500, "1h"), Threshold(700, "1h"), Threshold(900, "1d")],
    "banning": [Threshold(600, "1h"), Threshold(500, "1h", ban="1h")],
}


@pytest.mark.parametrize("levels", THROTTLES.values(), ids=THROTTLES)
@pytest.mark.parametrize("keys", [1, 10])
def test_never_one_unit_too_many_nor_too_few_is_admitted(levels: list[Threshold], keys: int) -> None:
    hammer = BanHammer([Policy("p", levels)], clock=ManualClock())
    admitted: Counter[str] = Counter()
    lock = threading.Lock()

    def work(number: int) -> None:
        mine: Counter[str] = Counter()
        for turn in range(120 * keys):
            key = f"k{(turn + number) % keys}"
            mine[key] += hammer.hit(key, "p").allowed
        with lock:
            admitted.update(mine)

    together(work)
    assert admitted == {f"k{number}": 500 for number in range(keys)}


def test_batches_and_single_hits_share_one_budget() -> None:
    hammer = BanHammer([Policy("p", [Threshold(500, "1h")])], clock=ManualClock())
    counts = [0] * THREADS

    def work(number: int) -> None:
        for _ in range(30):
            if number % 2:
                one, _, two = hammer.hit_many([Hit("k", "p"), Hit("other", "p"), Hit("k", "p", cost=2)])
            else:
                one, two = hammer.hit("k", "p"), hammer.hit("k", "p", 2)
            counts[number] += bool(one) + 2 * bool(two)

    together(work)
    assert sum(counts) == 500
    assert hammer.status("k", "p").remaining == (0,)


def test_concurrent_crossings_are_one_strike_and_one_escalation() -> None:
    """G13."""
    ran: list[Escalation] = []
    policy = Policy("p", [Threshold(50, "1h", ban=["1h", "2h"], actions=["note"])])
    with BanHammer([policy], clock=ManualClock(), actions={"note": ran.append}) as hammer:
        verdicts: list[Counter[str]] = [Counter() for _ in range(THREADS)]
        crossings: list[Decision] = []

        def work(number: int) -> None:
            for _ in range(40):
                decision = hammer.hit("k", "p")
                verdicts[number][decision.verdict] += 1
                if decision.tripped:
                    crossings.append(decision)

        together(work)
        assert hammer.drain(5)
        assert sum((each for each in verdicts), Counter()) == {"allowed": 50, "banned": THREADS * 40 - 50}
        assert len(crossings) == 1
        assert [escalation.threshold for escalation in ran] == [0]
        (ban,) = hammer.bans()
        assert (ban.strikes, ban.id) == (1, ran[0].id)


def test_a_throttle_escalates_once_for_concurrent_crossings() -> None:
    """G13."""
    ran: list[str] = []
    policy = Policy("p", [Threshold(50, "1h", actions=["note"])])
    with BanHammer(
        [policy], clock=ManualClock(), actions={"note": lambda escalation: ran.append(escalation.id)}
    ) as hammer:
        together(lambda number: [hammer.hit("k", "p") for _ in range(40)] and None)
        assert hammer.drain(5)
    assert len(ran) == 1


def test_a_higher_threshold_is_crossed_once_by_attempts_during_the_ban() -> None:
    ran: list[tuple[int, str]] = []
    levels = [Threshold(20, "1h", ban="1h", actions=["note"]), Threshold(200, "1h", ban="1d", actions=["note"])]
    actions = {"note": lambda escalation: ran.append((escalation.threshold, escalation.id))}
    with BanHammer([Policy("p", levels)], clock=ManualClock(), actions=actions) as hammer:
        together(lambda number: [hammer.hit("k", "p") for _ in range(60)] and None)
        assert hammer.drain(5)
        assert [threshold for threshold, _ in ran] == [0, 1]
        assert len({escalation for _, escalation in ran}) == 2
        assert hammer.status("k", "p").strikes == 1


def test_a_full_store_under_threads_stays_bounded_and_keeps_its_bans() -> None:
    store = MemoryBackend(max_keys=50)
    hammer = BanHammer([Policy("p", [Threshold(3, "1h", ban="1h")])], backend=store, clock=ManualClock())
    hammer.ban("villain", "p")

    def work(number: int) -> None:
        for turn in range(300):
            hammer.hit(f"{number}:{turn}", "p")
            hammer.hit(f"shared:{turn % 60}", "p", 2)
            assert not hammer.hit("villain", "p")
            if turn % 50 == 0:
                hammer.reset(f"{number}:{turn}", "p")

    together(work)
    kept = [key for table in store._tables.values() for key in table]
    assert len(kept) == len(store) <= 50
    assert hammer.status("villain", "p").banned_until is not None


def test_bans_lifts_and_resets_race_with_hits_without_an_error() -> None:
    hammer = BanHammer([Policy("p", [Threshold(5, "1h", ban="1h")])], clock=ManualClock())

    def work(number: int) -> None:
        for turn in range(150):
            match (number + turn) % 5:
                case 0:
                    hammer.ban("k", "p", "1h")
                case 1:
                    hammer.unban("k", "p")
                case 2:
                    hammer.reset("k", "p", strikes=turn % 2 == 0)
                case 3:
                    assert [ban.key for ban in hammer.bans()] in ([], ["k"])
                    assert len(list(hammer.status_all())) <= 1
                case _:
                    hammer.hit("k", "p")

    together(work)
    hammer.reset("k", "p")
    assert hammer.status("k", "p").strikes == 0
    assert hammer.hit("k", "p").remaining == 4


def test_a_thread_that_was_held_up_forgives_no_debt() -> None:
    policy = Policy("api", [Threshold(1000, "1s", burst=10)])
    backend = MemoryBackend()
    start = 1_750_000_000_000_000
    answers: list[Reply | None] = []

    def held_up() -> int:
        """Tell a time from before another thread's burst, the first time; then the time after it."""
        if answers:
            return start + 10_000
        answers.extend(backend.evaluate([Hit("k", "api")] * 20, {"api": policy}, now=start + 10_000))
        return start

    answers.extend(backend.evaluate([Hit("k", "api")], {"api": policy}, now=held_up))
    assert [answer.verdict for answer in answers if answer] == ["allowed"] * 10 + ["throttled"] * 11


def test_threads_on_the_real_clock_admit_no_unit_too_many() -> None:
    limit, burst, hits = 10_000, 10, 6_000
    admitted = [0] * 8
    with BanHammer([Policy("api", [Threshold(limit, "1s", burst=burst)])]) as hammer:

        def work(number: int) -> None:
            for _ in range(hits):
                admitted[number] += hammer.hit("k", "api").allowed

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        began = time.monotonic_ns()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        window = (time.monotonic_ns() - began) // 1000 + 1
    assert sum(admitted) <= burst + window * limit // 1_000_000 + 1
    assert sum(admitted) < 8 * hits
