"""Records as bytes and keys as names: nothing is lost, nothing collides, and what is no record is told apart."""

from __future__ import annotations

import math
import re
import struct
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banhammer.backends.names import LONGEST, escape, is_cut, shorten, unescape
from banhammer.backends.packing import pack_record, sound_record, unpack_record
from banhammer.backends.redis.wire import Names, unpack_reply
from banhammer.durations import FOREVER
from banhammer.model import MAX_STRIKES, MAX_THRESHOLDS, RING, Record
from redis_walk import DAMAGE, KEYS

WORD = 2**32 - 1
times = st.integers(0, FOREVER)
rings = st.tuples(st.integers(RING, FOREVER), times, st.tuples(*[st.integers(0, WORD)] * RING))
records = st.builds(
    Record,
    st.lists(times, min_size=1, max_size=MAX_THRESHOLDS).map(tuple),
    over=st.integers(0, WORD),
    strikes=st.integers(0, MAX_STRIKES),
    banned_until=times,
    level=st.integers(0, MAX_THRESHOLDS - 1),
    rings=st.lists(rings, max_size=3).map(tuple),
)
keys = st.one_of(st.text(st.characters(), min_size=1), st.text("a%~:{}\r\n\0\ud800é", min_size=1, max_size=200))
names = st.sampled_from(["p", "p.q", "p-q"])


@given(records)
def test_a_record_comes_back_as_it_was_packed(record: Record) -> None:
    packed = pack_record(record)
    assert sound_record(packed) == unpack_record(packed) == record
    assert unpack_record(b"xyz" + packed, 3) == record
    assert len(packed) == 18 + 8 * len(record.tats) + 64 * len(record.rings)


def test_a_record_of_three_thresholds_takes_42_bytes() -> None:
    assert len(pack_record(Record((FOREVER,) * 3, WORD, MAX_STRIKES, FOREVER, 31))) == 42


@given(records, st.data())
def test_a_record_that_was_cut_or_lengthened_is_none(record: Record, data: st.DataObject) -> None:
    packed = pack_record(record)
    cut = packed[: data.draw(st.integers(0, len(packed) - 1))]
    found = sound_record(cut)
    assert found is None or (len(cut) == len(packed) - 64 * (len(record.rings) - len(found.rings)))
    assert sound_record(packed + data.draw(st.binary(min_size=1, max_size=63))) is None


@given(st.binary(max_size=300))
def test_bytes_that_are_no_record_are_never_an_exception(packed: bytes) -> None:
    found = sound_record(packed)
    assert found is None or sound_record(pack_record(found)) == found


@pytest.mark.parametrize("packed", [packed for packed in DAMAGE if packed is not None])
def test_a_field_out_of_range_makes_it_no_record(packed: bytes) -> None:
    assert sound_record(packed) is None


@given(records, st.sampled_from([-1.0, 0.5, float(2**53), math.inf, -math.inf, math.nan]), st.data())
def test_no_time_of_a_record_may_be_out_of_range(record: Record, wrong: float, data: st.DataObject) -> None:
    packed = bytearray(pack_record(record))
    rings_at = 18 + 8 * len(record.tats)
    places = [10, *range(18, rings_at, 8)]
    places += [rings_at + 64 * ring + field for ring in range(len(record.rings)) for field in (0, 8)]
    struct.pack_into(">d", packed, data.draw(st.sampled_from(places)), wrong)
    assert sound_record(bytes(packed)) is None


@given(records, st.sampled_from(["allowed", "throttled", "banned"]), st.lists(st.integers(0, 31), max_size=4))
def test_a_reply_comes_back_as_the_script_packed_it(record: Record, verdict: str, tripped: list[int]) -> None:
    """A peek's reply has no ids: it escalates nothing."""
    for counted in (0, 1, 2):
        place = ("allowed", "throttled", "banned").index(verdict)
        packed = bytes([place, counted, len(tripped), *tripped]) + pack_record(record)
        reply = unpack_reply(packed, 7, b"nonce", 3)
        assert (reply.verdict, reply.counted, reply.tripped) == (verdict, counted > 0, tuple(tripped))
        assert (reply.now, reply.record) == (7, record)
        assert reply.ids == tuple(f"nonce-3-{index}" for index in tripped if counted == 1)


@given(keys)
def test_a_key_comes_back_as_it_was_escaped(key: str) -> None:
    escaped = escape(key)
    assert re.fullmatch(r"[A-Za-z0-9_.:~%-]+", escaped)
    assert unescape(escaped) == key
    assert not is_cut(escaped)


@given(keys, keys)
def test_no_two_keys_share_a_spelling(one: str, other: str) -> None:
    spellings = {shorten(escape(key)) for key in (one, other)}
    assert len(spellings) == len({one, other})


@given(keys, st.integers(1, 40))
def test_a_long_key_is_cut_and_completed_by_a_digest(key: str, times: int) -> None:
    escaped = escape(key * times)
    short = shorten(escaped)
    assert len(short) <= LONGEST
    assert is_cut(short) == (len(escaped) > LONGEST)
    assert short == escaped or short[:86] == escaped[:86]


def test_keys_that_look_alike_have_names_of_their_own() -> None:
    cafe = "café"
    alike = [
        *KEYS, cafe, unicodedata.normalize("NFD", cafe), "\ud83d\ude00", "\U0001f600", "1.2.3.4", "\uff11.2.3.4",
        "%00", "\0", "a%3Ab", "a:b", "x" * 65_536, "x" * 65_537, "x" * 86 + "%~" + "0" * 32,
    ]  # fmt: skip
    assert len({Names(1).record("p", key)[1] for key in alike}) == len(set(alike))


@given(names, keys, names, keys)
def test_a_name_is_of_one_policy_and_one_key(policy: str, key: str, other_policy: str, other_key: str) -> None:
    """G18: and each stands in its key's own slot."""
    namer = Names(16)
    partition, name, member = namer.record(policy, key)
    assert name.startswith(f"bh:{{{namer.tags[partition]}}}:{policy}:")
    assert (namer.record(other_policy, other_key)[1] == name) == ((policy, key) == (other_policy, other_key))
    assert bool(member) == is_cut(name)
    assert (member or name.partition("}:")[2]) == f"{policy}:{escape(key)}"
