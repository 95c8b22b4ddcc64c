"""The original specification's API, as its users know it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from banhammer import ConfigError, UnknownPolicyError
from banhammer.backends.memory import MemoryBackend
from banhammer.classic import BanHammer
from banhammer.testing import ManualClock

START = 1_750_000_000_000_000
Call = tuple[str, float, str, float, int]


class Actions:
    """Two actions that write down what they are called with."""

    def __init__(self) -> None:
        self.local: list[Call] = []
        self.central: list[Call] = []

    def block_local(self, token: str, duration: float, key: str, window: float, limit: int) -> None:
        self.local.append((token, duration, key, window, limit))

    def report_central(self, token: str, duration: float, key: str, window: float, limit: int) -> None:
        self.central.append((token, duration, key, window, limit))


def bans(actions: Actions) -> dict[str, Any]:
    return {
        "login_failed": {
            "thresholds": [
                {"limit": 10, "window": 3600, "action": actions.block_local, "action_duration": 3600},
                {"limit": 100, "window": 3600, "action": actions.report_central, "action_duration": 86400},
            ]
        },
        "sms": {"thresholds": [{"limit": 2, "window": "1m"}]},
    }


def test_incr_passes_until_the_limit_and_each_action_runs_once() -> None:
    actions, clock = Actions(), ManualClock(START)
    with BanHammer(bans(actions), clock=clock) as hammer:
        passed = []
        for _ in range(200):
            passed.append(hammer.incr("1.2.3.4", "login_failed"))
            clock.advance("100ms")
        assert hammer.drain(5)
    assert passed == [True] * 10 + [False] * 190
    assert actions.local == [("1.2.3.4", 3600.0, "login_failed", 3600.0, 10)]
    assert actions.central == [("1.2.3.4", 86400.0, "login_failed", 3600.0, 100)]


def test_incr_returns_the_rates_when_asked_to() -> None:
    clock = ManualClock(START)
    hammer = BanHammer(bans(Actions()), return_rates=True, clock=clock)
    assert hammer.incr("t", "sms") == (
        True, {"token_rate_1m": 1, "token_rate_10m": 1, "token_rate_60m": 1},
    )  # fmt: skip
    hammer.incr("t", "sms")
    clock.advance("5m")
    hammer.incr("t", "sms")
    hammer.incr("t", "sms")
    assert hammer.incr("t", "sms") == (
        False, {"token_rate_1m": 3, "token_rate_10m": 5, "token_rate_60m": 5},
    )  # fmt: skip


def test_now_tells_how_much_of_a_threshold_is_used() -> None:
    clock = ManualClock(START)
    hammer = BanHammer(bans(Actions()), clock=clock)
    assert hammer.now("t", "login_failed") == 0
    for _ in range(4):
        hammer.incr("t", "login_failed")
    assert hammer.now("t", "login_failed") == 4
    assert hammer.now("t", "login_failed", 1) == 4
    assert hammer.now("t", "login_failed", threshold=1) == 4
    clock.advance("6m")
    assert hammer.now("t", "login_failed") == 3
    assert hammer.now("t", "login_failed", 1) == 0


def test_status_status_all_and_reset() -> None:
    hammer = BanHammer(bans(Actions()), clock=ManualClock(START))
    for _ in range(11):
        hammer.incr("bad", "login_failed")
    hammer.incr("good", "sms")
    assert hammer.status("bad", "login_failed").strikes == 1
    assert hammer.status("bad", "login_failed").banned_until == (START + 3_600_000_000) / 1e6
    assert {(each.key, each.policy) for each in hammer.status_all()} == {("bad", "login_failed"), ("good", "sms")}
    hammer.reset("bad", "login_failed")
    assert hammer.status("bad", "login_failed").strikes == 0
    assert hammer.incr("bad", "login_failed") is True
    hammer.close()


def test_a_threshold_without_a_duration_throttles() -> None:
    clock = ManualClock(START)
    hammer = BanHammer(bans(Actions()), clock=clock)
    assert [hammer.incr("t", "sms") for _ in range(3)] == [True, True, False]
    clock.advance("30s")
    assert [hammer.incr("t", "sms") for _ in range(2)] == [True, False]


def test_several_actions_and_a_ban_for_ever() -> None:
    seen: list[Call] = []
    rule = {"limit": 1, "window": 60, "action": [lambda *call: seen.append(call)] * 2, "action_duration": "forever"}
    with BanHammer({"m": {"thresholds": [rule]}}, clock=ManualClock(START)) as hammer:
        assert [hammer.incr("t", "m") for _ in range(3)] == [True, False, False]
        assert hammer.drain(5)
    assert seen == [("t", math.inf, "m", 60.0, 1)] * 2


def test_a_throttles_action_gets_no_duration() -> None:
    seen: list[Call] = []
    rule = {"limit": 1, "window": 60, "action": lambda *call: seen.append(call)}
    with BanHammer({"m": {"thresholds": [rule]}}, clock=ManualClock(START)) as hammer:
        hammer.incr("t", "m")
        hammer.incr("t", "m")
        assert hammer.drain(5)
    assert seen == [("t", 0.0, "m", 60.0, 1)]


def test_a_store_may_be_shared() -> None:
    store, clock = MemoryBackend(), ManualClock(START)
    one, two = (BanHammer(bans(Actions()), backend=store, clock=clock) for _ in range(2))
    assert [one.incr("t", "sms"), two.incr("t", "sms"), one.incr("t", "sms")] == [True, True, False]


def test_an_unknown_metric_is_a_key_error() -> None:
    with pytest.raises(UnknownPolicyError, match="login_failed"):
        BanHammer(bans(Actions())).incr("t", "login_faild")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"window": 60}, r"bans\.m\.thresholds\.0\.limit: it is missing"),
        ({"limit": 5}, r"bans\.m\.thresholds\.0\.window: it is missing"),
        ({"limit": 0, "window": 60}, r"bans\.m\.thresholds\.0\.limit: 0"),
        ({"limit": 5, "window": 60, "action": ["ban"]}, r"bans\.m\.thresholds\.0\.action: 'ban'"),
    ],
)
def test_a_mistake_is_a_config_error_that_names_the_setting(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BanHammer({"m": {"thresholds": [rule]}})
