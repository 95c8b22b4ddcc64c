"""What a type checker must make of the public API; checked by mypy, not run."""

from __future__ import annotations

from typing import assert_type

from banhammer import AsyncBanHammer, Ban, BanHammer, Decision, Hit, Policy, Status, Threshold
from banhammer.batch import Decisions
from banhammer.testing import ManualClock

POLICY = Policy("login_failed", [Threshold(10, "1h", ban=["1h", 60, 1.5, "forever"])], track=["1m"])


def sync_verbs() -> None:
    with BanHammer([POLICY], clock=ManualClock(), allow=["10.0.0.0/8"]) as hammer:
        decision = hammer.hit("key", "login_failed", cost=2)
        assert_type(decision, Decision)
        assert_type(decision.allowed, bool)
        assert_type(decision.retry_after, float)
        assert_type(decision.banned_until, float | None)
        assert_type(decision.remaining, int | None)
        assert_type(decision.rates, dict[str, int] | None)
        assert_type(hammer.hit_many([Hit("key", "login_failed", guard=True)], stop=True), Decisions)
        assert_type(hammer.ban("key", "login_failed", duration="2h", reason="by hand"), Ban)
        assert_type(hammer.unban("key", "login_failed"), Ban | None)
        assert_type(hammer.status("key", "login_failed"), Status)
        assert_type(list(hammer.bans()), list[Ban])
        assert_type(hammer.drain(timeout=5), bool)


async def async_verbs() -> None:
    async with AsyncBanHammer([POLICY]) as hammer:
        assert_type(await hammer.hit("key", "login_failed"), Decision)
        assert_type(await hammer.guard("key", "login_failed"), Decision)
        assert_type([ban async for ban in hammer.bans()], list[Ban])
        assert_type([status async for status in hammer.status_all()], list[Status])


def from_config() -> None:
    assert_type(BanHammer.from_config("banhammer.toml"), BanHammer)
    assert_type(AsyncBanHammer.from_config({"policies": {}}, backend="memory://"), AsyncBanHammer)
