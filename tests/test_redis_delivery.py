"""Workers on a durable store: at least once, one at a time, whatever befalls the workers and the store."""

from __future__ import annotations

import os
import signal
import threading
from functools import partial
from itertools import chain
from time import monotonic, sleep
from typing import Any

import pytest

from acting import PATIENCE, Act
from banhammer import Escalation, Policy, Threshold
from banhammer.backends.redis import RedisBackend, outbox
from banhammer.backends.redis.entries import GROUP
from banhammer.backends.redis.order import FURTHER, LOOK_BACK
from banhammer.errors import BackendError
from banhammer.outbox import Note
from banhammer.worker import courier
from banhammer.worker.crew import SLOTS
from delivery import (
    NOTHING,
    ask,
    bans,
    claimed,
    consumers,
    hammer_on,
    ids,
    left_over,
    names_of,
    note,
    partitions,
    taken,
    trap,
    working,
)
from histories_crew import in_threads
from redis_children import Child
from redis_stores import Store
from servers.standalone import Standalone
from servers.waiting import until

pytest_plugins = ("redis_store_fixtures",)
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

KEYS = [f"203.0.113.{number}" for number in range(40)]


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have workers look often for what others left behind."""
    monkeypatch.setattr(courier, "CLAIM_EVERY", 0.2)


def test_what_is_written_is_run_once_by_a_hammers_own_worker_and_nothing_is_left(store: Store) -> None:
    act = note()
    with hammer_on(store, [trap("note")], actions={"note": act}) as hammer:
        assert not any(hammer.hit(key, "trap") for key in KEYS)
        assert hammer.drain(PATIENCE)
        assert {each.key: each.id for each in act.ran} == bans(hammer)
        hammer.unban(KEYS[0], "trap")
        assert hammer.drain(PATIENCE)
        assert [each.verdict for each in act.ran if each.key == KEYS[0]] == ["banned", "lifted"]
    assert len(act.ran) == len(KEYS) + 1
    assert left_over(store) == NOTHING
    assert consumers(store) == 0


def test_an_external_worker_runs_what_a_hammer_leaves_to_it(store: Store) -> None:
    here, there = note(), note()
    with hammer_on(store, [trap("note", "block_local")], actions={"note": here}, worker="external") as hammer:
        hammer.hit("k", "trap")
        assert hammer.drain(PATIENCE)
        with working(store, {"note": there}):
            until(lambda: bool(there.ran), "run by the worker")
        assert ids(there.ran) == [bans(hammer)["k"]]
    assert here.calls == []
    assert left_over(store) == NOTHING


def test_twenty_crossings_at_once_in_four_processes_are_one_escalation_that_runs_once(store: Store) -> None:
    waits, begins = os.pipe()

    def cross() -> list[tuple[int, ...]]:
        os.close(begins)
        tripped: list[tuple[int, ...]] = []
        with hammer_on(store, [trap("note")]) as hammer:
            hammer.peek("k", "trap")
            os.read(waits, 1)  # Until the last process is there.
            in_threads(lambda _: tripped.append(hammer.hit("k", "trap").tripped), 5)
        return tripped

    children = [Child(cross) for _ in range(4)]
    os.close(begins)
    tripped = list(chain.from_iterable(child.result() for child in children))
    os.close(waits)
    assert sorted(tripped) == [()] * 19 + [(0,)]
    act = note()
    with hammer_on(store, [trap("note")]) as hammer, working(store, {"note": act}):
        until(lambda: left_over(store) == NOTHING, "nothing left")
        assert ids(act.calls) == [bans(hammer)["k"]]


def test_workers_that_know_different_actions_share_an_escalation(store: Store) -> None:
    """Each runs what it knows, once, and the last one takes the escalation off."""
    one, two = note(), note()
    with hammer_on(store, [trap("one", "two")]) as hammer:
        for key in KEYS[:6]:
            hammer.hit(key, "trap")
        with working(store, {"one": one}):
            until(lambda: len(one.ran) == 6, "the known half run")
            until(lambda: left_over(store)["marks"] == 6, "the other half left")
            with working(store, {"two": two}):
                until(lambda: left_over(store) == NOTHING, "nothing left")
        assert sorted(ids(one.ran)) == sorted(ids(two.ran)) == sorted(bans(hammer).values())


def test_a_poison_action_ends_as_dead_letters_while_all_others_flow(store: Store) -> None:
    """There are more of its escalations than a worker holds at once, and they wait long to be tried again."""
    poison, good = Act(then=OSError("no"), attempts=2, backoff="1h"), note()
    with hammer_on(store, [trap("poison", name="poisoned"), trap("good")]) as hammer:
        for number in range(3 * courier.HOLD):
            hammer.hit(str(number), "poisoned")
        for key in KEYS:
            hammer.hit(key, "trap")
        with working(store, {"poison": poison, "good": good}):
            until(lambda: len(good.ran) == len(KEYS), "the others run")
        assert len(poison.calls) == 3 * courier.HOLD
        waiting = left_over(store)
        assert (waiting["escalations"], waiting["dead"]) == (3 * courier.HOLD, 0)


def test_a_dead_letter_is_delivered_after_the_repair(store: Store) -> None:
    broken = [True]

    def report(_: Escalation) -> None:
        if broken[0]:
            raise ConnectionError("no such host\r\nINFO forged")

    act, good = Act(then=report, attempts=2, deadline="100ms"), note()
    backend = RedisBackend(store.url)
    letters = backend.dead_letters()
    with hammer_on(store, [trap("report", "good")]) as hammer:
        hammer.hit("k\n", "trap")
        with working(store, {"report": act, "good": good}):
            until(lambda: left_over(store) == {**NOTHING, "dead": 1}, "a dead letter")
            (letter,) = letters.letters()
            assert (letter.action, letter.attempts, letter.escalation.key) == ("report", 2, "k\n")
            assert letter.error.startswith("ConnectionError: no such host\\r\\nINFO forged (")
            assert not letters.retry("0:0-0")
            broken[0] = False
            assert letters.retry(letter.id)
            until(lambda: left_over(store) == NOTHING, "delivered")
        assert ids(act.ran) == ids(good.ran) == [bans(hammer)["k\n"]]
        assert act.ran[0] == good.ran[0]
    backend.close()


def test_a_worker_that_stopped_does_not_run_what_was_claimed_meanwhile(store: Store, tmp_path: Any) -> None:
    """The stopped process holds escalations that it has not begun; another takes them over; then it goes on."""
    log = tmp_path / "ran"
    with hammer_on(store, [trap("note")]) as hammer:
        for key in KEYS[:30]:
            hammer.hit(key, "trap")

        def run(who: str, pause: float, each: Escalation) -> None:
            sleep(pause)
            with log.open("ab", buffering=0) as file:
                file.write(f"{who} {each.id}\n".encode())

        def ran() -> list[tuple[str, ...]]:
            return [tuple(line.split()) for line in log.read_text().splitlines()] if log.exists() else []

        child = os.fork()
        if not child:
            with working(store, {"note": Act(then=partial(run, "stopped", 0.15), deadline="200ms")}):
                signal.pause()
            os._exit(0)
        try:
            until(lambda: len(ran()) >= 1, "the first one run")
            os.kill(child, signal.SIGSTOP)
            with working(store, {"note": Act(then=partial(run, "other", 0), deadline="200ms")}):
                until(lambda: len({id for _, id in ran()}) == 30, "the others run")
                claimed = {id for _, id in ran()}
                behind = len(ran())
                os.kill(child, signal.SIGCONT)
            for key in KEYS[30:]:
                hammer.hit(key, "trap")
            until(lambda: len({id for _, id in ran()}) == len(KEYS), "the stopped worker at work again")
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        late_runs = [id for who, id in ran()[behind:] if who == "stopped" and id in claimed]
        assert len(late_runs) <= SLOTS, "what it was in the middle of"
        assert {id for _, id in ran()} == set(bans(hammer).values())


def test_what_a_dead_worker_held_is_claimed_and_its_silence_counts_as_a_failure(store: Store) -> None:
    act = note()
    with hammer_on(store, [trap("note")]) as hammer:
        for key in KEYS:
            hammer.hit(key, "trap")
        assert len(taken(store)) == len(KEYS)  # By somebody who is never heard of again.
        began = monotonic()
        with working(store, {"note": act}):
            until(lambda: len(act.ran) == len(KEYS), "claimed")
        assert monotonic() - began < 2 * 0.1 + 1 + courier.CLAIM_EVERY + 3
        assert sorted(ids(act.ran)) == sorted(bans(hammer).values())
    assert left_over(store) == NOTHING


def test_a_store_that_was_emptied_is_delivered_from_again(store: Store) -> None:
    act = note()
    with hammer_on(store, [trap("note")], actions={"note": act}) as hammer:
        hammer.hit("before", "trap")
        assert hammer.drain(PATIENCE)
        store.flush()
        for key in KEYS:
            hammer.hit(key, "trap")
        until(lambda: len(act.ran) == 1 + len(KEYS), "run")
        assert {each.key: each.id for each in act.ran[1:]} == bans(hammer)


def test_entries_that_are_no_escalations_are_dropped_and_counted_and_hold_nobody_up(store: Store) -> None:
    act = note()
    backend = RedisBackend(store.url)
    with hammer_on(store, [trap("note")]) as hammer:
        hammer.hit("sound", "trap")
        (sound,) = (ask(store, each, "XRANGE", "escalations", "-", "+") for each in partitions(store)
                    if ask(store, each, "XLEN", "escalations"))  # fmt: skip
        fields = sound[0][1]
        damaged = [{b"id": b"x"}, *({**fields, name: b"\xff|"} for name in (b"key", b"facts", b"rule"))]
        damaged += [{**fields, b"rule": b'[1,2.0,"r",7]'}, {**fields, b"facts": b"praised|hit|0|1|1|0|1"}]
        for each in damaged:
            for partition in partitions(store):
                ask(store, partition, "XADD", "escalations", "*", *[part for pair in each.items() for part in pair])
        with working(store, {"note": act}, backend):
            until(lambda: left_over(store) == NOTHING, "all gone")
            hammer.hit("after", "trap")
            until(lambda: len(act.ran) == 2, "the sound ones run")
        assert backend._topology.damaged == len(damaged) * len(partitions(store))
    assert sorted(each.key for each in act.ran) == ["after", "sound"]


def test_an_entry_that_was_damaged_in_the_hands_of_a_dead_worker_holds_nobody_up(single: Standalone) -> None:
    act = note()
    with hammer_on(single, [trap("note")]) as hammer:
        hammer.hit("k", "trap")
        (held,) = taken(single)
        entry = held.place.entry  # type: ignore[attr-defined]
        stream = names_of(single).escalations(0)
        single.ask("XDEL", stream, entry)
        hammer.unban("k", "trap")
        hammer.hit("other", "trap")
        single.ask("COPY", stream, "kept")
        single.ask("DEL", stream)
        single.ask("XADD", stream, entry, "no", "escalation")
        single.ask("XGROUP", "CREATE", stream, GROUP, entry)
        for name, fields in single.client(protocol=2).xrange("kept"):
            single.ask("XADD", stream, name, *chain.from_iterable(fields.items()))
        with working(single, {"note": act}):
            until(lambda: len(act.ran) == 2, "run")
    assert [(each.key, each.verdict) for each in act.ran] == [("k", "lifted"), ("other", "banned")]


def test_a_dead_letter_that_is_none_is_named_so_that_it_can_be_dropped(single: Standalone) -> None:
    backend = RedisBackend(single.url)
    letters = backend.dead_letters()
    entry = ask(single, 0, "XADD", "dead", "*", "id", "x").decode()
    with pytest.raises(BackendError, match=rf"0:{entry} is no dead letter"):
        list(letters.letters())
    assert letters.drop(f"0:{entry}")
    assert list(letters.letters()) == []
    backend.close()


def test_closing_hands_back_what_was_not_run_and_the_next_worker_has_it_at_once(store: Store) -> None:
    poison = Act(then=OSError("no"), attempts=5, backoff="1h", deadline="10s")
    with hammer_on(store, [trap("note")]) as hammer:
        hammer.hit("k", "trap")
        with working(store, {"note": poison}):
            until(lambda: len(poison.calls) == 1, "tried")
            until(lambda: left_over(store)["marks"] == 1, "noted")
        assert consumers(store) == 1, "of leftovers only"
        began = monotonic()
        second = Act(then=OSError("no"), attempts=2, backoff="1h", deadline="10s")
        with working(store, {"note": second}):
            until(lambda: left_over(store)["dead"] == 1, "dead at the second try in all")
        assert monotonic() - began < courier.CLAIM_EVERY + 3
        assert len(second.calls) == 1
    assert left_over(store) == {**NOTHING, "dead": 1}


def test_a_worker_that_leaves_ends_what_runs_begins_nothing_more_and_hands_the_rest_back(store: Store) -> None:
    most = SLOTS - SLOTS // 4  # The rest is kept free for other actions.
    open_gate = threading.Event()
    slow = Act(then=lambda _: open_gate.wait(PATIENCE))
    with hammer_on(store, [trap("note")]) as hammer:
        assert not any(hammer.hit(key, "trap") for key in KEYS)
        with working(store, {"note": slow}) as worker:
            until(lambda: len(slow.calls) == most, "its slots are taken")
            assert not worker.leave(0.1)
        assert ids(slow.ran) == []
        again = Act(then=lambda _: open_gate.wait(PATIENCE))
        with working(store, {"note": again}) as worker:
            until(lambda: len(again.calls) == most, "they are taken anew")
            threading.Timer(0.5, open_gate.set).start()
            assert worker.leave(PATIENCE)
        assert len(again.ran) == most == len(again.calls)
        rest = note()
        with working(store, {"note": rest}):
            until(lambda: left_over(store) == NOTHING, "all ran")
        assert {*ids(again.ran), *ids(rest.ran)} == {*bans(hammer).values()}
        assert not {*ids(again.ran)} & {*ids(rest.ran)}


def test_a_server_that_restarts_empty_is_delivered_from_again(single: Standalone) -> None:
    act = note()
    with hammer_on(single, [trap("note")], actions={"note": act}) as hammer:
        hammer.hit("before", "trap")
        assert hammer.drain(PATIENCE)
        single.kill()
        single.start()
        until(lambda: not hammer.hit("after", "trap").degraded, "the store back")
        until(lambda: "after" in [each.key for each in act.ran], "run")


def test_a_worker_does_not_take_back_what_another_claimed(store: Store) -> None:
    with hammer_on(store, [trap("note")]) as hammer:
        hammer.hit("k", "trap")
        backend = RedisBackend(store.url)
        first, second = backend.outbox(), backend.outbox()
        (held,) = first.take(100)
        assert first.keep([held]) == [held]
        sleep(0.01)
        (claimed,) = second.claim(100, 0.001)
        assert first.keep([held]) == []
        assert first.write([Note("left", held)]) == []
        assert second.keep([claimed]) == [claimed]
        first.leave()
        assert second.write([Note("done", claimed)]) == []
        second.leave()
        backend.close()
    assert (left_over(store), consumers(store)) == (NOTHING, 0)


def test_a_lift_waits_for_its_ban_and_a_new_ban_for_the_lift_whichever_workers_run_them(store: Store) -> None:
    """One worker tries a ban again and again; its lift, taken by another, does not overtake it."""
    allowed = [False]
    told: list[str] = []

    def block(each: Escalation) -> None:
        if not allowed[0]:
            raise ConnectionError("not now")
        told.append(each.verdict)

    with hammer_on(store, [trap("block", "note")]) as hammer:
        first, second = Act(then=block), Act(then=block)
        noted = note()
        with working(store, {"block": first, "note": noted}):
            hammer.hit("k", "trap")
            until(lambda: len(first.calls) > 1 and bool(noted.ran), "tried again, and its other action run")
            with working(store, {"block": second, "note": noted}) as other:
                hammer.unban("k", "trap")
                hammer.hit("k", "trap")
                other.look()
                until(lambda: len(noted.ran) == 3, "the other action flows")
                assert {each.id for each in first.calls + second.calls} == {noted.ran[0].id}
                assert {each.verdict for each in first.calls + second.calls} == {"banned"}
                allowed[0] = True
                until(lambda: left_over(store) == NOTHING, "nothing left")
        assert told == ["banned", "lifted", "banned"]
        assert [each.verdict for each in noted.ran] == told


def test_a_ban_waits_for_the_lift_before_it_however_much_else_of_its_key_stands_between(single: Standalone) -> None:
    throttle = Threshold(1, "1ms", actions=["note"])
    policy = Policy("p", [throttle, Threshold(100_000, "1s", ban="1h", actions=["block"])])
    told: list[str] = []
    block, noted = Act(then=lambda each: told.append(each.verdict)), Act()
    with hammer_on(single, [policy]) as hammer:
        hammer.ban("k", "p")
        hammer.unban("k", "p")
        between = FURTHER + LOOK_BACK + 3
        while left_over(single)["escalations"] < between:
            hammer.hit("k", "p")
        hammer.ban("k", "p")
        with working(single, {"block": block, "note": noted}):
            until(lambda: left_over(single) == NOTHING, "all run", seconds=60)
    assert told == ["banned", "lifted", "banned"]


def test_what_waits_behind_others_of_its_key_is_not_asked_for(single: Standalone) -> None:
    with hammer_on(single, [trap("note")]) as hammer:
        for _ in range(100):
            hammer.hit("k", "trap")
            hammer.unban("k", "trap")
        backend = RedisBackend(single.url)
        found = backend.outbox().take(1_000)
        single.ask("CONFIG RESETSTAT")
        ready = backend.outbox().ready([(each, "note") for each in reversed(found)])
        asked = single.ask("INFO", "commandstats")["cmdstat_zrevrangebylex"]["calls"]
        backend.close()
    assert (len(found), asked) == (200, 1)
    assert ready == [False] * 199 + [True]


def test_a_hundred_escalations_of_one_key_run_in_their_order_over_three_workers(store: Store) -> None:
    told: list[tuple[str, str]] = []
    act = Act(then=lambda each: told.append((each.id, each.verdict)))
    with hammer_on(store, [trap("note")]) as hammer:
        made = []
        for _ in range(50):
            hammer.hit("k", "trap")
            made.append(bans(hammer)["k"])
            hammer.unban("k", "trap")
        with working(store, {"note": act}), working(store, {"note": act}), working(store, {"note": act}):
            until(lambda: left_over(store) == NOTHING, "all run", seconds=60)
    assert told == [(id, verdict) for id in made for verdict in ("banned", "lifted")]


def test_an_action_that_kills_its_workers_ends_as_a_dead_letter(store: Store) -> None:
    """Whoever takes it is never heard of again, until so many have."""
    act = Act(attempts=1, deadline="100ms")
    with hammer_on(store, [trap("note")]) as hammer:
        hammer.hit("k", "trap")
        for _ in range(3):
            assert len(taken(store) or claimed(store)) == 1
        with working(store, {"note": act}):
            until(lambda: left_over(store) == {**NOTHING, "dead": 1}, "a dead letter")
        assert act.calls == []


def test_workers_that_were_killed_leave_the_lists_once_they_hold_nothing(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = RedisBackend(store.url)
    killed, holds = backend.outbox(), backend.outbox()
    with hammer_on(store, [trap("note")]) as hammer:
        hammer.hit("done", "trap")
        killed.write([Note("done", each) for each in killed.take(100)])
        hammer.hit("held", "trap")
        (held,) = holds.take(100)
        known = consumers(store)
        assert known >= 2
        backend.outbox().claim(100, 3600)
        assert consumers(store) == known, "they were heard of of late"
        sleep(0.02)
        monkeypatch.setattr(outbox, "SILENT", 0.01)
        backend.outbox().claim(100, 3600)
        assert consumers(store) == 1
        assert holds.keep([held]) == [held]
    backend.close()
