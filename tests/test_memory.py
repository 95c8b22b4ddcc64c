"""The memory store: bounded whatever comes, its settings, forks, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
import threading
from time import monotonic_ns

import pytest

from banhammer import BanHammer, ConfigError, Hit, Policy, Threshold
from banhammer.backends import open_backend
from banhammer.backends.memory import DEFAULT_MAX_KEYS, MemoryBackend
from banhammer.testing import ManualClock

API = Policy("api", [Threshold(10, "1h")])
LOGIN = Policy("login", [Threshold(2, "1h", ban="1h")], forgive_after="2h")
TRAP = Policy("trap", [Threshold(1, "1h", burst=0, ban="1s")], forgive_after="1d")


def full_of(max_keys: int, *policies: Policy) -> tuple[BanHammer, MemoryBackend, ManualClock]:
    store, clock = MemoryBackend(max_keys=max_keys), ManualClock()
    return BanHammer(policies or (API, LOGIN, TRAP), backend=store, clock=clock), store, clock


def keys_of(store: MemoryBackend) -> set[str]:
    return {key for table in store._tables.values() for key in table}


@pytest.mark.parametrize("clock", [None, ManualClock()], ids=["real", "manual"])
def test_a_flood_of_distinct_keys_stays_within_max_keys_and_lifts_no_ban(clock: ManualClock | None) -> None:
    store = MemoryBackend(max_keys=5_000)
    hammer = BanHammer([API, LOGIN], backend=store, clock=clock)
    for _ in range(3):
        hammer.hit("villain", "login")
    for number in range(50_000):
        hammer.hit(f"k{number}", "api")
    assert len(store) == len(keys_of(store)) == 5_000
    assert sum(len(heap) for heap in store._leaving._heaps) <= 11_000
    assert hammer.hit("villain", "login").verdict == "banned"
    assert store.evicted_bans == 0


def test_a_batch_of_more_keys_than_there_is_room_stays_within_max_keys() -> None:
    hammer, store, _ = full_of(10)
    hammer.hit_many([Hit(f"k{number}", "api") for number in range(100)])
    assert len(store) == len(keys_of(store)) == 10


def test_what_has_lapsed_leaves_first() -> None:
    hammer, store, clock = full_of(3)
    hammer.hit("lapsed", "api")
    hammer.hit("debt", "api", 10)
    hammer.hit("strikes", "trap")
    clock.advance("7m")
    hammer.hit("new", "api")
    assert keys_of(store) == {"debt", "strikes", "new"}


def test_what_only_has_strikes_leaves_before_what_owes() -> None:
    hammer, store, clock = full_of(3)
    hammer.hit("debt", "api")
    hammer.hit("strikes", "trap")
    hammer.ban("banned", "login")
    clock.advance("1s")
    hammer.hit("new", "api")
    assert keys_of(store) == {"debt", "banned", "new"}


def test_a_key_whose_ban_was_lifted_leaves_before_what_owes() -> None:
    hammer, store, _ = full_of(3)
    hammer.ban("lifted", "login")
    hammer.hit("debt", "api")
    hammer.ban("banned", "login")
    hammer.unban("lifted", "login")
    hammer.hit("new", "api")
    assert keys_of(store) == {"debt", "banned", "new"}


def test_the_debt_that_drains_first_leaves_first_as_it_stands_now() -> None:
    hammer, store, _ = full_of(3)
    hammer.hit("grew", "api")
    hammer.hit("small", "api", 2)
    hammer.hit("large", "api", 9)
    for _ in range(5):
        hammer.hit("grew", "api")
    hammer.hit("new", "api")
    assert keys_of(store) == {"grew", "large", "new"}


def test_only_among_bans_the_one_that_ends_first_leaves_and_is_counted() -> None:
    hammer, store, _ = full_of(3)
    hammer.ban("long", "login", "3h")
    hammer.ban("forever", "login", "forever")
    hammer.ban("short", "login", "2h")
    hammer.hit("new", "api")
    assert keys_of(store) == {"long", "forever", "new"}
    assert store.evicted_bans == 1
    assert {ban.key for ban in hammer.bans()} == {"long", "forever"}
    hammer.hit("newer", "api")
    assert keys_of(store) == {"long", "forever", "newer"}
    assert store.evicted_bans == 1


def test_with_an_injected_clock_a_lapsed_record_leaves_only_when_room_is_needed() -> None:
    hammer, store, clock = full_of(3)
    began = clock.now
    hammer.hit("early", "login", 2)
    clock.advance("9d")
    hammer.hit("late", "api")
    assert keys_of(store) == {"early", "late"}
    clock.move_to(began)
    assert hammer.hit("early", "login").verdict == "banned"


def test_with_the_real_clock_lapsed_records_leave_with_insertions(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    start = clock.now
    began = monotonic_ns()
    monkeypatch.setattr("banhammer.backends.shortcut.monotonic_ns", lambda: began + (clock.now - start) * 1_000)
    store = MemoryBackend(max_keys=1_000)
    hammer = BanHammer([API], backend=store)
    for number in range(500):
        hammer.hit(f"old{number}", "api")
    clock.advance("1h")
    for number in range(300):
        hammer.hit(f"new{number}", "api")
    assert keys_of(store) == {f"new{number}" for number in range(300)}
    assert len(store) == 300


def test_churn_of_resets_and_lifts_leaves_no_rubbish_behind() -> None:
    hammer, store, _ = full_of(100)
    for number in range(6_000):
        key = f"k{number % 50}"
        hammer.ban(key, "login", "1h")
        hammer.unban(key, "login")
        hammer.reset(key, "login")
    assert len(store) == 0
    assert keys_of(store) == set()
    assert sum(len(heap) for heap in store._leaving._heaps) <= 1_100
    assert not store._details


def test_a_peek_a_status_and_an_allowed_guard_take_no_room() -> None:
    hammer, store, _ = full_of(3)
    hammer.peek("k", "login")
    hammer.guard("k", "login")
    hammer.status("k", "login")
    assert hammer.unban("k", "login") is None
    hammer.reset("k", "login")
    assert (len(store), keys_of(store)) == (0, set())


def test_a_url_gives_the_size() -> None:
    for url, size in (("memory://", DEFAULT_MAX_KEYS), ("memory://?max_keys=7", 7)):
        store = open_backend(url)
        assert isinstance(store, MemoryBackend)
        assert store._leaving.max_keys == size


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://?max_keys=0", "max_keys=0"),
        ("memory://?max_keys=-1", "max_keys=-1"),
        ("memory://?max_keys=ten", "max_keys=ten"),
        ("memory://?max_keys=", "max_keys="),
        ("memory://?max_keys=1e3", "max_keys=1e3"),
        ("memory://?maxkeys=5", "did you mean 'max_keys'"),
        ("memroy://", "did you mean 'memory'"),
        ("memory", "memory://"),
        ("", "memory://"),
    ],
)
def test_a_mistaken_url_is_a_config_error_that_names_the_remedy(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=r"backend: ") as caught:
        BanHammer([API], backend=url)
    assert message in str(caught.value)


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "10"])
def test_a_size_that_is_none_is_a_config_error(size: object) -> None:
    with pytest.raises(ConfigError, match="max_keys"):
        MemoryBackend(max_keys=size)  # type: ignore[arg-type]


def test_both_shells_and_two_hammers_may_share_one_store() -> None:
    store, clock = MemoryBackend(), ManualClock()
    one, two = (BanHammer([API], backend=store, clock=clock) for _ in range(2))
    assert one.hit("k", "api", 6)
    assert two.hit("k", "api", 4)
    assert not one.hit("k", "api")
    one.close()
    assert not two.hit("k", "api")


def test_a_forked_child_decides_although_a_vanished_thread_held_the_lock() -> None:
    script = """
import os, sys, threading, warnings
warnings.simplefilter("ignore")  # Python 3.12 warns of any fork beside threads.
from banhammer import BanHammer, Policy, Threshold
from banhammer.backends.memory import MemoryBackend
store = MemoryBackend()
ran = []
hammer = BanHammer([Policy("p", [Threshold(1, "1h", ban="1h", actions=["note"])])], backend=store,
                   actions={"note": ran.append})
hammer.hit("k", "p")
held, done = threading.Event(), threading.Event()
def hold():
    with store.lock:
        held.set()
        done.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    banned = hammer.hit("k", "p").verdict == "banned"
    os._exit(0 if banned and hammer.drain(5) and len(ran) == 1 else 1)
done.set()
thread.join()
_, status = os.waitpid(child, 0)
assert hammer.status("k", "p").banned_until is None
sys.exit(os.waitstatus_to_exitcode(status))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=20)


def test_importing_banhammer_loads_no_optional_package() -> None:
    heavy = ("redis", "pymemcache", "pydantic", "typer", "rich")
    script = (
        "import sys, banhammer; from banhammer import BanHammer, Policy, Threshold;"
        "BanHammer([Policy('p', [Threshold(1, 1)])]).hit('k', 'p');"
        f"sys.exit(', '.join(name for name in {heavy!r} if name in sys.modules) or 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=20)


def test_a_hit_inside_the_stores_own_lock_does_not_lock_up() -> None:
    hammer, store, _ = full_of(10)
    done = threading.Event()

    def reenter() -> None:
        with store.lock:  # As a signal handler or a finalizer would find it.
            hammer.hit("k", "login")
        done.set()

    threading.Thread(target=reenter, daemon=True).start()
    assert done.wait(5)
