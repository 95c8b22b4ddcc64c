"""What Redis keeps of a key: to the byte, for how long, and what becomes of what is no record."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from banhammer import AsyncBanHammer, BanHammer, Hit, Policy, Threshold
from banhammer.backends.redis.backend import RedisBackend
from banhammer.testing import ManualClock
from redis_bench import DETAILS, INDEX, Bench, Kept
from redis_walk import DAMAGE
from servers.standalone import Standalone

KEY, NAME = "203.0.113.9", "bh:{0}:p:203.0.113.9"
ALL = [NAME, INDEX, DETAILS]
MINUTE, DAY = 60_000, 86_400_000
"""In milliseconds."""
LEVELS = (Threshold(3, "1h"), Threshold(5, "1h", ban=["1h", "2h"]), Threshold(8, "1h", ban="forever"))


class Shop:
    """One policy on one server, and the server's own view of it."""

    def __init__(self, server: Standalone, *, clock: ManualClock | None, **settings: Any) -> None:
        self.server = server
        self.runner = asyncio.Runner()
        self.backend = RedisBackend(server.url, deadline="10s", denial_cache=False)
        policies = [Policy("p", LEVELS, forgive_after="1d", **settings)]
        self.hammer = BanHammer(policies, backend=self.backend, clock=clock)
        self.twin = AsyncBanHammer(policies, backend=self.backend, clock=clock)
        self.bench = Bench(server.client())

    def kept(self) -> dict[str, Kept]:
        return self.bench.kept(ALL)

    def lives(self) -> float:
        """Return the milliseconds that the record has left, -1 for ever."""
        return float(self.server.ask("PTTL", NAME))

    def put(self, packed: bytes | None) -> None:
        self.server.ask("DEL", NAME)
        self.server.ask(*(("RPUSH", NAME, "x") if packed is None else ("SET", NAME, packed)))

    def close(self) -> None:
        self.hammer.close()
        self.runner.run(self.twin.close())
        self.runner.run(self.backend.aio.close())
        self.runner.close()
        self.bench.client.close()


@pytest.fixture
def shop(standalone: Standalone) -> Iterator[Shop]:
    """At the server's own time."""
    shop = Shop(standalone, clock=None)
    yield shop
    shop.close()


@pytest.fixture
def clocked(standalone: Standalone) -> Iterator[Shop]:
    """At an injected time, a year from the server's."""
    shop = Shop(standalone, clock=ManualClock())
    yield shop
    shop.close()


def test_a_peek_changes_no_byte_and_no_expiry(shop: Shop) -> None:
    """G5: whatever the hit would change: a charge, a flag, a ban, a longer ban, or nothing."""
    for _ in range(12):
        for cost in (1, 4, 9):
            before = shop.kept()
            peeked = shop.hammer.peek(KEY, "p", cost)
            also = shop.runner.run(shop.twin.peek(KEY, "p", cost))
            assert shop.kept() == before
            assert peeked.verdict == also.verdict
        assert shop.hammer.hit(KEY, "p").verdict == shop.hammer.peek(KEY, "p").verdict or peeked.tripped


def test_a_peek_is_what_the_hit_then_is_and_runs_no_action(standalone: Standalone) -> None:
    ran: list[object] = []
    levels = [Threshold(1, "1h", ban="1h", actions=["note"])]
    backend = RedisBackend(standalone.url, deadline="10s")
    with BanHammer([Policy("p", levels)], backend=backend, clock=ManualClock(), actions={"note": ran.append}) as hammer:
        hammer.hit(KEY, "p")
        peeked = hammer.peek(KEY, "p")
        assert hammer.drain(5)
        assert (peeked.verdict, peeked.tripped, ran) == ("banned", (0,), [])
        assert hammer.hit(KEY, "p") == peeked
        assert hammer.drain(5)
        assert len(ran) == 1
    backend.close()


def test_an_allowed_guard_stores_nothing(shop: Shop) -> None:
    assert shop.hammer.guard(KEY, "p")
    assert shop.kept() == dict.fromkeys(ALL, Kept(None, -2))
    shop.hammer.hit(KEY, "p")
    before = shop.kept()
    assert shop.hammer.guard(KEY, "p", 2)
    assert shop.kept() == before


def test_a_record_lives_until_all_has_lapsed_and_a_minute_more(shop: Shop) -> None:
    """One unit of three an hour drains in 20 minutes, a ban of an hour is forgiven a day later."""
    shop.hammer.hit(KEY, "p")
    assert 20 * MINUTE < shop.lives() <= 21 * MINUTE
    shop.hammer.ban(KEY, "p", "1h")
    assert DAY + 60 * MINUTE < shop.lives() <= DAY + 61 * MINUTE
    shop.hammer.unban(KEY, "p")
    assert DAY < shop.lives() <= DAY + MINUTE
    shop.hammer.reset(KEY, "p", strikes=False)
    assert DAY < shop.lives() <= DAY + MINUTE


def test_with_an_injected_clock_a_record_lives_a_day_longer_on_the_real_clock(clocked: Shop) -> None:
    clocked.hammer.hit(KEY, "p")
    assert DAY + 20 * MINUTE < clocked.lives() <= DAY + 21 * MINUTE
    clocked.hammer.ban(KEY, "p", "1h")
    assert 2 * DAY + 60 * MINUTE < clocked.lives() <= 2 * DAY + 61 * MINUTE


@pytest.mark.parametrize("by_hand", [False, True], ids=["hit", "hand"])
def test_a_ban_forever_has_no_expiry(shop: Shop, by_hand: bool) -> None:
    if by_hand:
        shop.hammer.ban(KEY, "p", "forever")
    else:
        shop.hammer.hit(KEY, "p", 9)
    assert shop.lives() == -1
    shop.hammer.unban(KEY, "p")
    assert DAY < shop.lives() <= DAY + MINUTE


def test_a_record_that_was_reset_is_gone(shop: Shop) -> None:
    shop.hammer.hit(KEY, "p", 9)
    shop.hammer.reset(KEY, "p")
    assert shop.kept() == dict.fromkeys(ALL, Kept(None, -2))


@pytest.mark.parametrize("packed", DAMAGE, ids=range(len(DAMAGE)))
def test_what_is_no_record_reads_as_absent_and_the_next_hit_heals_it(clocked: Shop, packed: bytes | None) -> None:
    """G21: each reading counts it, no other hit of the batch notices, and a guard leaves it as it is."""
    fresh, also = clocked.hammer.hit_many([Hit("fresh", "p"), Hit("other", "p")])
    clocked.put(packed)
    before = clocked.kept()
    assert clocked.hammer.guard(KEY, "p")
    assert clocked.hammer.peek(KEY, "p").remaining == 2
    assert clocked.hammer.status(KEY, "p").remaining == (3, 5, 8)
    assert {status.key for status in clocked.hammer.status_all()} == {"fresh", "other"}
    assert list(clocked.hammer.bans()) == []
    assert clocked.hammer.unban(KEY, "p") is None
    assert clocked.backend.damaged == 5
    assert clocked.kept() == before
    batch = clocked.hammer.hit_many([Hit("good", "p"), Hit(KEY, "p"), Hit("better", "p"), Hit(KEY, "p")])
    assert clocked.backend.damaged == 6
    assert [each.remaining for each in batch if each is not None] == [2, 2, 2, 1]
    assert not any(each.degraded for each in batch if each is not None)
    assert fresh is not None
    assert also is not None
    assert clocked.hammer.status(KEY, "p").remaining == (1, 3, 6)
    assert clocked.backend.damaged == 6


@pytest.mark.parametrize("packed", DAMAGE, ids=range(len(DAMAGE)))
def test_a_ban_by_hand_heals_what_is_no_record(clocked: Shop, packed: bytes | None) -> None:
    clocked.put(packed)
    assert clocked.hammer.ban(KEY, "p").strikes == 1
    assert [ban.key for ban in clocked.hammer.bans()] == [KEY]
    assert clocked.hammer.hit(KEY, "p").verdict == "banned"
    assert clocked.backend.damaged == 1


@pytest.mark.parametrize("packed", DAMAGE, ids=range(len(DAMAGE)))
def test_a_banned_key_whose_record_was_damaged_is_no_longer_banned(clocked: Shop, packed: bytes | None) -> None:
    """The index still names it, and tells nothing of a ban that is not in force."""
    clocked.hammer.hit(KEY, "p", 9)
    clocked.put(packed)
    assert list(clocked.hammer.bans()) == []
    assert clocked.hammer.hit(KEY, "p").verdict == "allowed"
    assert list(clocked.hammer.bans()) == []


def test_a_ban_whose_details_were_damaged_is_listed_without_them(shop: Shop) -> None:
    told = shop.hammer.ban(KEY, "p", "1h", reason="why")
    shop.server.ask("HSET", DETAILS, f"p:{KEY}", b"\xff|manual|x|y")
    (ban,) = shop.hammer.bans()
    assert (ban.key, ban.until, ban.origin, ban.id, ban.reason) == (KEY, told.until, "hit", "", "")


@pytest.mark.parametrize(
    "name",
    [b"bh:{0}:p:%FF", b"bh:{0}:p:a b", b"bh:{0}:p:\xff", b"bh:{0}:p:", b"bh:{0}:p:%61", b"bh:{0}:q:a", b"bh:{9}:p:a"],
)
def test_a_name_that_no_key_is_spelled_by_is_not_listed(shop: Shop, name: bytes) -> None:
    """An application's own, or another version's: it is left alone."""
    shop.hammer.hit(KEY, "p")
    shop.server.ask("COPY", NAME, name)
    assert [status.key for status in shop.hammer.status_all()] == [KEY]
    assert shop.server.ask("EXISTS", name) == 1
