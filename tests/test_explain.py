"""`banhammer explain`: its words, and that what it promises comes true."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banhammer import Policy, Threshold, core
from banhammer.backends import Reading
from banhammer.durations import FOREVER
from banhammer.explain import Explanation, explain, sentences
from banhammer.model import Record
from one_policy import HOUR, SECOND, START
from operators_shop import IP, Shop


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Shop]:
    shop = Shop(tmp_path, monkeypatch, capsys)
    yield shop
    shop.hammer.close()


def test_explain_says_why_a_key_is_banned_and_what_comes_next(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("banhammer.backends.memory.uuid4", lambda: UUID(int=7))
    shop.hits(12)
    shop.clock.advance("10s")
    assert shop.run("explain", IP, "login") == (0, (
        f"{IP} under login: banned until 2025-06-15 16:06:40 UTC (59m50s more)\n"
        "  since 2025-06-15 15:06:40 UTC, by a hit: over 10 per 1h\n"
        f"  at threshold 0 (10 at once, then 1 every 6m), escalation {UUID(int=7).hex}\n"
        "  strikes: 1, forgotten in 30d59m50s\n"
        "  threshold 0: 10 at once, then 1 every 6m; empty; asleep while the ban lasts, then bans for 6h\n"
        "  threshold 1: 100 at once, then 1 every 36s; 12 % full, empty in 7m2s; "
        "88 more fit at once, the 89th lengthens the ban: for 7d from then\n"
        "  hits: 12 in 1m\n"
    ), "")  # fmt: skip


def test_explain_goes_through_every_policy(shop: Shop) -> None:
    shop.hits(3)
    shop.hits(6, "203.0.113.0/24", "api")
    done = shop.run("explain", IP)
    assert done == (0, (
        f"{IP} under login: let through\n"
        "  threshold 0: 10 at once, then 1 every 6m; 30 % full, empty in 18m; "
        "7 more fit at once, the 8th bans for 1h (strike 1)\n"
        "  threshold 1: 100 at once, then 1 every 36s; 3 % full, empty in 1m48s; "
        "97 more fit at once, the 98th bans for 7d (strike 1)\n"
        "  hits: 3 in 1m\n"
        "203.0.113.0/24 under api: throttled, with room for one more in 1s\n"
        "  threshold 0: 5 at once, then 1 every 1s; 100 % full, empty in 5s; the next is throttled\n"
        f"{IP} under both: nothing is known, as if never seen\n"
        "  shadow: the policy only watches, so nobody is kept out\n"
        "  threshold 0: 1 at once, then 1 every 1m; 1 more fits at once, the 2nd bans for ever (strike 1)\n"
        "203.0.113.0/24 under both: nothing is known, as if never seen\n"
        "  shadow: the policy only watches, so nobody is kept out\n"
        "  threshold 0: 1 at once, then 1 every 1m; 1 more fits at once, the 2nd bans for ever (strike 1)\n"
    ), "")  # fmt: skip


def test_explain_as_json_holds_what_the_words_say(shop: Shop) -> None:
    shop.hammer.ban(IP, "login", "forever", reason="stuffing")
    found = shop.run("explain", "::ffff:203.0.113.9", "login", "--json").json
    assert found["key"] == "::ffff:203.0.113.9"
    (told,) = found["policies"]
    assert told["ban"].pop("id")
    assert told == {
        "key": IP, "policy": "login", "state": "banned", "mode": "enforce", "now": START / 1e6, "wait": None,
        "banned_until": None,
        "ban": {
            "key": IP, "policy": "login", "threshold": 0, "strikes": 1, "since": START / 1e6, "until": None,
            "origin": "manual", "reason": "stuffing",
        },
        "strikes": 1, "forgotten_at": None,
        "meters": [
            {
                "threshold": 0, "kind": "ban", "rule": "10 at once, then 1 every 6m", "full": 0.0, "room": 10,
                "empty_at": None, "asleep": True, "ban_for": 21600.0,
            },
            {
                "threshold": 1, "kind": "ban", "rule": "100 at once, then 1 every 36s", "full": 0.0, "room": 100,
                "empty_at": None, "asleep": False, "ban_for": 604800.0,
            },
        ],
        "rates": {"1m": 0},
    }  # fmt: skip


def test_explain_names_the_list_that_a_key_is_on(shop: Shop) -> None:
    done = shop.run("explain", "::ffff:10.1.2.3", "login")
    assert done.code == 0
    assert done.out.startswith("10.1.2.3 under login: on the allow list, so let through whatever it does; ")
    assert done.out.count(" under login: ") == 1
    done = shop.run("explain", "198.51.100.66", "login")
    assert done.out.startswith("198.51.100.66 under login: on the deny list, so kept out whatever it does; ")
    done = shop.run("explain", "198.51.100.66", "login", "--json")
    assert (done.code, [each["state"] for each in done.json["policies"]]) == (0, ["denylisted"])


def test_explain_of_a_key_that_nobody_saw_says_what_would_come_and_exits_1(shop: Shop) -> None:
    done = shop.run("explain", IP, "login")
    assert done.code == 1
    assert done.out.splitlines()[0] == f"{IP} under login: nothing is known, as if never seen"
    assert "10 more fit at once, the 11th bans for 1h (strike 1)" in done.out


def told(policy: Policy, record: Record, now: int) -> Explanation:
    return explain(policy, None, Reading("k", policy.name, now, core.load(policy, record, now), None))


def words(*thresholds: Threshold, record: Record, now: int = START) -> str:
    return "\n".join(sentences(told(Policy("p", thresholds), record, now)))


def test_explain_tells_the_rare_cases_in_words() -> None:
    honeypot = Threshold(1, "1h", burst=0, ban=["1h", "forever"])
    assert "none at all; empty; the next bans for ever (strike 2)" in words(
        honeypot, record=Record((0,), strikes=1, banned_until=START)
    )
    assert "the details of the ban are not known" in words(
        honeypot, record=Record((0,), strikes=1, banned_until=START + HOUR)
    )
    forever = words(Threshold(5, "1h"), honeypot, record=Record((0, 0), strikes=2, banned_until=FOREVER, level=1))
    assert "banned for ever" in forever
    assert "strikes: 2, not forgotten while the ban lasts" in forever
    assert "not asked while the ban lasts" in forever
    assert "asleep while the ban lasts\n" in f"{forever}\n"
    higher = words(
        Threshold(1, "1h", ban="1h"), Threshold(2, "1h", ban="2h"),
        record=Record((0, 0), strikes=1, banned_until=START + 5 * HOUR),
    )  # fmt: skip
    assert "2 more fit at once, the 3rd does not lengthen the ban: it would be for 2h" in higher


# What explain promises comes true.

THRESHOLDS = st.builds(
    Threshold,
    st.integers(1, 6),
    st.sampled_from(["1s", "10s", "7s"]),
    burst=st.integers(1, 6),
    ban=st.sampled_from([None, "5s", ["3s", "20s"], ["1s", "forever"]]),
)
POLICIES = st.lists(THRESHOLDS, min_size=1, max_size=3).map(lambda levels: Policy("p", levels, forgive_after="30s"))
HISTORIES = st.lists(st.tuples(st.integers(0, 4 * SECOND), st.integers(1, 3)), max_size=25)


def lived(policy: Policy, history: list[tuple[int, int]]) -> tuple[Record, int]:
    record, now = core.FRESH, START
    for pause, cost in history:
        now += pause
        record = core.evaluate(policy, record, cost, now).record
    return record, now


@given(POLICIES, HISTORIES)
def test_what_comes_next_comes_after_exactly_so_many_units(policy: Policy, history: list[tuple[int, int]]) -> None:
    record, now = lived(policy, history)
    found = told(policy, record, now)
    awake = [meter for meter in found.meters if not meter.asleep]
    if not awake:
        assert core.evaluate(policy, record, 1, now).verdict == "banned"
        return
    for _ in range(min(meter.room for meter in awake)):
        reply = core.evaluate(policy, record, 1, now)
        record = reply.record
        assert (reply.verdict, reply.tripped) == ("banned" if found.state == "banned" else "allowed", ())
    least = min(meter.room for meter in awake)
    over = [meter for meter in awake if meter.room == least]
    reply = core.evaluate(policy, record, 1, now)
    bans = [meter.ban_for for meter in over if meter.ban_for is not None]
    assert reply.verdict == ("banned" if bans or found.state == "banned" else "throttled")
    if bans:
        assert reply.tripped == tuple(meter.threshold for meter in over if meter.kind == "ban")
        end = max(found.banned_until or 0.0, max(bans) + found.now)
        assert min(reply.record.banned_until, FOREVER) == (FOREVER if end == math.inf else round(end * 1e6))


@given(POLICIES, HISTORIES)
def test_meters_strikes_and_waits_end_when_explain_says(policy: Policy, history: list[tuple[int, int]]) -> None:
    record, now = lived(policy, history)
    found = told(policy, record, now)
    for meter in found.meters:
        assert (meter.empty_at is None) == (meter.full == 0.0)
        if meter.empty_at is not None:
            end = round(meter.empty_at * 1e6)
            assert told(policy, record, end - 1).meters[meter.threshold].full > 0
            assert told(policy, record, end).meters[meter.threshold].empty_at is None
    if found.forgotten_at not in (None, math.inf):
        end = round(found.forgotten_at * 1e6)
        assert (told(policy, record, end - 1).strikes > 0, told(policy, record, end).strikes) == (True, 0)
    if found.wait not in (0.0, math.inf):
        end = now + round(found.wait * 1e6)
        assert told(policy, record, end - 1).state == found.state
        assert told(policy, record, end).state != "banned"
        assert found.state == "banned" or told(policy, record, end).state in ("free", "unknown")


@given(POLICIES, HISTORIES)
def test_an_explanation_can_always_be_put_in_words(policy: Policy, history: list[tuple[int, int]]) -> None:
    lines = sentences(told(policy, *lived(policy, history)))
    assert lines[0].startswith("k under p: ")
    assert sum(line.startswith("  threshold ") for line in lines) == len(policy.thresholds)
