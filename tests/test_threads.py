"""The memory store under threads that change places at every chance: its short cuts, its bound, its verbs (G14)."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from banhammer import BanHammer, Hit, Policy, Threshold
from banhammer.backends.memory import MemoryBackend
from banhammer.core import Reply
from banhammer.testing import ManualClock
from histories_crew import in_threads

THREADS = 8


@pytest.fixture(autouse=True)
def _switch_at_every_chance() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


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

    in_threads(work, THREADS)
    assert admitted == {f"k{number}": 500 for number in range(keys)}


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

    in_threads(work, THREADS)
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

    in_threads(work, THREADS)
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
