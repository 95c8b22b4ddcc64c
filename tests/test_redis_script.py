"""The script and `core` are one: the same replies and the same bytes, whatever is stored and whatever comes."""

from __future__ import annotations

import os
import secrets
import struct
from random import Random

import pytest

from banhammer import Hit, Policy, Threshold
from banhammer.backends.packing import pack_record
from banhammer.backends.redis.scripts import EVALUATE_FULL
from banhammer.backends.shared import Charge
from banhammer.durations import DAY, FOREVER, MINUTE, SECOND
from banhammer.model import Record
from redis_bench import DETAILS, INDEX, Bench, Kept, only_meters
from redis_cases import WORD, Model, log_uniform, random_charge, random_policy, random_record
from servers.standalone import Standalone

CALLS = 600 if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 25
HITS = 120
YEAR_2200 = 7_258_118_400 * SECOND
NAMES = [f"bh:{{0}}:p:k{number}" for number in range(60)]


@pytest.fixture
def bench(standalone: Standalone) -> Bench:
    return Bench(standalone.client())


def some_time(rng: Random) -> int:
    return rng.choice(
        (1_750_000_000 * SECOND + rng.randint(0, DAY), rng.randint(0, YEAR_2200), log_uniform(rng, 1, DAY))
    )


def some_records(rng: Random, policies: list[Policy], now: int) -> dict[str, bytes]:
    """Return records of half of the names, a few of them damaged."""
    stored = {}
    for name in rng.sample(NAMES, len(NAMES) // 2):
        packed = pack_record(random_record(rng, rng.choice(policies), now))
        if rng.random() < 0.1:
            packed = rng.choice((packed[: rng.randrange(len(packed))], rng.randbytes(len(packed)), packed + b"x"))
        stored[name] = packed
    return stored


def compare(bench: Bench, rng: Random, now: int | None, seed: str, *, stop: bool = False) -> int:
    """Decide one random batch in the store and by `core`, compare all, and return how many hits were decided."""
    about = bench.time() if now is None else now
    policies = [random_policy(rng, f"p{number}") for number in range(10)]
    stored = some_records(rng, policies, about)
    charges = [random_charge(rng, rng.choice(NAMES), rng.choice(policies), about) for _ in range(HITS)]
    bench.client.flushall()
    bench.put(stored)

    put = bench.kept(NAMES)
    before = bench.time()
    call = bench.call(charges, now, stop=stop)
    after = bench.time()

    assert before <= call.now <= after if now is None else call.now == now
    model = Model(stored)
    answers = list(model.answers(charges, call.now, stop=stop))
    assert len(call.replies) == len(answers), seed
    written: dict[str, int] = {}
    for place, (charge, answer) in enumerate(zip(charges, answers, strict=False)):
        assert call.replies[place] == answer.packed, (seed, place, charge.hit, charge.policy)
        if answer.written is not None:
            written[charge.hit.key] = answer.lapses
    assert bench.records(NAMES) == model.stored, seed
    assert call.damaged == model.damaged, seed
    for name, kept in bench.kept(NAMES).items():
        if name not in written:
            assert kept == put[name], (seed, name)
            continue
        lapses = written[name]
        if lapses >= FOREVER:
            assert kept.expires < 0, (seed, name)
            continue
        rest = max(lapses - call.now, 0) + MINUTE + (0 if now is None else DAY)
        early = 1000 if now is None and only_meters(model.stored[name]) else 0  # Then, it is down to the second.
        assert before // 1000 - early <= kept.expires - -(-rest // 1000) <= after // 1000, (seed, name)
    return len(answers)


@pytest.mark.parametrize("stop", [False, True], ids=["all", "stop"])
def test_the_script_decides_and_stores_what_the_core_does(bench: Bench, stop: bool) -> None:
    """At injected times: replies, bytes, expiries and damage; `stop` ends both at the same hit."""
    decided = 0
    for number in range(CALLS):
        seed = f"{secrets.randbits(32)}-{number}"
        rng = Random(seed)
        decided += compare(bench, rng, some_time(rng), seed, stop=stop)
    assert decided >= CALLS


def test_the_core_replayed_at_the_time_of_the_reply_agrees(bench: Bench) -> None:
    """At the server's own time."""
    for number in range(CALLS):
        seed = f"{secrets.randbits(32)}-{number}"
        compare(bench, Random(seed), None, seed)


def test_the_script_peeks_and_changes_no_byte_where_nothing_may_be_written(bench: Bench) -> None:
    """As on a full server: also a hit and a guard leave every value and expiry as they were."""
    for number in range(CALLS // 5):
        seed = f"{secrets.randbits(32)}-{number}"
        rng = Random(seed)
        now = some_time(rng)
        policies = [random_policy(rng, f"p{number}") for number in range(10)]
        bench.client.flushall()
        bench.put(some_records(rng, policies, now))
        bench.call([random_charge(rng, rng.choice(NAMES), rng.choice(policies), now) for _ in range(HITS)], now)
        stored, kept = bench.records(NAMES), bench.kept([*NAMES, INDEX, DETAILS])
        charges = [random_charge(rng, rng.choice(NAMES), rng.choice(policies), now) for _ in range(HITS)]
        call = bench.call(charges, now, full=True, text=EVALUATE_FULL.text)
        for charge, reply in zip(charges, call.replies, strict=True):
            (answer,) = Model(stored).answers([charge], now, full=True)
            assert reply == answer.packed, (seed, charge.hit, charge.policy)
        assert bench.kept([*NAMES, INDEX, DETAILS]) == kept, seed


def test_a_clock_that_steps_about_is_decided_as_by_the_core(bench: Bench) -> None:
    """Hits on one record, one after another, while time goes on, stands still, and steps back."""
    for number in range(CALLS // 5):
        seed = f"{secrets.randbits(32)}-{number}"
        rng = Random(seed)
        policies = [random_policy(rng, f"p{number}") for number in range(3)]
        now, model = some_time(rng), Model({})
        bench.client.flushall()
        for _ in range(60):
            reach = rng.choice((1, SECOND, rng.choice(policies).thresholds[0].interval, DAY))
            now = max(now + rng.choice((0, 1, 1, -1)) * rng.randint(0, reach), 1)
            charges = [random_charge(rng, NAMES[0], rng.choice(policies), now) for _ in range(rng.randint(1, 4))]
            answers = [answer.packed for answer in model.answers(charges, now)]
            assert bench.call(charges, now).replies == answers, seed
        assert bench.records(NAMES[:1]) == model.stored, seed


def test_an_expiry_is_set_anew_only_in_another_second(bench: Bench) -> None:
    policy = Policy("p", [Threshold(100_000, "1s", burst=10**9)])
    charge, second = Charge(Hit(NAMES[0], "p"), policy), bench.time() // SECOND + 100
    given = (second + 1_000) * 1000 + 7
    for left, expires in ((11, given), (10, (second + 1 + MINUTE // SECOND) * 1000)):  # A unit takes 10 us.
        bench.client.set(NAMES[0], pack_record(Record(((second + 1) * SECOND - left,))), pxat=given)
        bench.call([charge], None)
        assert bench.kept(NAMES[:1])[NAMES[0]].expires == expires


def test_a_count_of_a_window_stops_at_the_most_that_its_field_holds(bench: Bench) -> None:
    policy = Policy("p", [Threshold(10, "1h")], track=["12s"])
    now = 1_750_000_000 * SECOND
    full = Record((0,), rings=((12 * SECOND, now // SECOND, (WORD,) * 12),))
    bench.put({NAMES[0]: pack_record(full)})
    (reply,) = bench.call([Charge(Hit(NAMES[0], "p"), policy)], now).replies
    assert struct.unpack(">12I", reply[-48:]) == (WORD,) * 12


def test_a_peek_and_an_allowed_guard_leave_no_trace_of_a_new_key(bench: Bench) -> None:
    policy = Policy("p", [Threshold(10, "1h", ban="1h")], track=["1m"])
    peek, guard = Charge(Hit(NAMES[0], "p"), policy, peek=True), Charge(Hit(NAMES[0], "p", guard=True), policy)
    assert [reply[:2] for reply in bench.call([peek, guard], None).replies] == [b"\0\2", b"\0\0"]
    assert bench.kept([NAMES[0], INDEX, DETAILS]) == dict.fromkeys([NAMES[0], INDEX, DETAILS], Kept(None, -2))


def test_a_record_of_three_thresholds_takes_at_most_44_bytes(bench: Bench) -> None:
    """What Redis embeds in one allocation with its header."""
    levels = [Threshold(5, "1m"), Threshold(10, "1h", ban=["1h", "1d"]), Threshold(100, "1h", ban="forever")]
    policy = Policy("p", levels)
    for _ in range(120):
        bench.call([Charge(Hit(NAMES[0], "p"), policy)], None)
    (packed,) = bench.records(NAMES[:1]).values()
    assert packed[0] == 3
    assert len(packed) <= 44
    assert bench.client.object("encoding", NAMES[0]) == b"embstr"


def test_the_index_keeps_the_end_of_a_ban_and_what_made_it(bench: Bench) -> None:
    """A higher threshold lengthens the same ban: `since` stays, and the rest is of what lengthened it."""
    levels = [Threshold(10, "1h", burst=0, ban="1m"), Threshold(20, "1h", burst=1, ban="forever")]
    policy = Policy("p", levels)
    charge, start, member = Charge(Hit(NAMES[0], "p"), policy), 1_750_000_000 * SECOND, "p:k0"
    bench.call([charge], start)
    assert bench.client.zscore(INDEX, member) == start + MINUTE
    assert bench.client.hget(DETAILS, member) == b"%d|hit|nonce-1-0|over 10 per 1h" % start
    bench.call([charge], start + SECOND)
    assert bench.client.zscore(INDEX, member) == FOREVER
    assert bench.client.hget(DETAILS, member) == b"%d|hit|nonce-1-1|over 20 per 1h" % start
